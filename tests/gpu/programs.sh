#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# programs.sh BUILD LOGS PREFIX PROGRAM...: runs test programs of BUILD/tests on the device "cuda", four at once, each for
# at most 60 s and after the words of PREFIX (compute-sanitizer), with a log in LOGS for each that fails. Tells of every
# failure.
set -u
build=$1 logs=$2 prefix=$3
shift 3
mkdir -p "$logs" && rm -f "$logs"/*.log
# Of a carried build; only for programs of our own, never for the system's python3 or PyTorch.
export LD_LIBRARY_PATH="$build:$build/libs:$build/libs/cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LIGHT_TEST_DEVICE=cuda PREFIX="$prefix" LOGS="$logs" BUILD="$build"
cd "$build/tests" || exit 2
# shellcheck disable=SC2016
printf '%s\n' "$@" | xargs -n 1 -P 4 sh -c '
    log=$LOGS/${1##*/}.log
    test -x "./$1" || { echo "FAILED $1: there is no such program in $BUILD/tests" | tee "$log"; exit; }
    timeout --foreground -k 5 60 $PREFIX "./$1" >"$log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then
        rm "$log"
    else
        echo "FAILED $1: exit status $code: $(grep -aE "ERROR|FAILED|error" "$log" | head -n 1)"
    fi' one
failed=$(find "$logs" -name '*.log' | wc -l)
echo "$# programs, $failed failed$(find "$logs" -name '*.log' -exec basename {} .log \; | sort | sed 's/^/ /' | tr -d '\n')"
[ "$failed" -eq 0 ]
