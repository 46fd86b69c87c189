/* SPDX-License-Identifier: Apache-2.0 */
#include "support/opcheck.h"

#include "cpu/once/team.h"
#include "tensor/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16};

static double epsilon(light_dtype dtype)
{
    return dtype == LIGHT_F64    ? 0x1p-52
           : dtype == LIGHT_F32  ? 0x1p-23
           : dtype == LIGHT_BF16 ? 0x1p-8
                                 : 0x1p-10;
}

static void ok(light_status status)
{
    if (status != LIGHT_OK) fail_msg("%s", light_error_message());
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

void opcheck_fill(double *values, int64_t n, uint64_t seed)
{
    uint64_t state = seed * 2654435761u + 1;

    for (int64_t i = 0; i < n; i++) values[i] = ((double)(next(&state) % 65) - 32) / 16;
}

void opcheck_fill_distinct(double *values, int64_t n, uint64_t seed)
{
    uint64_t state = seed * 2654435761u + 1;

    assert_true(n <= 256);
    for (int64_t i = 0; i < n; i++) values[i] = (double)i / 16;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)(next(&state) % (uint64_t)(i + 1));
        double swap = values[i];
        values[i] = values[j];
        values[j] = swap;
    }
}

void opcheck_fill_rough(double *values, int64_t n, uint64_t seed)
{
    uint64_t state = seed * 2654435761u + 1;

    for (int64_t i = 0; i < n; i++) values[i] = (double)next(&state) * 0x1p-29 - 2;
}

void opcheck_near(double a, double b, double tolerance, const char *what, int64_t i)
{
    if (isnan(a) && isnan(b)) return;
    if (a == b || fabs(a - b) <= tolerance * (1 + fabs(b))) return;
    fail_msg("%s[%lld] is %.9g, %.9g is right (tolerance %.3g)", what, (long long)i, a, b, tolerance);
}

/* ---- one run -------------------------------------------------------------- */

typedef struct run {
    light_tensor *in[OPCHECK_MAX_INPUTS];
    int n;
    double *y;                         /* as f64 */
    double *grads[OPCHECK_MAX_INPUTS]; /* NULL: none */
    int64_t count;                     /* of y */
} run;

static light_tensor *make_input(const opcheck_input *in, light_dtype dtype, bool row_major)
{
    light_tensor *t;

    ok(light_tensor_new(&t, in->shape, in->dtype ? in->dtype : dtype, NULL));
    if (in->channels_last && !row_major) light_tensor_set_channels_last(t, in->shape);
    ok(light_tensor_write(t, LIGHT_F64, in->values, (size_t)light_numel(t) * sizeof(double)));
    light_set_requires_grad(t, in->grad);
    return t;
}

static double *read_all(const light_tensor *t)
{
    size_t bytes = (size_t)light_numel(t) * sizeof(double);
    double *values = malloc(bytes + 1);

    assert_non_null(values);
    ok(light_tensor_read(t, LIGHT_F64, values, bytes));
    return values;
}

static void send_back(light_step *s, light_tensor *y)
{
    light_tensor *g;
    double *values = malloc((size_t)light_numel(y) * sizeof *values + 1);

    assert_non_null(values);
    opcheck_fill(values, light_numel(y), 77);
    ok(light_tensor_new(&g, light_shape_of(y), light_dtype_of(y), NULL));
    ok(light_tensor_write(g, LIGHT_F64, values, (size_t)light_numel(y) * sizeof *values));
    ok(light_backward_from(s, y, g));
    light_tensor_free(g);
    free(values);
}

/* passes: how often backward runs (0: not at all). */
static run run_once(const opcheck *check, light_dtype dtype, bool row_major, int passes)
{
    run r = {.n = check->n};
    light_step *s;

    ok(light_step_new(&s, .seed = 5));
    for (int i = 0; i < r.n; i++) r.in[i] = make_input(&check->in[i], dtype, row_major);
    for (int pass = 0; pass < (passes ? passes : 1); pass++) {
        light_tensor *y;

        ok(light_step_begin(s));
        light_step_set_counter(s, 3);
        y = check->fn(s, r.in, check->context);
        ok(light_step_status(s));
        assert_non_null(y);
        free(r.y);
        r.y = read_all(y);
        r.count = light_numel(y);
        if (passes) send_back(s, y);
    }
    for (int i = 0; i < r.n; i++)
        if (light_grad(r.in[i])) r.grads[i] = read_all(light_grad(r.in[i]));
    light_step_free(s);
    return r;
}

static void end_run(run *r)
{
    for (int i = 0; i < r->n; i++) {
        light_tensor_free(r->in[i]);
        free(r->grads[i]);
    }
    free(r->y);
}

static double tolerance(const opcheck *check, light_dtype dtype)
{
    return (check->slack ? check->slack : 16) * epsilon(dtype);
}

/* ---- checks ----------------------------------------------------------------- */

static void check_values(const opcheck *check, const double *expected, int64_t n, bool row_major)
{
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        run r = run_once(check, dtypes[d], row_major, 0);

        assert_int_equal(r.count, n);
        for (int64_t i = 0; i < n; i++)
            opcheck_near(r.y[i], expected[i], tolerance(check, dtypes[d]), light_dtype_name(dtypes[d]), i);
        end_run(&r);
    }
}

void opcheck_values(const opcheck *check, const double *expected, int64_t n)
{
    check_values(check, expected, n, false);
}

/* sum(y g) for the gradient that send_back gives. */
static double weighed(const opcheck *check, bool row_major)
{
    run r = run_once(check, LIGHT_F64, row_major, 0);
    double *g = malloc((size_t)r.count * sizeof *g + 1), sum = 0;

    assert_non_null(g);
    opcheck_fill(g, r.count, 77);
    for (int64_t i = 0; i < r.count; i++) sum += g[i] * r.y[i];
    free(g);
    end_run(&r);
    return sum;
}

static void check_differences(const opcheck *check, const run *r, int input, bool row_major)
{
    opcheck moved = *check;
    int64_t n = light_shape_numel(check->in[input].shape);
    double *values = malloc((size_t)n * sizeof *values + 1), h = 1e-5;

    assert_non_null(values);
    memcpy(values, check->in[input].values, (size_t)n * sizeof *values);
    moved.in[input].values = values;
    for (int64_t i = 0; i < n; i++) {
        double x = values[i], up, down;

        values[i] = x + h;
        up = weighed(&moved, row_major);
        values[i] = x - h;
        down = weighed(&moved, row_major);
        values[i] = x;
        opcheck_near(r->grads[input][i], (up - down) / (2 * h), 1e-6, "gradient", i);
    }
    free(values);
}

static void compare_gradients(const opcheck *check, const run *exact, light_dtype dtype, bool row_major)
{
    run r = run_once(check, dtype, row_major, 1), twice = run_once(check, dtype, row_major, 2);

    for (int i = 0; i < r.n; i++) {
        if (!check->in[i].grad) continue;
        assert_non_null(r.grads[i]);
        for (int64_t j = 0; j < light_shape_numel(check->in[i].shape); j++) {
            opcheck_near(r.grads[i][j], exact->grads[i][j], tolerance(check, dtype), light_dtype_name(dtype),
                         j);
            opcheck_near(twice.grads[i][j], 2 * r.grads[i][j], 2 * tolerance(check, dtype), "two passes", j);
        }
    }
    end_run(&r);
    end_run(&twice);
}

static void check_gradients(const opcheck *check, bool row_major)
{
    run exact = run_once(check, LIGHT_F64, row_major, 1);

    for (int i = 0; i < check->n; i++) {
        if (!check->in[i].grad) continue;
        assert_non_null(exact.grads[i]);
        check_differences(check, &exact, i, row_major);
    }
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
        compare_gradients(check, &exact, dtypes[d], row_major);
    end_run(&exact);
}

void opcheck_gradients(const opcheck *check)
{
    check_gradients(check, false);
}

void opcheck_all(const opcheck *check, const double *expected, int64_t n)
{
    bool layouts = false;

    for (int i = 0; i < check->n; i++) layouts |= check->in[i].channels_last;
    for (int row_major = 0; row_major <= layouts; row_major++) {
        check_values(check, expected, n, row_major);
        check_gradients(check, row_major);
    }
}

void opcheck_threads(const opcheck *check)
{
    int before = light_team_size();
    run first = {0};

    for (int threads = 1; threads <= 3; threads++) {
        light_set_num_threads(threads);
        run r = run_once(check, LIGHT_F32, false, 1);
        for (int i = 0; threads > 1 && i < r.n; i++)
            if (check->in[i].grad)
                assert_memory_equal(r.grads[i], first.grads[i],
                                    (size_t)light_shape_numel(check->in[i].shape) * sizeof(double));
        if (threads == 1) {
            first = r;
            continue;
        }
        assert_memory_equal(r.y, first.y, (size_t)r.count * sizeof(double));
        end_run(&r);
    }
    end_run(&first);
    light_set_num_threads(before);
}

void opcheck_fails(const opcheck *check, light_dtype dtype, light_status status, const char *text)
{
    light_tensor *in[OPCHECK_MAX_INPUTS];
    light_step *s;

    ok(light_step_new(&s, .seed = 5));
    for (int i = 0; i < check->n; i++) in[i] = make_input(&check->in[i], dtype, false);
    ok(light_step_begin(s));
    assert_null(check->fn(s, in, check->context));
    assert_int_equal(light_step_status(s), status);
    if (!strstr(light_error_message(), text)) fail_msg("\"%s\" lacks \"%s\"", light_error_message(), text);
    for (int i = 0; i < check->n; i++) light_tensor_free(in[i]);
    light_step_free(s);
}
