#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts.sh FOLDER [TRIALS [KINDS]]: jobs of four processes on two hosts, which are network namespaces with addresses and
# host names of their own, by a real mpirun. FOLDER is the build folder. Kinds of trials:
#
#   die stop hang   what happens to a process: it must be named, in one line
#   cut silence     the link between the hosts goes down, loses all packets: a process beyond it must be named
#   sums train      the link loses 5 % of the packets, and 5 % come late: large sums must be right, and the weights of a
#                   training the same bits as without loss; nothing may be taken for a failure
#
# All processes must be gone in time. With TRIALS so many of each, and a table of how long it took.
set -u
build=$(cd "$1" && pwd)
worker=$build/tests/strategies/worker
trials=${2-1}
kinds=${3-die stop hang cut sums train silence}
timeout=3  # seconds, of collectives
id=lt$$

skip() { echo "skipped: $1"; exit 77; }
command -v mpirun >/dev/null || skip "there is no mpirun (Debian: openmpi-bin)"
command -v ip >/dev/null || skip "there is no ip (Debian: iproute2)"
ip netns add ${id}a 2>/dev/null || skip "network namespaces are not permitted here"

root=$(mktemp -d)
net=10.77.$(($$ % 250)).
cable=
cleanup() {
    kill $cable
    for host in ${id}a ${id}b ${id}c; do
        ip netns pids $host | xargs -r kill -9
        ip netns del $host
    done
    ip link del ${id}br
    rm -rf "$root"
} 2>/dev/null
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# Two hosts at one bridge, where mpirun is.
ip link add ${id}br type bridge || skip "bridges are not permitted here"
ip addr add ${net}254/24 dev ${id}br
ip link set ${id}br up
plug_in() { # HOST NUMBER: the host's link is HOST on this side, eth0 on its own
    ip link set $1 master ${id}br up
    ip -n $1 addr add $net$2/24 dev eth0
    ip -n $1 link set eth0 up
    ip -n $1 link set lo up
}
add_host() {
    ip link add $1 type veth peer name eth0 netns $1
    plug_in "$@"
}
ip netns add ${id}b
add_host ${id}a 1
add_host ${id}b 2

# A third host behind a link that loses packets, in the second one's place: set_loss tells it how many percent, and how many
# are late.
add_lossy_host() {
    mkfifo "$root/loss"
    "$build/tests/strategies/lossy_link" ${id}c ${id}t 1 <"$root/loss" >"$root/passed" 2>"$root/cable" &
    cable=$!
    exec 3>"$root/loss"
    until ip link show ${id}t >/dev/null 2>&1; do
        kill -0 $cable 2>/dev/null || { cat "$root/cable"; return 1; }
        sleep 0.05
    done
    ip netns add ${id}c
    ip link set ${id}t netns ${id}c name eth0
    plug_in ${id}c 3
}
set_loss() { echo "$1 $2" >&3; }
case " $kinds " in *" sums "* | *" train "* | *" silence "*) add_lossy_host || skip "TAP devices are not permitted here" ;; esac

# What mpirun uses in place of ssh.
cat >"$root/agent" <<'AGENT'
#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1
shift
exec ip netns exec "$host" unshare --uts bash -c "hostname $host; exec /bin/sh -c '$*'"
AGENT
chmod +x "$root/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# The keepalives let mpirun give up a host that is cut off, after the control channel has said so. On a link that loses
# packets three may be lost by chance.
export LIGHT_PLUGIN_PATH=${LIGHT_PLUGIN_PATH-$build}
on_hosts() {
    probes=3
    test $far = ${id}c && probes=6
    timeout -k 5 90 mpirun --quiet --oversubscribe --bind-to none -np 4 --host ${id}a:2,$far:2 --mca plm_rsh_agent "$root/agent" \
        --mca btl_tcp_if_include ${net}0/24 --mca oob_tcp_if_include ${net}0/24 --mca btl tcp,self,vader --mca pml ob1 \
        --mca oob_tcp_keepalive_time 7 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes $probes \
        -x LIGHT_PLUGIN_PATH "$@" >"$root/out" 2>"$root/err"
}
start() {
    rm -rf "$root/run"
    mkdir "$root/run"
    on_hosts "$worker" "$root/run" --timeout $timeout --pause 20 "$@" &
    job=$!
}

now() { cut -d' ' -f1 /proc/uptime; }
seconds() { awk "BEGIN { printf \"%.1f\", $2 - $1 }"; }
wait_until_gone() { while pgrep -f "^$worker $root/run" >/dev/null; do sleep 0.05; done; }
fault_time() { sed -n 's/^fault: .* at //p' "$root/err"; }

# judge KIND LIMIT FROM PATTERN: one line, which names the right process; all gone within the limit.
judge() {
    took=$(seconds "$3" "$gone")
    lines=$(grep -c "error: " "$root/err")
    right=0
    test "$lines" = 1 && grep -q "error: \(\[rank [0-9]\] \)\?$4" "$root/err" && right=1
    echo "$1 $took $right $2" >>"$root/results"
    test $right = 1 || { echo "$1: 'error: $4' was expected:"; cat "$root/err"; }
}

fault() { # KIND RANK LIMIT PATTERN
    start --steps 100000 --fault "$2" 30 "$1"
    while test -z "$(fault_time)" && kill -0 $job 2>/dev/null; do sleep 0.02; done
    wait_until_gone
    gone=$(now)
    wait $job
    from=$(fault_time)
    judge "$1" "$3" "${from:-$gone}" "$4"
}

cut_off() { # KIND CUT MEND: the last two are commands
    start --steps 100000 --timeout 60
    while ! test -s "$root/run/step"; do sleep 0.05; done
    sleep 0.5
    from=$(now)
    $2
    wait_until_gone
    gone=$(now)
    wait $job
    ended=$(seconds "$from" "$(now)")
    $3
    sleep 1 # until it carries again
    echo "$1: mpirun has returned after $ended s"
    judge "$1" 15 "$from" "rank [23] ($far, pid [0-9]*) is cut off"
}

# judge_lossy KIND LIMIT FROM RIGHT: a job on the lossy link has ended, and packets were lost meanwhile.
judge_lossy() {
    took=$(seconds "$3" "$(now)")
    set_loss 5 5
    sleep 0.1 # until it has answered
    passed=$(tail -n 1 "$root/passed")
    echo "$1: $passed"
    right=$4
    grep -E 'error|warning' "$root/out" "$root/err" && right=0
    echo "$passed" | awk '{ exit !($3 > 0.02 * $1 && $3 < 0.1 * $1 && $5 > 0) }' || right=0
    echo "$1 $took $right $2" >>"$root/results"
    test "$right" = 1 || { echo "$1 with 5 % of the packets lost:"; cat "$root/out" "$root/err"; }
}

sum_over_lossy_link() {
    set_loss 5 5
    from=$(now)
    right=0
    start --steps 15 --timeout 20
    wait $job && grep -q "done: step 15" "$root/out" && right=1
    judge_lossy sums 60 "$from" $right
}

# train NAME STRATEGY: the same bits whatever the strategy.
train() {
    (cd "$root" && on_hosts "$build/tests/strategies/network" fit --trainer.name "$1" --trainer.strategy "$2" \
        --trainer.max_steps 100 --trainer.deterministic elastic --trainer.accumulate_grad_batches 8 \
        --trainer.shard_unit_mb 0.008 --trainer.collective_timeout 20 --trainer.enable_progress_bar false \
        --trainer.enable_model_summary false --trainer.enable_learning_curve false)
}
train_over_lossy_link() { # STRATEGY
    last=version_0/checkpoints/last
    test -e "$root/runs/whole" || (far=${id}b; train whole ddp) || cat "$root/out" "$root/err"
    rm -rf "$root/runs/lossy"
    set_loss 5 5
    from=$(now)
    right=1
    train lossy "$1" || right=0
    "$build/light-checkpoint" diff "$root/runs/whole/$last" "$root/runs/lossy/$last" >"$root/diff" ||
        { right=0; grep -v 'equal$' "$root/diff" | head -n 5; }
    judge_lossy train 60 "$from" $right
}

name() { test "$1" -lt 2 && echo "rank $1 (${id}a, pid [0-9]*)" || echo "rank $1 (${id}b, pid [0-9]*)"; }

try() { # KIND TRIAL
    rank=$(((3 + $2) % 4))
    far=${id}b
    case $1 in sums | train | silence) far=${id}c ;; esac
    case $1 in
        die) fault die $rank 5 "$(name $rank) has died" ;;
        stop | hang) fault "$1" $rank $((timeout + 5)) "$(name $rank) never entered all_reduce" ;;
        cut) cut_off cut "ip link set ${id}b down" "ip link set ${id}b up" ;;
        silence) set_loss 5 5; cut_off silence "set_loss 100 0" "set_loss 0 0" ;;
        sums) sum_over_lossy_link ;;
        train) set -- ddp zero1 zero2 zero3; shift $((i % 4)); train_over_lossy_link "$1" ;;
        *) echo "there is no kind '$1'"; exit 2 ;;
    esac
}

i=0
while [ $i -lt "$trials" ]; do
    for kind in $kinds; do try "$kind" $i; done
    i=$((i + 1))
done

awk '
    { n[$1]++; right[$1] += $3; limit[$1] = $4; if ($2 > most[$1]) most[$1] = $2; sum[$1] += $2; late[$1] += $2 > $4 }
    END {
        printf "%-8s %7s %12s %8s %8s %8s\n", "fault", "trials", "right", "mean s", "most s", "limit s"
        for (k in n) {
            printf "%-8s %7d %12d %8.1f %8.1f %8d\n", k, n[k], right[k], sum[k] / n[k], most[k], limit[k]
            if (right[k] < n[k] || late[k]) bad = 1
        }
        exit bad
    }' "$root/results"
