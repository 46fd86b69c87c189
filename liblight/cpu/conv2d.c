/* SPDX-License-Identifier: Apache-2.0 */
/* The convolution kernels: read shapes off tensors and leave the arithmetic to once/conv.c. */
#include "cpu/convert.h"
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/once/conv.h"

static light_conv_shape read_shape(const light_kernel_args *args, const light_tensor *x,
                                   const light_tensor *w, const light_tensor *y)
{
    const light_conv2d_attrs *a = args->attrs;
    light_conv_shape s = {
        .dtype = (light_dtype)x->dtype,
        .n = x->shape[0],
        .c = x->shape[1],
        .h = x->shape[2],
        .w = x->shape[3],
        .o = y->shape[1],
        .oh = y->shape[2],
        .ow = y->shape[3],
        .kh = w->shape[2],
        .kw = w->shape[3],
        .stride = {a->stride[0], a->stride[1]},
        .padding = {a->padding[0], a->padding[1]},
        .dilation = {a->dilation[0], a->dilation[1]},
        .groups = a->groups,
    };
    /* What lies between windows, or taps, is nothing where there is one of them, and might be too far to count. */
    if (s.oh == 1) s.stride[0] = s.h + 2 * s.padding[0];
    if (s.ow == 1) s.stride[1] = s.w + 2 * s.padding[1];
    if (s.kh == 1) s.dilation[0] = 1;
    if (s.kw == 1) s.dilation[1] = 1;
    return s;
}

/* Where there are no channels to sum over: zeros, and the bias. */
static light_status sum_nothing(light_tensor *y, const light_tensor *bias, bool accumulate)
{
    const size_t size = light_dtype_size((light_dtype)y->dtype);
    for (int64_t i = 0; i < y->numel; i++) {
        void *at = y->data + (size_t)i * size; /* channels are neighbours */
        double sum = accumulate ? light_load_one(at, (light_dtype)y->dtype) : 0;
        if (bias)
            sum += light_load_one(bias->data +
                                      (size_t)(i % y->shape[1]) * light_dtype_size((light_dtype)bias->dtype),
                                  (light_dtype)bias->dtype);
        light_store_one(at, (light_dtype)y->dtype, sum);
    }
    return LIGHT_OK;
}

static light_status conv2d(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0], *w = args->in[1], *bias = args->in[2];
    const light_conv_shape s = read_shape(args, x, w, args->out[0]);
    if (s.c == 0) return sum_nothing(args->out[0], bias, args->accumulate & 1);
    return light_cpu_conv_forward(&s, x->data, w->data, bias ? bias->data : NULL,
                                  bias ? (light_dtype)bias->dtype : LIGHT_F32, args->out[0]->data,
                                  args->accumulate & 1);
}

static light_status conv2d_backward_data(const light_kernel_args *args)
{
    const light_tensor *gy = args->in[0], *w = args->in[1];
    const light_conv_shape s = read_shape(args, args->out[0], w, gy);
    if (s.o == 0) return sum_nothing(args->out[0], NULL, args->accumulate & 1);
    return light_cpu_conv_backward_data(&s, gy->data, w->data, args->out[0]->data, args->accumulate & 1);
}

static light_status conv2d_backward_weight(const light_kernel_args *args)
{
    const light_tensor *gy = args->in[0], *x = args->in[1];
    light_tensor *gw = args->out[0], *gb = args->out[1];
    const light_conv_shape s = read_shape(args, x, gw, gy);
    LIGHT_TRY(light_cpu_conv_backward_weight(&s, gy->data, x->data, gw->data, (light_dtype)gw->dtype,
                                             args->accumulate & 1));
    if (!gb) return LIGHT_OK;
    return light_cpu_column_sums(s.n * s.oh * s.ow, s.o, s.dtype, gy->data, gb->data, (light_dtype)gb->dtype,
                                 args->accumulate >> 1 & 1);
}

const light_cpu_kernel LIGHT_ISA(light_conv2d_kernels)[] = {
    {LIGHT_KERNEL_CONV2D, conv2d},
    {LIGHT_KERNEL_CONV2D_BACKWARD_DATA, conv2d_backward_data},
    {LIGHT_KERNEL_CONV2D_BACKWARD_WEIGHT, conv2d_backward_weight},
    {LIGHT_KERNEL_COUNT, NULL},
};
