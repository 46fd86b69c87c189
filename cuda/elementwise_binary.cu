/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise functions of two tensors, comparisons, where. */
#include "cuda/map.cuh"
#include "cuda/math.cuh"

namespace light
{

/* ---- floating ------------------------------------------------------------------ */

/* A code of ANY is looked up: for pow and the gradients' own functions, which are rare, and for all in f64. */
enum { ANY = -1 };

template <int CODE, class T> struct binary_function {
    using R = real_of<T>;
    int code;
    __device__ R operator()(T first, T second) const
    {
        R a = widen(first), b = widen(second);
        switch (CODE == ANY ? code : CODE) {
        case LIGHT_BINARY_ADD: return a + b;
        case LIGHT_BINARY_SUB: return a - b;
        case LIGHT_BINARY_MUL: return a * b;
        case LIGHT_BINARY_DIV: return a / b;
        case LIGHT_BINARY_MAXIMUM: return a > b || a != a ? a : b;
        case LIGHT_BINARY_MINIMUM: return a < b || a != a ? a : b;
        case LIGHT_BINARY_POW: return pow(a, b);
        case LIGHT_BINARY_DIV_GRAD_B: return -a / b;
        case LIGHT_BINARY_POW_GRAD_A: return b == 0 ? 0 : b * pow(a, b - 1);
        case LIGHT_BINARY_POW_GRAD_B: return a == 0 && b >= 0 ? 0 : pow(a, b) * log(a);
        case LIGHT_BINARY_MASK_GE: return a >= b ? 1 : 0;
        case LIGHT_BINARY_MASK_GT: return a > b ? 1 : 0;
        default: return a == b ? R(0.5) : 0; /* LIGHT_BINARY_MASK_EQ_HALF */
        }
    }
};

template <int CODE> static light_status run_binary(const light_kernel_args *args)
{
    int code = ((const light_binary_attrs *)args->attrs)->code;
    return by_float(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int known = sizeof(T) == 8 ? ANY : CODE;
        return map<T, T, T>::run_with(args->device, binary_function<known, T>{code},
                                      binary_function<ANY, T>{code}, args->accumulate & 1, args->out[0],
                                      args->in[0], args->in[1]);
    });
}

static light_status binary_floating(const light_kernel_args *args)
{
    switch (((const light_binary_attrs *)args->attrs)->code) {
    case LIGHT_BINARY_ADD: return run_binary<LIGHT_BINARY_ADD>(args);
    case LIGHT_BINARY_SUB: return run_binary<LIGHT_BINARY_SUB>(args);
    case LIGHT_BINARY_MUL: return run_binary<LIGHT_BINARY_MUL>(args);
    case LIGHT_BINARY_DIV: return run_binary<LIGHT_BINARY_DIV>(args);
    case LIGHT_BINARY_MAXIMUM: return run_binary<LIGHT_BINARY_MAXIMUM>(args);
    case LIGHT_BINARY_MINIMUM: return run_binary<LIGHT_BINARY_MINIMUM>(args);
    default: return run_binary<ANY>(args);
    }
}

/* ---- whole numbers --------------------------------------------------------------- */

template <class I> __device__ static I integer_power(I base, I exponent)
{
    using U = typename std::make_unsigned<I>::type;
    U result = 1, square = (U)base;
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) result *= square;
        square *= square;
    }
    return (I)result;
}

/* Sums and products wrap around. */
template <class T> struct binary_integer {
    using I = compute_of<T>;
    int code;
    __device__ I operator()(T first, T second) const
    {
        using U = typename std::make_unsigned<I>::type;
        I a = first, b = second;
        switch (code) {
        case LIGHT_BINARY_ADD: return (I)((U)a + (U)b);
        case LIGHT_BINARY_SUB: return (I)((U)a - (U)b);
        case LIGHT_BINARY_MUL: return (I)((U)a * (U)b);
        case LIGHT_BINARY_POW: return integer_power(a, b);
        case LIGHT_BINARY_MAXIMUM: return a > b ? a : b;
        default: return a < b ? a : b; /* LIGHT_BINARY_MINIMUM */
        }
    }
};

template <class T> static light_status run_integer(const light_kernel_args *args)
{
    binary_integer<T> f = {((const light_binary_attrs *)args->attrs)->code};
    return map<T, T, T>::run(args->device, f, args->accumulate & 1, args->out[0], args->in[0], args->in[1]);
}

/* ---- comparisons ----------------------------------------------------------------- */

template <class T> struct binary_comparison {
    int code;
    __device__ bool operator()(T first, T second) const
    {
        compute_of<T> a = widen(first), b = widen(second);
        switch (code) {
        case LIGHT_BINARY_EQ: return a == b;
        case LIGHT_BINARY_NE: return a != b;
        case LIGHT_BINARY_LT: return a < b;
        case LIGHT_BINARY_LE: return a <= b;
        case LIGHT_BINARY_GT: return a > b;
        case LIGHT_BINARY_GE: return a >= b;
        case LIGHT_BINARY_AND: return a != 0 && b != 0;
        default: return a != 0 || b != 0; /* LIGHT_BINARY_OR */
        }
    }
};

static light_status compare(const light_kernel_args *args)
{
    int code = ((const light_binary_attrs *)args->attrs)->code;
    return by_dtype(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return map<bool, T, T>::run(args->device, binary_comparison<T>{code}, args->accumulate & 1,
                                    args->out[0], args->in[0], args->in[1]);
    });
}

static light_status binary(const light_kernel_args *args)
{
    int code = ((const light_binary_attrs *)args->attrs)->code;
    if (code >= LIGHT_BINARY_EQ && code <= LIGHT_BINARY_OR) return compare(args);
    switch (args->in[0]->dtype) {
    case LIGHT_I64: return run_integer<int64_t>(args);
    case LIGHT_I32: return run_integer<int32_t>(args);
    case LIGHT_U8: return run_integer<uint8_t>(args);
    case LIGHT_BOOL: return run_integer<bool>(args);
    default: return binary_floating(args);
    }
}

/* ---- where ----------------------------------------------------------------------- */

template <class T> struct where_choice {
    __device__ T operator()(bool condition, T a, T b) const
    {
        return condition ? a : b;
    }
};

static light_status where(const light_kernel_args *args)
{
    return by_dtype(args->out[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return map<T, bool, T, T>::run(args->device, where_choice<T>{}, args->accumulate & 1, args->out[0],
                                       args->in[0], args->in[1], args->in[2]);
    });
}

extern const kernel_entry elementwise_binary_kernels[] = {
    {LIGHT_KERNEL_BINARY, binary},
    {LIGHT_KERNEL_WHERE, where},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
