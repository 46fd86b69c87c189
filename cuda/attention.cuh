/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled dot product attention as its kernels see it; and the way to those for tensor cores (attention_mma.cu). */
#ifndef LIGHT_CUDA_ATTENTION_CUH
#define LIGHT_CUDA_ATTENTION_CUH

#include "cuda/number.cuh"
#include "cuda/random.cuh"

#include <math.h>

namespace light
{

/* Rows of a tensor [B, H, rows, d]. The elements of a row are neighbours; strides are those of the other dims. */
struct rows {
    void *data; /* NULL: not asked for */
    int64_t batch, head, row;
};

struct attention {
    rows q, k, v, y, gy, gq, gk, gv, gmask;
    const void *mask; /* NULL: none */
    int mask_dtype;
    int64_t mask_strides[4];
    int gmask_dtype;
    int64_t gmask_shape[4]; /* 1 in dims that are summed over */
    void *lse;              /* [B, H, T] */
    int batch, heads, kv_heads, queries, keys, width;
    double scale;
    uint32_t threshold; /* of dropout; 0: none */
    double keep_scale;
    rng random;
    bool causal;
    uint32_t accumulate;
};

/* Where a tile of scores lies: batch, head, first query, first key. */
struct corner {
    int b, h, t, s;
};

template <class T> __device__ inline T *row_of(const rows &r, int b, int h, int64_t row)
{
    return (T *)r.data + b * r.batch + h * r.head + row * r.row;
}

/* The keys that any query before `queries` sees end here. */
__host__ __device__ inline int visible_end(const attention &a, int queries)
{
    int end = a.causal ? queries + a.keys - a.queries : a.keys;
    return end < 0 ? 0 : end < a.keys ? end : a.keys;
}

/* The first query that sees key s. */
__host__ __device__ inline int first_query(const attention &a, int s)
{
    int first = a.causal ? s - (a.keys - a.queries) : 0;
    return first < 0 ? 0 : first;
}

/* Whether query t does not see key s. */
__device__ inline bool hidden(const attention &a, int t, int s)
{
    return s >= a.keys || (a.causal && s > t + a.keys - a.queries);
}

/* What a number of the mask adds to a score. */
__device__ inline float mask_number(bool sees)
{
    return sees ? 0 : -INFINITY;
}
template <class T> __device__ inline real_of<T> mask_number(T x)
{
    return widen(x);
}

/* Calls f with the mask, from an element on, as an array of its type. All threads take the same branch. */
template <class F> __device__ inline auto by_mask(const attention &a, int64_t from, F f)
{
    switch (a.mask_dtype) {
    case LIGHT_BOOL: return f((const bool *)a.mask + from);
    case LIGHT_F64: return f((const double *)a.mask + from);
    case LIGHT_BF16: return f((const bf16 *)a.mask + from);
    case LIGHT_F16: return f((const f16 *)a.mask + from);
    default: return f((const float *)a.mask + from);
    }
}

/* attention_mma.cu: whether tensor cores can do it, and how. */
bool mma_takes(const light_device *device, const attention &a, int dtype);
light_status mma_forward(const light_device *device, const attention &a, int dtype);
light_status mma_backward(const light_device *device, const attention &a, int dtype);

} // namespace light

#endif
