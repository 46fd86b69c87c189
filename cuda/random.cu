/* SPDX-License-Identifier: Apache-2.0 */
/* Random tensors: a thread makes four neighbours from one block of Philox, as light_random_attrs says. */
#include "cuda/map.cuh"
#include "cuda/math.cuh"
#include "cuda/random.cuh"

namespace light
{

enum { RANDOM_THREADS = 256 };

/* As many bits as the dtype has, so that rounding never reaches the upper bound of [0, 1). */
template <class T> constexpr int uniform_bits()
{
    return std::is_same<T, double>::value  ? 32
           : std::is_same<T, float>::value ? 24
           : std::is_same<T, f16>::value   ? 11
                                           : 8;
}

/* Products and sums are rounded one by one, as on the CPU. */
__device__ inline float scaled(float x, float scale, float shift)
{
    return __fadd_rn(shift, __fmul_rn(scale, x));
}

__device__ inline double scaled(double x, double scale, double shift)
{
    return __dadd_rn(shift, __dmul_rn(scale, x));
}

/* Each fills four elements from four words; the members are bounds, or mean and deviation. */
template <class T> struct random_uniform {
    using R = std::conditional_t<std::is_same<T, double>::value, double, float>;
    R low, width;
    __device__ void operator()(const rng &, int64_t, const uint32_t (&bits)[4], T (&y)[4]) const
    {
        constexpr int digits = uniform_bits<T>();
        const R unit = 1 / (R)((uint64_t)1 << digits);
#pragma unroll
        for (int k = 0; k < 4; k++) y[k] = to<T>(scaled((R)(bits[k] >> (32 - digits)) * unit, width, low));
    }
};

/* Box and Muller, 1958: two words make two numbers. Words have 24 bits in float, 32 in double. */
__device__ inline void normal_pair(uint32_t first, uint32_t second, float (&y)[2])
{
    float radius = sqrtf(-2 * logf((float)((first >> 8) + 1) * 0x1p-24f));
    sincospif(2 * ((float)(second >> 8) * 0x1p-24f), &y[1], &y[0]);
    y[0] *= radius;
    y[1] *= radius;
}

__device__ inline void normal_pair(uint32_t first, uint32_t second, double (&y)[2])
{
    double radius = ::sqrt(-2 * ::log(((double)first + 1) * 0x1p-32));
    sincospi(2 * ((double)second * 0x1p-32), &y[1], &y[0]);
    y[0] *= radius;
    y[1] *= radius;
}

template <class T> struct random_normal {
    using R = std::conditional_t<std::is_same<T, double>::value, double, float>;
    R mean, deviation;
    __device__ void operator()(const rng &, int64_t, const uint32_t (&bits)[4], T (&y)[4]) const
    {
#pragma unroll
        for (int k = 0; k < 4; k += 2) {
            R pair[2];
            normal_pair(bits[k], bits[k + 1], pair);
            y[k] = to<T>(scaled(pair[0], deviation, mean));
            y[k + 1] = to<T>(scaled(pair[1], deviation, mean));
        }
    }
};

/* Ranges beyond 2^32 take 64 bits, the first two words of a block of their own. */
template <class T> struct random_integer {
    int64_t low;
    uint64_t range;
    __device__ void operator()(const rng &r, int64_t first, const uint32_t (&bits)[4], T (&y)[4]) const
    {
        for (int k = 0; k < 4; k++) {
            uint64_t number = (bits[k] * range) >> 32;
            if (range > UINT32_MAX) {
                uint32_t own[4];
                philox(r, (uint64_t)(first + k), own);
                number = __umul64hi((uint64_t)own[0] << 32 | own[1], range);
            }
            y[k] = to<T>(low + (int64_t)number);
        }
    }
};

template <class F, class T>
__global__ void __launch_bounds__(RANDOM_THREADS) random_kernel(rng r, F f, T *y, int64_t n, bool aligned)
{
    for (int64_t i = first_element() * 4; i < n; i += grid_stride() * 4) {
        uint32_t bits[4];
        group<T, 4> values;
        philox(r, (uint64_t)i / 4, bits);
        f(r, i, bits, values.at);
        if (aligned && i + 4 <= n) {
            store_group<4>(y + i, values);
            continue;
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k < n) y[i + k] = values.at[k];
    }
}

template <class T, class F> static light_status fill_random(const light_kernel_args *args, F f)
{
    light_tensor *y = args->out[0];
    return launch(args->device, random_kernel<F, T>,
                  blocks_for(args->device, (y->numel + 3) / 4, RANDOM_THREADS), RANDOM_THREADS, 0,
                  rng_of(args), f, (T *)y->data, y->numel, packs_fit(y->data));
}

static light_status random(const light_kernel_args *args)
{
    const light_random_attrs *attrs = (const light_random_attrs *)args->attrs;
    int64_t low = attrs->kind == LIGHT_RANDOM_INTEGER ? (int64_t)attrs->a : 0;
    return by_dtype(args->out[0]->dtype, [&](auto type) {
        using T = decltype(type);
        using R = typename random_uniform<T>::R;
        switch ((light_random_kind)attrs->kind) {
        case LIGHT_RANDOM_UNIFORM:
            return fill_random<T>(args, random_uniform<T>{(R)attrs->a, (R)(attrs->b - attrs->a)});
        case LIGHT_RANDOM_NORMAL: return fill_random<T>(args, random_normal<T>{(R)attrs->a, (R)attrs->b});
        default: return fill_random<T>(args, random_integer<T>{low, (uint64_t)((int64_t)attrs->b - low)});
        }
    });
}

extern const kernel_entry random_kernels[] = {
    {LIGHT_KERNEL_RANDOM, random},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
