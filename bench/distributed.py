#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs bench/distributed.c and bench/distributed_checkpoint.c on 1, 2, 4 and 8 processes and prints what a step sends and
what is held beside the formulas, and how long steps, sums and checkpoints take; times take turns with those of their
twins in bench/peers/, which use PyTorch's DistributedDataParallel and torch.distributed.checkpoint over gloo.

Bytes are exact and the same on any machine. Times are taken with one thread per process and only where every process has
a core of its own; they mean little on a machine that does other work.
"""
import argparse
import concurrent.futures
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
        python = options.python or os.path.join(options.build, "bench-venv", "bin", "python")
        self.python = python if run.has_torch(python) else None
        self.variant = None     # the fastest of the twin's optimizers

    def start(self, program, case, ranks, steps, side="light", variant=None, copies=1):
        """The lines of a job; of as many as `copies` says, which run at the same time and know nothing of each other."""
        name = f"{side} {program} {case} on {ranks}" + (f", {copies} apart" if copies > 1 else "")
        if sys.stderr.isatty():
            print(f"\r\033[K{name}", end="", file=sys.stderr, flush=True)
        command, env = [os.path.join(self.options.build, "bench", program), case], self.env
        if side == "torch":
            command = [self.python, os.path.join(run.HERE, "peers", program + ".py"), case,
                       *(["--variant", variant] if variant else [])]
            env = dict(env, **run.TUNED)
        command = ["mpirun", "-np", str(ranks), *command, "--steps", str(steps)]
        with concurrent.futures.ThreadPoolExecutor(copies) as pool:
            found = list(pool.map(lambda _: self.run(command, env), range(copies)))
        for _, why in found:
            if why:
                self.missing[name] = why
        return [lines for lines, _ in found]

    def run(self, command, env):
        folder = tempfile.mkdtemp(dir=self.options.out)
        try:
            return run.run([*command, "--dir", folder], env, self.options.timeout)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def torch_version(self):
        return run.output([self.python, "-c", "import torch; print(torch.__version__)"]) if self.python else None

    def choose_variant(self):
        found = {v: self.start("distributed", "ddp", 1, self.options.steps, "torch", v)[0].get("ddp") for v in run.ADAM}
        known = [v for v in found if found[v]]
        self.variant = min(known, key=lambda v: found[v]["median"]) if known else run.ADAM[0]


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


def ratio(a, b):
    return a / b if a and b else None


def measure_sizes(jobs, options):
    found = []
    names = STRATEGIES + ("zero3_bf16",)
    for case in names + tuple(name + "_a4" for name in names):
        for ranks in options.ranks:
            row = sizes_row(case, jobs.start("distributed", case, ranks, 2)[0])
            if row:
                found.append(row)
    return found


def merged(runs, case):
    """One record of several runs of a case."""
    samples = [s for lines in runs if case in lines for s in lines[case]["samples"]]
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples),
            "samples": samples} if samples else None


def timed_cases(jobs):
    """Sides, cases, ranks of a job and jobs at a time."""
    ways = ((1, 1), (1, 2), (2, 1))
    cases = [("light", "ddp", *way) for way in ways] + [("light", "ddp_late", 2, 1)]
    if jobs.python:
        cases += [("torch", "ddp", *way) for way in ways] + [("torch", "ddp_late", 2, 1)]
    cases += [("light", name, *way) for name in STRATEGIES[1:] for way in ways]
    return cases + [("light", "ddp_one_bucket", 2, 1), ("light", "communication", 2, 1)]


def measure_steps(jobs, options):
    """Runs take turns, so that whatever else the machine does falls on all of them."""
    if jobs.python:
        jobs.choose_variant()
    runs = {key: [] for key in timed_cases(jobs)}
    for _ in range(options.rounds):
        for key, found in runs.items():
            side, case, ranks, copies = key
            found += jobs.start("distributed", case, ranks, options.steps, side,
                                jobs.variant if side == "torch" else None, copies)
    rows = []
    for (side, case, ranks, copies), found in runs.items():
        times = merged(found, case)
        if times:
            rows.append({"side": side, "case": case, "ranks": ranks, "copies": copies, **times,
                         "exposed": merged(found, case + "_exposed")})
    return rows


def conclusions(times, field):
    """Weak scaling and what hides behind backward, from medians or from the fastest steps.

    Two processes share the machine's memory and caches even where they send nothing, so alone / together is
    (alone / apart), the machine's part, times (apart / together), what sending costs."""
    found = {(row["side"], row["case"], row["ranks"], row["copies"]): row for row in times}

    def at(side, case, ranks, copies=1, figure=None):
        row = found.get((side, case, ranks, copies))
        row = row and figure and row.get(figure) if figure else row
        return row[field] if row else None
    result = {}
    for side, case in [("light", name) for name in STRATEGIES] + [("torch", "ddp")]:
        alone, apart, together = at(side, case, 1), at(side, case, 1, 2), at(side, case, 2)
        result[f"{side}_{case}"] = {"alone": alone, "apart": apart, "together": together,
                                    "weak_scaling": ratio(alone, together), "machine": ratio(alone, apart),
                                    "sending": ratio(apart, together)}
    for side in ("light", "torch"):
        early, late = (at(side, case, 2, figure="exposed") for case in ("ddp", "ddp_late"))
        left = ratio(early, late)
        result[f"{side}_ddp"].update(exposed=early, exposed_late=late, hidden=None if left is None else 1 - left)
    return result


CHECKPOINT_FIGURES = {"light": ("ckpt_zero1_save", "ckpt_zero1_blocked", "ckpt_zero1_load"),
                      "torch": ("ckpt_async_save", "ckpt_blocked", "ckpt_load", "ckpt_save")}


def checkpoint_row(side, ranks, runs):
    records = {name: merged(runs, name) for name in CHECKPOINT_FIGURES[side]}
    if not all(records.values()):
        return None
    size = next(lines[name]["bytes"] for name in records for lines in runs if name in lines)
    save, blocked, load, *plain = records.values()
    row = {"side": side, "ranks": ranks, "bytes": size, "save": save, "blocked": blocked, "load": load,
           "save_mb_s": size / 1e6 / save["median"], "load_mb_s": size / 1e6 / load["median"]}
    if plain:
        row.update(plain_save=plain[0], plain_save_mb_s=size / 1e6 / plain[0]["median"])
    return row


def measure_checkpoints(jobs, options):
    """In turns, too."""
    cases = {"light": "zero1", "torch": "ckpt"} if jobs.python else {"light": "zero1"}
    runs = {(side, ranks): [] for ranks in options.ranks if ranks <= 4 for side in cases}
    for _ in range(options.rounds):
        for (side, ranks), found in runs.items():
            found += jobs.start("distributed_checkpoint", cases[side], ranks, options.checkpoints, side)
    return [row for key, found in runs.items() for row in [checkpoint_row(*key, found)] if row]


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
    lines = [["side", "case", "ranks", "jobs", "median ms", "fastest ms", "exposed ms", "fastest ms", "samples"]]
    for row in result["times"]:
        exposed = [f"{1e3 * row['exposed'][field]:.1f}" if row["exposed"] else "-" for field in ("median", "min")]
        lines.append([row["side"], row["case"], str(row["ranks"]), str(row["copies"]), milliseconds(row["median"]),
                      milliseconds(row["min"]), *exposed, str(len(row["samples"]))])
    print_columns(lines)
    for title in ("of_medians", "of_fastest") if result["times"] else ():
        print_conclusions(title.replace("_", " "), result[title])
    print_checkpoints(result["checkpoints"])


def milliseconds(seconds):
    return show(seconds and 1e3 * seconds, "{:.1f}")


TIMES = ("alone", "apart", "together", "exposed")


def ahead(ours, theirs, figure):
    """Of times theirs / ours, of shares ours / theirs: above 1 liblight is better."""
    return ratio(theirs.get(figure), ours.get(figure)) if figure in TIMES else ratio(ours.get(figure), theirs.get(figure))


def print_conclusions(title, found):
    figures = (*TIMES[:3], "weak_scaling", "machine", "sending", "exposed", "hidden")
    lines = [[title, *(name.replace("_", " ") for name in figures)]]
    for name, row in found.items():
        lines.append([name.replace("_", " ")] + [
            milliseconds(row.get(f)) if f in TIMES else show(row.get(f), "{:.2f}") for f in figures])
    if found["torch_ddp"]["alone"]:
        lines.append(["ddp, liblight's lead"] + [show(ahead(found["light_ddp"], found["torch_ddp"], f), "{:.2f}x")
                                                 for f in figures])
    print_columns(lines)


def print_checkpoints(rows):
    lines = [["checkpoints", "ranks", "MB", "save MB/s", "blocked ms", "load MB/s", "save() MB/s"]]
    for row in rows:
        lines.append([row["side"], str(row["ranks"]), f"{row['bytes'] / 1e6:.1f}", f"{row['save_mb_s']:.0f}",
                      milliseconds(row["blocked"]["median"]), f"{row['load_mb_s']:.0f}",
                      show(row.get("plain_save_mb_s"), "{:.0f}")])
    found = {(row["side"], row["ranks"]): row for row in rows}
    for side, ranks in found:
        ours, theirs = found.get(("light", ranks)), found.get(("torch", ranks))
        if side == "torch" and ours:
            lead = [(theirs[f], ours[f]) for f in ("save", "blocked", "load")] + [(theirs["plain_save"], ours["save"])]
            lines.append(["liblight's lead", str(ranks), ""] + [show(ratio(a["median"], b["median"]), "{:.2f}x")
                                                                for a, b in lead])
    print_columns(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="build folder (build)")
    parser.add_argument("--python", default="", help="interpreter with the torch to compare with (BUILD/bench-venv's)")
    parser.add_argument("--ranks", default="1,2,4,8", help="numbers of processes for the counts of bytes (1,2,4,8)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a run (10)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case that is timed, and of checkpoints (3)")
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
    os.makedirs(options.out, exist_ok=True)
    before, jobs = os.getloadavg(), Jobs(options)
    times = measure_steps(jobs, options) if "times" in options.only else []
    result = {"when": datetime.datetime.now().isoformat(timespec="seconds"), "machine": run.machine(), "device": "cpu",
              "threads": 1, "versions": {"light": run.light_versions(options.build), "mpi": version,
                                         "torch": jobs.torch_version()}, "torch_variant": jobs.variant,
              "times": times, "of_medians": conclusions(times, "median"), "of_fastest": conclusions(times, "min"),
              "checkpoints": measure_checkpoints(jobs, options) if "checkpoints" in options.only else [],
              "sizes": measure_sizes(jobs, options) if "sizes" in options.only else []}
    result.update(load_before=before[0], load_after=os.getloadavg()[0], missing=jobs.missing)
    print_tables(result)
    if jobs.python and (result["times"] or result["checkpoints"]):
        print("lead: torch / liblight of times, liblight / torch of shares; above 1 liblight is better")
    if not jobs.python:
        print("no torch to compare with: sh bench/setup_peers.sh, or --python")
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
