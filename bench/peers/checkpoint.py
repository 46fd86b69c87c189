# SPDX-License-Identifier: Apache-2.0
"""Seconds to save and to load GPT-2 124M with its AdamW state (1.49 GB), page cache warm.

ckpt_save     until the file is durable: torch.save, then fsync (what an atomic save has to do)
ckpt_nosync   torch.save alone: the data may still be in the page cache
ckpt_blocked  how long training stands still: torch.save blocks until it returns
ckpt_load     torch.load and load_state_dict of both into a live model and optimizer
"""
import os
import time

import common
import torch

import models


def prepare():
    model = models.gpt2()
    optim = torch.optim.AdamW(model.parameters(), lr=1e-9)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optim.step()
    optim.zero_grad()
    return model, optim


def in_memory(optim):
    """A mapped file has not been read yet, and the optimizer takes its tensors as they are."""
    for values in optim.state.values():
        for name, value in values.items():
            if torch.is_tensor(value):
                values[name] = value.clone()


def main():
    args = common.arguments(__doc__, ["ckpt"], ("default", "mmap"))
    rounds = args.steps or 3
    warmup = args.warmup if args.warmup >= 0 else 1
    torch.manual_seed(1)
    model, optim = prepare()
    path = os.path.join(args.dir, f"twin-{os.getpid()}.pt")
    times = {"ckpt_save": [], "ckpt_nosync": [], "ckpt_load": []}
    size = 0
    try:
        for index in range(warmup + rounds):
            begin = time.perf_counter()
            with open(path, "wb") as file:
                torch.save({"model": model.state_dict(), "optimizer": optim.state_dict()}, file)
                file.flush()
                returned = time.perf_counter()
                os.fsync(file.fileno())
            durable = time.perf_counter()
            size = os.path.getsize(path)
            state = torch.load(path, mmap=args.variant == "mmap", weights_only=True)
            model.load_state_dict(state["model"])
            optim.load_state_dict(state["optimizer"])
            if args.variant == "mmap":
                in_memory(optim)
            del state
            loaded = time.perf_counter()
            os.unlink(path)
            if index >= warmup:
                times["ckpt_save"].append(durable - begin)
                times["ckpt_nosync"].append(returned - begin)
                times["ckpt_load"].append(loaded - durable)
    finally:
        if os.path.exists(path):
            os.unlink(path)
    times["ckpt_blocked"] = times["ckpt_nosync"]
    for case, samples in times.items():
        common.report(case, samples, args.variant, bytes=size)


main()
