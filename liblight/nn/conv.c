/* SPDX-License-Identifier: Apache-2.0 */
/* light_conv2d and light_conv_transpose2d. */
#include "nn/modules.h"

/* Options for one number or two: `hw` where it is set, else `both`, else `fallback`. */
static void choose(int64_t out[2], const int64_t hw[2], int64_t both, int64_t fallback)
{
    for (int i = 0; i < 2; i++) out[i] = light_int_or_default(hw[i], light_int_or_default(both, fallback));
}

static light_status check(const light_module *self, int64_t in, int64_t out, const int64_t kernel[2],
                          const light_conv2d_params *p)
{
    LIGHT_TRY(light_nn_positive(self, "in_channels", in));
    LIGHT_TRY(light_nn_positive(self, "out_channels", out));
    LIGHT_TRY(light_nn_positive(self, "groups", p->groups));
    for (int i = 0; i < 2; i++) {
        LIGHT_TRY(light_nn_positive(self, "kernel", kernel[i]));
        LIGHT_TRY(light_nn_positive(self, "stride", p->stride[i]));
        LIGHT_TRY(light_nn_positive(self, "dilation", p->dilation[i]));
        LIGHT_TRY(light_nn_positive(self, "1 + padding", p->padding[i] + 1));
    }
    if (in % p->groups || out % p->groups)
        return light_nn_refuse(self, "%lld groups do not divide %lld input and %lld output channels",
                               (long long)p->groups, (long long)in, (long long)out);
    return LIGHT_OK;
}

static light_status conv2d_init(light_module *self)
{
    light_conv2d *m = (light_conv2d *)self;
    const light_conv2d_options *o = &m->options;
    light_conv2d_params *p = &m->params;
    int64_t k[2];
    choose(k, o->kernel_hw, o->kernel, 0);
    choose(p->stride, o->stride_hw, o->stride, 1);
    choose(p->padding, o->padding_hw, o->padding, 0);
    choose(p->dilation, o->dilation_hw, o->dilation, 1);
    p->groups = light_int_or_default(o->groups, 1);
    LIGHT_TRY(check(self, o->in_channels, o->out_channels, k, p));

    int64_t in = o->in_channels / p->groups;
    double bound = 1 / sqrt((double)(in * k[0] * k[1]));
    light_init init = LIGHT_INIT_UNIFORM(-bound, bound);
    LIGHT_TRY(
        light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(o->out_channels, in, k[0], k[1]), init));
    if (o->bias == LIGHT_OFF) return LIGHT_OK;
    return light_add_parameter(self, &m->bias, "bias", LIGHT_SHAPE(o->out_channels), init);
}

static light_tensor *conv2d_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_conv2d *m = (light_conv2d *)self;
    return light_conv2d_op(s, x, m->weight, m->bias, m->params);
}

static const light_module_vtable conv2d_vtable = {
    LIGHT_NN_VTABLE(light_conv2d, "conv2d"),
    .init = conv2d_init,
    .forward = conv2d_forward,
};

light_status light_conv2d_init_with(light_conv2d *module, light_module *parent, const char *name,
                                    const light_conv2d_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &conv2d_vtable, parent, name);
}

static light_status conv_transpose2d_init(light_module *self)
{
    light_conv_transpose2d *m = (light_conv_transpose2d *)self;
    const light_conv_transpose2d_options *o = &m->options;
    light_conv2d_params *p = &m->params;
    int64_t k[2];
    choose(k, o->kernel_hw, o->kernel, 0);
    choose(p->stride, o->stride_hw, o->stride, 1);
    choose(p->padding, o->padding_hw, o->padding, 0);
    choose(p->output_padding, o->output_padding_hw, o->output_padding, 0);
    choose(p->dilation, o->dilation_hw, o->dilation, 1);
    p->groups = light_int_or_default(o->groups, 1);
    LIGHT_TRY(check(self, o->in_channels, o->out_channels, k, p));

    int64_t out = o->out_channels / p->groups;
    double bound = 1 / sqrt((double)(out * k[0] * k[1]));
    light_init init = LIGHT_INIT_UNIFORM(-bound, bound);
    LIGHT_TRY(
        light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(o->in_channels, out, k[0], k[1]), init));
    if (o->bias == LIGHT_OFF) return LIGHT_OK;
    return light_add_parameter(self, &m->bias, "bias", LIGHT_SHAPE(o->out_channels), init);
}

static light_tensor *conv_transpose2d_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_conv_transpose2d *m = (light_conv_transpose2d *)self;
    return light_conv_transpose2d_op(s, x, m->weight, m->bias, m->params);
}

static const light_module_vtable conv_transpose2d_vtable = {
    LIGHT_NN_VTABLE(light_conv_transpose2d, "conv_transpose2d"),
    .init = conv_transpose2d_init,
    .forward = conv_transpose2d_forward,
};

light_status light_conv_transpose2d_init_with(light_conv_transpose2d *module, light_module *parent,
                                              const char *name, const light_conv_transpose2d_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &conv_transpose2d_vtable, parent, name);
}
