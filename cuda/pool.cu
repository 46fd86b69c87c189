/* SPDX-License-Identifier: Apache-2.0 */
/* Largest and mean elements of image windows, and their gradients, which are gathered: each element of gx adds up what
 * the windows over it send back, so it is written once, in a fixed order, by one thread.
 *
 * Where channels are neighbours in memory a thread has a pack of them, else one element. */
#include "cuda/floats.cuh"
#include "cuda/walk.cuh"

#include <math.h>

namespace light
{

enum { THREADS = 256 };

/* One axis of the image. Its numbers fit 31 bits, and so does in * out of an adaptive one. */
struct axis {
    int in, out, kernel, stride, padding, dilation;
    bool adaptive;
    divisor by_in, by_out, by_stride;
};

/* Elements first, first + step, .. below end. */
struct window {
    int first, end, step;
};

struct pool_job {
    axis h, w;
    const void *from; /* x, or gy */
    void *to;         /* y, or gx */
    int32_t *index;   /* NULL: not asked for, or an average */
    int64_t from_strides[4], to_strides[4], index_strides[4];
    int64_t size[4], count; /* of what is written: n, c (in packs), h, w */
    bool channels_inner, exclude_padding, add;
};

/* ---- windows --------------------------------------------------------------------- */

__device__ inline int ceil_divide(int a, divisor d)
{
    return (int)divide((uint32_t)(a + (int)d.by - 1), d);
}

/* The pixels of window `o` inside the image. */
__device__ inline window window_at(const axis &a, int o)
{
    if (a.adaptive) return window{(int)divide(o * a.in, a.by_out), ceil_divide((o + 1) * a.in, a.by_out), 1};
    window w = {o * a.stride - a.padding, 0, a.dilation};
    w.end = w.first + (a.kernel - 1) * a.dilation + 1;
    if (w.end > a.in) w.end = a.in;
    if (w.first < 0) w.first += (-w.first + a.dilation - 1) / a.dilation * a.dilation;
    return w;
}

/* The windows that may hold pixel `i`; with dilation some of them step over it. */
__device__ inline window windows_over(const axis &a, int i)
{
    if (a.adaptive) return window{(int)divide(i * a.out, a.by_in), ceil_divide((i + 1) * a.out, a.by_in), 1};
    int reach = i + a.padding - (a.kernel - 1) * a.dilation;
    window w = {reach <= 0 ? 0 : ceil_divide(reach, a.by_stride), (int)divide(i + a.padding, a.by_stride) + 1,
                1};
    if (w.end > a.out) w.end = a.out;
    return w;
}

/* How many pixels of window `o` an average counts: all that are not beyond the padding, or those of the image only. */
__device__ inline int counted(const axis &a, int o, bool exclude_padding)
{
    window w = window_at(a, o);
    int first = o * a.stride - a.padding, end = first + a.kernel;
    if (a.adaptive || exclude_padding) return w.end - w.first;
    return (end < a.in + a.padding ? end : a.in + a.padding) - first;
}

template <class R> __device__ inline R average_scale(const pool_job &p, int oh, int ow)
{
    return R(1) / ((R)counted(p.h, oh, p.exclude_padding) * (R)counted(p.w, ow, p.exclude_padding));
}

/* ---- where a thread works -------------------------------------------------------- */

/* Place i of what is written, along the fastest dim of memory first. */
struct place {
    int64_t n, c;
    int h, w;
};

__device__ inline int64_t take_off(int64_t *i, int64_t size)
{
    int64_t next = *i < INT32_MAX ? (uint32_t)*i / (uint32_t)size : *i / size, rest = *i - next * size;
    *i = next;
    return rest;
}

__device__ inline place place_of(const pool_job &p, int64_t i)
{
    place at;
    if (p.channels_inner) at.c = take_off(&i, p.size[1]);
    at.w = (int)take_off(&i, p.size[3]);
    at.h = (int)take_off(&i, p.size[2]);
    if (!p.channels_inner) at.c = take_off(&i, p.size[1]);
    at.n = i;
    return at;
}

/* The plane of a place, N channels being a step of c. */
template <int N> __device__ inline int64_t plane_of(const int64_t (&strides)[4], const place &at)
{
    return at.n * strides[0] + at.c * N * strides[1];
}

template <int N> __device__ inline int64_t element_of(const int64_t (&strides)[4], const place &at)
{
    return plane_of<N>(strides, at) + at.h * strides[2] + at.w * strides[3];
}

/* ---- forward ------------------------------------------------------------------------ */

template <class T, int N> __global__ void max_pool_kernel(pool_job p)
{
    using R = real_of<T>;
    for (int64_t i = first_element(); i < p.count; i += grid_stride()) {
        place at = place_of(p, i);
        const T *plane = (const T *)p.from + plane_of<N>(p.from_strides, at);
        window h = window_at(p.h, at.h), w = window_at(p.w, at.w);
        neighbours<T, N> best;
        neighbours<int32_t, N> pixel;
#pragma unroll
        for (int j = 0; j < N; j++) { /* a dilated window can miss a small image */
            best.at[j] = to<T>(R(-INFINITY));
            pixel.at[j] = -1;
        }
        for (int ih = h.first; ih < h.end; ih += h.step) {
            for (int iw = w.first; iw < w.end; iw += w.step) {
                auto x = *(const neighbours<T, N> *)(plane + ih * p.from_strides[2] + iw * p.from_strides[3]);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    R value = widen(x.at[j]);
                    if (value > widen(best.at[j]) || value != value || pixel.at[j] < 0) { /* NaN wins */
                        best.at[j] = x.at[j];
                        pixel.at[j] = ih * p.w.in + iw;
                    }
                }
            }
        }
        *(neighbours<T, N> *)((T *)p.to + element_of<N>(p.to_strides, at)) = best;
        if (p.index) *(neighbours<int32_t, N> *)(p.index + element_of<N>(p.index_strides, at)) = pixel;
    }
}

template <class T, int N> __global__ void avg_pool_kernel(pool_job p)
{
    using R = real_of<T>;
    for (int64_t i = first_element(); i < p.count; i += grid_stride()) {
        place at = place_of(p, i);
        const T *plane = (const T *)p.from + plane_of<N>(p.from_strides, at);
        window h = window_at(p.h, at.h), w = window_at(p.w, at.w);
        R sum[N] = {}, scale = average_scale<R>(p, at.h, at.w);
        for (int ih = h.first; ih < h.end; ih++) {
            for (int iw = w.first; iw < w.end; iw++) {
                auto x = *(const neighbours<T, N> *)(plane + ih * p.from_strides[2] + iw * p.from_strides[3]);
#pragma unroll
                for (int j = 0; j < N; j++) sum[j] += widen(x.at[j]);
            }
        }
        neighbours<T, N> result;
#pragma unroll
        for (int j = 0; j < N; j++) result.at[j] = to<T>(sum[j] * scale);
        *(neighbours<T, N> *)((T *)p.to + element_of<N>(p.to_strides, at)) = result;
    }
}

/* ---- backward ----------------------------------------------------------------------- */

template <class T, int N, bool MAX> __global__ void pool_backward_kernel(pool_job p)
{
    using R = real_of<T>;
    for (int64_t i = first_element(); i < p.count; i += grid_stride()) {
        place at = place_of(p, i);
        const T *plane = (const T *)p.from + plane_of<N>(p.from_strides, at);
        const int32_t *index = MAX ? p.index + plane_of<N>(p.index_strides, at) : NULL;
        window h = windows_over(p.h, at.h), w = windows_over(p.w, at.w);
        int pixel = at.h * p.w.in + at.w;
        R sum[N] = {};
        for (int oh = h.first; oh < h.end; oh++) {
            for (int ow = w.first; ow < w.end; ow++) {
                auto gy =
                    *(const neighbours<T, N> *)(plane + oh * p.from_strides[2] + ow * p.from_strides[3]);
                if constexpr (MAX) {
                    auto from = *(const neighbours<int32_t, N> *)(index + oh * p.index_strides[2] +
                                                                  ow * p.index_strides[3]);
#pragma unroll
                    for (int j = 0; j < N; j++) sum[j] += from.at[j] == pixel ? widen(gy.at[j]) : R(0);
                } else {
                    R scale = average_scale<R>(p, oh, ow);
#pragma unroll
                    for (int j = 0; j < N; j++) sum[j] += widen(gy.at[j]) * scale;
                }
            }
        }
        neighbours<T, N> *to = (neighbours<T, N> *)((T *)p.to + element_of<N>(p.to_strides, at)), result;
        if (p.add) result = *to;
#pragma unroll
        for (int j = 0; j < N; j++)
            result.at[j] = light::to<T>(p.add ? widen(result.at[j]) + sum[j] : sum[j]);
        *to = result;
    }
}

/* ---- launches ------------------------------------------------------------------------ */

static light_status set_axis(axis *a, const light_tensor *x, const light_tensor *y,
                             const light_pool2d_attrs *attrs, int i)
{
    const int64_t most = (int64_t)1 << 30;
    int64_t in = x->shape[2 + i], out = y->shape[2 + i];
    int64_t reach = attrs->adaptive ? in * (out + 1)
                                    : in + out * attrs->stride[i] + attrs->kernel[i] * attrs->dilation[i] +
                                          2 * attrs->padding[i];
    if (in > most || out > most || reach > most)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "images or windows of more than 2^30 pixels a side");
    *a = axis{};
    a->in = (int)in;
    a->out = (int)out;
    a->adaptive = attrs->adaptive;
    a->by_in = divisor_of((uint32_t)in);
    a->by_out = divisor_of((uint32_t)out);
    if (attrs->adaptive) return LIGHT_OK;
    a->kernel = (int)attrs->kernel[i];
    a->stride = (int)attrs->stride[i];
    a->padding = (int)attrs->padding[i];
    a->dilation = (int)attrs->dilation[i];
    a->by_stride = divisor_of((uint32_t)a->stride);
    return LIGHT_OK;
}

/* Whether t's channels are neighbours, in whole packs of n that begin on 16 bytes. */
static bool channels_fit(const light_tensor *t, int64_t n)
{
    return t->strides[1] == 1 && t->shape[1] % n == 0 && packs_fit(t->data) && t->strides[0] % n == 0 &&
           t->strides[2] % n == 0 && t->strides[3] % n == 0;
}

/* from: what windows or pixels read; to: what is written. */
static light_status pool_of(const light_kernel_args *args, const light_tensor *from, const light_tensor *to,
                            const light_tensor *index, bool backward, pool_job *p, bool *packed)
{
    const light_pool2d_attrs *attrs = (const light_pool2d_attrs *)args->attrs;
    const light_tensor *x = backward ? to : from, *y = backward ? from : to;
    int64_t lanes = 16 / (int64_t)light_dtype_size((light_dtype)to->dtype);

    *p = pool_job{};
    *packed = false;
    if (to->numel == 0) return LIGHT_OK;
    LIGHT_TRY(set_axis(&p->h, x, y, attrs, 0));
    LIGHT_TRY(set_axis(&p->w, x, y, attrs, 1));
    *packed = channels_fit(from, lanes) && channels_fit(to, lanes) && (!index || channels_fit(index, lanes));
    p->from = from->data;
    p->to = to->data;
    p->index = index ? (int32_t *)index->data : NULL;
    for (int d = 0; d < 4; d++) {
        p->from_strides[d] = from->strides[d];
        p->to_strides[d] = to->strides[d];
        p->index_strides[d] = index ? index->strides[d] : 0;
        p->size[d] = to->shape[d];
    }
    if (*packed) p->size[1] /= lanes;
    p->count = p->size[0] * p->size[1] * p->size[2] * p->size[3];
    p->channels_inner = to->shape[1] > 1 && to->strides[1] == 1;
    p->exclude_padding = attrs->exclude_padding;
    p->add = args->accumulate & 1;
    return LIGHT_OK;
}

static light_status run(const light_kernel_args *args, void (*kernel)(pool_job), const pool_job &p)
{
    return launch(args->device, kernel, blocks_for(args->device, p.count, THREADS), THREADS, 0, p);
}

static light_status max_pool2d(const light_kernel_args *args)
{
    pool_job p;
    bool packed;
    LIGHT_TRY(pool_of(args, args->in[0], args->out[0], args->out[1], false, &p, &packed));
    return by_float(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return run(args, packed ? max_pool_kernel<T, pack<T>::size> : max_pool_kernel<T, 1>, p);
    });
}

static light_status avg_pool2d(const light_kernel_args *args)
{
    pool_job p;
    bool packed;
    LIGHT_TRY(pool_of(args, args->in[0], args->out[0], NULL, false, &p, &packed));
    return by_float(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return run(args, packed ? avg_pool_kernel<T, pack<T>::size> : avg_pool_kernel<T, 1>, p);
    });
}

static light_status max_pool2d_backward(const light_kernel_args *args)
{
    pool_job p;
    bool packed;
    LIGHT_TRY(pool_of(args, args->in[0], args->out[0], args->in[1], true, &p, &packed));
    return by_float(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return run(args,
                   packed ? pool_backward_kernel<T, pack<T>::size, true> : pool_backward_kernel<T, 1, true>,
                   p);
    });
}

static light_status avg_pool2d_backward(const light_kernel_args *args)
{
    pool_job p;
    bool packed;
    LIGHT_TRY(pool_of(args, args->in[0], args->out[0], NULL, true, &p, &packed));
    return by_float(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return run(args,
                   packed ? pool_backward_kernel<T, pack<T>::size, false> : pool_backward_kernel<T, 1, false>,
                   p);
    });
}

extern const kernel_entry pool_kernels[] = {
    {LIGHT_KERNEL_MAX_POOL2D, max_pool2d},
    {LIGHT_KERNEL_MAX_POOL2D_BACKWARD, max_pool2d_backward},
    {LIGHT_KERNEL_AVG_POOL2D, avg_pool2d},
    {LIGHT_KERNEL_AVG_POOL2D_BACKWARD, avg_pool2d_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
