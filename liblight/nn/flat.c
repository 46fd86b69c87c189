/* SPDX-License-Identifier: Apache-2.0 */
/* Moves a tree's parameters into flat memory, and gives them gradients at the same offsets. */
#include "nn/flat.h"

#include "base/memory.h"
#include "tensor/device.h"

static light_flat_buffer *buffer_for(light_flat *flat, light_dtype dtype)
{
    for (int i = 0; i < flat->n; i++)
        if (flat->buffers[i].dtype == dtype) return &flat->buffers[i];
    flat->buffers[flat->n] = (light_flat_buffer){.dtype = dtype};
    return &flat->buffers[flat->n++];
}

static size_t bytes_of(const light_parameter *p)
{
    return light_flat_padded((size_t)p->tensor->numel * light_dtype_size((light_dtype)p->tensor->dtype));
}

static light_status allocate(light_flat_buffer *b, light_device *device)
{
    b->entries = light_calloc((size_t)b->n, sizeof *b->entries);
    if (!b->entries) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_storage_new(&b->values, b->bytes, device));
    return light_storage_new(&b->grads, b->bytes, device);
}

static light_status move_in(light_flat_buffer *b, light_parameter *p)
{
    light_tensor *t = p->tensor;
    size_t offset = b->bytes;
    LIGHT_TRY(light_tensor_rebase(t, b->values, offset));
    light_tensor_free(t->grad);
    t->grad = NULL;
    t->grad_fresh = true;
    LIGHT_TRY(light_tensor_new_view(&t->grad, b->grads, offset, light_shape_of(t), b->dtype));
    b->entries[b->n++] = (light_flat_entry){.parameter = p, .offset = offset};
    b->bytes += bytes_of(p);
    return LIGHT_OK;
}

light_status light_flat_new(light_flat **out, light_module *root)
{
    light_flat *flat = light_calloc(1, sizeof *flat);
    if (!flat) return LIGHT_ERR_MEMORY;
    light_device *device = light_default_device();
    *out = flat; /* also when something below fails: parameters may have moved there already */

    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) {
        if (p->is_buffer) continue;
        light_flat_buffer *b = buffer_for(flat, (light_dtype)p->tensor->dtype);
        b->n++;
        b->bytes += bytes_of(p);
        device = p->tensor->storage->device;
    }
    for (int i = 0; i < flat->n; i++) {
        LIGHT_TRY(allocate(&flat->buffers[i], device));
        flat->buffers[i].n = 0;
        flat->buffers[i].bytes = 0;
    }
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p))
        if (!p->is_buffer) LIGHT_TRY(move_in(buffer_for(flat, (light_dtype)p->tensor->dtype), p));
    return LIGHT_OK;
}

static void drop_copy(light_flat_buffer *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        light_tensor *t = b->entries[i].parameter->tensor;
        light_tensor_free(t->lowered);
        t->lowered = NULL;
    }
    light_storage_free(b->lowered.storage);
    b->lowered = (light_lowered){0};
    b->values->lowered = NULL;
}

static light_status make_copy(light_flat_buffer *b, light_dtype dtype)
{
    size_t bytes = b->bytes / light_dtype_size(b->dtype) * light_dtype_size(dtype);
    LIGHT_TRY(light_storage_new(&b->lowered.storage, bytes, b->values->device));
    b->lowered.dtype = dtype;
    b->values->lowered = &b->lowered;
    for (int64_t i = 0; i < b->n; i++) LIGHT_TRY(light_tensor_lower(b->entries[i].parameter->tensor));
    return LIGHT_OK;
}

light_status light_flat_lower(light_flat *flat, light_dtype dtype)
{
    for (int i = 0; i < flat->n; i++) {
        light_flat_buffer *b = &flat->buffers[i];
        if (b->dtype != LIGHT_F32 || b->lowered.dtype == dtype) continue;
        drop_copy(b);
        light_status status = dtype ? make_copy(b, dtype) : LIGHT_OK;
        if (status != LIGHT_OK) {
            drop_copy(b);
            return status;
        }
    }
    return LIGHT_OK;
}

void light_flat_free(light_flat *flat)
{
    if (!flat) return;
    for (int i = 0; i < flat->n; i++) {
        light_storage_free(flat->buffers[i].lowered.storage);
        light_storage_free(flat->buffers[i].values);
        light_storage_free(flat->buffers[i].grads);
        light_free(flat->buffers[i].entries);
    }
    light_free(flat);
}
