/* SPDX-License-Identifier: Apache-2.0 */
/* The convolution kernels: shapes are read off tensors, then cuDNN computes, where it is found and has a way to, or this
 * backend's own code: products of matrices (conv_columns.cu), or plain sums where groups are small (conv_direct.cu). */
#include "cuda/call.h"
#include "cuda/conv.cuh"
#include "cuda/vendor/cudnn.h"

namespace light
{

/* ---- shapes ------------------------------------------------------------------------ */

/* Sizes that count for nothing, as the stride of a single output, may be of any size. */
static int without_effect(int64_t value, bool counts)
{
    return counts ? (int)value : 1;
}

static light_status read_shape(const light_kernel_args *args, const light_tensor *x, const light_tensor *w,
                               const light_tensor *y, conv_shape *s)
{
    const light_conv2d_attrs *a = (const light_conv2d_attrs *)args->attrs;
    const int64_t x_image = x->shape[1] * x->shape[2] * x->shape[3],
                  y_image = y->shape[1] * y->shape[2] * y->shape[3],
                  window = x->shape[1] * w->shape[2] * w->shape[3];
    if (x_image > INT32_MAX || y_image > INT32_MAX || window > INT32_MAX || x->shape[0] > INT32_MAX ||
        w->numel > INT32_MAX || a->padding[0] > INT32_MAX / 4 || a->padding[1] > INT32_MAX / 4)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "%s: conv2d: an image, a window or the weight has 2^31 elements or more",
                          args->device->name);
    *s = conv_shape{};
    s->dtype = (light_dtype)x->dtype;
    s->n = x->shape[0];
    s->c = (int)x->shape[1], s->h = (int)x->shape[2], s->w = (int)x->shape[3];
    s->o = (int)y->shape[1], s->oh = (int)y->shape[2], s->ow = (int)y->shape[3];
    s->kh = (int)w->shape[2], s->kw = (int)w->shape[3];
    s->groups = (int)a->groups;
    for (int i = 0; i < 2; i++) {
        s->stride[i] = without_effect(a->stride[i], y->shape[2 + i] > 1);
        s->padding[i] = (int)a->padding[i];
        s->dilation[i] = without_effect(a->dilation[i], w->shape[2 + i] > 1);
    }
    return LIGHT_OK;
}

light_tensor plain_weights(const conv_shape &s, light_dtype dtype, const void *w)
{
    const int64_t taps = s.taps(), cg = s.cg();
    return window<3>(dtype, w, {s.o, cg, taps}, {cg * taps, taps, 1});
}

light_tensor weights_by_output(const conv_shape &s, light_dtype dtype, const void *w)
{
    const int64_t taps = s.taps(), cg = s.cg();
    return window<3>(dtype, w, {s.o, cg, taps}, {cg * taps, 1, cg});
}

light_tensor weights_by_tap(const conv_shape &s, light_dtype dtype, const void *w)
{
    const int64_t taps = s.taps(), cg = s.cg();
    return window<3>(dtype, w, {s.o, cg, taps}, {1, s.o, cg * s.o});
}

/* Too few channels in a group for products of matrices. */
static bool is_direct(const conv_shape &s)
{
    return s.groups > 1 && s.cg() * s.og() <= 64;
}

/* ---- sums over the batch of each channel ---------------------------------------------- */

enum { SUM_THREADS = 256, SUM_PARTS = 512 };

/* A thread sums some rows of its lane of channels, the block then its threads, in order. parts: [part][channels]. */
template <class L>
__global__ void column_sums_kernel(const L *x, int64_t rows, int64_t rows_of_part, int columns,
                                   typename L::wide *parts)
{
    __shared__ typename L::wide room[SUM_THREADS];
    int column = (int)(blockIdx.x * blockDim.x + threadIdx.x), mine = (int)threadIdx.x;
    int64_t from = (int64_t)blockIdx.y * rows_of_part,
            end = from + rows_of_part < rows ? from + rows_of_part : rows;
    typename L::wide sum = {};
    for (int64_t row = from + threadIdx.y; row < end && column < columns; row += blockDim.y) {
        L value = x[row * columns + column];
#pragma unroll
        for (int k = 0; k < L::size; k++) sum.at[k] += widen(value.at[k]);
    }
    room[threadIdx.y * blockDim.x + mine] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= columns) return;
    for (unsigned y = 1; y < blockDim.y; y++)
#pragma unroll
        for (int k = 0; k < L::size; k++) sum.at[k] += room[y * blockDim.x + mine].at[k];
    parts[(int64_t)blockIdx.y * columns + column] = sum;
}

/* gb (+)= the sums of gy, a matrix of pixels and channels, which is read once. */
static light_status channel_sums(const light_device *device, const conv_shape &s, const void *gy,
                                 const light_tensor *gb, bool accumulate)
{
    const light_dtype wide = s.dtype == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
    const int64_t rows = s.n * s.oh * s.ow, rows_of_part = (rows + SUM_PARTS - 1) / SUM_PARTS < 64
                                                               ? 64
                                                               : (rows + SUM_PARTS - 1) / SUM_PARTS;
    const int parts = (int)((rows + rows_of_part - 1) / rows_of_part);
    void *sums;
    LIGHT_TRY(scratch(device, (size_t)parts * (size_t)s.o * light_dtype_size(wide), &sums));
    LIGHT_TRY(by_float(s.dtype, [&](auto type) {
        using T = decltype(type);
        return by_lanes<T>(s.o % pack<T>::size == 0 && packs_fit(gy), [&](auto lane) {
            using L = decltype(lane);
            const unsigned columns = (unsigned)(s.o / L::size);
            unsigned wide_block = 1;
            while (wide_block < 32 && wide_block < columns) wide_block *= 2;
            return launch(device, column_sums_kernel<L>,
                          dim3((columns + wide_block - 1) / wide_block, (unsigned)parts),
                          dim3(wide_block, SUM_THREADS / wide_block), 0, (const L *)gy, rows, rows_of_part,
                          (int)columns, (typename L::wide *)sums);
        });
    }));
    LIGHT_TRY(add_parts(device, wide, sums, s.o, parts));
    const light_tensor from = window<1>(wide, sums, {s.o}, {1});
    light_tensor to = window<1>((light_dtype)gb->dtype, gb->data, {s.o}, {1});
    return call_copy(device, &from, &to, accumulate);
}

/* ---- the kernels ------------------------------------------------------------------------ */

/* The bias in all of y's pixels, for code that adds none itself. */
static light_status put_bias(const light_device *device, const conv_shape &s, const light_tensor *bias,
                             void *y, bool accumulate)
{
    const int64_t pixels = s.n * s.oh * s.ow;
    const light_tensor from = window<2>((light_dtype)bias->dtype, bias->data, {pixels, s.o}, {0, 1});
    light_tensor to = window<2>(s.dtype, y, {pixels, s.o}, {s.o, 1});
    return call_copy(device, &from, &to, accumulate);
}

static light_status clear(const light_device *device, light_tensor *t, bool accumulate)
{
    return accumulate || t->numel == 0 ? LIGHT_OK : call_fill(device, t, 0);
}

static light_status conv2d(const light_kernel_args *args)
{
    const light_device *device = args->device;
    const light_tensor *x = args->in[0], *w = args->in[1], *bias = args->in[2];
    light_tensor *y = args->out[0];
    bool accumulate = args->accumulate & 1, done = false;
    conv_shape s;
    LIGHT_TRY(read_shape(args, x, w, y, &s));
    if (y->numel == 0) return LIGHT_OK;
    if (x->numel > 0)
        LIGHT_TRY(library_conv(device, CONV_FORWARD, s, x->data, w, y->data, accumulate, &done));
    if (done) return bias ? put_bias(device, s, bias, y->data, true) : LIGHT_OK;
    if (bias && (s.groups > 1 || x->numel == 0)) { /* products of groups share one bias */
        LIGHT_TRY(put_bias(device, s, bias, y->data, accumulate));
        accumulate = true;
        bias = NULL;
    }
    if (x->numel == 0) return clear(device, y, accumulate);
    if (is_direct(s)) return direct_forward(device, s, x->data, w->data, y->data, accumulate);
    return columns_forward(device, s, x->data, w->data, bias, y->data, accumulate);
}

static light_status conv2d_backward_data(const light_kernel_args *args)
{
    const light_device *device = args->device;
    const light_tensor *gy = args->in[0], *w = args->in[1];
    light_tensor *gx = args->out[0];
    const bool accumulate = args->accumulate & 1;
    bool done = false;
    conv_shape s;
    LIGHT_TRY(read_shape(args, gx, w, gy, &s));
    if (gx->numel == 0 || gy->numel == 0) return clear(device, gx, accumulate);
    LIGHT_TRY(library_conv(device, CONV_BACKWARD_DATA, s, gx->data, w, gy->data, accumulate, &done));
    if (done) return LIGHT_OK;
    if (is_direct(s)) return direct_backward_data(device, s, gy->data, w->data, gx->data, accumulate);
    return columns_backward_data(device, s, gy->data, w->data, gx->data, accumulate);
}

static light_status backward_weight(const light_kernel_args *args, const conv_shape &s)
{
    const light_device *device = args->device;
    const light_tensor *gy = args->in[0], *x = args->in[1];
    light_tensor *gw = args->out[0];
    const bool accumulate = args->accumulate & 1;
    bool done = false;
    if (gw->numel == 0 || gy->numel == 0 || x->numel == 0) return clear(device, gw, accumulate);
    LIGHT_TRY(library_conv(device, CONV_BACKWARD_WEIGHT, s, x->data, gw, gy->data, accumulate, &done));
    if (done) return LIGHT_OK;
    if (is_direct(s)) return direct_backward_weight(device, s, gy->data, x->data, gw, accumulate);
    return columns_backward_weight(device, s, gy->data, x->data, gw, accumulate);
}

static light_status conv2d_backward_weight(const light_kernel_args *args)
{
    const light_tensor *gy = args->in[0];
    light_tensor *gb = args->out[1];
    const bool accumulate = args->accumulate >> 1 & 1;
    conv_shape s;
    LIGHT_TRY(read_shape(args, args->in[1], args->out[0], gy, &s));
    LIGHT_TRY(backward_weight(args, s));
    if (!gb) return LIGHT_OK;
    if (gy->numel == 0) return clear(args->device, gb, accumulate);
    return channel_sums(args->device, s, gy->data, gb, accumulate);
}

extern const kernel_entry conv2d_kernels[] = {
    {LIGHT_KERNEL_CONV2D, conv2d},
    {LIGHT_KERNEL_CONV2D_BACKWARD_DATA, conv2d_backward_data},
    {LIGHT_KERNEL_CONV2D_BACKWARD_WEIGHT, conv2d_backward_weight},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
