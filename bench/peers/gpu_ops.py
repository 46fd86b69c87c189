# SPDX-License-Identifier: Apache-2.0
"""Operations on a GPU, one at a time; a name ending in _grad is forward and backward.

kernels    bound by memory: on tensors of 256 MiB in f32 and bf16
norms      the same for batch norm
products   bf16: 8192^3, and those of GPT-2 124M with 32 rows of 1024 tokens
attention  bf16, 8 x 16 heads x 4096 tokens
"""
import sys

import common
import torch
import torch.nn.functional as F

import gpu

WIDTH, TOKENS, PARAMETERS = 1024, 50304, 124475904
PRODUCTS = {"8192": (8192, 8192, 8192), "qkv": (32768, 2304, 768), "proj": (32768, 768, 768),
            "fc": (32768, 3072, 768), "fcproj": (32768, 768, 3072), "head": (32768, TOKENS, 768)}


def rope(x, angles):
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def kernels(group, dtype, device, smoke):
    """name -> (function, inputs); made one at a time, for the memory's sake."""
    rows = 8 if smoke else 2**28 // (WIDTH * dtype.itemsize)
    tokens, samples = (50, 4) if smoke else (TOKENS, 8192)

    def randn(*shape):
        return torch.randn(shape, device=device, dtype=dtype)

    def indices(n, high):
        return torch.randint(high, (n,), device=device)

    def x():
        return randn(rows, WIDTH)

    def norm():
        return x(), randn(WIDTH), randn(WIDTH)

    def heads():
        angles = torch.outer(torch.arange(64.), 10000 ** (-torch.arange(0, 64, 2) / 64))
        return randn(rows * WIDTH // 4096, 64, 64), angles.to(device)

    def logits():
        return randn(samples, tokens), indices(samples, tokens)

    def table():
        return randn(tokens, WIDTH), indices(rows, tokens)

    def gelu(x):
        return F.gelu(x, approximate="tanh")

    def layer_norm(x, w, b):
        return F.layer_norm(x, (WIDTH,), w, b)

    def batch_norm(x, w, b):
        return F.batch_norm(x, None, None, w, b, True)

    def embedding(w, i):
        return F.embedding(i, w)

    if group == "norms":
        return {"batch_norm": (batch_norm, norm), "batch_norm_grad": (batch_norm, norm)}
    return {
        "copy": (torch.clone, lambda: (x(),)),
        "add": (torch.add, lambda: (x(), x())),
        "gelu": (gelu, lambda: (x(),)),
        "gelu_grad": (gelu, lambda: (x(),)),
        "layer_norm": (layer_norm, norm),
        "layer_norm_grad": (layer_norm, norm),
        "rms_norm": (lambda x, w, _: F.rms_norm(x, (WIDTH,), w, 1e-5), norm),
        "softmax": (lambda x: F.softmax(x, -1), lambda: (x(),)),
        "dropout": (lambda x: F.dropout(x, 0.1), lambda: (x(),)),
        "rope": (rope, heads),
        "sum_rows": (lambda x: x.sum(1), lambda: (x(),)),
        "sum_columns": (lambda x: x.sum(0), lambda: (x(),)),
        "cross_entropy_grad": (F.cross_entropy, logits),
        "embedding": (embedding, table),
        "embedding_grad": (embedding, table),
    }


def flat_step(name, device, smoke):
    p = torch.ones(1000 if smoke else PARAMETERS, device=device, requires_grad=True)
    p.grad = torch.ones_like(p)
    if name == "adamw":
        return torch.optim.AdamW([p], lr=3e-4, fused=True).step
    return lambda: torch.nn.utils.clip_grad_norm_([p], 1.0)


def measure(name, function, inputs, args, backward=False):
    """With no inputs `function` is the whole step."""
    warmup, steps = (1, 1) if args.smoke else (args.warmup if args.warmup >= 0 else 10, args.steps or 20)
    if inputs is None:
        gpu.report(name, gpu.time_steps(function, warmup, steps), args)
        return
    tensors = inputs()
    if args.variant == "compile":
        function = torch.compile(function, dynamic=False)
    if backward:
        for t in tensors:
            t.requires_grad_(t.is_floating_point())
        y = function(*tensors)
        grad = torch.randn_like(y) if y.dim() else None

    def step():
        y = function(*tensors)
        if backward:
            y.backward(grad)
            for t in tensors:
                t.grad = None

    with torch.set_grad_enabled(backward):
        gpu.report(name, gpu.time_steps(step, warmup, steps), args)


def cases(group, device, smoke):
    """name, function, inputs, backward"""
    if group in ("kernels", "norms"):
        for dtype, suffix in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
            for name, (function, inputs) in kernels(group, dtype, device, smoke).items():
                yield f"{name}_{suffix}", function, inputs, name.endswith("_grad")
        for name in ("adamw", "clip_grad_norm") if group == "kernels" else ():
            yield f"{name}_f32", flat_step(name, device, smoke), None, False
        return

    def randn(*shape):
        return torch.randn(shape, device=device, dtype=torch.bfloat16)

    if group == "products":
        for name, sizes in PRODUCTS.items():
            m, n, k = (32, 48, 16) if smoke else sizes
            yield f"product_{name}_bf16", F.linear, lambda m=m, n=n, k=k: (randn(m, k), randn(n, k)), False
        return
    for d in (64, 128):
        shape = (1, 2, 32, d) if smoke else (8, 16, 4096, d)
        for suffix in ("", "_causal", "_grad", "_causal_grad"):
            def attend(q, k, v, causal="causal" in suffix):
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            yield (f"attention_d{d}{suffix}_bf16", attend, lambda shape=shape: tuple(randn(*shape) for _ in range(3)),
                   suffix.endswith("_grad"))


def main():
    smoke = sys.argv[-1] == "--smoke"
    args = common.arguments(__doc__, ["kernels", "norms", "products", "attention"], ("eager", "compile"),
                            sys.argv[1:-1] if smoke else None)
    args.smoke = smoke
    failed = False
    for name, function, inputs, backward in cases(args.case, gpu.device(smoke), smoke):
        try:
            measure(name, function, inputs, args, backward)
        except RuntimeError as error:
            print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
            failed = True
    sys.exit(failed)


main()
