#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts.sh WORKER [TRIALS]: jobs of four processes on two hosts, which are network namespaces with addresses and host names
# of their own, by a real mpirun: a process dies, is stopped, hangs; the link between the hosts is cut, or loses packets.
# The right process must be named, in one line, and all processes must be gone in time. With TRIALS, so many of each, and
# a table of how long it took.
set -u
worker=$1
trials=${2-1}
timeout=3  # seconds, of collectives
id=lt$$

skip() { echo "skipped: $1"; exit 77; }
command -v mpirun >/dev/null || skip "there is no mpirun (Debian: openmpi-bin)"
command -v ip >/dev/null || skip "there is no ip (Debian: iproute2)"
ip netns add ${id}a 2>/dev/null || skip "network namespaces are not permitted here"

root=$(mktemp -d)
net=10.77.$(($$ % 250)).
cleanup() {
    for host in ${id}a ${id}b; do ip netns pids $host 2>/dev/null | xargs -r kill -9; done
    ip netns del ${id}a
    ip netns del ${id}b
    ip link del ${id}br
    rm -rf "$root"
} 2>/dev/null
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# Two hosts at one bridge, where mpirun is.
ip netns add ${id}b
ip link add ${id}br type bridge || skip "bridges are not permitted here"
ip addr add ${net}254/24 dev ${id}br
ip link set ${id}br up
add_host() {
    ip link add $1 type veth peer name eth0 netns $1
    ip link set $1 master ${id}br up
    ip -n $1 addr add $net$2/24 dev eth0
    ip -n $1 link set eth0 up
    ip -n $1 link set lo up
}
add_host ${id}a 1
add_host ${id}b 2

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

# The keepalives let mpirun give up a host that is cut off, after the control channel has said so.
start() {
    rm -rf "$root/run"
    mkdir "$root/run"
    timeout -k 5 60 mpirun --quiet --oversubscribe --bind-to none -np 4 --host ${id}a:2,${id}b:2 --mca plm_rsh_agent "$root/agent" \
        --mca btl_tcp_if_include ${net}0/24 --mca oob_tcp_if_include ${net}0/24 --mca btl tcp,self,vader --mca pml ob1 \
        --mca oob_tcp_keepalive_time 7 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 \
        -x LIGHT_PLUGIN_PATH "$worker" "$root/run" --timeout $timeout --pause 20 "$@" >"$root/out" 2>"$root/err" &
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

cut_link() {
    start --steps 100000 --timeout 60
    while ! test -s "$root/run/step"; do sleep 0.05; done
    sleep 0.5
    from=$(now)
    ip link set ${id}b down
    wait_until_gone
    gone=$(now)
    wait $job
    ended=$(seconds "$from" "$(now)")
    ip link set ${id}b up
    sleep 1 # until it carries again
    echo "cut: mpirun has returned after $ended s"
    judge cut 15 "$from" "rank [23] (${id}b, pid [0-9]*) is cut off"
}

lose_packets() {
    command -v tc >/dev/null && tc qdisc add dev ${id}b root netem loss 5% 2>/dev/null ||
        { echo "no netem here: jobs on a link that loses packets were left out"; return; }
    from=$(now)
    start --steps 100 --timeout 20
    wait $job
    code=$?
    gone=$(now)
    tc qdisc del dev ${id}b root
    right=0
    test $code = 0 && grep -q "done: step 100" "$root/out" && ! grep -q error "$root/err" && right=1
    echo "loss $(seconds "$from" "$gone") $right 60" >>"$root/results"
    test $right = 1 || { echo "loss of 5 %: exit code $code"; cat "$root/out" "$root/err"; }
}

name() { test "$1" -lt 2 && echo "rank $1 (${id}a, pid [0-9]*)" || echo "rank $1 (${id}b, pid [0-9]*)"; }

i=0
while [ $i -lt "$trials" ]; do
    rank=$(((3 + i) % 4))
    fault die $rank 5 "$(name $rank) has died"
    fault stop $rank $((timeout + 5)) "$(name $rank) never entered all_reduce"
    fault hang $rank $((timeout + 5)) "$(name $rank) never entered all_reduce"
    cut_link
    lose_packets
    i=$((i + 1))
done

awk '
    { n[$1]++; right[$1] += $3; limit[$1] = $4; if ($2 > most[$1]) most[$1] = $2; sum[$1] += $2; late[$1] += $2 > $4 }
    END {
        printf "%-6s %7s %12s %8s %8s %8s\n", "fault", "trials", "right", "mean s", "most s", "limit s"
        for (k in n) {
            printf "%-6s %7d %12d %8.1f %8.1f %8d\n", k, n[k], right[k], sum[k] / n[k], most[k], limit[k]
            if (right[k] < n[k] || late[k]) bad = 1
        }
        exit bad
    }' "$root/results"
