/* SPDX-License-Identifier: Apache-2.0 */
/* Random tensors. Element i is made from its own 32 random bits (normal numbers: i and its neighbour i ^ 1 from the bits
 * of both), so the result is the same for any number of threads. */
#include "cpu/random.h"
#include "cpu/convert.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

#define PIECE 512 /* elements; a multiple of 4 */

typedef struct random_work {
    const light_random_attrs *attrs;
    const uint64_t *rng;
    light_tensor *out;
} random_work;

/* ---- uniform ------------------------------------------------------------ */

/* As many bits as the dtype has, so that rounding never reaches the upper bound of [0, 1). */
static int uniform_bits(light_dtype dtype)
{
    return dtype == LIGHT_F64 ? 32 : dtype == LIGHT_F32 ? 24 : dtype == LIGHT_F16 ? 11 : 8;
}

static void uniform_f64(const uint32_t *bits, double *y, int64_t n, double a, double b)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a + (b - a) * ((double)bits[i] * 0x1p-32);
}

static void uniform_f32(const uint32_t *bits, float *y, int64_t n, double a, double b, int digits)
{
    const float low = (float)a, width = (float)(b - a), unit = ldexpf(1, -digits);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = low + width * ((float)(int32_t)(bits[i] >> (32 - digits)) * unit);
}

/* ---- normal ------------------------------------------------------------- */

/* sin and cos of 2 pi u for u in [0, 1): u is taken to [-1/8, 1/8] exactly, then turned back by quarters. */
static inline void turn(float u, float *sine, float *cosine)
{
    float quarters = (float)(int32_t)(4.0f * u + 0.5f);
    float x = 6.28318531f * (u - 0.25f * quarters), z = x * x;
    float s = x + x * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
    float c = 1.0f - 0.5f * z + z * z * (4.166664568e-2f + z * (-1.388731625e-3f + z * 2.443315711e-5f));
    int32_t k = (int32_t)quarters;
    float first = k & 1 ? c : s, second = k & 1 ? s : c;
    *sine = k & 2 ? -first : first;
    *cosine = (k + 1) & 2 ? -second : second;
}

/* Box and Muller, 1958. */
static void normal_f32(const uint32_t *bits, float *y, int64_t n, double mean, double std)
{
    const float m = (float)mean, scale = (float)std;
#pragma omp simd
    for (int64_t i = 0; i < n; i += 2) {
        float sine, cosine;
        float u = (float)(int32_t)((bits[i] >> 8) + 1) * 0x1p-24f;
        float radius = sqrtf(-2.0f * light_vec_log_f32(u));
        turn((float)(int32_t)(bits[i + 1] >> 8) * 0x1p-24f, &sine, &cosine);
        y[i] = m + scale * (radius * cosine);
        y[i + 1] = m + scale * (radius * sine);
    }
}

static void normal_f64(const uint32_t *bits, double *y, int64_t n, double mean, double std)
{
    for (int64_t i = 0; i < n; i += 2) {
        double radius = sqrt(-2 * log(((double)bits[i] + 1) * 0x1p-32));
        double angle = 6.283185307179586477 * ((double)bits[i + 1] * 0x1p-32);
        y[i] = mean + std * (radius * cos(angle));
        y[i + 1] = mean + std * (radius * sin(angle));
    }
}

/* ---- whole numbers ------------------------------------------------------ */

/* Ranges beyond 2^32 take 64 bits, the first two words of a block of their own. */
static void integer(const random_work *w, int64_t first, const uint32_t *bits, int64_t *y, int64_t n)
{
    int64_t low = (int64_t)w->attrs->a;
    uint64_t range = (uint64_t)((int64_t)w->attrs->b - low);
    const uint32_t key[2] = {(uint32_t)w->rng[0], (uint32_t)(w->rng[0] >> 32)};
    for (int64_t i = 0; i < n; i++) {
        uint32_t four[4];
        if (range <= UINT32_MAX) {
            y[i] = low + (int64_t)((bits[i] * range) >> 32);
            continue;
        }
        light_philox_at(key, (uint64_t)(first + i), w->rng[1], four);
        y[i] = low + (int64_t)light_uniform_below(four[0], four[1], range);
    }
}

/* ---- the kernel --------------------------------------------------------- */

/* Up to PIECE elements from `first`, a multiple of 4, on. */
static void make_piece(const random_work *w, int64_t first, int64_t n)
{
    light_dtype dtype = (light_dtype)w->out->dtype;
    char *to = w->out->data + (size_t)first * light_dtype_size(dtype);
    int64_t whole = (n + 3) / 4 * 4;
    uint32_t bits[PIECE];
    union {
        float f[PIECE];
        double d[PIECE];
        int64_t i[PIECE];
    } values;
    light_random_bits(w->rng, (uint64_t)first / 4, whole / 4, bits);
    light_dtype made = dtype == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
    if (w->attrs->kind == LIGHT_RANDOM_INTEGER) {
        integer(w, first, bits, values.i, n);
        made = LIGHT_I64;
    } else if (w->attrs->kind == LIGHT_RANDOM_NORMAL) {
        if (made == LIGHT_F64)
            normal_f64(bits, values.d, whole, w->attrs->a, w->attrs->b);
        else
            normal_f32(bits, values.f, whole, w->attrs->a, w->attrs->b);
    } else if (made == LIGHT_F64) {
        uniform_f64(bits, values.d, n, w->attrs->a, w->attrs->b);
    } else {
        uniform_f32(bits, values.f, n, w->attrs->a, w->attrs->b, uniform_bits(dtype));
    }
    LIGHT_ISA(light_convert)(to, dtype, &values, made, n);
}

static void make_pieces(void *context, int64_t from, int64_t to)
{
    const random_work *w = context;
    for (int64_t piece = from; piece < to; piece++) {
        int64_t first = piece * PIECE, left = w->out->numel - first;
        make_piece(w, first, left < PIECE ? left : PIECE);
    }
}

static light_status random_kernel(const light_kernel_args *args)
{
    random_work w = {args->attrs, args->rng, args->out[0]};
    light_parallel((w.out->numel + PIECE - 1) / PIECE, 4 * PIECE, make_pieces, &w);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_random_kernels)[] = {
    {LIGHT_KERNEL_RANDOM, random_kernel},
    {LIGHT_KERNEL_COUNT, NULL},
};
