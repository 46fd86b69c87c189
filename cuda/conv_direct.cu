/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution in groups of few channels, where products of matrices would be all edge: a thread computes one output, or
 * 16 bytes of them where every channel is a group of its own (depthwise). Sums over the batch, of few outputs, are cut
 * into parts whose number depends on the shape alone. */
#include "cuda/block.cuh"
#include "cuda/call.h"
#include "cuda/conv.cuh"

namespace light
{

enum {
    THREADS = 256,
    CHANNELS = 32, /* of a block of the weight gradient, by TAPS taps */
    TAPS = 8,
    PART_BLOCKS = 1024, /* blocks that suffice for all parts together */
};

/* ---- weights by tap --------------------------------------------------------------- */

static light_status pack_weights(const light_device *device, const conv_shape &s, const void *w,
                                 void **packed)
{
    const size_t bytes = (size_t)s.o * (size_t)s.cg() * (size_t)s.taps() * light_dtype_size(s.dtype);
    LIGHT_TRY(scratch(device, bytes, packed));
    const light_tensor from = plain_weights(s, s.dtype, w);
    light_tensor to = weights_by_tap(s, s.dtype, *packed);
    return call_copy(device, &from, &to, false);
}

/* ---- forward ------------------------------------------------------------------------ */

template <class L> __device__ inline void add_product(typename L::wide &sum, const L &a, const L &b)
{
#pragma unroll
    for (int k = 0; k < L::size; k++) sum.at[k] += widen(a.at[k]) * widen(b.at[k]);
}

template <class L> __device__ inline void store(L *to_y, const typename L::wide &sum, bool accumulate)
{
    L value = {};
    if (accumulate) value = *to_y;
#pragma unroll
    for (int k = 0; k < L::size; k++)
        value.at[k] = to<typename L::type>(accumulate ? widen(value.at[k]) + sum.at[k] : sum.at[k]);
    *to_y = value;
}

/* How the number of an element is read: channels, width, height; and the channels of a group. */
struct direct_divisors {
    divisor c, w, h, group, stride_h, stride_w;
};

/* w: [taps, cg, o]. With lanes of several channels cg and og are 1. */
template <class L>
__global__ void forward_kernel(conv_geometry g, direct_divisors d, const L *x, const L *w, L *y,
                               int64_t count, bool accumulate)
{
    for (int64_t i = first_element(); i < count; i += grid_stride()) {
        uint32_t o = (uint32_t)i, ow = divide(o, d.c), oh = divide(ow, d.w), image = divide(oh, d.h);
        o -= ow * d.c.by, ow -= oh * d.w.by, oh -= image * d.h.by;
        int first = (int)divide(o, d.group) * g.cg;
        typename L::wide sum = {};
        for (int kh = 0; kh < g.kh; kh++) {
            int h = (int)oh * g.stride[0] - g.padding[0] + kh * g.dilation[0];
            for (int kw = 0; kw < g.kw && h >= 0 && h < g.h; kw++) {
                int at = (int)ow * g.stride[1] - g.padding[1] + kw * g.dilation[1];
                if (at < 0 || at >= g.w) continue;
                const L *pixel = x + (((int64_t)image * g.h + h) * g.w + at) * g.c + first;
                const L *tap = w + (int64_t)(kh * g.kw + kw) * g.cg * g.o + o;
                for (int c = 0; c < g.cg; c++) add_product(sum, pixel[c], tap[(int64_t)c * g.o]);
            }
        }
        store(y + i, sum, accumulate);
    }
}

/* ---- gradient of the input -------------------------------------------------------------- */

template <class L>
__global__ void backward_data_kernel(conv_geometry g, direct_divisors d, const L *gy, const L *w, L *gx,
                                     int64_t count, bool accumulate)
{
    for (int64_t i = first_element(); i < count; i += grid_stride()) {
        uint32_t c = (uint32_t)i, at = divide(c, d.c), h = divide(at, d.w), image = divide(h, d.h);
        c -= at * d.c.by, at -= h * d.w.by, h -= image * d.h.by;
        int group = (int)divide(c, d.group), first = group * g.og;
        int64_t channel = ((int)c - group * g.cg) * (int64_t)g.o + first;
        typename L::wide sum = {};
        for (int kh = 0; kh < g.kh; kh++) {
            int oh = place_of(g, 0, (int)h, kh, d.stride_h);
            for (int kw = 0; kw < g.kw && oh >= 0; kw++) {
                int ow = place_of(g, 1, (int)at, kw, d.stride_w);
                if (ow < 0) continue;
                const L *pixel = gy + (((int64_t)image * g.oh + oh) * g.ow + ow) * g.o + first;
                const L *tap = w + (int64_t)(kh * g.kw + kw) * g.cg * g.o + channel;
                for (int o = 0; o < g.og; o++) add_product(sum, pixel[o], tap[o]);
            }
        }
        store(gx + i, sum, accumulate);
    }
}

/* ---- both ------------------------------------------------------------------------------- */

/* With lanes of several channels, groups of one channel are groups of one lane. */
template <class L> static conv_geometry direct_geometry(const conv_shape &s)
{
    conv_geometry g = geometry_of(s, L::size);
    if (L::size > 1) g.cg = g.og = 1;
    return g;
}

static bool lanes_fit(const conv_shape &s, int per_pack, const void *x, const void *y)
{
    return s.cg() == 1 && s.og() == 1 && s.c % per_pack == 0 && packs_fit(x) && packs_fit(y);
}

static direct_divisors divisors_of(const conv_geometry &g, int c, int w, int h, int group)
{
    return direct_divisors{divisor_of((uint32_t)c),           divisor_of((uint32_t)w),
                           divisor_of((uint32_t)h),           divisor_of((uint32_t)group),
                           divisor_of((uint32_t)g.stride[0]), divisor_of((uint32_t)g.stride[1])};
}

/* y from x, or with BACKWARD gx from gy. */
template <bool BACKWARD>
static light_status direct(const light_device *device, const conv_shape &s, const void *in, const void *w,
                           void *out, bool accumulate)
{
    void *packed;
    LIGHT_TRY(pack_weights(device, s, w, &packed));
    return by_float(s.dtype, [&](auto type) {
        using T = decltype(type);
        return by_lanes<T>(lanes_fit(s, pack<T>::size, in, out), [&](auto lane) -> light_status {
            using L = decltype(lane);
            const conv_geometry g = direct_geometry<L>(s);
            const direct_divisors d =
                BACKWARD ? divisors_of(g, g.c, g.w, g.h, g.cg) : divisors_of(g, g.o, g.ow, g.oh, g.og);
            const int64_t in_image = (BACKWARD ? s.y_image() : s.x_image()) / L::size,
                          out_image = (BACKWARD ? s.x_image() : s.y_image()) / L::size,
                          most = images_that_fit(out_image);
            for (int64_t from = 0; from < s.n; from += most) {
                const int64_t count = (s.n - from < most ? s.n - from : most) * out_image;
                LIGHT_TRY(launch(device, BACKWARD ? backward_data_kernel<L> : forward_kernel<L>,
                                 blocks_for(device, count, THREADS), THREADS, 0, g, d,
                                 (const L *)in + from * in_image, (const L *)packed,
                                 (L *)out + from * out_image, count, accumulate));
            }
            return LIGHT_OK;
        });
    });
}

light_status direct_forward(const light_device *device, const conv_shape &s, const void *x, const void *w,
                            void *y, bool accumulate)
{
    return direct<false>(device, s, x, w, y, accumulate);
}

light_status direct_backward_data(const light_device *device, const conv_shape &s, const void *gy,
                                  const void *w, void *gx, bool accumulate)
{
    return direct<true>(device, s, gy, w, gx, accumulate);
}

/* ---- gradient of the weights ------------------------------------------------------------- */

/* A thread sums one weight over a part of the output's lines. Threads of a block share what they read: neighbouring
 * channels of a few taps. parts: [part][taps, cg, o]. */
template <class T>
__global__ void backward_weight_kernel(conv_geometry g, int64_t lines, int64_t lines_of_part, const T *gy,
                                       const T *x, real_of<T> *parts)
{
    int o = (int)(blockIdx.x * CHANNELS + threadIdx.x), row = (int)(blockIdx.y * TAPS + threadIdx.y);
    int64_t from = (int64_t)blockIdx.z * lines_of_part,
            to_line = from + lines_of_part < lines ? from + lines_of_part : lines;
    if (o >= g.o || row >= g.kh * g.kw * g.cg) return;
    int tap = row / g.cg, kh = tap / g.kw, kw = tap - kh * g.kw, c = o / g.og * g.cg + row - tap * g.cg;
    real_of<T> sum = 0;
    for (int64_t line = from; line < to_line; line++) {
        int64_t image = line / g.oh;
        int h = (int)(line - image * g.oh) * g.stride[0] - g.padding[0] + kh * g.dilation[0];
        if (h < 0 || h >= g.h) continue;
        const T *in = x + (image * g.h + h) * g.w * g.c + c, *out = gy + line * g.ow * g.o + o;
        for (int ow = 0; ow < g.ow; ow++) {
            int w = ow * g.stride[1] - g.padding[1] + kw * g.dilation[1];
            if (w >= 0 && w < g.w) sum += widen(out[(int64_t)ow * g.o]) * widen(in[(int64_t)w * g.c]);
        }
    }
    parts[((int64_t)blockIdx.z * g.kh * g.kw * g.cg + row) * g.o + o] = sum;
}

template <class R> __global__ void add_parts_kernel(R *sums, int64_t n, int parts)
{
    for (int64_t i = first_element(); i < n; i += grid_stride()) {
        R sum = sums[i];
        for (int part = 1; part < parts; part++) sum += sums[part * n + i];
        sums[i] = sum;
    }
}

light_status add_parts(const light_device *device, light_dtype dtype, void *sums, int64_t n, int parts)
{
    if (parts == 1) return LIGHT_OK;
    if (dtype == LIGHT_F64)
        return launch(device, add_parts_kernel<double>, blocks_for(device, n, THREADS), THREADS, 0,
                      (double *)sums, n, parts);
    return launch(device, add_parts_kernel<float>, blocks_for(device, n, THREADS), THREADS, 0, (float *)sums,
                  n, parts);
}

light_status direct_backward_weight(const light_device *device, const conv_shape &s, const void *gy,
                                    const void *x, const light_tensor *gw, bool accumulate)
{
    const int64_t lines = s.n * s.oh, n = (int64_t)s.taps() * s.cg() * s.o;
    const dim3 blocks((unsigned)((s.o + CHANNELS - 1) / CHANNELS),
                      (unsigned)((s.taps() * s.cg() + TAPS - 1) / TAPS));
    int64_t parts = PART_BLOCKS / (blocks.x * blocks.y) + 1;
    if (parts > lines) parts = lines;
    const int64_t lines_of_part = (lines + parts - 1) / parts;
    parts = (lines + lines_of_part - 1) / lines_of_part;
    const light_dtype wide = s.dtype == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
    void *sums;
    LIGHT_TRY(scratch(device, (size_t)(parts * n) * light_dtype_size(wide), &sums));
    LIGHT_TRY(by_float(s.dtype, [&](auto type) {
        using T = decltype(type);
        return launch(device, backward_weight_kernel<T>, dim3(blocks.x, blocks.y, (unsigned)parts),
                      dim3(CHANNELS, TAPS), 0, geometry_of(s, 1), lines, lines_of_part, (const T *)gy,
                      (const T *)x, (real_of<T> *)sums);
    }));
    LIGHT_TRY(add_parts(device, wide, sums, n, (int)parts));
    const light_tensor by_tap = weights_by_tap(s, wide, sums);
    light_tensor plain = plain_weights(s, (light_dtype)gw->dtype, gw->data);
    return call_copy(device, &by_tap, &plain, accumulate);
}

} // namespace light
