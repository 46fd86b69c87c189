/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over flat gradients: sum of squares, scaling, limits, the search for what is not finite; and the loss scale. */
#include "base/exact.h"
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

#include <float.h>
#include <string.h>

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

/* ---- the same, exactly ---------------------------------------------------- */

enum { GROUP_BYTES = 64, MOST_EXACT_PARTS = 32, GROUP = 32 /* elements at most */ };

/* Of `n` numbers, in an order that depends on nothing else: halves are joined. */
static double pairwise_squares(const double *x, int n)
{
    double square[GROUP];
    for (int i = 0; i < n; i++) square[i] = x[i] * x[i];
    for (int half = n / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) square[i] += square[i + half];
    return square[0];
}

/* Elements [from, to) of at most a group, and zeros up to one. */
static void load_group(const light_tensor *x, int64_t from, int64_t to, int n, double *group)
{
    float room[GROUP];
    int count = (int)(to - from);
    for (int i = count; i < n; i++) group[i] = 0;
    if (x->dtype == LIGHT_F64) {
        memcpy(group, (const double *)x->data + from, (size_t)count * sizeof *group);
        return;
    }
    const float *values = (const float *)x->data + from;
    if (x->dtype != LIGHT_F32) {
        light_to_f32(x->dtype, x->data + 2 * from, count, room);
        values = room;
    }
    for (int i = 0; i < count; i++) group[i] = values[i];
}

typedef struct exact_parts {
    const light_tensor *x;
    int64_t groups, parts;
    int64_t of[MOST_EXACT_PARTS][LIGHT_EXACT_SIZE];
} exact_parts;

static void each_exact(void *context, int64_t i, int rank)
{
    exact_parts *p = context;
    int n = GROUP_BYTES / (int)light_dtype_size((light_dtype)p->x->dtype);
    int64_t first = light_part_at(p->groups, p->parts, i), last = light_part_at(p->groups, p->parts, i + 1);
    double group[GROUP];

    (void)rank;
    memset(p->of[i], 0, sizeof p->of[i]);
    for (int64_t g = first; g < last; g++) {
        int64_t end = (g + 1) * n;
        load_group(p->x, g * n, end < p->x->numel ? end : p->x->numel, n, group);
        light_exact_add(p->of[i], pairwise_squares(group, n));
        if ((g - first) % (1 << 29) == (1 << 29) - 1) light_exact_carry(p->of[i]);
    }
    light_exact_carry(p->of[i]);
}

static light_status exact_squares(const light_kernel_args *args)
{
    int64_t *out = (int64_t *)args->out[0]->data;
    const light_tensor *x = args->in[0];
    int64_t n = GROUP_BYTES / (int64_t)light_dtype_size((light_dtype)x->dtype);
    exact_parts p = {.x = x, .groups = (x->numel + n - 1) / n};

    p.parts = light_part_count(p.groups, LIGHT_PARALLEL_MIN / 32, MOST_EXACT_PARTS);
    light_team_each(true, p.parts, each_exact, &p);
    if (!args->accumulate) memset(out, 0, LIGHT_EXACT_SIZE * sizeof *out);
    for (int64_t i = 0; i < p.parts; i++) light_exact_merge(out, p.of[i]);
    light_exact_carry(out);
    return LIGHT_OK;
}

static light_status exact_value(const light_kernel_args *args)
{
    *(double *)args->out[0]->data = light_exact_value((const int64_t *)args->in[0]->data);
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
    {LIGHT_KERNEL_EXACT_SQUARES, exact_squares},
    {LIGHT_KERNEL_EXACT_VALUE, exact_value},
    {LIGHT_KERNEL_ALL_FINITE, all_finite},
    {LIGHT_KERNEL_SCALE, scale},
    {LIGHT_KERNEL_CLAMP_FLAT, clamp_flat},
    {LIGHT_KERNEL_LOSS_SCALE, loss_scale},
    {LIGHT_KERNEL_COUNT, NULL},
};
