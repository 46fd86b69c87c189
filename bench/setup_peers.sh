#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the benchmark's peers (PyTorch and Lightning from PyPI, pinned) into BUILD/bench-venv, once.
# usage: setup_peers.sh [BUILD]     PYTHON=python3.11 chooses the interpreter
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
build=${1:-build}
venv=$build/bench-venv
python=${PYTHON:-python3}
log=$build/bench-venv.log

lists="$here/peers/requirements.txt"
extra=$here/peers/requirements-$(uname -m).txt
[ ! -f "$extra" ] || lists="$lists
$extra"

give_up()
{
    echo "bench: $1" >&2
    exit 1
}

# One requirements file after another, so that a folder with spaces in its name is fine.
wanted=$(echo "$lists" | while IFS= read -r list; do cat -- "$list"; done; "$python" --version 2>&1)
if [ -f "$venv/installed" ] && [ "$wanted" = "$(cat -- "$venv/installed")" ]; then
    exit 0
fi

mkdir -p "$build"
rm -f -- "$venv/installed"
command -v "$python" >/dev/null || give_up "no $python found: the peers need Python 3.11 or newer"
"$python" -m venv --clear "$venv" >"$log" 2>&1 ||
    give_up "cannot make a Python environment in $venv (apt-get install python3-venv; details in $log)"
echo "bench: installing PyTorch and Lightning into $venv (about 2.5 GB to download, 4.2 GB on disk)"
echo "$lists" | while IFS= read -r list; do
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-cache-dir \
        -r "$list" >>"$log" 2>&1 || exit 1
done || give_up "cannot install the peers from PyPI: no network, or no wheel for this Python? (details in $log)"
"$venv/bin/python" -c "import torch, lightning" >>"$log" 2>&1 ||
    give_up "the installed PyTorch does not start (details in $log)"
echo "$wanted" >"$venv/installed"
