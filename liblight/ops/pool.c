/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling over windows of images: shapes and gradients. Window arithmetic is PyTorch's. */
#include "ops/layout.h"
#include "ops/table.h"

#include <light/ops.h>

#include <string.h>

typedef struct {
    light_pool2d_attrs kernel; /* first: kernels read it */
    bool ceil_mode;
    int64_t out[2]; /* adaptive: what is asked for */
} pool_attrs;

static light_status fail_window(light_step *s, const light_node *node, int axis, const char *what,
                                int64_t value)
{
    return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "%s %lld of the window's %s is not possible", what,
                         (long long)value, axis ? "width" : "height");
}

/* The length of one axis after pooling. The last window of ceil_mode must begin inside the image or the padding before
 * it. */
static light_status window_count(light_step *s, const light_node *node, const pool_attrs *a, int axis,
                                 int64_t size, int64_t *count)
{
    const light_pool2d_attrs *k = &a->kernel;
    int64_t span = (k->kernel[axis] - 1) * k->dilation[axis] + 1, room;

    if (k->kernel[axis] < 1) return fail_window(s, node, axis, "size", k->kernel[axis]);
    if (k->stride[axis] < 1) return fail_window(s, node, axis, "stride", k->stride[axis]);
    if (k->dilation[axis] < 1) return fail_window(s, node, axis, "dilation", k->dilation[axis]);
    if (k->padding[axis] < 0 || k->padding[axis] > span / 2)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                             "padding must be from 0 to half the window, %lld; it is %lld",
                             (long long)(span / 2), (long long)k->padding[axis]);
    room = size + 2 * k->padding[axis] - span + (a->ceil_mode ? k->stride[axis] - 1 : 0);
    *count = room < 0 ? 0 : room / k->stride[axis] + 1;
    if (a->ceil_mode && *count > 0 && (*count - 1) * k->stride[axis] >= size + k->padding[axis]) --*count;
    if (*count > 0) return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                         "a window of %lld does not fit into %s %lld with padding %lld", (long long)span,
                         axis ? "width" : "height", (long long)size, (long long)k->padding[axis]);
}

static light_status pool_infer(light_step *s, light_node *node, light_spec *specs)
{
    const pool_attrs *a = node->attrs;
    light_tensor *x = node->in[0];

    if (light_ndim(x) != 4 || !light_dtype_is_floating(light_dtype_of(x)))
        return light_op_fail(
            s, node, LIGHT_ERR_SHAPE, "images must be floating [N, C, H, W], these are %s %s",
            light_dtype_name(light_dtype_of(x)), light_shape_format(light_shape_of(x), (char[256]){0}, 256));
    if (light_dim(x, 2) * light_dim(x, 3) > INT32_MAX)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "an image may have 2147483647 pixels at most");
    if (light_dim(x, 2) * light_dim(x, 3) == 0)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "images must not be empty");
    node->in[0] = x = light_dense(s, x);
    if (!x) return light_step_status(s);
    specs[0] = light_spec_like(x);
    for (int axis = 0; axis < 2; axis++) {
        int64_t *count = &specs[0].shape.dims[2 + axis];

        if (!a->kernel.adaptive) {
            LIGHT_TRY(window_count(s, node, a, axis, light_dim(x, 2 + axis), count));
            continue;
        }
        if (a->out[axis] < 1)
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                                 "the result's size must be 1 at least, it is %lld", (long long)a->out[axis]);
        *count = a->out[axis];
    }
    return LIGHT_OK;
}

static light_status max_forward(light_step *s, light_node *node)
{
    if (light_grad_needed(node, 0)) {
        light_spec spec = light_spec_like(node->out[0]);

        spec.dtype = LIGHT_I32;
        node->extra[0] = light_step_tensor(s, spec);
        if (!node->extra[0]) return light_step_status(s);
    }
    return LIGHT_RUN(s, MAX_POOL2D, .in = {node->in[0]}, .out = {node->out[0], node->extra[0]},
                     .attrs = node->attrs);
}

static light_status avg_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, AVG_POOL2D, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs);
}

static light_status pool_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_slot gx = light_grad_slot(s, node, 0);
    light_kernel_id kernel =
        node->extra[0] ? LIGHT_KERNEL_MAX_POOL2D_BACKWARD : LIGHT_KERNEL_AVG_POOL2D_BACKWARD;
    light_tensor *gy;
    light_status status;

    if (!gx.tensor) return light_step_status(s);
    gy = light_step_like(s, grads[0], node->out[0]);
    if (!gy) return light_step_status(s);
    status = light_run(s, kernel,
                       &(light_kernel_args){.in = {gy, node->extra[0]},
                                            .out = {gx.tensor},
                                            .accumulate = gx.accumulate,
                                            .attrs = node->attrs});
    light_step_release(s, gy);
    return status;
}

static const light_op max_pool2d_op = {
    .name = "max_pool2d", .infer = pool_infer, .forward = max_forward, .backward = pool_backward};
static const light_op avg_pool2d_op = {
    .name = "avg_pool2d", .infer = pool_infer, .forward = avg_forward, .backward = pool_backward};
static const light_op adaptive_max_pool2d_op = {
    .name = "adaptive_max_pool2d", .infer = pool_infer, .forward = max_forward, .backward = pool_backward};
static const light_op adaptive_avg_pool2d_op = {
    .name = "adaptive_avg_pool2d", .infer = pool_infer, .forward = avg_forward, .backward = pool_backward};

static light_tensor *apply_pool(light_step *s, const light_op *op, light_tensor *x,
                                const light_pool2d_params *params)
{
    pool_attrs a = {.kernel = {.exclude_padding = params->exclude_padding}, .ceil_mode = params->ceil_mode};

    for (int i = 0; i < 2; i++) {
        a.kernel.kernel[i] = params->kernel[i];
        a.kernel.stride[i] = params->stride[i] ? params->stride[i] : params->kernel[i];
        a.kernel.padding[i] = params->padding[i];
        a.kernel.dilation[i] = params->dilation[i] ? params->dilation[i] : 1;
    }
    return LIGHT_APPLY1(s, op, &a, x);
}

light_tensor *light_max_pool2d_with(light_step *s, light_tensor *x, light_pool2d_params params)
{
    return apply_pool(s, &max_pool2d_op, x, &params);
}

light_tensor *light_avg_pool2d_with(light_step *s, light_tensor *x, light_pool2d_params params)
{
    if (params.dilation[0] > 1 || params.dilation[1] > 1)
        return light_step_fail(s, LIGHT_ERR_ARGUMENT, "avg_pool2d: windows of an average have no dilation");
    return apply_pool(s, &avg_pool2d_op, x, &params);
}

light_tensor *light_max_pool2d(light_step *s, light_tensor *x, int64_t kernel)
{
    return light_max_pool2d_with(s, x, (light_pool2d_params){.kernel = {kernel, kernel}});
}

light_tensor *light_avg_pool2d(light_step *s, light_tensor *x, int64_t kernel)
{
    return light_avg_pool2d_with(s, x, (light_pool2d_params){.kernel = {kernel, kernel}});
}

light_tensor *light_adaptive_avg_pool2d(light_step *s, light_tensor *x, int64_t height, int64_t width)
{
    pool_attrs a = {.kernel = {.adaptive = true}, .out = {height, width}};

    return LIGHT_APPLY1(s, &adaptive_avg_pool2d_op, &a, x);
}

light_tensor *light_adaptive_max_pool2d(light_step *s, light_tensor *x, int64_t height, int64_t width)
{
    pool_attrs a = {.kernel = {.adaptive = true}, .out = {height, width}};

    return LIGHT_APPLY1(s, &adaptive_max_pool2d_op, &a, x);
}

const light_op *const light_pool_ops[] = {&max_pool2d_op, &avg_pool2d_op, &adaptive_max_pool2d_op,
                                          &adaptive_avg_pool2d_op, NULL};
