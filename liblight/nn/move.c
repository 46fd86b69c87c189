/* SPDX-License-Identifier: Apache-2.0 */
/* light_module_to: first a copy of all memory on the other device, then, when nothing can fail any more, the tensors go
 * over to it. */
#include "nn/flat.h"
#include "nn/parameter.h"

#include "base/memory.h"
#include "tensor/device.h"

#include <string.h>

typedef struct move {
    light_device *device;
    struct {
        light_storage *from, *to;
    } * storages;
    int64_t n;
} move;

/* ---- copying ------------------------------------------------------------ */

/* Between two devices whose memory the host cannot touch. */
static light_status copy_by_way_of_the_host(light_storage *to, const light_storage *from)
{
    void *host = light_alloc(from->bytes);
    if (!host) return LIGHT_ERR_MEMORY;
    light_status status =
        from->device->backend->copy(from->device, host, from->data, from->bytes, LIGHT_COPY_DEVICE_TO_HOST);
    if (status == LIGHT_OK)
        status =
            to->device->backend->copy(to->device, to->data, host, from->bytes, LIGHT_COPY_HOST_TO_DEVICE);
    light_free(host);
    return status;
}

static light_status copy_bytes(light_storage *to, const light_storage *from)
{
    light_device *a = from->device, *b = to->device;
    if (from->bytes == 0) return LIGHT_OK;
    if (a->is_host && b->is_host) {
        memcpy(to->data, from->data, from->bytes);
        return LIGHT_OK;
    }
    if (b->is_host) return a->backend->copy(a, to->data, from->data, from->bytes, LIGHT_COPY_DEVICE_TO_HOST);
    if (a->is_host) return b->backend->copy(b, to->data, from->data, from->bytes, LIGHT_COPY_HOST_TO_DEVICE);
    return copy_by_way_of_the_host(to, from);
}

static light_storage *find(const move *m, const light_storage *from)
{
    for (int64_t i = 0; i < m->n; i++)
        if (m->storages[i].from == from) return m->storages[i].to;
    return NULL;
}

static light_status add(move *m, const light_tensor *t)
{
    if (!t || t->storage->device == m->device || find(m, t->storage)) return LIGHT_OK;
    light_storage *to;
    LIGHT_TRY(light_storage_new(&to, t->storage->bytes, m->device));
    to->version = t->storage->version + 1; /* what was made of it or recorded with it is out of date */
    to->lowered = t->storage->lowered;
    m->storages[m->n].from = t->storage;
    m->storages[m->n++].to = to;
    return copy_bytes(to, t->storage);
}

static light_status copy_all(move *m, light_module *root)
{
    int64_t most = 0;
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p))
        most += 3;
    m->storages = light_calloc((size_t)most, sizeof *m->storages);
    if (!m->storages) return LIGHT_ERR_MEMORY;
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) {
        LIGHT_TRY(add(m, p->tensor));
        LIGHT_TRY(add(m, p->tensor->grad));
        LIGHT_TRY(add(m, p->tensor->lowered));
    }
    return LIGHT_OK;
}

/* ---- going over --------------------------------------------------------- */

static void go_over(const move *m, light_tensor *t)
{
    light_storage *to = t ? find(m, t->storage) : NULL;
    if (!to) return;
    t->data = (char *)to->data + (t->data - (char *)t->storage->data);
    t->storage = to;
}

static void replace(const move *m, light_storage **storage)
{
    light_storage *to = find(m, *storage);
    if (to) *storage = to;
}

static void go_over_all(const move *m, light_module *root)
{
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) {
        go_over(m, p->tensor);
        go_over(m, p->tensor->grad);
        go_over(m, p->tensor->lowered);
    }
    for (int i = 0; i < root->flat->n; i++) {
        light_flat_buffer *b = &root->flat->buffers[i];
        replace(m, &b->values);
        replace(m, &b->grads);
        replace(m, &b->lowered.storage);
    }
}

light_status light_module_to(light_module *module, light_device *device)
{
    if (!module) return light_fail(LIGHT_ERR_ARGUMENT, "to: no module");
    if (module->parent)
        return light_fail(LIGHT_ERR_STATE, "%s: is part of a tree, which is on one device; move its root",
                          light_module_label(module));
    if (!module->flat)
        return light_fail(LIGHT_ERR_STATE, "%s: has not been built; light_module_build comes before to",
                          module->vtable ? light_module_label(module) : "to: the module");
    move m = {.device = device ? device : light_default_device()};
    light_status status = copy_all(&m, module);
    if (status == LIGHT_OK) go_over_all(&m, module);
    for (int64_t i = 0; i < m.n; i++)
        light_storage_free(status == LIGHT_OK ? m.storages[i].from : m.storages[i].to);
    light_free(m.storages);
    if (status != LIGHT_OK)
        return light_fail_in(status, "%s: to %s", light_module_label(module), m.device->name);
    return LIGHT_OK;
}
