/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution: as many groups as channels, in and out. */
#ifndef LIGHT_CPU_ONCE_CONV_DEPTH_H
#define LIGHT_CPU_ONCE_CONV_DEPTH_H

#include "cpu/once/conv.h"

/* As light_conv_gather and light_conv_weights. */
light_status light_conv_depth_gather(light_conv_pass pass, const light_conv_shape *s, const void *in,
                                     const void *w, const void *bias, void *out, bool accumulate);
light_status light_conv_depth_weights(const light_conv_shape *s, const void *gy, const void *x, void *gw,
                                      light_dtype gw_dtype, bool accumulate);

static inline bool light_conv_is_depthwise(const light_conv_shape *s)
{
    return s->groups > 1 && s->groups == s->c && s->groups == s->o;
}

#endif
