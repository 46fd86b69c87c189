/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of modules: making, building, walking, running. */
#include <light/module.h>

#include "autograd/op.h"
#include "base/memory.h"
#include "nn/flat.h"
#include "nn/parameter.h"

#include <stdio.h>
#include <string.h>

/* Memory of light_module_calloc. */
struct light_module_block {
    struct light_module_block *next;
    max_align_t data[];
};

/* ---- vtables ------------------------------------------------------------ */

static light_status check_vtable(const light_module_vtable *vtable)
{
    if (!vtable) return light_fail(LIGHT_ERR_ARGUMENT, "module: no vtable");
    if (vtable->size == 0)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "module: the vtable has size 0: begin it with LIGHT_MODULE(type)");
    if (vtable->size < offsetof(light_module_vtable, init))
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "module: the vtable says it has %zu bytes, which no version of liblight had: begin it with "
            "LIGHT_MODULE(type)",
            vtable->size);
    const char *name = vtable->name ? vtable->name : "module";
    if (vtable->size > sizeof *vtable)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "%s: compiled for a newer liblight (a vtable of %zu bytes; this one knows %zu)",
                          name, vtable->size, sizeof *vtable);
    if (!vtable->name || vtable->instance_size < sizeof(light_module))
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "%s: name or instance_size is wrong: begin the vtable with LIGHT_MODULE(type), and the type "
            "with a light_module",
            name);
    return LIGHT_OK;
}

/* Hooks that an older program does not know become NULL. */
static light_status set_vtable(light_module *module, const light_module_vtable *vtable)
{
    LIGHT_TRY(check_vtable(vtable));
    module->vtable = vtable;
    if (vtable->size == sizeof *vtable) return LIGHT_OK;
    module->widened = light_calloc(1, sizeof *module->widened);
    if (!module->widened) {
        module->vtable = NULL;
        return LIGHT_ERR_MEMORY;
    }
    memcpy(module->widened, vtable, vtable->size);
    module->widened->size = sizeof *vtable;
    module->vtable = module->widened;
    return LIGHT_OK;
}

static void drop_vtable(light_module *module)
{
    light_free(module->widened);
    module->widened = NULL;
    module->vtable = NULL;
}

/* ---- making ------------------------------------------------------------- */

static light_status prepare(light_module *module, const light_module_vtable *vtable)
{
    LIGHT_TRY(set_vtable(module, vtable));
    module->training = true;
    if (vtable->options) light_options_default(vtable->options, module);
    return LIGHT_OK;
}

light_module *light_module_new(const light_module_vtable *vtable)
{
    if (check_vtable(vtable) != LIGHT_OK) return NULL;
    light_module *module = light_calloc(1, vtable->instance_size);
    if (!module) return NULL;
    if (prepare(module, vtable) != LIGHT_OK) {
        light_free(module);
        return NULL;
    }
    module->owned = true;
    return module;
}

static light_status run_init(light_module *module)
{
    if (module->vtable->init) LIGHT_TRY(module->vtable->init(module));
    module->built = true;
    return LIGHT_OK;
}

static light_module *child_named(const light_module *parent, const char *name, size_t length)
{
    for (light_module *c = parent->first_child; c; c = c->next)
        if (strlen(c->name) == length && memcmp(c->name, name, length) == 0) return c;
    return NULL;
}

static light_status link_child(light_module *child, light_module *parent, const char *name)
{
    LIGHT_TRY(light_check_name(parent, name));
    if (child_named(parent, name, strlen(name)))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: has a child '%s' already", light_module_label(parent),
                          name);
    child->name = light_strdup(name);
    child->path = light_child_path(parent, name);
    if (!child->name || !child->path) {
        light_free((char *)child->name);
        light_free((char *)child->path);
        child->name = child->path = NULL;
        return LIGHT_ERR_MEMORY;
    }
    child->parent = parent;
    if (parent->last_child)
        parent->last_child->next = child;
    else
        parent->first_child = child;
    parent->last_child = child;
    return LIGHT_OK;
}

light_status light_module_add(light_module *child, const light_module_vtable *vtable, light_module *parent,
                              const char *name)
{
    if (child->vtable)
        return light_fail(LIGHT_ERR_STATE, "%s: is in use already (children must be zeroed structs)",
                          child->path ? child->path : child->vtable->name);
    if (!parent) return prepare(child, vtable);
    if (!parent->path)
        return light_fail(LIGHT_ERR_STATE,
                          "%s: add children in the module's init, which light_module_build runs",
                          light_module_label(parent));

    char index[16];
    if (!name) {
        int n = 0;
        for (light_module *c = parent->first_child; c; c = c->next) n++;
        snprintf(index, sizeof index, "%d", n);
        name = index;
    }
    LIGHT_TRY(prepare(child, vtable));
    light_status status = link_child(child, parent, name);
    if (status != LIGHT_OK) {
        drop_vtable(child);
        return status;
    }
    child->seed = parent->seed;
    child->dtype = parent->dtype;
    child->training = parent->training;
    return run_init(child);
}

light_status light_module_build(light_module *module, uint64_t seed)
{
    if (module->flat) return LIGHT_OK;
    if (!module->vtable) return light_fail(LIGHT_ERR_ARGUMENT, "build: the module has no vtable");
    if (module->parent)
        return light_fail(LIGHT_ERR_STATE, "%s: is part of a tree; build its root",
                          light_module_label(module));
    if (module->path)
        return light_fail(LIGHT_ERR_STATE, "%s: building it has failed before", light_module_label(module));
    if (!module->name) module->name = light_strdup(""); /* there when an earlier call ran out of memory */
    module->path = light_strdup("");
    if (!module->name || !module->path) return LIGHT_ERR_MEMORY;
    module->seed = seed;
    LIGHT_TRY(run_init(module));
    return light_flat_new(&module->flat, module);
}

void *light_module_calloc(light_module *self, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct light_module_block), &bytes)) {
        light_fail(LIGHT_ERR_MEMORY, "%s: %zu times %zu bytes are too many", light_module_label(self), count,
                   size);
        return NULL;
    }
    struct light_module_block *block = light_calloc(1, bytes);
    if (!block) return NULL;
    block->next = self->blocks;
    self->blocks = block;
    return block->data;
}

/* ---- freeing ------------------------------------------------------------ */

/* Children first: their structs may lie in memory that their parent frees. */
static void free_tree(light_module *module)
{
    light_module *next;
    for (light_module *c = module->first_child; c; c = next) {
        next = c->next;
        free_tree(c);
    }
    if (module->vtable && module->vtable->free) module->vtable->free(module);
    light_parameters_free(module);
    light_flat_free(module->flat);
    struct light_module_block *after;
    for (struct light_module_block *b = module->blocks; b; b = after) {
        after = b->next;
        light_free(b);
    }
    light_free((char *)module->name);
    light_free((char *)module->path);
    drop_vtable(module);
    bool owned = module->owned;
    memset(module, 0, sizeof *module);
    if (owned) light_free(module);
}

void light_module_free(light_module *module)
{
    if (!module) return;
    light_module *parent = module->parent;
    if (parent) {
        light_module *before = NULL;
        for (light_module *c = parent->first_child; c != module; c = c->next) before = c;
        if (before)
            before->next = module->next;
        else
            parent->first_child = module->next;
        if (parent->last_child == module) parent->last_child = before;
    }
    free_tree(module);
}

/* ---- walking ------------------------------------------------------------ */

void light_module_shard_unit(light_module *module)
{
    module->shard_unit = true;
}

light_module *light_next_module(light_module *root, light_module *after)
{
    if (!after) return root;
    if (after->first_child) return after->first_child;
    while (after != root && !after->next) after = after->parent;
    return after == root ? NULL : after->next;
}

light_module *light_find_module(light_module *root, const char *path)
{
    while (root && *path) {
        size_t length = strcspn(path, ".");
        root = child_named(root, path, length);
        path += length;
        if (*path == '.') path++;
    }
    return root;
}

static void set_training(light_module *root, bool training)
{
    for (light_module *m = root; m; m = light_next_module(root, m)) m->training = training;
}

void light_train(light_module *module)
{
    set_training(module, true);
}

void light_eval(light_module *module)
{
    set_training(module, false);
}

/* ---- running ------------------------------------------------------------ */

bool light_module_enter(light_step *s, const light_module *module, light_module_scope *scope)
{
    if (!module->vtable || !module->built) {
        light_step_fail(s, LIGHT_ERR_STATE,
                        "%s: has not been built: its init or light_module_build is missing",
                        module->vtable ? light_module_label(module) : "forward: the module");
        return false;
    }
    scope->path = light_step_set_path(s, module->path);
    scope->training = light_step_set_training(s, module->training);
    return true;
}

void light_module_leave(light_step *s, const light_module_scope *scope)
{
    light_step_set_path(s, scope->path);
    light_step_set_training(s, scope->training);
}

light_tensor *light_forward(light_step *s, light_module *module, light_tensor *x)
{
    light_module_scope scope;
    if (!x || !light_module_enter(s, module, &scope)) return NULL;
    light_tensor *y = module->vtable->forward
                          ? module->vtable->forward(module, s, x)
                          : light_step_fail(s, LIGHT_ERR_UNSUPPORTED, "%s: has no forward of one tensor",
                                            module->vtable->name);
    light_module_leave(s, &scope);
    return y;
}
