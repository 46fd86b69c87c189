# SPDX-License-Identifier: Apache-2.0
"""Cost of one operation on a tiny tensor with autograd on.

op_add_scalar  c = a + b, both 0-dimensional and requiring a gradient, forward only
op_add4        the same with 4 elements
op_chain       ten times x = x * w, x = x + b on scalars, then backward: seconds per operation
"""
import common
import torch


def main():
    args = common.arguments(__doc__, ["op_add_scalar", "op_add4", "op_chain"])
    steps = args.steps or 200
    warmup = args.warmup if args.warmup >= 0 else 20
    if args.case == "op_chain":
        x, w, b = (torch.tensor(v, requires_grad=True) for v in (1.0, 0.5, 0.25))

        def step():
            for _ in range(50):
                y = x
                for _ in range(10):
                    y = y * w
                    y = y + b
                y.backward()
                x.grad = w.grad = b.grad = None
        per_step = 50 * 20
    else:
        shape = () if args.case == "op_add_scalar" else (4,)
        a, b = (torch.rand(shape, requires_grad=True) for _ in range(2))

        def step():
            for _ in range(1000):
                a + b
        per_step = 1000
    common.report(args.case, [s / per_step for s in common.time_steps(step, warmup, steps)])


main()
