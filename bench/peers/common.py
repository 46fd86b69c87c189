# SPDX-License-Identifier: Apache-2.0
"""What every twin shares: reading the command line, timing steps, the one JSON line per figure."""
import argparse
import json
import os
import platform
import re
import statistics
import sys
import time


def memory_mb(field):
    """A field of /proc/self/status in MB. VmHWM, not ru_maxrss: the latter also counts the process before exec."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


import torch  # noqa: E402

START_RSS_MB = memory_mb("VmRSS")   # what the import alone costs: a CUDA build of torch is heavy before it computes

if os.environ.get("LIGHT_BENCH_TUNED"):
    torch.set_flush_denormal(True)


def versions(**more):
    config = torch.__config__.show()
    found = {"python": platform.python_version(), "torch": torch.__version__,
             "threads": torch.get_num_threads()}
    for name, pattern in (("mkl", r"Math Kernel Library Version (\S+)"), ("onednn", r"MKL-DNN v(\S+)"),
                          ("blas", r"BLAS_INFO=(\w+)")):
        match = re.search(pattern, config)
        if match:
            found[name] = match.group(1)
    found.update(more)
    return found


def arguments(description, cases, variants=("default",), words=None):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("case", nargs="?" if len(cases) == 1 else None, choices=cases, default=cases[0])
    parser.add_argument("--variant", default=variants[0], choices=variants)
    parser.add_argument("--steps", type=int, default=0, help="timed steps (0: the case's own number)")
    parser.add_argument("--warmup", type=int, default=-1, help="steps before timing starts (-1: the case's own number)")
    parser.add_argument("--dir", default=".", help="folder for files that a case writes")
    return parser.parse_args(words)


def report(case, samples, variant="default", **more):
    """Prints the line. samples are seconds per step (or per operation, per sample, per save)."""
    line = {"case": case, "side": "torch", "variant": variant, "median": statistics.median(samples),
            "min": min(samples), "max": max(samples), "samples": [float(f"{s:.4g}") for s in samples],
            "peak_rss_mb": round(memory_mb("VmHWM"), 1), "start_rss_mb": round(START_RSS_MB, 1)}
    line.update(more)
    line.setdefault("versions", versions())
    print(json.dumps(line))
    sys.stdout.flush()


def time_steps(step, warmup, steps):
    """Seconds of each of `steps` calls, after `warmup` calls that do not count."""
    for _ in range(warmup):
        step()
    samples = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        samples.append(time.perf_counter() - begin)
    return samples
