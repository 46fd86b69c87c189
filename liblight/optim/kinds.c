/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of optimizers: defaults, options, state, formulas. The kernel LIGHT_KERNEL_OPTIMIZER computes them.
 *
 * p parameter, g its gradient times the factor (negated with maximize), t the step from 1, wd weight_decay, b1, b2 betas.
 *
 * sgd      g += wd p. With momentum: m = g when t = 1, else momentum m + (1 - dampening) g; g = g + momentum m with
 *          nesterov, else m. p -= lr g.
 * adam     g += wd p. m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; amsgrad: vmax = max(vmax, v), used for v.
 *          p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps).
 * adamw    p *= 1 - lr wd, then as adam without wd.
 * rmsprop  g += wd p. v = alpha v + (1 - alpha) g^2; centered: a = alpha a + (1 - alpha) g, and v - a^2 is used for v.
 *          d = g / (sqrt(v) + eps); with momentum: m = momentum m + d, d = m. p -= lr d.
 * adagrad  g += wd p. s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).
 * lion     p *= 1 - lr wd; p -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g.
 *
 * Sources: PyTorch's documentation of torch.optim (the order of eps, bias correction and first momentum), and the papers
 * that optim.h names. */
#include "optim/optimizer.h"

#include "base/default.h"

#include <stdio.h>
#include <string.h>

/* ---- options ------------------------------------------------------------ */

#define DOUBLE(field)                                                                                        \
    {                                                                                                        \
#field, offsetof(light_optimizer_options, field), false                                              \
    }
#define BETA(text, index)                                                                                    \
    {                                                                                                        \
        text, offsetof(light_optimizer_options, betas) + (index) * sizeof(double), false                     \
    }
#define SWITCH(field)                                                                                        \
    {                                                                                                        \
#field, offsetof(light_optimizer_options, field), true                                               \
    }

const light_optimizer_field light_optimizer_fields[] = {
    DOUBLE(lr),
    DOUBLE(weight_decay),
    DOUBLE(momentum),
    DOUBLE(dampening),
    SWITCH(nesterov),
    BETA("beta1", 0),
    BETA("beta2", 1),
    DOUBLE(eps),
    SWITCH(amsgrad),
    DOUBLE(alpha),
    SWITCH(centered),
    DOUBLE(lr_decay),
    DOUBLE(initial_accumulator_value),
    SWITCH(maximize),
};
const int light_optimizer_field_count = sizeof light_optimizer_fields / sizeof *light_optimizer_fields;

double light_optimizer_field_get(const light_optimizer_options *options, int field)
{
    const light_optimizer_field *f = &light_optimizer_fields[field];
    const char *at = (const char *)options + f->offset;
    return f->is_bool ? (double)*(const bool *)at : *(const double *)at;
}

void light_optimizer_field_set(light_optimizer_options *options, int field, double value)
{
    const light_optimizer_field *f = &light_optimizer_fields[field];
    char *at = (char *)options + f->offset;
    if (f->is_bool)
        *(bool *)at = value != 0;
    else
        *(double *)at = value;
}

static bool reads(const light_optimizer_class *class, const char *name)
{
    char word[64];
    snprintf(word, sizeof word, " %s ", name);
    return strstr(class->reads, word);
}

static light_status out_of_range(const light_optimizer_class *class, const char *name, double value,
                                 const char *range)
{
    return light_fail(LIGHT_ERR_ARGUMENT, "%s: %s is %g; it must be %s", class->name, name, value, range);
}

static light_status check(const light_optimizer_class *class, const light_optimizer_options *o)
{
    for (int i = 0; i < light_optimizer_field_count; i++) {
        double value = light_optimizer_field_get(o, i);
        if (!(value >= 0) || isinf(value))
            return out_of_range(class, light_optimizer_fields[i].name, value, "a finite number, 0 or more");
    }
    for (int i = 0; i < 2; i++)
        if (o->betas[i] >= 1) return out_of_range(class, i ? "beta2" : "beta1", o->betas[i], "below 1");
    if (o->nesterov && (o->momentum == 0 || o->dampening != 0))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: nesterov needs a momentum and no dampening", class->name);
    return LIGHT_OK;
}

light_status light_optimizer_options_complete(const light_optimizer_class *class,
                                              const light_optimizer_options *options,
                                              const light_optimizer_options *defaults,
                                              light_optimizer_options *out)
{
    *out = (light_optimizer_options){0};
    for (int i = 0; i < light_optimizer_field_count; i++) {
        double value = light_optimizer_field_get(options, i);
        if (value != 0 && !reads(class, light_optimizer_fields[i].name))
            return light_fail(LIGHT_ERR_ARGUMENT, "%s: %s is no option of it", class->name,
                              light_optimizer_fields[i].name);
        value = light_or_default(value, light_optimizer_field_get(defaults, i));
        light_optimizer_field_set(out, i, value == 0 ? 0 : value); /* minus zero has done its work */
    }
    return check(class, out);
}

/* ---- kinds -------------------------------------------------------------- */

static const light_optimizer_class sgd = {
    .name = "sgd",
    .kind = LIGHT_OPTIMIZER_SGD,
    .defaults = {.lr = 1e-3},
    .reads = " lr weight_decay maximize momentum dampening nesterov ",
    .states = {"momentum_buffer"},
};
static const light_optimizer_class adam = {
    .name = "adam",
    .kind = LIGHT_OPTIMIZER_ADAM,
    .defaults = {.lr = 1e-3, .betas = {0.9, 0.999}, .eps = 1e-8},
    .reads = " lr weight_decay maximize beta1 beta2 eps amsgrad ",
    .states = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
};
static const light_optimizer_class adamw = {
    .name = "adamw",
    .kind = LIGHT_OPTIMIZER_ADAMW,
    .defaults = {.lr = 1e-3, .weight_decay = 1e-2, .betas = {0.9, 0.999}, .eps = 1e-8},
    .reads = " lr weight_decay maximize beta1 beta2 eps amsgrad ",
    .states = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
};
static const light_optimizer_class rmsprop = {
    .name = "rmsprop",
    .kind = LIGHT_OPTIMIZER_RMSPROP,
    .defaults = {.lr = 1e-2, .alpha = 0.99, .eps = 1e-8},
    .reads = " lr weight_decay maximize alpha eps momentum centered ",
    .states = {"square_avg", "momentum_buffer", "grad_avg"},
};
static const light_optimizer_class adagrad = {
    .name = "adagrad",
    .kind = LIGHT_OPTIMIZER_ADAGRAD,
    .defaults = {.lr = 1e-2, .eps = 1e-10},
    .reads = " lr weight_decay maximize lr_decay initial_accumulator_value eps ",
    .states = {"sum"},
};
static const light_optimizer_class lion = {
    .name = "lion",
    .kind = LIGHT_OPTIMIZER_LION,
    .defaults = {.lr = 1e-4, .betas = {0.9, 0.99}},
    .reads = " lr weight_decay maximize beta1 beta2 ",
    .states = {"exp_avg"},
};

light_optimizer *light_sgd_with(light_parameter_set set, const light_optimizer_options *options)
{
    return light_optimizer_new(&sgd, set, options);
}

light_optimizer *light_adam_with(light_parameter_set set, const light_optimizer_options *options)
{
    return light_optimizer_new(&adam, set, options);
}

light_optimizer *light_adamw_with(light_parameter_set set, const light_optimizer_options *options)
{
    return light_optimizer_new(&adamw, set, options);
}

light_optimizer *light_rmsprop_with(light_parameter_set set, const light_optimizer_options *options)
{
    return light_optimizer_new(&rmsprop, set, options);
}

light_optimizer *light_adagrad_with(light_parameter_set set, const light_optimizer_options *options)
{
    return light_optimizer_new(&adagrad, set, options);
}

light_optimizer *light_lion_with(light_parameter_set set, const light_optimizer_options *options)
{
    return light_optimizer_new(&lion, set, options);
}
