/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise arithmetic in one floating type; elementwise.c includes this for f32 and f64. It wants
 *   REAL      the type                    NAME(x)   x under a name for it
 *   CALL(f)   libm's f for it             VEC(f)    f of vec.h for it */

#define R(x) ((REAL)(x))
#define EACH(expression)                                                                                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                      \
    {                                                                                                        \
        const REAL x = X[i];                                                                                 \
        Y[i] = (expression);                                                                                 \
    }                                                                                                        \
    break

LIGHT_VEC REAL NAME(gelu)(REAL x)
{
    return R(0.5) * x * (1 + VEC(erf)(x * R(0.70710678118654752440)));
}

LIGHT_VEC REAL NAME(gelu_slope)(REAL x)
{
    REAL density = R(0.39894228040143267794) * VEC(exp)(R(-0.5) * x * x);
    return R(0.5) * (1 + VEC(erf)(x * R(0.70710678118654752440))) + x * density;
}

LIGHT_VEC REAL NAME(gelu_tanh)(REAL x)
{
    return R(0.5) * x * (1 + VEC(tanh)(R(0.79788456080286535588) * (x + R(0.044715) * x * x * x)));
}

LIGHT_VEC REAL NAME(gelu_tanh_slope)(REAL x)
{
    REAL t = VEC(tanh)(R(0.79788456080286535588) * (x + R(0.044715) * x * x * x));
    REAL inner = R(0.79788456080286535588) * (1 + R(0.134145) * x * x);
    return R(0.5) * (1 + t) + R(0.5) * x * (1 - t * t) * inner;
}

LIGHT_VEC REAL NAME(silu_slope)(REAL x)
{
    REAL s = VEC(sigmoid)(x);
    return s * (1 + x * (1 - s));
}

LIGHT_VEC REAL NAME(softplus)(REAL x)
{
    return (x < 0 ? 0 : x) + VEC(log1p)(VEC(exp)(-CALL(fabs)(x)));
}

/* x^e; common exponents without a call. */
static void NAME(power)(const REAL *X, REAL *Y, double e, double factor, int64_t n)
{
    const REAL f = R(factor);
    if (e == 0) {
        for (int64_t i = 0; i < n; i++) Y[i] = f;
    } else if (e == 1) {
        for (int64_t i = 0; i < n; i++) Y[i] = f * X[i];
    } else if (e == 2) {
        for (int64_t i = 0; i < n; i++) Y[i] = f * (X[i] * X[i]);
    } else if (e == 3) {
        for (int64_t i = 0; i < n; i++) Y[i] = f * (X[i] * X[i] * X[i]);
    } else if (e == -1) {
        for (int64_t i = 0; i < n; i++) Y[i] = f / X[i];
    } else if (e == 0.5) {
        for (int64_t i = 0; i < n; i++) Y[i] = f * CALL(sqrt)(X[i]);
    } else {
        for (int64_t i = 0; i < n; i++) Y[i] = f * CALL(pow)(X[i], R(e));
    }
}

static void NAME(unary)(const void *context, const void *const *in, void *out, int64_t n)
{
    const light_unary_attrs *attrs = context;
    const REAL *X = in[0];
    REAL *Y = out;
    const REAL a = R(attrs->a);
    switch ((light_unary)attrs->code) {
    case LIGHT_UNARY_NEG: EACH(-x);
    case LIGHT_UNARY_ABS: EACH(CALL(fabs)(x));
    case LIGHT_UNARY_EXP: EACH(VEC(exp)(x));
    case LIGHT_UNARY_LOG: EACH(VEC(log)(x));
    case LIGHT_UNARY_SQRT: EACH(CALL(sqrt)(x));
    case LIGHT_UNARY_RSQRT: EACH(1 / CALL(sqrt)(x));
    case LIGHT_UNARY_RECIPROCAL: EACH(1 / x);
    case LIGHT_UNARY_SQUARE: EACH(x * x);
    case LIGHT_UNARY_SIN: EACH(CALL(sin)(x));
    case LIGHT_UNARY_COS: EACH(CALL(cos)(x));
    case LIGHT_UNARY_TANH: EACH(VEC(tanh)(x));
    case LIGHT_UNARY_SIGMOID: EACH(VEC(sigmoid)(x));
    case LIGHT_UNARY_RELU: EACH(x < 0 ? 0 : x);
    case LIGHT_UNARY_LEAKY_RELU: EACH(x < 0 ? a * x : x);
    case LIGHT_UNARY_ELU: EACH(x < 0 ? a * VEC(expm1)(x) : x);
    case LIGHT_UNARY_GELU: EACH(NAME(gelu)(x));
    case LIGHT_UNARY_GELU_TANH: EACH(NAME(gelu_tanh)(x));
    case LIGHT_UNARY_SILU: EACH(x * VEC(sigmoid)(x));
    case LIGHT_UNARY_SOFTPLUS: EACH(NAME(softplus)(x));
    case LIGHT_UNARY_CLAMP: {
        const REAL low = isnan(attrs->a) ? -INFINITY : a, high = isnan(attrs->b) ? INFINITY : R(attrs->b);
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)
        {
            REAL x = X[i] < low ? low : X[i];
            Y[i] = x > high ? high : x;
        }
        break;
    }
    case LIGHT_UNARY_ADD_SCALAR: EACH(x + a);
    case LIGHT_UNARY_MUL_SCALAR: EACH(x * a);
    case LIGHT_UNARY_POW_SCALAR: NAME(power)(X, Y, attrs->a, 1, n); break;
    default: break; /* predicates are elsewhere */
    }
}
#undef EACH

/* g is the gradient that came, v what was saved: the result or the argument. */
#define EACH(expression)                                                                                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                      \
    {                                                                                                        \
        const REAL g = G[i], v = V[i];                                                                       \
        (void)v;                                                                                             \
        Y[i] = (expression);                                                                                 \
    }                                                                                                        \
    break
static void NAME(unary_backward)(const void *context, const void *const *in, void *out, int64_t n)
{
    const light_unary_attrs *attrs = context;
    const REAL *G = in[0], *V = in[1];
    REAL *Y = out;
    const REAL a = R(attrs->a);
    switch ((light_unary)attrs->code) {
    case LIGHT_UNARY_NEG: EACH(-g);
    case LIGHT_UNARY_ABS: EACH(v > 0 ? g : v < 0 ? -g : 0 * v);
    case LIGHT_UNARY_EXP: EACH(g * v);
    case LIGHT_UNARY_LOG: EACH(g / v);
    case LIGHT_UNARY_SQRT: EACH(g / (2 * v));
    case LIGHT_UNARY_RSQRT: EACH(R(-0.5) * g * (v * v * v));
    case LIGHT_UNARY_RECIPROCAL: EACH(-g * v * v);
    case LIGHT_UNARY_SQUARE: EACH(2 * v * g);
    case LIGHT_UNARY_SIN: EACH(g * CALL(cos)(v));
    case LIGHT_UNARY_COS: EACH(-g * CALL(sin)(v));
    case LIGHT_UNARY_TANH: EACH(g * (1 - v * v));
    case LIGHT_UNARY_SIGMOID: EACH(g * v * (1 - v));
    case LIGHT_UNARY_RELU: EACH(v > 0 ? g : 0);
    case LIGHT_UNARY_LEAKY_RELU: EACH(v > 0 ? g : a * g);
    case LIGHT_UNARY_ELU: EACH(v > 0 ? g : g * a * VEC(exp)(v));
    case LIGHT_UNARY_GELU: EACH(g * NAME(gelu_slope)(v));
    case LIGHT_UNARY_GELU_TANH: EACH(g * NAME(gelu_tanh_slope)(v));
    case LIGHT_UNARY_SILU: EACH(g * NAME(silu_slope)(v));
    case LIGHT_UNARY_SOFTPLUS: EACH(g * VEC(sigmoid)(v));
    case LIGHT_UNARY_CLAMP: {
        const REAL low = isnan(attrs->a) ? -INFINITY : a, high = isnan(attrs->b) ? INFINITY : R(attrs->b);
        EACH(v >= low ? (v <= high ? g : 0) : 0);
    }
    case LIGHT_UNARY_ADD_SCALAR: EACH(g);
    case LIGHT_UNARY_MUL_SCALAR: EACH(g * a);
    case LIGHT_UNARY_POW_SCALAR:
        /* Tiles of at most LIGHT_MAP_TILE elements keep the powers in the cache. */
        for (int64_t at = 0; at < n; at += LIGHT_MAP_TILE) {
            REAL slope[LIGHT_MAP_TILE];
            int64_t count = n - at < LIGHT_MAP_TILE ? n - at : LIGHT_MAP_TILE;
            NAME(power)(V + at, slope, attrs->a == 0 ? 0 : attrs->a - 1, attrs->a, count);
            for (int64_t i = 0; i < count; i++) Y[at + i] = G[at + i] * slope[i];
        }
        break;
    default: break;
    }
}
#undef EACH

#define EACH(expression)                                                                                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                      \
    {                                                                                                        \
        const REAL a = A[i], b = B[i];                                                                       \
        Y[i] = (expression);                                                                                 \
    }                                                                                                        \
    break
static void NAME(binary)(const void *context, const void *const *in, void *out, int64_t n)
{
    const REAL *A = in[0], *B = in[1];
    REAL *Y = out;
    switch ((light_binary)((const light_binary_attrs *)context)->code) {
    case LIGHT_BINARY_ADD: EACH(a + b);
    case LIGHT_BINARY_SUB: EACH(a - b);
    case LIGHT_BINARY_MUL: EACH(a * b);
    case LIGHT_BINARY_DIV: EACH(a / b);
    case LIGHT_BINARY_POW: EACH(CALL(pow)(a, b));
    case LIGHT_BINARY_MAXIMUM: EACH(a > b || a != a ? a : b);
    case LIGHT_BINARY_MINIMUM: EACH(a < b || a != a ? a : b);
    case LIGHT_BINARY_DIV_GRAD_B: EACH(-a / b);
    case LIGHT_BINARY_POW_GRAD_A: EACH(b == 0 ? 0 : b * CALL(pow)(a, b - 1));
    case LIGHT_BINARY_POW_GRAD_B: EACH(a == 0 && b >= 0 ? 0 : CALL(pow)(a, b) * CALL(log)(a));
    case LIGHT_BINARY_MASK_GE: EACH(a >= b ? 1 : 0);
    case LIGHT_BINARY_MASK_GT: EACH(a > b ? 1 : 0);
    case LIGHT_BINARY_MASK_EQ_HALF: EACH(a == b ? R(0.5) : 0);
    default: break; /* predicates are elsewhere */
    }
}
#undef EACH

static void NAME(unary_predicate)(const void *context, const void *const *in, void *out, int64_t n)
{
    const REAL *X = in[0];
    uint8_t *Y = out;
    if (((const light_unary_attrs *)context)->code == LIGHT_UNARY_ISFINITE)
        for (int64_t i = 0; i < n; i++) Y[i] = X[i] - X[i] == 0;
    else
        for (int64_t i = 0; i < n; i++) Y[i] = X[i] == 0;
}
#undef R
