/* SPDX-License-Identifier: Apache-2.0 */
/* conv2d and conv_transpose2d against plain loops in double: stride, padding, dilation, groups, both layouts. */
#include "support/op_check.h"

#include <stdlib.h>
#include <string.h>

#define MOST 8192

typedef struct conv_case {
    light_conv2d_params params;
    bool transpose, bias;
} conv_case;

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    const conv_case *c = user;
    light_tensor *bias = c->bias ? in[2] : NULL;
    return c->transpose ? light_conv_transpose2d_op(s, in[0], in[1], bias, c->params)
                        : light_conv2d_op(s, in[0], in[1], bias, c->params);
}

static int64_t or_one(int64_t value)
{
    return value ? value : 1;
}

/* Each product of an input and a weight goes to the output where it belongs: one loop serves both directions. `small` is
 * the side with the coarser grid (a convolution's output, a transposed one's input). */
static void reference(const conv_case *c, light_shape xs, light_shape ws, light_shape ys, const double *x,
                      const double *w, const double *b, double *y)
{
    const light_conv2d_params *p = &c->params;
    int64_t groups = or_one(p->groups), pixels = ys.dims[2] * ys.dims[3];
    light_shape small = c->transpose ? xs : ys, large = c->transpose ? ys : xs;
    for (int64_t i = 0; i < light_shape_numel(ys); i++) y[i] = c->bias ? b[i / pixels % ys.dims[1]] : 0;
    int64_t small_per_group = small.dims[1] / groups, large_per_group = large.dims[1] / groups;
    for (int64_t n = 0; n < xs.dims[0]; n++)
        for (int64_t sc = 0; sc < small.dims[1]; sc++)
            for (int64_t sh = 0; sh < small.dims[2]; sh++)
                for (int64_t sw = 0; sw < small.dims[3]; sw++)
                    for (int64_t l = 0; l < large_per_group; l++)
                        for (int64_t kh = 0; kh < ws.dims[2]; kh++)
                            for (int64_t kw = 0; kw < ws.dims[3]; kw++) {
                                int64_t lh =
                                    sh * or_one(p->stride[0]) - p->padding[0] + kh * or_one(p->dilation[0]);
                                int64_t lw =
                                    sw * or_one(p->stride[1]) - p->padding[1] + kw * or_one(p->dilation[1]);
                                int64_t lc = sc / small_per_group * large_per_group + l;
                                if (lh < 0 || lh >= large.dims[2] || lw < 0 || lw >= large.dims[3]) continue;
                                double weight =
                                    w[((sc * large_per_group + l) * ws.dims[2] + kh) * ws.dims[3] + kw];
                                int64_t si =
                                    ((n * small.dims[1] + sc) * small.dims[2] + sh) * small.dims[3] + sw;
                                int64_t li =
                                    ((n * large.dims[1] + lc) * large.dims[2] + lh) * large.dims[3] + lw;
                                if (c->transpose)
                                    y[li] += x[si] * weight;
                                else
                                    y[si] += x[li] * weight;
                            }
}

static void check_conv(conv_case c, light_shape x, light_shape w, light_shape y)
{
    static double xv[MOST], wv[MOST], bv[64], yv[MOST];
    spread_values(xv, light_shape_numel(x), -2, 2, 1);
    spread_values(wv, light_shape_numel(w), -2, 2, 2);
    spread_values(bv, y.dims[1], -2, 2, 3);
    reference(&c, x, w, y, xv, wv, bv, yv);
    op_check check = {.name = "conv",
                      .apply = apply,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = x, .values = xv},
                             {.shape = w, .values = wv},
                             {.shape = LIGHT_SHAPE(y.dims[1]), .values = bv, .constant = !c.bias}},
                      .out = y,
                      .expected = yv};
    check_op(&check);
}

static void convolutions(void **state)
{
    (void)state;
    check_conv((conv_case){.bias = true, .params = {.padding = {1, 1}}}, LIGHT_SHAPE(2, 3, 5, 6),
               LIGHT_SHAPE(4, 3, 3, 3), LIGHT_SHAPE(2, 4, 5, 6));
    check_conv((conv_case){0}, LIGHT_SHAPE(1, 2, 4, 4), LIGHT_SHAPE(3, 2, 1, 1), LIGHT_SHAPE(1, 3, 4, 4));
    check_conv((conv_case){.params = {.stride = {2, 1}, .padding = {0, 2}}}, LIGHT_SHAPE(2, 2, 7, 5),
               LIGHT_SHAPE(2, 2, 3, 2), LIGHT_SHAPE(2, 2, 3, 8));
    check_conv((conv_case){.bias = true, .params = {.dilation = {2, 2}}}, LIGHT_SHAPE(1, 2, 7, 6),
               LIGHT_SHAPE(3, 2, 2, 3), LIGHT_SHAPE(1, 3, 5, 2));
}

static void groups(void **state)
{
    (void)state;
    check_conv((conv_case){.bias = true, .params = {.groups = 2, .padding = {1, 1}}}, LIGHT_SHAPE(1, 4, 4, 4),
               LIGHT_SHAPE(6, 2, 3, 3), LIGHT_SHAPE(1, 6, 4, 4));
    check_conv((conv_case){.params = {.groups = 4}}, LIGHT_SHAPE(2, 4, 4, 3), LIGHT_SHAPE(4, 1, 2, 2),
               LIGHT_SHAPE(2, 4, 3, 2));
}

static void transposed_convolutions(void **state)
{
    (void)state;
    check_conv((conv_case){.transpose = true, .bias = true, .params = {.stride = {2, 2}, .padding = {1, 1}}},
               LIGHT_SHAPE(2, 3, 3, 4), LIGHT_SHAPE(3, 2, 4, 4), LIGHT_SHAPE(2, 2, 6, 8));
    check_conv((conv_case){.transpose = true, .params = {.stride = {2, 2}, .output_padding = {1, 0}}},
               LIGHT_SHAPE(1, 2, 3, 3), LIGHT_SHAPE(2, 3, 2, 2), LIGHT_SHAPE(1, 3, 7, 6));
    check_conv((conv_case){.transpose = true, .bias = true, .params = {.groups = 2}}, LIGHT_SHAPE(1, 4, 3, 3),
               LIGHT_SHAPE(4, 2, 2, 2), LIGHT_SHAPE(1, 4, 4, 4));
}

static void bits_do_not_depend_on_threads(void **state)
{
    enum { X = 8 * 16 * 12 * 12, W = 24 * 16 * 3 * 3 };
    double *x = malloc(X * sizeof *x), *w = malloc(W * sizeof *w);
    (void)state;
    assert_true(x && w);
    rough_values(x, X, 4);
    rough_values(w, W, 5);
    conv_case c = {.params = {.padding = {1, 1}}};
    op_check check = {.name = "conv",
                      .apply = apply,
                      .user = &c,
                      .count = 2,
                      .layouts = 1u << OP_CHANNELS_LAST,
                      .out = LIGHT_SHAPE(8, 24, 12, 12),
                      .in = {{.shape = LIGHT_SHAPE(8, 16, 12, 12), .values = x},
                             {.shape = LIGHT_SHAPE(24, 16, 3, 3), .values = w}}};
    check_op_threads(&check);
    free(x);
    free(w);
}

static void bad_shapes(void **state)
{
    static double x[MOST];
    conv_case c = {0};
    (void)state;
    op_check check = {.name = "conv",
                      .apply = apply,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(1, 3, 5, 5), .values = x},
                             {.shape = LIGHT_SHAPE(4, 2, 3, 3), .values = x}}};
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE,
                   "conv2d: input [1, 3, 5, 5] has 3 channels, weight [4, 2, 3, 3] with 1 groups takes 2");
    check.in[1].shape = LIGHT_SHAPE(4, 3, 7, 7);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "the kernel reaches over 7");
    check.in[0].shape = LIGHT_SHAPE(3, 5, 5);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "both must have four dims");
    c.transpose = true;
    c.params.output_padding[0] = 1;
    check.in[0].shape = LIGHT_SHAPE(1, 4, 3, 3);
    check.in[1].shape = LIGHT_SHAPE(4, 2, 3, 3);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT,
                   "output_padding 1 must be below stride or dilation (1)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(groups),
        cmocka_unit_test(transposed_convolutions),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
