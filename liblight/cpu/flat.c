/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over flat gradients: sum of squares, scaling, limits, the search for what is not finite; and the loss scale. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

#include <float.h>

enum { BLOCK = 512, MOST_PARTS = 256 };

/* ---- sum of squares: in double, in parts that depend on the length only -- */

static double squares_f32(const float *x, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static double squares_f64(const double *x, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

static double squares_part(const light_tensor *x, int64_t from, int64_t to)
{
    const char *data = x->data + from * (int64_t)light_dtype_size((light_dtype)x->dtype);
    float room[BLOCK];
    double sum = 0;

    if (x->dtype == LIGHT_F32) return squares_f32((const float *)data, to - from);
    if (x->dtype == LIGHT_F64) return squares_f64((const double *)data, to - from);
    for (int64_t first = from; first < to; first += BLOCK) {
        int64_t n = to - first < BLOCK ? to - first : BLOCK;
        light_to_f32(x->dtype, x->data + 2 * first, n, room);
        sum += squares_f32(room, n);
    }
    return sum;
}

/* What the parts of a tensor come to. */
typedef struct results {
    const light_tensor *x;
    int64_t parts;
    double of[MOST_PARTS];
} results;

static void each_squares(void *context, int64_t i, int rank)
{
    results *r = context;
    int64_t n = r->x->numel;

    (void)rank;
    r->of[i] = squares_part(r->x, light_part_at(n, r->parts, i), light_part_at(n, r->parts, i + 1));
}

static void all_parts(results *r, const light_tensor *x, light_task_each fn)
{
    r->x = x;
    r->parts = light_part_count(x->numel, LIGHT_PARALLEL_MIN / 2, MOST_PARTS);
    light_team_each(true, r->parts, fn, r);
}

static light_status sum_squares(const light_kernel_args *args)
{
    light_tensor *out = args->out[0];
    double sum = args->accumulate ? light_load_one(out->data, (light_dtype)out->dtype) : 0;
    results squares;

    all_parts(&squares, args->in[0], each_squares);
    for (int64_t i = 0; i < squares.parts; i++) sum += squares.of[i];
    light_store_one(out->data, (light_dtype)out->dtype, sum);
    return LIGHT_OK;
}

/* ---- all finite ---------------------------------------------------------- */

static bool finite_f32(const float *x, int64_t n)
{
    int bad = 0;
#pragma omp simd reduction(| : bad)
    for (int64_t i = 0; i < n; i++) bad |= !(x[i] - x[i] == 0);
    return !bad;
}

static bool finite_f64(const double *x, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= !(x[i] - x[i] == 0);
    return !bad;
}

static bool finite_part(const light_tensor *x, int64_t from, int64_t to)
{
    const char *data = x->data + from * (int64_t)light_dtype_size((light_dtype)x->dtype);
    float room[BLOCK];
    bool fine = true;

    if (x->dtype == LIGHT_F32) return finite_f32((const float *)data, to - from);
    if (x->dtype == LIGHT_F64) return finite_f64((const double *)data, to - from);
    for (int64_t first = from; first < to && fine; first += BLOCK) {
        int64_t n = to - first < BLOCK ? to - first : BLOCK;
        light_to_f32(x->dtype, x->data + 2 * first, n, room);
        fine = finite_f32(room, n);
    }
    return fine;
}

static void each_finite(void *context, int64_t i, int rank)
{
    results *r = context;
    int64_t n = r->x->numel;

    (void)rank;
    r->of[i] = finite_part(r->x, light_part_at(n, r->parts, i), light_part_at(n, r->parts, i + 1));
}

static light_status all_finite(const light_kernel_args *args)
{
    float *out = (float *)args->out[0]->data;
    bool fine = !args->accumulate || *out != 0;
    results finite;

    all_parts(&finite, args->in[0], each_finite);
    for (int64_t i = 0; i < finite.parts; i++) fine &= finite.of[i] != 0;
    *out = fine ? 1 : 0;
    return LIGHT_OK;
}

/* ---- in place ------------------------------------------------------------ */

typedef struct change {
    light_tensor *x;
    double number;
    bool limit; /* to [-number, number], else times number */
} change;

static void change_f32(float *x, int64_t n, float number, bool limit)
{
    if (!limit)
        for (int64_t i = 0; i < n; i++) x[i] *= number;
    else /* what is not a number stays so */
        for (int64_t i = 0; i < n; i++) x[i] = x[i] > number ? number : x[i] < -number ? -number : x[i];
}

static void change_f64(double *x, int64_t n, double number, bool limit)
{
    if (!limit)
        for (int64_t i = 0; i < n; i++) x[i] *= number;
    else
        for (int64_t i = 0; i < n; i++) x[i] = x[i] > number ? number : x[i] < -number ? -number : x[i];
}

static void change_part(void *context, int64_t from, int64_t to)
{
    const change *c = context;
    light_tensor *x = c->x;
    float room[BLOCK];

    if (x->dtype == LIGHT_F32) {
        change_f32((float *)x->data + from, to - from, (float)c->number, c->limit);
        return;
    }
    if (x->dtype == LIGHT_F64) {
        change_f64((double *)x->data + from, to - from, c->number, c->limit);
        return;
    }
    for (int64_t first = from; first < to; first += BLOCK) {
        int64_t n = to - first < BLOCK ? to - first : BLOCK;
        light_to_f32(x->dtype, x->data + 2 * first, n, room);
        change_f32(room, n, (float)c->number, c->limit);
        LIGHT_ISA(light_from_f32)(x->dtype, x->data + 2 * first, n, room, false);
    }
}

static light_status scale(const light_kernel_args *args)
{
    change c = {.x = args->out[0], .number = *(const float *)args->in[1]->data};
    /* The common case, a norm below the limit, costs no pass. */
    if (c.number != 1) light_parallel(c.x->numel, 1, change_part, &c);
    return LIGHT_OK;
}

static light_status clamp_flat(const light_kernel_args *args)
{
    const light_fill_attrs *attrs = args->attrs;
    change c = {.x = args->out[0], .number = attrs->value, .limit = true};
    light_parallel(c.x->numel, 1, change_part, &c);
    return LIGHT_OK;
}

/* ---- dynamic loss scaling ------------------------------------------------ */

static light_status loss_scale(const light_kernel_args *args)
{
    const light_loss_scale_attrs *attrs = args->attrs;
    float *state = (float *)args->out[0]->data;
    if (state[LIGHT_LOSS_SCALE_FOUND] != 0) {
        state[LIGHT_LOSS_SCALE_SCALE] *= (float)attrs->backoff_factor;
        state[LIGHT_LOSS_SCALE_TRACKER] = 0;
        state[LIGHT_LOSS_SCALE_SKIPPED]++;
    } else if (++state[LIGHT_LOSS_SCALE_TRACKER] >= (float)attrs->growth_interval) {
        float grown = state[LIGHT_LOSS_SCALE_SCALE] * (float)attrs->growth_factor;
        if (grown <= FLT_MAX) state[LIGHT_LOSS_SCALE_SCALE] = grown;
        state[LIGHT_LOSS_SCALE_TRACKER] = 0;
    }
    state[LIGHT_LOSS_SCALE_FOUND] = 0;
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_flat_kernels)[] = {
    {LIGHT_KERNEL_SUM_SQUARES, sum_squares},
    {LIGHT_KERNEL_ALL_FINITE, all_finite},
    {LIGHT_KERNEL_SCALE, scale},
    {LIGHT_KERNEL_CLAMP_FLAT, clamp_flat},
    {LIGHT_KERNEL_LOSS_SCALE, loss_scale},
    {LIGHT_KERNEL_COUNT, NULL},
};
