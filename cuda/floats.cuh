/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays of floats whose dtype a kernel learns when it runs: for what lies beside the main tensors, such as weights and
 * biases, so that kernels need not be made for every pair of dtypes. All threads take the same branch. */
#ifndef LIGHT_CUDA_FLOATS_CUH
#define LIGHT_CUDA_FLOATS_CUH

#include "cuda/number.cuh"

namespace light
{

/* N neighbours of T: one access where they are 16 bytes or less. */
template <class T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) neighbours {
    T at[N];
};

struct floats {
    void *data; /* NULL: there are none */
    int dtype;
};

inline floats floats_of(const light_tensor *t)
{
    return t ? floats{t->data, t->dtype} : floats{};
}

/* Whether neighbours can be accessed at once. */
inline bool packs_fit(const floats &a)
{
    return packs_fit(a.data);
}

template <class T, int N, class R> __device__ inline void load_as(const void *data, int64_t i, R (&to)[N])
{
    neighbours<T, N> from = *(const neighbours<T, N> *)((const T *)data + i);
#pragma unroll
    for (int k = 0; k < N; k++) to[k] = (R)widen(from.at[k]);
}

template <class T, int N, class R> __device__ inline void store_as(void *data, int64_t i, const R (&from)[N])
{
    neighbours<T, N> values;
#pragma unroll
    for (int k = 0; k < N; k++) values.at[k] = light::to<T>(from[k]);
    *(neighbours<T, N> *)((T *)data + i) = values;
}

/* Elements i .. i + N - 1; for N above 1, i must be a multiple of N and the array aligned to 16 bytes. */
template <int N, class R> __device__ inline void load_floats(const floats &a, int64_t i, R (&to)[N])
{
    switch (a.dtype) {
    case LIGHT_F64: load_as<double>(a.data, i, to); break;
    case LIGHT_F32: load_as<float>(a.data, i, to); break;
    case LIGHT_BF16: load_as<bf16>(a.data, i, to); break;
    default: load_as<f16>(a.data, i, to);
    }
}

template <int N, class R> __device__ inline void store_floats(const floats &a, int64_t i, const R (&from)[N])
{
    switch (a.dtype) {
    case LIGHT_F64: store_as<double>(a.data, i, from); break;
    case LIGHT_F32: store_as<float>(a.data, i, from); break;
    case LIGHT_BF16: store_as<bf16>(a.data, i, from); break;
    default: store_as<f16>(a.data, i, from);
    }
}

/* As load_floats, or all `missing` where there is no array. */
template <int N, class R> __device__ inline void load_or(const floats &a, int64_t i, R missing, R (&to)[N])
{
#pragma unroll
    for (int k = 0; k < N; k++) to[k] = missing;
    if (a.data) load_floats(a, i, to);
}

template <class R> __device__ inline R float_at(const floats &a, int64_t i, R missing)
{
    R value[1];
    load_or(a, i, missing, value);
    return value[0];
}

/* Writes or adds one element. */
template <class R> __device__ inline void put_float(const floats &a, int64_t i, R value, bool add)
{
    R all[1] = {value};
    if (add) all[0] += float_at(a, i, R(0));
    store_floats(a, i, all);
}

} // namespace light

#endif
