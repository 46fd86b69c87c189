/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as they lie in memory and as they are computed with.
 *
 * 16-bit floats are structs of bits here, so that no arithmetic happens in them by accident: kernels widen what they
 * load to `real_of<T>` (float; double for double), compute, and narrow once when they store. */
#ifndef LIGHT_CUDA_NUMBER_CUH
#define LIGHT_CUDA_NUMBER_CUH

#include "cuda/device.h"

#ifndef LIGHT_CUDA_SIM
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include <type_traits>

namespace light
{

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

/* ---- 16-bit floats, rounded to nearest even ------------------------------ */

__host__ __device__ inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

__host__ __device__ inline uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

__host__ __device__ inline float widen(bf16 x)
{
    return float_of_bits((uint32_t)x.bits << 16);
}

__host__ __device__ inline bf16 bf16_of(float x)
{
#ifdef __CUDA_ARCH__
    __nv_bfloat16 y = __float2bfloat16_rn(x);
    bf16 result;
    memcpy(&result, &y, sizeof result);
    return result;
#else
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16{(uint16_t)(bits >> 16 | 0x40)};
    return bf16{(uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
#endif
}

__host__ __device__ inline float widen(f16 x)
{
#ifdef __CUDA_ARCH__
    __half y;
    memcpy(&y, &x, sizeof y);
    return __half2float(y);
#else
    uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
    if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ff) << 13);
    /* The exponent's bias is mended by a product, which makes subnormals right as well. */
    return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 0x1p112f));
#endif
}

__host__ __device__ inline f16 f16_of(float x)
{
#ifdef __CUDA_ARCH__
    __half y = __float2half_rn(x);
    f16 result;
    memcpy(&result, &y, sizeof result);
    return result;
#else
    uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return f16{(uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x3ff))};
    if (rest >= 0x477ff000u) return f16{(uint16_t)(sign | 0x7c00)};
    if (rest < 0x38800000u) /* subnormal: adding 0.5 leaves the rounded bits at the low end */
        return f16{(uint16_t)(sign | (bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000u))};
    return f16{(uint16_t)(sign | ((rest - 0x38000000u + 0xfffu + (rest >> 13 & 1)) >> 13))};
#endif
}

/* ---- computing ------------------------------------------------------------ */

/* What values of T are computed in. */
template <class T> struct real_type {
    using type = T;
};
template <> struct real_type<bf16> {
    using type = float;
};
template <> struct real_type<f16> {
    using type = float;
};
template <class T> using real_of = typename real_type<T>::type;

template <class T> __host__ __device__ inline T widen(T x)
{
    return x;
}

/* A number from one of another type. Floats to integers go towards zero, everything but zero is true. */
template <class T, class S> struct converter {
    __host__ __device__ static T convert(S x)
    {
        return (T)x;
    }
};
template <class S> struct converter<bf16, S> {
    __host__ __device__ static bf16 convert(S x)
    {
        return bf16_of((float)x);
    }
};
template <class S> struct converter<f16, S> {
    __host__ __device__ static f16 convert(S x)
    {
        return f16_of((float)x);
    }
};
template <class S> struct converter<bool, S> {
    __host__ __device__ static bool convert(S x)
    {
        return x != 0;
    }
};
template <class T, class S> __host__ __device__ inline T to(S x)
{
    return converter<T, decltype(widen(x))>::convert(widen(x));
}

/* ---- dtypes --------------------------------------------------------------- */

/* Calls f with a value of the dtype's type; f's result is the result. The second form takes floats only, the third the
 * types of indices. A dtype that is none of them is an error of the caller, since operations check before. */
template <class F> light_status by_dtype(int dtype, F f)
{
    switch (dtype) {
    case LIGHT_F64: return f(double{});
    case LIGHT_F32: return f(float{});
    case LIGHT_BF16: return f(bf16{});
    case LIGHT_F16: return f(f16{});
    case LIGHT_I64: return f(int64_t{});
    case LIGHT_I32: return f(int32_t{});
    case LIGHT_U8: return f(uint8_t{});
    case LIGHT_BOOL: return f(bool{});
    default: return light_fail(LIGHT_ERR_INTERNAL, "%d is no dtype", dtype);
    }
}

template <class F> light_status by_float(int dtype, F f)
{
    switch (dtype) {
    case LIGHT_F64: return f(double{});
    case LIGHT_F32: return f(float{});
    case LIGHT_BF16: return f(bf16{});
    case LIGHT_F16: return f(f16{});
    default:
        return light_fail(LIGHT_ERR_INTERNAL, "%s is no floating dtype",
                          light_dtype_name((light_dtype)dtype));
    }
}

template <class F> light_status by_index(int dtype, F f)
{
    switch (dtype) {
    case LIGHT_I64: return f(int64_t{});
    case LIGHT_I32: return f(int32_t{});
    case LIGHT_U8: return f(uint8_t{});
    default:
        return light_fail(LIGHT_ERR_INTERNAL, "%s is no dtype of indices",
                          light_dtype_name((light_dtype)dtype));
    }
}

/* Element i of an array of a dtype that is known at run time, for results of which there are few. */
template <class R>
__device__ inline void store_number(void *y, int dtype, int64_t i, R value, bool accumulate)
{
    auto store = [=](auto *at) {
        using T = std::remove_pointer_t<decltype(at)>;
        at[i] = to<T>(accumulate ? (R)widen(at[i]) + value : value);
    };
    switch (dtype) {
    case LIGHT_F64: store((double *)y); break;
    case LIGHT_F32: store((float *)y); break;
    case LIGHT_BF16: store((bf16 *)y); break;
    case LIGHT_F16: store((f16 *)y); break;
    case LIGHT_I64: store((int64_t *)y); break;
    case LIGHT_I32: store((int32_t *)y); break;
    case LIGHT_U8: store((uint8_t *)y); break;
    default: store((bool *)y); break;
    }
}

/* ---- vectors --------------------------------------------------------------- */

/* 16 bytes of T, loaded and stored at once. */
template <class T> struct alignas(16) pack {
    enum { size = 16 / sizeof(T) };
    T at[size];
};

template <class T> __device__ inline pack<T> load_pack(const T *from)
{
    return *reinterpret_cast<const pack<T> *>(from);
}

template <class T> __device__ inline void store_pack(T *to, const pack<T> &values)
{
    *reinterpret_cast<pack<T> *>(to) = values;
}

inline bool packs_fit(const void *data)
{
    return ((uintptr_t)data & 15) == 0;
}

} // namespace light

#endif
