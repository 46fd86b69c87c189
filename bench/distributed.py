#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs bench/distributed.c and bench/distributed_checkpoint.c on 1, 2, 4 and 8 processes and prints what a step sends and
what is held beside the formulas, and how long steps, sums and checkpoints take.

Bytes are exact and the same on any machine. Times are taken with one thread per process and only where every process has
a core of its own; they mean little on a machine that does other work.
"""
import argparse
import datetime
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import run

STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_hwloc_base_binding_policy": "none"}


class Jobs:
    """Starts programs under mpirun; each gives JSON lines by case."""

    def __init__(self, options):
        self.options, self.missing = options, {}
        self.env = dict(run.environment(1, False), **MPI, LIGHT_PLUGIN_PATH=os.path.abspath(options.build))

    def start(self, program, case, ranks, steps):
        name = f"{program} {case} on {ranks}"
        if sys.stderr.isatty():
            print(f"\r\033[K{name}", end="", file=sys.stderr, flush=True)
        folder = tempfile.mkdtemp(dir=self.options.out)
        command = ["mpirun", "-np", str(ranks), os.path.join(self.options.build, "bench", program), case,
                   "--steps", str(steps), "--dir", folder]
        lines, why = run.run(command, self.env, self.options.timeout)
        shutil.rmtree(folder, ignore_errors=True)
        if why:
            self.missing[name] = why
        return lines


def sizes_row(case, lines):
    """Counts of bytes: per parameter, and beside the formula."""
    counts = lines.get(case + "_sizes")
    if not counts:
        return None
    parameters = counts["parameters"]
    beside = counts["held"] - counts["held_formula"]
    return {**counts, "case": case,
            "sent_per_parameter": counts["sent"] / parameters,
            "sent_ratio": counts["sent"] / counts["sent_formula"] if counts["sent_formula"] else None,
            "held_per_parameter": counts["held"] / parameters,
            "held_ratio": counts["held"] / counts["held_formula"],
            "held_beside_in_units": beside / counts["largest_unit"] if case[:3] != "ddp" else 0.0}


def time_record(lines, case):
    line = lines.get(case)
    return line and {key: line[key] for key in ("median", "min", "max", "samples")}


def ratio(a, b):
    return a / b if a and b else None


def measure_sizes(jobs, options):
    found = []
    names = STRATEGIES + ("zero3_bf16",)
    for case in names + tuple(name + "_a4" for name in names):
        for ranks in options.ranks:
            row = sizes_row(case, jobs.start("distributed", case, ranks, 2))
            if row:
                found.append(row)
    return found


def merged(rounds, case):
    """One record of several runs of a case."""
    samples = [s for lines in rounds if case in lines for s in lines[case]["samples"]]
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples),
            "samples": samples} if samples else None


def measure_steps(jobs, options):
    """Runs take turns, so that whatever else the machine does falls on all of them."""
    cases = [(case, ranks) for case in STRATEGIES for ranks in (1, 2)]
    cases += [("ddp_late", 2), ("ddp_one_bucket", 2), ("communication", 2)]
    rounds = [{key: jobs.start("distributed", *key, options.steps) for key in cases} for _ in range(options.rounds)]
    times = {key: merged([found[key] for found in rounds], key[0]) for key in cases}
    return [{"case": case, "ranks": ranks, **times[case, ranks],
             "exposed": merged([found[case, ranks] for found in rounds], case + "_exposed")}
            for case, ranks in cases if times[case, ranks]]


def conclusions(times, field):
    """Weak scaling, and what hides behind backward, from medians or from the fastest steps."""
    found = {(row["case"], row["ranks"]): row for row in times}

    def at(case, ranks, figure=None):
        row = found.get((case, ranks))
        row = row and figure and row.get(figure) if figure else row
        return row[field] if row else None
    result = {f"weak_scaling_{name}": ratio(at(name, 1), at(name, 2)) for name in STRATEGIES}
    left = ratio(at("ddp", 2, "exposed"), at("ddp_late", 2, "exposed"))
    result["hidden_behind_backward"] = None if left is None else 1 - left
    return result


def measure_checkpoints(jobs, options):
    found = []
    for ranks in [r for r in options.ranks if r <= 4]:
        lines = jobs.start("distributed_checkpoint", "zero1", ranks, options.checkpoints)
        figures = {name: lines.get(f"ckpt_zero1_{name}") for name in ("save", "blocked", "load")}
        if not all(figures.values()):
            continue
        size = figures["save"]["bytes"]
        row = {"case": "ckpt_zero1", "ranks": ranks, "bytes": size}
        for name, line in figures.items():
            row[name] = time_record({name: line}, name)
        row["save_mb_s"], row["load_mb_s"] = (size / 1e6 / figures[name]["median"] for name in ("save", "load"))
        found.append(row)
    return found


def show(value, text="{:.4f}"):
    return "-" if value is None else text.format(value)


def print_columns(lines):
    if len(lines) == 1:
        return
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip())
    print()


def print_tables(result):
    lines = [["case", "ranks", "sent B/par", "formula", "ratio", "held B/par", "formula", "ratio", "beside, units"]]
    for row in result["sizes"]:
        n = row["parameters"]
        lines.append([row["case"], str(row["ranks"]), show(row["sent_per_parameter"]), show(row["sent_formula"] / n),
                      show(row["sent_ratio"]), show(row["held_per_parameter"]), show(row["held_formula"] / n),
                      show(row["held_ratio"]), show(row["held_beside_in_units"], "{:.2f}")])
    print_columns(lines)
    lines = [["case", "ranks", "median ms", "fastest ms", "exposed ms", "fastest ms", "samples"]]
    for row in result["times"]:
        exposed = [f"{1e3 * row['exposed'][field]:.1f}" if row["exposed"] else "-" for field in ("median", "min")]
        lines.append([row["case"], str(row["ranks"]), f"{1e3 * row['median']:.1f}", f"{1e3 * row['min']:.1f}", *exposed,
                      str(len(row["samples"]))])
    print_columns(lines)
    lines = [["", "of medians", "of fastest"]]
    for name in result["of_medians"] if result["times"] else ():
        lines.append([name, show(result["of_medians"][name], "{:.2f}"), show(result["of_fastest"][name], "{:.2f}")])
    print_columns(lines)
    lines = [["case", "ranks", "MB", "save MB/s", "load MB/s", "blocked ms"]]
    for row in result["checkpoints"]:
        lines.append([row["case"], str(row["ranks"]), f"{row['bytes'] / 1e6:.1f}", f"{row['save_mb_s']:.0f}",
                      f"{row['load_mb_s']:.0f}", f"{1e3 * row['blocked']['median']:.1f}"])
    print_columns(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="build folder (build)")
    parser.add_argument("--ranks", default="1,2,4,8", help="numbers of processes for the counts of bytes (1,2,4,8)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a run (10)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case that is timed (3)")
    parser.add_argument("--checkpoints", type=int, default=5, help="timed checkpoints of a run (5)")
    parser.add_argument("--only", default="", metavar="A,B", help="of sizes, times, checkpoints (all)")
    parser.add_argument("--timeout", type=int, default=300, help="seconds that one job may take (300)")
    parser.add_argument("--save", action="store_true",
                        help="keep the JSON in bench/results/DATE-distributed-cpu.json as well")
    options = parser.parse_args()
    options.ranks = [int(n) for n in options.ranks.split(",")]
    options.only = options.only.split(",") if options.only else ["sizes", "times", "checkpoints"]
    options.out = os.path.join(options.build, "bench")
    return options


def mpi_version():
    try:
        return subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    except (OSError, IndexError):
        return None


def main():
    options = parse()
    version = mpi_version()
    if not version:
        sys.exit("bench: mpirun was not found (Debian: openmpi-bin)")
    before, jobs = os.getloadavg(), Jobs(options)
    times = measure_steps(jobs, options) if "times" in options.only else []
    result = {"when": datetime.datetime.now().isoformat(timespec="seconds"), "machine": run.machine(), "device": "cpu",
              "threads": 1, "versions": {"light": run.light_versions(options.build), "mpi": version},
              "times": times, "of_medians": conclusions(times, "median"), "of_fastest": conclusions(times, "min"),
              "checkpoints": measure_checkpoints(jobs, options) if "checkpoints" in options.only else [],
              "sizes": measure_sizes(jobs, options) if "sizes" in options.only else []}
    result.update(load_before=before[0], load_after=os.getloadavg()[0], missing=jobs.missing)
    print_tables(result)
    for name, why in jobs.missing.items():
        print(f"missing: {name}: {why}")
    if max(before[0], result["load_after"]) > 0.3 * result["machine"]["cores"]:
        print(f"the machine was busy (load {before[0]:.1f} before, {result['load_after']:.1f} after): times are rough")
    run.write(os.path.join(options.out, "distributed.json"), result)
    if options.save:
        run.write(os.path.join(run.HERE, "results", f"{result['when'][:10]}-distributed-cpu.json"), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
