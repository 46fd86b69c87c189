/* SPDX-License-Identifier: Apache-2.0 */
/* Normalisation: shapes and gradients. */
#include "autograd/step.h"
#include "ops/layout.h"
#include "ops/norm_ranks.h"
#include "ops/table.h"

#include <light/ops.h>

enum { X, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR }; /* inputs */
enum { MEAN, RSTD };                                 /* extra */

static light_dtype statistics_dtype(const light_tensor *x)
{
    return light_dtype_of(x) == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
}

/* Checks a parameter's shape; makes it contiguous and, beside f64, f64. */
static light_status check_parameter(light_step *s, light_node *node, int i, const char *name,
                                    light_shape shape)
{
    light_tensor *t = node->in[i];
    bool wide = light_dtype_of(node->in[X]) == LIGHT_F64;

    if (!t) return LIGHT_OK;
    if (!light_shape_equal(light_shape_of(t), shape) || !light_dtype_is_floating(light_dtype_of(t)))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%s must be floating %s for an input %s, it is %s %s",
                             name, light_shape_format(shape, (char[256]){0}, 256),
                             light_shape_format(light_shape_of(node->in[X]), (char[256]){0}, 256),
                             light_dtype_name(light_dtype_of(t)),
                             light_shape_format(light_shape_of(t), (char[256]){0}, 256));
    if (wide != (light_dtype_of(t) == LIGHT_F64)) t = light_to_dtype(s, t, wide ? LIGHT_F64 : LIGHT_F32);
    if (t && !light_is_contiguous(t)) t = light_contiguous(s, t);
    node->in[i] = t;
    return t ? LIGHT_OK : light_step_status(s);
}

static light_status check_channels(light_step *s, light_node *node, light_spec *specs)
{
    light_tensor *x = node->in[X];

    if (light_ndim(x) < 2 || !light_dtype_is_floating(light_dtype_of(x)) || light_numel(x) == 0)
        return light_op_fail(
            s, node, LIGHT_ERR_SHAPE, "the input must be floating [N, C, ..] and not empty, it is %s %s",
            light_dtype_name(light_dtype_of(x)), light_shape_format(light_shape_of(x), (char[256]){0}, 256));
    LIGHT_TRY(check_parameter(s, node, WEIGHT, "weight", LIGHT_SHAPE(light_dim(x, 1))));
    LIGHT_TRY(check_parameter(s, node, BIAS, "bias", LIGHT_SHAPE(light_dim(x, 1))));
    node->in[X] = x = light_dense(s, x);
    if (!x) return light_step_status(s);
    specs[0] = light_spec_like(x);
    return LIGHT_OK;
}

static light_status make_statistics(light_step *s, light_node *node, light_shape shape, int count)
{
    for (int i = 0; i < count; i++) {
        node->extra[i] =
            light_step_tensor(s, (light_spec){.dtype = statistics_dtype(node->in[X]), .shape = shape});
        if (!node->extra[i]) return light_step_status(s);
    }
    return LIGHT_OK;
}

/* All backward kernels have one form: gy, x, weight and the statistics give up to three gradients. */
static light_status run_backward(light_step *s, light_node *node, light_kernel_id kernel, int parameters,
                                 light_tensor *const *grads)
{
    light_like_slot slots[3] = {0};
    light_tensor *gy = light_step_like(s, grads[0], node->out[0]);
    light_kernel_args args = {.in = {gy, node->in[X], node->in[WEIGHT], node->extra[0], node->extra[1]},
                              .attrs = node->attrs};

    if (!gy) return light_step_status(s);
    for (int i = 0; i <= parameters; i++) {
        if (!light_grad_needed(node, i)) continue;
        slots[i] = light_grad_slot_like(s, node, i, node->in[i]);
        if (!slots[i].tensor) return light_step_status(s);
        args.out[i] = slots[i].tensor;
        args.accumulate |= slots[i].accumulate << i;
    }
    LIGHT_TRY(light_run(s, kernel, &args));
    light_step_release(s, gy);
    for (int i = 0; i <= parameters; i++)
        if (slots[i].tensor) LIGHT_TRY(light_slot_finish(s, &slots[i]));
    return LIGHT_OK;
}

/* ---- batch norm ---------------------------------------------------------- */

static light_status check_running(light_step *s, light_node *node, int i, const char *name)
{
    light_tensor *t = node->in[i];

    if (!t) return LIGHT_OK;
    if (light_ndim(t) == 1 && light_numel(t) == light_dim(node->in[X], 1) && light_is_contiguous(t) &&
        light_dtype_is_floating(light_dtype_of(t)))
        return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%s must be floating [%lld], it is %s %s", name,
                         (long long)light_dim(node->in[X], 1), light_dtype_name(light_dtype_of(t)),
                         light_shape_format(light_shape_of(t), (char[256]){0}, 256));
}

static light_status batch_norm_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_batch_norm_ranks *attrs = node->attrs;
    light_tensor *x = node->in[X];

    LIGHT_TRY(check_channels(s, node, specs));
    LIGHT_TRY(check_running(s, node, RUNNING_MEAN, "running_mean"));
    LIGHT_TRY(check_running(s, node, RUNNING_VAR, "running_var"));
    if (!node->in[RUNNING_MEAN] != !node->in[RUNNING_VAR] ||
        (!attrs->kernel.training && !node->in[RUNNING_MEAN]))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "running_mean and running_var are needed, both");
    if (attrs->kernel.training && !attrs->group && light_numel(x) == light_dim(x, 1))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                             "training needs more than one value per channel, the input is %s",
                             light_shape_format(light_shape_of(x), (char[256]){0}, 256));
    return LIGHT_OK;
}

static light_status batch_norm_forward(light_step *s, light_node *node)
{
    light_tensor **in = node->in;

    LIGHT_TRY(make_statistics(s, node, LIGHT_SHAPE(light_dim(in[X], 1)), 2));
    if (((light_batch_norm_ranks *)node->attrs)->group) return light_batch_norm_together(s, node);
    return LIGHT_RUN(s, BATCH_NORM, .in = {in[X], in[WEIGHT], in[BIAS], in[RUNNING_MEAN], in[RUNNING_VAR]},
                     .out = {node->out[0], node->extra[MEAN], node->extra[RSTD]}, .attrs = node->attrs);
}

static light_status batch_norm_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    if (!((light_batch_norm_ranks *)node->attrs)->group)
        return run_backward(s, node, LIGHT_KERNEL_BATCH_NORM_BACKWARD, 2, grads);
    light_tensor *gy = light_step_like(s, grads[0], node->out[0]);
    if (!gy) return light_step_status(s);
    LIGHT_TRY(light_batch_norm_together_backward(s, node, gy));
    light_step_release(s, gy);
    return LIGHT_OK;
}

static const light_op batch_norm_op = {
    .name = "batch_norm",
    .infer = batch_norm_infer,
    .forward = batch_norm_forward,
    .backward = batch_norm_backward,
    .saves_in = 1u << X | 1u << WEIGHT,
    .precision = LIGHT_OP_FULL,
};

light_tensor *light_batch_norm_op(light_step *s, light_tensor *x, light_tensor *weight, light_tensor *bias,
                                  light_tensor *running_mean, light_tensor *running_var, bool training,
                                  double momentum, double eps)
{
    light_batch_norm_ranks attrs = {.kernel = {.training = training, .momentum = momentum, .eps = eps}};

    if (training) {
        attrs.group = s->batch_group;
        attrs.ranks = s->batch_ranks;
    }

    return light_apply(s, &batch_norm_op, (light_tensor *[]){x, weight, bias, running_mean, running_var}, 5,
                       0x1e, &attrs, sizeof attrs, NULL, 1);
}

/* ---- group norm ---------------------------------------------------------- */

static light_status group_norm_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_group_norm_attrs *attrs = node->attrs;

    LIGHT_TRY(check_channels(s, node, specs));
    if (attrs->groups < 1 || light_dim(node->in[X], 1) % attrs->groups)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "%lld channels cannot be cut into %lld groups",
                             (long long)light_dim(node->in[X], 1), (long long)attrs->groups);
    return LIGHT_OK;
}

static light_status group_norm_forward(light_step *s, light_node *node)
{
    const light_group_norm_attrs *attrs = node->attrs;
    light_tensor **in = node->in;

    LIGHT_TRY(make_statistics(s, node, LIGHT_SHAPE(light_dim(in[X], 0), attrs->groups), 2));
    return LIGHT_RUN(s, GROUP_NORM, .in = {in[X], in[WEIGHT], in[BIAS]},
                     .out = {node->out[0], node->extra[MEAN], node->extra[RSTD]}, .attrs = node->attrs);
}

static light_status group_norm_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    return run_backward(s, node, LIGHT_KERNEL_GROUP_NORM_BACKWARD, 2, grads);
}

static const light_op group_norm_op = {
    .name = "group_norm",
    .infer = group_norm_infer,
    .forward = group_norm_forward,
    .backward = group_norm_backward,
    .saves_in = 1u << X | 1u << WEIGHT,
    .precision = LIGHT_OP_FULL,
};

light_tensor *light_group_norm_op(light_step *s, light_tensor *x, int64_t groups, light_tensor *weight,
                                  light_tensor *bias, double eps)
{
    light_group_norm_attrs attrs = {.groups = groups, .eps = eps};

    return light_apply(s, &group_norm_op, (light_tensor *[]){x, weight, bias}, 3, 0x6, &attrs, sizeof attrs,
                       NULL, 1);
}

/* ---- norms of rows: layer norm, RMS norm --------------------------------- */

typedef struct {
    light_norm_attrs kernel; /* first: kernels read it */
    int ndim;
} row_norm_attrs;

static light_status row_norm_infer(light_step *s, light_node *node, light_spec *specs)
{
    row_norm_attrs *attrs = node->attrs;
    light_tensor *x = node->in[X];
    light_shape row = {.ndim = attrs->ndim};

    if (!light_dtype_is_floating(light_dtype_of(x)))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "the input must be floating, it is %s",
                             light_dtype_name(light_dtype_of(x)));
    if (attrs->ndim < 1 || attrs->ndim > light_ndim(x) || light_numel(x) == 0)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "an input %s has no last %d dims to normalise over",
                             light_shape_format(light_shape_of(x), (char[256]){0}, 256), attrs->ndim);
    for (int i = 0; i < row.ndim; i++) row.dims[i] = light_dim(x, i - row.ndim);
    attrs->kernel.n = light_shape_numel(row);
    for (int i = WEIGHT; i < node->n_in; i++)
        LIGHT_TRY(check_parameter(s, node, i, i == WEIGHT ? "weight" : "bias", row));
    if (!light_is_contiguous(x)) x = light_contiguous(s, x);
    node->in[X] = x;
    if (!x) return light_step_status(s);
    specs[0] = light_spec_like(x);
    return LIGHT_OK;
}

static light_shape rows_shape(const light_node *node)
{
    const row_norm_attrs *attrs = node->attrs;

    return LIGHT_SHAPE(light_numel(node->in[X]) / attrs->kernel.n);
}

static light_status layer_norm_forward(light_step *s, light_node *node)
{
    LIGHT_TRY(make_statistics(s, node, rows_shape(node), 2));
    return LIGHT_RUN(s, LAYER_NORM, .in = {node->in[X], node->in[WEIGHT], node->in[BIAS]},
                     .out = {node->out[0], node->extra[MEAN], node->extra[RSTD]}, .attrs = node->attrs);
}

static light_status layer_norm_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    return run_backward(s, node, LIGHT_KERNEL_LAYER_NORM_BACKWARD, 2, grads);
}

static const light_op layer_norm_op = {
    .name = "layer_norm",
    .infer = row_norm_infer,
    .forward = layer_norm_forward,
    .backward = layer_norm_backward,
    .saves_in = 1u << X | 1u << WEIGHT,
    .precision = LIGHT_OP_FULL,
};

light_tensor *light_layer_norm_op(light_step *s, light_tensor *x, int ndim, light_tensor *weight,
                                  light_tensor *bias, double eps)
{
    row_norm_attrs attrs = {.kernel = {.eps = eps}, .ndim = ndim};

    return light_apply(s, &layer_norm_op, (light_tensor *[]){x, weight, bias}, 3, 0x6, &attrs, sizeof attrs,
                       NULL, 1);
}

static light_status rms_norm_forward(light_step *s, light_node *node)
{
    LIGHT_TRY(make_statistics(s, node, rows_shape(node), 1));
    return LIGHT_RUN(s, RMS_NORM, .in = {node->in[X], node->in[WEIGHT]},
                     .out = {node->out[0], node->extra[0]}, .attrs = node->attrs);
}

static light_status rms_norm_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    return run_backward(s, node, LIGHT_KERNEL_RMS_NORM_BACKWARD, 1, grads);
}

static const light_op rms_norm_op = {
    .name = "rms_norm",
    .infer = row_norm_infer,
    .forward = rms_norm_forward,
    .backward = rms_norm_backward,
    .saves_in = 1u << X | 1u << WEIGHT,
    .precision = LIGHT_OP_FULL,
};

light_tensor *light_rms_norm_op(light_step *s, light_tensor *x, int ndim, light_tensor *weight, double eps)
{
    row_norm_attrs attrs = {.kernel = {.eps = eps}, .ndim = ndim};

    return light_apply(s, &rms_norm_op, (light_tensor *[]){x, weight}, 2, 0x2, &attrs, sizeof attrs, NULL, 1);
}

const light_op *const light_norm_ops[] = {&batch_norm_op, &group_norm_op, &layer_norm_op, &rms_norm_op, NULL};
