/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that have one name for float and double, so that a kernel is written once: overloads that take the accurate
 * functions of their type. */
#ifndef LIGHT_CUDA_MATH_CUH
#define LIGHT_CUDA_MATH_CUH

#include "cuda/device.h"

#include <math.h>

namespace light
{

#define LIGHT_OVERLOAD(name)                                                                                 \
    __device__ inline float name(float x)                                                                    \
    {                                                                                                        \
        return ::name##f(x);                                                                                 \
    }                                                                                                        \
    __device__ inline double name(double x)                                                                  \
    {                                                                                                        \
        return ::name(x);                                                                                    \
    }
LIGHT_OVERLOAD(exp)
LIGHT_OVERLOAD(expm1)
LIGHT_OVERLOAD(log)
LIGHT_OVERLOAD(log1p)
LIGHT_OVERLOAD(sqrt)
LIGHT_OVERLOAD(sin)
LIGHT_OVERLOAD(cos)
LIGHT_OVERLOAD(tanh)
LIGHT_OVERLOAD(erf)
LIGHT_OVERLOAD(fabs)
#undef LIGHT_OVERLOAD

__device__ inline float pow(float x, float y)
{
    return ::powf(x, y);
}

__device__ inline double pow(double x, double y)
{
    return ::pow(x, y);
}

/* Without overflow on either side: exp(-x) may become infinite, 1 / inf is 0. */
template <class R> __device__ inline R sigmoid(R x)
{
    return 1 / (1 + exp(-x));
}

} // namespace light

#endif
