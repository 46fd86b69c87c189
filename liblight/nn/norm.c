/* SPDX-License-Identifier: Apache-2.0 */
/* light_batch_norm, light_layer_norm, light_rms_norm, light_group_norm. */
#include "nn/batch_statistics.h"
#include "nn/modules.h"

#include "autograd/step.h"

#include <float.h>

/* ---- batch -------------------------------------------------------------- */

static light_status batch_norm_init(light_module *self)
{
    light_batch_norm *m = (light_batch_norm *)self;
    light_batch_norm_options *o = &m->options;
    LIGHT_TRY(light_nn_positive(self, "features", o->features));
    o->eps = light_or_default(o->eps, 1e-5);
    o->momentum = light_or_default(o->momentum, 0.1);
    light_shape shape = LIGHT_SHAPE(o->features);
    if (o->affine != LIGHT_OFF) {
        LIGHT_TRY(light_add_parameter(self, &m->weight, "weight", shape, LIGHT_INIT_ONES));
        LIGHT_TRY(light_add_parameter(self, &m->bias, "bias", shape, LIGHT_INIT_ZEROS));
    }
    LIGHT_TRY(
        light_add_buffer(self, &m->running_mean, "running_mean", shape, LIGHT_F32, LIGHT_INIT_ZEROS, true));
    LIGHT_TRY(
        light_add_buffer(self, &m->running_var, "running_var", shape, LIGHT_F32, LIGHT_INIT_ONES, true));
    return light_add_buffer(self, &m->num_batches_tracked, "num_batches_tracked", LIGHT_SCALAR, LIGHT_I64,
                            LIGHT_INIT_ZEROS, true);
}

static light_status count_batch(light_batch_norm *m, light_step *s)
{
    light_unary_attrs one = {.code = LIGHT_UNARY_ADD_SCALAR, .a = 1};
    if (light_batch_statistics_has(s->batch_statistics, m))
        return light_batch_statistics_note(s->batch_statistics, s, m);
    return LIGHT_RUN(s, UNARY, .in = {m->num_batches_tracked}, .out = {m->num_batches_tracked},
                     .attrs = &one);
}

static light_tensor *batch_norm_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_batch_norm *m = (light_batch_norm *)self;
    light_running running = {m->running_mean, m->running_var};
    if (self->training && light_batch_statistics_has(s->batch_statistics, m))
        running = light_batch_statistics_divert(s->batch_statistics, m);
    light_tensor *y = light_batch_norm_op(s, x, m->weight, m->bias, running.mean, running.var, self->training,
                                          m->options.momentum, m->options.eps);
    if (!y || !self->training) return y;
    light_status status = count_batch(m, s);
    if (status != LIGHT_OK) return light_step_fail(s, status, "batch_norm: %s", light_error_message());
    return y;
}

static const light_module_vtable batch_norm_vtable = {
    LIGHT_NN_VTABLE(light_batch_norm, "batch_norm"),
    .init = batch_norm_init,
    .forward = batch_norm_forward,
};

bool light_is_batch_norm(const light_module *m)
{
    return m->vtable == &batch_norm_vtable;
}

light_status light_batch_norm_init_with(light_batch_norm *module, light_module *parent, const char *name,
                                        const light_batch_norm_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &batch_norm_vtable, parent, name);
}

/* ---- layer -------------------------------------------------------------- */

/* `shape`, or one dim of `features`. */
static light_status norm_shape(const light_module *self, int64_t features, light_shape *shape)
{
    if (shape->ndim == 0) *shape = LIGHT_SHAPE(features);
    for (int i = 0; i < shape->ndim; i++) LIGHT_TRY(light_nn_positive(self, "features", shape->dims[i]));
    return LIGHT_OK;
}

static light_status layer_norm_init(light_module *self)
{
    light_layer_norm *m = (light_layer_norm *)self;
    light_layer_norm_options *o = &m->options;
    LIGHT_TRY(norm_shape(self, o->features, &o->shape));
    o->eps = light_or_default(o->eps, 1e-5);
    if (o->affine == LIGHT_OFF) return LIGHT_OK;
    LIGHT_TRY(light_add_parameter(self, &m->weight, "weight", o->shape, LIGHT_INIT_ONES));
    if (o->bias == LIGHT_OFF) return LIGHT_OK;
    return light_add_parameter(self, &m->bias, "bias", o->shape, LIGHT_INIT_ZEROS);
}

static light_tensor *layer_norm_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_layer_norm *m = (light_layer_norm *)self;
    return light_layer_norm_op(s, x, m->options.shape.ndim, m->weight, m->bias, m->options.eps);
}

static const light_module_vtable layer_norm_vtable = {
    LIGHT_NN_VTABLE(light_layer_norm, "layer_norm"),
    .init = layer_norm_init,
    .forward = layer_norm_forward,
};

light_status light_layer_norm_init_with(light_layer_norm *module, light_module *parent, const char *name,
                                        const light_layer_norm_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &layer_norm_vtable, parent, name);
}

/* ---- root mean square --------------------------------------------------- */

static light_status rms_norm_init(light_module *self)
{
    light_rms_norm *m = (light_rms_norm *)self;
    light_rms_norm_options *o = &m->options;
    LIGHT_TRY(norm_shape(self, o->features, &o->shape));
    if (o->affine == LIGHT_OFF) return LIGHT_OK;
    return light_add_parameter(self, &m->weight, "weight", o->shape, LIGHT_INIT_ONES);
}

static light_tensor *rms_norm_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_rms_norm *m = (light_rms_norm *)self;
    double eps = light_or_default(m->options.eps, light_dtype_of(x) == LIGHT_F64 ? DBL_EPSILON : FLT_EPSILON);
    return light_rms_norm_op(s, x, m->options.shape.ndim, m->weight, eps);
}

static const light_module_vtable rms_norm_vtable = {
    LIGHT_NN_VTABLE(light_rms_norm, "rms_norm"),
    .init = rms_norm_init,
    .forward = rms_norm_forward,
};

light_status light_rms_norm_init_with(light_rms_norm *module, light_module *parent, const char *name,
                                      const light_rms_norm_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &rms_norm_vtable, parent, name);
}

/* ---- group -------------------------------------------------------------- */

static light_status group_norm_init(light_module *self)
{
    light_group_norm *m = (light_group_norm *)self;
    light_group_norm_options *o = &m->options;
    LIGHT_TRY(light_nn_positive(self, "groups", o->groups));
    LIGHT_TRY(light_nn_positive(self, "channels", o->channels));
    if (o->channels % o->groups)
        return light_nn_refuse(self, "%lld groups do not divide %lld channels", (long long)o->groups,
                               (long long)o->channels);
    o->eps = light_or_default(o->eps, 1e-5);
    if (o->affine == LIGHT_OFF) return LIGHT_OK;
    LIGHT_TRY(light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(o->channels), LIGHT_INIT_ONES));
    return light_add_parameter(self, &m->bias, "bias", LIGHT_SHAPE(o->channels), LIGHT_INIT_ZEROS);
}

static light_tensor *group_norm_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_group_norm *m = (light_group_norm *)self;
    return light_group_norm_op(s, x, m->options.groups, m->weight, m->bias, m->options.eps);
}

static const light_module_vtable group_norm_vtable = {
    LIGHT_NN_VTABLE(light_group_norm, "group_norm"),
    .init = group_norm_init,
    .forward = group_norm_forward,
};

light_status light_group_norm_init_with(light_group_norm *module, light_module *parent, const char *name,
                                        const light_group_norm_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &group_norm_vtable, parent, name);
}
