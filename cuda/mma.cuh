/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor cores, and the moves of data that feed them: the one header with PTX. The simulated device has the same
 * functions, which play the instructions lane by lane.
 *
 * Fragments of mma m16n8k16, of which each lane holds a part (g = lane / 4, c = lane % 4; numbers are 16-bit but for C):
 *
 *     A [16, 16]   a[0]: row g, columns 2c 2c+1    a[1]: row g+8    a[2], a[3]: the same 8 columns on
 *     B [16, 8]    b0: rows 2c 2c+1 of column g    b1: 8 rows on
 *     C [16, 8]    c[0] c[1]: row g, columns 2c 2c+1    c[2] c[3]: row g+8
 *
 * So two neighbouring C become one A without moving anything between lanes. */
#ifndef LIGHT_CUDA_MMA_CUH
#define LIGHT_CUDA_MMA_CUH

#include "cuda/number.cuh"

#include <type_traits>

#ifdef LIGHT_CUDA_SIM
#include "cuda/sim/mma.h"
#endif

namespace light
{

#ifdef LIGHT_CUDA_SIM

/* An address in shared memory. */
using shared_at = char *;

inline shared_at shared_address(void *data)
{
    return (char *)data;
}

/* Starts a copy of 16 bytes from global to shared memory, or of zeros. */
inline void copy_16(shared_at to, const void *from, bool valid)
{
    sim::cp_async_16(to, from, valid);
}
inline void copies_together()
{
    sim::cp_async_commit();
}
template <int groups> inline void wait_for_copies()
{
    sim::cp_async_wait<groups>();
}

inline void load_matrices(uint32_t (&r)[4], shared_at row)
{
    sim::ldmatrix_x4(r, row);
}
inline void load_matrices_transposed(uint32_t (&r)[4], shared_at row)
{
    sim::ldmatrix_x4_trans(r, row);
}

template <class T> inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const uint32_t b[2] = {b0, b1};
    if constexpr (std::is_same<T, bf16>::value)
        sim::mma_m16n8k16_bf16(c, a, b);
    else
        sim::mma_m16n8k16_f16(c, a, b);
}

template <class T> inline uint32_t two(float low, float high)
{
    return to<T>(low).bits | (uint32_t)to<T>(high).bits << 16;
}

inline float exp2_fast(float x)
{
    return exp2f(x);
}

#else

using shared_at = uint32_t;

__device__ inline shared_at shared_address(void *data)
{
    return (uint32_t)__cvta_generic_to_shared(data);
}

/* Copies past the first-level cache; with a size of 0 nothing is read and zeros are written. */
__device__ inline void copy_16(shared_at to, const void *from, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}
/* What the thread has started since the last call is one group. */
__device__ inline void copies_together()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
/* Waits for the thread's groups but the last `groups`. */
template <int groups> __device__ inline void wait_for_copies()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(groups) : "memory");
}

/* Four 8 x 8 matrices; lane i says where row i % 8 of matrix i / 8 is. r[m]: row g, columns 2c 2c+1 of matrix m, or of
 * its transpose. */
__device__ inline void load_matrices(uint32_t (&r)[4], shared_at row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], shared_at row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/* c += a b */
template <class T> __device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#define MMA(type)                                                                                            \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                              \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"                         \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
    if constexpr (std::is_same<T, bf16>::value)
        MMA("bf16");
    else
        MMA("f16");
#undef MMA
}

/* Two numbers, rounded, in one register. */
template <class T> __device__ inline uint32_t two(float low, float high)
{
    uint32_t bits;
    if constexpr (std::is_same<T, bf16>::value)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

/* 2^x within two units in the last place; 0 for -infinity and where the result would be subnormal. */
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

#endif

} // namespace light

#endif
