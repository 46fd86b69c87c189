/* SPDX-License-Identifier: Apache-2.0 */
/* Gradient clipping, by norm and by value. The norm is summed in f64 on the device and never waited for. */
#include "optim/clip.h"

#include "autograd/step.h"
#include "base/exact.h"
#include "nn/flat.h"
#include "nn/parameter.h"
#include "optim/optimizer.h"

#include <light/ops.h>

/* ---- whose gradients ------------------------------------------------------ */

/* Those that this process steps, which may be parts: of an optimizer, in runs as long as there are, or of a set. */
typedef struct gradients {
    const light_optimizer *optimizer; /* NULL: of the set */
    light_parameter_set set;
    int group;
    int64_t at;
    light_parameter *parameter;
    light_tensor grad; /* the current one */
} gradients;

static bool next_of_set(gradients *g)
{
    while ((g->parameter = light_parameter_set_next(g->set, g->parameter))) {
        const light_parameter *p = g->parameter;
        if (!light_grad(p->tensor) || p->own_begin == p->own_end) continue;
        g->grad = light_parameter_own_grad(p).tensor;
        return true;
    }
    return false;
}

static bool next(gradients *g)
{
    light_optimizer_run run;
    if (!g->optimizer) return next_of_set(g);
    for (; g->group < g->optimizer->n_groups; g->group++, g->at = 0) {
        if (!light_optimizer_next_run(&g->optimizer->groups[g->group], &g->at, &run)) continue;
        g->grad = run.grad;
        return true;
    }
    return false;
}

static const light_sharing *sharing_of(const gradients *g)
{
    const light_module *root = g->set.root;
    if (g->optimizer) return light_optimizer_sharing(g->optimizer);
    while (root && root->parent) root = root->parent;
    return root && root->flat ? root->flat->sharing : NULL;
}

/* ---- norm --------------------------------------------------------------- */

static light_status scalar(light_step *s, light_unary code, double a, double b, const light_tensor *x,
                           light_tensor *y)
{
    light_unary_attrs attrs = {.code = (int)code, .a = a, .b = b};
    return LIGHT_RUN(s, UNARY, .in = {x}, .out = {y}, .attrs = &attrs);
}

static light_status times(light_step *s, light_tensor *x, const light_tensor *y)
{
    return LIGHT_RUN(s, BINARY, .in = {x, y}, .out = {x}, .attrs = &(light_binary_attrs){LIGHT_BINARY_MUL});
}

/* 1 / the loss scale, f64; *out NULL: gradients are not scaled. */
static light_status inverse_scale(light_step *s, light_tensor **out)
{
    *out = NULL;
    if (!s->grad_scale) return LIGHT_OK;
    if (!(*out = light_zeros(s, LIGHT_SCALAR, LIGHT_F64))) return light_step_status(s);
    LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {s->grad_scale}, .out = {*out}));
    return scalar(s, LIGHT_UNARY_RECIPROCAL, 0, 0, *out, *out);
}

/* *norm: the sum of squares before, the norm after. *factor, f32: min(1, max_norm / (norm + 1e-6)), over the loss scale
 * where `unscale` is set. */
static light_status finish(light_step *s, light_tensor *norm, double max_norm, bool unscale,
                           light_tensor **factor)
{
    light_tensor *wide = light_zeros(s, LIGHT_SCALAR, LIGHT_F64), *inverse;
    *factor = light_zeros(s, LIGHT_SCALAR, LIGHT_F32);
    if (!wide || !*factor) return light_step_status(s);
    LIGHT_TRY(inverse_scale(s, &inverse));
    LIGHT_TRY(scalar(s, LIGHT_UNARY_SQRT, 0, 0, norm, norm));
    if (inverse) LIGHT_TRY(times(s, norm, inverse));
    LIGHT_TRY(scalar(s, LIGHT_UNARY_ADD_SCALAR, 1e-6, 0, norm, wide));
    LIGHT_TRY(scalar(s, LIGHT_UNARY_RECIPROCAL, 0, 0, wide, wide));
    LIGHT_TRY(scalar(s, LIGHT_UNARY_MUL_SCALAR, max_norm, 0, wide, wide));
    LIGHT_TRY(scalar(s, LIGHT_UNARY_CLAMP, NAN, 1, wide, wide));
    if (inverse && unscale) LIGHT_TRY(times(s, wide, inverse));
    return LIGHT_RUN(s, COPY, .in = {wide}, .out = {*factor});
}

/* ---- over all processes --------------------------------------------------- */

static light_status add_up(const light_sharing *sharing, const light_tensor *sum)
{
    if (!sharing || !sharing->group) return LIGHT_OK;
    return light_communicate(sharing->group, &(light_collective){.kind = LIGHT_ALL_REDUCE,
                                                                 .in = sum->data,
                                                                 .out = sum->data,
                                                                 .count = sum->numel,
                                                                 .dtype = (light_dtype)sum->dtype,
                                                                 .what = "norm of gradients"});
}

/* *sum: of the squares of all gradients, f64. */
static light_status all_squares(light_step *s, gradients g, light_tensor **sum)
{
    const light_sharing *sharing = sharing_of(&g);
    bool exact = sharing && sharing->exact;
    light_tensor *out = *sum = light_zeros(s, LIGHT_SCALAR, LIGHT_F64);
    if (out && exact) out = light_zeros(s, LIGHT_SHAPE(LIGHT_EXACT_SIZE), LIGHT_I64);
    if (!out) return light_step_status(s);
    while (next(&g))
        LIGHT_TRY(exact ? LIGHT_RUN(s, EXACT_SQUARES, .in = {&g.grad}, .out = {out}, .accumulate = 1)
                        : LIGHT_RUN(s, SUM_SQUARES, .in = {&g.grad}, .out = {out}, .accumulate = 1));
    LIGHT_TRY(add_up(sharing, out));
    return exact ? LIGHT_RUN(s, EXACT_VALUE, .in = {out}, .out = {*sum}) : LIGHT_OK;
}

light_status light_grad_norm_factor(light_step *s, light_optimizer *optimizer, double max_norm,
                                    light_tensor **norm, light_tensor **factor)
{
    light_tensor *sum;
    LIGHT_TRY(all_squares(s, (gradients){.optimizer = optimizer}, &sum));
    if (norm) *norm = sum;
    return finish(s, sum, max_norm, true, factor);
}

static light_status scale_all(light_step *s, gradients g, const light_tensor *factor)
{
    while (next(&g)) LIGHT_TRY(LIGHT_RUN(s, SCALE, .in = {&g.grad, factor}, .out = {&g.grad}));
    return LIGHT_OK;
}

static light_status clip_norm(light_step *s, gradients g, double max_norm, light_tensor **norm)
{
    light_tensor *factor;
    LIGHT_TRY(all_squares(s, g, norm));
    LIGHT_TRY(finish(s, *norm, max_norm, false, &factor));
    return scale_all(s, g, factor);
}

light_tensor *light_clip_grad_norm(light_step *s, light_parameter_set set, double max_norm)
{
    light_tensor *norm = NULL;
    if (light_step_status(s) != LIGHT_OK) return NULL;
    if (!(max_norm > 0))
        return light_step_fail(s, LIGHT_ERR_ARGUMENT, "clip_grad_norm: max_norm is %g", max_norm);
    light_status status = clip_norm(light_step_for_optimizers(s), (gradients){.set = set}, max_norm, &norm);
    return status == LIGHT_OK ? norm
                              : light_step_fail(s, status, "clip_grad_norm: %s", light_error_message());
}

/* ---- value -------------------------------------------------------------- */

static light_status clamp(light_tensor *grad, double value)
{
    light_device *device = grad->storage->device;
    light_kernel kernel = device->backend->kernels[LIGHT_KERNEL_CLAMP_FLAT];
    if (!kernel) return light_fail(LIGHT_ERR_UNSUPPORTED, "clipping is not available on %s", device->name);
    light_fill_attrs attrs = {value};
    return kernel(&(light_kernel_args){.device = device, .in = {grad}, .out = {grad}, .attrs = &attrs});
}

static light_status clamp_all(gradients g, double value)
{
    while (next(&g)) LIGHT_TRY(clamp(&g.grad, value));
    return LIGHT_OK;
}

light_status light_grad_clamp(light_optimizer *optimizer, double value)
{
    return clamp_all((gradients){.optimizer = optimizer}, value);
}

/* The bound is one of gradients without the loss scale. Where one is not finite, all of this process come out so: the bound
 * would hide it from the optimizer. */
static light_status clamp_scaled(light_step *s, gradients g, double value)
{
    light_tensor *finite = light_full(s, LIGHT_SCALAR, 1, LIGHT_F32);
    light_tensor *factor = light_zeros(s, LIGHT_SCALAR, LIGHT_F32);
    if (!finite || !factor) return light_step_status(s);
    for (gradients each = g; next(&each);)
        LIGHT_TRY(LIGHT_RUN(s, ALL_FINITE, .in = {&each.grad}, .out = {finite}, .accumulate = 1));
    LIGHT_TRY(scalar(s, LIGHT_UNARY_RECIPROCAL, 0, 0, s->grad_scale, factor));
    LIGHT_TRY(scale_all(s, g, factor));
    LIGHT_TRY(clamp_all(g, value));
    LIGHT_TRY(LIGHT_RUN(s, BINARY, .in = {s->grad_scale, finite}, .out = {factor},
                        .attrs = &(light_binary_attrs){LIGHT_BINARY_DIV}));
    return scale_all(s, g, factor);
}

void light_clip_grad_value(light_step *s, light_parameter_set set, double value)
{
    const gradients g = {.set = set};
    if (light_step_status(s) != LIGHT_OK) return;
    light_status status = !(value > 0)    ? light_fail(LIGHT_ERR_ARGUMENT, "value is %g", value)
                          : s->grad_scale ? clamp_scaled(light_step_for_optimizers(s), g, value)
                                          : clamp_all(g, value);
    if (status != LIGHT_OK) light_step_fail(s, status, "clip_grad_value: %s", light_error_message());
}
