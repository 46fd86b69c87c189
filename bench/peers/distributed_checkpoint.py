# SPDX-License-Identifier: Apache-2.0
"""bench/distributed_checkpoint.c's state through torch.distributed.checkpoint: every tensor is cut into an equal part for
each process (a DTensor). Page cache warm; each figure is that of the slowest process.

ckpt_save         save(), which syncs each process's file, and the metadata before it renames that
ckpt_async_save   async_save() until its future is done, the same files
ckpt_blocked      async_save() until it returns; its stager keeps its memory from save to save
ckpt_load         load() into the live parts
"""
import os
import time
import warnings

import common
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import models
import ranks

warnings.filterwarnings("ignore")


def make_state(mesh):
    """Values and both of AdamW's moments, with names like those of a model and its optimizer."""
    torch.manual_seed(1)
    return {f"{kind}.{name}": distribute_tensor(torch.randn(parameter.shape), mesh, [Shard(0)])
            for kind in ("model", "optim.exp_avg", "optim.exp_avg_sq")
            for name, parameter in models.stack().named_parameters()}


def timed(call):
    dist.barrier()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main():
    args = common.arguments(__doc__, ["ckpt"])
    rounds, warmup = args.steps or 5, args.warmup if args.warmup >= 0 else 1
    rank, size = ranks.join(args.dir)
    state = make_state(init_device_mesh("cpu", (size,)))
    stager = DefaultStager(StagingOptions(use_pinned_memory=False, use_shared_memory=False, use_async_staging=False,
                                          use_non_blocking_copy=False))
    times = {"ckpt_save": [], "ckpt_async_save": [], "ckpt_blocked": [], "ckpt_load": []}

    def save_in_background(path):
        begin = time.perf_counter()
        future = dcp.async_save(state, checkpoint_id=path, async_stager=stager)
        times["ckpt_blocked"].append(time.perf_counter() - begin)
        future.result()

    for index in range(warmup + rounds):
        path = os.path.join(args.dir, f"round{index}")
        times["ckpt_save"].append(timed(lambda: dcp.save(state, checkpoint_id=path)))
        times["ckpt_async_save"].append(timed(lambda: save_in_background(path + "-async")))
    for index in range(warmup + rounds):
        path = os.path.join(args.dir, f"round{index}")
        times["ckpt_load"].append(timed(lambda: dcp.load(state, checkpoint_id=path)))
    stager.close()
    bytes_of_all = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    for case, samples in times.items():
        samples = ranks.slowest(samples[warmup:])
        if rank == 0:
            common.report(case, samples, bytes=bytes_of_all)
    dist.destroy_process_group()


main()
