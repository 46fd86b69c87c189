/* SPDX-License-Identifier: Apache-2.0 */
/* oneDNN's convolutions, as sequential pieces: each call computes in the calling thread alone. */
#ifndef LIGHT_CPU_ONCE_ONEDNN_H
#define LIGHT_CPU_ONCE_ONEDNN_H

#include "cpu/once/conv.h"

typedef struct light_onednn_conv light_onednn_conv;

/* The convolution for one pass and shape; made on first use, kept for ever, ready for `threads` threads at once.
 * NULL where oneDNN has no good implementation. The sums of a weight gradient are f32 whatever the dtype. */
light_onednn_conv *light_onednn_conv_get(light_conv_pass pass, const light_conv_shape *shape, bool bias,
                                         int threads);

/* Bytes of the weights (or their gradient) in oneDNN's own order, and of work memory for one call. */
size_t light_onednn_conv_weight_bytes(const light_onednn_conv *conv);
size_t light_onednn_conv_work_bytes(const light_onednn_conv *conv);
/* Whether what is packed for one serves the other. */
bool light_onednn_conv_same_weights(const light_onednn_conv *a, const light_onednn_conv *b);

/* Weights from plain OIHW order into oneDNN's. */
light_status light_onednn_conv_pack(light_onednn_conv *conv, const void *plain, void *packed);
/* A weight gradient (f32) from oneDNN's order into plain f32, added to what is there if asked. */
light_status light_onednn_conv_unpack(light_onednn_conv *conv, const void *packed, float *plain,
                                      bool accumulate);

/* One call: x and y are the shape's input and output (or their gradients), channels last, w is in oneDNN's order. Which
 * of them is written follows from the pass. `thread` is the caller's number, below `threads` above. */
light_status light_onednn_conv_run(light_onednn_conv *conv, int thread, const void *x, const void *w,
                                   const void *bias, const void *y, void *work);

#endif
