# SPDX-License-Identifier: Apache-2.0
"""bench/distributed.c's training with DistributedDataParallel over gloo, on as many processes as mpirun starts.

ddp       buckets of 2 MiB are summed while backward goes on
ddp_late  the same buckets are summed when backward is over

CASE_exposed is from the last gradient of this process until backward returns with those of all.
"""
import time

import common
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

import models
import ranks

BUCKET_MB = 2


def sum_late(buckets, bucket):
    """A communication hook that starts no sum before the last bucket is full."""
    mean = torch.futures.Future()
    buckets.append((bucket.buffer().div_(dist.get_world_size()), mean))
    if bucket.is_last():
        for buffer, future in buckets:
            work = dist.all_reduce(buffer, async_op=True).get_future()
            work.then(lambda done, future=future: future.set_result(done.value()[0]))
        buckets.clear()
    return mean


class Clock:
    """Notes when the first layer has its gradients, which are the last ones of a backward."""

    def __init__(self, layer):
        self.time = 0.0
        for parameter in layer.parameters():
            parameter.register_post_accumulate_grad_hook(self.note)

    def note(self, _):
        self.time = time.perf_counter()


def main():
    args = common.arguments(__doc__, ["ddp", "ddp_late"], ("fused", "foreach", "default"))
    steps, warmup = args.steps or 10, args.warmup if args.warmup >= 0 else 2
    rank, size = ranks.join(args.dir)
    torch.manual_seed(1)
    stack = models.stack()
    x, y = (torch.arange(64 * 768) % 64 * 0.01).view(64, 768), torch.arange(64) % 8
    model = DistributedDataParallel(stack, bucket_cap_mb=BUCKET_MB, gradient_as_bucket_view=True)
    if args.case == "ddp_late":
        model.register_comm_hook([], sum_late)
    clock = Clock(stack[0])
    how = {} if args.variant == "default" else {args.variant: True}
    optim = torch.optim.AdamW(stack.parameters(), lr=1e-4, **how)
    exposed = []

    def step():
        optim.zero_grad()
        F.cross_entropy(model(x), y).backward()
        exposed.append(time.perf_counter() - clock.time)
        optim.step()

    samples = common.time_steps(step, warmup, steps)
    dist.barrier()
    if rank == 0:
        common.report(args.case, samples, args.variant, parameters=sum(p.numel() for p in stack.parameters()),
                      ranks=size)
        common.report(args.case + "_exposed", exposed[warmup:], args.variant)
    dist.destroy_process_group()


main()
