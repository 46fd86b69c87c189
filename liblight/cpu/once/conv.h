/* SPDX-License-Identifier: Apache-2.0 */
/* Two-dimensional convolution of the CPU backend, on raw memory. */
#ifndef LIGHT_CPU_ONCE_CONV_H
#define LIGHT_CPU_ONCE_CONV_H

#include <light/tensor.h>

/* x [n, c, h, w] and y [n, o, oh, ow] lie channels-last (N, H, W, C), weights [o, c / groups, kh, kw] plainly. */
typedef struct light_conv_shape {
    light_dtype dtype; /* of x, y and the weights */
    int64_t n, c, h, w, o, oh, ow, kh, kw;
    int64_t stride[2], padding[2], dilation[2], groups;
} light_conv_shape;

typedef enum light_conv_pass {
    LIGHT_CONV_FORWARD,
    LIGHT_CONV_BACKWARD_DATA,
    LIGHT_CONV_BACKWARD_WEIGHT
} light_conv_pass;

/* The same bits for any number of threads; one caller at a time; no allocation once
 * work memory has grown to its size.
 * `accumulate` adds to the output. The bias and its gradient have o elements and may be NULL. */
light_status light_cpu_conv_forward(const light_conv_shape *s, const void *x, const void *w, const void *bias,
                                    light_dtype bias_dtype, void *y, bool accumulate);
light_status light_cpu_conv_backward_data(const light_conv_shape *s, const void *gy, const void *w, void *gx,
                                          bool accumulate);
/* gw_dtype: s->dtype or f32. */
light_status light_cpu_conv_backward_weight(const light_conv_shape *s, const void *gy, const void *x,
                                            void *gw, light_dtype gw_dtype, bool accumulate);
/* out[j] (+)= sum of x[i * n + j] over i < m. */
light_status light_cpu_column_sums(int64_t m, int64_t n, light_dtype dtype, const void *x, void *out,
                                   light_dtype out_dtype, bool accumulate);

#endif
