/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions that gather: every output is a sum over the taps of its window. The forward pass is one, and so is the
 * data gradient, with the weights turned around. */
#ifndef LIGHT_CPU_ONCE_CONV_GATHER_H
#define LIGHT_CPU_ONCE_CONV_GATHER_H

#include "cpu/once/conv.h"

/* FORWARD: out is y, from x. BACKWARD_DATA: out is gx, from gy. The bias is real, or NULL. */
light_status light_conv_gather(light_conv_pass pass, const light_conv_shape *s, const void *in, const void *w,
                               const void *bias, void *out, bool accumulate);

#endif
