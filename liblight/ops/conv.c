/* SPDX-License-Identifier: Apache-2.0 */
/* conv2d and conv_transpose2d. Kernels want images channels-last, and that is how these give them out; an image that
 * comes row-major is copied once. A transposed convolution is the gradient of a convolution, run forward. */
#include "ops/common.h"
#include "ops/layout.h"
#include "ops/table.h"

#include <light/ops.h>

/* ---- attributes --------------------------------------------------------- */

static light_conv2d_attrs read_params(const light_conv2d_params *p)
{
    light_conv2d_attrs a = {.groups = p->groups ? p->groups : 1};
    for (int i = 0; i < 2; i++) {
        a.stride[i] = p->stride[i] ? p->stride[i] : 1;
        a.padding[i] = p->padding[i];
        a.dilation[i] = p->dilation[i] ? p->dilation[i] : 1;
    }
    return a;
}

static light_status check_common(light_step *s, const light_node *node, const light_conv2d_attrs *a)
{
    const light_tensor *x = node->in[0], *w = node->in[1];
    if (!light_dtype_is_floating((light_dtype)x->dtype) || w->dtype != x->dtype)
        return light_op_fail(
            s, node, LIGHT_ERR_DTYPE, "input is %s and weight %s: one floating dtype is needed",
            light_dtype_name((light_dtype)x->dtype), light_dtype_name((light_dtype)w->dtype));
    if (x->ndim != 4 || w->ndim != 4)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "input %s and weight %s: both must have four dims",
                             light_shape_text(x), light_shape_text(w));
    for (int i = 0; i < 2; i++)
        if (a->stride[i] < 1 || a->dilation[i] < 1 || a->padding[i] < 0 || w->shape[2 + i] < 1)
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                                 "stride %lld, padding %lld, dilation %lld, kernel %lld: out of range",
                                 (long long)a->stride[i], (long long)a->padding[i], (long long)a->dilation[i],
                                 (long long)w->shape[2 + i]);
    if (a->groups < 1) return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "groups %lld", (long long)a->groups);
    return LIGHT_OK;
}

static light_status check_bias(light_step *s, const light_node *node, int64_t channels)
{
    const light_tensor *bias = node->in[2];
    if (bias && (bias->ndim != 1 || bias->shape[0] != channels))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "bias %s for %lld channels", light_shape_text(bias),
                             (long long)channels);
    return LIGHT_OK;
}

/* ---- layout ------------------------------------------------------------- */

/* The input channels-last: itself, or a copy, which is kept in extra[0] for the weight's gradient. One reference is the
 * caller's. */
static light_tensor *image(light_step *s, light_node *node)
{
    light_tensor *x = node->in[0];
    if (light_tensor_is_channels_last(x)) {
        light_storage_ref(x->storage);
        return x;
    }
    if (node->extra[0]) {
        light_storage_ref(node->extra[0]->storage);
        return node->extra[0];
    }
    light_spec spec = {.dtype = (light_dtype)x->dtype, .shape = light_shape_of(x), .channels_last = true};
    light_tensor *copy = light_step_tensor(s, spec);
    if (!copy || LIGHT_RUN(s, COPY, .in = {x}, .out = {copy}) != LIGHT_OK) return NULL;
    if (node->in[1]->requires_grad) {
        node->extra[0] = copy;
        light_storage_ref(copy->storage);
    }
    return copy;
}

/* What backward reads: the weight, and the image or the copy of it that was made. */
static void save_for_gradients(light_node *node)
{
    bool as_it_is = light_tensor_is_channels_last(node->in[0]);
    node->saved_in =
        (node->in[1]->requires_grad && as_it_is ? 1u : 0) | (node->in[0]->requires_grad ? 2u : 0);
}

/* Kernels want weight and bias row-major, and so their gradients. */
static light_status pack_parameters(light_step *s, light_node *node)
{
    for (int i = 1; i < 3; i++)
        if (node->in[i] && !node->in[i]->contiguous && !(node->in[i] = light_contiguous(s, node->in[i])))
            return LIGHT_ERR_MEMORY;
    return LIGHT_OK;
}

/* A channels-last tensor for the gradient of the input, delivered by give_image. */
static light_tensor *image_gradient(light_step *s, const light_node *node)
{
    const light_tensor *x = node->in[0];
    return light_step_tensor(
        s, (light_spec){.dtype = (light_dtype)x->dtype, .shape = light_shape_of(x), .channels_last = true});
}

/* ---- conv2d ------------------------------------------------------------- */

static light_status conv2d_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_tensor *x = node->in[0], *w = node->in[1];
    const light_conv2d_attrs *a = node->attrs;
    LIGHT_TRY(check_common(s, node, a));
    if (x->shape[1] != w->shape[1] * a->groups || w->shape[0] % a->groups)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                             "input %s has %lld channels, weight %s with %lld groups takes %lld",
                             light_shape_text(x), (long long)x->shape[1], light_shape_text(w),
                             (long long)a->groups, (long long)(w->shape[1] * a->groups));
    LIGHT_TRY(check_bias(s, node, w->shape[0]));
    int64_t size[2];
    for (int i = 0; i < 2; i++) {
        int64_t reach = a->dilation[i] * (w->shape[2 + i] - 1) + 1,
                room = x->shape[2 + i] + 2 * a->padding[i];
        if (room < reach)
            return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                                 "the kernel reaches over %lld, the padded input %s has %lld",
                                 (long long)reach, light_shape_text(x), (long long)room);
        size[i] = (room - reach) / a->stride[i] + 1;
    }
    LIGHT_TRY(pack_parameters(s, node));
    save_for_gradients(node);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype,
                            .shape = LIGHT_SHAPE(x->shape[0], w->shape[0], size[0], size[1]),
                            .channels_last = true};
    return LIGHT_OK;
}

static light_status conv2d_forward(light_step *s, light_node *node)
{
    light_tensor *x = image(s, node), *w = node->in[1], *bias = node->in[2];
    if (!x) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(LIGHT_RUN(s, CONV2D, .in = {x, w, bias}, .out = {node->out[0]}, .attrs = node->attrs));
    light_step_release(s, x);
    return LIGHT_OK;
}

/* Weight and bias: straight into their slots. */
static light_status give_weight(light_step *s, light_node *node, light_tensor *g, light_tensor *x)
{
    light_slot gw = light_grad_slot(s, node, 1), gb = light_grad_slot(s, node, 2);
    if (!gw.tensor) return light_step_status(s);
    return LIGHT_RUN(s, CONV2D_BACKWARD_WEIGHT, .in = {g, x}, .out = {gw.tensor, gb.tensor},
                     .attrs = node->attrs, .accumulate = gw.accumulate | gb.accumulate << 1);
}

/* g summed over images and places, for a bias whose weight is frozen, and for transposed convolutions. */
static light_status give_channel_sums(light_step *s, light_node *node, light_tensor *g)
{
    light_slot slot = light_grad_slot(s, node, 2);
    if (!slot.tensor) return light_step_status(s);
    light_reduce_attrs attrs = {.code = LIGHT_REDUCE_SUM, .dims = 1 | 4 | 8};
    light_tensor *out = light_step_view(s, slot.tensor, LIGHT_SHAPE(1, slot.tensor->numel, 1, 1), NULL, 0);
    if (!out) return LIGHT_ERR_MEMORY;
    light_status status =
        LIGHT_RUN(s, REDUCE, .in = {g}, .out = {out}, .attrs = &attrs, .accumulate = slot.accumulate);
    light_step_release(s, out);
    return status;
}

static light_status conv2d_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *g = light_step_like(s, grads[0], node->out[0]);
    if (!g) return LIGHT_ERR_MEMORY;
    if (light_grad_needed(node, 1)) {
        light_tensor *x = image(s, node);
        if (!x) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(give_weight(s, node, g, x));
        light_step_release(s, x);
    } else if (light_grad_needed(node, 2)) {
        LIGHT_TRY(give_channel_sums(s, node, g));
    }
    if (light_grad_needed(node, 0)) {
        light_tensor *gx = image_gradient(s, node), *w = node->in[1];
        if (!gx) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(LIGHT_RUN(s, CONV2D_BACKWARD_DATA, .in = {g, w}, .out = {gx}, .attrs = node->attrs));
        LIGHT_TRY(light_grad_give(s, node, 0, gx));
        light_step_release(s, gx);
    }
    light_step_release(s, g);
    return LIGHT_OK;
}

static const light_op conv2d_op = {
    .name = "conv2d",
    .infer = conv2d_infer,
    .forward = conv2d_forward,
    .backward = conv2d_backward,
    .saves_in = 3,
    .precision = LIGHT_OP_LOWER,
    .wide_grads = 6,
};

light_tensor *light_conv2d_op(light_step *s, light_tensor *x, light_tensor *weight, light_tensor *bias,
                              light_conv2d_params params)
{
    light_conv2d_attrs attrs = read_params(&params);
    return light_apply(s, &conv2d_op, (light_tensor *[]){x, weight, bias}, 3, 1u << 2, &attrs, sizeof attrs,
                       NULL, 1);
}

/* ---- conv_transpose2d --------------------------------------------------- */

typedef struct transpose_attrs {
    light_conv2d_attrs conv; /* first: the kernels get this */
    int64_t output_padding[2];
} transpose_attrs;

static light_status transpose_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_tensor *x = node->in[0], *w = node->in[1];
    const transpose_attrs *t = node->attrs;
    const light_conv2d_attrs *a = &t->conv;
    LIGHT_TRY(check_common(s, node, a));
    if (x->shape[1] != w->shape[0] || w->shape[0] % a->groups)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                             "input %s has %lld channels, weight %s takes %lld in %lld groups",
                             light_shape_text(x), (long long)x->shape[1], light_shape_text(w),
                             (long long)w->shape[0], (long long)a->groups);
    int64_t channels = w->shape[1] * a->groups, size[2];
    LIGHT_TRY(check_bias(s, node, channels));
    for (int i = 0; i < 2; i++) {
        int64_t extra = t->output_padding[i],
                most = a->stride[i] > a->dilation[i] ? a->stride[i] : a->dilation[i];
        if (extra < 0 || extra >= most)
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                                 "output_padding %lld must be below stride or dilation (%lld)",
                                 (long long)extra, (long long)most);
        size[i] = (x->shape[2 + i] - 1) * a->stride[i] - 2 * a->padding[i] +
                  a->dilation[i] * (w->shape[2 + i] - 1) + extra + 1;
        if (size[i] < 1)
            return light_op_fail(s, node, LIGHT_ERR_SHAPE, "input %s with padding %lld leaves no output",
                                 light_shape_text(x), (long long)a->padding[i]);
    }
    LIGHT_TRY(pack_parameters(s, node));
    save_for_gradients(node);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype,
                            .shape = LIGHT_SHAPE(x->shape[0], channels, size[0], size[1]),
                            .channels_last = true};
    return LIGHT_OK;
}

static light_status transpose_forward(light_step *s, light_node *node)
{
    light_tensor *x = image(s, node), *y = node->out[0], *bias = node->in[2];
    if (!x) return LIGHT_ERR_MEMORY;
    if (bias) {
        light_tensor *column = light_step_view(s, bias, LIGHT_SHAPE(bias->numel, 1, 1), NULL, 0);
        light_tensor *wide = column ? light_step_expanded(s, column, light_shape_of(y)) : NULL;
        if (!wide) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {wide}, .out = {y}));
        light_step_release(s, wide);
        light_step_release(s, column);
    }
    LIGHT_TRY(LIGHT_RUN(s, CONV2D_BACKWARD_DATA, .in = {x, node->in[1]}, .out = {y}, .attrs = node->attrs,
                        .accumulate = bias != NULL));
    light_step_release(s, x);
    return LIGHT_OK;
}

static light_status transpose_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *g = light_step_like(s, grads[0], node->out[0]);
    if (!g) return LIGHT_ERR_MEMORY;
    light_slot gw = light_grad_slot(s, node, 1);
    if (gw.tensor) {
        light_tensor *x = image(s, node);
        if (!x) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(LIGHT_RUN(s, CONV2D_BACKWARD_WEIGHT, .in = {x, g}, .out = {gw.tensor}, .attrs = node->attrs,
                            .accumulate = gw.accumulate));
        light_step_release(s, x);
    }
    if (light_grad_needed(node, 2)) LIGHT_TRY(give_channel_sums(s, node, g));
    if (light_grad_needed(node, 0)) {
        light_tensor *gx = image_gradient(s, node), *w = node->in[1];
        if (!gx) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(LIGHT_RUN(s, CONV2D, .in = {g, w}, .out = {gx}, .attrs = node->attrs));
        LIGHT_TRY(light_grad_give(s, node, 0, gx));
        light_step_release(s, gx);
    }
    light_step_release(s, g);
    return LIGHT_OK;
}

static const light_op transpose_op = {
    .name = "conv_transpose2d",
    .infer = transpose_infer,
    .forward = transpose_forward,
    .backward = transpose_backward,
    .saves_in = 3,
    .precision = LIGHT_OP_LOWER,
    .wide_grads = 6,
};

light_tensor *light_conv_transpose2d_op(light_step *s, light_tensor *x, light_tensor *weight,
                                        light_tensor *bias, light_conv2d_params params)
{
    transpose_attrs attrs = {.conv = read_params(&params),
                             .output_padding = {params.output_padding[0], params.output_padding[1]}};
    return light_apply(s, &transpose_op, (light_tensor *[]){x, weight, bias}, 3, 1u << 2, &attrs,
                       sizeof attrs, NULL, 1);
}

const light_op *const light_conv_ops[] = {&conv2d_op, &transpose_op, NULL};
