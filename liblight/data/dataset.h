/* SPDX-License-Identifier: Apache-2.0 */
/* What loaders, views and formats share about datasets. */
#ifndef LIGHT_DATA_DATASET_H
#define LIGHT_DATA_DATASET_H

#include <light/data.h>

/* A hook of a vtable that may come from a program built when the vtable was shorter. */
#define LIGHT_HOOK(vtable, hook)                                                                             \
    ((vtable)->size >= offsetof(__typeof__(*(vtable)), hook) + sizeof((vtable)->hook) ? (vtable)->hook : NULL)

/* Bytes of one sample's field. */
size_t light_field_bytes(const light_field *field);
/* The same fields in number, dtype and shape. */
bool light_fields_equal(const light_field *a, int num_a, const light_field *b, int num_b);
/* "u8 [1, 28, 28], i64 []" into `text`. */
char *light_fields_format(const light_field *fields, int num_fields, char *text, size_t bytes);

bool light_dataset_is_stream(const light_dataset *dataset);
/* n samples, one behind the other for each field. The indices are checked against the length. */
light_status light_dataset_fetch(light_dataset *dataset, const int64_t *indices, int64_t n, void *const *to);

/* Takes memory over from light_alloc: arrays[f] is freed with the dataset, also when this fails. */
light_status light_memory_dataset_own(light_dataset **out, const light_field *fields, int num_fields,
                                      int64_t n, void *const *arrays);

/* While a datamodule's hook runs in this thread, the datasets it opens belong to the datamodule. */
typedef struct light_data_scope {
    light_datamodule *data; /* NULL: none */
    int stage;              /* 0 outside setup */
    light_status failure;   /* of light_loader_new in this scope */
} light_data_scope;
light_data_scope *light_data_scope_current(void);

#endif
