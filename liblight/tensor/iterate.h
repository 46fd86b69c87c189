/* SPDX-License-Identifier: Apache-2.0 */
/* Walking several strided tensors of one shape together, in as few dims as they allow. */
#ifndef LIGHT_TENSOR_ITERATE_H
#define LIGHT_TENSOR_ITERATE_H

#include "tensor/tensor.h"

#include <string.h>

#define LIGHT_ITER_MAX 5

/* Dims stand from the slowest to the fastest; there is at least one. Strides in elements. */
typedef struct light_iter {
    int ndim, operands;
    int64_t numel;
    int64_t shape[LIGHT_MAX_DIMS];
    int64_t strides[LIGHT_ITER_MAX][LIGHT_MAX_DIMS];
} light_iter;

/* Whether dim a of the iteration has to stand before dim b: larger steps first, operand 0 decides before the others. */
static inline bool light_iter_before(const light_iter *it, int a, int b)
{
    for (int k = 0; k < it->operands; k++) {
        int64_t x = it->strides[k][a], y = it->strides[k][b];
        if (x != 0 && y != 0 && x != y) return x > y;
    }
    return false;
}

static inline void light_iter_swap(light_iter *it, int a, int b)
{
    int64_t size = it->shape[a];
    it->shape[a] = it->shape[b];
    it->shape[b] = size;
    for (int k = 0; k < it->operands; k++) {
        int64_t stride = it->strides[k][a];
        it->strides[k][a] = it->strides[k][b];
        it->strides[k][b] = stride;
    }
}

/* Puts the dims in an order that suits memory. */
static inline void light_iter_sort(light_iter *it)
{
    for (int i = 1; i < it->ndim; i++)
        for (int j = i; j > 0 && light_iter_before(it, j, j - 1); j--) light_iter_swap(it, j, j - 1);
}

/* Joins neighbouring dims that all operands walk through in one go. */
static inline void light_iter_coalesce(light_iter *it)
{
    int last = 0;
    for (int d = 1; d < it->ndim; d++) {
        bool join = true;
        for (int k = 0; k < it->operands; k++)
            join &= it->strides[k][last] == it->strides[k][d] * it->shape[d];
        if (join) {
            it->shape[last] *= it->shape[d];
        } else {
            it->shape[++last] = it->shape[d];
        }
        for (int k = 0; k < it->operands; k++) it->strides[k][last] = it->strides[k][d];
    }
    it->ndim = last + 1;
}

/* Adds a dim unless its size is 1. */
static inline void light_iter_add(light_iter *it, const light_tensor *const *operands, int dim)
{
    int64_t size = operands[0]->shape[dim];
    if (size == 1) return;
    it->shape[it->ndim] = size;
    for (int k = 0; k < it->operands; k++) it->strides[k][it->ndim] = operands[k]->strides[dim];
    it->ndim++;
}

/* A walk without dims is one of a single element. */
static inline void light_iter_close(light_iter *it)
{
    it->numel = 1;
    for (int d = 0; d < it->ndim; d++) it->numel *= it->shape[d];
    if (it->ndim) return;
    it->ndim = 1;
    it->shape[0] = 1;
    for (int k = 0; k < it->operands; k++) it->strides[k][0] = 1;
}

/* All dims of tensors of equal shape, in the memory order of the first. */
static inline void light_iter_init(light_iter *it, const light_tensor *const *operands, int n)
{
    it->ndim = 0;
    it->operands = n;
    for (int d = 0; d < operands[0]->ndim; d++) light_iter_add(it, operands, d);
    light_iter_close(it);
    light_iter_sort(it);
    light_iter_coalesce(it);
}

/* The position of an element (of a walk with elements): one index per dim, and where each operand stands. */
typedef struct light_cursor {
    int64_t index[LIGHT_MAX_DIMS];
    int64_t offset[LIGHT_ITER_MAX];
} light_cursor;

static inline void light_cursor_at(const light_iter *it, light_cursor *c, int64_t linear)
{
    memset(c->offset, 0, sizeof c->offset);
    if (it->numel == 0) return;
    for (int d = it->ndim - 1; d >= 0; d--) {
        c->index[d] = linear % it->shape[d];
        linear /= it->shape[d];
        for (int k = 0; k < it->operands; k++) c->offset[k] += c->index[d] * it->strides[k][d];
    }
}

/* Elements up to the end of the fastest dim. */
static inline int64_t light_cursor_run(const light_iter *it, const light_cursor *c)
{
    return it->shape[it->ndim - 1] - c->index[it->ndim - 1];
}

/* Goes on by n elements, n at most light_cursor_run(). */
static inline void light_cursor_advance(const light_iter *it, light_cursor *c, int64_t n)
{
    int d = it->ndim - 1;
    c->index[d] += n;
    for (int k = 0; k < it->operands; k++) c->offset[k] += n * it->strides[k][d];
    while (c->index[d] == it->shape[d] && d > 0) {
        for (int k = 0; k < it->operands; k++)
            c->offset[k] += it->strides[k][d - 1] - it->shape[d] * it->strides[k][d];
        c->index[d] = 0;
        c->index[--d]++;
    }
}

#endif
