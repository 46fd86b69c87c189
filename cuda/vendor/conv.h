/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions by cuDNN, where the backend was built with its headers and its library is found at run time. */
#ifndef LIGHT_CUDA_VENDOR_CONV_H
#define LIGHT_CUDA_VENDOR_CONV_H

#include "cuda/conv.cuh"

namespace light
{

enum conv_pass { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHT };

/* One of x, w and y (the values or the gradients of them) is the output of the pass; w has a dtype of its own. `done` is
 * false, and nothing has been written, where cuDNN is not there or has no way that gives the same bits every time. */
#ifdef LIGHT_HAVE_CUDNN
light_status library_conv(const light_device *device, conv_pass pass, const conv_shape &s, void *x,
                          const light_tensor *w, void *y, bool accumulate, bool *done);
void close_conv(light_device *device);
#else
inline light_status library_conv(const light_device *, conv_pass, const conv_shape &, void *,
                                 const light_tensor *, void *, bool, bool *done)
{
    *done = false;
    return LIGHT_OK;
}
inline void close_conv(light_device *)
{
}
#endif

} // namespace light

#endif
