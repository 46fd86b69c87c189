# SPDX-License-Identifier: Apache-2.0
"""Seconds per full training step (zero_grad, forward, loss, backward, optimizer) on one fixed random batch."""
import common
import torch
import torch.nn.functional as F

import models

# model, optimizer, batch shape, classes, warm-up steps, timed steps
CASES = {
    "mlp64":     (models.mlp,      "adam",  (64, 784),         10,    100, 500),
    "mlp1024":   (models.mlp,      "adam",  (1024, 784),       10,    20,  100),
    "lenet":     (models.lenet,    "adam",  (64, 1, 28, 28),   10,    50,  300),
    "resnet18":  (models.resnet18, "sgd",   (128, 3, 32, 32),  10,    2,   4),
    "chargpt":   (models.chargpt,  "adamw", (12, 256),         65,    2,   6),
    "gpt2_t64":  (models.gpt2,     "adamw", (4, 64),           50257, 2,   6),
    "gpt2_t256": (models.gpt2,     "adamw", (4, 256),          50257, 1,   4),
}
# optimizer implementation, and memory layout for images
VARIANTS = ("default", "foreach", "fused", "nhwc", "nhwc_fused", "compile")


def optimizer(name, parameters, variant):
    how = {}
    if variant.endswith("fused") or variant == "compile":
        how = {"fused": True}
    elif variant == "foreach":
        how = {"foreach": True}
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, **how)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=1e-3, **how)
    return torch.optim.AdamW(parameters, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, **how)


def main():
    args = common.arguments(__doc__, list(CASES), VARIANTS)
    build, optimizer_name, shape, classes, warmup, steps = CASES[args.case]
    warmup = args.warmup if args.warmup >= 0 else warmup
    steps = args.steps or steps
    torch.manual_seed(1)
    model = build()
    text = classes not in (10,)
    if text:
        x, y = torch.randint(classes, shape), torch.randint(classes, shape)
    else:
        x, y = torch.randn(shape), torch.randint(classes, shape[:1])
    if args.variant.startswith("nhwc"):
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optim = optimizer(optimizer_name, model.parameters(), args.variant)
    forward = torch.compile(model) if args.variant == "compile" else model
    losses = []

    def step():
        optim.zero_grad()
        loss = F.cross_entropy(forward(x).flatten(0, -2), y.flatten())
        loss.backward()
        optim.step()
        losses.append(loss.detach())

    samples = common.time_steps(step, warmup, steps)
    common.report(args.case, samples, args.variant, parameters=sum(p.numel() for p in model.parameters()),
                  first_loss=losses[0].item(), last_loss=losses[-1].item())


main()
