/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise functions of one tensor, casts, and relu in place. */
#include "ops/common.h"
#include "ops/table.h"

#include "autograd/step.h"

#include <light/ops.h>

#include <math.h>

static bool is_predicate(int code)
{
    return code == LIGHT_UNARY_LOGICAL_NOT || code == LIGHT_UNARY_ISFINITE;
}

static light_status infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_unary_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    specs[0] = light_spec_like(x);
    if (is_predicate(attrs->code)) {
        specs[0].dtype = LIGHT_BOOL;
    } else if (x->dtype == LIGHT_BOOL) {
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "bool is not accepted; cast it with light_to_dtype");
    }
    return LIGHT_OK;
}

static light_status forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, UNARY, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs);
}

static light_status backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    const light_unary_attrs *attrs = node->attrs;
    if (attrs->code == LIGHT_UNARY_ADD_SCALAR) return light_grad_give(s, node, 0, grads[0]);
    const light_tensor *saved = node->op->saves_in ? node->in[0] : node->op->saves_out ? node->out[0] : NULL;
    light_slot gx = light_grad_slot(s, node, 0);
    if (!gx.tensor) return LIGHT_OK;
    return LIGHT_RUN(s, UNARY_BACKWARD, .in = {grads[0], saved}, .out = {gx.tensor}, .attrs = attrs,
                     .accumulate = gx.accumulate);
}

/* What mixed precision keeps in f32, as PyTorch's autocast does. */
#define WIDE(code)                                                                                           \
    (LIGHT_UNARY_##code == LIGHT_UNARY_EXP || LIGHT_UNARY_##code == LIGHT_UNARY_LOG ||                       \
     LIGHT_UNARY_##code == LIGHT_UNARY_RSQRT || LIGHT_UNARY_##code == LIGHT_UNARY_RECIPROCAL ||              \
     LIGHT_UNARY_##code == LIGHT_UNARY_POW_SCALAR || LIGHT_UNARY_##code == LIGHT_UNARY_SOFTPLUS)

static const light_op operations[] = {
#define X(code, text, saves, gradient, integers)                                                             \
    [LIGHT_UNARY_##code] = {.name = text,                                                                    \
                            .infer = infer,                                                                  \
                            .forward = forward,                                                              \
                            .backward = (gradient) ? backward : NULL,                                        \
                            .saves_in = (saves) == 0 && (gradient),                                          \
                            .saves_out = (saves) == 1,                                                       \
                            .precision = WIDE(code) ? LIGHT_OP_FULL : LIGHT_OP_PROMOTE},
    LIGHT_UNARY_MAP(X)
#undef X
};

/* The dtype that x has to be cast to before; its own when none. */
static light_dtype argument_dtype(const light_tensor *x, int code, double a, double b)
{
    static const bool takes_integers[] = {
#define X(code, text, saves, gradient, integers) [LIGHT_UNARY_##code] = (integers),
        LIGHT_UNARY_MAP(X)
#undef X
    };
    light_dtype dtype = (light_dtype)x->dtype;
    if (light_dtype_is_floating(dtype) || is_predicate(code)) return dtype;
    if (!takes_integers[code]) return LIGHT_F32;
    /* A scalar with a fraction makes an integer tensor a floating one. */
    if ((!isnan(a) && a != trunc(a)) || (!isnan(b) && b != trunc(b))) return LIGHT_F32;
    bool scalar = code == LIGHT_UNARY_ADD_SCALAR || code == LIGHT_UNARY_MUL_SCALAR;
    return scalar && dtype == LIGHT_BOOL ? LIGHT_I64 : dtype;
}

static light_tensor *unary(light_step *s, light_unary code, light_tensor *x, double a, double b)
{
    light_unary_attrs attrs = {.code = (int)code, .a = a, .b = b};
    if (x && !light_dtype_is_floating((light_dtype)x->dtype))
        x = light_to_dtype(s, x, argument_dtype(x, (int)code, a, b));
    return LIGHT_APPLY1(s, &operations[code], &attrs, x);
}

#define FUNCTION(name, code)                                                                                 \
    light_tensor *name(light_step *s, light_tensor *x)                                                       \
    {                                                                                                        \
        return unary(s, LIGHT_UNARY_##code, x, 0, 0);                                                        \
    }
#define FUNCTION_OF_SCALAR(name, code)                                                                       \
    light_tensor *name(light_step *s, light_tensor *x, double value)                                         \
    {                                                                                                        \
        return unary(s, LIGHT_UNARY_##code, x, value, 0);                                                    \
    }
FUNCTION(light_neg, NEG)
FUNCTION(light_abs, ABS)
FUNCTION(light_exp, EXP)
FUNCTION(light_log_e, LOG)
FUNCTION(light_sqrt, SQRT)
FUNCTION(light_rsqrt, RSQRT)
FUNCTION(light_reciprocal, RECIPROCAL)
FUNCTION(light_square, SQUARE)
FUNCTION(light_sin, SIN)
FUNCTION(light_cos, COS)
FUNCTION(light_tanh, TANH)
FUNCTION(light_sigmoid, SIGMOID)
FUNCTION(light_relu, RELU)
FUNCTION(light_gelu, GELU)
FUNCTION(light_gelu_tanh, GELU_TANH)
FUNCTION(light_silu, SILU)
FUNCTION(light_softplus, SOFTPLUS)
FUNCTION(light_logical_not, LOGICAL_NOT)
FUNCTION(light_isfinite, ISFINITE)
FUNCTION_OF_SCALAR(light_add_scalar, ADD_SCALAR)
FUNCTION_OF_SCALAR(light_mul_scalar, MUL_SCALAR)
FUNCTION_OF_SCALAR(light_pow_scalar, POW_SCALAR)
FUNCTION_OF_SCALAR(light_leaky_relu, LEAKY_RELU)
FUNCTION_OF_SCALAR(light_elu, ELU)

light_tensor *light_clamp(light_step *s, light_tensor *x, double low, double high)
{
    return unary(s, LIGHT_UNARY_CLAMP, x, low, high);
}

light_tensor *light_to_dtype(light_step *s, light_tensor *x, light_dtype dtype)
{
    if (x && (light_dtype)x->dtype == dtype) return x;
    if (s && !light_dtype_size(dtype))
        return light_step_fail(s, LIGHT_ERR_DTYPE, "to_dtype: %d is no dtype", (int)dtype);
    return light_step_cast(s, x, dtype);
}

/* ---- in place ----------------------------------------------------------- */

light_status light_take_in_place(light_step *s, light_node *node)
{
    light_tensor *x = node->in[0];
    if (x->storage->block < 0)
        return light_op_fail(
            s, node, LIGHT_ERR_ARGUMENT,
            "the memory of a parameter, a buffer or a kept tensor cannot be overwritten by an operation");
    for (int d = 0; d < x->ndim; d++)
        if (x->shape[d] > 1 && x->strides[d] == 0)
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                                 "an expanded tensor cannot be overwritten: its elements share memory");
    /* Whoever made this memory may read its result in backward; then it must not change. */
    for (const light_tensor *t = x; t->node; t = t->node->in[0]) {
        const light_node *maker = t->node;
        if (maker->saved_out >> t->out_index & 1)
            return light_op_fail(s, node, LIGHT_ERR_STATE,
                                 "backward of %s needs the values that would be overwritten; use the "
                                 "operation without the underscore",
                                 maker->op->name);
        if (!maker->op->view) break;
    }
    light_tensor *y = light_step_view(s, x, light_shape_of(x), x->strides, 0);
    if (!y) return LIGHT_ERR_MEMORY;
    node->out[0] = y;
    x->storage->version++;
    x->consumed = true;
    return LIGHT_OK;
}

static light_status relu_in_place(light_step *s, light_node *node)
{
    LIGHT_TRY(light_take_in_place(s, node));
    return forward(s, node);
}

static const light_op relu_op = {.name = "relu_",
                                 .infer = infer,
                                 .forward = relu_in_place,
                                 .backward = backward,
                                 .saves_out = 1,
                                 .view = true};

light_tensor *light_relu_(light_step *s, light_tensor *x)
{
    light_unary_attrs attrs = {.code = LIGHT_UNARY_RELU};
    return LIGHT_APPLY1(s, &relu_op, &attrs, x);
}

const light_op *const light_unary_ops[] = {&relu_op,
#define X(code, text, saves, gradient, integers) &operations[LIGHT_UNARY_##code],
                                           LIGHT_UNARY_MAP(X)
#undef X
                                               NULL};
