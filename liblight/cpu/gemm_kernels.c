/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix product kernels: register tiles and the packing of their operands. Compiled once per instruction set. */
#include "cpu/gemm_kernels.h"

#include "cpu/isa.h"

#include <stddef.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { VECTOR = 64 };
#define MR 14
#elif defined(__AVX2__)
enum { VECTOR = 32 };
#define MR 6
#else
enum { VECTOR = 16 };
#define MR 6
#endif

typedef float f32v __attribute__((vector_size(VECTOR)));
typedef float f32u __attribute__((vector_size(VECTOR), aligned(4), may_alias));
typedef double f64v __attribute__((vector_size(VECTOR)));
typedef double f64u __attribute__((vector_size(VECTOR), aligned(8), may_alias));

/* ---- tiles ------------------------------------------------------------------------------------------------- */

#define NAME(x)     f32_##x
#define T           float
#define TA          float
#define V           f32v
#define VB          f32v
#define VL          (VECTOR / 4)
#define SPLAT(p)    (*(p) - (f32v){0})
#define LOADB(p)    (*(const f32u *)(p))
#define LOAD(p)     (*(const f32u *)(p))
#define STORE(p, v) (*(f32u *)(p) = (v))
#define ATTR
#if defined(__AVX512F__)
#undef SPLAT
#define SPLAT(p)     _mm512_set1_ps(*(p))
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined(__FMA__)
#undef SPLAT
#define SPLAT(p)     _mm256_set1_ps(*(p))
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
#include "cpu/gemm_tile.inc.h"
#undef NAME
#undef TA
#undef VB
#undef SPLAT
#undef LOADB
#undef FMA
#undef ATTR

#if defined(__AVX512F__)
/* A pair of bf16 of neighbouring k is one 32-bit element; the instruction multiplies and sums both halves. */
#define NAME(x)      bf16_##x
#define TA           uint32_t
#define VB           __m512i
#define ATTR         __attribute__((target("avx512bf16")))
#define SPLAT(p)     _mm512_set1_epi32((int)*(p))
#define LOADB(p)     _mm512_loadu_si512(p)
#define FMA(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
#define ONLY_UNIT
#include "cpu/gemm_tile.inc.h"
#undef NAME
#undef TA
#undef VB
#undef SPLAT
#undef LOADB
#undef FMA
#undef ATTR
#undef ONLY_UNIT
#endif

#undef T
#undef V
#undef VL
#undef LOAD
#undef STORE

#define NAME(x)     f64_##x
#define T           double
#define TA          double
#define V           f64v
#define VB          f64v
#define VL          (VECTOR / 8)
#define LOADB(p)    (*(const f64u *)(p))
#define LOAD(p)     (*(const f64u *)(p))
#define STORE(p, v) (*(f64u *)(p) = (v))
#define ATTR
#if defined(__AVX512F__)
#define SPLAT(p)     _mm512_set1_pd(*(p))
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#elif defined(__FMA__)
#define SPLAT(p)     _mm256_set1_pd(*(p))
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)
#else
#define SPLAT(p)     (*(p) - (f64v){0})
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
#include "cpu/gemm_tile.inc.h"

/* ---- packing ----------------------------------------------------------------------------------------------- */

static inline float from_bf16(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    uint32_t bits = (magnitude << 13) + (112u << 23);
    float f;
    if (magnitude >= 0x7c00) bits += 112u << 23; /* infinity, NaN */
    memcpy(&f, &bits, sizeof f);
    if (magnitude < 0x0400) f = (float)magnitude * 0x1p-24f; /* subnormal or zero */
    memcpy(&bits, &f, sizeof f);
    bits |= sign;
    memcpy(&f, &bits, sizeof f);
    return f;
}

#define VALUE_F32(p)  (*(const float *)(p))
#define VALUE_F64(p)  (*(const double *)(p))
#define VALUE_BF16(p) from_bf16(*(const uint16_t *)(p))
#define VALUE_F16(p)  from_f16(*(const uint16_t *)(p))

/* The portable form, by element type. */
#define PACK(KIND, SRC, DST, VALUE)                                                                          \
    static void pack_cols_##KIND(void *vd, int64_t panel, int64_t width, const void *vs, int64_t ld,         \
                                 int64_t k)                                                                  \
    {                                                                                                        \
        const SRC *s = vs;                                                                                   \
        DST *d = vd;                                                                                         \
        for (int64_t p = 0; p < k; p++, d += panel, s += ld) {                                               \
            int64_t j = 0;                                                                                   \
            for (; j < width; j++) d[j] = VALUE(s + j);                                                      \
            for (; j < panel; j++) d[j] = 0;                                                                 \
        }                                                                                                    \
    }                                                                                                        \
    static void pack_rows_##KIND(void *vd, int64_t panel, int64_t width, const void *vs, int64_t ld,         \
                                 int64_t k)                                                                  \
    {                                                                                                        \
        const SRC *s = vs;                                                                                   \
        DST *d = vd;                                                                                         \
        for (int64_t p0 = 0; p0 < k; p0 += 8) {                                                              \
            const int64_t n = k - p0 < 8 ? k - p0 : 8;                                                       \
            for (int64_t j = 0; j < panel; j++)                                                              \
                for (int64_t p = p0; p < p0 + n; p++)                                                        \
                    d[p * panel + j] = j < width ? VALUE(s + j * ld + p) : 0;                                \
        }                                                                                                    \
    }

PACK(f64, double, double, VALUE_F64)

#if !defined(__AVX512F__)
PACK(f32, float, float, VALUE_F32)
PACK(bf16, uint16_t, float, VALUE_BF16)
PACK(f16, uint16_t, float, VALUE_F16)
#else

static inline __m512i load_f32(const void *p, __mmask16 m)
{
    return _mm512_maskz_loadu_epi32(m, p);
}
static inline __m512i load_bf16(const void *p, __mmask16 m)
{
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16);
}
static inline __m512i load_f16(const void *p, __mmask16 m)
{
    return _mm512_castps_si512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)));
}

/* Transposes 16 rows of 16 elements in registers. */
static inline __attribute__((always_inline)) void transpose_16(__m512i r[16])
{
    __m512i t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) { /* 128-bit lanes: rows of four now hold columns i, 4 + i, 8 + i, 12 + i */
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

static inline __mmask16 first(int64_t n)
{
    return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

enum { AHEAD = 16 }; /* rows of a strided source to fetch ahead, which the hardware does not guess */

/* Packing by vectors of 16 32-bit elements, zero where the mask ends. */
#define PACK_16(KIND, SRC, LOAD_16)                                                                          \
    static void pack_cols_##KIND(void *vd, int64_t panel, int64_t width, const void *vs, int64_t ld,         \
                                 int64_t k)                                                                  \
    {                                                                                                        \
        const SRC *s = vs;                                                                                   \
        uint32_t *d = vd;                                                                                    \
        const __mmask16 in0 = first(width), in1 = first(width - 16), out0 = first(panel),                    \
                        out1 = first(panel - 16);                                                            \
        for (int64_t p = 0; p < k; p++, s += ld, d += panel) {                                               \
            _mm_prefetch((const char *)(s + AHEAD * ld), _MM_HINT_T0);                                       \
            _mm512_mask_storeu_epi32(d, out0, LOAD_16(s, in0));                                              \
            if (out1) {                                                                                      \
                _mm_prefetch((const char *)(s + AHEAD * ld + 16), _MM_HINT_T0);                              \
                _mm512_mask_storeu_epi32(d + 16, out1, LOAD_16(s + 16, in1));                                \
            }                                                                                                \
        }                                                                                                    \
    }                                                                                                        \
    static void pack_rows_##KIND(void *vd, int64_t panel, int64_t width, const void *vs, int64_t ld,         \
                                 int64_t k)                                                                  \
    {                                                                                                        \
        const SRC *s = vs;                                                                                   \
        uint32_t *d = vd;                                                                                    \
        for (int64_t j = 0; j < panel; j += 16) {                                                            \
            const __mmask16 out = first(panel - j);                                                          \
            for (int64_t p = 0; p < k; p += 16) {                                                            \
                const __mmask16 in = first(k - p);                                                           \
                const int64_t n = k - p < 16 ? k - p : 16;                                                   \
                __m512i r[16];                                                                               \
                for (int i = 0; i < 16; i++)                                                                 \
                    r[i] = j + i < width ? LOAD_16(s + (j + i) * ld + p, in) : _mm512_setzero_si512();       \
                transpose_16(r);                                                                             \
                for (int i = 0; i < n; i++) _mm512_mask_storeu_epi32(d + (p + i) * panel + j, out, r[i]);    \
            }                                                                                                \
        }                                                                                                    \
    }

PACK_16(f32, float, load_f32)
PACK_16(bf16, uint16_t, load_bf16)
PACK_16(f16, uint16_t, load_f16)

/* Pairs of bf16: k counts elements; an odd last one is paired with zero. */
static void pack_cols_pair(void *vd, int64_t panel, int64_t width, const void *vs, int64_t ld, int64_t k)
{
    const uint16_t *s = vs;
    uint32_t *d = vd;
    for (int64_t j = 0; j < panel; j += 16) {
        const __mmask16 in = first(width - j), out = first(panel - j);
        for (int64_t p = 0; p < k; p += 2) {
            const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(in, s + p * ld + j));
            const __m512i high = load_bf16(s + (p + 1 < k ? p + 1 : p) * ld + j, p + 1 < k ? in : 0);
            _mm512_mask_storeu_epi32(d + p / 2 * panel + j, out, _mm512_or_si512(low, high));
        }
    }
}

static inline __m512i load_pairs(const uint16_t *p, __mmask32 m)
{
    return _mm512_maskz_loadu_epi16(m, p);
}

static void pack_rows_pair(void *vd, int64_t panel, int64_t width, const void *vs, int64_t ld, int64_t k)
{
    const uint16_t *s = vs;
    uint32_t *d = vd;
    for (int64_t j = 0; j < panel; j += 16) {
        const __mmask16 out = first(panel - j);
        for (int64_t p = 0; p < k; p += 32) {
            const int64_t left = k - p < 32 ? k - p : 32;
            const __mmask32 in = left == 32 ? 0xffffffffu : (1u << left) - 1;
            __m512i r[16];
            for (int i = 0; i < 16; i++)
                r[i] = j + i < width ? load_pairs(s + (j + i) * ld + p, in) : _mm512_setzero_si512();
            transpose_16(r);
            for (int i = 0; i < (left + 1) / 2; i++)
                _mm512_mask_storeu_epi32(d + (p / 2 + i) * panel + j, out, r[i]);
        }
    }
}
#endif

/* ---- vector times matrix, 16-bit results ------------------------------------------------------------------- */

static inline float sum_vector(f32v v)
{
    float s = 0;
    for (int i = 0; i < VECTOR / 4; i++) s += v[i];
    return s;
}

#define AT(p) (*(const f32u *)(p))

static float dot(int64_t k, const float *x, const float *w)
{
    enum { L = VECTOR / 4 };
    f32v s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t p = 0;
    for (; p + 4 * L <= k; p += 4 * L) {
        s0 += AT(x + p) * AT(w + p);
        s1 += AT(x + p + L) * AT(w + p + L);
        s2 += AT(x + p + 2 * L) * AT(w + p + 2 * L);
        s3 += AT(x + p + 3 * L) * AT(w + p + 3 * L);
    }
    for (; p + L <= k; p += L) s0 += AT(x + p) * AT(w + p);
    float s = sum_vector((s0 + s1) + (s2 + s3));
    for (; p < k; p++) s += x[p] * w[p];
    return s;
}

/* Four dot products that read w once. */
static void dot_4(int64_t k, const float *const x[4], const float *w, float out[4])
{
    enum { L = VECTOR / 4 };
    f32v a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
    const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    int64_t p = 0;
    for (; p + 2 * L <= k; p += 2 * L) {
        const f32v v = AT(w + p), u = AT(w + p + L);
        a0 += AT(x0 + p) * v, b0 += AT(x0 + p + L) * u;
        a1 += AT(x1 + p) * v, b1 += AT(x1 + p + L) * u;
        a2 += AT(x2 + p) * v, b2 += AT(x2 + p + L) * u;
        a3 += AT(x3 + p) * v, b3 += AT(x3 + p + L) * u;
    }
    out[0] = sum_vector(a0 + b0), out[1] = sum_vector(a1 + b1);
    out[2] = sum_vector(a2 + b2), out[3] = sum_vector(a3 + b3);
    for (; p < k; p++)
        for (int v = 0; v < 4; v++) out[v] += x[v][p] * w[p];
}

static void dots(const light_gemm_dots *d, int64_t from, int64_t to)
{
    const float *x[LIGHT_GEMM_MAX_X];
    for (int64_t v = 0; v < LIGHT_GEMM_MAX_X; v++) x[v] = d->x + (v < d->count ? v : 0) * d->ldx;
    for (int64_t i = from; i < to; i++) {
        float sums[LIGHT_GEMM_MAX_X];
        if (d->count == 1)
            sums[0] = dot(d->k, x[0], d->w + i * d->ldw);
        else
            dot_4(d->k, x, d->w + i * d->ldw, sums);
        for (int64_t v = 0; v < d->count; v++) {
            float *y = d->y + i * d->ldy + v * d->step_y, sum = sums[v] * (float)d->alpha;
            if (d->accumulate) sum += *y;
            if (d->bias) sum += d->bias[i * d->bias_ld + v * d->bias_step];
            *y = sum;
        }
    }
}

static inline uint16_t to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof f);
    if (f != f) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline uint16_t to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof f);
    const uint32_t sign = (bits >> 16) & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { /* subnormal: the addition rounds at 2^-24 */
        float x;
        memcpy(&x, &a, sizeof x);
        x += 0.5f;
        uint32_t r;
        memcpy(&r, &x, sizeof r);
        return (uint16_t)(sign | (r - 0x3f000000));
    }
    return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13));
}

static void store_16(int64_t n, const float *in, uint16_t *out, int f16, int accumulate)
{
    for (int64_t i = 0; i < n; i++) {
        float v = in[i];
        if (accumulate) v += f16 ? from_f16(out[i]) : from_bf16(out[i]);
        out[i] = f16 ? to_f16(v) : to_bf16(v);
    }
}

/* ---- the table --------------------------------------------------------------------------------------------- */

#define FAMILY_UNIT(LANES) .mr = MR, .vl = LANES, .row_unit = {NAMES(unit, 1), NAMES(unit, 2)}

const light_gemm_kernels LIGHT_ISA(light_gemm_kernels) = {
#undef NAME
#define NAME(x) f32_##x
    .f32 = {FAMILY_UNIT(VECTOR / 4), .row_any = {NAMES(any, 1), NAMES(any, 2)}},
#undef NAME
#define NAME(x) f64_##x
    .f64 = {FAMILY_UNIT(VECTOR / 8), .row_any = {NAMES(any, 1), NAMES(any, 2)}},
#if defined(__AVX512F__)
#undef NAME
#define NAME(x) bf16_##x
    .bf16 = {FAMILY_UNIT(VECTOR / 4)},
    .pack_cols = {pack_cols_f32, pack_cols_bf16, pack_cols_f16, pack_cols_f64, pack_cols_pair},
    .pack_rows = {pack_rows_f32, pack_rows_bf16, pack_rows_f16, pack_rows_f64, pack_rows_pair},
#else
    .pack_cols = {pack_cols_f32, pack_cols_bf16, pack_cols_f16, pack_cols_f64},
    .pack_rows = {pack_rows_f32, pack_rows_bf16, pack_rows_f16, pack_rows_f64},
#endif
    .dots_f32 = dots,
    .store_16 = store_16,
};
