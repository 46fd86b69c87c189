/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that use other kernels of this backend: windows on device memory, and calls of COPY, FILL and REDUCE with
 * them. */
#ifndef LIGHT_CUDA_CALL_H
#define LIGHT_CUDA_CALL_H

#include "cuda/device.h"

namespace light
{

/* A tensor over memory that is somebody else's. Strides in elements. */
template <int N>
light_tensor window(light_dtype dtype, const void *data, const int64_t (&shape)[N],
                    const int64_t (&strides)[N])
{
    light_tensor t = {};
    t.dtype = (uint8_t)dtype;
    t.ndim = N;
    t.data = (char *)const_cast<void *>(data);
    t.numel = 1;
    for (int d = 0; d < N; d++) {
        t.shape[d] = shape[d];
        t.strides[d] = strides[d];
        t.numel *= shape[d];
    }
    return t;
}

/* Converts where dtypes differ. */
inline light_status call_copy(const light_device *device, const light_tensor *from, light_tensor *to,
                              bool accumulate)
{
    light_kernel_args args = {};
    args.device = const_cast<light_device *>(device);
    args.in[0] = from;
    args.out[0] = to;
    args.accumulate = accumulate;
    return device->backend->kernels[LIGHT_KERNEL_COPY](&args);
}

inline light_status call_fill(const light_device *device, light_tensor *to, double value)
{
    light_fill_attrs attrs = {value};
    light_kernel_args args = {};
    args.device = const_cast<light_device *>(device);
    args.out[0] = to;
    args.attrs = &attrs;
    return device->backend->kernels[LIGHT_KERNEL_FILL](&args);
}

/* Over the dims of `from` that `dims` has a bit for; in `to` they have 1. */
inline light_status call_sum(const light_device *device, const light_tensor *from, light_tensor *to,
                             uint32_t dims, bool accumulate)
{
    light_reduce_attrs attrs = {LIGHT_REDUCE_SUM, dims, 0};
    light_kernel_args args = {};
    args.device = const_cast<light_device *>(device);
    args.in[0] = from;
    args.out[0] = to;
    args.attrs = &attrs;
    args.accumulate = accumulate;
    return device->backend->kernels[LIGHT_KERNEL_REDUCE](&args);
}

} // namespace light

#endif
