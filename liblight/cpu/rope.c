/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary positions: pair i of position t turns by t base^(-2 i / d).
 * J. Su, Y. Lu, S. Pan, B. Wen, Y. Liu: RoFormer: Enhanced Transformer with Rotary Position Embedding. 2021. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

enum { PAIRS = 128 };

typedef struct rope {
    const light_tensor *x;
    light_tensor *y;
    int64_t rows, positions, width, offset; /* rows: at one position */
    bool interleaved, inverse, add;
} rope;

/* Where row `row` of position t begins, in elements: its number counts the dims before the last two. */
static int64_t row_offset(const light_tensor *t, int64_t row, int64_t position)
{
    int64_t offset = position * t->strides[t->ndim - 2];

    for (int d = t->ndim - 3; d >= 0; d--) {
        offset += row % t->shape[d] * t->strides[d];
        row /= t->shape[d];
    }
    return offset;
}

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/rope.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/rope.inc.h"

static light_status rotate(const light_kernel_args *args)
{
    const light_rope_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[0];
    rope r = {.x = x,
              .y = args->out[0],
              .positions = x->shape[x->ndim - 2],
              .width = x->shape[x->ndim - 1],
              .offset = attrs->offset,
              .interleaved = attrs->interleaved,
              .inverse = attrs->inverse,
              .add = args->accumulate};

    if (x->numel == 0) return LIGHT_OK;
    r.rows = x->numel / r.positions / r.width;
    if (x->dtype == LIGHT_F64)
        rope_f64(&r, attrs->base);
    else
        rope_f32(&r, attrs->base);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_rope_kernels)[] = {
    {LIGHT_KERNEL_ROPE, rotate},
    {LIGHT_KERNEL_COUNT, NULL},
};
