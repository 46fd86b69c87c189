#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# carry.sh [BUILD [FILE]]: packs what verify.sh needs of a build, for a machine that has the NVIDIA driver, CUDA's libraries
# and python3 but neither compilers nor Debian's packages. There:
#
#   tar xJf carried.tar.xz && sh carried/tests/gpu/verify.sh --build carried/build
#
# Taken along: the tests that run on a GPU, benchmarks, examples and plug-ins, without symbols; the shared libraries that
# these need, Open MPI with its modules among them; tests/gpu and bench. Left out: what comes with the C library, the driver
# and CUDA, and the examples' data: verify.sh leaves them out where that is missing.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
build=${1:-build}
file=${2:-$build/carried.tar.xz}
test -e "$build/liblight.so" || { echo "carry.sh: there is no $build/liblight.so; build first" >&2; exit 1; }
test -s "$build/tests/on_cuda.txt" || { echo "carry.sh: $build was built without tests" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
to=$work/carried/build
libs=$to/libs
mkdir -p "$to/tests/cuda" "$to/bench" "$to/examples" "$libs" "$work/carried/tests"

# Programs and plug-ins, without symbols.
program() # PATH below the build folder
{
    ! test -f "$build/$1" || ! test -x "$build/$1" || strip -o "$to/$1" -- "$build/$1"
}
cp -- "$build/tests/on_cuda.txt" "$to/tests/"
for name in $(cat -- "$build/tests/on_cuda.txt") test_strategies_communicator; do program "tests/$name"; done
for folder in bench examples; do
    find "$build/$folder" -maxdepth 1 -type f -perm -u+x | while IFS= read -r path; do program "$folder/${path##*/}"; done
done
find "$build" -maxdepth 1 -name 'liblight*.so*' ! -name '*_sim*' | while IFS= read -r path; do
    if test -L "$path"; then cp -P -- "$path" "$to/"; else program "${path##*/}"; fi
done

# Shared libraries.
gather() # of programs and libraries named on standard input
{
    xargs -d '\n' ldd 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | sort -u | while IFS= read -r path; do
        case ${path##*/} in
        libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux* | liblight*) ;;
        libcuda.so.* | libcublas* | libcudart* | libcudnn* | libnccl* | libnv*) ;;
        *) test -e "$libs/${path##*/}" || cp -L -- "$path" "$libs/" ;;
        esac
    done
}
find "$to" -type f -perm -u+x | gather

# Open MPI finds its modules by a prefix; verify.sh names it.
if command -v ompi_info >/dev/null && test -e "$to/liblight_mpi.so"; then
    mpi=$libs/mpi
    mkdir -p "$mpi/bin" "$mpi/modules" "$mpi/etc"
    for name in mpirun orted; do cp -L -- "$(command -v $name)" "$mpi/bin/"; done
    cp -L -- "$(ompi_info --path pkglibdir | sed 's/.*: //')"/*.so "$mpi/modules/"
    cp -RL -- "$(ompi_info --path pkgdatadir | sed 's/.*: //')" "$mpi/share"
    find "$mpi" -type f -perm -u+r \( -name '*.so' -o -path '*/bin/*' \) | gather
fi

cp -R -- "$here" "$work/carried/tests/"
cp -R -- "$root/bench" "$work/carried/"
git -C "$root" describe --always --dirty >"$libs/commit" 2>/dev/null || rm -f "$libs/commit"
tar -C "$work" -cf - carried | xz -T0 -c >"$file"
echo "$file: $(du -sh "$work/carried" | cut -f1), packed $(du -h "$file" | cut -f1)"
