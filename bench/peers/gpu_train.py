# SPDX-License-Identifier: Apache-2.0
"""Seconds per training step on a GPU: bf16 autocast, fused optimizers, channels_last images, one batch that stays on
the device. The variant lightning is its Trainer, barebones, with the same settings."""
import contextlib
import os
import sys
import time

import common
import torch
import torch.nn.functional as F

import gpu
import models

# model, optimizer, batch, shape of an image (None: text), classes or tokens, warm-up steps, timed steps
CASES = {
    "gpt2_124m_b16":    (models.gpt2_124m, "adamw", 16,  None,          50304, 5,  10),
    "gpt2_124m_b32":    (models.gpt2_124m, "adamw", 32,  None,          50304, 5,  10),
    "gpt2_124m_b64":    (models.gpt2_124m, "adamw", 64,  None,          50304, 5,  5),
    "gpt2_350m_b16":    (models.gpt2_350m, "adamw", 16,  None,          50304, 5,  5),
    "resnet50_b128":    (models.resnet50,  "sgd",   128, (3, 224, 224), 1000,  5,  10),
    "mlp64_gpu":        (models.mlp,       "adam",  64,  (784,),        10,    50, 500),
    "mlp64_gpu_graphs": (models.mlp,       "adam",  64,  (784,),        10,    50, 500),
}
CONTEXT = 1024


def make_optimizer(name, parameters):
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-5, fused=True)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=1e-3, fused=True)
    return torch.optim.AdamW(parameters, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def make_batch(kind, device, smoke):
    _, _, batch, shape, classes, _, _ = kind
    batch = 2 if smoke else batch
    if shape is None:
        shape = (batch, 8 if smoke else CONTEXT)
        return torch.randint(classes, shape, device=device), torch.randint(classes, shape, device=device)
    x = torch.randn((batch, *shape), device=device)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, torch.randint(classes, (batch,), device=device)


def by_hand(model, kind, batch, args, warmup, steps):
    x, y = batch
    optim = make_optimizer(kind[1], model.parameters())
    forward = model
    if args.variant == "compile":
        # The case with graphs has CUDA graphs here too.
        forward = torch.compile(model, mode="reduce-overhead" if args.case.endswith("_graphs") else None)

    def step():
        optim.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16):
            loss = F.cross_entropy(forward(x).flatten(0, -2), y.flatten())
        loss.backward()
        optim.step()

    return gpu.time_steps(step, warmup, steps)


def by_lightning(model, kind, batch, warmup, steps):
    import quiet
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.count, self.begin, self.samples = model, 0, 0.0, []

        def training_step(self, _batch, _):
            return F.cross_entropy(self.net(batch[0]).flatten(0, -2), batch[1].flatten())

        def on_train_batch_end(self, *_):
            self.count += 1
            if self.count >= warmup and (self.count - warmup) % steps == 0:
                gpu.synchronize()
                if self.count > warmup:
                    self.samples.append((time.perf_counter() - self.begin) / steps)
                self.begin = time.perf_counter()

        def configure_optimizers(self):
            return make_optimizer(kind[1], self.parameters())

    module = Module()
    batches = quiet.Repeat(torch.zeros(1), warmup + gpu.SPANS * steps)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        quiet.trainer(accelerator=batch[0].device.type if batch[0].is_cuda else "cpu", devices=1, max_epochs=1,
                      barebones=True, precision="bf16-mixed").fit(module, batches)
    return module.samples


def main():
    smoke = sys.argv[-1] == "--smoke"
    args = common.arguments(__doc__, list(CASES), ("eager", "compile", "lightning"), sys.argv[1:-1] if smoke else None)
    args.smoke = smoke
    kind = CASES[args.case]
    warmup, steps = (1, 1) if smoke else (args.warmup if args.warmup >= 0 else kind[5], args.steps or kind[6])
    device = gpu.device(smoke)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    model = kind[0]().to(device)
    if kind[3] and len(kind[3]) == 3:
        model = model.to(memory_format=torch.channels_last)
    batch = make_batch(kind, device, smoke)
    if args.variant == "lightning":
        samples = by_lightning(model, kind, batch, warmup, steps)
    else:
        samples = by_hand(model, kind, batch, args, warmup, steps)
    gpu.report(args.case, samples, args)


main()
