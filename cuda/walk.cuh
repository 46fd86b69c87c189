/* SPDX-License-Identifier: Apache-2.0 */
/* Walking several strided tensors of one shape together: light_iter of tensor/iterate.h in a form for kernels.
 *
 * The host sorts and joins dims; a kernel turns the number of an element into an offset for each tensor. Divisions by
 * sizes are multiplications (Granlund and Montgomery, 1994) where the element count fits 31 bits. */
#ifndef LIGHT_CUDA_WALK_CUH
#define LIGHT_CUDA_WALK_CUH

#include "cuda/device.h"

namespace light
{

struct divisor {
    uint32_t by, factor, shift;
};

inline divisor divisor_of(uint32_t by)
{
    uint32_t shift = 0;
    while (shift < 31 && (1u << shift) < by) shift++;
    uint64_t factor = ((uint64_t)1 << 32) * (((uint64_t)1 << shift) - by) / by + 1;
    return divisor{by, (uint32_t)factor, shift};
}

/* n / d for n < 2^31. */
__device__ inline uint32_t divide(uint32_t n, divisor d)
{
    return (__umulhi(n, d.factor) + n) >> d.shift;
}

/* K tensors. Dims stand from the slowest to the fastest; strides in elements. */
template <int K> struct walk {
    int ndim;
    bool small;  /* fewer than 2^31 elements */
    bool linear; /* every tensor's elements follow each other: offset = number of the element */
    int64_t numel;
    divisor divisors[LIGHT_MAX_DIMS];
    int64_t shape[LIGHT_MAX_DIMS];
    int64_t strides[K][LIGHT_MAX_DIMS];
};

/* The dims of an iteration over K tensors, which is sorted and coalesced. */
template <int K> walk<K> walk_over(const light_iter &it)
{
    walk<K> w = {};
    w.ndim = it.ndim;
    w.numel = it.numel;
    w.small = it.numel < ((int64_t)1 << 31);
    w.linear = it.ndim == 1;
    if (it.numel == 0) return w;
    for (int d = 0; d < it.ndim; d++) {
        w.shape[d] = it.shape[d];
        w.divisors[d] = divisor_of(w.small ? (uint32_t)it.shape[d] : 1);
        for (int k = 0; k < K; k++) w.strides[k][d] = it.strides[k][d];
    }
    for (int k = 0; k < K; k++) w.linear = w.linear && (it.strides[k][0] == 1 || it.numel == 1);
    return w;
}

/* The operands have one shape; the order of dims is the memory order of the first. */
template <int K> walk<K> walk_of(const light_tensor *const (&operands)[K])
{
    light_iter it;
    light_iter_init(&it, operands, K);
    return walk_over<K>(it);
}

/* Where element i of the walk lies in each tensor. Dims are few, and this stands in every kernel, often several times:
 * unrolled it is most of their code, with the divisions of 64 bits above all. */
template <int K> __device__ inline void walk_offsets(const walk<K> &w, int64_t i, int64_t (&offsets)[K])
{
#pragma unroll
    for (int k = 0; k < K; k++) offsets[k] = 0;
    if (w.small) {
        uint32_t rest = (uint32_t)i;
#pragma unroll 1
        for (int d = w.ndim - 1; d >= 0; d--) {
            uint32_t next = d ? divide(rest, w.divisors[d]) : 0, index = rest - next * w.divisors[d].by;
#pragma unroll
            for (int k = 0; k < K; k++) offsets[k] += index * w.strides[k][d];
            rest = next;
        }
        return;
    }
#pragma unroll 1
    for (int d = w.ndim - 1; d >= 0; d--) {
        int64_t next = d ? i / w.shape[d] : 0, index = i - next * w.shape[d];
#pragma unroll
        for (int k = 0; k < K; k++) offsets[k] += index * w.strides[k][d];
        i = next;
    }
}

/* The thread's first element of a grid-stride loop, and the stride. */
__device__ inline int64_t first_element()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ inline int64_t grid_stride()
{
    return (int64_t)gridDim.x * blockDim.x;
}

} // namespace light

#endif
