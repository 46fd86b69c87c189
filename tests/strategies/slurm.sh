#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# slurm.sh WORKER: a Slurm of one machine, made for this test: srun starts the processes of a job; a job that is told by
# SIGUSR1 that its time is up saves, ends with 75, is put into the queue again and goes on; so is one whose process died.
set -u
worker=$1
for tool in slurmctld slurmd munged sbatch; do
    command -v $tool >/dev/null || { echo "skipped: there is no $tool (Debian: slurm-wlm)"; exit 77; }
done
test "$(id -u)" = 0 || { echo "skipped: slurmd needs root"; exit 77; }

root=$(mktemp -d)
cleanup() {
    for daemon in slurmd slurmctld munged; do test -s "$root/$daemon.pid" && kill "$(cat "$root/$daemon.pid")"; done
    sleep 1
    rm -rf "$root"
} 2>/dev/null
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
chmod 755 "$root"
mkdir "$root/state" "$root/spool" "$root/run"

dd if=/dev/urandom of="$root/key" bs=128 count=1 2>/dev/null
chmod 400 "$root/key"
munged --force --key-file="$root/key" --socket="$root/munge" --pid-file="$root/munged.pid" --log-file="$root/munged.log" \
    --seed-file="$root/seed" >/dev/null 2>&1 || { echo "skipped: munged does not start"; exit 77; }
host=$(hostname -s)
port=$((20000 + $$ % 10000))
export SLURM_CONF=$root/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=light
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 10000))
AuthType=auth/munge
AuthInfo=socket=$root/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
SlurmctldLogFile=$root/slurmctld.log
SlurmdLogFile=$root/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
RequeueExit=75,76
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld && slurmd || { echo "skipped: Slurm's daemons do not start here"; exit 77; }
i=0
while ! sinfo -h -t idle 2>/dev/null | grep -q "$host"; do
    i=$((i + 1))
    test $i -lt 100 || { echo "skipped: Slurm's node does not come up here"; exit 77; }
    sleep 0.1
done
mpi=$(srun --mpi=list 2>&1 | grep -ow pmix | head -1)
test -n "$mpi" || { echo "skipped: this Slurm has no plug-in for PMIx"; exit 77; }

failed=0
# check NAME PATTERN FILE
check() {
    grep -q "$2" "$3" && return
    echo "$1: '$2' was expected:"
    cat "$3"
    failed=1
}

timeout 60 srun --mpi=pmix -n 2 "$worker" "$root/run" --steps 20 >"$root/out" 2>&1 || { cat "$root/out"; exit 1; }
check "srun" "done: step 20, attempt 0" "$root/out"

# await FILE PATTERN
await() {
    i=0
    while ! grep -q "$2" "$1" 2>/dev/null && [ $i -lt 300 ]; do
        sleep 0.1
        i=$((i + 1))
    done
}

# submit NAME ARGUMENTS: a batch script that passes the signal of the scheduler on to the job.
submit() {
    name=$1
    shift
    cat >"$root/$name.sh" <<BATCH
#!/bin/bash
trap 'kill -USR1 \$job' USR1
srun --mpi=pmix --kill-on-bad-exit=1 $worker $root/run $* &
job=\$!
wait \$job
code=\$?
while kill -0 \$job 2>/dev/null; do wait \$job; code=\$?; done
case \$code in 0 | 1 | 2 | 75) exit \$code ;; esac
exit 76
BATCH
    rm -f "$root/run/step" "$root/run/LOCK"
    sbatch -Q --requeue --open-mode=append -n 2 -J "$name" --signal=B:USR1@10 -o "$root/$name.out" "$root/$name.sh" \
        >/dev/null || failed=1
}

# A job in the queue again waits for two minutes, unless it is told to begin; not at once, for slurmd may still be busy
# with the end of its first run.
begin_again() {
    i=0
    while ! squeue -h -n "$1" -o %r | grep -q BeginTime && [ $i -lt 100 ]; do
        sleep 0.2
        i=$((i + 1))
    done
    sleep 3
    id=$(squeue -h -n "$1" -o %i)
    test -n "$id" && scontrol update JobId="$id" StartTime=now
}

submit stopped --steps 400 --pause 10
await "$root/run/step" .
scancel --signal=USR1 --batch -n stopped
await "$root/stopped.out" "stopped at step"
begin_again stopped
await "$root/stopped.out" "done: step 400"
check "a stopped job" "stopped at step" "$root/stopped.out"
check "a stopped job" "done: step 400, attempt 1" "$root/stopped.out"

submit died --steps 400 --pause 10 --fault 1 50 die
await "$root/died.out" "has died"
check "a job that has died" "rank 1 (.*) has died" "$root/died.out"
begin_again died
await "$root/died.out" "done: step 400"
check "a job that has died" "done: step 400, attempt 1" "$root/died.out"
test $failed = 0 || tail -n 5 "$root/slurmctld.log"
exit $failed
