/* SPDX-License-Identifier: Apache-2.0 */
/* How a loader runs a chain of transforms. */
#ifndef LIGHT_DATA_TRANSFORM_H
#define LIGHT_DATA_TRANSFORM_H

#include <light/data.h>

struct light_transform_kind {
    const char *name;
    bool in_place;
    /* Checks the step against the field, whose shape is [size, ...], and turns it into the field that comes out. */
    light_status (*plan)(const light_transform_step *step, light_field *field);
    /* `number` is the step's place in the chain: steps draw different random numbers. `to` is the field's data itself
     * when in_place. */
    light_status (*apply)(const light_transform_step *step, int number, light_host_batch *batch, void *to);
};

/* Checks the chain against the fields of the largest batch and turns them into the fields that come out. */
light_status light_transform_plan(const light_transform *transform, light_field *fields, int num_fields);

/* Where each field's data goes. Steps that change dtype or shape write to another place than they read from: the
 * last of them to `final`, the others to `scratch` in turn. */
typedef struct light_transform_memory {
    void *final[LIGHT_MAX_FIELDS];
    void *scratch[LIGHT_MAX_FIELDS][2];
} light_transform_memory;

/* Bytes of scratch that the chain needs for a field when a batch is as large as `fields` says: 0 when all is in
 * place, and then the field has to be fetched to its final memory. */
light_status light_transform_scratch(const light_transform *transform, const light_field *fields,
                                     int num_fields, size_t scratch[LIGHT_MAX_FIELDS]);

/* Runs the chain. On entry batch->data[f] is scratch[f][0], or final[f] where there is no scratch; on return it is
 * final[f] and batch->fields are what came out. */
light_status light_transform_run(const light_transform *transform, light_host_batch *batch,
                                 const light_transform_memory *memory);

#endif
