#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""liblight beside PyTorch: values and gradients of every differentiable operation but dropout, and 200 training steps.

Both get the same numbers on the same device, rounded to the dtype; the yardstick is PyTorch in f64. An error counts
relative to the largest element, in units of the dtype's epsilon. It may be that of a few roundings of the dtype (each
result, and what is kept between forward and backward, is rounded once; CUDA's functions are within 4 ulp), plus those
of the longest sum: it is accumulated in f32, where the roundings of n terms come to about the root of n. A second run has
to give the same bits.

Training starts from equal weights with equal batches in f32. How far rounding takes two runs apart depends on the
model, so the measure is PyTorch itself: its own f32 run beside its f64 run. liblight's run may be 8 times as far from
the f64 run as PyTorch's has been up to that step (both err by the same order, the signs are chance), plus an epsilon a
step and those of one operation. Adam's eps is 1e-4 here: with less it divides gradients that are all rounding by
themselves.
"""
import argparse
import json
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import light as binding  # noqa: E402
from light import Conv, Dims, Pool, Sdpa, Shape  # noqa: E402

TORCH = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
EPS = {name: torch.finfo(dtype).eps for name, dtype in TORCH.items()}
ROUNDINGS = 6       # of the dtype, on the way to a result or a gradient


# ---- the operations ---------------------------------------------------------

class Case:
    """ours(light, *tensors) and theirs(*tensors) on `inputs`: a shape is normal numbers, ("positive", shape) numbers in
    [0.5, 2], ("apart", shape) numbers that differ from their neighbours and from 0, ("index", shape, high) whole ones.
    terms: the length of the longest sum."""

    def __init__(self, name, ours, theirs, *inputs, terms=1):
        self.name, self.ours, self.theirs, self.inputs, self.terms = name, ours, theirs, inputs, terms


def unary_cases():
    x = (33, 70)
    for name, theirs in (("neg", torch.neg), ("exp", torch.exp), ("square", torch.square), ("sin", torch.sin),
                         ("cos", torch.cos), ("tanh", torch.tanh), ("sigmoid", torch.sigmoid), ("gelu", F.gelu),
                         ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")), ("silu", F.silu),
                         ("softplus", F.softplus)):
        yield Case(name, lambda l, x, name=name: getattr(l, name)(x), theirs, x)
    for name, theirs in (("log_e", torch.log), ("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt),
                         ("reciprocal", torch.reciprocal)):
        yield Case(name, lambda l, x, name=name: getattr(l, name)(x), theirs, ("positive", x))
    for name, theirs in (("abs", torch.abs), ("relu", F.relu)):
        yield Case(name, lambda l, x, name=name: getattr(l, name)(x), theirs, ("apart", x))
    yield Case("leaky_relu", lambda l, x: l.leaky_relu(x, 0.125), lambda x: F.leaky_relu(x, 0.125), ("apart", x))
    yield Case("elu", lambda l, x: l.elu(x, 1.5), lambda x: F.elu(x, 1.5), ("apart", x))
    yield Case("clamp", lambda l, x: l.clamp(x, -1.03, 0.53), lambda x: x.clamp(-1.03, 0.53), ("apart", x))
    yield Case("add_scalar", lambda l, x: l.add_scalar(x, 0.5), lambda x: x + 0.5, x)
    yield Case("mul_scalar", lambda l, x: l.mul_scalar(x, -1.5), lambda x: x * -1.5, x)
    yield Case("relu_", lambda l, x: l.relu_(l.mul_scalar(x, 2.0)), lambda x: F.relu(x * 2), ("apart", x))
    yield Case("to_dtype", lambda l, x: l.mul_scalar(l.to_dtype(x, binding.DTYPES["f32"]), 2.0),
               lambda x: x.double() * 2, x)
    yield Case("pow_scalar", lambda l, x: l.pow_scalar(x, 1.5), lambda x: x ** 1.5, ("positive", x))


def binary_cases():
    for a, b in (((33, 70), (33, 70)), ((33, 70), (70,)), ((5, 1, 9), (7, 1))):
        terms = 33 * 70
        for name, theirs in (("add", torch.add), ("sub", torch.sub), ("mul", torch.mul)):
            yield Case(name, lambda l, a, b, name=name: getattr(l, name)(a, b), theirs, a, b, terms=terms)
        yield Case("div", lambda l, a, b: l.div(a, b), torch.div, a, ("positive", b), terms=terms)
        yield Case("pow", lambda l, a, b: l.pow(a, b), torch.pow, ("positive", a), b, terms=terms)
        yield Case("maximum", lambda l, a, b: l.maximum(a, b), torch.maximum, ("apart", a), b, terms=terms)
        yield Case("minimum", lambda l, a, b: l.minimum(a, b), torch.minimum, ("apart", a), b, terms=terms)
    x = (33, 70)
    yield Case("add_", lambda l, a, b: l.add_(l.mul_scalar(a, 2.0), b), lambda a, b: a * 2 + b, x, x)
    yield Case("where", lambda l, c, a, b: l.where(l.gt(c, a), a, b), lambda c, a, b: torch.where(c > a, a, b), x, x, x)
    yield Case("masked_fill", lambda l, x, c: l.masked_fill(x, l.gt(c, x), 2.0), lambda x, c: x.masked_fill(c > x, 2.0),
               x, x)


def reduce_cases():
    x = (17, 9, 300)
    for dims in ((), (2,), (0,), (0, 1)):
        terms, over = int(np.prod([x[d] for d in dims or (0, 1, 2)])), dims or (0, 1, 2)
        yield Case("sum", lambda l, x, d=dims: l.sum(x, Dims(*d), False), lambda x, d=over: x.sum(d), x, terms=terms)
        yield Case("mean", lambda l, x, d=dims: l.mean(x, Dims(*d), True), lambda x, d=over: x.mean(d, keepdim=True), x,
                   terms=terms)
        yield Case("var", lambda l, x, d=dims: l.var(x, Dims(*d), 1.0, False), lambda x, d=over: x.var(d), x,
                   terms=terms)
        yield Case("max", lambda l, x, d=dims: l.max(x, Dims(*d), False), lambda x, d=over: x.amax(d), x)
        yield Case("min", lambda l, x, d=dims: l.min(x, Dims(*d), False), lambda x, d=over: x.amin(d), x)
        yield Case("logsumexp", lambda l, x, d=dims: l.logsumexp(x, Dims(*d), False),
                   lambda x, d=over: x.logsumexp(d), x, terms=terms)
    for dim in (2, 0):
        yield Case("softmax", lambda l, x, d=dim: l.softmax(x, d), lambda x, d=dim: x.softmax(d), x, terms=300)
        yield Case("log_softmax", lambda l, x, d=dim: l.log_softmax(x, d), lambda x, d=dim: x.log_softmax(d), x,
                   terms=300)
        yield Case("cumsum", lambda l, x, d=dim: l.cumsum(x, d), lambda x, d=dim: x.cumsum(d), x, terms=300)
    yield Case("topk", lambda l, x: l.topk(x, 5, 2, None), lambda x: x.topk(5, 2).values, ("apart", (3, 4, 50)))


def product_cases():
    for a, b in (((64, 96), (96, 48)), ((3, 33, 17), (3, 17, 29)), ((2, 3, 16, 40), (40, 24)), ((40,), (40, 24))):
        yield Case("matmul", lambda l, a, b: l.matmul(a, b), torch.matmul, a, b, terms=200)
    yield Case("linear", lambda l, x, w, b: l.linear_op(x, w, b), F.linear, (5, 31, 72), (48, 72), (48,), terms=155)
    for t, s, d, causal in ((40, 40, 64, True), (40, 40, 64, False), (33, 50, 128, False), (7, 7, 20, True)):
        yield Case("scaled_dot_product_attention",
                   lambda l, q, k, v, c=causal: l.scaled_dot_product_attention(q, k, v, None, Sdpa(c, 0, 0)),
                   lambda q, k, v, c=causal: F.scaled_dot_product_attention(q, k, v, is_causal=c),
                   (2, 3, t, d), (2, 3, s, d), (2, 3, s, d), terms=4 * max(t, s, d))


def attention_with_mask():
    yield Case("scaled_dot_product_attention",
               lambda l, q, k, v, m: l.scaled_dot_product_attention(q, k, v, m, Sdpa(False, 0.25, 0)),
               lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, scale=0.25),
               (2, 3, 20, 24), (2, 3, 30, 24), (2, 3, 30, 24), (20, 30), terms=4 * 30)
    yield Case("scaled_dot_product_attention",
               lambda l, q, k, v: l.scaled_dot_product_attention(q, k, v, None, Sdpa(True, 0, 0)),
               lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
               (2, 4, 20, 32), (2, 2, 20, 32), (2, 2, 20, 32), terms=8 * 32)


def attention_that_cudnn_takes():
    """Lengths of more than one tile, even and not, heads that share keys, more keys than queries; gradients of the
    memory that q, k and v have in common."""
    for t, s, d, heads, causal in ((256, 256, 64, 2, True), (256, 256, 128, 4, False), (200, 200, 64, 4, True),
                                   (1024, 1024, 64, 4, True)):
        yield Case("scaled_dot_product_attention",
                   lambda l, q, k, v, c=causal: l.scaled_dot_product_attention(q, k, v, None, Sdpa(c, 0, 0)),
                   lambda q, k, v, c=causal: F.scaled_dot_product_attention(q, k, v, is_causal=c, enable_gqa=True),
                   (2, 4, t, d), (2, heads, s, d), (2, heads, s, d), terms=4 * s * 4 // heads)
    yield Case("scaled_dot_product_attention",
               lambda l, q, k, v: l.scaled_dot_product_attention(q, k, v, None, Sdpa(True, 0, 0)),
               lambda q, k, v: F.scaled_dot_product_attention(q, k, v, seen(q, k)),
               (2, 4, 100, 64), (2, 4, 228, 64), (2, 4, 228, 64), terms=4 * 228)
    yield Case("scaled_dot_product_attention",
               lambda l, x: l.scaled_dot_product_attention(
                   *(l.select(l.permute(x, Dims(2, 0, 3, 1, 4)), 0, i) for i in range(3)), None, Sdpa(True, 0, 0)),
               lambda x: F.scaled_dot_product_attention(*x.permute(2, 0, 3, 1, 4), is_causal=True),
               (2, 128, 3, 2, 64), terms=4 * 128)


def seen(q, k):
    """Query t sees the keys up to t + S - T."""
    t, s = q.shape[-2], k.shape[-2]
    return torch.ones(t, s, dtype=torch.bool, device=q.device).tril(s - t)


def image_cases():
    x, w = (2, 6, 14, 13), (8, 6, 3, 3)
    for how in (dict(padding=1), dict(stride=2, padding=1), dict(dilation=2)):
        yield Case("conv2d", lambda l, x, w, b, h=how: l.conv2d_op(x, w, b, Conv(**h)),
                   lambda x, w, b, h=how: F.conv2d(x, w, b, **h), x, w, (8,), terms=2 * 14 * 13)
    yield Case("conv2d", lambda l, x, w: l.conv2d_op(x, w, None, Conv(groups=6)), lambda x, w: F.conv2d(x, w, groups=6),
               x, (6, 1, 3, 3), terms=2 * 14 * 13)
    yield Case("conv_transpose2d",
               lambda l, x, w, b: l.conv_transpose2d_op(x, w, b, Conv(stride=2, padding=1, output_padding=1)),
               lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1), x, (6, 8, 3, 3), (8,), terms=2 * 28 * 26)
    x = (2, 3, 12, 17)
    yield Case("max_pool2d", lambda l, x: l.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), ("apart", x))
    yield Case("max_pool2d", lambda l, x: l.max_pool2d_with(x, Pool(3, 2, 1)), lambda x: F.max_pool2d(x, 3, 2, 1),
               ("apart", x), terms=9)
    yield Case("avg_pool2d", lambda l, x: l.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), x, terms=4)
    yield Case("avg_pool2d", lambda l, x: l.avg_pool2d_with(x, Pool(3, 2, 1)), lambda x: F.avg_pool2d(x, 3, 2, 1), x,
               terms=9)
    yield Case("adaptive_avg_pool2d", lambda l, x: l.adaptive_avg_pool2d(x, 5, 3),
               lambda x: F.adaptive_avg_pool2d(x, (5, 3)), x, terms=24)
    yield Case("adaptive_max_pool2d", lambda l, x: l.adaptive_max_pool2d(x, 5, 3),
               lambda x: F.adaptive_max_pool2d(x, (5, 3)), ("apart", x), terms=24)


def norm_cases():
    x = (37, 130)
    yield Case("layer_norm", lambda l, x, w, b: l.layer_norm_op(x, 1, w, b, 1e-5),
               lambda x, w, b: F.layer_norm(x, (130,), w, b), x, (130,), (130,), terms=130)
    yield Case("rms_norm", lambda l, x, w: l.rms_norm_op(x, 1, w, 1e-5), lambda x, w: F.rms_norm(x, (130,), w, 1e-5), x,
               (130,), terms=130)
    yield Case("group_norm", lambda l, x, w, b: l.group_norm_op(x, 3, w, b, 1e-5),
               lambda x, w, b: F.group_norm(x, 3, w, b), (4, 6, 5, 7), (6,), (6,), terms=140)
    yield Case("batch_norm", lambda l, x, w, b: l.batch_norm_op(x, w, b, None, None, True, 0.1, 1e-5),
               lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (6, 5, 4, 7), (5,), (5,), terms=168)
    for x in ((6, 4, 7, 16), (8, 14, 14, 64), (32, 1, 1, 40)):  # channels last in memory: cuDNN's, where it takes them
        yield Case("batch_norm",
                   lambda l, x, w, b: l.batch_norm_op(l.permute(x, Dims(0, 3, 1, 2)), w, b, None, None, True, 0.1, 1e-5),
                   lambda x, w, b: F.batch_norm(x.permute(0, 3, 1, 2), None, None, w, b, True), x, x[3:], x[3:],
                   terms=x[0] * x[1] * x[2])
    yield Case("embedding", lambda l, w, i: l.embedding_op(w, i, -1), lambda w, i: F.embedding(i, w), (30, 24),
               ("index", (4, 25), 30), terms=100)
    yield Case("rope", lambda l, x: l.rope(x, 3, 10000.0, False), rope, (2, 3, 9, 32), terms=2)


def rope(x):
    d = x.shape[-1]
    frequency = 10000 ** (-torch.arange(0, d, 2, dtype=torch.float64, device=x.device) / d)
    angle = torch.outer(torch.arange(3, 3 + x.shape[-2], dtype=torch.float64, device=x.device), frequency)
    a, b = x.double().chunk(2, -1)
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1).to(x.dtype)


def shape_cases():
    x = (4, 5, 6)
    yield Case("reshape", lambda l, x: l.reshape(x, Shape(20, -1)), lambda x: x.reshape(20, 6), x)
    yield Case("flatten", lambda l, x: l.flatten(x, 1), lambda x: x.flatten(1), x)
    yield Case("permute", lambda l, x: l.contiguous(l.permute(x, Dims(2, 0, 1))), lambda x: x.permute(2, 0, 1), x)
    yield Case("transpose", lambda l, x: l.contiguous(l.transpose(x, 0, 2)), lambda x: x.transpose(0, 2), x)
    yield Case("squeeze", lambda l, x: l.squeeze(x, 1), lambda x: x.squeeze(1), (4, 1, 6))
    yield Case("unsqueeze", lambda l, x: l.unsqueeze(x, 1), lambda x: x.unsqueeze(1), x)
    yield Case("expand", lambda l, x: l.contiguous(l.expand(x, Shape(4, 5, 6))), lambda x: x.expand(4, 5, 6), (4, 1, 6),
               terms=5)
    yield Case("select", lambda l, x: l.select(x, 1, 2), lambda x: x.select(1, 2), x)
    yield Case("slice", lambda l, x: l.slice(x, 2, 1, 6, 2), lambda x: x[:, :, 1:6:2], x)
    yield Case("cat", lambda l, *x: l.join("cat", x, 1), lambda *x: torch.cat(x, 1), x, (4, 2, 6))
    yield Case("stack", lambda l, *x: l.join("stack", x, 1), lambda *x: torch.stack(x, 1), x, x)
    yield Case("split", lambda l, x: l.split(x, 2, 1, 3)[2], lambda x: x.split(2, 1)[2], x)
    yield Case("pad", lambda l, x: l.pad(x, (1, 2, 0, 3), 0.5), lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), x)
    yield Case("gather", lambda l, x, i: l.gather(x, 1, i), lambda x, i: x.gather(1, i), x, ("index", (4, 9, 6), 5),
               terms=9)
    yield Case("index_select", lambda l, x, i: l.index_select(x, 1, i), lambda x, i: x.index_select(1, i), x,
               ("index", (9,), 5), terms=9)


def loss_cases():
    x, y = (23, 41), ("index", (23,), 41)
    terms = 23 * 41
    yield Case("cross_entropy", lambda l, x, y: l.loss("cross_entropy", x, y), F.cross_entropy, x, y, terms=terms)
    yield Case("cross_entropy", lambda l, x, y: l.loss("cross_entropy", x, y, label_smoothing=0.125, reduction=1),
               lambda x, y: F.cross_entropy(x, y, label_smoothing=0.125, reduction="sum"), x, y, terms=terms)
    yield Case("nll_loss", lambda l, x, y: l.loss("nll_loss", x, y), F.nll_loss, x, y, terms=terms)
    for name, theirs in (("mse_loss", F.mse_loss), ("l1_loss", F.l1_loss), ("huber_loss", F.huber_loss)):
        yield Case(name, lambda l, x, y, name=name: l.loss(name, x, y), theirs, x, x, terms=terms)
    yield Case("bce_with_logits", lambda l, x, y: l.loss("bce_with_logits", x, l.sigmoid(y)),
               lambda x, y: F.binary_cross_entropy_with_logits(x, torch.sigmoid(y)), x, x, terms=terms)
    yield Case("kl_div", lambda l, x, y: l.loss("kl_div", l.log_softmax(x, 1), l.softmax(y, 1)),
               lambda x, y: F.kl_div(x.log_softmax(1), y.softmax(1), reduction="none").mean(), x, x, terms=terms)


def cases():
    for family in (unary_cases, binary_cases, reduce_cases, product_cases, attention_with_mask,
                   attention_that_cudnn_takes, image_cases, norm_cases, shape_cases, loss_cases):
        yield from family()


# ---- comparing them -----------------------------------------------------------

def make(spec, random):
    kind, shape, *more = spec if isinstance(spec[0], str) else ("normal", spec)
    if kind == "index":
        return torch.from_numpy(random.integers(0, more[0], shape))
    if kind == "positive":
        return torch.from_numpy(random.uniform(0.5, 2, shape))
    if kind == "apart":     # odd multiples of 1/128, exact in bf16, none twice within 251 elements
        odd = np.arange(int(np.prod(shape))) * 97 % 251 * 2 - 251
        return torch.from_numpy((odd / 128).reshape(shape))
    return torch.from_numpy(random.standard_normal(shape))


def theirs_of(case, tensors, dtype, grad):
    """Value and gradients of PyTorch, in f64 arrays."""
    inputs = [t.to(dtype, copy=True).requires_grad_() if t.is_floating_point() else t for t in tensors]
    y = case.theirs(*inputs)
    y.backward(grad.to(dtype).reshape(y.shape))
    return [y.detach()] + [t.grad for t in inputs if t.is_floating_point()]


def ours_of(case, light, tensors, dtype, grad, likes):
    light.begin()
    inputs = [light.tensor(t.cpu().numpy(), dtype if t.is_floating_point() else "i64", t.is_floating_point())
              for t in tensors]
    kept = light.tensor(grad.cpu().numpy().reshape(likes[0].shape), dtype)
    try:
        y = case.ours(light, *inputs)
        found = [light.read(y, likes[0])]
        light.backward(y, kept)
        floating = [i for i, t in zip(inputs, tensors) if t.is_floating_point()]
        # No gradient (a condition has none) reads as zeros, on both sides.
        grads = [light.grad(i) for i in floating]
        return found + [light.read(g, like) if g else np.zeros_like(like) for g, like in zip(grads, likes[1:])]
    finally:
        for t in (*inputs, kept):
            light.free(t)


def error(found, wanted):
    """The largest difference, relative to the largest element; infinite where a number is missing."""
    scale = np.abs(wanted).max() if wanted.size else 0
    difference = np.abs(found - wanted).max() if wanted.size else 0
    return float(difference / scale) if scale and np.isfinite(difference) else float(difference)


def array(t):
    return None if t is None else t.detach().double().cpu().contiguous().numpy()


def compare(case, light, dtype, device, random):
    """error and bound in epsilons of the dtype, and which of value and gradients it was."""
    tensors = [make(spec, random) for spec in case.inputs]
    # As the dtype has them, so that all three start from the same numbers.
    tensors = [(t.to(TORCH[dtype]).double() if t.is_floating_point() else t).to(device) for t in tensors]
    with torch.no_grad():
        shape = case.theirs(*tensors).shape
    grad = torch.from_numpy(random.standard_normal(shape)).to(TORCH[dtype]).double().to(device)
    wanted = [array(t) for t in theirs_of(case, tensors, torch.float64, grad)]
    floating = [None] + [t for t in tensors if t.is_floating_point()]
    wanted = [np.zeros(tuple(t.shape)) if w is None else w for w, t in zip(wanted, floating)]
    found = ours_of(case, light, tensors, dtype, grad, wanted)
    for first, again in zip(found, ours_of(case, light, tensors, dtype, grad, wanted)):
        if not np.array_equal(first, again, equal_nan=True):
            raise RuntimeError("a second run gave other bits")
    bound = ROUNDINGS + case.terms ** 0.5 * EPS["f32"] / EPS[dtype]
    return [(part, error(f, w) / EPS[dtype], bound)
            for part, f, w in zip(["value"] + [f"gradient {i}" for i in range(len(found))], found, wanted)]


def compare_all(light, device, dtypes, only):
    rows = []
    for number, case in enumerate(cases()):
        if only and case.name not in only:
            continue
        for dtype in dtypes:
            row = {"case": case.name, "dtype": dtype, "shapes": str(case.inputs)}
            try:
                parts = compare(case, light, dtype, device, np.random.default_rng(number))
                part, worst, bound = max(parts, key=lambda p: p[1] / p[2])
                row.update(worst=part, error_eps=round(worst, 3), bound_eps=round(bound, 3), ok=worst <= bound)
            except (RuntimeError, AttributeError) as failure:
                row.update(ok=False, why=str(failure).splitlines()[0])
            rows.append(row)
            if not row["ok"]:
                print("FAILED " + ", ".join(f"{k} {v}" for k, v in row.items() if k != "ok"), flush=True)
    return rows


# ---- training -------------------------------------------------------------------

class Training:
    """A model twice: by our operations and by PyTorch's, over weights of the same names."""

    def __init__(self, name, shapes, batch, ours, theirs, optimizer, options):
        self.name, self.shapes, self.batch, self.ours, self.theirs = name, shapes, batch, ours, theirs
        self.optimizer, self.options = optimizer, options


def mlp():
    shapes = {"w1": (64, 32), "b1": (64,), "w2": (10, 64), "b2": (10,)}
    return Training("mlp", shapes, lambda r: (r.standard_normal((32, 32)), r.integers(0, 10, 32)),
                    lambda l, w, x: l.linear_op(l.relu(l.linear_op(x, w["w1"], w["b1"])), w["w2"], w["b2"]),
                    lambda w, x: F.linear(F.relu(F.linear(x, w["w1"], w["b1"])), w["w2"], w["b2"]),
                    "sgd", dict(lr=0.05, momentum=0.9))


def convnet():
    """That of examples/fashion_mnist, narrower and without its dropout."""
    shapes = {"c1": (8, 1, 3, 3), "b1": (8,), "c2": (16, 8, 3, 3), "b2": (16,), "w1": (32, 256), "b3": (32,),
              "w2": (10, 32), "b4": (10,)}

    def ours(l, w, x):
        for c, b in (("c1", "b1"), ("c2", "b2")):
            x = l.max_pool2d(l.relu(l.conv2d_op(x, w[c], w[b], Conv(padding=1))), 2)
        return l.linear_op(l.relu(l.linear_op(l.flatten(x, 1), w["w1"], w["b3"])), w["w2"], w["b4"])

    def theirs(w, x):
        for c, b in (("c1", "b1"), ("c2", "b2")):
            x = F.max_pool2d(F.relu(F.conv2d(x, w[c], w[b], padding=1)), 2)
        return F.linear(F.relu(F.linear(x.flatten(1), w["w1"], w["b3"])), w["w2"], w["b4"])

    return Training("convnet", shapes, lambda r: (r.standard_normal((16, 1, 16, 16)), r.integers(0, 10, 16)), ours,
                    theirs, "adamw", dict(lr=1e-3, eps=1e-4, weight_decay=1e-2))


def gpt():
    """One causal block of 2 heads, 32 wide, on 16 of 40 tokens, the head tied to the embedding."""
    C, H, T, V, B = 32, 2, 16, 40, 4
    shapes = {"wte": (V, C), "wpe": (T, C), "g1": (C,), "h1": (C,), "qkv": (3 * C, C), "qb": (3 * C,), "proj": (C, C),
              "pb": (C,), "g2": (C,), "h2": (C,), "fc": (4 * C, C), "fb": (4 * C,), "out": (C, 4 * C), "ob": (C,)}

    def ours(l, w, tokens):
        x = l.add(l.embedding_op(w["wte"], tokens, -1), w["wpe"])
        y = l.linear_op(l.layer_norm_op(x, 1, w["g1"], w["h1"], 1e-5), w["qkv"], w["qb"])
        y = l.permute(l.reshape(y, Shape(B, T, 3, H, C // H)), Dims(2, 0, 3, 1, 4))
        y = l.scaled_dot_product_attention(*(l.select(y, 0, i) for i in range(3)), None, Sdpa(True, 0, 0))
        y = l.reshape(l.permute(y, Dims(0, 2, 1, 3)), Shape(B, T, C))
        x = l.add(x, l.linear_op(y, w["proj"], w["pb"]))
        y = l.gelu_tanh(l.linear_op(l.layer_norm_op(x, 1, w["g2"], w["h2"], 1e-5), w["fc"], w["fb"]))
        x = l.add(x, l.linear_op(y, w["out"], w["ob"]))
        return l.reshape(l.linear_op(x, w["wte"], None), Shape(B * T, V))

    def theirs(w, tokens):
        x = F.embedding(tokens, w["wte"]) + w["wpe"]
        y = F.linear(F.layer_norm(x, (C,), w["g1"], w["h1"]), w["qkv"], w["qb"])
        q, k, v = y.view(B, T, 3, H, C // H).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).permute(0, 2, 1, 3).reshape(B, T, C)
        x = x + F.linear(y, w["proj"], w["pb"])
        y = F.gelu(F.linear(F.layer_norm(x, (C,), w["g2"], w["h2"]), w["fc"], w["fb"]), approximate="tanh")
        x = x + F.linear(y, w["out"], w["ob"])
        return F.linear(x, w["wte"]).reshape(B * T, V)

    def batch(random):
        tokens = random.integers(0, V, (B, T))
        return tokens, (tokens.ravel() * 7 + 3) % V     # what can be learnt

    return Training("gpt", shapes, batch, ours, theirs, "adamw",
                    dict(lr=1e-3, eps=1e-4, weight_decay=0.1))


def train_theirs(training, weights, batches, dtype, device):
    w = {name: torch.tensor(v, dtype=dtype, device=device, requires_grad=True) for name, v in weights.items()}
    kind = torch.optim.SGD if training.optimizer == "sgd" else torch.optim.AdamW
    optim = kind(w.values(), **training.options)
    losses = []
    for x, y in batches:
        x, y = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
        x = x.to(dtype) if x.is_floating_point() else x
        optim.zero_grad()
        loss = F.cross_entropy(training.theirs(w, x), y)
        loss.backward()
        optim.step()
        losses.append(loss.item())
    return np.array(losses)


def train_ours(training, weights, batches, light):
    model = binding.Model(light, weights, training.optimizer, **training.options)
    losses = []
    for x, y in batches:
        light.begin()
        x = light.tensor(x, "f32" if x.dtype.kind == "f" else "i64")
        y = light.tensor(y, "i64")
        loss = light.loss("cross_entropy", training.ours(light, model.weights, x), y)
        light.backward(loss)
        losses.append(light.item(loss))
        model.update()
        light.free(x)
        light.free(y)
    light.begin()
    model.free()
    return np.array(losses)


def train(training, light, device, steps):
    random = np.random.default_rng(7)
    weights = {name: random.standard_normal(shape).astype(np.float32).astype(np.float64) *
               (0.125 if len(shape) > 1 else 0.0) + (1.0 if name in ("g1", "g2") else 0.0)
               for name, shape in training.shapes.items()}
    kept = []
    for _ in range(8):
        x, y = training.batch(random)
        kept.append((x.astype(np.float32).astype(np.float64) if x.dtype.kind == "f" else x, y.astype(np.int64)))
    batches = [kept[i % len(kept)] for i in range(steps)]
    exact = train_theirs(training, weights, batches, torch.float64, device)
    theirs = np.abs(train_theirs(training, weights, batches, torch.float32, device) - exact)
    ours = np.abs(train_ours(training, weights, batches, light) - exact)
    bound = 8 * np.maximum.accumulate(theirs) + EPS["f32"] * np.abs(exact) * (ROUNDINGS + np.arange(steps))
    worst = int(np.argmax(ours / bound))
    return {"case": training.name, "steps": steps, "first_loss": round(float(exact[0]), 5),
            "last_loss": round(float(exact[-1]), 5), "ours_off": float(ours.max()), "torch_off": float(theirs.max()),
            "worst_step": worst,
            "share_of_bound": round(float(ours[worst] / bound[worst]), 3),
            # A measure that is itself far off, or a model that does not learn, would say nothing.
            "ok": bool((ours <= bound).all() and theirs.max() < 0.01 and
                       (steps < 2 * len(kept) or exact[-len(kept):].mean() < exact[:len(kept)].mean()))}


def train_all(light, device, steps):
    rows = []
    for training in (mlp(), convnet(), gpt()):
        begin = time.monotonic()
        try:
            row = train(training, light, device, steps)
        except RuntimeError as failure:
            row = {"case": training.name, "ok": False, "why": str(failure).splitlines()[0]}
        row["seconds"] = round(time.monotonic() - begin, 1)
        print(("ok     " if row["ok"] else "FAILED ") + ", ".join(f"{k} {v}" for k, v in row.items() if k != "ok"),
              flush=True)
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="folder with liblight.so (build)")
    parser.add_argument("--device", default="cuda", help="liblight's device; PyTorch has the same where it can (cuda)")
    parser.add_argument("--dtypes", default="f32,bf16,f16")
    parser.add_argument("--ops", default="", metavar="A,B", help="only these operations; 'none' for none")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each model; 0 for none (200)")
    parser.add_argument("--json", default="", help="where to write the result")
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if options.device.startswith("cuda") and torch.cuda.is_available() else "cpu")
    light = binding.Light(options.build, options.device)
    print(f"liblight on {light.name}, PyTorch {torch.__version__} on {device}", flush=True)
    rows = [] if options.ops == "none" else compare_all(light, device, options.dtypes.split(","),
                                                        [name for name in options.ops.split(",") if name])
    trained = train_all(light, device, options.steps) if options.steps else []
    failed = sum(not row["ok"] for row in rows + trained)
    print(f"{len(rows)} comparisons and {len(trained)} models, {failed} failed")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"device": light.name, "torch": torch.__version__, "torch_device": str(device),
                       "operations": rows, "training": trained}, file, indent=1)
    return 1 if failed or not rows + trained else 0


if __name__ == "__main__":
    sys.exit(main())
