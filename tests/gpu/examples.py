#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains each example program on "cuda" and on "cpu", with the same seed, and compares the metrics that they log.

The programs draw the same random numbers on both. How far rounding takes two runs apart depends on the model, so the
measure is the CPU's own run in f64: at each step the GPU's may be 8 times as far from it as the CPU's f32 run has been
up to there, plus an f32 epsilon a step and those of one operation. In bf16, which embed has, it is the CPU's bf16 run
beside its f32 run. From 8 steps on the loss of a classifier must have fallen, too.
"""
import argparse
import csv
import glob
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
from run import libraries_path  # noqa: E402

EPS = {"32-true": 2**-23, "bf16-mixed": 2**-7}
# name, program, what its runs have, precision and the more exact one. embed has no command line: fashion_mnist, from
# which it has module and datamodule, runs with embed's settings for it.
EXAMPLES = [
    ("fashion_mnist", "fashion_mnist", [], "32-true", "64-true"),
    ("embed", "fashion_mnist", ["--trainer.gradient_clip_val", "1.0"], "bf16-mixed", "32-true"),
    ("gan", "gan", [], "32-true", "64-true"),
    ("gan_bf16", "gan", [], "bf16-mixed", "32-true"),
]
FALLING = ["fashion_mnist", "embed"]  # a gan's losses balance each other


def train(options, program, more, accelerator, precision):
    """step -> metric -> value"""
    with tempfile.TemporaryDirectory() as folder:
        command = [os.path.join(options.build, "examples", program), "fit", "--trainer.accelerator", accelerator,
                   "--trainer.precision", precision, "--trainer.max_steps", str(options.steps),
                   "--trainer.log_every_n_steps", str(max(1, options.steps // 20)), "--trainer.limit_val_batches", "0",
                   "--trainer.enable_progress_bar", "false", "--trainer.enable_checkpointing", "false",
                   "--trainer.default_root_dir", folder, "--data.batch_size", str(options.batch_size), *more]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=options.timeout,
                              env=dict(os.environ, LD_LIBRARY_PATH=libraries_path(options.build)))
        if done.returncode:
            raise RuntimeError(f"{accelerator} {precision}: " + (done.stdout.strip().splitlines() or ["failed"])[-1])
        found = {}
        for path in glob.glob(os.path.join(folder, "**", "metrics.csv"), recursive=True):
            with open(path, newline="") as file:
                for row in csv.DictReader(file):
                    values = {k: float(v) for k, v in row.items() if v and (k.endswith("_loss"))}
                    if values:
                        found.setdefault(int(row["step"]), {}).update(values)
        return found


def compare(exact, cpu, gpu, eps):
    """The worst step: how far off it is, in what it may be."""
    worst, so_far = {"share_of_bound": 0.0}, {}
    for step in sorted(exact):
        for metric, value in exact[step].items():
            so_far[metric] = max(so_far.get(metric, 0.0), abs(cpu[step][metric] - value))
            bound = 8 * so_far[metric] + eps * abs(value) * (8 + step)
            off = abs(gpu[step][metric] - value)
            share = off / bound if bound else float(off > 0)
            if not share <= worst["share_of_bound"]:
                worst = {"step": step, "metric": metric, "share_of_bound": share, "off": off, "cpu_off": so_far[metric]}
    return worst


def fell(run):
    """Whether the mean loss of the last half of the steps is below the first."""
    losses = [values["train_loss"] for _, values in sorted(run.items()) if "train_loss" in values]
    late = losses[len(losses) // 2:]
    return sum(late) / len(late) < losses[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--timeout", type=int, default=120, help="seconds that one run may take")
    parser.add_argument("--only", default="", metavar="A,B", help="of " + ", ".join(e[0] for e in EXAMPLES))
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    rows = []
    for name, program, more, precision, exact in EXAMPLES:
        if options.only and name not in options.only.split(","):
            continue
        row = {"case": name, "steps": options.steps}
        try:
            runs = [train(options, program, more, *how) for how in
                    (("cpu", exact), ("cpu", precision), ("cuda", precision))]
            row["compared"] = sum(len(values) for values in runs[0].values())
            row.update(compare(*runs, EPS[precision]))
            row["ok"] = row["compared"] > 0 and row["share_of_bound"] <= 1
            if name in FALLING and options.steps >= 8 and not fell(runs[2]):
                row.update(ok=False, why="the loss has not fallen")
        except (RuntimeError, OSError, KeyError, subprocess.TimeoutExpired) as failure:
            row.update(ok=False, why=str(failure).splitlines()[0])
        rows.append(row)
        print(("ok     " if row["ok"] else "FAILED ") + ", ".join(f"{k} {v}" for k, v in row.items() if k != "ok"),
              flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0 if all(row["ok"] for row in rows) else 1


sys.exit(main())
