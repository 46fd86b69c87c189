/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of transforms: composing, planning memory, running. The transforms themselves are in transform_kinds.c. */
#include "data/transform.h"

#include "data/dataset.h"

#include <string.h>

light_transform light_compose_with(const light_transform *transforms, int n)
{
    light_transform all = {0};

    for (int i = 0; i < n; i++) {
        /* A chain that is too long stays wrong, for the loader to report. */
        if (all.count < 0 || transforms[i].count < 0 ||
            all.count + transforms[i].count > LIGHT_MAX_TRANSFORMS) {
            all.count = -1;
            return all;
        }
        memcpy(&all.steps[all.count], transforms[i].steps, (size_t)transforms[i].count * sizeof all.steps[0]);
        all.count += transforms[i].count;
    }
    return all;
}

static light_status plan_step(const light_transform_step *step, int number, light_field *fields,
                              int num_fields)
{
    if (!step->kind) return light_fail(LIGHT_ERR_ARGUMENT, "transform %d is empty", number);
    if (step->field < 0 || step->field >= num_fields) {
        return light_fail(LIGHT_ERR_ARGUMENT, "transform %d (%s): there is no field %d; the samples have %d",
                          number, step->kind->name, step->field, num_fields);
    }
    light_status status = step->kind->plan(step, &fields[step->field]);
    if (status != LIGHT_OK) return light_fail_in(status, "transform %d (%s)", number, step->kind->name);
    return LIGHT_OK;
}

light_status light_transform_plan(const light_transform *transform, light_field *fields, int num_fields)
{
    if (transform->count < 0 || transform->count > LIGHT_MAX_TRANSFORMS) {
        return light_fail(LIGHT_ERR_ARGUMENT, "more than %d transforms in one chain", LIGHT_MAX_TRANSFORMS);
    }
    for (int i = 0; i < transform->count; i++) {
        LIGHT_TRY(plan_step(&transform->steps[i], i, fields, num_fields));
    }
    return LIGHT_OK;
}

/* The last step that moves the field's data, or -1. */
static int last_move(const light_transform *transform, int field)
{
    for (int i = transform->count - 1; i >= 0; i--) {
        const light_transform_step *step = &transform->steps[i];
        if (step->field == field && !step->kind->in_place) return i;
    }
    return -1;
}

light_status light_transform_scratch(const light_transform *transform, const light_field *fields,
                                     int num_fields, size_t scratch[LIGHT_MAX_FIELDS])
{
    light_field now[LIGHT_MAX_FIELDS];

    memcpy(now, fields, (size_t)num_fields * sizeof *fields);
    for (int f = 0; f < num_fields; f++) scratch[f] = 0;
    for (int i = 0; i < transform->count; i++) {
        int f = transform->steps[i].field;
        if (i <= last_move(transform, f)) {
            size_t bytes = light_field_bytes(&now[f]);
            if (bytes > scratch[f]) scratch[f] = bytes;
        }
        LIGHT_TRY(plan_step(&transform->steps[i], i, now, num_fields));
    }
    return LIGHT_OK;
}

light_status light_transform_run(const light_transform *transform, light_host_batch *batch,
                                 const light_transform_memory *memory)
{
    for (int i = 0; i < transform->count; i++) {
        const light_transform_step *step = &transform->steps[i];
        int f = step->field;
        light_field after = batch->fields[f];
        void *to = batch->data[f];

        LIGHT_TRY(step->kind->plan(step, &after));
        if (!step->kind->in_place) {
            to = memory->scratch[f][batch->data[f] == memory->scratch[f][0]];
            if (i == last_move(transform, f)) to = memory->final[f];
        }
        light_status status = step->kind->apply(step, i, batch, to);
        if (status != LIGHT_OK) return light_fail_in(status, "transform %d (%s)", i, step->kind->name);
        batch->fields[f] = after;
        batch->data[f] = to;
    }
    return LIGHT_OK;
}
