/* SPDX-License-Identifier: Apache-2.0 */
/* The weight gradient of a convolution. */
#ifndef LIGHT_CPU_ONCE_CONV_WEIGHTS_H
#define LIGHT_CPU_ONCE_CONV_WEIGHTS_H

#include "cpu/once/conv.h"

light_status light_conv_weights(const light_conv_shape *s, const void *gy, const void *x, void *gw,
                                light_dtype gw_dtype, bool accumulate);

#endif
