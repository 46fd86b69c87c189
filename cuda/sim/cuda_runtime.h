/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA's language and the part of its runtime that this backend uses, for the host: the simulated device. In the
 * environment:
 *
 *     LIGHT_SIM_ORDER    order of threads and blocks: forward, reverse, or the seed of a random one   (block.h)
 *     LIGHT_SIM_SEED     streams work late, and in an order made from this; 0: at once                (stream.cpp)
 *     LIGHT_SIM_MEMORY   MiB of a device, 8192                                                        (memory.cpp)
 *     LIGHT_SIM_DEVICES  how many there are, 1                                                        (device.cpp)
 */
#ifndef LIGHT_CUDA_SIM_CUDA_RUNTIME_H
#define LIGHT_CUDA_SIM_CUDA_RUNTIME_H
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/sim/block.h"
#include "cuda/sim/runtime.h"

// ---- language -------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __constant__    static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__   static thread_local // see shared.cpp
static const int warpSize = 32;

// ---- memory, arithmetic -----------------------------------------------------------------------
// dynamic shared memory: use this macro in kernels instead of extern __shared__
#define LIGHT_DYNAMIC_SHARED(T, name) T *name = (T *)sim::shared_memory
template <class T> T atomicAdd(T *p, T v)
{
    T o = *p;
    *p = o + v;
    return o;
} // blocks run one at a time
template <class T> T atomicMax(T *p, T v)
{
    T o = *p;
    if (v > o) *p = v;
    return o;
}
inline unsigned atomicInc(unsigned *p, unsigned lim)
{
    unsigned o = *p;
    *p = o >= lim ? 0 : o + 1;
    return o;
}
template <class T> T atomicCAS(T *p, T c, T v)
{
    T o = *p;
    if (o == c) *p = v;
    return o;
}
template <class T> T __ldg(const T *p)
{
    return *p;
}
template <class T> T __ldcs(const T *p)
{
    return *p;
}
template <class T> void __stcs(T *p, T v)
{
    *p = v;
}
inline void __threadfence_system()
{
}
inline void __threadfence()
{
}
inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline float __expf(float x)
{
    return expf(x);
}
inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline double __dadd_rn(double a, double b)
{
    return a + b;
}
inline double __dmul_rn(double a, double b)
{
    return a * b;
}
inline void sincospi(double x, double *s, double *c)
{
    *s = sin(3.14159265358979323846 * x);
    *c = cos(3.14159265358979323846 * x);
}
inline void sincospif(float x, float *s, float *c)
{
    *s = (float)sin(3.14159265358979323846 * x);
    *c = (float)cos(3.14159265358979323846 * x);
}
inline long long atomicCAS(long long *p, long long c, long long v)
{
    long long o = *p;
    if (o == c) *p = v;
    return o;
}

#endif
