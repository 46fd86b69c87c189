/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise arithmetic in one integer type; elementwise.c includes this for i32 and i64. It wants INTEGER, its
 * unsigned UNSIGNED (sums and products wrap around), its largest number LARGEST, and NAME(x). */

/* The scalar of an attribute struct, as near as the type comes. */
static INTEGER NAME(scalar)(double value)
{
    if (value >= (double)LARGEST) return LARGEST;
    if (value <= -(double)LARGEST - 1) return -LARGEST - 1;
    return (INTEGER)value;
}

static INTEGER NAME(power)(INTEGER base, INTEGER exponent)
{
    UNSIGNED result = 1, square = (UNSIGNED)base;
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) result *= square;
        square *= square;
    }
    return (INTEGER)result;
}

#define EACH(expression)                                                                                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                      \
    {                                                                                                        \
        const INTEGER x = X[i];                                                                              \
        Y[i] = (INTEGER)(expression);                                                                        \
    }                                                                                                        \
    break
static void NAME(unary)(const void *context, const void *const *in, void *out, int64_t n)
{
    const light_unary_attrs *attrs = context;
    const INTEGER *X = in[0];
    INTEGER *Y = out;
    switch ((light_unary)attrs->code) {
    case LIGHT_UNARY_NEG: EACH(0 - (UNSIGNED)x);
    case LIGHT_UNARY_ABS: EACH(x < 0 ? 0 - (UNSIGNED)x : (UNSIGNED)x);
    case LIGHT_UNARY_SQUARE: EACH((UNSIGNED)x * (UNSIGNED)x);
    case LIGHT_UNARY_RELU: EACH(x < 0 ? 0 : x);
    case LIGHT_UNARY_CLAMP: {
        const INTEGER low = isnan(attrs->a) ? -LARGEST - 1 : NAME(scalar)(attrs->a);
        const INTEGER high = isnan(attrs->b) ? LARGEST : NAME(scalar)(attrs->b);
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)
        {
            INTEGER x = X[i] < low ? low : X[i];
            Y[i] = x > high ? high : x;
        }
        break;
    }
    case LIGHT_UNARY_ADD_SCALAR: {
        const UNSIGNED a = (UNSIGNED)NAME(scalar)(attrs->a);
        EACH((UNSIGNED)x + a);
    }
    case LIGHT_UNARY_MUL_SCALAR: {
        const UNSIGNED a = (UNSIGNED)NAME(scalar)(attrs->a);
        EACH((UNSIGNED)x * a);
    }
    default: break;
    }
}
#undef EACH

#define EACH(expression)                                                                                     \
    for (int64_t i = 0; i < n; i++) {                                                                        \
        const INTEGER a = A[i], b = B[i];                                                                    \
        Y[i] = (INTEGER)(expression);                                                                        \
    }                                                                                                        \
    break
static void NAME(binary)(const void *context, const void *const *in, void *out, int64_t n)
{
    const INTEGER *A = in[0], *B = in[1];
    INTEGER *Y = out;
    switch ((light_binary)((const light_binary_attrs *)context)->code) {
    case LIGHT_BINARY_ADD: EACH((UNSIGNED)a + (UNSIGNED)b);
    case LIGHT_BINARY_SUB: EACH((UNSIGNED)a - (UNSIGNED)b);
    case LIGHT_BINARY_MUL: EACH((UNSIGNED)a * (UNSIGNED)b);
    case LIGHT_BINARY_POW: EACH(NAME(power)(a, b));
    case LIGHT_BINARY_MAXIMUM: EACH(a > b ? a : b);
    case LIGHT_BINARY_MINIMUM: EACH(a < b ? a : b);
    default: break;
    }
}
#undef EACH

static void NAME(unary_predicate)(const void *context, const void *const *in, void *out, int64_t n)
{
    const INTEGER *X = in[0];
    uint8_t *Y = out;
    if (((const light_unary_attrs *)context)->code == LIGHT_UNARY_ISFINITE)
        memset(Y, 1, (size_t)n);
    else
        for (int64_t i = 0; i < n; i++) Y[i] = X[i] == 0;
}
