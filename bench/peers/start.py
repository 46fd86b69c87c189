# SPDX-License-Identifier: Apache-2.0
"""Seconds from process start to the end of the first training step (MLP, batch 64, Adam).

The driver puts the monotonic clock's reading at the spawn into LIGHT_BENCH_T0 (nanoseconds); without it the
kernel's record of the process's start is used (10 ms steps).

start          a hand-written loop
start_trainer  through Lightning's Trainer
"""
import os
import time


def since_start():
    if "LIGHT_BENCH_T0" in os.environ:
        return (time.monotonic_ns() - int(os.environ["LIGHT_BENCH_T0"])) / 1e9
    with open("/proc/self/stat") as stat:
        ticks = int(stat.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


import common  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import models  # noqa: E402


def loop(x, y):
    model = models.mlp()
    optim = torch.optim.Adam(model.parameters(), lr=1e-3)
    optim.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optim.step()
    return since_start()


def with_trainer(x, y):
    import quiet
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = models.mlp()

        def training_step(self, batch, _):
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def on_train_batch_end(self, *_):
            self.done = since_start()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    module = Module()
    quiet.trainer(barebones=True, max_steps=1).fit(module, quiet.Repeat((x, y), 1))
    return module.done


def main():
    args = common.arguments(__doc__, ["start", "start_trainer"])
    torch.manual_seed(1)
    x, y = torch.randn(64, 784), torch.randint(10, (64,))
    seconds = (with_trainer if args.case == "start_trainer" else loop)(x, y)
    common.report(args.case, [seconds])


main()
