/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels over flat buffers in every dtype: sums of squares, scaling, limits, finiteness, optimizers; and random numbers
 * element by element. */
#include "base/exact.h"
#include "base/philox.h"
#include "cpu/once/team.h"
#include "tensor/device.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/near.h"

enum { N = 100003 }; /* several parts, and a remainder everywhere */

static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16};

static double epsilon(light_dtype dtype)
{
    return dtype == LIGHT_F64    ? DBL_EPSILON
           : dtype == LIGHT_F32  ? FLT_EPSILON
           : dtype == LIGHT_BF16 ? 0x1p-7
                                 : 0x1p-10;
}

static light_tensor *make(light_dtype dtype, int64_t n, const double *values)
{
    light_tensor *t;
    assert_int_equal(light_tensor_new(&t, LIGHT_SHAPE(n), dtype, NULL), LIGHT_OK);
    if (values)
        assert_int_equal(light_tensor_write(t, LIGHT_F64, values, (size_t)n * sizeof *values), LIGHT_OK);
    return t;
}

static double *read(const light_tensor *t)
{
    size_t bytes = (size_t)light_numel(t) * sizeof(double);
    double *values = malloc(bytes);
    assert_int_equal(light_tensor_read(t, LIGHT_F64, values, bytes), LIGHT_OK);
    return values;
}

static void run(light_kernel_id id, light_kernel_args args)
{
    args.device = light_device_cpu();
    assert_int_equal(args.device->backend->kernels[id](&args), LIGHT_OK);
}

/* Exact in every dtype: a few bits each. */
static double *wave(int64_t n)
{
    double *values = malloc((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = (double)((i * 37) % 33 - 16) / 8;
    return values;
}

static void test_sum_squares(void **state)
{
    (void)state;
    double *x = wave(N), want = 0;
    for (int i = 0; i < N; i++) want += x[i] * x[i];
    for (size_t d = 0; d < 4; d++) {
        light_tensor *t = make(dtypes[d], N, x), *out = make(LIGHT_F64, 1, (double[]){5});
        run(LIGHT_KERNEL_SUM_SQUARES, (light_kernel_args){.in = {t}, .out = {out}, .accumulate = 1});
        assert_near(*(double *)light_data(out), want + 5, 0); /* eighths: every sum is exact */
        run(LIGHT_KERNEL_SUM_SQUARES, (light_kernel_args){.in = {t}, .out = {out}});
        assert_near(*(double *)light_data(out), want, 0);
        light_tensor_free(t);
        light_tensor_free(out);
    }
    free(x);
}

/* However the gradients are cut between groups, the sum of squares is the same to the bit. */
static void test_exact_squares_can_be_cut(void **state)
{
    (void)state;
    double *x = wave(N), want[4] = {0};
    for (int i = 0; i < N; i++) x[i] = sin(i) * exp(i % 8);
    for (size_t d = 0; d < 4; d++) {
        int64_t group = 64 / (int64_t)light_dtype_size(dtypes[d]);
        light_tensor *t = make(dtypes[d], N, x), *limbs = NULL, *out = make(LIGHT_F64, 1, NULL);
        assert_int_equal(light_tensor_new(&limbs, LIGHT_SHAPE(LIGHT_EXACT_SIZE), LIGHT_I64, NULL), LIGHT_OK);
        double *all = read(t), plain = 0, whole = 0;
        for (int i = 0; i < N; i++) plain += all[i] * all[i];
        for (int64_t parts = 1; parts <= 5; parts++) {
            for (int64_t p = 0; p < parts; p++) {
                int64_t from = N * p / parts / group * group, to = N * (p + 1) / parts / group * group;
                if (p == parts - 1) to = N;
                light_tensor part = *t;
                part.data += from * (int64_t)light_dtype_size(dtypes[d]);
                light_tensor_set_shape(&part, LIGHT_SHAPE(to - from));
                run(LIGHT_KERNEL_EXACT_SQUARES,
                    (light_kernel_args){.in = {&part}, .out = {limbs}, .accumulate = p > 0});
            }
            run(LIGHT_KERNEL_EXACT_VALUE, (light_kernel_args){.in = {limbs}, .out = {out}});
            if (parts == 1) whole = *(double *)light_data(out);
            assert_true(*(double *)light_data(out) == whole);
        }
        assert_near(whole, plain, N * DBL_EPSILON * plain);
        want[d] = whole;
        free(all);
        light_tensor_free(t);
        light_tensor_free(limbs);
        light_tensor_free(out);
    }
    assert_true(want[0] > 0);
    free(x);
}

static void test_sums_do_not_depend_on_threads(void **state)
{
    (void)state;
    double *x = wave(N), sums[3];
    for (int i = 0; i < N; i++) x[i] = sin(i);
    light_tensor *t = make(LIGHT_F32, N, x), *out = make(LIGHT_F64, 1, NULL);
    int before = light_team_size();
    for (int threads = 1; threads <= 3; threads++) {
        light_set_num_threads(threads);
        run(LIGHT_KERNEL_SUM_SQUARES, (light_kernel_args){.in = {t}, .out = {out}});
        sums[threads - 1] = *(double *)light_data(out);
    }
    light_set_num_threads(before);
    assert_true(sums[0] == sums[1] && sums[1] == sums[2]);
    light_tensor_free(t);
    light_tensor_free(out);
    free(x);
}

static void test_scale_and_clamp(void **state)
{
    (void)state;
    double *x = wave(N);
    x[77] = NAN;
    for (size_t d = 0; d < 4; d++) {
        light_tensor *t = make(dtypes[d], N, x), *factor = make(LIGHT_F32, 1, (double[]){0.5});
        run(LIGHT_KERNEL_SCALE, (light_kernel_args){.in = {t, factor}, .out = {t}});
        double *y = read(t);
        for (int i = 0; i < N; i++)
            if (i != 77 && y[i] != x[i] / 2) fail_msg("%d: %g", i, y[i]);
        free(y);
        run(LIGHT_KERNEL_CLAMP_FLAT,
            (light_kernel_args){.in = {t}, .out = {t}, .attrs = &(light_fill_attrs){0.75}});
        y = read(t);
        for (int i = 0; i < N; i++)
            if (i != 77 && y[i] != fmin(fmax(x[i] / 2, -0.75), 0.75)) fail_msg("%d: %g", i, y[i]);
        assert_true(isnan(y[77]));
        free(y);
        light_tensor_free(t);
        light_tensor_free(factor);
    }
    free(x);
}

static void test_all_finite(void **state)
{
    (void)state;
    const double bad[] = {NAN, INFINITY, -INFINITY};
    const int places[] = {0, 50001, N - 1};
    for (size_t d = 0; d < 4; d++)
        for (int i = 0; i < 3; i++) {
            double *x = wave(N);
            light_tensor *t = make(dtypes[d], N, x), *out = make(LIGHT_F32, 1, (double[]){0});
            float *flag = light_data(out);
            run(LIGHT_KERNEL_ALL_FINITE, (light_kernel_args){.in = {t}, .out = {out}});
            assert_true(*flag == 1);
            x[places[i]] = bad[i];
            assert_int_equal(light_tensor_write(t, LIGHT_F64, x, N * sizeof *x), LIGHT_OK);
            run(LIGHT_KERNEL_ALL_FINITE, (light_kernel_args){.in = {t}, .out = {out}, .accumulate = 1});
            assert_true(*flag == 0);
            x[places[i]] = 0;
            assert_int_equal(light_tensor_write(t, LIGHT_F64, x, N * sizeof *x), LIGHT_OK);
            run(LIGHT_KERNEL_ALL_FINITE, (light_kernel_args){.in = {t}, .out = {out}, .accumulate = 1});
            assert_true(*flag == 0); /* stays down */
            free(x);
            light_tensor_free(t);
            light_tensor_free(out);
        }
}

/* One Adam step in every dtype against double: 16-bit parameters are computed in f32 and rounded once. */
static void test_optimizer_in_every_dtype(void **state)
{
    (void)state;
    double *p = wave(N), *g = wave(N);
    const light_optimizer_attrs attrs = {
        .kind = LIGHT_OPTIMIZER_ADAM, .step = 1, .lr = 0.25, .beta1 = 0.5, .beta2 = 0.75, .eps = 1e-3};
    for (int i = 0; i < N; i++) g[i] = g[i] / 2 + 0.0625;
    for (size_t d = 0; d < 4; d++) {
        light_tensor *t = make(dtypes[d], N, p), *grad = make(dtypes[d], N, g);
        light_tensor *m = make(dtypes[d], N, NULL), *v = make(dtypes[d], N, NULL);
        run(LIGHT_KERNEL_OPTIMIZER, (light_kernel_args){.in = {grad}, .out = {t, m, v}, .attrs = &attrs});
        double *y = read(t), *first = read(m);
        for (int i = 0; i < N; i++) {
            double want = p[i] - 0.25 * g[i] / (fabs(g[i]) + 1e-3);
            assert_near(y[i], want, 2.5 * 4 * epsilon(dtypes[d]));
            assert_near(first[i], g[i] / 2, epsilon(dtypes[d]));
        }
        free(y);
        free(first);
        light_tensor_free(t);
        light_tensor_free(grad);
        light_tensor_free(m);
        light_tensor_free(v);
    }
    free(p);
    free(g);
}

/* The copy is the new parameter, which is wide, rounded; the gradient may be wider or narrower; and every value is what it
 * is without them. */
static void test_optimizer_with_a_copy(void **state)
{
    (void)state;
    double *p = wave(N), *g = wave(N);
    const light_optimizer_attrs attrs = {
        .kind = LIGHT_OPTIMIZER_ADAMW, .step = 3, .lr = 0.1, .beta1 = 0.5, .beta2 = 0.75, .eps = 1e-3};
    for (int i = 0; i < N; i++) g[i] = g[i] / 2 + 0.0625; /* exact in every dtype */
    for (size_t d = 0; d < 4; d++)
        for (size_t e = 0; e < 4; e++)
            for (size_t c = 2; c < 4; c++) {
                light_tensor *plain[3], *with[3], *grads[2] = {make(dtypes[d], N, g), make(dtypes[e], N, g)};
                light_tensor *copy = make(dtypes[c], N, NULL), *want = make(dtypes[c], N, NULL);
                for (int i = 0; i < 3; i++) {
                    plain[i] = make(dtypes[d], N, i ? NULL : p);
                    with[i] = make(dtypes[d], N, i ? NULL : p);
                }
                run(LIGHT_KERNEL_OPTIMIZER, (light_kernel_args){.in = {grads[0]},
                                                                .out = {plain[0], plain[1], plain[2]},
                                                                .attrs = &attrs});
                run(LIGHT_KERNEL_OPTIMIZER,
                    (light_kernel_args){
                        .in = {grads[1]}, .out = {with[0], with[1], with[2], NULL, copy}, .attrs = &attrs});
                for (int i = 0; i < 3; i++)
                    assert_memory_equal(plain[i]->data, with[i]->data, N * light_dtype_size(dtypes[d]));
                run(LIGHT_KERNEL_COPY, (light_kernel_args){.in = {with[0]}, .out = {want}});
                if (d < 2) assert_memory_equal(copy->data, want->data, N * 2);
                for (int i = 0; i < 3; i++) light_tensor_free(plain[i]), light_tensor_free(with[i]);
                light_tensor_free(grads[0]), light_tensor_free(grads[1]);
                light_tensor_free(copy), light_tensor_free(want);
            }
    free(p);
    free(g);
}

/* Where something was found nothing is touched; steps that were skipped do not count. */
static void test_optimizer_under_loss_scaling(void **state)
{
    (void)state;
    double *p = wave(N), *g = wave(N);
    light_tensor *grad = make(LIGHT_F32, N, g), *copy = make(LIGHT_F16, N, p);
    light_tensor *scaling = make(LIGHT_F32, 4, (double[]){1024, 5, 1, 3});
    light_tensor *a[3], *b[3];
    for (int i = 0; i < 3; i++)
        a[i] = make(LIGHT_F32, N, i ? NULL : p), b[i] = make(LIGHT_F32, N, i ? NULL : p);
    light_optimizer_attrs attrs = {
        .kind = LIGHT_OPTIMIZER_ADAM, .step = 5, .lr = 0.25, .beta1 = 0.5, .beta2 = 0.75, .eps = 1e-3};
    const light_kernel_args args = {
        .in = {grad, NULL, scaling}, .out = {a[0], a[1], a[2], NULL, copy}, .attrs = &attrs};
    run(LIGHT_KERNEL_OPTIMIZER, args);
    for (int i = 0; i < 3; i++) assert_memory_equal(a[i]->data, b[i]->data, N * sizeof(float));
    double *kept = read(copy);
    for (int i = 0; i < N; i++) assert_true(kept[i] == p[i]);
    free(kept);

    ((float *)scaling->data)[LIGHT_LOSS_SCALE_FOUND] = 0;
    run(LIGHT_KERNEL_OPTIMIZER, args);
    attrs.step = 2;
    run(LIGHT_KERNEL_OPTIMIZER,
        (light_kernel_args){.in = {grad}, .out = {b[0], b[1], b[2]}, .attrs = &attrs});
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(a[i]->data, b[i]->data, N * sizeof(float));
        light_tensor_free(a[i]), light_tensor_free(b[i]);
    }
    light_tensor_free(grad);
    light_tensor_free(copy);
    light_tensor_free(scaling);
    free(p);
    free(g);
}

/* A thousand steps beside the rule written down in double. */
static void test_loss_scale(void **state)
{
    (void)state;
    const light_loss_scale_attrs attrs = {.growth_factor = 2, .backoff_factor = 0.5, .growth_interval = 3};
    light_tensor *t = make(LIGHT_F32, 4, (double[]){65536, 0, 0, 0});
    float *have = (float *)t->data;
    double scale = 65536, tracker = 0, skipped = 0;
    int grown = 0;
    for (uint32_t i = 0, random = 1; i < 1000; i++) {
        random = random * 1664525u + 1013904223u;
        bool found = random >> 24 < (i < 500 ? 20 : 90);
        have[LIGHT_LOSS_SCALE_FOUND] = found;
        if (found) {
            scale *= 0.5, tracker = 0, skipped++;
        } else if (++tracker == 3) {
            tracker = 0;
            if (scale * 2 <= FLT_MAX) scale *= 2, grown++;
        }
        run(LIGHT_KERNEL_LOSS_SCALE, (light_kernel_args){.in = {t}, .out = {t}, .attrs = &attrs});
        assert_true((double)have[0] == scale && (double)have[1] == tracker && have[2] == 0 &&
                    (double)have[3] == skipped);
    }
    assert_true(scale != FLT_MAX && skipped > 100 && grown > 100);
    light_tensor_free(t);
}

static void test_loss_scale_stays_finite(void **state)
{
    (void)state;
    const light_loss_scale_attrs attrs = {.growth_factor = 2, .backoff_factor = 0.5, .growth_interval = 1};
    light_tensor *t = make(LIGHT_F32, 4, (double[]){0x1p126, 0, 0, 0});
    for (int i = 0; i < 4; i++)
        run(LIGHT_KERNEL_LOSS_SCALE, (light_kernel_args){.in = {t}, .out = {t}, .attrs = &attrs});
    assert_true(*(float *)t->data == 0x1p127f);
    light_tensor_free(t);
}

/* ---- random numbers -------------------------------------------------------- */

static void test_random_elements(void **state)
{
    (void)state;
    const uint64_t rng[2] = {0x123456789abcdef0, 42};
    const uint32_t key[2] = {(uint32_t)rng[0], (uint32_t)(rng[0] >> 32)};
    const light_random_attrs uniform = {LIGHT_RANDOM_UNIFORM, -2, 6}, normal = {LIGHT_RANDOM_NORMAL, 1, 0.5},
                             integer = {LIGHT_RANDOM_INTEGER, -3, 4};
    light_tensor *u = make(LIGHT_F32, N, NULL), *z = make(LIGHT_F32, N, NULL), *k = make(LIGHT_I64, N, NULL);
    run(LIGHT_KERNEL_RANDOM, (light_kernel_args){.out = {u}, .attrs = &uniform, .rng = rng});
    run(LIGHT_KERNEL_RANDOM, (light_kernel_args){.out = {z}, .attrs = &normal, .rng = rng});
    run(LIGHT_KERNEL_RANDOM, (light_kernel_args){.out = {k}, .attrs = &integer, .rng = rng});
    int counts[7] = {0};
    for (int i = 0; i < N; i++) {
        uint32_t bits[4];
        float pair[2];
        light_philox_at(key, (uint64_t)i / 4, rng[1], bits);
        assert_near(((float *)light_data(u))[i], -2 + 8 * (double)light_uniform(bits[i % 4]),
                    4 * FLT_EPSILON);
        light_normal(bits[i % 4 / 2 * 2], bits[i % 4 / 2 * 2 + 1], pair);
        assert_near(((float *)light_data(z))[i], 1 + 0.5 * (double)pair[i % 2], 4 * FLT_EPSILON);
        int64_t whole = ((int64_t *)light_data(k))[i];
        assert_true(whole >= -3 && whole < 4);
        counts[whole + 3]++;
    }
    for (int i = 0; i < 7; i++) assert_near(counts[i], N / 7.0, 5 * sqrt(N / 7.0));
    light_tensor_free(u);
    light_tensor_free(z);
    light_tensor_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_squares),
        cmocka_unit_test(test_exact_squares_can_be_cut),
        cmocka_unit_test(test_sums_do_not_depend_on_threads),
        cmocka_unit_test(test_scale_and_clamp),
        cmocka_unit_test(test_all_finite),
        cmocka_unit_test(test_optimizer_in_every_dtype),
        cmocka_unit_test(test_optimizer_with_a_copy),
        cmocka_unit_test(test_optimizer_under_loss_scaling),
        cmocka_unit_test(test_loss_scale),
        cmocka_unit_test(test_loss_scale_stays_finite),
        cmocka_unit_test(test_random_elements),
    };
    return cmocka_run_group_tests_name("flat", tests, NULL, NULL);
}
