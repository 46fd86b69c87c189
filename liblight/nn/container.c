/* SPDX-License-Identifier: Apache-2.0 */
/* light_sequential, light_module_list, and the small modules that live in them: functions and dropout. */
#include "nn/modules.h"

/* ---- dropout ------------------------------------------------------------ */

static light_status dropout_init(light_module *self)
{
    light_dropout_layer *m = (light_dropout_layer *)self;
    m->options.p = light_or_default(m->options.p, 0.5);
    return light_nn_probability(self, "p", m->options.p);
}

static light_tensor *dropout_forward(light_module *self, light_step *s, light_tensor *x)
{
    return light_dropout(s, x, ((light_dropout_layer *)self)->options.p);
}

static const light_module_vtable dropout_vtable = {
    LIGHT_NN_VTABLE(light_dropout_layer, "dropout"),
    .init = dropout_init,
    .forward = dropout_forward,
};

light_status light_dropout_layer_init_with(light_dropout_layer *module, light_module *parent,
                                           const char *name, const light_dropout_layer_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &dropout_vtable, parent, name);
}

/* ---- functions ---------------------------------------------------------- */

typedef struct function_module {
    light_module base;
    light_tensor *(*function)(light_step *, light_tensor *);
} function_module;

static light_tensor *function_forward(light_module *self, light_step *s, light_tensor *x)
{
    return ((function_module *)self)->function(s, x);
}

static const light_module_vtable function_vtable = {
    LIGHT_NN_VTABLE(function_module, "function"),
    .forward = function_forward,
};

/* ---- sequential --------------------------------------------------------- */

static light_tensor *sequential_forward(light_module *self, light_step *s, light_tensor *x)
{
    for (light_module *c = self->first_child; c; c = c->next) x = light_forward(s, c, x);
    return x;
}

static const light_module_vtable sequential_vtable = {
    LIGHT_NN_VTABLE(light_sequential, "sequential"),
    .forward = sequential_forward,
};

light_status light_sequential_init(light_sequential *module, light_module *parent, const char *name)
{
    return light_module_add(&module->base, &sequential_vtable, parent, name);
}

light_status light_sequential_add_function(light_sequential *module,
                                           light_tensor *(*function)(light_step *, light_tensor *))
{
    function_module *child = light_module_calloc(&module->base, 1, sizeof *child);
    if (!child) return LIGHT_ERR_MEMORY;
    child->function = function;
    return light_module_add(&child->base, &function_vtable, &module->base, NULL);
}

/* ---- list --------------------------------------------------------------- */

static const light_module_vtable list_vtable = {LIGHT_NN_VTABLE(light_module_list, "module_list")};

light_status light_module_list_init(light_module_list *module, light_module *parent, const char *name)
{
    return light_module_add(&module->base, &list_vtable, parent, name);
}

int light_module_list_length(const light_module_list *module)
{
    int n = 0;
    for (const light_module *c = module->base.first_child; c; c = c->next) n++;
    return n;
}

light_module *light_module_list_at(const light_module_list *module, int index)
{
    if (index < 0) return NULL;
    light_module *c = module->base.first_child;
    while (c && index-- > 0) c = c->next;
    return c;
}
