#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs liblight's benchmark programs and their PyTorch twins in turns and prints a table of ratios.

One round of a case is: liblight, PyTorch with tuned malloc, PyTorch as it comes, and Debian's older PyTorch (tuned)
where python3-torch is installed. Every run is a process of its own under the same environment, and prints one JSON
line per figure. The first round tries every variant of the twin (memory layout, optimizer implementation); the fastest
is the bar, and the later rounds run that one. A slow result is a result: the exit status is 0 all the same.
"""
import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TUNED = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:"
                           "glibc.malloc.top_pad=67108864:glibc.malloc.hugetlb=1",
         "LIGHT_BENCH_TUNED": "1"}
# What would make the two sides differ, or a run differ from the next one.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_CPU_AFFINITY",
         "GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_ARENA_MAX", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_",
         "MALLOC_MMAP_THRESHOLD_", "PYTHONPATH")

ADAM = ("fused", "default", "foreach")
IMAGES = ("nhwc_fused", "fused", "nhwc", "default")


class Case:
    """program: the C program and the twin of the same name. gives: the figures that one run prints.
    speedup: times PyTorch's speed to reach. limit: seconds to stay below. bind: pin the threads."""

    def __init__(self, name, program, group, variants=("default",), gives=None, speedup=None, limit=None, bind=True,
                 quick=(0, -1)):
        self.name, self.program, self.group = name, program, group
        self.variants, self.gives = variants, gives or [name]
        self.speedup, self.limit, self.bind, self.quick = speedup, limit, bind, quick


CASES = [
    Case("op_add_scalar", "ops", "op", limit=0.2e-6, quick=(50, 10)),
    Case("op_add4", "ops", "op", limit=0.2e-6, quick=(50, 10)),
    Case("op_chain", "ops", "op", quick=(50, 10)),
    Case("trainer_loop", "trainer", "trainer", quick=(500, 100)),
    Case("trainer_barebones", "trainer", "trainer", quick=(500, 100)),
    Case("trainer_default", "trainer", "trainer", quick=(500, 100)),
    Case("mlp64", "train", "mlp", ADAM, speedup=2.0, quick=(100, 30)),
    Case("mlp1024", "train", "mlp", ADAM, quick=(20, 5)),
    Case("lenet", "train", "lenet", IMAGES, speedup=1.5, quick=(50, 20)),
    Case("resnet18", "train", "resnet", IMAGES, speedup=1.0, quick=(2, 1)),
    Case("chargpt", "train", "gpt", ADAM, speedup=1.3, quick=(2, 1)),
    Case("gpt2_t64", "train", "gpt2", ADAM, speedup=1.0, quick=(2, 1)),
    Case("gpt2_t256", "train", "gpt2", ADAM, speedup=1.0, quick=(2, 1)),
    Case("start", "start", "start", limit=0.1),
    Case("start_trainer", "start", "start", limit=0.1),
    # Threads stay unpinned: a loader's workers inherit the main thread's core.
    Case("loader_w0", "loader", "loader", ("bulk", "per_sample"), bind=False, quick=(1, 1)),
    Case("loader_w2", "loader", "loader", ("bulk", "per_sample"), bind=False, quick=(1, 1)),
    Case("ckpt", "checkpoint", "ckpt", ("default", "mmap"),
         ["ckpt_save", "ckpt_load", "ckpt_load_part", "ckpt_blocked"], bind=False, quick=(1, 1)),
]


def cores():
    """Physical cores that this process may use."""
    seen = set()
    for cpu in os.sched_getaffinity(0):
        base = f"/sys/devices/system/cpu/cpu{cpu}/topology/"
        try:
            with open(base + "physical_package_id") as package, open(base + "core_id") as core:
                seen.add((package.read(), core.read()))
        except OSError:
            seen.add(cpu)
    return len(seen)


def environment(threads, bind):
    env = {key: value for key, value in os.environ.items()
           if key not in UNSET and not key.startswith(("LIGHT_", "KMP_", "MALLOC_"))}
    env["OMP_NUM_THREADS"] = str(threads)
    env["OMP_PROC_BIND"] = "true" if bind else "false"
    env["OMP_PLACES"] = "cores"
    if not bind:
        del env["OMP_PLACES"]
    return env


def run(command, env, timeout):
    """The JSON lines that a program prints, by case; and why there are none."""
    env = dict(env, LIGHT_BENCH_T0=str(time.monotonic_ns()))
    try:
        done = subprocess.run(command, env=env, timeout=timeout, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        return {}, f"cannot start {command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return {}, f"still running after {timeout} s"
    found = {}
    for line in done.stdout.splitlines():
        try:
            result = json.loads(line)
            found[result["case"]] = result
        except (ValueError, KeyError, TypeError):
            pass
    if done.returncode == 0 and found:
        return found, None
    text = (done.stderr.strip() or done.stdout.strip() or "nothing printed").splitlines()[-1]
    return found, f"exit status {done.returncode}: {text}"


class Side:
    """One column: liblight, or PyTorch under one environment. Collects the lines of its runs."""

    def __init__(self, name, commands, extra_env=None):
        self.name, self.commands, self.extra_env = name, commands, extra_env or {}
        self.lines = {}     # figure -> variant -> lines
        self.missing = {}   # case -> why

    def measure(self, case, variant, env, options):
        command = self.commands(case, variant)
        if isinstance(command, str):
            if command:
                self.missing[case.name] = command
            return
        steps, warmup = case.quick if options.quick else (0, -1)
        steps = options.steps or steps
        command += ["--steps", str(steps), "--warmup", str(warmup), "--dir", options.out]
        lines, why = run(command, dict(env, **self.extra_env), options.timeout)
        if why:
            named = case.name if len(case.variants) == 1 or variant not in case.variants else f"{case.name}/{variant}"
            self.missing[named] = why
        for figure, line in lines.items():
            self.lines.setdefault(figure, {}).setdefault(variant, []).append(line)

    def best(self, figure):
        """The fastest variant's runs in one record."""
        runs = self.lines.get(figure)
        if not runs:
            return None
        variant = min(runs, key=lambda v: statistics.median(r["median"] for r in runs[v]))
        medians = [r["median"] for r in runs[variant]]
        first = runs[variant][0]
        record = {"variant": variant, "median": statistics.median(medians), "low": min(medians), "high": max(medians),
                  "peak_rss_mb": max(r["peak_rss_mb"] for r in runs[variant]),
                  "start_rss_mb": first.get("start_rss_mb", 0.0), "runs": runs}
        if "bytes" in first:
            record["bytes"] = first["bytes"]
        return record

    def fastest_variant(self, case):
        found = self.best(case.gives[0])
        return found["variant"] if found else case.variants[0]

    def versions(self):
        for runs in self.lines.values():
            for lines in runs.values():
                return lines[0].get("versions", {})
        return {}


def libraries_path(build):
    """For programs of a build that was carried here (tests/gpu/carry.sh). Not for PyTorch, which has its own."""
    libs = os.path.join(os.path.abspath(build), "libs")
    return ":".join(filter(None, (os.path.dirname(libs), libs, os.path.join(libs, "cuda"),
                                  os.environ.get("LD_LIBRARY_PATH"))))


def light_commands(build):
    def commands(case, _variant):
        program = os.path.join(build, "bench", case.program)
        if not os.access(program, os.X_OK):
            return f"there is no {program} (cmake -DLIGHT_BUILD_BENCH=ON, then build)"
        return [program, case.name]
    return commands


def torch_commands(python, programs=None):
    def commands(case, variant):
        if not python:
            return "PyTorch is not installed (bench/setup_peers.sh)"
        if programs and case.program not in programs:
            return ""
        return [python, os.path.join(HERE, "peers", case.program + ".py"), case.name, "--variant", variant]
    return commands


def output(command):
    """What a command prints; nothing where it is missing."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    except OSError:
        return ""


def commit(build):
    """Of the source tree, or the one that tests/gpu/carry.sh noted down."""
    found = output(["git", "-C", HERE, "describe", "--always", "--dirty"])
    noted = os.path.join(build, "libs", "commit")
    if not found and os.path.exists(noted):
        with open(noted) as file:
            found = file.read().strip()
    return found


def light_versions(build):
    """The commit, and which libraries the program really takes."""
    found = {}
    for program in sorted({case.program for case in CASES}):
        path = os.path.join(build, "bench", program)
        if os.access(path, os.X_OK):
            listed = output(["ldd", path])
            for name in ("openblas", "xsmm", "gomp", "omp"):
                match = re.search(rf"lib{name}\S*\.so\S* => (\S+)", listed)
                if match:
                    found[name] = os.path.basename(os.path.realpath(match.group(1)))
            break
    git = commit(build)
    return dict(found, commit=git) if git else found


def has_torch(python):
    return os.access(python, os.X_OK) and subprocess.run(
        [python, "-c", "import torch"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def measure(cases, sides, options):
    light, tuned, default, second = (sides[key] for key in ("light", "torch_tuned", "torch_default", "second"))
    for number in range(options.repeats):
        for case in cases:
            env = environment(options.threads, case.bind)
            if options.progress:
                print(f"\r\033[Kround {number + 1} of {options.repeats}: {case.name}", end="", file=sys.stderr,
                      flush=True)
            light.measure(case, "default", env, options)
            # The variants are tried under the tuned environment only; PyTorch as it comes then runs the best of them.
            for variant in case.variants if number == 0 else (tuned.fastest_variant(case),):
                tuned.measure(case, variant, env, options)
            if default:
                default.measure(case, tuned.fastest_variant(case), env, options)
            if second:
                for variant in case.variants if number == 0 else (second.fastest_variant(case),):
                    second.measure(case, variant, env, options)
    if options.progress:
        print("\r\033[K", end="", file=sys.stderr)


def seconds(value):
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 0.995:
            return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def shown(figure, record):
    """A median with its spread over the runs, in the unit that the figure is spoken of."""
    if record is None:
        return "-"
    median = record["median"]
    spread = (record["high"] - record["low"]) / 2 / median * 100 if median else 0
    if figure.startswith("loader"):
        text = f"{1e-3 / median:.0f} k/s"
    elif figure in ("ckpt_save", "ckpt_load", "ckpt_load_part") and record.get("bytes"):
        text = f"{record['bytes'] / median / 1e9:.2f} GB/s"
    else:
        text = seconds(median)
    return f"{text} ±{spread:.0f}%"


def overhead(records):
    """The Trainer's own cost per step: with it minus without it."""
    found = {}
    for name in ("trainer_barebones", "trainer_default"):
        loop, trainer = records.get("trainer_loop"), records.get(name)
        if loop and trainer:
            found["overhead_" + name[8:]] = {
                "variant": "default", "median": max(trainer["median"] - loop["median"], 0.0),
                "low": max(trainer["low"] - loop["high"], 0.0), "high": max(trainer["high"] - loop["low"], 0.0),
                "peak_rss_mb": trainer["peak_rss_mb"], "start_rss_mb": trainer["start_rss_mb"]}
    return found


def judge(row, speedup, limit):
    """The ratio to PyTorch at its best, the bar, and whether it was met."""
    ours = row["light"]
    theirs = min((row[key] for key in ("torch_tuned", "torch_default") if row[key]), key=lambda r: r["median"],
                 default=None)
    for name, other in (("ratio", theirs), ("ratio_second", row["second"])):
        row[name] = other["median"] / ours["median"] if ours and other and ours["median"] > 0 else None
    row["bar"], row["met"] = "", None
    if speedup:
        row["bar"] = f"{speedup:.1f}x"
        row["met"] = row["ratio"] >= speedup if row["ratio"] else None
    elif limit:
        row["bar"] = "<" + seconds(limit)
        row["met"] = ours["median"] <= limit if ours else None
    if ours and theirs:
        peak = min(row[key]["peak_rss_mb"] for key in ("torch_tuned", "torch_default") if row[key])
        net = min(row[key]["peak_rss_mb"] - row[key]["start_rss_mb"]
                  for key in ("torch_tuned", "torch_default") if row[key])
        row["torch_peak_mb"], row["torch_net_mb"] = peak, net
        row["memory_met"] = ours["peak_rss_mb"] <= peak
        row["net_memory_met"] = ours["peak_rss_mb"] - ours["start_rss_mb"] <= net


def rows(cases, sides):
    bars = {figure: (case.speedup, case.limit) for case in cases for figure in case.gives}
    bars.update(overhead_barebones=(None, 2e-6), overhead_default=(None, None))
    records = {key: {figure: side.best(figure) if side else None for figure in bars} for key, side in sides.items()}
    for found in records.values():
        found.update(overhead(found))
    table = []
    for figure, (speedup, limit) in bars.items():
        row = {"case": figure}
        row.update({key: records[key][figure] for key in sides})
        if any(row[key] for key in sides) or not figure.startswith("overhead"):
            judge(row, speedup, limit)
            table.append(row)
    return table


def print_table(table, sides):
    def memory(record, start):
        return f"{record['peak_rss_mb'] - (record['start_rss_mb'] if start else 0):.0f}" if record else "-"

    columns = [key for key in sides if sides[key]]
    lines = [["case", *(sides[key].name for key in columns), "variant", "ratio",
              *(["2nd"] if sides["second"] else []), "bar", "", "peak MB", "net MB"]]
    for row in table:
        ratios = [f"{row[name]:.2f}" if row[name] else "-"
                  for name in ("ratio", "ratio_second")[:2 if sides["second"] else 1]]
        pairs = [f"{memory(row['light'], net)} / {row[theirs]:.0f}" + ("" if row[met] else " MORE") if met in row
                 else f"{memory(row['light'], net)} / {memory(row['torch_tuned'], net)}"
                 for net, met, theirs in ((False, "memory_met", "torch_peak_mb"),
                                          (True, "net_memory_met", "torch_net_mb"))]
        lines.append([row["case"], *(shown(row["case"], row[key]) for key in columns),
                      row["torch_tuned"]["variant"] if row["torch_tuned"] else "-", *ratios,
                      row["bar"], {True: "met", False: "MISSED", None: ""}[row["met"]], *pairs])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.rjust(width) if column else cell.ljust(width)
                        for column, (cell, width) in enumerate(zip(line, widths))).rstrip())


def machine():
    model, memory = platform.machine(), 0
    with open("/proc/cpuinfo") as info:
        match = re.search(r"model name\s*:\s*(.*)", info.read())
        model = match.group(1).strip() if match else model
    with open("/proc/meminfo") as info:
        memory = int(info.readline().split()[1]) // 1024
    return {"cpu": model, "cores": cores(), "memory_mb": memory, "kernel": platform.release()}


def parse():
    groups = list(dict.fromkeys([c.group for c in CASES] + [c.name for c in CASES]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", metavar="A,B", help="cases or groups of them: " + ", ".join(groups))
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument("--quick", action="store_true", help="one round with few steps: rough figures")
    parser.add_argument("--steps", type=int, default=0, help="timed steps of every run (0: each case's own number)")
    parser.add_argument("--threads", type=int, default=cores(), help="OMP_NUM_THREADS of both sides (physical cores)")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that one process may take (900)")
    parser.add_argument("--no-default", action="store_true", help="leave out PyTorch as it comes")
    parser.add_argument("--build", default="build", help="build folder (build)")
    parser.add_argument("--second", default="/usr/bin/python3", metavar="PYTHON",
                        help="interpreter with a second torch to compare with, 'none' for none (/usr/bin/python3)")
    parser.add_argument("--python", default="", help="interpreter with the torch to compare with (BUILD/bench-venv's)")
    parser.add_argument("--save", action="store_true", help="keep the JSON in bench/results/DATE-CPU.json as well")
    options = parser.parse_args()
    wanted = [name for name in options.case.split(",") if name]
    for name in wanted:
        if name not in groups:
            parser.error(f"unknown case '{name}'; known: {', '.join(groups)}")
    options.cases = [c for c in CASES if not wanted or c.name in wanted or c.group in wanted]
    if options.quick:
        options.repeats = 1
    options.progress = sys.stderr.isatty()
    options.out = os.path.join(options.build, "bench")
    return options


def write(path, result):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print("written:", path)


def make_sides(options):
    python = options.python or os.path.join(options.build, "bench-venv", "bin", "python")
    python = python if has_torch(python) else None
    sides = {"light": Side("liblight", light_commands(options.build)),
             "torch_tuned": Side("torch tuned", torch_commands(python), TUNED),
             "torch_default": None if options.no_default else Side("torch default", torch_commands(python)),
             "second": None}
    if python != options.second and has_torch(options.second):
        sides["second"] = Side("second torch", torch_commands(options.second, ("ops", "train", "start")), TUNED)
    return sides


def print_missing(sides):
    for side in filter(None, sides.values()):
        reasons = {}
        for case, why in side.missing.items():
            reasons.setdefault(why, []).append(case)
        for why, cases in reasons.items():
            print(f"{side.name} lacks {', '.join(cases)}: {why}")


def main():
    options = parse()
    os.makedirs(options.out, exist_ok=True)
    load, begin = os.getloadavg()[0], time.time()
    sides = make_sides(options)
    try:
        measure(options.cases, sides, options)
    except KeyboardInterrupt:
        print("\nstopped: the table has what was measured so far", file=sys.stderr)
    table = rows(options.cases, sides)

    where = machine()
    print(f"{where['cpu']}, {options.threads} threads, {options.repeats} round(s), {time.time() - begin:.0f} s")
    versions = {key: side.versions() for key, side in sides.items() if side}
    versions["light"].update(light_versions(options.build))
    for key, found in versions.items():
        if found:
            print(f"{sides[key].name}: " + ", ".join(f"{name} {value}" for name, value in found.items()))
    print_table(table, sides)
    print("ratio: the faster of torch's two columns / liblight, above 1 liblight is faster; ±: half the range of the\n"
          "runs' medians; peak MB: liblight / torch; net MB: the same less what each weighed before its first tensor")
    print_missing(sides)
    if load > 0.3 * where["cores"]:
        print(f"the machine was busy when this began (load {load:.2f}): the figures are rough")
    when = datetime.datetime.now().isoformat(timespec="seconds")
    result = {"when": when, "machine": where, "threads": options.threads, "repeats": options.repeats,
              "quick": options.quick, "load": load, "tuned": TUNED, "versions": versions, "rows": table,
              "missing": {side.name: side.missing for side in sides.values() if side}}
    write(os.path.join(options.out, "latest.json"), result)
    if options.save:
        cpu = re.sub(r"[^A-Za-z0-9]+", "-", where["cpu"]).strip("-").lower()
        write(os.path.join(HERE, "results", f"{when[:10]}-{cpu}.json"), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
