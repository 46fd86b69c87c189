/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution by matrix products. A row of `columns` is the window of one output pixel, in the order group, kh, kw,
 * channel, in which a channels-last image has runs to copy; groups are the batch of the products. The pixels are taken
 * in pieces, so that columns have a bounded size. */
#include "cuda/call.h"
#include "cuda/conv.cuh"
#include "cuda/vendor/gemm.h"

namespace light
{

#ifdef LIGHT_CUDA_SIM
enum { COLUMN_BYTES = 4 << 10 }; /* small problems have several pieces, too */
#else
enum { COLUMN_BYTES = 256 << 20 };
#endif
enum { THREADS = 256 };

/* ---- pieces ---------------------------------------------------------------------- */

/* Whole images, or a part of the output pixels of one. */
struct piece {
    int64_t image;
    int images, pixel, pixels;

    int64_t rows() const
    {
        return (int64_t)images * pixels;
    }
};

/* The first piece with at most `most` rows; whole images if asked, then one at least. */
static piece first_piece(const conv_shape &s, int64_t most, bool whole)
{
    int pixels = s.oh * s.ow;
    int64_t images = most / pixels;
    if (images > s.n) images = s.n;
    if (images == 0 && (whole || s.n == 0)) images = s.n ? 1 : 0;
    if (images > 0 || s.n == 0) return piece{0, (int)images, 0, pixels};
    return piece{0, 1, 0, most > 0 ? (int)most : 1};
}

/* False at the end. */
static bool next_piece(const conv_shape &s, piece *p, const piece &first)
{
    int pixels = s.oh * s.ow;
    if (p->pixel + p->pixels < pixels) {
        p->pixel += p->pixels;
        if (p->pixels > pixels - p->pixel) p->pixels = pixels - p->pixel;
        return true;
    }
    p->image += p->images;
    p->pixel = 0;
    p->pixels = first.pixels;
    if (p->images > s.n - p->image) p->images = (int)(s.n - p->image);
    return p->images > 0;
}

/* ---- windows ------------------------------------------------------------------------ */

/* Divisors for the number of an element: channels, kw, kh, groups, pixels of a piece, ow; or channels, w, h. */
struct window_divisors {
    divisor c, kw, kh, groups, pixels, ow;
};

static window_divisors divisors_of(const conv_geometry &g, const piece &p)
{
    return window_divisors{divisor_of((uint32_t)g.cg),     divisor_of((uint32_t)g.kw),
                           divisor_of((uint32_t)g.kh),     divisor_of((uint32_t)g.groups),
                           divisor_of((uint32_t)p.pixels), divisor_of((uint32_t)g.ow)};
}

/* n / d; n becomes the rest. */
__device__ inline uint32_t split(uint32_t *n, const divisor &d)
{
    uint32_t all = *n, quotient = divide(all, d);
    *n = all - quotient * d.by;
    return quotient;
}

/* Writes every element of the columns once; reads come kh kw times, mostly from caches. */
template <class L>
__global__ void windows_kernel(conv_geometry g, window_divisors d, const L *x, L *columns, int64_t count,
                               int first_pixel)
{
    for (int64_t i = first_element(); i < count; i += grid_stride()) {
        uint32_t c = (uint32_t)i, kw = split(&c, d.c), kh = split(&kw, d.kw), group = split(&kh, d.kh),
                 row = split(&group, d.groups), pixel = row, image = split(&pixel, d.pixels);
        uint32_t ow = pixel + (uint32_t)first_pixel, oh = split(&ow, d.ow);
        int h = (int)oh * g.stride[0] - g.padding[0] + (int)kh * g.dilation[0];
        int w = (int)ow * g.stride[1] - g.padding[1] + (int)kw * g.dilation[1];
        L value = {};
        if (h >= 0 && h < g.h && w >= 0 && w < g.w)
            value = x[(((int64_t)image * g.h + h) * g.w + w) * g.c + group * g.cg + c];
        columns[i] = value;
    }
}

/* Sums what the windows that reach an input element hold for it, in the order of taps. */
template <class L>
__global__ void sum_windows_kernel(conv_geometry g, divisor by_c, divisor by_w, divisor by_h,
                                   divisor stride_h, divisor stride_w, const typename L::wide *columns, L *gx,
                                   int64_t count, bool accumulate)
{
    using T = typename L::type;
    for (int64_t i = first_element(); i < count; i += grid_stride()) {
        uint32_t c = (uint32_t)i, w = split(&c, by_c), h = split(&w, by_w), image = split(&h, by_h);
        int group = g.groups == 1 ? 0 : (int)c / g.cg;
        int64_t window = (int64_t)g.groups * g.kh * g.kw * g.cg,
                first = (int64_t)group * g.kh * g.kw * g.cg + ((int)c - group * g.cg);
        typename L::wide sum = {};
        for (int kh = 0; kh < g.kh; kh++) {
            int oh = place_of(g, 0, (int)h, kh, stride_h);
            for (int kw = 0; kw < g.kw && oh >= 0; kw++) {
                int ow = place_of(g, 1, (int)w, kw, stride_w);
                if (ow < 0) continue;
                int64_t row = ((int64_t)image * g.oh + oh) * g.ow + ow;
                typename L::wide term = columns[row * window + first + (kh * g.kw + kw) * g.cg];
#pragma unroll
                for (int k = 0; k < L::size; k++) sum.at[k] += term.at[k];
            }
        }
        L value = {};
        if (accumulate) value = gx[i];
#pragma unroll
        for (int k = 0; k < L::size; k++)
            value.at[k] = to<T>(accumulate ? widen(value.at[k]) + sum.at[k] : sum.at[k]);
        gx[i] = value;
    }
}

/* ---- the plan of a pass --------------------------------------------------------------- */

/* Every pixel's window is the pixel itself: the image is its own columns. */
static bool is_product(const conv_shape &s)
{
    return s.taps() == 1 && s.oh == s.h && s.ow == s.w && s.stride[0] == 1 && s.stride[1] == 1 &&
           s.padding[0] == 0 && s.padding[1] == 0;
}

struct column_plan {
    bool product;
    int64_t window; /* kh kw cg, of one group */
    piece first;
    char *columns, *weights; /* scratch */
};

static light_dtype wide_dtype(light_dtype dtype)
{
    return dtype == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
}

/* Scratch for weights and for columns of a dtype each. */
static light_status begin(const light_device *device, const conv_shape &s, light_dtype weights,
                          light_dtype columns, bool whole_images, column_plan *p)
{
    void *work;
    p->product = is_product(s);
    p->window = (int64_t)s.taps() * s.cg();
    const int64_t row = s.groups * p->window * (int64_t)light_dtype_size(columns);
    int64_t most = p->product || row == 0 ? INT64_MAX : COLUMN_BYTES / row;
    const int64_t fit = images_that_fit(s.x_image()) * s.oh * s.ow;
    if (whole_images && !p->product && most > fit) most = fit;
    p->first = first_piece(s, most, whole_images);
    const size_t weight_bytes = (size_t)(s.o * p->window) * light_dtype_size(weights),
                 rounded = (weight_bytes + 255) / 256 * 256;
    LIGHT_TRY(scratch(device, rounded + (p->product ? 0 : (size_t)(p->first.rows() * row)) + 256, &work));
    p->weights = (char *)work;
    p->columns = (char *)work + rounded;
    return LIGHT_OK;
}

/* Weights of OIHW as rows that meet the rows of columns. Those of a 1x1 kernel are that as they are. */
static light_status pack_weights(const light_device *device, const conv_shape &s, const void *w,
                                 column_plan *p)
{
    if (s.taps() == 1 || s.cg() == 1) {
        p->weights = (char *)const_cast<void *>(w);
        return LIGHT_OK;
    }
    const light_tensor from = plain_weights(s, s.dtype, w);
    light_tensor packed = weights_by_output(s, s.dtype, p->weights);
    return call_copy(device, &from, &packed, false);
}

static light_status fill_columns(const light_device *device, const conv_shape &s, const char *x,
                                 const column_plan &plan, const piece &p)
{
    x += p.image * s.x_image() * (int64_t)light_dtype_size(s.dtype);
    return by_float(s.dtype, [&](auto type) {
        using T = decltype(type);
        return by_lanes<T>(s.cg() % pack<T>::size == 0 && packs_fit(x), [&](auto lane) {
            using L = decltype(lane);
            const conv_geometry g = geometry_of(s, L::size);
            const int64_t count = p.rows() * s.groups * plan.window / L::size;
            return launch(device, windows_kernel<L>, blocks_for(device, count, THREADS), THREADS, 0, g,
                          divisors_of(g, p), (const L *)x, (L *)plan.columns, count, p.pixel);
        });
    });
}

static light_status sum_columns(const light_device *device, const conv_shape &s, const column_plan &plan,
                                char *gx, const piece &p, bool accumulate)
{
    gx += p.image * s.x_image() * (int64_t)light_dtype_size(s.dtype);
    return by_float(s.dtype, [&](auto type) {
        using T = decltype(type);
        return by_lanes<T>(s.cg() % pack<T>::size == 0 && packs_fit(gx), [&](auto lane) {
            using L = decltype(lane);
            const conv_geometry g = geometry_of(s, L::size);
            const int64_t count = p.images * s.x_image() / L::size;
            return launch(device, sum_windows_kernel<L>, blocks_for(device, count, THREADS), THREADS, 0, g,
                          divisor_of((uint32_t)g.c), divisor_of((uint32_t)g.w), divisor_of((uint32_t)g.h),
                          divisor_of((uint32_t)g.stride[0]), divisor_of((uint32_t)g.stride[1]),
                          (const typename L::wide *)plan.columns, (L *)gx, count, accumulate);
        });
    });
}

/* ---- the products ---------------------------------------------------------------------- */

/* A matrix of a product, with its step from group to group. */
struct side {
    const void *data;
    int64_t ld, step;
};

static side columns_side(const conv_shape &s, const column_plan &plan, const piece &p, const void *image)
{
    const int64_t at = (p.image * s.x_image() + (int64_t)p.pixel * s.c) * (int64_t)light_dtype_size(s.dtype);
    if (plan.product) return side{(const char *)image + at, s.c, s.cg()};
    return side{plan.columns, s.groups * plan.window, plan.window};
}

static side y_side(const conv_shape &s, const piece &p, const void *y)
{
    const int64_t at = (p.image * s.y_image() + (int64_t)p.pixel * s.o) * (int64_t)light_dtype_size(s.dtype);
    return side{(const char *)y + at, s.o, s.og()};
}

static side weights_side(const conv_shape &s, const column_plan &plan)
{
    return side{plan.weights, plan.window, s.og() * plan.window};
}

static gemm_args product_of(const conv_shape &s, const side &a, const side &b, const side &y)
{
    gemm_args g = {};
    g.dtype = g.out_dtype = g.bias_dtype = s.dtype;
    g.a = a.data, g.lda = a.ld, g.stride_a = a.step;
    g.b = b.data, g.ldb = b.ld, g.stride_b = b.step;
    g.y = const_cast<void *>(y.data), g.ldy = y.ld, g.stride_y = y.step;
    g.batch = s.groups;
    g.alpha = 1;
    return g;
}

light_status columns_forward(const light_device *device, const conv_shape &s, const void *x, const void *w,
                             const light_tensor *bias, void *y, bool accumulate)
{
    column_plan plan;
    LIGHT_TRY(begin(device, s, s.dtype, s.dtype, false, &plan));
    LIGHT_TRY(pack_weights(device, s, w, &plan));
    piece p = plan.first;
    do {
        if (!plan.product) LIGHT_TRY(fill_columns(device, s, (const char *)x, plan, p));
        gemm_args g = product_of(s, columns_side(s, plan, p, x), weights_side(s, plan), y_side(s, p, y));
        g.trans_b = true;
        g.m = p.rows(), g.n = s.og(), g.k = plan.window;
        g.bias = bias ? bias->data : NULL;
        g.bias_dtype = bias ? (light_dtype)bias->dtype : s.dtype;
        g.accumulate = accumulate;
        LIGHT_TRY(gemm(device, g));
    } while (next_piece(s, &p, plan.first));
    return LIGHT_OK;
}

/* The columns are of the type of sums: what a pixel gets from all its windows is rounded once. */
light_status columns_backward_data(const light_device *device, const conv_shape &s, const void *gy,
                                   const void *w, void *gx, bool accumulate)
{
    column_plan plan;
    LIGHT_TRY(begin(device, s, s.dtype, wide_dtype(s.dtype), true, &plan));
    LIGHT_TRY(pack_weights(device, s, w, &plan));
    piece p = plan.first;
    do {
        gemm_args g = product_of(s, y_side(s, p, gy), weights_side(s, plan), columns_side(s, plan, p, gx));
        g.m = p.rows(), g.n = plan.window, g.k = s.og();
        if (!plan.product) g.out_dtype = wide_dtype(s.dtype);
        g.accumulate = accumulate && plan.product;
        LIGHT_TRY(gemm(device, g));
        if (!plan.product) LIGHT_TRY(sum_columns(device, s, plan, (char *)gx, p, accumulate));
    } while (next_piece(s, &p, plan.first));
    return LIGHT_OK;
}

/* Pieces are added up in the type of sums; then comes the way back to OIHW. */
light_status columns_backward_weight(const light_device *device, const conv_shape &s, const void *gy,
                                     const void *x, const light_tensor *gw, bool accumulate)
{
    column_plan plan;
    const light_dtype dtype = (light_dtype)gw->dtype, wide = wide_dtype(s.dtype);
    LIGHT_TRY(begin(device, s, wide, s.dtype, false, &plan));
    if (plan.product) plan.weights = gw->data;
    piece p = plan.first;
    do {
        if (!plan.product) LIGHT_TRY(fill_columns(device, s, (const char *)x, plan, p));
        gemm_args g = product_of(s, y_side(s, p, gy), columns_side(s, plan, p, x), weights_side(s, plan));
        g.trans_a = true;
        g.m = s.og(), g.n = plan.window, g.k = p.rows();
        g.out_dtype = plan.product ? dtype : wide;
        g.accumulate = p.image > 0 || p.pixel > 0 || (accumulate && plan.product);
        LIGHT_TRY(gemm(device, g));
    } while (next_piece(s, &p, plan.first));
    if (plan.product) return LIGHT_OK;
    const light_tensor packed = weights_by_output(s, wide, plan.weights);
    light_tensor plain = plain_weights(s, dtype, gw->data);
    return call_copy(device, &packed, &plain, accumulate);
}

} // namespace light
