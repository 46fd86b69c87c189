# SPDX-License-Identifier: Apache-2.0
"""Seconds per step of a trivial model (linear 32 -> 2 on a batch of 8, SGD), from one training_step to the next.

trainer_loop       a hand-written loop around the same training_step
trainer_barebones  Lightning's Trainer, barebones=True
trainer_default    Lightning's Trainer as it comes: progress bar (its output thrown away), logger, checkpoint callback
"""
import contextlib
import os
import tempfile
import time

import common
import torch
import torch.nn.functional as F

import quiet
import lightning


class Trivial(lightning.LightningModule):
    def __init__(self, steps):
        super().__init__()
        self.layer = torch.nn.Linear(32, 2)
        self.times = [0.0] * steps
        self.at = 0

    def training_step(self, batch, _):
        self.times[self.at] = time.perf_counter()
        self.at += 1
        return F.mse_loss(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def run_loop(module, batches):
    optim = module.configure_optimizers()
    for index, batch in enumerate(batches):
        optim.zero_grad()
        module.training_step(batch, index).backward()
        optim.step()


def run_trainer(module, batches, barebones):
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null, \
            contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        options = {"barebones": True} if barebones else {"default_root_dir": folder}
        quiet.trainer(max_epochs=1, **options).fit(module, batches)


def main():
    args = common.arguments(__doc__, ["trainer_loop", "trainer_barebones", "trainer_default"])
    steps = args.steps or 3000
    warmup = args.warmup if args.warmup >= 0 else 200
    torch.manual_seed(1)
    batches = quiet.Repeat((torch.randn(8, 32), torch.randn(8, 2)), warmup + steps + 1)
    module = Trivial(len(batches))
    if args.case == "trainer_loop":
        run_loop(module, batches)
    else:
        run_trainer(module, batches, args.case == "trainer_barebones")
    times = module.times[warmup:module.at]
    common.report(args.case, [b - a for a, b in zip(times, times[1:])],
                  versions=common.versions(lightning=lightning.__version__))


main()
