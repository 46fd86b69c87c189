#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that a machine with an NVIDIA GPU can say about the CUDA backend, in at most 13 minutes: the CUDA tests,
# compute-sanitizer on the kernels, parity with PyTorch, the examples beside their runs on the CPU, the benchmarks. It
# never stops at the first failure. Needs the driver and python3; with PyTorch (--python, build/bench-venv's or python3's) there
# is parity and something to compare with.
#
#   sh tests/gpu/verify.sh                    from a source tree; builds into ./build first
#   sh tests/gpu/verify.sh --build DIR        with a build made elsewhere (tests/gpu/carry.sh packs one)
#   --out DIR       where gpu-verify.json, gpu-verify.txt and the logs go (BUILD/gpu-verify)
#   --python PATH   the interpreter with PyTorch
#   --smoke         tries this script in small; also on the simulated device. No figures.
#
# The seconds that each step may take; a step that needs more is stopped and counts as failed. Building comes on top.
limit_device=10
limit_tests=90
limit_memcheck=50
limit_racecheck=40
limit_own=60
limit_parity=60
limit_parity_own=30
limit_examples=40
limit_nccl=150
limit_benchmarks=190 # of which its processes have 180
set -u

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
build= out= python= smoke=
usage() { sed -n '3,14s/^# \{0,1\}//p' "$0"; exit "$1"; }
while [ $# -gt 0 ]; do
    case $1 in
    --build | --out | --python)
        [ $# -gt 1 ] || { echo "verify.sh: $1 needs a value" >&2; exit 2; }
        case $1 in --build) build=$2 ;; --out) out=$2 ;; --python) python=$2 ;; esac
        shift
        ;;
    --smoke) smoke=--smoke ;;
    --help | -h) usage 0 ;;
    *) echo "verify.sh: unknown option '$1'; known: --build --out --python --smoke --help" >&2; exit 2 ;;
    esac
    shift
done

simulated=false
[ "${LIGHT_CUDA:-}" != simulated ] || simulated=true
if $simulated && [ -z "$smoke" ]; then
    echo "verify.sh: the simulated device says nothing about a GPU; --smoke tries this script on it" >&2
    exit 2
fi

if [ -z "$build" ]; then
    build=$root/build
    echo "building into $build"
    { cmake -S "$root" -B "$build" -DLIGHT_BUILD_BENCH=ON && cmake --build "$build" -j "$(nproc)"; } >/dev/null ||
        { echo "verify.sh: the build failed" >&2; exit 1; }
fi
build=$(CDPATH= cd -- "$build" && pwd) || exit 2
out=${out:-$build/gpu-verify}
mkdir -p "$out" || exit 2
out=$(CDPATH= cd -- "$out" && pwd)
rm -f "$out"/*.log "$out"/*.json "$out"/*.txt
has_torch() { "$1" -c 'import torch' >/dev/null 2>&1; }
if [ -n "$python" ]; then
    has_torch "$python" || { echo "verify.sh: $python has no PyTorch" >&2; python=; }
elif has_torch "$build/bench-venv/bin/python"; then
    python=$build/bench-venv/bin/python
elif has_torch python3; then
    python=$(command -v python3)
fi

export LIGHT_PLUGIN_PATH="$build"

# Where CUDA's libraries are not installed, those that came with PyTorch will do. All programs look in libs/cuda.
mkdir -p "$build/libs/cuda"
packages=$("${python:-python3}" -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
for name in libcublas libcudnn libnvrtc libnccl; do # NVRTC compiles cuDNN's batch norm and attention
    if [ -n "$packages" ] && ! ldconfig -p | grep -q "$name.*\.so"; then
        find "$packages" -name "$name*.so*" -exec ln -sf {} "$build/libs/cuda/" \;
    fi
done
# A carried Open MPI.
if [ -d "$build/libs/mpi" ] && ! command -v mpirun >/dev/null; then
    mpi=$build/libs/mpi
    export PATH="$mpi/bin:$PATH" OPAL_PREFIX="$mpi" OPAL_BINDIR="$mpi/bin" OPAL_PKGLIBDIR="$mpi/modules" \
        OPAL_PKGDATADIR="$mpi/share" OPAL_SYSCONFDIR="$mpi/etc"
fi

# ---- steps: one line each in steps.txt: name, result, seconds, why ------------

note() # NAME RESULT SECONDS WHY
{
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$out/steps.txt"
    printf '%-12s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
}

step() # NAME LIMIT COMMAND...: a log of its own; the last line of it tells why
{
    name=$1 limit=$2 begin=$(date +%s)
    shift 2
    printf '%s ... (at most %s s)\n' "$name" "$limit"
    timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    why=$(tail -n 1 "$out/$name.log" | tr '\t' ' ' | cut -c 1-200)
    case $code in
    0) note "$name" passed $(($(date +%s) - begin)) "$why" ;;
    124 | 137) note "$name" failed $(($(date +%s) - begin)) "stopped after $limit s; last: $why" ;;
    *) note "$name" failed $(($(date +%s) - begin)) "exit status $code: $why" ;;
    esac
}

skip() # NAME WHY
{
    note "$1" skipped 0 "$2"
}

check() # NAME LIMIT TESTS...: compute-sanitizer on test programs
{
    tool=$1 limit=$2
    shift 2
    if $simulated; then
        skip "$tool" "not on the simulated device"
    elif command -v compute-sanitizer >/dev/null; then
        step "$tool" "$limit" sh "$here/programs.sh" "$build" "$out/$tool" \
            "compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5" "$@"
    else
        skip "$tool" "compute-sanitizer is not installed (it comes with the CUDA toolkit)"
    fi
}

if command -v nvidia-smi >/dev/null; then
    step device $limit_device nvidia-smi
else
    skip device "no nvidia-smi"
fi
if [ -n "$smoke" ]; then
    step tests $limit_tests sh "$here/programs.sh" "$build" "$out/tests" "" test_ops_shape
elif [ -s "$build/tests/on_cuda.txt" ]; then
    # shellcheck disable=SC2046
    step tests $limit_tests sh "$here/programs.sh" "$build" "$out/tests" "" $(cat "$build/tests/on_cuda.txt")
else
    note tests failed 0 "there is no $build/tests/on_cuda.txt: not a build with tests"
fi
# What cuDNN does where it is there, by our own kernels.
own="test_ops_conv test_ops_norm test_ops_attention"
if [ -n "$smoke" ]; then
    skip tests_own "not in small: the simulated device has no cuDNN"
else
    # shellcheck disable=SC2086
    step tests_own $limit_own env LIGHT_CUDNN=0 sh "$here/programs.sh" "$build" "$out/tests_own" "" $own
fi
check memcheck $limit_memcheck test_ops_norm test_ops_matmul test_ops_attention test_ops_loss test_ops_reduce cuda/test_cuda_graphs
check racecheck $limit_racecheck test_ops_norm test_ops_matmul test_ops_attention test_ops_reduce

if [ -z "$python" ]; then
    skip parity "no python with PyTorch (--python, or bench/setup_peers.sh)"
elif [ -n "$smoke" ]; then
    step parity $limit_parity "$python" "$here/parity.py" --build "$build" --json "$out/parity.json" --ops add,softmax \
        --dtypes f32 --steps 3
else
    step parity $limit_parity "$python" "$here/parity.py" --build "$build" --json "$out/parity.json"
    step parity_cudnn $limit_parity_own env LIGHT_CUDNN=conv,norm,attention,attention_backward LIGHT_LOG=debug \
        "$python" "$here/parity.py" --build "$build" --json "$out/parity_cudnn.json" \
        --ops conv2d,batch_norm,scaled_dot_product_attention --steps 0
    step parity_own $limit_parity_own env LIGHT_CUDNN=0 "$python" "$here/parity.py" --build "$build" \
        --json "$out/parity_own.json" --ops conv2d,batch_norm,scaled_dot_product_attention --steps 0
fi

if [ ! -x "$build/examples/fashion_mnist" ]; then
    skip examples "the build has no examples"
elif [ ! -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ]; then
    skip examples "no /usr/share/datasets/fashion-mnist (Debian: dataset-fashion-mnist)"
elif [ -n "$smoke" ]; then
    step examples $limit_examples python3 "$here/examples.py" --build "$build" --json "$out/examples.json" --steps 2 \
        --batch-size 4 --only fashion_mnist
else
    step examples $limit_examples python3 "$here/examples.py" --build "$build" --json "$out/examples.json" \
        --batch-size 64 # three runs of each, two on the CPU
fi

if [ ! -x "$build/bench/gpu_ops" ]; then
    skip benchmarks "the build has no benchmarks (-DLIGHT_BUILD_BENCH=ON)"
elif [ -n "$smoke" ]; then
    step benchmarks $limit_benchmarks python3 "$root/bench/gpu.py" --smoke --sides light --case products,mlp64_gpu \
        --build "$build" --json "$out/benchmarks.json"
else
    step benchmarks $limit_benchmarks python3 "$root/bench/gpu.py" --quick --budget 180 --timeout 90 \
        --build "$build" --python "${python:-none}" --json "$out/benchmarks.json"
fi
if ! command -v mpirun >/dev/null; then
    skip nccl "no mpirun (Debian: openmpi-bin)"
elif [ ! -e "$build/liblight_mpi.so" ]; then
    skip nccl "the build has no MPI (Debian: libopenmpi-dev)"
else
    step nccl $limit_nccl sh "$here/processes.sh" "$build" "$out/nccl"
fi

python3 "$here/summary.py" "$out" "${smoke:-full}" $simulated
