/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise functions of one tensor, and their gradients. In f32 and 16-bit floats each function has a kernel of its own
 * with the registers it needs; f64, and tensors with gaps, share one that looks the function up. */
#include "cuda/map.cuh"
#include "cuda/math.cuh"

namespace light
{

/* ---- floating ------------------------------------------------------------------ */

template <class R> __device__ static R gelu(R x)
{
    return R(0.5) * x * (1 + erf(x * R(0.70710678118654752440)));
}

template <class R> __device__ static R gelu_slope(R x)
{
    R density = R(0.39894228040143267794) * exp(R(-0.5) * x * x);
    return R(0.5) * (1 + erf(x * R(0.70710678118654752440))) + x * density;
}

/* The argument of the tangent in the approximation of gelu. */
template <class R> __device__ static R gelu_inner(R x)
{
    return R(0.79788456080286535588) * (x + R(0.044715) * x * x * x);
}

template <class R> __device__ static R gelu_tanh_slope(R x)
{
    R t = tanh(gelu_inner(x)), inner = R(0.79788456080286535588) * (1 + R(0.134145) * x * x);
    return R(0.5) * (1 + t) + R(0.5) * x * (1 - t * t) * inner;
}

template <class R> __device__ static R silu_slope(R x)
{
    R s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

template <class R> __device__ static R softplus(R x)
{
    return (x < 0 ? 0 : x) + log1p(exp(-fabs(x)));
}

/* x^e; common exponents without a call. */
template <class R> __device__ static R power(R x, R e)
{
    if (e == 0) return 1;
    if (e == 1) return x;
    if (e == 2) return x * x;
    if (e == 3) return x * x * x;
    if (e == -1) return 1 / x;
    if (e == R(0.5)) return sqrt(x);
    return pow(x, e);
}

enum { ANY = -1 }; /* a function that is looked up: `code` */

/* a, b: see light_unary_attrs; bounds that are not there are infinite. */
template <int CODE, class T> struct unary_function {
    using R = real_of<T>;
    int code;
    R a, b;
    __device__ R operator()(T element) const
    {
        R x = widen(element);
        switch (CODE == ANY ? code : CODE) {
        case LIGHT_UNARY_NEG: return -x;
        case LIGHT_UNARY_ABS: return fabs(x);
        case LIGHT_UNARY_EXP: return exp(x);
        case LIGHT_UNARY_LOG: return log(x);
        case LIGHT_UNARY_SQRT: return sqrt(x);
        case LIGHT_UNARY_RSQRT: return 1 / sqrt(x);
        case LIGHT_UNARY_RECIPROCAL: return 1 / x;
        case LIGHT_UNARY_SQUARE: return x * x;
        case LIGHT_UNARY_SIN: return sin(x);
        case LIGHT_UNARY_COS: return cos(x);
        case LIGHT_UNARY_TANH: return tanh(x);
        case LIGHT_UNARY_SIGMOID: return sigmoid(x);
        case LIGHT_UNARY_RELU: return x < 0 ? 0 : x;
        case LIGHT_UNARY_LEAKY_RELU: return x < 0 ? a * x : x;
        case LIGHT_UNARY_ELU: return x < 0 ? a * expm1(x) : x;
        case LIGHT_UNARY_GELU: return gelu(x);
        case LIGHT_UNARY_GELU_TANH: return R(0.5) * x * (1 + tanh(gelu_inner(x)));
        case LIGHT_UNARY_SILU: return x * sigmoid(x);
        case LIGHT_UNARY_SOFTPLUS: return softplus(x);
        case LIGHT_UNARY_CLAMP: x = x < a ? a : x; return x > b ? b : x;
        case LIGHT_UNARY_ADD_SCALAR: return x + a;
        case LIGHT_UNARY_MUL_SCALAR: return x * a;
        case LIGHT_UNARY_POW_SCALAR: return power(x, a);
        default: return x;
        }
    }
};

/* g is the gradient that came, v what was saved: the result or the argument. */
template <int CODE, class T> struct unary_slope {
    using R = real_of<T>;
    int code;
    R a, b;
    __device__ R operator()(T gradient, T saved) const
    {
        R g = widen(gradient), v = widen(saved);
        switch (CODE == ANY ? code : CODE) {
        case LIGHT_UNARY_NEG: return -g;
        case LIGHT_UNARY_ABS: return v > 0 ? g : v < 0 ? -g : 0 * v;
        case LIGHT_UNARY_EXP: return g * v;
        case LIGHT_UNARY_LOG: return g / v;
        case LIGHT_UNARY_SQRT: return g / (2 * v);
        case LIGHT_UNARY_RSQRT: return R(-0.5) * g * (v * v * v);
        case LIGHT_UNARY_RECIPROCAL: return -g * v * v;
        case LIGHT_UNARY_SQUARE: return 2 * v * g;
        case LIGHT_UNARY_SIN: return g * cos(v);
        case LIGHT_UNARY_COS: return -g * sin(v);
        case LIGHT_UNARY_TANH: return g * (1 - v * v);
        case LIGHT_UNARY_SIGMOID: return g * v * (1 - v);
        case LIGHT_UNARY_RELU: return v > 0 ? g : 0;
        case LIGHT_UNARY_LEAKY_RELU: return v > 0 ? g : a * g;
        case LIGHT_UNARY_ELU: return v > 0 ? g : g * a * exp(v);
        case LIGHT_UNARY_GELU: return g * gelu_slope(v);
        case LIGHT_UNARY_GELU_TANH: return g * gelu_tanh_slope(v);
        case LIGHT_UNARY_SILU: return g * silu_slope(v);
        case LIGHT_UNARY_SOFTPLUS: return g * sigmoid(v);
        case LIGHT_UNARY_CLAMP: return v >= a && v <= b ? g : 0;
        case LIGHT_UNARY_MUL_SCALAR: return g * a;
        case LIGHT_UNARY_POW_SCALAR: return g * (a * power(v, a == 0 ? 0 : a - 1));
        default: return g;
        }
    }
};

/* ---- whole numbers --------------------------------------------------------------- */

/* Sums and products wrap around. */
template <class T> struct unary_integer {
    using I = compute_of<T>;
    int code;
    I a, b;
    __device__ I operator()(T element) const
    {
        using U = typename std::make_unsigned<I>::type;
        I x = element;
        switch (code) {
        case LIGHT_UNARY_NEG: return (I)(0 - (U)x);
        case LIGHT_UNARY_ABS: return (I)(x < 0 ? 0 - (U)x : (U)x);
        case LIGHT_UNARY_SQUARE: return (I)((U)x * (U)x);
        case LIGHT_UNARY_RELU: return x < 0 ? 0 : x;
        case LIGHT_UNARY_CLAMP: x = x < a ? a : x; return x > b ? b : x;
        case LIGHT_UNARY_ADD_SCALAR: return (I)((U)x + (U)a);
        default: return (I)((U)x * (U)a); /* LIGHT_UNARY_MUL_SCALAR */
        }
    }
};

/* The scalar of an attribute struct, as near as the type comes. */
template <class I> static I nearest(double value)
{
    const I largest = sizeof(I) == 8 ? (I)INT64_MAX : (I)INT32_MAX;
    if (value >= (double)largest) return largest;
    if (value <= -(double)largest - 1) return -largest - 1;
    return (I)value;
}

template <class T> static light_status run_integer(const light_kernel_args *args)
{
    using I = compute_of<T>;
    const light_unary_attrs *attrs = (const light_unary_attrs *)args->attrs;
    double a = attrs->a, b = attrs->b;
    if (attrs->code == LIGHT_UNARY_CLAMP && isnan(a)) a = -INFINITY;
    if (attrs->code == LIGHT_UNARY_CLAMP && isnan(b)) b = INFINITY;
    unary_integer<T> f = {attrs->code, nearest<I>(a), nearest<I>(b)};
    return map<T, T>::run(args->device, f, args->accumulate & 1, args->out[0], args->in[0]);
}

/* ---- predicates ------------------------------------------------------------------ */

template <class T> struct unary_is_finite {
    __device__ bool operator()(T x) const
    {
        return widen(x) - widen(x) == 0;
    }
};

template <class T> struct unary_is_zero {
    __device__ bool operator()(T x) const
    {
        return widen(x) == 0;
    }
};

template <template <class> class F> static light_status run_predicate(const light_kernel_args *args)
{
    return by_dtype(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return map<bool, T>::run(args->device, F<T>{}, args->accumulate & 1, args->out[0], args->in[0]);
    });
}

/* ---- the kernels ----------------------------------------------------------------- */

template <class F> static F function_of(const light_kernel_args *args)
{
    using R = typename F::R;
    const light_unary_attrs *attrs = (const light_unary_attrs *)args->attrs;
    bool clamp = attrs->code == LIGHT_UNARY_CLAMP;
    return F{attrs->code, clamp && isnan(attrs->a) ? (R)-INFINITY : (R)attrs->a,
             clamp && isnan(attrs->b) ? (R)INFINITY : (R)attrs->b};
}

template <int CODE> static light_status run_unary(const light_kernel_args *args)
{
    return by_float(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int code = sizeof(T) == 8 ? ANY : CODE;
        return map<T, T>::run_with(args->device, function_of<unary_function<code, T>>(args),
                                   function_of<unary_function<ANY, T>>(args), args->accumulate & 1,
                                   args->out[0], args->in[0]);
    });
}

template <int CODE> static light_status run_unary_backward(const light_kernel_args *args)
{
    const light_tensor *g = args->in[0], *saved = args->in[1] ? args->in[1] : g;
    return by_float(g->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int code = sizeof(T) == 8 ? ANY : CODE;
        return map<T, T, T>::run_with(args->device, function_of<unary_slope<code, T>>(args),
                                      function_of<unary_slope<ANY, T>>(args), args->accumulate & 1,
                                      args->out[0], g, saved);
    });
}

static light_status unary(const light_kernel_args *args)
{
    int code = ((const light_unary_attrs *)args->attrs)->code;
    if (code == LIGHT_UNARY_LOGICAL_NOT) return run_predicate<unary_is_zero>(args);
    if (code == LIGHT_UNARY_ISFINITE) return run_predicate<unary_is_finite>(args);
    switch (args->in[0]->dtype) {
    case LIGHT_I64: return run_integer<int64_t>(args);
    case LIGHT_I32: return run_integer<int32_t>(args);
    case LIGHT_U8: return run_integer<uint8_t>(args);
    case LIGHT_BOOL: return run_integer<bool>(args);
    default: break;
    }
    switch (code) {
#define X(name, text, saves, gradient, integers)                                                             \
    case LIGHT_UNARY_##name: return run_unary<LIGHT_UNARY_##name>(args);
        LIGHT_UNARY_MAP(X)
#undef X
    default: return light_fail(LIGHT_ERR_INTERNAL, "%d is no function of one tensor", code);
    }
}

static light_status unary_backward(const light_kernel_args *args)
{
    int code = ((const light_unary_attrs *)args->attrs)->code;
    switch (code) {
#define X(name, text, saves, gradient, integers)                                                             \
    case LIGHT_UNARY_##name: return run_unary_backward<LIGHT_UNARY_##name>(args);
        LIGHT_UNARY_MAP(X)
#undef X
    default: return light_fail(LIGHT_ERR_INTERNAL, "%d is no function of one tensor", code);
    }
}

extern const kernel_entry elementwise_unary_kernels[] = {
    {LIGHT_KERNEL_UNARY, unary},
    {LIGHT_KERNEL_UNARY_BACKWARD, unary_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
