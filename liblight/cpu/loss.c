/* SPDX-License-Identifier: Apache-2.0 */
/* Losses: cross entropy over rows of classes, and those that work element by element. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

#include <light/ops.h>

#include <stdatomic.h>

/* Partial sums are kept per chunk; their number depends on the shape only. */
enum { BLOCK = 512, CHUNKS = 64 };

static inline int64_t block_length(int64_t left)
{
    return left < BLOCK ? left : BLOCK;
}

typedef struct class_rows {
    const light_tensor *x, *target;
    const void *weight;
    int64_t rows, classes, stride;
    const light_cross_entropy_attrs *attrs;
} class_rows;

static inline const char *scores_at(const class_rows *c, int64_t row, int64_t i)
{
    return c->x->data + (row * c->stride + i) * light_element_size(c->x->dtype);
}

static inline int64_t target_at(const light_tensor *target, int64_t row)
{
    switch (target->dtype) {
    case LIGHT_I64: return ((const int64_t *)target->data)[row];
    case LIGHT_I32: return ((const int32_t *)target->data)[row];
    default: return ((const uint8_t *)target->data)[row];
    }
}

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/loss_rows.inc.h"
#include "cpu/loss_elements.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/loss_rows.inc.h"
#include "cpu/loss_elements.inc.h"

static class_rows rows_of(const light_tensor *x, const light_tensor *target, const light_tensor *weight,
                          const light_cross_entropy_attrs *attrs)
{
    return (class_rows){.x = x,
                        .target = target,
                        .weight = weight ? weight->data : NULL,
                        .rows = x->shape[0],
                        .classes = x->shape[1],
                        .stride = x->strides[0],
                        .attrs = attrs};
}

static light_status check_targets(const class_rows *c)
{
    for (int64_t row = 0; row < c->rows; row++) {
        int64_t y = target_at(c->target, row);
        if (y != c->attrs->ignore_index && (y < 0 || y >= c->classes))
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "the target of row %lld is %lld; there are %lld classes, 0 to %lld",
                              (long long)row, (long long)y, (long long)c->classes, (long long)c->classes - 1);
    }
    return LIGHT_OK;
}

static light_status cross_entropy(const light_kernel_args *args)
{
    class_rows c = rows_of(args->in[0], args->in[1], args->in[2], args->attrs);

    LIGHT_TRY(check_targets(&c));
    if (c.x->dtype == LIGHT_F64)
        class_loss_f64(&c, args->out[0], (double *)args->out[1]->data, (double *)args->out[2]->data);
    else
        class_loss_f32(&c, args->out[0], (float *)args->out[1]->data, (float *)args->out[2]->data);
    return LIGHT_OK;
}

static light_status cross_entropy_backward(const light_kernel_args *args)
{
    class_rows c = rows_of(args->in[1], args->in[2], args->in[3], args->attrs);
    const void *lse = args->in[4]->data, *total = args->in[5]->data;

    if (c.x->dtype == LIGHT_F64)
        cross_entropy_backward_f64(&c, args->in[0], lse, *(const double *)total, args->out[0],
                                   args->accumulate);
    else
        cross_entropy_backward_f32(&c, args->in[0], lse, *(const float *)total, args->out[0],
                                   args->accumulate);
    return LIGHT_OK;
}

static light_status nll(const light_kernel_args *args)
{
    class_rows c = rows_of(args->in[0], args->in[1], args->in[2], args->attrs);

    LIGHT_TRY(check_targets(&c));
    if (c.x->dtype == LIGHT_F64)
        class_loss_f64(&c, args->out[0], NULL, (double *)args->out[1]->data);
    else
        class_loss_f32(&c, args->out[0], NULL, (float *)args->out[1]->data);
    return LIGHT_OK;
}

static light_status nll_backward(const light_kernel_args *args)
{
    class_rows c = rows_of(args->out[0], args->in[1], args->in[2], args->attrs);
    const void *total = args->in[3]->data;

    if (c.x->dtype == LIGHT_F64)
        nll_backward_f64(&c, args->in[0], *(const double *)total, args->out[0], args->accumulate);
    else
        nll_backward_f32(&c, args->in[0], *(const float *)total, args->out[0], args->accumulate);
    return LIGHT_OK;
}

static light_status loss(const light_kernel_args *args)
{
    if (args->in[0]->dtype == LIGHT_F64)
        loss_f64(args);
    else
        loss_f32(args);
    return LIGHT_OK;
}

static light_status loss_backward(const light_kernel_args *args)
{
    if (args->in[1]->dtype == LIGHT_F64)
        loss_backward_f64(args);
    else
        loss_backward_f32(args);
    return LIGHT_OK;
}

static light_status accuracy(const light_kernel_args *args)
{
    class_rows c = rows_of(args->in[0], args->in[1], NULL, NULL);
    int64_t hits = c.x->dtype == LIGHT_F64 ? count_hits_f64(&c) : count_hits_f32(&c);

    *(float *)args->out[0]->data = (float)((double)hits / (double)c.rows);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_loss_kernels)[] = {
    {LIGHT_KERNEL_CROSS_ENTROPY, cross_entropy},
    {LIGHT_KERNEL_CROSS_ENTROPY_BACKWARD, cross_entropy_backward},
    {LIGHT_KERNEL_NLL, nll},
    {LIGHT_KERNEL_NLL_BACKWARD, nll_backward},
    {LIGHT_KERNEL_LOSS, loss},
    {LIGHT_KERNEL_LOSS_BACKWARD, loss_backward},
    {LIGHT_KERNEL_ACCURACY, accuracy},
    {LIGHT_KERNEL_COUNT, NULL},
};
