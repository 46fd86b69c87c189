/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution by im2col and matrix products, for f32 and f64: what conv.c falls back to. */
#ifndef LIGHT_CPU_ONCE_CONV_PLAIN_H
#define LIGHT_CPU_ONCE_CONV_PLAIN_H

#include "cpu/once/conv.h"

light_status light_conv_plain_forward(const light_conv_shape *s, const void *x, const void *w,
                                      const void *bias, void *y, bool accumulate);
light_status light_conv_plain_backward_data(const light_conv_shape *s, const void *gy, const void *w,
                                            void *gx, bool accumulate);
light_status light_conv_plain_backward_weight(const light_conv_shape *s, const void *gy, const void *x,
                                              void *gw, bool accumulate);

/* One pixel's window is the pixel itself: the convolution is a matrix product. */
static inline bool light_conv_is_product(const light_conv_shape *s)
{
    return s->kh == 1 && s->kw == 1 && s->stride[0] == 1 && s->stride[1] == 1 && s->padding[0] == 0 &&
           s->padding[1] == 0;
}

#endif
