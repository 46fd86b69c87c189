# SPDX-License-Identifier: Apache-2.0
"""What the twins on a GPU share: the device, and times that begin and end with the device at rest."""
import sys
import time

import common
import torch

SPANS = 5       # samples of a case; each is the mean of many steps


def device(smoke):
    """The GPU; --smoke tries the cases in small, also on the CPU, and gives no figures."""
    if not torch.cuda.is_available() and not smoke:
        sys.exit("PyTorch finds no GPU here (torch.cuda.is_available())")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def versions(**more):
    return {"torch": torch.__version__, "cuda": torch.version.cuda or "none",
            "cudnn": str(torch.backends.cudnn.version() or "none"), **more}


def report(case, samples, args, **more):
    if args.smoke:
        print(f'{{"case": "{case}", "side": "torch", "smoke": true}}', flush=True)
        return
    more["step_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    common.report(case, samples, args.variant, versions=versions(), **more)


def time_steps(step, warmup, steps):
    for _ in range(warmup):
        step()
    samples = []
    for _ in range(SPANS):
        synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize()
        samples.append((time.perf_counter() - begin) / steps)
    return samples
