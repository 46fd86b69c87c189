/* SPDX-License-Identifier: Apache-2.0 */
/* Batches as tensors of a step: on the CPU the slot's own memory, on another device a copy. */
#include "autograd/op.h"
#include "data/loader.h"

#include "data/dataset.h"

static light_tensor *to_step(light_step *s, const light_field *field, void *data)
{
    light_device *device = light_step_device(s);
    light_spec spec = {.dtype = field->dtype, .shape = field->shape};

    if (device->is_host) return light_step_wrap(s, spec, data);
    light_tensor *t = light_step_tensor(s, spec);
    if (t && device->backend->copy(device, light_data(t), data, light_field_bytes(field),
                                   LIGHT_COPY_HOST_TO_DEVICE) != LIGHT_OK) {
        return NULL;
    }
    return t;
}

light_status light_loader_next(light_loader *loader, light_step *s, light_batch *out)
{
    light_host_batch batch;

    LIGHT_TRY(light_loader_next_host(loader, &batch, out));
    for (int f = 0; f < batch.num_fields; f++) {
        out->fields[f] = to_step(s, &batch.fields[f], batch.data[f]);
        if (!out->fields[f]) return LIGHT_ERR_MEMORY;
    }
    return LIGHT_OK;
}
