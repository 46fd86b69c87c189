/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise functions of two tensors, and where. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

static bool is_comparison(int code)
{
    return code >= LIGHT_BINARY_EQ && code <= LIGHT_BINARY_OR;
}

/* The common shape of a and b, in channels-last order when one of them brings it. */
static light_status broadcast_spec(light_step *s, const light_node *node, const light_tensor *a,
                                   const light_tensor *b, light_spec *spec)
{
    bool channels_last = !b->contiguous && light_tensor_is_channels_last(b);
    *spec = light_spec_like(a);
    spec->channels_last |= channels_last;
    if (light_same_shape(a, b)) return LIGHT_OK;
    if (!light_broadcast(light_shape_of(a), light_shape_of(b), &spec->shape))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "shapes %s and %s do not fit together",
                             light_shape_text(a), light_shape_text(b));
    spec->channels_last &= spec->shape.ndim == 4;
    return LIGHT_OK;
}

static light_status infer(light_step *s, light_node *node, light_spec *specs)
{
    int code = ((const light_binary_attrs *)node->attrs)->code;
    const light_tensor *a = node->in[0], *b = node->in[1];
    LIGHT_TRY(broadcast_spec(s, node, a, b, specs));
    if (is_comparison(code)) specs[0].dtype = LIGHT_BOOL;
    uint32_t a_for_b = b->requires_grad ? 1 : 0, b_for_a = a->requires_grad ? 2 : 0;
    if (code == LIGHT_BINARY_MUL) node->saved_in = a_for_b | b_for_a;
    if (code == LIGHT_BINARY_DIV && !a_for_b) node->saved_out = 0;
    return LIGHT_OK;
}

static light_status forward(light_step *s, light_node *node)
{
    return light_run_binary(s, ((const light_binary_attrs *)node->attrs)->code, node->in[0], node->in[1],
                            node->out[0], 0);
}

/* Gradient of in[i]: g <code> other. */
static light_status give_simple(light_step *s, light_node *node, int i, int code, light_tensor *g,
                                light_tensor *other)
{
    light_target target = light_target_for(s, node, i, g);
    if (!target.tensor) return LIGHT_OK;
    LIGHT_TRY(light_run_binary(s, code, g, other, target.tensor, target.accumulate));
    return light_target_deliver(s, node, i, target);
}

/* Gradient of in[i]: g times (a <code> b), plus (a <also> b) inside the brackets unless also is negative. */
static light_status give_product(light_step *s, light_node *node, int i, light_tensor *g, int code, int also,
                                 light_tensor *a, light_tensor *b)
{
    if (!light_grad_needed(node, i)) return LIGHT_OK;
    light_tensor *factor = light_step_tensor(s, light_spec_like(node->out[0]));
    if (!factor) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_run_binary(s, code, a, b, factor, 0));
    if (also >= 0) LIGHT_TRY(light_run_binary(s, also, a, b, factor, 1));
    LIGHT_TRY(give_simple(s, node, i, LIGHT_BINARY_MUL, g, factor));
    light_step_release(s, factor);
    return LIGHT_OK;
}

static light_status give_negative(light_step *s, light_node *node, int i, light_tensor *g)
{
    light_unary_attrs attrs = {.code = LIGHT_UNARY_NEG};
    light_target target = light_target_for(s, node, i, g);
    if (!target.tensor) return LIGHT_OK;
    LIGHT_TRY(LIGHT_RUN(s, UNARY, .in = {g}, .out = {target.tensor}, .attrs = &attrs,
                        .accumulate = target.accumulate));
    return light_target_deliver(s, node, i, target);
}

static light_status backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *g = grads[0], *a = node->in[0], *b = node->in[1], *y = node->out[0];
    switch ((light_binary)((const light_binary_attrs *)node->attrs)->code) {
    case LIGHT_BINARY_ADD: LIGHT_TRY(light_grad_give(s, node, 0, g)); return light_grad_give(s, node, 1, g);
    case LIGHT_BINARY_SUB: LIGHT_TRY(light_grad_give(s, node, 0, g)); return give_negative(s, node, 1, g);
    case LIGHT_BINARY_MUL:
        LIGHT_TRY(give_simple(s, node, 0, LIGHT_BINARY_MUL, g, b));
        return give_simple(s, node, 1, LIGHT_BINARY_MUL, g, a);
    case LIGHT_BINARY_DIV:
        LIGHT_TRY(give_simple(s, node, 0, LIGHT_BINARY_DIV, g, b));
        return give_product(s, node, 1, g, LIGHT_BINARY_DIV_GRAD_B, -1, y, b);
    case LIGHT_BINARY_POW:
        LIGHT_TRY(give_product(s, node, 0, g, LIGHT_BINARY_POW_GRAD_A, -1, a, b));
        return give_product(s, node, 1, g, LIGHT_BINARY_POW_GRAD_B, -1, a, b);
    case LIGHT_BINARY_MAXIMUM: /* equal ones share */
        LIGHT_TRY(give_product(s, node, 0, g, LIGHT_BINARY_MASK_GT, LIGHT_BINARY_MASK_EQ_HALF, a, b));
        return give_product(s, node, 1, g, LIGHT_BINARY_MASK_GT, LIGHT_BINARY_MASK_EQ_HALF, b, a);
    default:
        LIGHT_TRY(give_product(s, node, 0, g, LIGHT_BINARY_MASK_GT, LIGHT_BINARY_MASK_EQ_HALF, b, a));
        return give_product(s, node, 1, g, LIGHT_BINARY_MASK_GT, LIGHT_BINARY_MASK_EQ_HALF, a, b);
    }
}

#define OPERATION(code, text, in_mask, out_mask, class)                                                      \
    [LIGHT_BINARY_##code] = {.name = text,                                                                   \
                             .infer = infer,                                                                 \
                             .forward = forward,                                                             \
                             .backward = backward,                                                           \
                             .saves_in = in_mask,                                                            \
                             .saves_out = out_mask,                                                          \
                             .precision = class}
#define COMPARISON(code, text) [LIGHT_BINARY_##code] = {.name = text, .infer = infer, .forward = forward}
static const light_op operations[] = {
    OPERATION(ADD, "add", 0, 0, LIGHT_OP_PROMOTE),
    OPERATION(SUB, "sub", 0, 0, LIGHT_OP_PROMOTE),
    OPERATION(MUL, "mul", 3, 0, LIGHT_OP_PROMOTE),
    OPERATION(DIV, "div", 2, 1, LIGHT_OP_PROMOTE),
    OPERATION(POW, "pow", 3, 0, LIGHT_OP_FULL),
    OPERATION(MAXIMUM, "maximum", 3, 0, LIGHT_OP_PROMOTE),
    OPERATION(MINIMUM, "minimum", 3, 0, LIGHT_OP_PROMOTE),
    COMPARISON(EQ, "eq"),
    COMPARISON(NE, "ne"),
    COMPARISON(LT, "lt"),
    COMPARISON(LE, "le"),
    COMPARISON(GT, "gt"),
    COMPARISON(GE, "ge"),
    COMPARISON(AND, "logical_and"),
    COMPARISON(OR, "logical_or"),
};

static light_tensor *binary(light_step *s, light_binary code, light_tensor *a, light_tensor *b)
{
    light_binary_attrs attrs = {.code = (int)code};
    a = light_seen(s, a), b = light_seen(s, b);
    if (a && b) {
        light_dtype dtype = light_result_dtype(a, b);
        if (code == LIGHT_BINARY_DIV && !light_dtype_is_floating(dtype)) dtype = LIGHT_F32;
        if ((light_dtype)a->dtype != dtype) a = light_to_dtype(s, a, dtype);
        if ((light_dtype)b->dtype != dtype) b = light_to_dtype(s, b, dtype);
    }
    return LIGHT_APPLY2(s, &operations[code], &attrs, a, b);
}

#define FUNCTION(name, code)                                                                                 \
    light_tensor *name(light_step *s, light_tensor *a, light_tensor *b)                                      \
    {                                                                                                        \
        return binary(s, LIGHT_BINARY_##code, a, b);                                                         \
    }
FUNCTION(light_add, ADD)
FUNCTION(light_sub, SUB)
FUNCTION(light_mul, MUL)
FUNCTION(light_div, DIV)
FUNCTION(light_pow, POW)
FUNCTION(light_maximum, MAXIMUM)
FUNCTION(light_minimum, MINIMUM)
FUNCTION(light_eq, EQ)
FUNCTION(light_ne, NE)
FUNCTION(light_lt, LT)
FUNCTION(light_le, LE)
FUNCTION(light_gt, GT)
FUNCTION(light_ge, GE)
FUNCTION(light_logical_and, AND)
FUNCTION(light_logical_or, OR)

/* ---- in place ----------------------------------------------------------- */

static light_status add_in_place_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_tensor *a = node->in[0], *b = node->in[1];
    specs[0] = light_spec_like(a);
    light_shape both;
    if (!light_broadcast(light_shape_of(a), light_shape_of(b), &both) ||
        !light_shape_equal(both, specs[0].shape))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%s cannot be added to %s in place",
                             light_shape_text(b), light_shape_text(a));
    if (light_result_dtype(a, b) != (light_dtype)a->dtype)
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "%s cannot be added to %s in place",
                             light_dtype_name((light_dtype)b->dtype),
                             light_dtype_name((light_dtype)a->dtype));
    return LIGHT_OK;
}

static light_status add_in_place(light_step *s, light_node *node)
{
    LIGHT_TRY(light_take_in_place(s, node));
    return light_run_binary(s, LIGHT_BINARY_ADD, node->out[0], node->in[1], node->out[0], 0);
}

static const light_op add_op = {
    .name = "add_", .infer = add_in_place_infer, .forward = add_in_place, .backward = backward, .view = true};

light_tensor *light_add_(light_step *s, light_tensor *a, light_tensor *b)
{
    light_binary_attrs attrs = {.code = LIGHT_BINARY_ADD};
    b = light_seen(s, b);
    if (a && b && light_result_dtype(a, b) == (light_dtype)a->dtype)
        b = light_to_dtype(s, b, (light_dtype)a->dtype);
    return LIGHT_APPLY2(s, &add_op, &attrs, a, b);
}

/* ---- where -------------------------------------------------------------- */

static light_status run_where(light_step *s, light_tensor *const *in, light_tensor *y, uint32_t accumulate)
{
    light_tensor *wide[3] = {0};
    light_kernel_args args = {.out = {y}, .accumulate = accumulate};
    for (int i = 0; i < 3; i++) {
        if (!light_same_shape(in[i], y) && !(wide[i] = light_step_expanded(s, in[i], light_shape_of(y))))
            return LIGHT_ERR_MEMORY;
        args.in[i] = wide[i] ? wide[i] : in[i];
    }
    light_status status = light_run(s, LIGHT_KERNEL_WHERE, &args);
    for (int i = 0; i < 3; i++) light_step_release(s, wide[i]);
    return status;
}

static light_status where_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_tensor *condition = node->in[0];
    if (condition->dtype != LIGHT_BOOL)
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "the condition is %s, it must be bool",
                             light_dtype_name((light_dtype)condition->dtype));
    LIGHT_TRY(broadcast_spec(s, node, node->in[1], node->in[2], specs));
    light_shape values = specs[0].shape;
    if (!light_broadcast(values, light_shape_of(condition), &specs[0].shape))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "condition %s does not fit values %s and %s",
                             light_shape_text(condition), light_shape_text(node->in[1]),
                             light_shape_text(node->in[2]));
    specs[0].channels_last &= specs[0].shape.ndim == 4;
    return LIGHT_OK;
}

static light_status where_forward(light_step *s, light_node *node)
{
    return run_where(s, node->in, node->out[0], 0);
}

static light_status where_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *zero = light_step_scalar(s, (light_dtype)grads[0]->dtype, 0);
    if (!zero) return LIGHT_ERR_MEMORY;
    for (int i = 1; i <= 2; i++) {
        light_tensor *in[3] = {node->in[0], zero, zero};
        light_target target = light_target_for(s, node, i, grads[0]);
        if (!target.tensor) continue;
        in[i] = grads[0];
        LIGHT_TRY(run_where(s, in, target.tensor, target.accumulate));
        LIGHT_TRY(light_target_deliver(s, node, i, target));
    }
    light_step_release(s, zero);
    return LIGHT_OK;
}

static const light_op where_op = {.name = "where",
                                  .infer = where_infer,
                                  .forward = where_forward,
                                  .backward = where_backward,
                                  .saves_in = 1};

light_tensor *light_where(light_step *s, light_tensor *condition, light_tensor *a, light_tensor *b)
{
    a = light_seen(s, a), b = light_seen(s, b);
    if (a && b) {
        light_dtype dtype = light_result_dtype(a, b);
        a = light_to_dtype(s, a, dtype);
        b = light_to_dtype(s, b, dtype);
    }
    return light_apply(s, &where_op, (light_tensor *[]){condition, a, b}, 3, 0, NULL, 0, NULL, 1);
}

light_tensor *light_masked_fill(light_step *s, light_tensor *x, light_tensor *mask, double value)
{
    light_tensor *filler = x ? light_full(s, LIGHT_SCALAR, value, (light_dtype)x->dtype) : NULL;
    return light_where(s, mask, filler, x);
}

#define AT(code) &operations[LIGHT_BINARY_##code]
const light_op *const light_binary_ops[] = {AT(ADD),     AT(SUB), AT(MUL), AT(DIV), AT(POW),   AT(MAXIMUM),
                                            AT(MINIMUM), AT(EQ),  AT(NE),  AT(LT),  AT(LE),    AT(GT),
                                            AT(GE),      AT(AND), AT(OR),  &add_op, &where_op, NULL};
