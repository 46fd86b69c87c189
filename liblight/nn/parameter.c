/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters and buffers: making, tying, finding, walking, freezing. */
#include "nn/parameter.h"

#include "base/memory.h"
#include "base/string.h"
#include "nn/flat.h"
#include "tensor/tensor.h"

#include <string.h>

const char *light_module_label(const light_module *module)
{
    return module->path && module->path[0] ? module->path : module->vtable->name;
}

char *light_child_path(const light_module *parent, const char *name)
{
    return parent->path && parent->path[0] ? light_format("%s.%s", parent->path, name) : light_strdup(name);
}

light_status light_check_name(const light_module *owner, const char *name)
{
    if (!name || !name[0])
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: a parameter or child needs a name",
                          light_module_label(owner));
    if (strpbrk(name, "./"))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: '%s' is no name: dots and slashes separate names",
                          light_module_label(owner), name);
    return LIGHT_OK;
}

/* ---- records ------------------------------------------------------------ */

static light_parameter *named(const light_module *module, const char *name, size_t length)
{
    for (light_parameter *p = module->first_parameter; p; p = p->next)
        if (strlen(p->name) == length && memcmp(p->name, name, length) == 0) return p;
    return NULL;
}

static void record_free(light_parameter *p)
{
    if (!p) return;
    if (!p->tied_to) light_tensor_free(p->tensor);
    light_free((char *)p->name);
    light_free((char *)p->path);
    light_free(p);
}

void light_parameters_free(light_module *module)
{
    light_parameter *next;
    for (light_parameter *p = module->first_parameter; p; p = next) {
        next = p->next;
        record_free(p);
    }
    module->first_parameter = module->last_parameter = NULL;
}

static void append(light_module *module, light_parameter *p)
{
    if (module->last_parameter)
        module->last_parameter->next = p;
    else
        module->first_parameter = p;
    module->last_parameter = p;
}

static void unlink_record(light_module *module, light_parameter *p)
{
    light_parameter *before = NULL;
    for (light_parameter *q = module->first_parameter; q != p; q = q->next) before = q;
    if (before)
        before->next = p->next;
    else
        module->first_parameter = p->next;
    if (module->last_parameter == p) module->last_parameter = before;
}

static light_parameter *record_new(light_module *module, const char *name)
{
    light_parameter *p = light_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->name = light_strdup(name);
    p->path = light_child_path(module, name);
    p->module = module;
    p->persistent = true;
    if (p->name && p->path) return p;
    record_free(p);
    return NULL;
}

static light_module *root_of(light_module *module)
{
    while (module->parent) module = module->parent;
    return module;
}

/* ---- making ------------------------------------------------------------- */

static light_status add(light_module *self, light_tensor **slot, const char *name, light_shape shape,
                        light_dtype dtype, light_init init, bool is_buffer, bool persistent)
{
    if (!self->path)
        return light_fail(LIGHT_ERR_STATE, "%s: add '%s' in the module's init, which light_module_build runs",
                          light_module_label(self), name ? name : "");
    LIGHT_TRY(light_check_name(self, name));
    if (named(self, name, strlen(name)))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: has a parameter or buffer '%s' already",
                          light_module_label(self), name);
    light_parameter *p = record_new(self, name);
    if (!p) return LIGHT_ERR_MEMORY;
    p->is_buffer = is_buffer;
    p->persistent = persistent;
    p->own_end = light_shape_numel(shape);
    p->init = init;
    light_status status = light_tensor_new(&p->tensor, shape, dtype, NULL);
    if (status == LIGHT_OK) status = light_init_fill(p->tensor, init, self->seed, p->path);
    if (status != LIGHT_OK) {
        light_fail_in(status, "%s", p->path);
        record_free(p);
        return status;
    }
    p->tensor->grad_fresh = true;
    light_set_requires_grad(p->tensor, !is_buffer);
    append(self, p);
    *slot = p->tensor;
    return LIGHT_OK;
}

light_status light_add_parameter(light_module *self, light_tensor **slot, const char *name, light_shape shape,
                                 light_init init)
{
    light_dtype dtype = self->dtype ? self->dtype : light_default_dtype();
    if (!light_dtype_is_floating(dtype))
        return light_fail(LIGHT_ERR_DTYPE, "%s: parameters of dtype %s cannot be trained",
                          light_module_label(self), light_dtype_name(dtype));
    return add(self, slot, name, shape, dtype, init, false, true);
}

light_status light_add_buffer(light_module *self, light_tensor **slot, const char *name, light_shape shape,
                              light_dtype dtype, light_init init, bool persistent)
{
    return add(self, slot, name, shape, dtype ? dtype : light_default_dtype(), init, true, persistent);
}

light_status light_init_parameter(light_module *module, const char *name, light_init init)
{
    light_parameter *p = named(module, name, strlen(name));
    if (!p)
        return light_fail(LIGHT_ERR_NOT_FOUND, "%s: has no parameter '%s'", light_module_label(module), name);
    if (p->tied_to) p = p->tied_to;
    p->init = init;
    return light_init_fill(p->tensor, init, module->seed, p->path);
}

/* ---- walking ------------------------------------------------------------ */

/* Aliases of tied parameters included. */
static light_parameter *next_record(light_module *root, light_parameter *after)
{
    if (after && after->next) return after->next;
    for (light_module *m = after ? light_next_module(root, after->module) : root; m;
         m = light_next_module(root, m))
        if (m->first_parameter) return m->first_parameter;
    return NULL;
}

light_parameter *light_next_parameter(light_module *root, light_parameter *after)
{
    light_parameter *p = next_record(root, after);
    while (p && p->tied_to) p = next_record(root, p);
    return p;
}

light_parameter *light_find_parameter(light_module *root, const char *path)
{
    const char *dot = strrchr(path, '.');
    light_module *owner = root;
    if (dot) {
        char *prefix = light_strndup(path, (size_t)(dot - path));
        if (!prefix) return NULL;
        owner = light_find_module(root, prefix);
        light_free(prefix);
        path = dot + 1;
    }
    light_parameter *p = owner ? named(owner, path, strlen(path)) : NULL;
    return p && p->tied_to ? p->tied_to : p;
}

int64_t light_count_parameters(light_module *root, bool trainable_only)
{
    int64_t count = 0;
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p))
        if (!p->is_buffer && (!trainable_only || light_requires_grad(p->tensor)))
            count += light_numel(p->tensor);
    return count;
}

static void set_requires_grad(light_module *root, bool requires_grad)
{
    for (light_parameter *p = next_record(root, NULL); p; p = next_record(root, p))
        if (!p->is_buffer) light_set_requires_grad(p->tensor, requires_grad);
}

void light_freeze(light_module *module)
{
    set_requires_grad(module, false);
}

void light_unfreeze(light_module *module)
{
    set_requires_grad(module, true);
}

/* ---- tying -------------------------------------------------------------- */

light_status light_tie_parameter(light_module *self, light_tensor **slot, const char *name, light_tensor *of)
{
    LIGHT_TRY(light_check_name(self, name));
    light_module *root = root_of(self);
    if (root->flat)
        return light_fail(LIGHT_ERR_STATE, "%s: tie '%s' in init; the tree has been built",
                          light_module_label(self), name);
    light_parameter *original = light_next_parameter(root, NULL);
    while (original && original->tensor != of) original = light_next_parameter(root, original);
    if (!original || original->is_buffer)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s: '%s' cannot be tied: that tensor is no parameter of this tree",
                          light_module_label(self), name);

    light_parameter *old = named(self, name, strlen(name));
    if (old == original) return LIGHT_OK;
    if (old && !light_shape_equal(light_shape_of(old->tensor), light_shape_of(of))) {
        char have[256], want[256];
        return light_fail(LIGHT_ERR_SHAPE, "%s: shape %s cannot be tied to %s of shape %s", old->path,
                          light_shape_format(light_shape_of(old->tensor), have, sizeof have), original->path,
                          light_shape_format(light_shape_of(of), want, sizeof want));
    }
    for (light_parameter *p = next_record(root, NULL); p && old; p = next_record(root, p))
        if (p->tied_to == old)
            return light_fail(LIGHT_ERR_STATE, "%s: %s is tied to it already", old->path, p->path);

    light_parameter *alias = record_new(self, name);
    if (!alias) return LIGHT_ERR_MEMORY;
    alias->tensor = of;
    alias->tied_to = original;
    alias->own_end = original->own_end;
    if (old) {
        unlink_record(self, old);
        record_free(old);
    }
    append(self, alias);
    *slot = of;
    return LIGHT_OK;
}

/* ---- parts -------------------------------------------------------------- */

static light_part part_of(const light_parameter *p, light_storage *storage, char *first, int64_t begin,
                          int64_t end)
{
    light_part part = {.tensor = {.storage = storage, .data = first, .dtype = p->tensor->dtype},
                       .begin = begin};
    bool whole = end - begin == p->tensor->numel;
    light_tensor_set_shape(&part.tensor, whole ? light_shape_of(p->tensor) : LIGHT_SHAPE(end - begin));
    return part;
}

/* Of `t`, which has all elements, or of `storage`, which has the own ones. */
static light_part own_part(const light_parameter *p, const light_tensor *t, light_storage *storage)
{
    size_t size = light_dtype_size((light_dtype)p->tensor->dtype);
    char *first = storage ? (char *)storage->data + p->shard->offset : t->data + (size_t)p->own_begin * size;
    return part_of(p, storage ? storage : t->storage, first, p->own_begin, p->own_end);
}

light_part light_parameter_own(const light_parameter *p)
{
    return own_part(p, p->tensor, p->shard ? p->shard->values : NULL);
}

light_part light_parameter_own_grad(const light_parameter *p)
{
    return own_part(p, p->tensor->grad, p->shard ? p->shard->grads : NULL);
}

/* Smaller parts are saved by one process, not in pieces. */
#define LEAST_SAVED_BYTES 65536

/* Spreads small parameters over the processes. */
static int copy_of_small(const light_parameter *p, int copies)
{
    uint32_t sum = 0;
    for (const char *c = p->path; *c; c++) sum = sum * 31 + (unsigned char)*c;
    return (int)(sum % (uint32_t)copies);
}

light_part light_part_to_save(const light_parameter *p, light_part part)
{
    const light_module *root = root_of(p->module);
    const light_sharing *sharing = root->flat ? root->flat->sharing : NULL;
    int64_t n = part.tensor.numel, size = (int64_t)light_dtype_size((light_dtype)part.tensor.dtype), from, to;
    if (!sharing || (sharing->copies <= 1 && !p->is_buffer)) return part;
    if (p->is_buffer) {
        from = 0;
        to = sharing->first ? n : 0;
    } else if (n * size < LEAST_SAVED_BYTES) {
        from = 0;
        to = copy_of_small(p, sharing->copies) == sharing->copy ? n : 0;
    } else {
        from = n * sharing->copy / sharing->copies;
        to = n * (sharing->copy + 1) / sharing->copies;
    }
    if (from == 0 && to == n) return part;
    part.tensor.data += from * size;
    part.begin += from;
    light_tensor_set_shape(&part.tensor, LIGHT_SHAPE(to - from));
    return part;
}

light_part light_parameter_held(const light_parameter *p)
{
    if (p->shard && p->shard->values) return light_parameter_own(p);
    return part_of(p, p->tensor->storage, p->tensor->data, 0, p->tensor->numel);
}

/* ---- sets --------------------------------------------------------------- */

light_parameter_set light_parameters(light_module *root)
{
    return (light_parameter_set){.root = root};
}

light_parameter_set light_parameters_where(light_module *root,
                                           bool (*accepts)(const light_parameter *, void *), void *user)
{
    return (light_parameter_set){.root = root, .accepts = accepts, .user = user};
}

light_parameter *light_parameter_set_next(light_parameter_set set, light_parameter *after)
{
    if (!set.root) return NULL;
    light_parameter *p = light_next_parameter(set.root, after);
    while (p && (p->is_buffer || (set.accepts && !set.accepts(p, set.user))))
        p = light_next_parameter(set.root, p);
    return p;
}
