/* SPDX-License-Identifier: Apache-2.0 */
/* light_linear: x W^T + b. */
#include "nn/modules.h"

static light_status linear_init(light_module *self)
{
    light_linear *m = (light_linear *)self;
    const light_linear_options *o = &m->options;
    LIGHT_TRY(light_nn_positive(self, "in_features", o->in_features));
    LIGHT_TRY(light_nn_positive(self, "out_features", o->out_features));
    double bound = 1 / sqrt((double)o->in_features);
    light_init init = LIGHT_INIT_UNIFORM(-bound, bound);
    LIGHT_TRY(
        light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(o->out_features, o->in_features), init));
    if (o->bias == LIGHT_OFF) return LIGHT_OK;
    return light_add_parameter(self, &m->bias, "bias", LIGHT_SHAPE(o->out_features), init);
}

static light_tensor *linear_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_linear *m = (light_linear *)self;
    return light_linear_op(s, x, m->weight, m->bias);
}

static const light_module_vtable linear_vtable = {
    LIGHT_NN_VTABLE(light_linear, "linear"),
    .init = linear_init,
    .forward = linear_forward,
};

light_status light_linear_init_with(light_linear *module, light_module *parent, const char *name,
                                    const light_linear_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &linear_vtable, parent, name);
}
