/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling against plain loops: sizes, ceil_mode, padding, dilation, adaptive windows, both layouts. */
#include "support/op_check.h"

#include <stdlib.h>

typedef struct pool_case {
    bool max;
    light_pool2d_params p;
    int64_t adaptive[2]; /* 0: not */
} pool_case;

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    const pool_case *c = user;

    if (c->adaptive[0] && c->max) return light_adaptive_max_pool2d(s, in[0], c->adaptive[0], c->adaptive[1]);
    if (c->adaptive[0]) return light_adaptive_avg_pool2d(s, in[0], c->adaptive[0], c->adaptive[1]);
    return c->max ? light_max_pool2d_with(s, in[0], c->p) : light_avg_pool2d_with(s, in[0], c->p);
}

/* The windows of one axis by the definition: every place that may hold a window is tried. */
static int64_t windows(const pool_case *c, int axis, int64_t size)
{
    int64_t k = c->p.kernel[axis], stride = c->p.stride[axis] ? c->p.stride[axis] : k,
            pad = c->p.padding[axis];
    int64_t span = (k - 1) * (c->p.dilation[axis] ? c->p.dilation[axis] : 1) + 1, count = 0;

    if (c->adaptive[0]) return c->adaptive[axis];
    for (int64_t at = -pad;; at += stride) {
        bool fits = at + span <= size + pad;
        bool begins_inside = at < size;
        bool rest = c->p.ceil_mode && at - stride + span < size + pad && begins_inside;
        if (!fits && !rest) return count;
        count++;
    }
}

static double pixel_value(const pool_case *c, const double *plane, const int64_t *size, const int64_t *out,
                          int64_t oh, int64_t ow)
{
    int64_t from[2], to[2], step[2], o[2] = {oh, ow}, counted = 1;
    double best = -INFINITY, sum = 0;

    for (int axis = 0; axis < 2; axis++) {
        int64_t k = c->p.kernel[axis], stride = c->p.stride[axis] ? c->p.stride[axis] : k;
        step[axis] = c->p.dilation[axis] && !c->adaptive[0] ? c->p.dilation[axis] : 1;
        from[axis] = o[axis] * stride - c->p.padding[axis];
        to[axis] = from[axis] + (k - 1) * step[axis] + 1;
        if (c->adaptive[0]) {
            from[axis] = (int64_t)floor((double)o[axis] * (double)size[axis] / (double)out[axis]);
            to[axis] = (int64_t)ceil((double)(o[axis] + 1) * (double)size[axis] / (double)out[axis]);
        }
        int64_t inside = 0;
        for (int64_t i = from[axis]; i < to[axis]; i++)
            inside += c->p.exclude_padding ? i >= 0 && i < size[axis] : i < size[axis] + c->p.padding[axis];
        counted *= inside;
    }
    for (int64_t h = from[0]; h < to[0]; h += step[0]) {
        for (int64_t w = from[1]; w < to[1]; w += step[1]) {
            if (h < 0 || w < 0 || h >= size[0] || w >= size[1]) continue;
            best = fmax(best, plane[h * size[1] + w]);
            sum += plane[h * size[1] + w];
        }
    }
    return c->max ? best : sum / (double)counted;
}

static void check_case(pool_case c, int64_t n, int64_t channels, int64_t height, int64_t width)
{
    int64_t size[2] = {height, width}, out[2] = {windows(&c, 0, height), windows(&c, 1, width)};
    int64_t count = n * channels * height * width, results = n * channels * out[0] * out[1];
    double *x = malloc((size_t)count * sizeof *x), *expected = malloc((size_t)results * sizeof *expected);

    assert_non_null(x);
    assert_non_null(expected);
    distinct_values(x, count, (uint64_t)(height * 31 + width));
    for (int64_t i = 0; i < results; i++)
        expected[i] = pixel_value(&c, x + i / (out[0] * out[1]) * height * width, size, out,
                                  i / out[1] % out[0], i % out[1]);
    op_check check = {.name = "pool",
                      .apply = apply,
                      .user = &c,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(n, channels, height, width), .values = x}},
                      .out = LIGHT_SHAPE(n, channels, out[0], out[1]),
                      .expected = expected};
    check_op(&check);
    free(x);
    free(expected);
}

static void max_windows(void **state)
{
    (void)state;
    check_case((pool_case){.max = true, .p = {.kernel = {2, 2}}}, 2, 3, 4, 6);
    check_case((pool_case){.max = true, .p = {.kernel = {2, 2}}}, 1, 2, 7, 7);
    check_case((pool_case){.max = true, .p = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}}, 2, 2,
               7, 8);
    check_case((pool_case){.max = true, .p = {.kernel = {3, 2}, .stride = {1, 2}, .padding = {1, 0}}}, 1, 1,
               5, 5);
    check_case((pool_case){.max = true, .p = {.kernel = {2, 3}, .stride = {2, 1}, .dilation = {2, 3}}}, 1, 2,
               8, 9);
    check_case((pool_case){.max = true,
                           .p = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}, .dilation = {2, 1}}},
               1, 2, 9, 6);
}

/* Vectors of channels that end within a pixel, at its end and behind it. */
static void numbers_of_channels(void **state)
{
    const int64_t channels[] = {2, 6, 15, 16, 17, 33};

    (void)state;
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        check_case((pool_case){.max = true, .p = {.kernel = {2, 2}}}, 1, channels[i], 3, 84 / channels[i]);
}

static light_tensor *apply_twice(light_step *s, light_tensor **in, const void *user)
{
    return light_add(s, apply(s, in, user), light_mul_scalar(s, apply(s, in, user), 2));
}

static void gradients_add_up(void **state)
{
    double x[2 * 3 * 4 * 5], expected[2 * 3 * 2 * 2];
    pool_case c = {.max = true, .p = {.kernel = {2, 2}}};
    const int64_t size[2] = {4, 5}, out[2] = {2, 2};
    op_check check = {.name = "pool",
                      .apply = apply_twice,
                      .user = &c,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(2, 3, 4, 5), .values = x}},
                      .out = LIGHT_SHAPE(2, 3, 2, 2),
                      .expected = expected};

    (void)state;
    distinct_values(x, 120, 2);
    for (int i = 0; i < 24; i++)
        expected[i] = 3 * pixel_value(&c, x + i / 4 * 20, size, out, i / 2 % 2, i % 2);
    check_op(&check);
}

static void ceil_mode(void **state)
{
    (void)state;
    for (int max = 0; max < 2; max++) {
        check_case((pool_case){.max = max, .p = {.kernel = {3, 3}, .stride = {2, 2}, .ceil_mode = true}}, 1,
                   2, 6, 7);
        /* The window that would begin in the padding behind the image is left out. */
        check_case(
            (pool_case){.max = max,
                        .p = {.kernel = {2, 2}, .stride = {3, 3}, .padding = {1, 1}, .ceil_mode = true}},
            1, 2, 5, 6);
        check_case((pool_case){.max = max, .p = {.kernel = {2, 2}, .ceil_mode = true}}, 1, 3, 5, 7);
        check_case(
            (pool_case){.max = max,
                        .p = {.kernel = {4, 3}, .stride = {3, 2}, .padding = {2, 1}, .ceil_mode = true}},
            1, 2, 6, 5);
    }
}

static void averages(void **state)
{
    (void)state;
    check_case((pool_case){.p = {.kernel = {2, 2}}}, 2, 3, 4, 5);
    check_case((pool_case){.p = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}}, 1, 2, 6, 7);
    check_case(
        (pool_case){.p = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}, .exclude_padding = true}}, 1,
        2, 6, 7);
    check_case((pool_case){.p = {.kernel = {3, 3},
                                 .stride = {2, 2},
                                 .padding = {1, 1},
                                 .exclude_padding = true,
                                 .ceil_mode = true}},
               1, 2, 6, 6);
    check_case((pool_case){.p = {.kernel = {5, 4}}}, 2, 2, 5, 4);
}

static void adaptive(void **state)
{
    (void)state;
    for (int max = 0; max < 2; max++) {
        check_case((pool_case){.max = max, .adaptive = {1, 1}}, 2, 3, 4, 5);
        check_case((pool_case){.max = max, .adaptive = {3, 2}}, 1, 2, 7, 5);
        check_case((pool_case){.max = max, .adaptive = {5, 7}}, 1, 2, 3, 4);
    }
}

static void one_channel_one_pixel(void **state)
{
    (void)state;
    check_case((pool_case){.max = true, .p = {.kernel = {2, 2}}}, 1, 1, 2, 2);
    check_case((pool_case){.max = true, .p = {.kernel = {1, 1}}}, 1, 1, 1, 1);
    check_case((pool_case){.p = {.kernel = {1, 1}}}, 2, 3, 1, 1);
}

static void not_a_number_wins(void **state)
{
    double x[] = {1, NAN, 3, 4, 5, 6, 7, 8}, expected[] = {NAN, 8};
    pool_case c = {.max = true, .p = {.kernel = {2, 2}}};
    op_check check = {.name = "pool",
                      .apply = apply,
                      .user = &c,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(1, 2, 2, 2), .values = x}},
                      .out = LIGHT_SHAPE(1, 2, 1, 1),
                      .expected = expected,
                      .no_grad = true};

    (void)state;
    check_op(&check);
}

static light_tensor *apply_transposed(light_step *s, light_tensor **in, const void *user)
{
    light_tensor *x = light_permute(s, in[0], LIGHT_DIMS(0, 1, 3, 2));

    return apply(s, &x, user);
}

static void strided_input(void **state)
{
    double x[24], expected[4];
    pool_case c = {.max = true, .p = {.kernel = {2, 2}}};
    op_check check = {.name = "pool",
                      .apply = apply_transposed,
                      .user = &c,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(1, 2, 4, 3), .values = x}},
                      .out = LIGHT_SHAPE(1, 2, 1, 2),
                      .expected = expected};

    (void)state;
    distinct_values(x, 24, 1);
    for (int i = 0; i < 4; i++) { /* plane i / 2 is 3 x 4 after the exchange: one row of two windows */
        const double *p = x + i / 2 * 12 + i % 2 * 6;
        expected[i] = fmax(fmax(p[0], p[1]), fmax(p[3], p[4]));
    }
    check_op(&check);
}

static void same_bits_for_all_threads(void **state)
{
    int64_t n = 3 * 40 * 20 * 22;
    double *x = malloc((size_t)n * sizeof *x);
    light_pool2d_params p = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}};

    (void)state;
    assert_non_null(x);
    rough_values(x, n, 4);
    for (int max = 0; max < 3; max++) { /* 2: windows side by side */
        for (int last = 0; last < 2; last++) {
            pool_case c = {.max = max > 0, .p = max < 2 ? p : (light_pool2d_params){.kernel = {2, 2}}};
            op_check check = {.name = "pool",
                              .apply = apply,
                              .user = &c,
                              .count = 1,
                              .in = {{.shape = LIGHT_SHAPE(3, 40, 20, 22), .values = x}},
                              .layouts = 1u << (last ? OP_CHANNELS_LAST : OP_ROW_MAJOR),
                              .out = LIGHT_SHAPE(3, 40, 10, 11)};
            check_op_threads(&check);
        }
    }
    free(x);
}

static void fails(pool_case c, light_shape shape, light_status status, const char *text)
{
    double x[64] = {0};
    op_check check = {
        .name = "pool", .apply = apply, .user = &c, .count = 1, .in = {{.shape = shape, .values = x}}};

    check_op_fails(&check, LIGHT_F32, status, text);
}

static void wrong_arguments(void **state)
{
    light_shape shape = LIGHT_SHAPE(1, 2, 4, 4);

    (void)state;
    fails((pool_case){.max = true, .p = {.kernel = {2, 2}}}, LIGHT_SHAPE(2, 4, 4), LIGHT_ERR_SHAPE,
          "[2, 4, 4]");
    fails((pool_case){.max = true, .p = {.kernel = {5, 2}}}, shape, LIGHT_ERR_SHAPE, "window of 5");
    fails((pool_case){.max = true, .p = {.kernel = {2, 2}, .padding = {2, 0}}}, shape, LIGHT_ERR_ARGUMENT,
          "half");
    fails((pool_case){.p = {.kernel = {0, 2}}}, shape, LIGHT_ERR_ARGUMENT, "size 0");
    fails((pool_case){.p = {.kernel = {2, 2}, .stride = {-1, 1}}}, shape, LIGHT_ERR_ARGUMENT, "stride -1");
    fails((pool_case){.p = {.kernel = {2, 2}, .dilation = {2, 1}}}, shape, LIGHT_ERR_ARGUMENT, "dilation");
    fails((pool_case){.max = true, .adaptive = {-1, 1}}, shape, LIGHT_ERR_ARGUMENT, "-1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(max_windows),
        cmocka_unit_test(numbers_of_channels),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(ceil_mode),
        cmocka_unit_test(averages),
        cmocka_unit_test(adaptive),
        cmocka_unit_test(one_channel_one_pixel),
        cmocka_unit_test(not_a_number_wins),
        cmocka_unit_test(strided_input),
        cmocka_unit_test(same_bits_for_all_threads),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
