/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays from one dtype to another: one loop for each pair of dtypes. */
#include "cpu/convert.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

typedef struct bf16 {
    uint16_t bits;
} bf16;
typedef struct f16 {
    uint16_t bits;
} f16;

/* How a value of each type becomes a plain number, and the other way round. */
#define FROM_PLAIN(v)  (v)
#define FROM_BF16(v)   light_bf16_to_f32((v).bits)
#define FROM_F16(v)    light_f16_to_f32((v).bits)
#define TO_PLAIN(T, v) (T)(v)
#define TO_BOOL(T, v)  (T)((v) != 0)
#define TO_BF16(T, v)                                                                                        \
    (T)                                                                                                      \
    {                                                                                                        \
        light_f32_to_bf16((float)(v))                                                                        \
    }
#define TO_F16(T, v)                                                                                         \
    (T)                                                                                                      \
    {                                                                                                        \
        light_f32_to_f16((float)(v))                                                                         \
    }

#define LOOP(S, FROM, T, TO)                                                                                 \
    {                                                                                                        \
        const S *x = from;                                                                                   \
        T *y = to;                                                                                           \
        for (int64_t i = 0; i < n; i++) y[i] = TO(T, FROM(x[i]));                                            \
        break;                                                                                               \
    }

#define FROM_TYPE(name, S, FROM)                                                                             \
    static void name(void *restrict to, light_dtype dtype, const void *restrict from, int64_t n)             \
    {                                                                                                        \
        switch (dtype) {                                                                                     \
        case LIGHT_F64: LOOP(S, FROM, double, TO_PLAIN)                                                      \
        case LIGHT_F32: LOOP(S, FROM, float, TO_PLAIN)                                                       \
        case LIGHT_BF16: LOOP(S, FROM, bf16, TO_BF16)                                                        \
        case LIGHT_F16: LOOP(S, FROM, f16, TO_F16)                                                           \
        case LIGHT_I64: LOOP(S, FROM, int64_t, TO_PLAIN)                                                     \
        case LIGHT_I32: LOOP(S, FROM, int32_t, TO_PLAIN)                                                     \
        case LIGHT_U8: LOOP(S, FROM, uint8_t, TO_PLAIN)                                                      \
        case LIGHT_BOOL: LOOP(S, FROM, uint8_t, TO_BOOL)                                                     \
        default: break;                                                                                      \
        }                                                                                                    \
    }

FROM_TYPE(from_f64, double, FROM_PLAIN)
FROM_TYPE(from_f32, float, FROM_PLAIN)
FROM_TYPE(from_bf16, bf16, FROM_BF16)
FROM_TYPE(from_f16, f16, FROM_F16)
FROM_TYPE(from_i64, int64_t, FROM_PLAIN)
FROM_TYPE(from_i32, int32_t, FROM_PLAIN)
FROM_TYPE(from_u8, uint8_t, FROM_PLAIN)

#if defined(__F16C__)
/* The instructions for f16, eight at a time; returns how many were done. */
static int64_t f16_to_f32_by_8(float *to, const uint16_t *from, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    return i;
}

static int64_t f32_to_f16_by_8(uint16_t *to, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}
#endif

void LIGHT_ISA(light_convert)(void *to, light_dtype to_dtype, const void *from, light_dtype from_dtype,
                              int64_t n)
{
    if (to_dtype == from_dtype) {
        if (to != from) memcpy(to, from, (size_t)n * light_dtype_size(to_dtype));
        return;
    }
#if defined(__F16C__)
    if (from_dtype == LIGHT_F16 && to_dtype == LIGHT_F32) {
        int64_t done = f16_to_f32_by_8(to, from, n);
        from_f16((float *)to + done, to_dtype, (const uint16_t *)from + done, n - done);
        return;
    }
    if (from_dtype == LIGHT_F32 && to_dtype == LIGHT_F16) {
        int64_t done = f32_to_f16_by_8(to, from, n);
        from_f32((uint16_t *)to + done, to_dtype, (const float *)from + done, n - done);
        return;
    }
#endif
    switch (from_dtype) {
    case LIGHT_F64: from_f64(to, to_dtype, from, n); break;
    case LIGHT_F32: from_f32(to, to_dtype, from, n); break;
    case LIGHT_BF16: from_bf16(to, to_dtype, from, n); break;
    case LIGHT_F16: from_f16(to, to_dtype, from, n); break;
    case LIGHT_I64: from_i64(to, to_dtype, from, n); break;
    case LIGHT_I32: from_i32(to, to_dtype, from, n); break;
    default: from_u8(to, to_dtype, from, n); break;
    }
}

void LIGHT_ISA(light_from_f32)(int dtype, void *p, int64_t n, const float *from, bool add)
{
    enum { BLOCK = 256 };
    float sum[BLOCK];
    uint16_t *to = p;
    if (!add) {
        LIGHT_ISA(light_convert)(to, (light_dtype)dtype, from, LIGHT_F32, n);
        return;
    }
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        light_to_f32(dtype, to + at, count, sum);
        for (int64_t i = 0; i < count; i++) sum[i] += from[at + i];
        LIGHT_ISA(light_convert)(to + at, (light_dtype)dtype, sum, LIGHT_F32, count);
    }
}
