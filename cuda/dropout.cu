/* SPDX-License-Identifier: Apache-2.0 */
/* Dropout: element i of memory is kept when its random number says so. The gradient draws the same numbers again, so that
 * no mask is kept. */
#include "cuda/map.cuh"
#include "cuda/random.cuh"

namespace light
{

enum { DROPOUT_THREADS = 256 };

/* Blocks of Philox for V elements from `first` on, which is a multiple of 4. */
template <int V> __device__ inline void random_bits(const rng &r, int64_t first, uint32_t (&bits)[V])
{
#pragma unroll
    for (int k = 0; k < V; k += 4) {
        uint32_t four[4];
        philox(r, (uint64_t)(first + k) / 4, four);
#pragma unroll
        for (int j = 0; j < 4; j++) bits[k + j] = four[j];
    }
}

template <class T> struct dropout_element {
    using R = real_of<T>;
    uint32_t threshold;
    R scale;
    __device__ R operator()(uint32_t bits, T x) const
    {
        return bits >> 8 >= threshold ? widen(x) * scale : 0;
    }
};

template <int V, class T>
__global__ void __launch_bounds__(DROPOUT_THREADS)
    dropout_kernel(rng r, dropout_element<T> f, int64_t n, bool aligned, bool accumulate, T *y, const T *x)
{
    for (int64_t i = first_element() * V; i < n; i += grid_stride() * V) {
        uint32_t bits[V];
        random_bits<V>(r, i, bits);
        if (aligned && i + V <= n) {
            group<T, V> values = load_group<V>(x + i), before;
            if (accumulate) before = load_group<V>(y + i);
#pragma unroll
            for (int k = 0; k < V; k++) {
                auto value = f(bits[k], values.at[k]);
                values.at[k] = accumulate ? stored_sum(before.at[k], value) : stored<T>(value);
            }
            store_group<V>(y + i, values);
            continue;
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (i + k >= n) continue;
            auto value = f(bits[k], x[i + k]);
            y[i + k] = accumulate ? stored_sum(y[i + k], value) : stored<T>(value);
        }
    }
}

static light_status dropout(const light_kernel_args *args)
{
    double p = ((const light_dropout_attrs *)args->attrs)->p;
    const light_tensor *x = args->in[0];
    light_tensor *y = args->out[0];
    return by_float(x->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int V = sizeof(T) == 2 ? 8 : 4;
        dropout_element<T> f = {drop_threshold(p), (real_of<T>)(p < 1 ? 1 / (1 - p) : 0)};
        return launch(args->device, dropout_kernel<V, T>,
                      blocks_for(args->device, (x->numel + V - 1) / V, DROPOUT_THREADS), DROPOUT_THREADS, 0,
                      rng_of(args), f, x->numel, packs_fit(x->data) && packs_fit(y->data),
                      args->accumulate & 1, (T *)y->data, (const T *)x->data);
    });
}

extern const kernel_entry dropout_kernels[] = {
    {LIGHT_KERNEL_DROPOUT, dropout},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
