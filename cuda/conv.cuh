/* SPDX-License-Identifier: Apache-2.0 */
/* What the convolution files share: the shape, and how threads read images.
 *
 * x [n, c, h, w] and y [n, o, oh, ow] lie channels-last (N, H, W, C), weights [o, c / groups, kh, kw] plainly. */
#ifndef LIGHT_CUDA_CONV_CUH
#define LIGHT_CUDA_CONV_CUH

#include "cuda/number.cuh"
#include "cuda/walk.cuh"

namespace light
{

/* An image has fewer than 2^31 elements, so places within one are ints. */
struct conv_shape {
    light_dtype dtype; /* of x, w and y */
    int64_t n;
    int c, h, w, o, oh, ow, kh, kw;
    int stride[2], padding[2], dilation[2], groups;

    int64_t x_image() const
    {
        return (int64_t)h * w * c;
    }
    int64_t y_image() const
    {
        return (int64_t)oh * ow * o;
    }
    int taps() const
    {
        return kh * kw;
    }
    /* channels of a group, in and out */
    int cg() const
    {
        return c / groups;
    }
    int og() const
    {
        return o / groups;
    }
};

/* V neighbouring channels, which a thread reads at once. */
template <class T, int V> struct alignas(sizeof(T) * V) lanes {
    using type = T;
    using wide = lanes<real_of<T>, V>;
    enum { size = V };
    T at[V];
};

/* Calls f with lanes that fill 16 bytes, or with single ones. */
template <class T, class F> light_status by_lanes(bool packs, F f)
{
    return packs ? f(lanes<T, pack<T>::size>{}) : f(lanes<T, 1>{});
}

/* What kernels need to know of a shape, with channels counted in lanes. */
struct conv_geometry {
    int h, w, oh, ow, kh, kw, groups, c, o, cg, og;
    int stride[2], padding[2], dilation[2];
};

inline conv_geometry geometry_of(const conv_shape &s, int lane_count)
{
    conv_geometry g = {};
    g.h = s.h, g.w = s.w, g.oh = s.oh, g.ow = s.ow, g.kh = s.kh, g.kw = s.kw, g.groups = s.groups;
    g.c = s.c / lane_count, g.cg = s.cg() / lane_count;
    g.o = s.o / lane_count, g.og = s.og() / lane_count;
    for (int i = 0; i < 2; i++) {
        g.stride[i] = s.stride[i];
        g.padding[i] = s.padding[i];
        g.dilation[i] = s.dilation[i];
    }
    return g;
}

/* The output place along a dim whose window has input place `at` as its tap number `tap`; -1: none. */
__device__ inline int place_of(const conv_geometry &g, int dim, int at, int tap, const divisor &stride)
{
    int up = at + g.padding[dim] - tap * g.dilation[dim];
    if (up < 0) return -1;
    int place = (int)divide((uint32_t)up, stride);
    return place * g.stride[dim] == up && place < (dim == 0 ? g.oh : g.ow) ? place : -1;
}

/* For `images` images at a time, so that numbers of elements fit 31 bits. */
inline int64_t images_that_fit(int64_t elements_of_image)
{
    return elements_of_image ? (int64_t)INT32_MAX / elements_of_image : INT32_MAX;
}

/* sums[j] = sums[j] + sums[j + n] + .. for `parts` parts of n numbers, in order. conv_direct.cu */
light_status add_parts(const light_device *device, light_dtype dtype, void *sums, int64_t n, int parts);

/* Weights as [taps, c / groups, o] or [o, taps, c / groups], windows on memory of theirs, to copy from and to OIHW. */
light_tensor plain_weights(const conv_shape &s, light_dtype dtype, const void *w);
light_tensor weights_by_output(const conv_shape &s, light_dtype dtype, const void *w);
light_tensor weights_by_tap(const conv_shape &s, light_dtype dtype, const void *w);

/* Products of windows that are laid out as rows of a matrix: conv_columns.cu. */
light_status columns_forward(const light_device *device, const conv_shape &s, const void *x, const void *w,
                             const light_tensor *bias, void *y, bool accumulate);
light_status columns_backward_data(const light_device *device, const conv_shape &s, const void *gy,
                                   const void *w, void *gx, bool accumulate);
light_status columns_backward_weight(const light_device *device, const conv_shape &s, const void *gy,
                                     const void *x, const light_tensor *gw, bool accumulate);

/* For groups of few channels, a thread for each output: conv_direct.cu. */
light_status direct_forward(const light_device *device, const conv_shape &s, const void *x, const void *w,
                            void *y, bool accumulate);
light_status direct_backward_data(const light_device *device, const conv_shape &s, const void *gy,
                                  const void *w, void *gx, bool accumulate);
light_status direct_backward_weight(const light_device *device, const conv_shape &s, const void *gy,
                                    const void *x, const light_tensor *gw, bool accumulate);

} // namespace light

#endif
