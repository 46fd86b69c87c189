/* SPDX-License-Identifier: Apache-2.0 */
/* softmax, log_softmax and their gradients along any dim. */
#include "cpu/convert.h"
#include "tensor/iterate.h"
#include "cpu/map.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

#define PIECE 2048
#define STRIP 64 /* lines that are worked on together */
#define LANES 32

typedef struct operand {
    char *data;
    light_dtype dtype;
    size_t size;
    int64_t stride; /* along the dim */
} operand;

typedef struct softmax_work {
    light_iter lines; /* all other dims: result, first and second input */
    operand y, a, b;  /* a: the argument, or the gradient; b: the result of the forward pass */
    int64_t n;        /* elements of a line */
    bool log, backward, accumulate, together;
} softmax_work;

#define T       float
#define T_DTYPE LIGHT_F32
#define NAME(x) x##_f32
#define EXP(x)  light_vec_exp_f32(x)
#define LOG(x)  logf((float)(x))
#include "cpu/softmax_real.inc.h"

#define T       double
#define T_DTYPE LIGHT_F64
#define NAME(x) x##_f64
#define EXP(x)  exp(x)
#define LOG(x)  log(x)
#include "cpu/softmax_real.inc.h"

static operand operand_of(const light_tensor *t, int dim)
{
    if (!t) return (operand){0};
    return (operand){t->data, (light_dtype)t->dtype, light_dtype_size((light_dtype)t->dtype),
                     t->ndim ? t->strides[dim] : 1};
}

static light_status run(const light_kernel_args *args, bool backward)
{
    const light_softmax_attrs *attrs = args->attrs;
    const light_tensor *y = args->out[0], *tensors[] = {y, args->in[0], args->in[1]};
    int dim = attrs->dim;
    if (y->numel == 0) return LIGHT_OK;
    softmax_work w = {.n = y->ndim ? y->shape[dim] : 1,
                      .y = operand_of(y, dim),
                      .a = operand_of(args->in[0], dim),
                      .b = operand_of(args->in[1], dim),
                      .log = attrs->log,
                      .backward = backward,
                      .accumulate = args->accumulate & 1};
    w.lines.operands = backward ? 3 : 2;
    for (int d = 0; d < y->ndim; d++)
        if (d != dim) light_iter_add(&w.lines, tensors, d);
    light_iter_close(&w.lines);
    light_iter_sort(&w.lines);
    light_iter_coalesce(&w.lines);
    w.together = w.lines.numel > 1 && w.y.stride > w.lines.strides[0][w.lines.ndim - 1];
    int64_t side = w.lines.shape[w.lines.ndim - 1], strips = w.together ? (side + STRIP - 1) / STRIP : side;
    int64_t items = w.lines.numel / side * strips;
    light_parallel(items, 8 * w.n * (w.together ? STRIP : 1), y->dtype == LIGHT_F64 ? lines_f64 : lines_f32,
                   &w);
    return LIGHT_OK;
}

static light_status softmax(const light_kernel_args *args)
{
    return run(args, false);
}

static light_status softmax_backward(const light_kernel_args *args)
{
    return run(args, true);
}

const light_cpu_kernel LIGHT_ISA(light_softmax_kernels)[] = {
    {LIGHT_KERNEL_SOFTMAX, softmax},
    {LIGHT_KERNEL_SOFTMAX_BACKWARD, softmax_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};
