/* SPDX-License-Identifier: Apache-2.0 */
/* Combining what several processes have: rows into one, in the order of a binary tree, as cpu/combine.c. */
#include "cuda/collectives.h"
#include "cuda/number.cuh"
#include "cuda/walk.cuh"

namespace light
{

enum { THREADS = 256, MOST_TREES = 32 /* of different sizes, so 2^31 rows */ };

template <class T> struct rows {
    const T *x, *own;
    int64_t own_row, count, n;
    int combine;
};

/* Integers wrap around. */
template <class R> __device__ inline R sum_of(R a, R b)
{
    if constexpr (std::is_integral<R>::value) {
        using U = std::make_unsigned_t<R>;
        return (R)((U)a + (U)b);
    } else {
        return a + b;
    }
}
template <> __device__ inline bool sum_of<bool>(bool a, bool b)
{
    return a || b;
}

template <class R> __device__ inline R join(int combine, R a, R b)
{
    if (combine == LIGHT_COMBINE_SUM) return sum_of(a, b);
    return b != b || (combine == LIGHT_COMBINE_MIN ? b < a : b > a) ? b : a;
}

/* Trees on a stack: the count of rows so far says, as a binary number, which sizes there are. Two of a size become one; at
 * the end the rest joins from the right. */
template <class T> __device__ inline real_of<T> tree_of(const rows<T> &r, int64_t i)
{
    using R = real_of<T>;
    R trees[MOST_TREES];
    int top = 0;
    for (int64_t row = 0; row < r.count; row++) {
        R tree = widen(row == r.own_row ? r.own[i] : r.x[row * r.n + i]);
        for (int64_t joined = row; joined & 1; joined >>= 1) tree = join(r.combine, trees[--top], tree);
        trees[top++] = tree;
    }
    R all = trees[--top];
    while (top > 0) all = join(r.combine, trees[--top], all);
    return all;
}

/* Two rows need no stack in local memory. */
template <class T> __global__ void pair_kernel(rows<T> r, T *y)
{
    for (int64_t i = first_element(); i < r.n; i += grid_stride()) {
        auto a = widen(r.own_row == 0 ? r.own[i] : r.x[i]);
        auto b = widen(r.own_row == 1 ? r.own[i] : r.x[r.n + i]);
        y[i] = to<T>(join(r.combine, a, b));
    }
}

template <class T> __global__ void tree_kernel(rows<T> r, T *y)
{
    for (int64_t i = first_element(); i < r.n; i += grid_stride()) y[i] = to<T>(tree_of(r, i));
}

light_status combine_on(cudaStream_t stream, const light_kernel_args *args)
{
    const light_combine_attrs *attrs = (const light_combine_attrs *)args->attrs;
    const light_tensor *x = args->in[0], *own = args->in[1];
    light_tensor *y = args->out[0];
    return by_dtype(y->dtype, [&](auto type) {
        using T = decltype(type);
        rows<T> r = {(const T *)x->data, own ? (const T *)own->data : NULL, attrs->own, x->shape[0], y->numel,
                     attrs->combine};
        return launch_on(stream, args->device, r.count == 2 ? pair_kernel<T> : tree_kernel<T>,
                         blocks_for(args->device, y->numel, THREADS), THREADS, 0, r, (T *)y->data);
    });
}

static light_status combine(const light_kernel_args *args)
{
    return combine_on(stream_of(args->device), args);
}

extern const kernel_entry combine_kernels[] = {
    {LIGHT_KERNEL_COMBINE, combine},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
