/* SPDX-License-Identifier: Apache-2.0 */
/* What the templates that include real.inc.h share. */
#ifndef LIGHT_CPU_REAL_H
#define LIGHT_CPU_REAL_H

#include "tensor/kernels.h"

#include "cpu/convert.h"
#include "cpu/vec.h"

#include <math.h>
#include <string.h>

/* For loops with a reduction: inlined into a parallel region, gcc keeps their vector of sums in memory. */
#define KEEP_APART __attribute__((noinline))

/* light_dtype_size without a call, for inner loops. */
static inline int64_t light_element_size(int dtype)
{
    static const int8_t sizes[] = {0,
#define X(code, text, bytes, floating) bytes,
                                   LIGHT_DTYPE_MAP(X)
#undef X
    };
    return sizes[dtype];
}

/* Elements along the last dim that are evenly apart: where they begin in memory, in elements, and how far they are
 * apart. */
typedef struct light_run_of_elements {
    int64_t n, offset, stride;
} light_run_of_elements;

/* The run that begins at element `first` of t, in row-major order, with at most `most` elements. */
static inline light_run_of_elements light_run_at(const light_tensor *t, int64_t first, int64_t most)
{
    light_run_of_elements run = {.n = 1, .offset = 0, .stride = 0};

    for (int d = t->ndim - 1; d >= 0; d--) {
        int64_t at = first % t->shape[d];
        if (d == t->ndim - 1) {
            run.stride = t->strides[d];
            run.n = t->shape[d] - at < most ? t->shape[d] - at : most;
        }
        first /= t->shape[d];
        run.offset += at * t->strides[d];
    }
    return run;
}

#endif
