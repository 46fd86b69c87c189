/* SPDX-License-Identifier: Apache-2.0 */
/* Filling one slot: which samples, fetching them, collating, transforming. Runs in any thread. */
#include "data/loader_parts.h"

#include "base/memory.h"
#include "data/dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

light_status light_loader_filler_init(light_loader_filler *filler, light_loader *loader)
{
    filler->loader = loader;
    for (int f = 0; f < loader->num_fields; f++) {
        for (int i = 0; i < 2 && loader->scratch_bytes[f] > 0; i++) {
            filler->scratch[f][i] = light_alloc(loader->scratch_bytes[f]);
            if (!filler->scratch[f][i]) return LIGHT_ERR_MEMORY;
        }
    }
    for (int f = 0; f < loader->num_sample_fields && loader->options.collate.collate; f++) {
        filler->raw[f] =
            light_alloc((size_t)loader->options.batch_size * light_field_bytes(&loader->sample_fields[f]));
        if (!filler->raw[f]) return LIGHT_ERR_MEMORY;
    }
    return LIGHT_OK;
}

void light_loader_filler_free(light_loader_filler *filler)
{
    for (int f = 0; f < LIGHT_MAX_FIELDS; f++) {
        light_free(filler->scratch[f][0]);
        light_free(filler->scratch[f][1]);
        light_free(filler->raw[f]);
    }
}

/* The samples of a ticket of a map-style dataset. */
static light_status choose(light_loader *loader, light_loader_slot *slot, int64_t ticket)
{
    int64_t batch_size = loader->options.batch_size;
    int64_t first = light_share_batch(&loader->share, ticket) * batch_size, left = loader->length - first;
    const light_sampler *sampler = &loader->options.sampler;
    int64_t size = light_dataset_length(loader->dataset);

    slot->batch.size = left < batch_size ? left : batch_size;
    for (int64_t i = 0; i < slot->batch.size; i++) {
        int64_t position = first + i, index = position;
        if (sampler->at) {
            index = sampler->at(sampler->user, loader->epoch, position);
        } else if (loader->options.shuffle) {
            index = (int64_t)light_permutation_at(&loader->permutation, (uint64_t)position);
        }
        if (index < 0 || index >= size) {
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "the sampler gave index %" PRId64 " for position %" PRId64
                              "; the dataset %s has samples 0..%" PRId64,
                              index, position, loader->dataset->vtable->name, size - 1);
        }
        slot->indices[i] = index;
    }
    return LIGHT_OK;
}

static void set_sizes(light_field *fields, int num_fields, int64_t size)
{
    for (int f = 0; f < num_fields; f++) fields[f].shape.dims[0] = size;
}

/* Samples, as `from` fields in filler->raw, to the batch by the user's function. */
static light_status collate(light_loader_filler *filler, light_host_batch *batch)
{
    light_loader *loader = filler->loader;
    light_host_batch samples = *batch;
    size_t planned[LIGHT_MAX_FIELDS];

    samples.num_fields = loader->num_sample_fields;
    memcpy(samples.fields, loader->sample_fields, sizeof samples.fields);
    for (int f = 0; f < samples.num_fields; f++) {
        light_shape *shape = &samples.fields[f].shape;
        memmove(&shape->dims[1], &shape->dims[0], (size_t)shape->ndim * sizeof shape->dims[0]);
        shape->dims[0] = batch->size;
        shape->ndim++;
        samples.data[f] = filler->raw[f];
        samples.capacity[f] =
            (size_t)loader->options.batch_size * light_field_bytes(&loader->sample_fields[f]);
    }
    for (int f = 0; f < batch->num_fields; f++) planned[f] = batch->capacity[f];
    light_status status = loader->options.collate.collate(loader->options.collate.user, &samples, batch);
    if (status != LIGHT_OK) return light_fail_in(status, "collate");
    for (int f = 0; f < batch->num_fields; f++) {
        if (light_field_bytes(&batch->fields[f]) > planned[f]) {
            return light_fail(LIGHT_ERR_SHAPE, "collate: field %d has become larger than plan said", f);
        }
    }
    return LIGHT_OK;
}

static light_status fill(light_loader_filler *filler, light_loader_slot *slot, int64_t ticket)
{
    light_loader *loader = filler->loader;
    light_host_batch *batch = &slot->batch;
    bool custom = loader->options.collate.collate != NULL;
    light_transform_memory memory;

    *batch = (light_host_batch){.num_fields = loader->num_fields,
                                .indices = slot->indices,
                                .seed = loader->seed,
                                .epoch = loader->epoch};
    memcpy(batch->fields, loader->raw_fields, sizeof batch->fields);
    for (int f = 0; f < loader->num_fields; f++) {
        memory.final[f] = slot->memory[f];
        for (int i = 0; i < 2; i++) memory.scratch[f][i] = filler->scratch[f][i];
        batch->data[f] = loader->scratch_bytes[f] ? filler->scratch[f][0] : slot->memory[f];
        batch->capacity[f] = light_field_bytes(&loader->raw_fields[f]);
    }
    void *const *to = custom ? filler->raw : batch->data;
    if (loader->is_stream) {
        LIGHT_TRY(light_loader_stream_read(loader, slot, ticket, to));
        if (batch->size == 0) return LIGHT_OK;
    } else {
        LIGHT_TRY(choose(loader, slot, ticket));
        LIGHT_TRY(light_dataset_fetch(loader->dataset, slot->indices, batch->size, to));
    }
    set_sizes(batch->fields, batch->num_fields, batch->size);
    if (custom) LIGHT_TRY(collate(filler, batch));
    LIGHT_TRY(light_transform_run(&loader->options.transform, batch, &memory));
    for (int f = 0; f < batch->num_fields; f++) batch->capacity[f] = light_field_bytes(&loader->fields[f]);
    return LIGHT_OK;
}

void light_loader_fill(light_loader_filler *filler, light_loader_slot *slot, int64_t ticket)
{
    slot->ticket = ticket;
    slot->status = fill(filler, slot, ticket);
    if (slot->status != LIGHT_OK) snprintf(slot->error, sizeof slot->error, "%s", light_error_message());
}
