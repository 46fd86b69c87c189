/* SPDX-License-Identifier: Apache-2.0 */
/* Sums and extremes over a warp and over a block, in an order that depends on the block's size alone: the same bits
 * every time. No floating-point atomics anywhere in this backend. */
#ifndef LIGHT_CUDA_BLOCK_CUH
#define LIGHT_CUDA_BLOCK_CUH

#include "cuda/device.h"

namespace light
{

struct sum_of {
    template <class R> __device__ R operator()(R a, R b) const
    {
        return a + b;
    }
};
/* NaN wins, as in PyTorch. */
struct max_of {
    template <class R> __device__ R operator()(R a, R b) const
    {
        return a > b || a != a ? a : b;
    }
};
struct min_of {
    template <class R> __device__ R operator()(R a, R b) const
    {
        return a < b || a != a ? a : b;
    }
};

/* Every lane of a full warp gets the result. */
template <class R, class F> __device__ inline R warp_reduce(R x, F f)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = f(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* Every thread of a one-dimensional block, whose size is a multiple of 32, gets the result. `room` is shared memory for
 * 32 values; the block may use it for the next reduction at once. */
template <class R, class F> __device__ inline R block_reduce(R x, F f, R neutral, R *room)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_reduce(x, f);
    __syncthreads(); /* the room is free */
    if (lane == 0) room[warp] = x;
    __syncthreads();
    return warp_reduce(lane < warps ? room[lane] : neutral, f);
}

/* The same for rows that have a warp each, or the whole block: `lanes` is 32 or more. */
template <class R, class F> __device__ inline R lanes_reduce(R x, F f, R neutral, int lanes, R *room)
{
    return lanes == 32 ? warp_reduce(x, f) : block_reduce(x, f, neutral, room);
}

/* The sum of x over the threads up to this one, of a block of whole warps; `total`: over all. `room` has 32 places. */
template <class E> __device__ inline E block_scan(E x, E *room, E *total)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        E before = __shfl_up_sync(0xffffffffu, x, step);
        if (lane >= step) x += before;
    }
    __syncthreads(); /* the room is free */
    if (lane == 31) room[warp] = x;
    __syncthreads();
    *total = 0;
    E before = 0;
    for (int w = 0; w < warps; w++) {
        if (w == warp) before = *total;
        *total += room[w];
    }
    return before + x;
}

} // namespace light

#endif
