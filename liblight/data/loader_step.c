/* SPDX-License-Identifier: Apache-2.0 */
/* Batches as tensors of a step: on the CPU the slot's own memory, on another device a copy that is on its way. */
#include "autograd/op.h"
#include "data/dataset.h"
#include "data/loader.h"

static light_status to_step(light_step *s, const light_field *field, void *data, light_tensor **out)
{
    light_device *device = light_step_device(s);
    light_spec spec = {.dtype = field->dtype, .shape = field->shape};

    if (!device->is_host) LIGHT_TRY(device->backend->upload(device, data, light_field_bytes(field), &data));
    *out = light_step_wrap(s, spec, data);
    return *out ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

light_status light_loader_next(light_loader *loader, light_step *s, light_batch *out)
{
    light_host_batch batch;
    light_device *device = light_step_device(s);

    LIGHT_TRY(light_loader_next_host(loader, &batch, out));
    if (!device->is_host) LIGHT_TRY(device->backend->upload_begin(device));
    for (int f = 0; f < batch.num_fields; f++)
        LIGHT_TRY(to_step(s, &batch.fields[f], batch.data[f], &out->fields[f]));
    return LIGHT_OK;
}
