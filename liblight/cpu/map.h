/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise work on tensors of any strides and dtypes: the function sees plain arrays in the dtypes it wants.
 * Tensors that lie alike and have these dtypes are passed on as they are; others go through tiles on the stack. */
#ifndef LIGHT_CPU_MAP_H
#define LIGHT_CPU_MAP_H

#include "cpu/isa.h"
#include "tensor/tensor.h"

#define LIGHT_MAP_IN   4
#define LIGHT_MAP_TILE 512 /* most elements that a call sees when tiles are in use */

/* Computes n elements. `out` may be equal to one of the inputs. */
typedef void (*light_map_fn)(const void *context, const void *const *in, void *out, int64_t n);

typedef struct light_map {
    light_map_fn fn;
    const void *context;
    light_tensor *out;
    const light_tensor *in[LIGHT_MAP_IN]; /* of out's shape, maybe by zero strides */
    int n_in;
    light_dtype out_as, in_as[LIGHT_MAP_IN]; /* what fn reads and writes */
    bool accumulate;                         /* adds to out; out_as is f32, f64, i32 or i64 then */
} light_map;

void LIGHT_ISA(light_map_run)(const light_map *map);

/* n elements (at most LIGHT_MAP_TILE) of `size` bytes, `stride` elements apart, to or from an array without gaps. */
void LIGHT_ISA(light_gather)(void *to, const void *from, int64_t stride, int64_t n, size_t size);
void LIGHT_ISA(light_scatter)(void *to, const void *from, int64_t stride, int64_t n, size_t size);

/* The dtype that elements of `dtype` are computed in: f32 for 16-bit floats, i32 for small integers. */
static inline light_dtype light_compute_dtype(light_dtype dtype)
{
    switch (dtype) {
    case LIGHT_BF16:
    case LIGHT_F16: return LIGHT_F32;
    case LIGHT_U8:
    case LIGHT_BOOL: return LIGHT_I32;
    default: return dtype;
    }
}

#endif
