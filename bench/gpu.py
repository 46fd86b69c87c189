#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks on a GPU, liblight's and PyTorch's (eager, compiled) and Lightning's, and prints a table. The side
"own" is liblight without cuDNN, by kernels of its own.

Memory-bound kernels are shown in TB/s and as a share of the copy bandwidth that was measured (the faster of the two
sides' copies), products and attention in TFLOP/s and as a share of the fastest product measured, GPT in tokens/s and
ResNet-50 in images/s, both with the model FLOP utilisation against that same product; the MLP in time per step. Memory
is what the driver says that the GPU holds, less what it held before. Each side of a case is a process of its own.
"""
import argparse
import datetime
import os
import subprocess
import sys
import threading
import time

import run
from run import Case

SIDES = ("light", "eager", "compile", "lightning", "own")
KERNELS = [f"{name}_{dtype}" for name in
           ("copy", "add", "gelu", "gelu_grad", "layer_norm", "layer_norm_grad", "rms_norm", "softmax", "dropout",
            "rope", "sum_rows", "sum_columns", "cross_entropy_grad", "embedding", "embedding_grad")
           for dtype in ("f32", "bf16")] + ["adamw_f32", "clip_grad_norm_f32"]
NORMS = [f"batch_norm{kind}_{dtype}" for kind in ("", "_grad") for dtype in ("f32", "bf16")]
PRODUCTS = [f"product_{name}_bf16" for name in ("8192", "qkv", "proj", "fc", "fcproj", "head")]
ATTENTION = [f"attention_d{d}{kind}_bf16" for d in (64, 128) for kind in ("", "_causal", "_grad", "_causal_grad")]
EAGER, ALL = ("light", "eager"), ("light", "eager", "compile")
OWN = ("own",)      # where cuDNN has a part
# The cases, the most wanted first, with the sides that --quick runs. gives: figures of one process.
CASES = [
    (Case("kernels", "gpu_ops", "kernels", gives=KERNELS), EAGER),
    (Case("norms", "gpu_ops", "norms", gives=NORMS), EAGER + OWN),
    (Case("products", "gpu_ops", "products", gives=PRODUCTS), EAGER),
    (Case("attention", "gpu_ops", "attention", gives=ATTENTION), EAGER + OWN),
    (Case("gpt2_124m_b32", "gpu_train", "gpt2"), ALL),
    (Case("resnet50_b128", "gpu_train", "resnet"), ALL + OWN),
    (Case("gpt2_350m_b16", "gpu_train", "gpt2"), EAGER),
    (Case("mlp64_gpu", "gpu_train", "mlp"), SIDES),
    (Case("mlp64_gpu_graphs", "gpu_train", "mlp"), ALL),
    (Case("gpt2_124m_b16", "gpu_train", "gpt2"), ()),
    (Case("gpt2_124m_b64", "gpu_train", "gpt2"), ()),
]
SMOKE = ("kernels", "norms", "products", "attention", "mlp64_gpu", "mlp64_gpu_graphs")   # the rest is too large to be simulated


class Memory:
    """The most that the GPU held while a process ran, in MB; None where nvidia-smi does not tell."""

    def __enter__(self):
        self.seen, self.process = [], None
        try:
            self.process = subprocess.Popen(
                ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-lms", "100"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return self
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        time.sleep(0.3)     # what it held before
        return self

    def read(self):
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.seen.append(int(line))

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.thread.join()

    def most(self):
        return max(self.seen) - self.seen[0] if self.seen else None


def commands(options):
    """The command line of a case on a side, or why there is none."""
    light = run.light_commands(options.build)
    torch = run.torch_commands(options.python if run.has_torch(options.python) else None)

    def command(case, side):
        found = light(case, "default") if side in ("light", "own") else torch(case, side)
        return found if isinstance(found, str) or not options.smoke else [*found, "--smoke"]
    return command


def measure_one(case, side, command, options, timeout, found, missing):
    line = command(case, side)
    if isinstance(line, str):
        missing[side][case.name] = line
        return
    env = dict(run.environment(options.threads, False), **{k: v for k, v in os.environ.items() if k in (
        "LIGHT_CUDA", "LIGHT_PLUGIN_PATH")})
    if side in ("light", "own"):
        env["LD_LIBRARY_PATH"] = run.libraries_path(options.build)
    if side == "own":
        env["LIGHT_CUDNN"] = "0"
    print(f"{case.name}: {side}", file=sys.stderr, flush=True)
    with Memory() as memory:
        lines, why = run.run(line, env, timeout)
    for figure, result in lines.items():
        found.setdefault(figure, {})[side] = dict(result, device_mb=memory.most())
    lacking = [name for name in case.gives if name not in lines]
    if why or lacking:
        missing[side][case.name] = why or "no figure of " + ", ".join(lacking)


def measure(options):
    """figure -> side -> the JSON line; side -> case -> why there is none."""
    found, missing, command, begin = {}, {side: {} for side in SIDES}, commands(options), time.monotonic()
    for side in SIDES:
        for case, quick in CASES:
            every = SIDES[:4] if case.group == "mlp" else ALL
            wanted = quick if options.quick or options.smoke else every + (OWN if "own" in quick else ())
            if side not in wanted or side not in options.sides or (options.smoke and case.name not in SMOKE):
                continue
            if options.case and not {case.name, case.group} & set(options.case.split(",")):
                continue
            left = int(options.budget - (time.monotonic() - begin)) if options.budget else options.timeout
            if left < 10:
                missing[side][case.name] = f"the {options.budget} s for benchmarks were over"
                continue
            measure_one(case, side, command, options, min(left, options.timeout), found, missing)
    return found, missing


# ---- the table ------------------------------------------------------------------

def ceiling(found, figures, field):
    """The highest rate that any side reached."""
    return max((found[f][side][field] / found[f][side]["median"] for f in figures for side in found.get(f, {})
                if field in found[f][side]), default=None)


def amounts(found):
    """The twins' figures get the work of ours: it is the same."""
    for sides in found.values():
        for field in ("bytes", "flops", "items"):
            if field in sides.get("light", {}):
                for line in sides.values():
                    line[field] = sides["light"][field]


def row_of(figure, sides, copy, product):
    ours = sides.get("light")
    row = {"case": figure, "share": None}
    for side, line in sides.items():
        seconds = line["median"]
        if "items" in line and line.get("items") and not figure.startswith("mlp"):
            row[side] = f"{line['items'] / seconds:,.0f}/s"
        elif "bytes" in line:
            row[side] = f"{line['bytes'] / seconds / 1e12:.2f} TB/s"
        elif "flops" in line and not figure.startswith("mlp"):
            row[side] = f"{line['flops'] / seconds / 1e12:.0f} TFLOP/s"
        else:
            row[side] = run.seconds(seconds)
        if side != "light" and ours:
            row["ratio_" + side] = seconds / ours["median"]
    if ours and "bytes" in ours and copy:
        row["share"] = ours["bytes"] / ours["median"] / copy
    elif ours and "flops" in ours and product and not figure.startswith("mlp"):
        row["share"] = ours["flops"] / ours["median"] / product
    row["memory_mb"] = {side: line.get("device_mb") for side, line in sides.items()}
    return row


def table(rows):
    sides = [side for side in SIDES if any(side in row for row in rows)]
    lines = [["case", *sides, "of peak", *(f"x {side}" for side in sides if side != "light"),
              "MB " + " / ".join(sides)]]
    for row in rows:
        lines.append([row["case"], *(row.get(side, "-") for side in sides),
                      f"{100 * row['share']:.0f} %" if row["share"] else "-",
                      *(f"{row['ratio_' + side]:.2f}" if "ratio_" + side in row else "-"
                        for side in sides if side != "light"),
                      " / ".join(str(row["memory_mb"].get(side) or "-") for side in sides)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) if column else cell.ljust(width)
                               for column, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def gpu():
    return run.output(["nvidia-smi", "--id=0", "--query-gpu=name,driver_version,memory.total,clocks.max.sm",
                       "--format=csv,noheader"]) or "unknown GPU"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", metavar="A,B", help="cases or groups: " + ", ".join(
        dict.fromkeys([c.group for c, _ in CASES] + [c.name for c, _ in CASES])))
    parser.add_argument("--sides", default=",".join(SIDES), help="of " + ", ".join(SIDES))
    parser.add_argument("--quick", action="store_true", help="the cases and sides that say most: about 4 minutes")
    parser.add_argument("--budget", type=int, default=0, metavar="S", help="be done after S seconds (0: no end)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, no figures; also on the simulated device")
    parser.add_argument("--threads", type=int, default=run.cores())
    parser.add_argument("--timeout", type=int, default=300, help="seconds that one process may take (300)")
    parser.add_argument("--build", default="build", help="build folder (build)")
    parser.add_argument("--python", default="", help="interpreter with the torch to compare with (BUILD/bench-venv's)")
    parser.add_argument("--json", default="", help="where to write the result (BUILD/bench/gpu.json)")
    options = parser.parse_args()
    options.python = options.python or os.path.join(options.build, "bench-venv", "bin", "python")
    options.sides = options.sides.split(",")
    options.json = options.json or os.path.join(options.build, "bench", "gpu.json")
    return options


def main():
    options = parse()
    found, missing = measure(options)
    result = {"when": datetime.datetime.now().isoformat(timespec="seconds"), "gpu": gpu(), "smoke": options.smoke,
              "versions": {"light": run.light_versions(options.build)}, "missing": missing, "figures": found}
    for side in SIDES[1:]:
        result["versions"][side] = next((s[side]["versions"] for s in found.values()
                                         if "versions" in s.get(side, {})), {})
    print(result["gpu"], "|", ", ".join(f"{k} {v}" for side in ("light", "eager")
                                        for k, v in result["versions"][side].items()))
    if options.smoke:
        result["simulated"] = any(s.get("light", {}).get("simulated") for s in found.values())
        where = ", on the simulated device" if result["simulated"] else ""
        print(f"smoke run{where}: {len(found)} figures would be taken")
    else:
        amounts(found)
        copy, product = ceiling(found, ("copy_f32", "copy_bf16"), "bytes"), ceiling(found, PRODUCTS, "flops")
        result["rows"] = [row_of(figure, sides, copy, product) for figure, sides in found.items()]
        result["copy_bytes_per_second"], result["product_flops_per_second"] = copy, product
        print(table(result["rows"]))
        print("x SIDE: times that side's speed, above 1 liblight is faster; of peak: of the fastest copy or bf16\n"
              "product measured here")
    for side, cases in missing.items():
        for case, why in cases.items():
            print(f"{side} lacks {case}: {why}")
    run.write(options.json, result)
    return 1 if missing["light"] else 0


if __name__ == "__main__":
    sys.exit(main())
