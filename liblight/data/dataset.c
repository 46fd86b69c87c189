/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets in general: their life, their fields, fetching samples. */
#include "data/dataset.h"

#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static _Thread_local light_data_scope scope;

light_data_scope *light_data_scope_current(void)
{
    return &scope;
}

light_status light_dataset_new(light_dataset **out, const light_dataset_vtable *vtable)
{
    *out = NULL;
    if (!vtable || vtable->size < offsetof(light_dataset_vtable, describe) ||
        vtable->instance_size < sizeof(light_dataset)) {
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "a dataset needs a vtable that begins with LIGHT_DATASET(type)");
    }
    bool map = LIGHT_HOOK(vtable, length) && (LIGHT_HOOK(vtable, get) || LIGHT_HOOK(vtable, get_batch));
    bool stream = LIGHT_HOOK(vtable, stream_next) && vtable->stream_size >= sizeof(light_stream);
    if (!LIGHT_HOOK(vtable, describe) || map == stream) {
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "dataset %s: the vtable needs describe, and either length with get or get_batch, or "
            "stream_next with a stream_size",
            vtable->name);
    }
    light_dataset *dataset = light_calloc(1, vtable->instance_size);
    if (!dataset) return LIGHT_ERR_MEMORY;
    dataset->vtable = vtable;
    dataset->references = 1;
    if (scope.data) {
        dataset->owner = scope.data;
        dataset->stage = scope.stage;
        dataset->next_owned = scope.data->datasets;
        scope.data->datasets = dataset;
    }
    *out = dataset;
    return LIGHT_OK;
}

light_dataset *light_dataset_retain(light_dataset *dataset)
{
    __atomic_fetch_add(&dataset->references, 1, __ATOMIC_RELAXED);
    return dataset;
}

void light_dataset_free(light_dataset *dataset)
{
    if (!dataset || __atomic_sub_fetch(&dataset->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    if (dataset->owner) {
        light_dataset **link = &dataset->owner->datasets;
        while (*link && *link != dataset) link = &(*link)->next_owned;
        if (*link) *link = dataset->next_owned;
    }
    if (LIGHT_HOOK(dataset->vtable, free)) dataset->vtable->free(dataset);
    light_free(dataset);
}

bool light_dataset_is_stream(const light_dataset *dataset)
{
    return !LIGHT_HOOK(dataset->vtable, length);
}

int64_t light_dataset_length(light_dataset *dataset)
{
    if (light_dataset_is_stream(dataset)) return -1;
    int64_t length = dataset->vtable->length(dataset);
    return length < 0 ? 0 : length;
}

size_t light_field_bytes(const light_field *field)
{
    return (size_t)light_shape_numel(field->shape) * light_dtype_size(field->dtype);
}

static light_status check_field(const light_dataset *dataset, const light_field *field, int i)
{
    if (field->dtype <= LIGHT_DTYPE_DEFAULT || field->dtype >= LIGHT_DTYPE_COUNT) {
        return light_fail(LIGHT_ERR_DTYPE, "dataset %s: field %d has no dtype", dataset->vtable->name, i);
    }
    /* One dim less than a tensor has: a batch puts one in front. */
    if (field->shape.ndim < 0 || field->shape.ndim >= LIGHT_MAX_DIMS) {
        return light_fail(LIGHT_ERR_SHAPE, "dataset %s: field %d has %d dims; a sample may have up to %d",
                          dataset->vtable->name, i, field->shape.ndim, LIGHT_MAX_DIMS - 1);
    }
    int64_t bytes = (int64_t)light_dtype_size(field->dtype);
    for (int d = 0; d < field->shape.ndim; d++) {
        if (field->shape.dims[d] <= 0 || __builtin_mul_overflow(bytes, field->shape.dims[d], &bytes)) {
            return light_fail(LIGHT_ERR_SHAPE, "dataset %s: dim %d of field %d is %" PRId64,
                              dataset->vtable->name, d, i, field->shape.dims[d]);
        }
    }
    return LIGHT_OK;
}

light_status light_dataset_describe(light_dataset *dataset, light_field fields[LIGHT_MAX_FIELDS],
                                    int *num_fields)
{
    memset(fields, 0, LIGHT_MAX_FIELDS * sizeof *fields);
    *num_fields = 0;
    LIGHT_TRY(dataset->vtable->describe(dataset, fields, num_fields));
    if (*num_fields < 1 || *num_fields > LIGHT_MAX_FIELDS) {
        return light_fail(LIGHT_ERR_ARGUMENT, "dataset %s has %d fields; 1 to %d are possible",
                          dataset->vtable->name, *num_fields, LIGHT_MAX_FIELDS);
    }
    for (int i = 0; i < *num_fields; i++) LIGHT_TRY(check_field(dataset, &fields[i], i));
    return LIGHT_OK;
}

static light_status get_each(light_dataset *dataset, const int64_t *indices, int64_t n, void *const *to)
{
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    void *at[LIGHT_MAX_FIELDS];

    LIGHT_TRY(light_dataset_describe(dataset, fields, &num_fields));
    for (int f = 0; f < num_fields; f++) at[f] = to[f];
    for (int64_t i = 0; i < n; i++) {
        light_status status = dataset->vtable->get(dataset, indices[i], at);
        if (status != LIGHT_OK) {
            return light_fail_in(status, "%s: sample %" PRId64, dataset->vtable->name, indices[i]);
        }
        for (int f = 0; f < num_fields; f++) at[f] = (char *)at[f] + light_field_bytes(&fields[f]);
    }
    return LIGHT_OK;
}

light_status light_dataset_fetch(light_dataset *dataset, const int64_t *indices, int64_t n, void *const *to)
{
    int64_t length = light_dataset_length(dataset);

    if (length < 0) {
        return light_fail(LIGHT_ERR_ARGUMENT, "dataset %s is a stream: its samples have no indices",
                          dataset->vtable->name);
    }
    for (int64_t i = 0; i < n; i++) {
        if (indices[i] < 0 || indices[i] >= length) {
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "dataset %s: there is no sample %" PRId64 ", it has %" PRId64,
                              dataset->vtable->name, indices[i], length);
        }
    }
    if (LIGHT_HOOK(dataset->vtable, get_batch)) return dataset->vtable->get_batch(dataset, indices, n, to);
    return get_each(dataset, indices, n, to);
}

light_status light_dataset_get(light_dataset *dataset, int64_t index, void *const *to)
{
    return light_dataset_fetch(dataset, &index, 1, to);
}

bool light_fields_equal(const light_field *a, int num_a, const light_field *b, int num_b)
{
    if (num_a != num_b) return false;
    for (int i = 0; i < num_a; i++) {
        if (a[i].dtype != b[i].dtype || !light_shape_equal(a[i].shape, b[i].shape)) return false;
    }
    return true;
}

char *light_fields_format(const light_field *fields, int num_fields, char *text, size_t bytes)
{
    char shape[256];
    size_t used = 0;

    text[0] = 0;
    for (int i = 0; i < num_fields && used < bytes; i++) {
        int more =
            snprintf(text + used, bytes - used, "%s%s %s", i ? ", " : "", light_dtype_name(fields[i].dtype),
                     light_shape_format(fields[i].shape, shape, sizeof shape));
        used += more > 0 ? (size_t)more : 0;
    }
    return text;
}
