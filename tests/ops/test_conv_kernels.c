/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels CONV2D, CONV2D_BACKWARD_DATA and CONV2D_BACKWARD_WEIGHT against sums in double: shapes, groups, dtypes,
 * bias, accumulation. */
#include "support/conv.h"
#include "support/tensors.h"

#include "autograd/op.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

/* ---- one problem ------------------------------------------------------------------- */

enum { X, W, Y, BIAS, TENSORS };

static int output_of(light_conv_pass pass)
{
    return pass == LIGHT_CONV_FORWARD ? Y : pass == LIGHT_CONV_BACKWARD_DATA ? X : W;
}

typedef struct problem {
    light_step *step;
    light_tensor *t[TENSORS];
    double *before[TENSORS], *sums, *sizes;
} problem;

static light_tensor *image(light_step *s, light_dtype dtype, light_shape shape)
{
    light_tensor *t = light_step_tensor(s, (light_spec){dtype, shape, true});
    assert_non_null(t);
    return t;
}

/* Multiples of 1/32 in [-1, 1]: exact in every dtype. */
static void fill(light_tensor *t, uint64_t seed)
{
    double *values = new_doubles(t->numel);
    spread_values(values, t->numel, -32, 32, seed);
    for (int64_t i = 0; i < t->numel; i++) values[i] = nearbyint(values[i]) / 32;
    if (t->numel) write_doubles(t, values);
    free(values);
}

static problem new_problem(const light_conv_shape *c, light_dtype dtype, light_dtype weight, light_dtype bias)
{
    problem p = {.step = new_step()};
    p.t[X] = image(p.step, dtype, LIGHT_SHAPE(c->n, c->c, c->h, c->w));
    p.t[W] = light_zeros(p.step, LIGHT_SHAPE(c->o, c->c / c->groups, c->kh, c->kw), weight);
    p.t[Y] = image(p.step, dtype, LIGHT_SHAPE(c->n, c->o, c->oh, c->ow));
    p.t[BIAS] = light_zeros(p.step, LIGHT_SHAPE(c->o), bias);
    for (int i = 0; i < TENSORS; i++) {
        fill(p.t[i], (uint64_t)i + 1);
        p.before[i] = all_doubles(p.t[i]);
    }
    return p;
}

static void free_problem(problem *p)
{
    for (int i = 0; i < TENSORS; i++) free(p->before[i]);
    free(p->sums), free(p->sizes);
    light_step_free(p->step);
}

static void sum_products(problem *p, const light_conv_shape *c, light_conv_pass which)
{
    const int64_t count = p->t[output_of(which)]->numel;
    p->sums = new_doubles(count), p->sizes = new_doubles(count);
    conv_products(c, which, false, p->before[X], p->before[W], p->before[Y], p->sums, p->sizes);
}

static void run(problem *p, const light_conv_shape *c, light_conv_pass which, bool bias, uint32_t accumulate)
{
    light_step *s = p->step;
    light_tensor **t = p->t;
    const light_conv2d_attrs attrs = {{c->stride[0], c->stride[1]},
                                      {c->padding[0], c->padding[1]},
                                      {c->dilation[0], c->dilation[1]},
                                      c->groups};
    light_status status;
    if (which == LIGHT_CONV_FORWARD)
        status = LIGHT_RUN(s, CONV2D, .in = {t[X], t[W], bias ? t[BIAS] : NULL}, .out = {t[Y]},
                           .attrs = &attrs, .accumulate = accumulate);
    else if (which == LIGHT_CONV_BACKWARD_DATA)
        status = LIGHT_RUN(s, CONV2D_BACKWARD_DATA, .in = {t[Y], t[W]}, .out = {t[X]}, .attrs = &attrs,
                           .accumulate = accumulate);
    else
        status =
            LIGHT_RUN(s, CONV2D_BACKWARD_WEIGHT, .in = {t[Y], t[X]}, .out = {t[W], bias ? t[BIAS] : NULL},
                      .attrs = &attrs, .accumulate = accumulate | accumulate << 1);
    assert_light_ok(status);
}

/* cuDNN gives the gradient of 16-bit weights in 16 bits only, so on a GPU one of f32 is rounded on its way. */
static double detour(light_dtype dtype, light_dtype weight)
{
    const light_device *device = test_device();
    const bool gpu = !strcmp(device->backend->name, "cuda") && !device->simulated;
    return gpu && weight != dtype ? dtype_epsilon(dtype) / 2 : 0;
}

/* `size` is the sum of the absolute values of what was added; an algorithm may add in any order, in f32 or f64. Results of
 * 16 bits are rounded up to three times: the sum, the bias, what was there before. */
static void compare(const light_tensor *t, int64_t i, double got, double want, double size, double detour,
                    const char *what)
{
    const light_dtype dtype = (light_dtype)t->dtype;
    const double sum = dtype == LIGHT_F64 ? 0x1p-52 : 0x1p-23;
    const double round = light_dtype_size(dtype) == 2 ? 1.5 * dtype_epsilon(dtype) : 0;
    if (!nearly(got, want, 8 * sum * size + round * (fabs(want) + 2) + detour * size))
        fail_msg("%s, %s [%d]: %.9g instead of %.9g", what, light_dtype_name(dtype), (int)i, got, want);
}

static void compare_bias(const problem *p, const light_conv_shape *c, bool accumulate)
{
    const int64_t pixels = c->oh * c->ow;
    double *got = all_doubles(p->t[BIAS]);
    for (int64_t o = 0; o < c->o; o++) {
        double sum = accumulate ? p->before[BIAS][o] : 0, size = fabs(sum);
        for (int64_t n = 0; n < c->n; n++)
            for (int64_t i = 0; i < pixels; i++) {
                const double y = p->before[Y][(n * c->o + o) * pixels + i];
                sum += y, size += fabs(y);
            }
        compare(p->t[BIAS], o, got[o], sum, size, 0, "gradient of the bias");
    }
    free(got);
}

static void check_pass(const light_conv_shape *c, light_dtype dtype, light_dtype weight,
                       light_conv_pass which, bool bias, bool accumulate)
{
    static const char *const names[] = {"forward", "gradient of x", "gradient of w"};
    const light_dtype of_weight = which == LIGHT_CONV_BACKWARD_WEIGHT ? weight : dtype;
    problem p = new_problem(c, dtype, of_weight, of_weight);
    const int out = output_of(which);
    sum_products(&p, c, which);
    run(&p, c, which, bias, accumulate);
    double *got = all_doubles(p.t[out]);
    const int64_t pixels = c->oh * c->ow;
    for (int64_t i = 0; i < p.t[out]->numel; i++) {
        const double added = which == LIGHT_CONV_FORWARD && bias ? p.before[BIAS][i / pixels % c->o] : 0,
                     old = accumulate ? p.before[out][i] : 0;
        compare(p.t[out], i, got[i], p.sums[i] + added + old, p.sizes[i] + fabs(added) + fabs(old),
                which == LIGHT_CONV_BACKWARD_WEIGHT ? detour(dtype, weight) : 0, names[which]);
    }
    free(got);
    if (which == LIGHT_CONV_BACKWARD_WEIGHT && bias) compare_bias(&p, c, accumulate);
    free_problem(&p);
}

static void check(light_conv_shape c)
{
    static const light_dtype dtypes[] = {LIGHT_F32, LIGHT_F64, LIGHT_BF16, LIGHT_F16};
    for (int i = 0; i < 16; i++) {
        const light_dtype dtype = dtypes[i % 4];
        const bool bias = i & 4, accumulate = i & 8;
        check_pass(&c, dtype, dtype, LIGHT_CONV_FORWARD, bias, accumulate);
        check_pass(&c, dtype, dtype, LIGHT_CONV_BACKWARD_DATA, bias, accumulate);
        check_pass(&c, dtype, dtype, LIGHT_CONV_BACKWARD_WEIGHT, bias, accumulate);
        if (light_dtype_size(dtype) == 2)
            check_pass(&c, dtype, LIGHT_F32, LIGHT_CONV_BACKWARD_WEIGHT, bias, accumulate);
    }
}

/* ---- cases --------------------------------------------------------------------------- */

static void windows(void **state)
{
    (void)state;
    check(conv_shape(2, 16, 5, 8, 3, 1, 1, 1, 1));
    check(conv_shape(3, 5, 6, 7, 3, 1, 0, 1, 1)); /* odd numbers of channels */
    check(conv_shape(2, 1, 7, 9, 5, 1, 2, 1, 1));
    check(conv_shape(1, 8, 4, 8, 5, 1, 4, 1, 1)); /* windows in the padding alone */
}

static void strides_and_dilations(void **state)
{
    (void)state;
    check(conv_shape(2, 8, 8, 4, 3, 2, 1, 1, 1));
    check(conv_shape(2, 3, 9, 5, 4, 4, 0, 1, 1));
    check(conv_shape(1, 8, 9, 8, 3, 1, 2, 2, 1));
    check(conv_shape(2, 4, 7, 6, 2, 3, 1, 1, 1)); /* pixels that no window has */
    light_conv_shape c = conv_shape(1, 3, 7, 4, 3, 2, 0, 1, 1);
    c.stride[1] = 1, c.padding[0] = 2, c.dilation[1] = 3;
    conv_fit(&c);
    check(c);
    c = conv_shape(2, 3, 8, 4, 3, 3, 1, 1, 1);
    c.ow--; /* a column more, as output_padding gives */
    check(c);
}

static void one_by_one(void **state)
{
    (void)state;
    check(conv_shape(2, 16, 4, 8, 1, 1, 0, 1, 1));
    check(conv_shape(2, 5, 5, 3, 1, 2, 0, 1, 1));
    check(conv_shape(1, 4, 3, 4, 1, 1, 1, 1, 1));
    check(conv_shape(2, 24, 3, 32, 1, 1, 0, 1, 2));
    check(conv_shape(1, 3, 1, 2, 1, 1, 0, 1, 1));
}

static void groups(void **state)
{
    (void)state;
    check(conv_shape(2, 16, 5, 16, 3, 1, 1, 1, 16)); /* every channel by itself */
    check(conv_shape(1, 5, 6, 5, 3, 2, 1, 2, 5));
    check(conv_shape(2, 4, 5, 8, 3, 1, 1, 1, 4)); /* two of each */
    check(conv_shape(2, 6, 6, 9, 3, 2, 1, 1, 3));
    check(conv_shape(1, 32, 4, 24, 3, 1, 1, 1, 2)); /* large enough for products */
    check(conv_shape(2, 18, 4, 20, 2, 2, 0, 1, 2));
}

/* More rows than one part of a sum over the batch takes. */
static void many_pixels(void **state)
{
    (void)state;
    const light_conv_shape many = conv_shape(9, 4, 11, 4, 1, 1, 0, 1, 4),
                           few = conv_shape(9, 3, 11, 40, 1, 1, 0, 1, 1);
    check_pass(&many, LIGHT_BF16, LIGHT_F32, LIGHT_CONV_BACKWARD_WEIGHT, true, true);
    check_pass(&few, LIGHT_F32, LIGHT_F32, LIGHT_CONV_BACKWARD_WEIGHT, true, false);
}

/* A stride beyond the image counts for nothing, as long as there is one window. */
static void far_strides(void **state)
{
    (void)state;
    light_conv_shape c = conv_shape(2, 3, 5, 4, 3, (int64_t)1 << 40, 0, 1, 1);
    check(c);
    c = conv_shape(2, 8, 3, 4, 1, (int64_t)1 << 40, 0, (int64_t)1 << 40, 1);
    check(c);
}

static void nothing(void **state)
{
    (void)state;
    check(conv_shape(0, 4, 5, 8, 3, 1, 1, 1, 1));
    check(conv_shape(0, 4, 5, 4, 3, 1, 1, 1, 4));
    check(conv_shape(2, 4, 5, 0, 3, 1, 1, 1, 1));
    check(conv_shape(2, 0, 5, 3, 3, 1, 1, 1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows), cmocka_unit_test(strides_and_dilations), cmocka_unit_test(one_by_one),
        cmocka_unit_test(groups),  cmocka_unit_test(many_pixels),           cmocka_unit_test(far_strides),
        cmocka_unit_test(nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
