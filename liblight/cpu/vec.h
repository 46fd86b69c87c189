/* SPDX-License-Identifier: Apache-2.0 */
/* Mathematical functions for f32 that vectorise: no branches, no calls, so that `#pragma omp simd` loops over them
 * become vector code on every instruction set. Errors are at most 2 units in the last place. f64 uses libm. The
 * polynomials are least-error fits over the stated ranges. */
#ifndef LIGHT_CPU_VEC_H
#define LIGHT_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A call that the compiler leaves in a loop keeps it from becoming vector code. */
#define LIGHT_VEC static inline __attribute__((always_inline))

LIGHT_VEC float light_vec_float(int32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

LIGHT_VEC int32_t light_vec_bits(float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* e^x: x = n ln 2 + r with |r| <= ln 2 / 2, then 2^n in two factors, so that denormal results come out right. */
LIGHT_VEC float light_vec_exp_f32(float x)
{
    float c = x > 89.0f ? 89.0f : x;
    c = c < -104.5f ? -104.5f : c;
    float shifted = c * 1.44269504f + 12582912.0f; /* 1.5 2^23: the low bits hold the rounded number */
    float n = shifted - 12582912.0f;
    float r = c - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    float p = 1.989101714e-04f;
    p = p * r + 1.393367373e-03f;
    p = p * r + 8.333310902e-03f;
    p = p * r + 4.166646471e-02f;
    p = p * r + 1.666666668e-01f;
    p = p * r + 5.000000013e-01f;
    p = p * (r * r) + r + 1.0f;
    int32_t i = light_vec_bits(shifted) - 0x4B400000;
    int32_t half = i >> 1;
    float y = p * light_vec_float((int32_t)((uint32_t)(half + 127) << 23));
    y = y * light_vec_float((int32_t)((uint32_t)(i - half + 127) << 23));
    return x == x ? y : x;
}

/* ln x: x = 2^k m with m in [sqrt 1/2, sqrt 2], ln m by the odd series in s = (m - 1) / (m + 1). */
LIGHT_VEC float light_vec_log_f32(float x)
{
    int small = x < 1.17549435e-38f;
    int32_t bits = light_vec_bits(small ? x * 8388608.0f : x) - 0x3F3504F3;
    int32_t k = (bits >> 23) - (small ? 23 : 0);
    float f = light_vec_float((bits & 0x7FFFFF) + 0x3F3504F3) - 1.0f;
    float s = f / (2.0f + f);
    float z = s * s;
    float r = z * (6.666666655e-01f + z * (4.000012263e-01f + z * (2.855073099e-01f + z * 2.333291006e-01f)));
    float half = 0.5f * f * f;
    float n = (float)k;
    float y = n * 0.693145752f + (f - (half - (s * (half + r) + n * 1.42860677e-6f)));
    y = x == INFINITY ? x : y;
    y = x == 0.0f ? -INFINITY : y;
    return x >= 0.0f ? y : NAN;
}

/* ln(1 + x) for x >= 0: the rounding of 1 + x is made good to first order. */
LIGHT_VEC float light_vec_log1p_f32(float x)
{
    float u = 1.0f + x;
    float lost = x - (u - 1.0f);
    float y = light_vec_log_f32(u) + lost / u;
    y = x < 1.0e-7f ? x : y;
    return x > 1.0e7f ? light_vec_log_f32(x) : y;
}

LIGHT_VEC float light_vec_tanh_f32(float x)
{
    float z = x * x;
    float p = 2.292744797e-03f;
    p = p * z - 8.343945495e-03f;
    p = p * z + 2.176891864e-02f;
    p = p * z - 5.395925958e-02f;
    p = p * z + 1.333330356e-01f;
    p = p * z - 3.333333317e-01f;
    float near = x + x * z * p;
    float far = 1.0f - 2.0f / (light_vec_exp_f32(2.0f * fabsf(x)) + 1.0f);
    far = x < 0.0f ? -far : far;
    return fabsf(x) < 0.625f ? near : far;
}

LIGHT_VEC float light_vec_erf_f32(float x)
{
    float t = fabsf(x), z = x * x;
    float p = 8.690368933e-05f;
    p = p * z - 8.214570894e-04f;
    p = p * z + 5.207048911e-03f;
    p = p * z - 2.686170583e-02f;
    p = p * z + 1.128373521e-01f;
    p = p * z - 3.761263621e-01f;
    p = p * z + 1.283791669e-01f;
    float near = x + x * p;
    float c = t > 4.0f ? 4.0f : t; /* 1 - erf(4) is below half a unit */
    float q = -3.199133905e-07f;
    q = q * c + 5.370360298e-06f;
    q = q * c - 2.041665505e-05f;
    q = q * c - 2.391025656e-04f;
    q = q * c + 3.558841026e-03f;
    q = q * c - 2.381883791e-02f;
    q = q * c + 1.064458715e-01f;
    q = q * c + 6.349747940e-01f;
    q = q * c + 1.128699266e+00f;
    float far = 1.0f - light_vec_exp_f32(-q * c);
    far = x < 0.0f ? -far : far;
    float y = t < 0.875f ? near : far;
    return x == x ? y : x;
}

LIGHT_VEC float light_vec_sigmoid_f32(float x)
{
    return 1.0f / (1.0f + light_vec_exp_f32(-x));
}

/* e^x - 1, by 2 t / (1 - t) with t = tanh(x / 2): exact in the neighbourhood of 0. */
LIGHT_VEC float light_vec_expm1_f32(float x)
{
    float t = light_vec_tanh_f32(0.5f * x);
    return x > 1.0f ? light_vec_exp_f32(x) - 1.0f : 2.0f * t / (1.0f - t);
}

LIGHT_VEC double light_vec_exp_f64(double x)
{
    return exp(x);
}

LIGHT_VEC double light_vec_log_f64(double x)
{
    return log(x);
}

LIGHT_VEC double light_vec_log1p_f64(double x)
{
    return log1p(x);
}

LIGHT_VEC double light_vec_expm1_f64(double x)
{
    return expm1(x);
}

LIGHT_VEC double light_vec_tanh_f64(double x)
{
    return tanh(x);
}

LIGHT_VEC double light_vec_erf_f64(double x)
{
    return erf(x);
}

LIGHT_VEC double light_vec_sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

#endif
