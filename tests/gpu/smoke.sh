#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# smoke.sh BUILD: verify.sh in small on the simulated device. It must end well, say in its JSON what it ran on, and give
# no figures; without --smoke neither it nor the benchmarks may take the simulated device for a GPU.
set -eu
build=$1
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=$build/tests/gpu/smoke
verify=$here/verify.sh

# Without PyTorch, which takes long to start.
sh "$verify" --smoke --build "$build" --out "$out" --python none
python3 - "$out/gpu-verify.json" <<'END'
import json, sys
result = json.load(open(sys.argv[1]))
assert result["smoke"] and result["simulated"], "it does not say that it was simulated"
results = {step["name"]: step["result"] for step in result["steps"]}
assert results["tests"] == "passed", results
assert set(results) >= {"memcheck", "racecheck", "parity", "examples", "benchmarks", "nccl"}, results
figures = json.dumps(result.get("benchmarks", {}).get("figures", {}))
assert "median" not in figures and "samples" not in figures, "figures of a simulated device"
END

refused() # COMMAND...: fails with one line that speaks of the simulated device
{
    if "$@" >"$out/refusal" 2>"$out/refusal.err"; then
        echo "$1 ran on the simulated device" >&2
        exit 1
    fi
    grep -q 'simulated device' "$out/refusal.err"
    test ! -s "$out/refusal"
}
refused sh "$verify" --build "$build" --out "$out"
if [ -x "$build/bench/gpu_ops" ]; then
    refused "$build/bench/gpu_ops" kernels
    refused "$build/bench/gpu_train" mlp64_gpu
fi
