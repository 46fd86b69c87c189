/* SPDX-License-Identifier: Apache-2.0 */
/* Loaders: making them, how an epoch is divided, beginning one, taking its batches. */
#include "data/loader.h"

#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader_parts.h"

#include <inttypes.h>
#include <string.h>

#define MOST_WORKERS 1024
#define MOST_SHARDS  4096

/* ---- making ---------------------------------------------------------------- */

static light_status check_options(const light_loader *loader)
{
    const light_loader_options *o = &loader->options;

    if (o->batch_size < 1) {
        return light_fail(LIGHT_ERR_ARGUMENT, "batch_size is %" PRId64 "; it must be at least 1",
                          o->batch_size);
    }
    if (o->num_workers < 0 || o->num_workers > MOST_WORKERS) {
        return light_fail(LIGHT_ERR_ARGUMENT, "num_workers is %d; 0 to %d are possible", o->num_workers,
                          MOST_WORKERS);
    }
    if (o->prefetch < 0 || o->prefetch > 1 << 20) {
        return light_fail(LIGHT_ERR_ARGUMENT, "prefetch is %d; it counts batches, 0 is the default",
                          o->prefetch);
    }
    if (o->shards < 0 || o->shards > MOST_SHARDS || (o->shards > 1 && !loader->is_stream)) {
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "shards is %d; a stream may have 1 to %d, other datasets have none", o->shards,
                          MOST_SHARDS);
    }
    if (loader->is_stream && (o->shuffle || o->sampler.at)) {
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "%s is a stream, whose samples come in an order of their own: no shuffle, no sampler",
            loader->dataset->vtable->name);
    }
    if (o->shuffle && o->sampler.at) {
        return light_fail(LIGHT_ERR_ARGUMENT, "shuffle and a sampler exclude each other");
    }
    if (o->sampler.length < 0 || (o->sampler.length > 0 && !o->sampler.at)) {
        return light_fail(LIGHT_ERR_ARGUMENT, "the sampler has a length of %" PRId64 " and %s function `at`",
                          o->sampler.length, o->sampler.at ? "a" : "no");
    }
    if (!o->collate.collate != !o->collate.plan) {
        return light_fail(LIGHT_ERR_ARGUMENT, "a custom collate needs both functions, plan and collate");
    }
    return LIGHT_OK;
}

/* Counts the batches of the epoch. */
static light_status divide(light_loader *loader)
{
    int64_t batch_size = loader->options.batch_size, rest = loader->length % batch_size;

    loader->share = light_share_alone(-1);
    if (loader->is_stream) return LIGHT_OK;
    loader->share.total = loader->length / batch_size + (rest > 0 && !loader->options.drop_last);
    if (loader->share.total == 0) {
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "drop_last leaves no batch: there are %" PRId64
                          " samples and batch_size is %" PRId64,
                          loader->length, batch_size);
    }
    return LIGHT_OK;
}

/* Puts the batch's size in front of a sample's shape. */
static light_status add_batch_dim(const light_loader *loader, light_field *field)
{
    size_t bytes;
    light_shape *shape = &field->shape;

    if (__builtin_mul_overflow(light_field_bytes(field), (size_t)loader->options.batch_size, &bytes) ||
        bytes > SIZE_MAX / 4) {
        return light_fail(LIGHT_ERR_MEMORY, "a batch of %" PRId64 " samples does not fit into memory",
                          loader->options.batch_size);
    }
    memmove(&shape->dims[1], &shape->dims[0], (size_t)shape->ndim * sizeof shape->dims[0]);
    shape->dims[0] = loader->options.batch_size;
    shape->ndim++;
    return LIGHT_OK;
}

/* What batches look like before and after the transforms. */
static light_status plan_fields(light_loader *loader)
{
    const light_collate *collate = &loader->options.collate;

    LIGHT_TRY(light_dataset_describe(loader->dataset, loader->sample_fields, &loader->num_sample_fields));
    if (collate->plan) {
        LIGHT_TRY(collate->plan(collate->user, loader->options.batch_size, loader->sample_fields,
                                loader->num_sample_fields, loader->raw_fields, &loader->num_fields));
        if (loader->num_fields < 1 || loader->num_fields > LIGHT_MAX_FIELDS) {
            return light_fail(LIGHT_ERR_ARGUMENT, "collate: the plan has %d fields; 1 to %d are possible",
                              loader->num_fields, LIGHT_MAX_FIELDS);
        }
        for (int f = 0; f < loader->num_fields; f++) {
            const light_shape *shape = &loader->raw_fields[f].shape;
            if (shape->ndim < 1 || shape->dims[0] != loader->options.batch_size) {
                return light_fail(LIGHT_ERR_SHAPE, "collate: the first dim of field %d must be batch_size",
                                  f);
            }
        }
    } else {
        loader->num_fields = loader->num_sample_fields;
        memcpy(loader->raw_fields, loader->sample_fields, sizeof loader->raw_fields);
        for (int f = 0; f < loader->num_fields; f++) LIGHT_TRY(add_batch_dim(loader, &loader->raw_fields[f]));
    }
    memcpy(loader->fields, loader->raw_fields, sizeof loader->fields);
    LIGHT_TRY(light_transform_plan(&loader->options.transform, loader->fields, loader->num_fields));
    return light_transform_scratch(&loader->options.transform, loader->raw_fields, loader->num_fields,
                                   loader->scratch_bytes);
}

static light_status set_up(light_loader *loader)
{
    light_loader_options *o = &loader->options;

    loader->is_stream = light_dataset_is_stream(loader->dataset);
    LIGHT_TRY(check_options(loader));
    loader->length = light_dataset_length(loader->dataset);
    if (loader->length == 0) {
        return light_fail(LIGHT_ERR_ARGUMENT, "the dataset %s is empty", loader->dataset->vtable->name);
    }
    if (o->sampler.at && o->sampler.length > 0) loader->length = o->sampler.length;
    LIGHT_TRY(divide(loader));
    /* "All in one batch" may be asked for with any large number. */
    if (!loader->is_stream && o->batch_size > loader->length) o->batch_size = loader->length;
    LIGHT_TRY(plan_fields(loader));
    if (loader->is_stream) {
        loader->num_shards = loader->all_shards = o->shards ? o->shards : 1;
        loader->shards = light_calloc((size_t)loader->all_shards, sizeof *loader->shards);
        if (!loader->shards) return LIGHT_ERR_MEMORY;
    }
    return LIGHT_OK;
}

light_loader *light_loader_new_with(light_dataset *dataset, const light_loader_options *options)
{
    light_status status;
    light_loader *loader = NULL;

    if (!dataset) {
        status = light_fail(
            LIGHT_ERR_ARGUMENT,
            "a loader was asked for without a dataset (NULL): was it opened in this stage's setup?");
        goto failed;
    }
    loader = light_calloc(1, sizeof *loader);
    if (!loader) {
        status = LIGHT_ERR_MEMORY;
        goto failed;
    }
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    pthread_cond_init(&loader->idle, NULL);
    pthread_cond_init(&loader->turn, NULL);
    loader->dataset = light_dataset_retain(dataset);
    loader->options = *options;
    loader->seed = options->seed;
    status = set_up(loader);
    if (status == LIGHT_OK) return loader;
failed:
    light_loader_free(loader);
    light_data_scope_current()->failure = status;
    return NULL;
}

static void free_one(light_loader *loader)
{
    light_loader_ring_stop(loader);
    light_loader_ring_free(loader);
    light_loader_streams_close(loader);
    light_free(loader->shards);
    light_dataset_free(loader->dataset);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->idle);
    pthread_cond_destroy(&loader->turn);
    pthread_mutex_destroy(&loader->lock);
    light_free(loader);
}

void light_loader_free(light_loader *loader)
{
    while (loader) {
        light_loader *chained = loader->chained;
        free_one(loader);
        loader = chained;
    }
}

light_loader *light_loader_chain(light_loader *first, light_loader *second)
{
    if (!first || !second) {
        light_loader_free(first ? first : second);
        return NULL;
    }
    light_loader *last = first;
    while (last->chained) last = last->chained;
    last->chained = second;
    for (; last->chained; last = last->chained) last->chained->chain_index = last->chain_index + 1;
    return first;
}

/* ---- asking and setting ------------------------------------------------------ */

light_loader *light_loader_following(const light_loader *loader)
{
    return loader->chained;
}

int64_t light_loader_num_batches(const light_loader *loader)
{
    return loader->share.total;
}

int64_t light_loader_batch_size(const light_loader *loader)
{
    return loader->options.batch_size;
}

bool light_loader_shuffles(const light_loader *loader)
{
    return loader->options.shuffle;
}

const char *light_loader_dataset_name(const light_loader *loader)
{
    return loader->dataset->vtable->name;
}

/* Before a change of what batches are made of: nobody works on the old ones. */
static void interrupt(light_loader *loader)
{
    light_loader_ring_stop(loader);
    loader->begun = false;
}

light_status light_loader_set_share(light_loader *loader, int rank, int size, int64_t run)
{
    if (size < 1 || rank < 0 || rank >= size || run < 1) {
        return light_fail(LIGHT_ERR_ARGUMENT, "a loader cannot read part %d of %d in runs of %" PRId64, rank,
                          size, run);
    }
    if (loader->is_stream && loader->all_shards < size) {
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "the stream %s has %d shard%s, but %d processes read it: give its loader .shards = %d "
            "or more, so that each has one",
            loader->dataset->vtable->name, loader->all_shards, loader->all_shards > 1 ? "s" : "", size, size);
    }
    interrupt(loader);
    light_loader_ring_free(loader);
    loader->share.rank = rank;
    loader->share.size = size;
    loader->share.run = run;
    loader->share.origin = loader->given = 0;
    if (loader->is_stream) loader->num_shards = (loader->all_shards - rank + size - 1) / size;
    return LIGHT_OK;
}

void light_loader_set_seed(light_loader *loader, uint64_t seed)
{
    if (loader->options.seed != 0) return;
    interrupt(loader);
    loader->seed = seed;
}

void light_loader_set_shuffle(light_loader *loader, bool shuffle)
{
    interrupt(loader);
    loader->options.shuffle = shuffle && !loader->is_stream && !loader->options.sampler.at;
}

void light_loader_position(const light_loader *loader, int64_t *epoch, int64_t *batch)
{
    *epoch = loader->epoch;
    *batch = light_share_position(&loader->share, loader->given);
}

/* ---- an epoch ------------------------------------------------------------------ */

/* Streams start from their beginning, unless the position is the one that was loaded. Returns how many batches have
 * to be read and dropped. */
static int64_t place_streams(light_loader *loader, int64_t epoch, int64_t first_batch)
{
    int64_t turns = first_batch / loader->share.size;

    if (loader->resuming && epoch == loader->epoch && turns == loader->given) return 0;
    for (int i = 0; i < loader->num_shards; i++) {
        loader->shards[i].taken_ended = false;
        loader->shards[i].taken_samples = 0;
    }
    loader->next = loader->given = 0;
    return turns;
}

light_status light_loader_begin(light_loader *loader, int64_t epoch, int64_t first_batch)
{
    int64_t skip = 0;
    light_host_batch dropped;
    light_batch about;

    if (epoch < 0 || first_batch < 0 || (!loader->is_stream && first_batch > loader->share.total)) {
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "a loader cannot begin at batch %" PRId64 " of epoch %" PRId64
                          "; an epoch has %" PRId64,
                          first_batch, epoch, loader->share.total);
    }
    interrupt(loader);
    if (loader->is_stream) {
        skip = place_streams(loader, epoch, first_batch);
    } else {
        loader->share.origin = first_batch;
        loader->batches = light_share_batches(&loader->share);
        loader->next = loader->given = 0;
        loader->permutation = light_permutation_new((uint64_t)loader->length, loader->seed, (uint64_t)epoch);
    }
    loader->resuming = false;
    loader->epoch = epoch;
    loader->finished = false;
    LIGHT_TRY(light_loader_ring_prepare(loader));
    if (loader->is_stream) LIGHT_TRY(light_loader_streams_open(loader));
    light_loader_ring_start(loader);
    loader->begun = true;
    for (; skip > 0; skip--) LIGHT_TRY(light_loader_next_host(loader, &dropped, &about));
    return LIGHT_OK;
}

static light_status slot_status(const light_loader *loader, const light_loader_slot *slot)
{
    if (slot->status == LIGHT_OK) return LIGHT_OK;
    return light_fail(slot->status, "batch %" PRId64 " of epoch %" PRId64 ": %s",
                      light_share_batch(&loader->share, loader->given), loader->epoch, slot->error);
}

static light_status take_next(light_loader *loader, light_loader_slot **out)
{
    *out = NULL;
    if (loader->next >= loader->batches) {
        loader->finished = true;
        return LIGHT_OK;
    }
    light_loader_slot *slot = light_loader_ring_wait(loader, loader->next);
    LIGHT_TRY(slot_status(loader, slot));
    loader->next++;
    *out = slot;
    return LIGHT_OK;
}

/* The same for a stream: passes turns of shards that have nothing left. When all of them have had one, it is over. */
static light_status take_next_of_stream(light_loader *loader, light_loader_slot **out)
{
    *out = NULL;
    for (int passed = 0; passed < loader->num_shards; passed++) {
        light_loader_slot *slot = light_loader_ring_wait(loader, loader->next);
        light_loader_shard *shard = &loader->shards[loader->next % loader->num_shards];
        LIGHT_TRY(slot_status(loader, slot));
        shard->taken_ended = slot->ended;
        shard->taken_samples = slot->samples;
        memcpy(shard->taken_position, slot->position, sizeof slot->position);
        loader->next++;
        if (slot->batch.size > 0) {
            *out = slot;
            return LIGHT_OK;
        }
        light_loader_ring_release(loader, loader->next);
    }
    loader->finished = true;
    if (loader->given == 0 && loader->share.size == 1) {
        return light_fail(LIGHT_ERR_ARGUMENT, "the dataset %s is empty: its stream gave no %s",
                          loader->dataset->vtable->name,
                          loader->options.drop_last ? "whole batch" : "sample");
    }
    return LIGHT_OK;
}

/* Nothing comes behind the batch that was taken. */
static bool at_end(light_loader *loader)
{
    if (!loader->is_stream) return loader->next == loader->batches;
    for (int i = 0; i < loader->num_shards; i++) {
        const light_loader_slot *slot = light_loader_ring_wait(loader, loader->next + i);
        if (slot->status != LIGHT_OK || slot->batch.size > 0) return false;
    }
    return true;
}

light_status light_loader_next_host(light_loader *loader, light_host_batch *batch, light_batch *about)
{
    light_loader_slot *slot;

    *batch = (light_host_batch){0};
    *about = (light_batch){.epoch = loader->epoch, .dataloader_idx = loader->chain_index};
    if (!loader->begun) {
        return light_fail(LIGHT_ERR_STATE, "light_loader_begin must come before light_loader_next");
    }
    if (loader->finished) return LIGHT_OK;
    light_loader_ring_release(loader, loader->next);
    LIGHT_TRY(loader->is_stream ? take_next_of_stream(loader, &slot) : take_next(loader, &slot));
    if (!slot) return LIGHT_OK;
    *batch = slot->batch;
    about->num_fields = batch->num_fields;
    about->size = batch->size;
    about->indices = batch->indices;
    about->index = light_share_batch(&loader->share, loader->given++);
    about->is_last = at_end(loader);
    loader->finished = about->is_last;
    return LIGHT_OK;
}
