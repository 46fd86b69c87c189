/* SPDX-License-Identifier: Apache-2.0 */
/* Elements found by index: y = x[.. index ..], whose elements are copied whatever they are. */
#ifndef LIGHT_CUDA_GATHER_CUH
#define LIGHT_CUDA_GATHER_CUH

#include "cuda/fault.cuh"
#include "cuda/number.cuh"
#include "cuda/walk.cuh"

namespace light
{

/* A walk over y, index and x, in which x does not move along the dim that the index tells. */
struct gather_job {
    walk<3> elements;
    int64_t stride, limit; /* of x along that dim */
    fault *faults;
    int kernel; /* light_kernel_id */
};

/* A place whose index is out of range is left as it is. */
template <class U, class I> __global__ void gather_kernel(gather_job job, U *y, const I *index, const U *x)
{
    for (int64_t i = first_element(); i < job.elements.numel; i += grid_stride()) {
        int64_t at[3];
        walk_offsets(job.elements, i, at);
        int64_t k = index[at[1]];
        if (check_index(job.faults, job.kernel, k, job.limit)) y[at[0]] = x[at[2] + k * job.stride];
    }
}

/* Takes n neighbours for one element, if rows are copied that allow it: of y and x, under one index. */
inline bool join_neighbours(gather_job *job, int64_t n)
{
    walk<3> &w = job->elements;
    int last = w.ndim - 1;
    if (w.numel == 0) return false;
    bool fit = w.strides[0][last] == 1 && w.strides[1][last] == 0 && w.strides[2][last] == 1 &&
               w.shape[last] % n == 0 && job->stride % n == 0;
    for (int d = 0; d < last; d++) fit = fit && w.strides[0][d] % n == 0 && w.strides[2][d] % n == 0;
    if (!fit) return false;
    w.shape[last] /= n;
    w.numel /= n;
    w.small = w.numel < ((int64_t)1 << 31);
    job->stride /= n;
    for (int d = 0; d <= last; d++) {
        w.divisors[d] = divisor_of(w.small ? (uint32_t)w.shape[d] : 1);
        if (d < last) w.strides[0][d] /= n;
        if (d < last) w.strides[2][d] /= n;
    }
    return true;
}

template <class U>
light_status run_gather(const light_device *device, const gather_job &job, void *y, const light_tensor *index,
                        const void *x)
{
    const unsigned threads = 256;
    return by_index(index->dtype, [&](auto type) {
        using I = decltype(type);
        return launch(device, gather_kernel<U, I>, blocks_for(device, job.elements.numel, threads), threads,
                      0, job, (U *)y, (const I *)index->data, (const U *)x);
    });
}

/* The tensors have one shape, by strides of zero where index or x do not move. */
inline light_status gather_elements(const light_device *device, light_kernel_id kernel, const light_tensor *y,
                                    const light_tensor *index, const light_tensor *x, int64_t stride,
                                    int64_t limit)
{
    gather_job job = {walk_of<3>({y, index, x}), stride, limit, state_of(device)->fault_device, (int)kernel};
    size_t size = light_dtype_size((light_dtype)y->dtype);
    if (packs_fit(y->data) && packs_fit(x->data) && join_neighbours(&job, (int64_t)(16 / size)))
        return run_gather<uint4>(device, job, y->data, index, x->data);
    switch (size) {
    case 8: return run_gather<uint64_t>(device, job, y->data, index, x->data);
    case 4: return run_gather<uint32_t>(device, job, y->data, index, x->data);
    case 2: return run_gather<uint16_t>(device, job, y->data, index, x->data);
    default: return run_gather<uint8_t>(device, job, y->data, index, x->data);
    }
}

/* `t` seen in the shape of `like`: it does not move but along `dim`, by `stride`. */
inline light_tensor moving_along(const light_tensor *t, const light_tensor *like, int dim, int64_t stride)
{
    light_tensor result = *t;
    result.ndim = like->ndim;
    for (int d = 0; d < like->ndim; d++) {
        result.shape[d] = like->shape[d];
        result.strides[d] = d == dim ? stride : 0;
    }
    return result;
}

/* `t` in the shape of `like`, standing still along `dim`. */
inline light_tensor still_along(const light_tensor *t, const light_tensor *like, int dim)
{
    light_tensor result = *t;
    for (int d = 0; d < like->ndim; d++) result.shape[d] = like->shape[d];
    if (like->ndim) result.strides[dim] = 0;
    return result;
}

/* y[.. i ..] = x[.. index[i] ..] along a dim. */
inline light_status select_slabs(const light_device *device, light_kernel_id kernel, const light_tensor *y,
                                 const light_tensor *index, const light_tensor *x, int dim)
{
    light_tensor i = moving_along(index, y, dim, index->ndim ? index->strides[index->ndim - 1] : 1);
    light_tensor still = still_along(x, y, dim);
    return gather_elements(device, kernel, y, &i, &still, x->ndim ? x->strides[dim] : 1,
                           x->ndim ? x->shape[dim] : 1);
}

} // namespace light

#endif
