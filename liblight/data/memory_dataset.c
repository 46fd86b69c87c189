/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets whose samples lie in memory, one array for each field. */
#include "data/dataset.h"

#include "base/memory.h"

#include <inttypes.h>
#include <string.h>

typedef struct {
    light_dataset base;
    light_field fields[LIGHT_MAX_FIELDS];
    size_t bytes[LIGHT_MAX_FIELDS]; /* of one sample */
    char *arrays[LIGHT_MAX_FIELDS];
    int num_fields;
    bool owned;
    int64_t n;
} memory_dataset;

static light_status describe(light_dataset *self, light_field *fields, int *num_fields)
{
    memory_dataset *d = (memory_dataset *)self;

    memcpy(fields, d->fields, sizeof d->fields);
    *num_fields = d->num_fields;
    return LIGHT_OK;
}

static int64_t length(light_dataset *self)
{
    return ((memory_dataset *)self)->n;
}

static light_status get_batch(light_dataset *self, const int64_t *indices, int64_t n, void *const *to)
{
    memory_dataset *d = (memory_dataset *)self;

    for (int f = 0; f < d->num_fields; f++) {
        const char *from = d->arrays[f];
        char *at = to[f];
        size_t bytes = d->bytes[f];
        if (bytes == sizeof(int64_t)) {
            /* Labels: a copy of a known size is one instruction. */
            for (int64_t i = 0; i < n; i++) memcpy(at + i * 8, from + indices[i] * 8, 8);
            continue;
        }
        for (int64_t i = 0; i < n; i++)
            memcpy(at + (size_t)i * bytes, from + (size_t)indices[i] * bytes, bytes);
    }
    return LIGHT_OK;
}

static void free_arrays(light_dataset *self)
{
    memory_dataset *d = (memory_dataset *)self;

    if (!d->owned) return;
    for (int f = 0; f < d->num_fields; f++) light_free(d->arrays[f]);
}

static const light_dataset_vtable memory_vtable = {
    LIGHT_DATASET(memory_dataset), .describe = describe, .free = free_arrays, .length = length,
    .get_batch = get_batch,
};

static light_status open_memory(light_dataset **out, const light_field *fields, int num_fields, int64_t n,
                                const void *const *arrays)
{
    light_dataset *base;

    *out = NULL;
    if (num_fields < 1 || num_fields > LIGHT_MAX_FIELDS || n < 0) {
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "a dataset in memory has 1 to %d fields and at least 0 samples, not %d and %" PRId64,
            LIGHT_MAX_FIELDS, num_fields, n);
    }
    LIGHT_TRY(light_dataset_new(&base, &memory_vtable));
    memory_dataset *d = (memory_dataset *)base;
    d->num_fields = num_fields;
    d->n = n;
    memcpy(d->fields, fields, (size_t)num_fields * sizeof *fields);
    for (int f = 0; f < num_fields; f++) d->arrays[f] = (char *)(uintptr_t)arrays[f];

    light_field checked[LIGHT_MAX_FIELDS];
    light_status status = light_dataset_describe(base, checked, &num_fields);
    if (status != LIGHT_OK) {
        light_dataset_free(base);
        return status;
    }
    for (int f = 0; f < num_fields; f++) d->bytes[f] = light_field_bytes(&fields[f]);
    *out = base;
    return LIGHT_OK;
}

light_status light_memory_dataset_open(light_dataset **out, const light_field *fields, int num_fields,
                                       int64_t n, const void *const *arrays)
{
    return open_memory(out, fields, num_fields, n, arrays);
}

light_status light_memory_dataset_own(light_dataset **out, const light_field *fields, int num_fields,
                                      int64_t n, void *const *arrays)
{
    light_status status = open_memory(out, fields, num_fields, n, (const void *const *)arrays);

    if (status == LIGHT_OK) {
        ((memory_dataset *)*out)->owned = true;
    } else {
        for (int f = 0; f < num_fields; f++) light_free(arrays[f]);
    }
    return status;
}
