/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions for tests: their shapes, and sums in double. */
#ifndef LIGHT_TESTS_CONV_H
#define LIGHT_TESTS_CONV_H

#include "cpu/once/conv.h"

#include <stdbool.h>

/* f32, images of size x (size + 1), windows of k x (k - 1). */
light_conv_shape conv_shape(int64_t n, int64_t c, int64_t size, int64_t o, int64_t k, int64_t stride,
                            int64_t padding, int64_t dilation, int64_t groups);
/* Sets oh and ow: as many windows as there is room for. */
void conv_fit(light_conv_shape *s);

/* Adds every product of the convolution to the element of the pass's output where it belongs, and its size to that of
 * `sizes`. x and y are channels-last or row-major. */
void conv_products(const light_conv_shape *s, light_conv_pass pass, bool channels_last, const double *x,
                   const double *w, const double *y, double *sums, double *sizes);

#endif
