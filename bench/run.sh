#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What "make bench" calls: installs the peers if they are missing, then runs the benchmarks.
# usage: run.sh [BUILD [options of run.py ...]]     options also from the variable BENCH_ARGS
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
build=${1:-build}
[ $# -eq 0 ] || shift
sh "$here/setup_peers.sh" "$build" || echo "bench: going on without PyPI's PyTorch" >&2
# BENCH_ARGS is a list of words on purpose.
# shellcheck disable=SC2086
exec python3 "$here/run.py" --build "$build" "$@" ${BENCH_ARGS:-}
