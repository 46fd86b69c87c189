/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise operations. */
#include "support/op_check.h"

#include <float.h>
#include <string.h>

/* ---- of one tensor ------------------------------------------------------ */

typedef light_tensor *(*one_fn)(light_step *s, light_tensor *x);
typedef struct one {
    const char *name;
    one_fn apply;
    double (*reference)(double x);
    double low, high;
    double factor;
} one;

static double ref_neg(double x)
{
    return -x;
}
static double ref_rsqrt(double x)
{
    return 1 / sqrt(x);
}
static double ref_reciprocal(double x)
{
    return 1 / x;
}
static double ref_square(double x)
{
    return x * x;
}
static double ref_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static double ref_relu(double x)
{
    return x > 0 ? x : 0;
}
static double ref_gelu(double x)
{
    return 0.5 * x * (1 + erf(x / sqrt(2)));
}
static double ref_gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}
static double ref_silu(double x)
{
    return x / (1 + exp(-x));
}
static double ref_softplus(double x)
{
    return log1p(exp(x));
}

static const one ones[] = {
    {"neg", light_neg, ref_neg, 0, 0, 0},
    {"abs", light_abs, fabs, 0, 0, 0},
    {"exp", light_exp, exp, -4, 4, 0},
    {"log", light_log_e, log, 0.1, 8, 0},
    {"sqrt", light_sqrt, sqrt, 0.1, 8, 0},
    {"rsqrt", light_rsqrt, ref_rsqrt, 0.25, 8, 0},
    {"reciprocal", light_reciprocal, ref_reciprocal, 0.25, 8, 0},
    {"square", light_square, ref_square, 0, 0, 0},
    {"sin", light_sin, sin, -4, 4, 0},
    {"cos", light_cos, cos, -4, 4, 0},
    {"tanh", light_tanh, tanh, -4, 4, 0},
    {"sigmoid", light_sigmoid, ref_sigmoid, -8, 8, 0},
    {"relu", light_relu, ref_relu, 0, 0, 0},
    {"gelu", light_gelu, ref_gelu, -4, 4, 0},
    {"gelu_tanh", light_gelu_tanh, ref_gelu_tanh, -4, 4, 0},
    {"silu", light_silu, ref_silu, -8, 8, 0},
    {"softplus", light_softplus, ref_softplus, -8, 8, 0},
};

static light_tensor *apply_one(light_step *s, light_tensor **in, const void *user)
{
    return ((const one *)user)->apply(s, in[0]);
}

static int64_t reference_count;

static void reference_one(const double *const *in, double *out, const void *user)
{
    for (int64_t i = 0; i < reference_count; i++) out[i] = ((const one *)user)->reference(in[0][i]);
}

static void check_one(const one *o, light_shape shape)
{
    reference_count = light_shape_numel(shape);
    check_op(&(op_check){.name = o->name,
                         .apply = apply_one,
                         .reference = reference_one,
                         .user = o,
                         .in = {{.shape = shape, .low = o->low, .high = o->high}},
                         .out = shape,
                         .factor = o->factor});
}

static void functions_of_one_tensor(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        check_one(&ones[i], LIGHT_SHAPE(2, 3, 5, 3));
        check_one(&ones[i], LIGHT_SHAPE(7, 31));
        check_one(&ones[i], LIGHT_SCALAR);
        check_one(&ones[i], LIGHT_SHAPE(3, 0, 2));
    }
    check_one(&ones[0], LIGHT_SHAPE(3, 700)); /* more than one tile */
}

typedef struct scalars {
    int which;
    double a, b;
} scalars;

static light_tensor *apply_scalar(light_step *s, light_tensor **in, const void *user)
{
    const scalars *c = user;
    switch (c->which) {
    case 0: return light_add_scalar(s, in[0], c->a);
    case 1: return light_mul_scalar(s, in[0], c->a);
    case 2: return light_pow_scalar(s, in[0], c->a);
    case 3: return light_leaky_relu(s, in[0], c->a);
    case 4: return light_elu(s, in[0], c->a);
    default: return light_clamp(s, in[0], c->a, c->b);
    }
}

static void reference_scalar(const double *const *in, double *out, const void *user)
{
    const scalars *c = user;
    for (int i = 0; i < 60; i++) {
        double x = in[0][i];
        switch (c->which) {
        case 0: out[i] = x + c->a; break;
        case 1: out[i] = x * c->a; break;
        case 2: out[i] = pow(x, c->a); break;
        case 3: out[i] = x > 0 ? x : c->a * x; break;
        case 4: out[i] = x > 0 ? x : c->a * expm1(x); break;
        default:
            out[i] = !isnan(c->a) && x < c->a ? c->a : x;
            if (!isnan(c->b) && out[i] > c->b) out[i] = c->b;
        }
    }
}

static void functions_with_scalars(void **state)
{
    static const scalars cases[] = {
        {0, 1.5, 0}, {1, -0.75, 0},    {2, 0, 0},      {2, 1, 0},      {2, 2, 0},
        {2, 3, 0},   {2, -1, 0},       {2, 0.5, 0},    {2, 2.5, 0},    {3, 0.125, 0},
        {4, 1.5, 0}, {5, -0.51, 1.01}, {5, NAN, 1.01}, {5, 0.51, NAN},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool power = cases[i].which == 2;
        check_op(&(op_check){.name = "scalar function",
                             .apply = apply_scalar,
                             .reference = reference_scalar,
                             .user = &cases[i],
                             .in = {{.shape = LIGHT_SHAPE(5, 12), .low = power ? 0.25 : -2, .high = 2}},
                             .out = LIGHT_SHAPE(5, 12)});
    }
}

/* ---- of two tensors ----------------------------------------------------- */

typedef struct two {
    const char *name;
    light_tensor *(*apply)(light_step *s, light_tensor *a, light_tensor *b);
    double (*reference)(double a, double b);
    double low, high; /* of both */
} two;

static double ref_add(double a, double b)
{
    return a + b;
}
static double ref_sub(double a, double b)
{
    return a - b;
}
static double ref_mul(double a, double b)
{
    return a * b;
}
static double ref_div(double a, double b)
{
    return a / b;
}
static double ref_eq(double a, double b)
{
    return a == b;
}
static double ref_ne(double a, double b)
{
    return a != b;
}
static double ref_lt(double a, double b)
{
    return a < b;
}
static double ref_le(double a, double b)
{
    return a <= b;
}
static double ref_gt(double a, double b)
{
    return a > b;
}
static double ref_ge(double a, double b)
{
    return a >= b;
}
static double ref_and(double a, double b)
{
    return a != 0 && b != 0;
}
static double ref_or(double a, double b)
{
    return a != 0 || b != 0;
}

static const two twos[] = {
    {"add", light_add, ref_add, -2, 2},      {"sub", light_sub, ref_sub, -2, 2},
    {"mul", light_mul, ref_mul, -2, 2},      {"div", light_div, ref_div, 0.25, 2},
    {"pow", light_pow, pow, 0.25, 2},        {"maximum", light_maximum, fmax, -2, 2},
    {"minimum", light_minimum, fmin, -2, 2},
};
static const two comparisons[] = {
    {"eq", light_eq, ref_eq, 0, 0},
    {"ne", light_ne, ref_ne, 0, 0},
    {"lt", light_lt, ref_lt, 0, 0},
    {"le", light_le, ref_le, 0, 0},
    {"gt", light_gt, ref_gt, 0, 0},
    {"ge", light_ge, ref_ge, 0, 0},
    {"and", light_logical_and, ref_and, 0, 0},
    {"or", light_logical_or, ref_or, 0, 0},
};

typedef struct two_case {
    two f;
    light_shape a, b, out;
} two_case;

static light_tensor *apply_two(light_step *s, light_tensor **in, const void *user)
{
    return ((const two_case *)user)->f.apply(s, in[0], in[1]);
}

/* The element of a tensor of `shape` that is broadcast to the element of `out` with this number. */
static int64_t broadcast_index(light_shape shape, light_shape out, int64_t linear)
{
    int64_t index = 0, scale = 1;
    for (int i = 1; i <= out.ndim; i++) {
        int64_t at = linear % out.dims[out.ndim - i];
        linear /= out.dims[out.ndim - i];
        if (i > shape.ndim) continue;
        int64_t size = shape.dims[shape.ndim - i];
        index += size == 1 ? 0 : at * scale;
        scale *= size;
    }
    return index;
}

static void reference_two(const double *const *in, double *out, const void *user)
{
    const two_case *c = user;
    for (int64_t i = 0; i < light_shape_numel(c->out); i++)
        out[i] =
            c->f.reference(in[0][broadcast_index(c->a, c->out, i)], in[1][broadcast_index(c->b, c->out, i)]);
}

static void check_two(const two *f, bool compares, light_shape a, light_shape b, light_shape out)
{
    two_case c = {*f, a, b, out};
    check_op(&(op_check){
        .name = f->name,
        .apply = apply_two,
        .reference = reference_two,
        .user = &c,
        .in = {{.shape = a, .low = f->low, .high = f->high}, {.shape = b, .low = f->low, .high = f->high}},
        .count = 2,
        .out = out,
        .out_dtype = compares ? LIGHT_BOOL : LIGHT_DTYPE_DEFAULT,
        .terms = light_shape_numel(out),
        .no_grad = compares});
}

static void check_two_shapes(const two *f, bool compares)
{
    check_two(f, compares, LIGHT_SHAPE(4), LIGHT_SHAPE(4), LIGHT_SHAPE(4));
    check_two(f, compares, LIGHT_SHAPE(2, 3, 2, 5), LIGHT_SHAPE(2, 3, 2, 5), LIGHT_SHAPE(2, 3, 2, 5));
    check_two(f, compares, LIGHT_SHAPE(6, 17), LIGHT_SHAPE(17), LIGHT_SHAPE(6, 17));
    check_two(f, compares, LIGHT_SHAPE(1, 5), LIGHT_SHAPE(3, 4, 1), LIGHT_SHAPE(3, 4, 5));
    check_two(f, compares, LIGHT_SHAPE(2, 3, 3, 2), LIGHT_SHAPE(3, 1, 1), LIGHT_SHAPE(2, 3, 3, 2));
    check_two(f, compares, LIGHT_SCALAR, LIGHT_SHAPE(2, 3), LIGHT_SHAPE(2, 3));
    check_two(f, compares, LIGHT_SCALAR, LIGHT_SCALAR, LIGHT_SCALAR);
    check_two(f, compares, LIGHT_SHAPE(3, 0), LIGHT_SHAPE(1, 1), LIGHT_SHAPE(3, 0));
}

static void functions_of_two_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof twos / sizeof *twos; i++) check_two_shapes(&twos[i], false);
}

static void comparing_and_logic(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++)
        check_two_shapes(&comparisons[i], true);
}

/* The same tensor on both sides. */
static light_tensor *apply_times_itself(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    return light_mul(s, in[0], in[0]);
}

static void a_tensor_with_itself(void **state)
{
    (void)state;
    check_op(&(op_check){.name = "x x",
                         .apply = apply_times_itself,
                         .in = {{.shape = LIGHT_SHAPE(3, 5)}},
                         .out = LIGHT_SHAPE(3, 5)});
}

/* ---- dtypes ------------------------------------------------------------- */

static void promotes_as_pytorch(void **state)
{
    /* torch.result_type of [2] with [2], and of [2] with a tensor without dims. */
    static const struct {
        light_dtype a, b, same_dims, b_scalar;
    } cases[] = {
        {LIGHT_BOOL, LIGHT_U8, LIGHT_U8, LIGHT_U8},    {LIGHT_U8, LIGHT_I64, LIGHT_I64, LIGHT_U8},
        {LIGHT_I32, LIGHT_I64, LIGHT_I64, LIGHT_I32},  {LIGHT_I64, LIGHT_F16, LIGHT_F16, LIGHT_F16},
        {LIGHT_F16, LIGHT_BF16, LIGHT_F32, LIGHT_F16}, {LIGHT_BF16, LIGHT_F32, LIGHT_F32, LIGHT_BF16},
        {LIGHT_F32, LIGHT_F64, LIGHT_F64, LIGHT_F32},  {LIGHT_F32, LIGHT_I64, LIGHT_F32, LIGHT_F32},
        {LIGHT_I64, LIGHT_F64, LIGHT_F64, LIGHT_F64},  {LIGHT_BOOL, LIGHT_BOOL, LIGHT_BOOL, LIGHT_BOOL},
    };
    (void)state;
    light_step *s = new_step();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        light_tensor *a = light_ones(s, LIGHT_SHAPE(2), cases[i].a),
                     *b = light_ones(s, LIGHT_SHAPE(2), cases[i].b);
        light_tensor *b0 = light_ones(s, LIGHT_SCALAR, cases[i].b);
        assert_int_equal(light_dtype_of(light_mul(s, a, b)), cases[i].same_dims);
        assert_int_equal(light_dtype_of(light_mul(s, b, a)), cases[i].same_dims);
        assert_int_equal(light_dtype_of(light_mul(s, a, b0)), cases[i].b_scalar);
        assert_int_equal(light_dtype_of(light_mul(s, b0, a)), cases[i].b_scalar);
    }
    assert_step_ok(s);
    light_step_free(s);
}

static void integers(void **state)
{
    (void)state;
    light_step *s = new_step();
    const double a_values[] = {-7, 0, 3, 100}, b_values[] = {2, 3, 3, -1};
    static const light_dtype dtypes[] = {LIGHT_I32, LIGHT_I64};
    for (int d = 0; d < 2; d++) {
        light_tensor *a = from_doubles(s, LIGHT_SHAPE(4), dtypes[d], a_values);
        light_tensor *b = from_doubles(s, LIGHT_SHAPE(4), dtypes[d], b_values);
        assert_values(light_add(s, a, b), (double[]){-5, 3, 6, 99}, 0);
        assert_values(light_sub(s, a, b), (double[]){-9, -3, 0, 101}, 0);
        assert_values(light_mul(s, a, b), (double[]){-14, 0, 9, -100}, 0);
        assert_values(light_maximum(s, a, b), (double[]){2, 3, 3, 100}, 0);
        assert_values(light_pow(s, a, b), (double[]){49, 0, 27, 0}, 0);
        assert_values(light_gt(s, a, b), (double[]){0, 0, 0, 1}, 0);
        assert_values(light_abs(s, a), (double[]){7, 0, 3, 100}, 0);
        assert_values(light_neg(s, a), (double[]){7, 0, -3, -100}, 0);
        assert_values(light_relu(s, a), (double[]){0, 0, 3, 100}, 0);
        assert_values(light_clamp(s, a, -2, 50), (double[]){-2, 0, 3, 50}, 0);
        assert_values(light_logical_not(s, a), (double[]){0, 1, 0, 0}, 0);
        light_tensor *whole = light_add_scalar(s, a, 2), *fraction = light_add_scalar(s, a, 0.5);
        assert_int_equal(light_dtype_of(whole), dtypes[d]);
        assert_values(whole, (double[]){-5, 2, 5, 102}, 0);
        assert_int_equal(light_dtype_of(fraction), LIGHT_F32);
        assert_values(fraction, (double[]){-6.5, 0.5, 3.5, 100.5}, 0);
        light_tensor *quotient = light_div(s, a, b);
        assert_int_equal(light_dtype_of(quotient), LIGHT_F32);
        assert_values(quotient, (double[]){-3.5, 0, 1, -100}, 0);
        assert_int_equal(light_dtype_of(light_exp(s, a)), LIGHT_F32);
    }
    light_tensor *u = from_doubles(s, LIGHT_SHAPE(2), LIGHT_U8, (double[]){250, 3});
    assert_values(light_add(s, u, u), (double[]){244, 6}, 0);
    light_tensor *flags = from_doubles(s, LIGHT_SHAPE(2), LIGHT_BOOL, (double[]){1, 0});
    assert_values(light_add(s, flags, flags), (double[]){1, 0}, 0);
    assert_step_ok(s);
    light_neg(s, flags);
    assert_step_failed(s, LIGHT_ERR_DTYPE, "neg: bool is not accepted");
    light_step_free(s);
}

/* Every dtype to every other, with gaps and without. */
static void casts(void **state)
{
    const double values[] = {0, 1, 3, 100, 2};
    (void)state;
    light_step *s = new_step();
    for (int from = LIGHT_F64; from < LIGHT_DTYPE_COUNT; from++) {
        for (int to = LIGHT_F64; to < LIGHT_DTYPE_COUNT; to++) {
            bool flags = from == LIGHT_BOOL || to == LIGHT_BOOL;
            const double as_flags[] = {0, 1, 1, 1, 1};
            light_tensor *x = from_doubles(s, LIGHT_SHAPE(5), (light_dtype)from, values);
            light_tensor *y = light_to_dtype(s, x, (light_dtype)to);
            assert_int_equal(light_dtype_of(y), to);
            assert_values(y, flags ? as_flags : values, 0);
        }
    }
    /* Rounding to nearest even, infinities, small numbers. */
    const double hard[] = {1 + 0x1p-8, 1 + 3 * 0x1p-8, 65519, 65520, 0x1p-24,
                           0x1.8p-25,  -INFINITY,      NAN,   3e38};
    light_tensor *x = from_doubles(s, LIGHT_SHAPE(9), LIGHT_F32, hard);
    assert_values(light_to_dtype(s, x, LIGHT_BF16),
                  (double[]){1, 1 + 0x1p-6, 65536, 65536, 0x1p-24, 0x1.8p-25, -INFINITY, NAN, 0x1.c4p+127},
                  0x1p-9);
    assert_values(
        light_to_dtype(s, x, LIGHT_F16),
        (double[]){1 + 0x1p-8, 1 + 3 * 0x1p-8, 65504, INFINITY, 0x1p-24, 0x1p-24, -INFINITY, NAN, INFINITY},
        0);
    assert_step_ok(s);
    light_step_free(s);
}

/* All 65536 numbers of 16 bits come back from f32 as they were. */
static void every_16_bit_number(void **state)
{
    static uint16_t bits[65536], back[65536];
    (void)state;
    light_step *s = new_step();
    for (int i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    static const light_dtype dtypes[] = {LIGHT_BF16, LIGHT_F16};
    for (int d = 0; d < 2; d++) {
        light_tensor *x = light_from_host(s, LIGHT_SHAPE(65536), dtypes[d], bits);
        light_tensor *y = light_to_dtype(s, light_to_dtype(s, x, LIGHT_F32), dtypes[d]);
        assert_int_equal(light_tensor_read(y, dtypes[d], back, sizeof back), LIGHT_OK);
        for (int i = 0; i < 65536; i++) {
            int fraction = d ? 0x3ff : 0x7f, top = d ? 0x7c00 : 0x7f80;
            bool nan = (i & top) == top && (i & fraction);
            if (nan)
                assert_true((back[i] & top) == top && (back[i] & fraction));
            else
                assert_int_equal(back[i], bits[i]);
        }
    }
    light_step_free(s);
}

/* ---- not a number ------------------------------------------------------- */

static void nan_goes_through(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *x = from_doubles(s, LIGHT_SHAPE(4), LIGHT_F32, (double[]){NAN, 1, INFINITY, -INFINITY});
    light_tensor *one = light_ones(s, LIGHT_SHAPE(4), LIGHT_F32);
    assert_values(light_relu(s, x), (double[]){NAN, 1, INFINITY, 0}, 0);
    assert_values(light_maximum(s, x, one), (double[]){NAN, 1, INFINITY, 1}, 0);
    assert_values(light_maximum(s, one, x), (double[]){NAN, 1, INFINITY, 1}, 0);
    assert_values(light_minimum(s, one, x), (double[]){NAN, 1, 1, -INFINITY}, 0);
    assert_values(light_clamp(s, x, -5, 5), (double[]){NAN, 1, 5, -5}, 0);
    assert_values(light_exp(s, x), (double[]){NAN, exp(1), INFINITY, 0}, 2e-7);
    assert_values(light_log_e(s, x), (double[]){NAN, 0, INFINITY, NAN}, 0);
    assert_values(light_tanh(s, x), (double[]){NAN, tanh(1), 1, -1}, 2e-7);
    assert_values(light_sigmoid(s, x), (double[]){NAN, 1 / (1 + exp(-1)), 1, 0}, 2e-7);
    assert_values(light_softplus(s, x), (double[]){NAN, log1p(exp(1)), INFINITY, 0}, 2e-7);
    assert_values(light_gelu(s, x), (double[]){NAN, ref_gelu(1), INFINITY, NAN}, 2e-7);
    assert_values(light_isfinite(s, x), (double[]){0, 1, 0, 0}, 0);
    assert_values(light_ne(s, x, x), (double[]){1, 0, 0, 0}, 0);
    assert_step_ok(s);
    light_step_free(s);
}

/* ---- where -------------------------------------------------------------- */

static light_tensor *apply_where(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    return light_where(s, in[0], in[1], in[2]);
}

static void reference_where(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 12; i++) out[i] = in[0][i] != 0 ? in[1][i] : in[2][i % 4];
}

static light_tensor *apply_masked_fill(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    return light_masked_fill(s, in[1], in[0], -INFINITY);
}

static void reference_masked_fill(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 12; i++) out[i] = in[0][i / 4] != 0 ? -INFINITY : in[1][i];
}

static void choosing(void **state)
{
    static const double flags[] = {1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0}, rows[] = {0, 1, 0};
    (void)state;
    check_op(&(op_check){.name = "where",
                         .apply = apply_where,
                         .reference = reference_where,
                         .in = {{.shape = LIGHT_SHAPE(3, 4), .dtype = LIGHT_BOOL, .values = flags},
                                {.shape = LIGHT_SHAPE(3, 4)},
                                {.shape = LIGHT_SHAPE(4)}},
                         .count = 3,
                         .out = LIGHT_SHAPE(3, 4)});
    check_op(&(op_check){.name = "masked_fill",
                         .apply = apply_masked_fill,
                         .reference = reference_masked_fill,
                         .in = {{.shape = LIGHT_SHAPE(3, 1), .dtype = LIGHT_BOOL, .values = rows},
                                {.shape = LIGHT_SHAPE(3, 4)}},
                         .count = 2,
                         .out = LIGHT_SHAPE(3, 4),
                         .no_grad = true});
}

/* ---- in place ----------------------------------------------------------- */

static light_tensor *apply_in_place(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    light_tensor *sum = light_add(s, in[0], in[1]);
    return light_relu_(s, light_add_(s, sum, in[2]));
}

static void reference_in_place(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 24; i++) out[i] = ref_relu(in[0][i] + in[1][i] + in[2][i % 3]);
}

static void in_place(void **state)
{
    (void)state;
    check_op(&(op_check){.name = "in place",
                         .apply = apply_in_place,
                         .reference = reference_in_place,
                         .in = {{.shape = LIGHT_SHAPE(2, 2, 2, 3)},
                                {.shape = LIGHT_SHAPE(2, 2, 2, 3)},
                                {.shape = LIGHT_SHAPE(3)}},
                         .count = 3,
                         .out = LIGHT_SHAPE(2, 2, 2, 3),
                         .only_wide = true});
    light_step *s = new_step();
    light_tensor *x = light_ones(s, LIGHT_SHAPE(3), LIGHT_F32);
    light_tensor *sum = light_add(s, x, x), *y = light_relu_(s, sum);
    assert_ptr_equal(light_data(sum), light_data(y));
    light_add(s, sum, x);
    assert_step_failed(s, LIGHT_ERR_STATE, "overwritten by an operation in place");
    light_step_begin(s);

    x = light_ones(s, LIGHT_SHAPE(3), LIGHT_F32);
    light_set_requires_grad(x, true);
    light_relu_(s, light_exp(s, x));
    assert_step_failed(s, LIGHT_ERR_STATE, "relu_: backward of exp needs the values");
    light_step_begin(s);

    light_tensor *owned;
    assert_int_equal(light_tensor_new(&owned, LIGHT_SHAPE(3), LIGHT_F32, NULL), LIGHT_OK);
    light_relu_(s, owned);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "cannot be overwritten");
    light_step_begin(s);
    light_relu_(s, light_reshape(s, owned, LIGHT_SHAPE(3, 1)));
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "cannot be overwritten");
    light_step_begin(s);
    light_relu_(s, light_expand(s, light_ones(s, LIGHT_SHAPE(1), LIGHT_F32), LIGHT_SHAPE(4)));
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "its elements share memory");
    light_tensor_free(owned);
    light_step_free(s);
}

/* An input that a product has saved is changed afterwards. */
static void change_of_a_saved_input_is_noticed(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *x = light_ones(s, LIGHT_SHAPE(3), LIGHT_F32);
    light_set_requires_grad(x, true);
    light_tensor *sum = light_add(s, x, x), *product = light_mul(s, sum, x);
    light_tensor *changed = light_relu_(s, sum);
    light_backward_from(s, light_add(s, product, changed), light_ones(s, LIGHT_SHAPE(3), LIGHT_F32));
    assert_step_failed(s, LIGHT_ERR_STATE, "changed in place");
    light_step_free(s);
}

static void errors_are_clear(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_add(s, light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32), light_ones(s, LIGHT_SHAPE(4), LIGHT_F32));
    assert_step_failed(s, LIGHT_ERR_SHAPE, "add: shapes [2, 3] and [4] do not fit together");
    light_step_begin(s);
    light_tensor *x = light_ones(s, LIGHT_SHAPE(2), LIGHT_F32);
    light_where(s, x, x, x);
    assert_step_failed(s, LIGHT_ERR_DTYPE, "where: the condition is f32, it must be bool");
    light_step_begin(s);
    light_full(s, LIGHT_SHAPE(2, -1), 0, LIGHT_F32);
    assert_step_failed(s, LIGHT_ERR_SHAPE, "full: shape [2, -1] is negative");
    light_step_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_of_one_tensor),
        cmocka_unit_test(functions_with_scalars),
        cmocka_unit_test(functions_of_two_tensors),
        cmocka_unit_test(comparing_and_logic),
        cmocka_unit_test(a_tensor_with_itself),
        cmocka_unit_test(promotes_as_pytorch),
        cmocka_unit_test(integers),
        cmocka_unit_test(casts),
        cmocka_unit_test(every_16_bit_number),
        cmocka_unit_test(nan_goes_through),
        cmocka_unit_test(choosing),
        cmocka_unit_test(in_place),
        cmocka_unit_test(change_of_a_saved_input_is_noticed),
        cmocka_unit_test(errors_are_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
