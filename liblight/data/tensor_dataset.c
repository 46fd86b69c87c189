/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors as a dataset: sample i is the ith row of each. */
#include "data/dataset.h"

#include "tensor/device.h"

#include <inttypes.h>

/* Sets the field and the address of tensor `i`; the first tensor says how many samples there are. */
static light_status add_tensor(light_tensor *t, int i, light_field *field, const void **array, int64_t *n)
{
    if (!t || light_ndim(t) < 1) {
        return light_fail(LIGHT_ERR_SHAPE,
                          "tensor dataset: tensor %d has no first dimension to take samples from", i);
    }
    if (!t->storage->device->is_host || !light_is_contiguous(t)) {
        return light_fail(LIGHT_ERR_ARGUMENT, "tensor dataset: tensor %d must be contiguous and on the CPU",
                          i);
    }
    if (i == 0) *n = light_dim(t, 0);
    if (light_dim(t, 0) != *n) {
        return light_fail(LIGHT_ERR_SHAPE,
                          "tensor dataset: tensor %d has %" PRId64 " samples, the first one has %" PRId64, i,
                          light_dim(t, 0), *n);
    }
    *field = (light_field){.dtype = light_dtype_of(t), .shape.ndim = light_ndim(t) - 1};
    for (int d = 1; d < light_ndim(t); d++) field->shape.dims[d - 1] = light_dim(t, d);
    *array = light_data(t);
    return LIGHT_OK;
}

light_status light_tensor_dataset_open(light_dataset **out, light_tensor *const *tensors, int n)
{
    light_field fields[LIGHT_MAX_FIELDS];
    const void *arrays[LIGHT_MAX_FIELDS];
    int64_t samples = 0;

    *out = NULL;
    if (n < 1 || n > LIGHT_MAX_FIELDS) {
        return light_fail(LIGHT_ERR_ARGUMENT, "tensor dataset: 1 to %d tensors are possible, not %d",
                          LIGHT_MAX_FIELDS, n);
    }
    for (int i = 0; i < n; i++) LIGHT_TRY(add_tensor(tensors[i], i, &fields[i], &arrays[i], &samples));
    return light_memory_dataset_open(out, fields, n, samples, arrays);
}
