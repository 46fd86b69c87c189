/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels may leave to cuDNN, where the backend was built with its headers and its library is found at run time. */
#ifndef LIGHT_CUDA_VENDOR_CUDNN_H
#define LIGHT_CUDA_VENDOR_CUDNN_H

#include "cuda/device.h"

namespace light
{

struct conv_shape; /* cuda/conv.cuh */
struct attention;  /* cuda/attention.cuh */

enum conv_pass { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHT };

/* Each of these may have done nothing, which `done` says: cuDNN is not there, is not wanted (LIGHT_CUDNN), or has no way
 * that keeps what kernels.h promises and gives the same bits every time. */
#ifdef LIGHT_HAVE_CUDNN

/* One of x, w and y (the values or the gradients of them) is the output of the pass; w has a dtype of its own. */
light_status library_conv(const light_device *device, conv_pass pass, const conv_shape &s, void *x,
                          const light_tensor *w, void *y, bool accumulate, bool *done);

/* The kernels BATCH_NORM, but for the running statistics, and BATCH_NORM_BACKWARD in training. */
light_status library_batch_norm(const light_kernel_args *args, bool *done);
light_status library_batch_norm_backward(const light_kernel_args *args, bool *done);

light_status library_attention(const light_device *device, const attention &a, int dtype, bool *done);
light_status library_attention_backward(const light_device *device, const attention &a, int dtype,
                                        bool *done);

void close_cudnn(light_device *device);

#else

inline light_status library_conv(const light_device *, conv_pass, const conv_shape &, void *,
                                 const light_tensor *, void *, bool, bool *done)
{
    *done = false;
    return LIGHT_OK;
}
inline light_status library_batch_norm(const light_kernel_args *, bool *done)
{
    *done = false;
    return LIGHT_OK;
}
inline light_status library_batch_norm_backward(const light_kernel_args *, bool *done)
{
    *done = false;
    return LIGHT_OK;
}
inline light_status library_attention(const light_device *, const attention &, int, bool *done)
{
    *done = false;
    return LIGHT_OK;
}
inline light_status library_attention_backward(const light_device *, const attention &, int, bool *done)
{
    *done = false;
    return LIGHT_OK;
}
inline void close_cudnn(light_device *)
{
}

#endif

} // namespace light

#endif
