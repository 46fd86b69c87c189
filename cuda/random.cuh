/* SPDX-License-Identifier: Apache-2.0 */
/* Random bits of elements, the same as on the CPU: see light_random_attrs in tensor/kernels.h. */
#ifndef LIGHT_CUDA_RANDOM_CUH
#define LIGHT_CUDA_RANDOM_CUH

#include "cuda/device.h"

namespace light
{

/* What light_kernel_args.rng holds: key and counter. */
struct rng {
    uint32_t key[2];
    uint64_t stream;
    const uint64_t
        *counter; /* of the step, in a recorded kernel, where `stream` has the call's number only */
};

inline rng rng_of(const light_kernel_args *args)
{
    rng r = {{(uint32_t)args->rng[0], (uint32_t)(args->rng[0] >> 32)}, args->rng[1], NULL};
    r.counter = recorded_counter(args->device);
    if (r.counter) r.stream &= LIGHT_RNG_CALLS - 1;
    return r;
}

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011): the bits of elements 4 index .. 4 index + 3. */
__device__ inline void philox(const rng &r, uint64_t index, uint32_t (&out)[4])
{
    uint64_t stream = r.counter ? *r.counter * LIGHT_RNG_CALLS + r.stream : r.stream;
    uint32_t k0 = r.key[0], k1 = r.key[1];
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* An element is dropped with probability p when its bits, shifted right by 8, are below this. */
inline uint32_t drop_threshold(double p)
{
    double scaled = p * 0x1p24;
    uint32_t whole = (uint32_t)scaled;
    return whole < scaled ? whole + 1 : whole;
}

} // namespace light

#endif
