# SPDX-License-Identifier: Apache-2.0
"""The processes of a twin, which mpirun starts as it starts ours; gloo carries their messages."""
import os

import torch
import torch.distributed as dist


def join(folder):
    """This process's rank, and how many there are. The folder is one that all see, and new."""
    rank, size = (int(os.environ.get(f"OMPI_COMM_WORLD_{name}", default)) for name, default in (("RANK", 0), ("SIZE", 1)))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")   # all are on this host
    dist.init_process_group("gloo", init_method=f"file://{os.path.abspath(folder)}/rendezvous", rank=rank,
                            world_size=size)
    return rank, size


def slowest(samples):
    """Of each sample the largest over the processes."""
    values = torch.tensor(samples, dtype=torch.float64)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.tolist()
