#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD_DIR SOURCE_DIR COMPILER CFLAGS: installs into a temporary folder, moves it (an installed copy must
# not depend on where it was put first), then builds a user's program against it with pkg-config and with CMake.
set -eu
build=$1
source=$2
compiler=$3
cflags=${4-}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

cmake --install "$build" --prefix "$root/first" >"$root/log" || { cat "$root/log"; exit 1; }
mv "$root/first" "$root/a prefix"
prefix="$root/a prefix"
pc=$(find "$prefix" -name light.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
library_dir=$(dirname "$PKG_CONFIG_PATH")

test -f "$prefix/include/light/light.h"
"$prefix/bin/light-checkpoint" --help >/dev/null # it finds the library from where it stands
cp "$source/user.c" "$source/user.cmake" "$root/"
mv "$root/user.cmake" "$root/CMakeLists.txt"
cd "$root"

# pkg-config quotes for the shell, so its answer goes through eval.
eval "\"$compiler\" -std=c11 -Wall -Wextra -Werror $cflags user.c -o with_pkg_config $(pkg-config --cflags --libs light)"
LD_LIBRARY_PATH="$library_dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ./with_pkg_config

cmake -S . -B b -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="$cflags" >log 2>&1 &&
    cmake --build b >>log 2>&1 || { cat log; exit 1; }
b/with_cmake
