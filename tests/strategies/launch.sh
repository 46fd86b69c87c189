#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# launch.sh WORKER: a program that starts itself under mpirun: exit codes, signals, restarts, and nothing left behind.
set -u
worker=$1
command -v mpirun >/dev/null || { echo "skipped: there is no mpirun (Debian: openmpi-bin)"; exit 77; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failed=0

complain() {
    echo "$test: $1"
    cat "$root/out" "$root/err"
    failed=1
}

# begin NAME: a new folder for the test's files.
begin() {
    test=$1
    rm -rf "$root/run"
    mkdir "$root/run"
}

# expect "CODE..": runs the worker, in two processes, with the other arguments; it ends with one of the codes.
expect() {
    codes=$1
    shift
    "$worker" "$root/run" --devices 2 "$@" >"$root/out" 2>"$root/err"
    got=$?
    case " $codes " in *" $got "*) ;; *) complain "exit code $got, not $codes" ;; esac
}

says() { grep -q "$1" "$root/out" "$root/err" || complain "it does not say '$1'"; }
says_once() { test "$(cat "$root/out" "$root/err" | grep -c "$1")" = 1 || complain "it does not say '$1' once"; }
says_not() { ! grep -q "$1" "$root/out" "$root/err" || complain "it says '$1'"; }
# Nobody is left who has the folder on its command line.
none_left() { ! pgrep -f "$root/run" >/dev/null || complain "left over: $(pgrep -af "$root/run")"; }

begin "two processes"
expect 0 --steps 20
says_once "done: step 20, attempt 0"

begin "a process dies"
expect "137 76" --steps 50 --fault 1 12 die # by whose end mpirun hears of first: the killed one's or another's
says_once "error: rank 1 (.*, pid [0-9]*) has died"
says_not "done"
none_left

begin "a process dies, and the job is started again"
expect 0 --steps 50 --fault 1 12 die --max_restarts 1
says_once "restart 1 of 1, from its last checkpoint"
says_once "done: step 50, attempt 1"
none_left

begin "a process hangs, again and again"
expect 76 --steps 50 --fault 1 12 stop --attempts 9 --max_restarts 1 --timeout 1
says "restart 1 of 1"
test "$(grep -c "error: rank 1 (.*) never entered all_reduce #.* (gradients, 256.0 KiB)" "$root/err")" = 2 ||
    complain "it was not named twice"
none_left

begin "a failure is told once, and is no reason to start again"
expect 1 --steps 50 --fault 1 12 fail --max_restarts 3
says_once "error: rank 1 (.*, pid [0-9]*): cannot read data.bin: it is not there"
says_not "restart"
none_left

begin "one makes another call, of as many bytes"
expect 1 --steps 50 --fault 1 12 astray --max_restarts 3
says_once "error: .*rank 1 is in all_reduce #15 (values, 256.0 KiB), where rank 0 is in all_reduce #15 (gradients, 256.0 KiB)"
says_not "restart"
says_not "done"
none_left

# stop SIGNAL CODE: the worker is asked to stop in the middle; it saves, and a second run goes on from there.
stop() {
    begin "stop by $1"
    LIGHT_JOB=$1 "$worker" "$root/run" --devices 2 --steps 1000 --pause 10 --max_restarts 3 >"$root/out" 2>"$root/err" &
    job=$!
    while ! test -s "$root/run/step"; do sleep 0.05; done
    kill -s "$1" $job
    wait $job
    got=$?
    test $got = "$2" || complain "exit code $got, not $2"
    says_once "stopped at step"
    says_not "restart"
    none_left
    at=$(cat "$root/run/step")
    LIGHT_JOB=$1 LIGHT_ATTEMPT=1 expect 0 --steps $((at + 5))
    says_once "done: step $((at + 5)), attempt 1"
}
stop TERM 75
stop USR1 75

begin "no mpirun"
mkdir "$root/empty"
(PATH=$root/empty "$worker" "$root/run" --devices 2) >"$root/out" 2>"$root/err"
test $? = 2 || complain "another exit code than 2"
says_once "error: trainer.devices 2 needs mpirun, which is not in PATH"

begin "the launcher is killed"
"$worker" "$root/run" --devices 2 --steps 1000 --pause 10 >"$root/out" 2>"$root/err" &
job=$!
while ! test -s "$root/run/step"; do sleep 0.05; done
kill -9 $job
wait $job 2>/dev/null
for i in 1 2 3 4 5 6; do pgrep -f "$root/run" >/dev/null && sleep 1; done
none_left
exit $failed
