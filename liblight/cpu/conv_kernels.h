/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions do besides products (those are the tiles of gemm_kernels.h); conv_kernels.c provides this table once
 * per instruction set. "Real" is f64 for f64 and f32 for all others. Steps and distances are in elements. */
#ifndef LIGHT_CPU_CONV_KERNELS_H
#define LIGHT_CPU_CONV_KERNELS_H

#include <light/tensor.h>

typedef struct {
    int64_t pixels, channels;
    int64_t from_step, to_step; /* from one pixel to the next */
} light_conv_pixels;

/* A row of pixels of a depthwise convolution: output i and tap t meet at input i * stride + offset + t * spread, where
 * that is one of the inputs. */
typedef struct {
    int64_t channels;
    int64_t outputs, output_step;
    int64_t inputs, input_step;
    int64_t taps, tap_step;
    int64_t stride, offset, spread;
} light_conv_depth_row;

typedef struct light_conv_kernels {
    /* To real, from any floating dtype. */
    void (*take)(light_dtype dtype, const light_conv_pixels *p, const void *from, void *to);
    /* From real, plus the bias (real, or NULL), and added to what is there when asked. */
    void (*give)(light_dtype dtype, const light_conv_pixels *p, const void *from, const void *bias, bool add,
                 void *to);
    /* out[c, t] (+)= the sum of in[piece * step + t * channels + c] over the pieces, in order; `room` is for one more. */
    void (*sum_pieces)(light_dtype real, int64_t taps, int64_t channels, int64_t pieces, int64_t step,
                       const void *in, void *room, light_dtype out_dtype, bool add, void *out);
    void (*depth_row)(light_dtype real, const light_conv_depth_row *r, const void *x, const void *w, void *y);
    void (*depth_weights)(light_dtype real, const light_conv_depth_row *r, const void *x, const void *gy,
                          void *w);
} light_conv_kernels;

#endif
