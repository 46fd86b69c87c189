/* SPDX-License-Identifier: Apache-2.0 */
/* Between dtypes: single 16-bit numbers, and arrays of any dtype. Rounding is to nearest, ties to even. */
#ifndef LIGHT_CPU_CONVERT_H
#define LIGHT_CPU_CONVERT_H

#include "cpu/isa.h"

#include <light/tensor.h>

#include <string.h>

static inline float light_bf16_to_f32(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t light_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return (uint16_t)(value == value ? rounded : (bits >> 16 | 0x40));
}

static inline float light_f16_to_f32(uint16_t half)
{
    /* The exponent is moved over by a product with 2^112, which is exact, also for denormal numbers. */
    uint32_t bits = (uint32_t)(half & 0x7FFF) << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits = value >= 65536.0f ? bits | 0x7F800000 : bits;
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t light_f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    /* Below 2^-14 adding 0.5 makes the float unit round at the right place. */
    float small;
    memcpy(&small, &magnitude, sizeof small);
    small += 0.5f;
    uint32_t small_bits;
    memcpy(&small_bits, &small, sizeof small_bits);
    uint32_t denormal = small_bits - 0x3F000000;
    uint32_t normal = (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13;
    uint32_t half = magnitude < 0x38800000 ? denormal : normal;
    half = magnitude >= 0x477FF000 ? 0x7C00 : half; /* 65520 and up */
    half = magnitude > 0x7F800000 ? 0x7E00 : half;
    return (uint16_t)(half | sign);
}

/* n elements from one dtype to another. The arrays do not overlap.
 * To bool: is not 0. From floating to integers: towards 0. */
void LIGHT_ISA(light_convert)(void *to, light_dtype to_dtype, const void *from, light_dtype from_dtype,
                              int64_t n);

/* f16 or bf16 to f32. */
static inline void light_to_f32(int dtype, const void *p, int64_t n, float *to)
{
    LIGHT_ISA(light_convert)(to, LIGHT_F32, p, (light_dtype)dtype, n);
}

/* f32 to f16 or bf16, adding to what is there when asked. */
void LIGHT_ISA(light_from_f32)(int dtype, void *p, int64_t n, const float *from, bool add);

/* One element, for what comes once in a while. */
static inline double light_load_one(const void *p, light_dtype dtype)
{
    double value;
    LIGHT_ISA(light_convert)(&value, LIGHT_F64, p, dtype, 1);
    return value;
}

static inline void light_store_one(void *p, light_dtype dtype, double value)
{
    LIGHT_ISA(light_convert)(p, dtype, &value, LIGHT_F64, 1);
}

#endif
