/* SPDX-License-Identifier: Apache-2.0 */
/* Making and moving contents: fill, arange, copy. */
#include "cuda/number.cuh"
#include "cuda/walk.cuh"

namespace light
{

enum { THREADS = 256 };

/* ---- fill -------------------------------------------------------------------- */

template <class T> __global__ void fill_kernel(walk<1> w, T *y, T value)
{
    for (int64_t i = first_element(); i < w.numel; i += grid_stride()) {
        int64_t at[1] = {i};
        if (!w.linear) walk_offsets(w, i, at);
        y[at[0]] = value;
    }
}

static light_status fill(const light_kernel_args *args)
{
    light_tensor *y = args->out[0];
    double value = ((const light_fill_attrs *)args->attrs)->value;
    walk<1> w = walk_of<1>({y});
    return by_dtype(y->dtype, [&](auto type) {
        using T = decltype(type);
        return launch(args->device, fill_kernel<T>, blocks_for(args->device, w.numel, THREADS), THREADS, 0, w,
                      (T *)y->data, to<T>(value));
    });
}

/* ---- arange ------------------------------------------------------------------ */

template <class T> __global__ void arange_kernel(T *y, int64_t n, double start, double step)
{
    for (int64_t i = first_element(); i < n; i += grid_stride()) y[i] = to<T>(start + (double)i * step);
}

static light_status arange(const light_kernel_args *args)
{
    const light_arange_attrs *attrs = (const light_arange_attrs *)args->attrs;
    light_tensor *y = args->out[0];
    return by_dtype(y->dtype, [&](auto type) {
        using T = decltype(type);
        return launch(args->device, arange_kernel<T>, blocks_for(args->device, y->numel, THREADS), THREADS, 0,
                      (T *)y->data, y->numel, attrs->start, attrs->step);
    });
}

/* ---- copy -------------------------------------------------------------------- */

template <class T, class S> __global__ void copy_kernel(walk<2> w, T *y, const S *x, bool accumulate)
{
    for (int64_t i = first_element(); i < w.numel; i += grid_stride()) {
        int64_t at[2] = {i, i};
        if (!w.linear) walk_offsets(w, i, at);
        T value = to<T>(x[at[1]]);
        y[at[0]] = accumulate ? to<T>(widen(y[at[0]]) + widen(value)) : value;
    }
}

/* One dtype, no gaps: 16 bytes at a time. */
template <class T>
__global__ void copy_packs_kernel(pack<T> *y, const pack<T> *x, int64_t packs, bool accumulate)
{
    for (int64_t i = first_element(); i < packs; i += grid_stride()) {
        pack<T> value = x[i];
        if (accumulate) {
            pack<T> before = y[i];
#pragma unroll
            for (int k = 0; k < pack<T>::size; k++)
                value.at[k] = to<T>(widen(before.at[k]) + widen(value.at[k]));
        }
        y[i] = value;
    }
}

template <class T, class S>
static light_status copy_as(const light_kernel_args *args, const walk<2> &w, light_tensor *y,
                            const light_tensor *x)
{
    const light_device *device = args->device;
    bool accumulate = args->accumulate & 1;
    if constexpr (std::is_same<T, S>::value) {
        int64_t packs = w.numel / pack<T>::size;
        if (w.linear && packs * pack<T>::size == w.numel && packs_fit(y->data) && packs_fit(x->data))
            return launch(device, copy_packs_kernel<T>, blocks_for(device, packs, THREADS), THREADS, 0,
                          (pack<T> *)y->data, (const pack<T> *)x->data, packs, accumulate);
    }
    return launch(device, copy_kernel<T, S>, blocks_for(device, w.numel, THREADS), THREADS, 0, w,
                  (T *)y->data, (const S *)x->data, accumulate);
}

static light_status copy_tensor(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0];
    light_tensor *y = args->out[0];
    walk<2> w = walk_of<2>({y, x});
    return by_dtype(y->dtype, [&](auto to_type) {
        return by_dtype(x->dtype, [&](auto from_type) {
            return copy_as<decltype(to_type), decltype(from_type)>(args, w, y, x);
        });
    });
}

extern const kernel_entry copy_kernels[] = {
    {LIGHT_KERNEL_FILL, fill},
    {LIGHT_KERNEL_ARANGE, arange},
    {LIGHT_KERNEL_COPY, copy_tensor},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
