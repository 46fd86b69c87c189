/* SPDX-License-Identifier: Apache-2.0 */
/* The walk behind every elementwise kernel: y = f(x...), element by element.
 *
 * A thread takes V neighbouring elements, loaded and stored 16 bytes at a time, where the fastest dim of every operand is
 * without gaps (or expanded: one element for all V) and begins where such accesses may; else it takes one element.
 * Every byte is read and written once. */
#ifndef LIGHT_CUDA_MAP_CUH
#define LIGHT_CUDA_MAP_CUH

#include "cuda/number.cuh"
#include "cuda/walk.cuh"

#include <algorithm>
#include <utility>

namespace light
{

enum { MAP_THREADS = 256 };

/* What elements of T are computed in: as real_type says, and small whole numbers in 32 bits. */
template <class T> struct compute_type {
    using type = real_of<T>;
};
template <> struct compute_type<uint8_t> {
    using type = int32_t;
};
template <> struct compute_type<bool> {
    using type = int32_t;
};
template <class T> using compute_of = typename compute_type<T>::type;

/* V neighbours, V a power of two. */
template <class T, int V> struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) group {
    T at[V];
};

template <int V, class T> __device__ inline group<T, V> load_group(const T *from)
{
    return *reinterpret_cast<const group<T, V> *>(from);
}

template <int V, class T> __device__ inline void store_group(T *to, const group<T, V> &values)
{
    *reinterpret_cast<group<T, V> *>(to) = values;
}

/* One element V times, or as load_group. */
template <int V, class T> __device__ inline group<T, V> load_or_repeat(const T *from, bool repeat)
{
    if (!repeat) return load_group<V>(from);
    group<T, V> values;
#pragma unroll
    for (int k = 0; k < V; k++) values.at[k] = from[0];
    return values;
}

/* What is stored for a result; a sum with what is there is rounded once. */
template <class Y, class R> __device__ inline Y stored(R value)
{
    if constexpr (std::is_same<Y, R>::value)
        return value;
    else
        return to<Y>(value);
}

template <class Y, class R> __device__ inline Y stored_sum(Y before, R value)
{
    return to<Y>((compute_of<Y>)widen(before) + (compute_of<Y>)widen(value));
}

/* f gets elements as they are stored. */
template <int V, class F, class Y, class... X>
__device__ inline void map_group(const F &f, bool accumulate, Y *y, const group<X, V> &...x)
{
    group<Y, V> result;
    if (accumulate) {
        result = load_group<V>(y);
#pragma unroll
        for (int k = 0; k < V; k++) result.at[k] = stored_sum(result.at[k], f(x.at[k]...));
    } else {
#pragma unroll
        for (int k = 0; k < V; k++) result.at[k] = stored<Y>(f(x.at[k]...));
    }
    store_group<V>(y, result);
}

/* at: where each operand stands; repeat: bit k says that operand k has one element for all. */
template <int V, class F, class Y, class... X, size_t... K>
__device__ inline void map_at(const F &f, bool accumulate, const int64_t (&at)[1 + sizeof...(X)],
                              unsigned repeat, std::index_sequence<K...>, Y *y, const X *...x)
{
    map_group<V>(f, accumulate, y + at[0], load_or_repeat<V>(x + at[1 + K], repeat >> (1 + K) & 1)...);
}

/* w counts groups of V; `tail` more elements follow the last one, where there is one dim only. */
template <int V, class F, class Y, class... X>
__global__ void __launch_bounds__(MAP_THREADS, 2)
    map_kernel(walk<1 + sizeof...(X)> w, int tail, unsigned repeat, F f, bool accumulate, Y *y, const X *...x)
{
    constexpr auto operands = std::make_index_sequence<sizeof...(X)>{};
    int64_t at[1 + sizeof...(X)];
    for (int64_t i = first_element(); i < w.numel; i += grid_stride()) {
        walk_offsets(w, i, at);
        map_at<V>(f, accumulate, at, repeat, operands, y, x...);
    }
    if (first_element() >= tail) return;
    for (size_t k = 0; k < 1 + sizeof...(X); k++) at[k] = repeat >> k & 1 ? 0 : w.numel * V + first_element();
    map_at<1>(f, accumulate, at, 0, operands, y, x...);
}

/* ---- the host's side ---------------------------------------------------------- */

/* Elements that a thread takes of operands of these sizes: those of the smallest fill 16 bytes, but not too many of the
 * largest. */
constexpr int group_size(size_t smallest, size_t largest)
{
    return largest == 1 ? 16 : smallest <= 2 ? 8 : (int)(16 / smallest);
}

/* Whether groups of V may be taken; then w counts them, and `repeat` and the number of elements that are left over, which
 * may be where there is one dim, are set. */
template <int K>
bool group_walk(walk<K> &w, int V, const void *const (&data)[K], const size_t (&sizes)[K], int *tail,
                unsigned *repeat)
{
    int last = w.ndim - 1;
    unsigned repeated = 0;
    *tail = 0;
    *repeat = 0;
    if (w.numel < V || (last > 0 && w.shape[last] % V)) return false;
    for (int k = 0; k < K; k++) {
        size_t alignment = sizes[k] * (size_t)V < 16 ? sizes[k] * (size_t)V : 16;
        if (w.strides[k][last] == 0 && k > 0) {
            repeated |= 1u << k;
            continue;
        }
        if (w.strides[k][last] != 1 || (uintptr_t)data[k] % alignment) return false;
        for (int d = 0; d < last; d++)
            if (w.strides[k][d] % V) return false;
    }
    *repeat = repeated;
    *tail = (int)(w.shape[last] % V);
    w.shape[last] /= V;
    w.numel = last == 0 ? w.shape[0] : w.numel / V;
    w.small = w.numel < ((int64_t)1 << 31);
    for (int d = 0; d < w.ndim; d++) w.divisors[d] = divisor_of(w.small ? (uint32_t)w.shape[d] : 1);
    for (int k = 0; k < K; k++) w.strides[k][last] *= V;
    return true;
}

/* map<Y, X...>::run(device, f, accumulate, y, x...): the types of the elements, then the tensors, all of y's shape.
 * run_with takes a second function that does the same, for tensors that do not allow groups: where f is one of many, they
 * may share a kernel there. */
template <class Y, class... X> struct map {
    template <class F, class G, class... T>
    static light_status run_with(const light_device *device, F f, G general, bool accumulate,
                                 const light_tensor *y, const T *...x)
    {
        constexpr size_t sizes[] = {sizeof(Y), sizeof(X)...};
        constexpr int V =
            group_size(std::min({sizeof(Y), sizeof(X)...}), std::max({sizeof(Y), sizeof(X)...}));
        const void *data[] = {y->data, x->data...};
        int tail;
        unsigned repeat;
        auto w = walk_of<1 + sizeof...(X)>({y, x...});
        if (group_walk(w, V, data, sizes, &tail, &repeat))
            return launch(device, map_kernel<V, F, Y, X...>, blocks_for(device, w.numel, MAP_THREADS),
                          MAP_THREADS, 0, w, tail, repeat, f, accumulate, (Y *)y->data,
                          (const X *)x->data...);
        return launch(device, map_kernel<1, G, Y, X...>, blocks_for(device, w.numel, MAP_THREADS),
                      MAP_THREADS, 0, w, 0, 0u, general, accumulate, (Y *)y->data, (const X *)x->data...);
    }

    template <class F, class... T>
    static light_status run(const light_device *device, F f, bool accumulate, const light_tensor *y,
                            const T *...x)
    {
        return run_with(device, f, f, accumulate, y, x...);
    }
};

} // namespace light

#endif
