#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# processes.sh BUILD LOGS: the communicators of one and of two processes on the device, by NCCL and through the host. Two
# processes share a GPU where there is one only. NCCL wants a GPU for each process of a host; so each says that it is on a
# host of its own, and from 2.30 on that it knows. Tells what passed; fails when anything else did.
set -u
build=$1 logs=$2
mkdir -p "$logs" && rm -f "$logs"/*.log
export LD_LIBRARY_PATH="$build:$build/libs:$build/libs/cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LIGHT_PLUGIN_PATH="$build" CMOCKA_TEST_ABORT=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_plm=isolated
# MPI unloads its modules with what they hold, which LeakSanitizer cannot name then.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
GPUS=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
PROGRAM=$build/tests/test_strategies_communicator
export GPUS PROGRAM
said= failed=0

# try NAME PROCESSES SETTING...: one run of the test program.
try() {
    name=$1 processes=$2
    shift 2
    # shellcheck disable=SC2016
    timeout --foreground -k 5 60 env "$@" mpirun -np "$processes" sh -c '
        rank=$OMPI_COMM_WORLD_RANK
        LIGHT_TEST_DEVICE=cuda
        [ "$GPUS" -lt 2 ] || LIGHT_TEST_DEVICE=cuda:$((rank % GPUS))
        export LIGHT_TEST_DEVICE
        [ "$GPUS" -ge 2 ] || export NCCL_HOSTID=host$rank NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_NET=Socket \
            NCCL_SOCKET_IFNAME=lo NCCL_MAX_CTAS=1
        exec "$PROGRAM"' >"$logs/$name.log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then
        said="$said $name passed;"
    else
        failed=1
        said="$said $name FAILED (exit status $code: $(grep -aE 'ERROR|NCCL' "$logs/$name.log" | head -n 1));"
    fi
}

try alone 1
try nccl 2 NCCL_DEBUG=WARN
try staged 2 LIGHT_NCCL=0
echo "${said# }"
exit $failed
