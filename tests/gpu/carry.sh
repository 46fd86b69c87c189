#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# carry.sh [BUILD]: copies the shared libraries that a build's programs need into BUILD/libs, so that BUILD together
# with tests/gpu and bench runs on a machine that has only the NVIDIA driver and python3 (verify.sh --build BUILD). What
# comes with the C library or the driver is left to that machine; cuBLAS is taken along, cuDNN and NCCL where they are installed.
set -eu
build=${1:-build}
libs=$build/libs
test -e "$build/liblight.so" || { echo "carry.sh: there is no $build/liblight.so; build first" >&2; exit 1; }

needed()
{
    find "$build" -maxdepth 2 -type f \( -name '*.so*' -o -path "$build/tests/test_*" -o -path "$build/examples/*" \
        -o -path "$build/bench/*" \) ! -path "$libs/*" -exec ldd {} + 2>/dev/null
    cudnn=$(ldconfig -p 2>/dev/null | sed -n 's/.*libcudnn\.so\.9 .*=> //p' | head -n 1)
    nccl=$(ldconfig -p 2>/dev/null | sed -n 's/.*libnccl\.so\.2 .*=> //p' | head -n 1)
    test -z "$nccl" || echo "x => $nccl"
    # The parts that cuDNN opens by name lie beside it; batch norm and attention it compiles, with NVRTC.
    test -z "$cudnn" || ls "$(dirname "$cudnn")"/libcudnn*.so.9 | sed 's/^/x => /'
    test -z "$cudnn" || ldconfig -p 2>/dev/null | grep 'libnvrtc\(-builtins\)\?\.so\.[0-9]'
}

rm -rf -- "$libs"
mkdir -p "$libs/cuda" # apart: PyTorch must not take these for its own
needed | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | sort -u | while IFS= read -r path; do
    case ${path##*/} in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux* | libcuda.so.* | liblight*) ;;
    libcublas* | libcudart* | libcudnn* | libnccl* | libnv*) cp -L -- "$path" "$libs/cuda/" ;;
    *) cp -L -- "$path" "$libs/" ;;
    esac
done
git -C "$(dirname -- "$0")" describe --always --dirty >"$libs/commit" 2>/dev/null || rm -f "$libs/commit"
echo "$libs: $(find "$libs" -name '*.so*' | wc -l) libraries, $(du -sh "$libs" | cut -f1)"
