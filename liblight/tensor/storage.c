/* SPDX-License-Identifier: Apache-2.0 */
/* Lasting memory on a device. */
#include "tensor/device.h"

#include "base/memory.h"

light_status light_storage_new(light_storage **out, size_t bytes, light_device *device)
{
    light_storage *storage = light_calloc(1, sizeof *storage);
    if (!storage) return LIGHT_ERR_MEMORY;
    light_status status = device->backend->allocate(device, bytes ? bytes : 1, &storage->data);
    if (status != LIGHT_OK) {
        light_free(storage);
        return status;
    }
    storage->bytes = bytes;
    storage->device = device;
    storage->refs = 1;
    storage->block = -1;
    *out = storage;
    return LIGHT_OK;
}

void light_storage_free(light_storage *storage)
{
    if (!storage) return;
    if (!storage->borrowed)
        storage->device->backend->release(storage->device, storage->data,
                                          storage->bytes ? storage->bytes : 1);
    light_free(storage);
}
