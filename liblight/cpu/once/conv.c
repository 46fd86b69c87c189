/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution: which implementation. */
#include "cpu/once/conv.h"

#include "cpu/once/conv_depth.h"
#include "cpu/once/conv_gather.h"
#include "cpu/once/conv_weights.h"
#include "cpu/once/gemm.h"
#include "cpu/once/scratch.h"

/* ---- matrix products ------------------------------------------------------ */

/* One pixel's window is the pixel itself, and the convolution is a matrix product for each group. */
static bool is_product(const light_conv_shape *s)
{
    return s->kh == 1 && s->kw == 1 && s->stride[0] == 1 && s->stride[1] == 1 && s->padding[0] == 0 &&
           s->padding[1] == 0 && !light_conv_is_depthwise(s);
}

/* c (+)= op(a) op(b) of one group after the other; steps in elements from group to group. */
static light_status multiply(const light_conv_shape *s, light_gemm_args *g, const int64_t steps[3],
                             light_dtype bias_dtype)
{
    const char *a = g->a, *b = g->b, *bias = g->bias;
    char *c = g->c;
    const int64_t in = (int64_t)light_dtype_size(g->dtype), out = (int64_t)light_dtype_size(g->out_dtype);
    g->bias_dtype = bias_dtype;
    for (int64_t i = 0; i < s->groups; i++) {
        g->a = a + i * steps[0] * in;
        g->b = b + i * steps[1] * in;
        g->c = c + i * steps[2] * out;
        if (bias) g->bias = bias + i * steps[2] * (int64_t)light_dtype_size(bias_dtype);
        LIGHT_TRY(light_cpu_gemm(g));
    }
    return LIGHT_OK;
}

/* ---- the calls ------------------------------------------------------------ */

light_status light_cpu_conv_forward(const light_conv_shape *s, const void *x, const void *w, const void *bias,
                                    light_dtype bias_dtype, void *y, bool accumulate)
{
    const int64_t cg = s->c / s->groups, og = s->o / s->groups;
    if (is_product(s)) {
        light_gemm_args g = {.dtype = s->dtype,
                             .out_dtype = s->dtype,
                             .trans_b = true,
                             .m = s->n * s->oh * s->ow,
                             .n = og,
                             .k = cg,
                             .a = x,
                             .lda = s->c,
                             .b = w,
                             .ldb = cg,
                             .c = y,
                             .ldc = s->o,
                             .bias = bias,
                             .accumulate = accumulate};
        return multiply(s, &g, (const int64_t[3]){cg, og * cg, og}, bias_dtype);
    }
    const void *real_bias = bias;
    if (bias && light_dtype_size(bias_dtype) == 2) {
        float *wide = light_cpu_scratch(LIGHT_SCRATCH_SUMS, (size_t)s->o * 4);
        if (!wide) return LIGHT_ERR_MEMORY;
        light_cpu_widen(bias_dtype, s->o, bias, wide);
        real_bias = wide;
    }
    if (light_conv_is_depthwise(s))
        return light_conv_depth_gather(LIGHT_CONV_FORWARD, s, x, w, real_bias, y, accumulate);
    return light_conv_gather(LIGHT_CONV_FORWARD, s, x, w, real_bias, y, accumulate);
}

light_status light_cpu_conv_backward_data(const light_conv_shape *s, const void *gy, const void *w, void *gx,
                                          bool accumulate)
{
    const int64_t cg = s->c / s->groups, og = s->o / s->groups;
    if (is_product(s)) {
        light_gemm_args g = {.dtype = s->dtype,
                             .out_dtype = s->dtype,
                             .m = s->n * s->oh * s->ow,
                             .n = cg,
                             .k = og,
                             .a = gy,
                             .lda = s->o,
                             .b = w,
                             .ldb = cg,
                             .c = gx,
                             .ldc = s->c,
                             .accumulate = accumulate};
        return multiply(s, &g, (const int64_t[3]){og, og * cg, cg}, LIGHT_DTYPE_DEFAULT);
    }
    if (light_conv_is_depthwise(s))
        return light_conv_depth_gather(LIGHT_CONV_BACKWARD_DATA, s, gy, w, NULL, gx, accumulate);
    return light_conv_gather(LIGHT_CONV_BACKWARD_DATA, s, gy, w, NULL, gx, accumulate);
}

light_status light_cpu_conv_backward_weight(const light_conv_shape *s, const void *gy, const void *x,
                                            void *gw, light_dtype gw_dtype, bool accumulate)
{
    const int64_t cg = s->c / s->groups, og = s->o / s->groups;
    if (is_product(s)) {
        light_gemm_args g = {.dtype = s->dtype,
                             .out_dtype = gw_dtype,
                             .trans_a = true,
                             .m = og,
                             .n = cg,
                             .k = s->n * s->oh * s->ow,
                             .a = gy,
                             .lda = s->o,
                             .b = x,
                             .ldb = s->c,
                             .c = gw,
                             .ldc = cg,
                             .accumulate = accumulate};
        return multiply(s, &g, (const int64_t[3]){og, cg, og * cg}, LIGHT_DTYPE_DEFAULT);
    }
    if (light_conv_is_depthwise(s)) return light_conv_depth_weights(s, gy, x, gw, gw_dtype, accumulate);
    return light_conv_weights(s, gy, x, gw, gw_dtype, accumulate);
}
