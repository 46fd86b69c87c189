/* SPDX-License-Identifier: Apache-2.0 */
/* Losses and accuracy: shapes and gradients. */
#include "autograd/op.h"
#include "ops/table.h"

#include <light/ops.h>

/* ---- rows of classes: cross_entropy, nll_loss, accuracy ------------------ */

enum { LOGITS, TARGET, WEIGHT };

static light_shape without_classes(light_shape shape)
{
    int classes = shape.ndim > 1;
    light_shape rest = {.ndim = shape.ndim - 1};

    for (int i = 0, j = 0; i < shape.ndim; i++)
        if (i != classes) rest.dims[j++] = shape.dims[i];
    return rest;
}

static bool is_index(light_dtype dtype)
{
    return dtype == LIGHT_I64 || dtype == LIGHT_I32 || dtype == LIGHT_U8;
}

static light_status check_rows(light_step *s, light_node *node)
{
    light_tensor *x = node->in[LOGITS], *target = node->in[TARGET];
    light_shape shape = light_shape_of(x);
    char text[2][256];

    if (!light_dtype_is_floating(light_dtype_of(x)))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "scores must be floating, these are %s",
                             light_dtype_name(light_dtype_of(x)));
    if (!is_index(light_dtype_of(target)))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "targets must be i64, i32 or u8, these are %s",
                             light_dtype_name(light_dtype_of(target)));
    if (shape.ndim == 0 || light_dim(x, shape.ndim > 1) == 0)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "scores need a dim of classes, these are %s",
                             light_shape_format(shape, text[0], sizeof text[0]));
    if (!light_shape_equal(without_classes(shape), light_shape_of(target)))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "scores %s need a target %s, this is %s",
                             light_shape_format(shape, text[0], 256),
                             light_shape_format(without_classes(shape), text[1], 256),
                             light_shape_format(light_shape_of(target), (char[256]){0}, 256));
    return LIGHT_OK;
}

/* Turns scores [N, C, d..] into [rows, C] and the target into [rows]; operations on the tape do it. */
static light_status flatten_rows(light_step *s, light_node *node)
{
    light_tensor *x = node->in[LOGITS], *target = node->in[TARGET];
    int ndim = light_ndim(x);
    int64_t classes = light_dim(x, ndim > 1), rows = light_numel(target);

    if (ndim > 2) {
        light_dims order = {.n = ndim};

        for (int i = 1; i < ndim - 1; i++) order.dims[i] = i + 1;
        order.dims[ndim - 1] = 1;
        x = light_permute(s, x, order);
    }
    if (ndim != 2) x = light_reshape(s, x, LIGHT_SHAPE(rows, classes));
    if (x && light_stride(x, 1) != 1 && classes > 1) x = light_contiguous(s, x);
    if (light_ndim(target) != 1) target = light_reshape(s, target, LIGHT_SHAPE(rows));
    target = light_contiguous(s, target);
    node->in[LOGITS] = x;
    node->in[TARGET] = target;
    return x && target ? LIGHT_OK : light_step_status(s);
}

static light_spec loss_spec(light_reduction reduction, light_dtype dtype, light_shape elements)
{
    return (light_spec){.dtype = dtype, .shape = reduction == LIGHT_NONE ? elements : LIGHT_SCALAR};
}

static light_dtype statistics_dtype(const light_tensor *x)
{
    return light_dtype_of(x) == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
}

static light_status class_loss_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_cross_entropy_attrs *attrs = node->attrs;
    light_tensor *weight = node->in[WEIGHT];
    light_shape elements;

    LIGHT_TRY(check_rows(s, node));
    elements = light_shape_of(node->in[TARGET]);
    if (weight) {
        int64_t classes = light_dim(node->in[LOGITS], light_ndim(node->in[LOGITS]) > 1);

        if (light_ndim(weight) != 1 || light_numel(weight) != classes)
            return light_op_fail(s, node, LIGHT_ERR_SHAPE, "class weights must be [%lld], these are %s",
                                 (long long)classes,
                                 light_shape_format(light_shape_of(weight), (char[256]){0}, 256));
        if (light_requires_grad(weight))
            return light_op_fail(s, node, LIGHT_ERR_UNSUPPORTED, "class weights have no gradient");
        weight = light_contiguous(s, light_to_dtype(s, weight, statistics_dtype(node->in[LOGITS])));
        if (!weight) return light_step_status(s);
        node->in[WEIGHT] = weight;
    }
    if (!(attrs->label_smoothing >= 0 && attrs->label_smoothing <= 1))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "label_smoothing must be in [0, 1], it is %g",
                             attrs->label_smoothing);
    LIGHT_TRY(flatten_rows(s, node));
    specs[0] = loss_spec(attrs->reduction, light_dtype_of(node->in[LOGITS]), elements);
    return LIGHT_OK;
}

static light_tensor *scores_statistic(light_step *s, light_node *node, light_shape shape)
{
    return light_step_tensor(s, (light_spec){.dtype = statistics_dtype(node->in[LOGITS]), .shape = shape});
}

enum { LSE, TOTAL };

static light_status cross_entropy_forward(light_step *s, light_node *node)
{
    node->extra[LSE] = scores_statistic(s, node, light_shape_of(node->in[TARGET]));
    node->extra[TOTAL] = scores_statistic(s, node, LIGHT_SCALAR);
    if (!node->extra[LSE] || !node->extra[TOTAL]) return light_step_status(s);
    return LIGHT_RUN(s, CROSS_ENTROPY, .in = {node->in[LOGITS], node->in[TARGET], node->in[WEIGHT]},
                     .out = {node->out[0], node->extra[LSE], node->extra[TOTAL]}, .attrs = node->attrs);
}

/* Nobody but this node holds the logits any more, so their memory can take the gradient: for a large vocabulary they
 * are the largest tensor of a step. */
static bool logits_are_spare(const light_tensor *logits)
{
    return logits->node && !logits->grad && logits->contiguous && logits->storage->refs == 1;
}

static light_status cross_entropy_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *logits = node->in[LOGITS], *g = light_step_contiguous(s, grads[0]);
    bool in_place = logits_are_spare(logits);
    light_slot gx = in_place ? (light_slot){logits, 0} : light_grad_slot(s, node, LOGITS);

    if (!g || !gx.tensor) return light_step_status(s);
    LIGHT_TRY(
        LIGHT_RUN(s, CROSS_ENTROPY_BACKWARD,
                  .in = {g, logits, node->in[TARGET], node->in[WEIGHT], node->extra[LSE], node->extra[TOTAL]},
                  .out = {gx.tensor}, .accumulate = gx.accumulate, .attrs = node->attrs));
    light_step_release(s, g);
    return in_place ? light_grad_give(s, node, LOGITS, logits) : LIGHT_OK;
}

static const light_op cross_entropy_op = {
    .name = "cross_entropy",
    .infer = class_loss_infer,
    .forward = cross_entropy_forward,
    .backward = cross_entropy_backward,
    .saves_in = 1u << LOGITS | 1u << TARGET | 1u << WEIGHT,
    .precision = LIGHT_OP_FULL,
};

static light_status nll_forward(light_step *s, light_node *node)
{
    node->extra[0] = scores_statistic(s, node, LIGHT_SCALAR);
    if (!node->extra[0]) return light_step_status(s);
    return LIGHT_RUN(s, NLL, .in = {node->in[LOGITS], node->in[TARGET], node->in[WEIGHT]},
                     .out = {node->out[0], node->extra[0]}, .attrs = node->attrs);
}

static light_status nll_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *g = light_step_contiguous(s, grads[0]);
    light_slot gx = light_grad_slot(s, node, LOGITS);
    light_status status;

    if (!g || !gx.tensor) return light_step_status(s);
    status = LIGHT_RUN(s, NLL_BACKWARD, .in = {g, node->in[TARGET], node->in[WEIGHT], node->extra[0]},
                       .out = {gx.tensor}, .accumulate = gx.accumulate, .attrs = node->attrs);
    light_step_release(s, g);
    return status;
}

static const light_op nll_op = {
    .name = "nll_loss",
    .infer = class_loss_infer,
    .forward = nll_forward,
    .backward = nll_backward,
    .saves_in = 1u << TARGET | 1u << WEIGHT,
    .precision = LIGHT_OP_FULL,
};

static light_tensor *apply_class_loss(light_step *s, const light_op *op, light_tensor *x,
                                      const light_loss_options *options)
{
    light_cross_entropy_attrs attrs = {.reduction = options->reduction,
                                       .label_smoothing = options->label_smoothing,
                                       .ignore_index = options->ignore_index};

    if (options->ignore_index == 0) attrs.ignore_index = -100;
    if (options->ignore_index == LIGHT_IGNORE_ZERO) attrs.ignore_index = 0;
    return light_apply(s, op, (light_tensor *[]){x, options->target, options->weight}, 3, 1u << WEIGHT,
                       &attrs, sizeof attrs, NULL, 1);
}

light_tensor *light_cross_entropy_with(light_step *s, light_tensor *logits, const light_loss_options *options)
{
    return apply_class_loss(s, &cross_entropy_op, logits, options);
}

light_tensor *light_nll_loss_with(light_step *s, light_tensor *log_probs, const light_loss_options *options)
{
    return apply_class_loss(s, &nll_op, log_probs, options);
}

static light_status accuracy_infer(light_step *s, light_node *node, light_spec *specs)
{
    LIGHT_TRY(check_rows(s, node));
    LIGHT_TRY(flatten_rows(s, node));
    specs[0] = (light_spec){.dtype = LIGHT_F32, .shape = LIGHT_SCALAR};
    return LIGHT_OK;
}

static light_status accuracy_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, ACCURACY, .in = {node->in[LOGITS], node->in[TARGET]}, .out = {node->out[0]});
}

static const light_op accuracy_op = {
    .name = "accuracy", .infer = accuracy_infer, .forward = accuracy_forward};

light_tensor *light_accuracy(light_step *s, light_tensor *logits, light_tensor *target)
{
    return light_apply(s, &accuracy_op, (light_tensor *[]){logits, target}, 2, 0, NULL, 0, NULL, 1);
}

/* ---- elementwise losses -------------------------------------------------- */

enum { X, Y }; /* input and target; WEIGHT follows */

static light_status loss_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_loss_attrs *attrs = node->attrs;
    light_shape shape, whole;
    light_dtype dtype = light_promote(light_dtype_of(node->in[X]), light_dtype_of(node->in[Y]));
    char text[2][256];

    if (!light_dtype_is_floating(light_dtype_of(node->in[X])))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "the input must be floating, it is %s",
                             light_dtype_name(light_dtype_of(node->in[X])));
    if (!light_broadcast(light_shape_of(node->in[X]), light_shape_of(node->in[Y]), &shape))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "input %s and target %s do not fit",
                             light_shape_format(light_shape_of(node->in[X]), text[0], 256),
                             light_shape_format(light_shape_of(node->in[Y]), text[1], 256));
    if (node->in[WEIGHT]) {
        if (!light_broadcast(shape, light_shape_of(node->in[WEIGHT]), &whole) ||
            !light_shape_equal(shape, whole))
            return light_op_fail(s, node, LIGHT_ERR_SHAPE, "pos_weight %s does not fit %s",
                                 light_shape_format(light_shape_of(node->in[WEIGHT]), text[0], 256),
                                 light_shape_format(shape, text[1], 256));
    }
    if (attrs->kind == LIGHT_LOSS_HUBER && !(attrs->delta > 0))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "delta must be above 0, it is %g", attrs->delta);
    for (int i = 0; i < node->n_in; i++) {
        if (!node->in[i] || light_dtype_of(node->in[i]) == dtype) continue;
        node->in[i] = light_to_dtype(s, node->in[i], dtype);
        if (!node->in[i]) return light_step_status(s);
    }
    specs[0] = loss_spec(attrs->reduction, dtype, shape);
    return LIGHT_OK;
}

/* The inputs expanded to their common shape; released together. */
typedef struct {
    light_tensor *t[3];
} expanded;

static void release_expanded(light_step *s, expanded *e)
{
    for (int i = 0; i < 3; i++)
        if (e->t[i]) light_step_release(s, e->t[i]);
}

static light_status expand_inputs(light_step *s, light_node *node, expanded *e)
{
    light_shape shape;

    *e = (expanded){{NULL}};
    light_broadcast(light_shape_of(node->in[X]), light_shape_of(node->in[Y]), &shape);
    for (int i = 0; i < 3; i++) {
        if (!node->in[i]) continue;
        e->t[i] = light_step_expanded(s, node->in[i], shape);
        if (e->t[i]) continue;
        release_expanded(s, e);
        return light_step_status(s);
    }
    return LIGHT_OK;
}

static light_status loss_forward(light_step *s, light_node *node)
{
    expanded e;
    light_status status;

    LIGHT_TRY(expand_inputs(s, node, &e));
    status =
        LIGHT_RUN(s, LOSS, .in = {e.t[X], e.t[Y], e.t[WEIGHT]}, .out = {node->out[0]}, .attrs = node->attrs);
    release_expanded(s, &e);
    return status;
}

/* Where the gradient of in[i] goes: its slot, or memory of the common shape when in[i] was expanded. */
static light_status loss_target(light_step *s, light_node *node, int i, light_shape shape, light_slot *slot)
{
    *slot = (light_slot){NULL, 0};
    if (!light_grad_needed(node, i)) return LIGHT_OK;
    if (light_shape_equal(shape, light_shape_of(node->in[i])))
        *slot = light_grad_slot(s, node, i);
    else
        slot->tensor =
            light_step_tensor(s, (light_spec){.dtype = light_dtype_of(node->in[i]), .shape = shape});
    return slot->tensor ? LIGHT_OK : light_step_status(s);
}

static light_status loss_deliver(light_step *s, light_node *node, int i, light_shape shape, light_slot slot)
{
    light_status status = LIGHT_OK;

    if (!slot.tensor || light_shape_equal(shape, light_shape_of(node->in[i]))) return LIGHT_OK;
    status = light_grad_give(s, node, i, slot.tensor);
    light_step_release(s, slot.tensor);
    return status;
}

static light_status loss_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    expanded e;
    light_slot slots[3];
    light_shape shape;
    light_tensor *g;
    light_status status;

    LIGHT_TRY(expand_inputs(s, node, &e));
    shape = light_shape_of(e.t[X]);
    for (int i = X; i <= WEIGHT; i++) LIGHT_TRY_GOTO(status, loss_target(s, node, i, shape, &slots[i]), done);
    g = light_step_expanded(s, grads[0], shape);
    if (!g) {
        status = light_step_status(s);
        goto done;
    }
    status = LIGHT_RUN(s, LOSS_BACKWARD, .in = {g, e.t[X], e.t[Y], e.t[WEIGHT]},
                       .out = {slots[X].tensor, slots[Y].tensor, slots[WEIGHT].tensor},
                       .accumulate =
                           slots[X].accumulate | slots[Y].accumulate << 1 | slots[WEIGHT].accumulate << 2,
                       .attrs = node->attrs);
    light_step_release(s, g);
    for (int i = X; i <= WEIGHT && status == LIGHT_OK; i++)
        status = loss_deliver(s, node, i, shape, slots[i]);
done:
    release_expanded(s, &e);
    return status;
}

/* They differ in name only; attrs say which loss it is. */
static const light_op loss_ops[] = {
#define LOSS(kind, text)                                                                                     \
    [LIGHT_LOSS_##kind] = {.name = text,                                                                     \
                           .infer = loss_infer,                                                              \
                           .forward = loss_forward,                                                          \
                           .backward = loss_backward,                                                        \
                           .saves_in = 1u << X | 1u << Y | 1u << WEIGHT,                                     \
                           .precision = LIGHT_OP_FULL}
    LOSS(MSE, "mse_loss"),     LOSS(L1, "l1_loss"),
    LOSS(HUBER, "huber_loss"), LOSS(BCE_WITH_LOGITS, "bce_with_logits"),
    LOSS(KL_DIV, "kl_div"),
#undef LOSS
};

static light_tensor *apply_loss(light_step *s, light_loss_kind kind, light_tensor *x,
                                const light_loss_options *options)
{
    light_loss_attrs attrs = {.kind = kind,
                              .reduction = options->reduction,
                              .delta = options->delta == 0 ? 1 : options->delta,
                              .log_target = options->log_target};
    light_tensor *weight = kind == LIGHT_LOSS_BCE_WITH_LOGITS ? options->weight : NULL;

    return light_apply(s, &loss_ops[kind], (light_tensor *[]){x, options->target, weight}, 3, 1u << WEIGHT,
                       &attrs, sizeof attrs, NULL, 1);
}

light_tensor *light_mse_loss_with(light_step *s, light_tensor *input, const light_loss_options *options)
{
    return apply_loss(s, LIGHT_LOSS_MSE, input, options);
}

light_tensor *light_l1_loss_with(light_step *s, light_tensor *input, const light_loss_options *options)
{
    return apply_loss(s, LIGHT_LOSS_L1, input, options);
}

light_tensor *light_huber_loss_with(light_step *s, light_tensor *input, const light_loss_options *options)
{
    return apply_loss(s, LIGHT_LOSS_HUBER, input, options);
}

light_tensor *light_bce_with_logits_with(light_step *s, light_tensor *logits,
                                         const light_loss_options *options)
{
    return apply_loss(s, LIGHT_LOSS_BCE_WITH_LOGITS, logits, options);
}

light_tensor *light_kl_div_with(light_step *s, light_tensor *input, const light_loss_options *options)
{
    return apply_loss(s, LIGHT_LOSS_KL_DIV, input, options);
}

#define AT(code) &loss_ops[LIGHT_LOSS_##code]
const light_op *const light_loss_ops[] = {&cross_entropy_op,   &nll_op,    AT(MSE),      AT(L1), AT(HUBER),
                                          AT(BCE_WITH_LOGITS), AT(KL_DIV), &accuracy_op, NULL};
