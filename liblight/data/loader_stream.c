/* SPDX-License-Identifier: Apache-2.0 */
/* Streams in a loader. The shards take turns: ticket t is read from shard t % num_shards, so the order of the batches
 * is the same for any number of workers. Of several processes each has shards of its own. A shard is read by one thread at a time, in the order of its tickets. */
#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader_parts.h"

#include <inttypes.h>
#include <string.h>

static void close_stream(light_loader *loader, light_loader_shard *shard)
{
    if (!shard->stream) return;
    if (LIGHT_HOOK(loader->dataset->vtable, stream_close)) {
        loader->dataset->vtable->stream_close(loader->dataset, shard->stream);
    }
    light_free(shard->stream);
    shard->stream = NULL;
}

void light_loader_streams_close(light_loader *loader)
{
    for (int i = 0; i < loader->num_shards; i++) close_stream(loader, &loader->shards[i]);
}

/* Brings a new stream to where the consumer was: by its own way, or by reading up to there. */
static light_status advance(light_loader *loader, light_loader_shard *shard)
{
    light_dataset *dataset = loader->dataset;
    void *to[LIGHT_MAX_FIELDS] = {0};
    light_status status = LIGHT_OK;
    bool end = false;

    if (shard->samples == 0) return LIGHT_OK;
    if (LIGHT_HOOK(dataset->vtable, stream_load) && LIGHT_HOOK(dataset->vtable, stream_save)) {
        return dataset->vtable->stream_load(dataset, shard->stream, shard->taken_position);
    }
    for (int f = 0; f < loader->num_sample_fields && status == LIGHT_OK; f++) {
        to[f] = light_alloc(light_field_bytes(&loader->sample_fields[f]));
        if (!to[f]) status = LIGHT_ERR_MEMORY;
    }
    for (int64_t i = 0; i < shard->samples && status == LIGHT_OK; i++) {
        status = dataset->vtable->stream_next(dataset, shard->stream, to, &end);
        if (status == LIGHT_OK && end) {
            status = light_fail(LIGHT_ERR_STATE,
                                "dataset %s: the stream ended after %" PRId64 " samples, but %" PRId64
                                " had been read from it when the checkpoint was written",
                                dataset->vtable->name, i, shard->samples);
        }
    }
    for (int f = 0; f < loader->num_sample_fields; f++) light_free(to[f]);
    return status;
}

static light_status open_stream(light_loader *loader, int i)
{
    light_loader_shard *shard = &loader->shards[i];
    light_dataset *dataset = loader->dataset;

    shard->ended = shard->taken_ended;
    shard->samples = shard->taken_samples;
    /* The first ticket of this shard that is not below loader->next. */
    shard->turn =
        loader->next + ((i - loader->next) % loader->num_shards + loader->num_shards) % loader->num_shards;
    if (shard->ended) return LIGHT_OK;
    shard->stream = light_calloc(1, dataset->vtable->stream_size);
    if (!shard->stream) return LIGHT_ERR_MEMORY;
    *shard->stream = (light_stream){.shard = i * loader->share.size + loader->share.rank,
                                    .num_shards = loader->all_shards,
                                    .epoch = loader->epoch,
                                    .seed = loader->seed};
    if (LIGHT_HOOK(dataset->vtable, stream_open)) {
        light_status status = dataset->vtable->stream_open(dataset, shard->stream);
        if (status != LIGHT_OK) {
            /* What did not open is not closed. */
            light_free(shard->stream);
            shard->stream = NULL;
            return status;
        }
    }
    return advance(loader, shard);
}

light_status light_loader_streams_open(light_loader *loader)
{
    light_loader_streams_close(loader);
    for (int i = 0; i < loader->num_shards; i++) LIGHT_TRY(open_stream(loader, i));
    return LIGHT_OK;
}

/* Up to a batch of samples, one behind the other. */
static light_status read_samples(light_loader *loader, light_loader_shard *shard, light_loader_slot *slot,
                                 int64_t number, void *const *to)
{
    light_dataset *dataset = loader->dataset;
    void *at[LIGHT_MAX_FIELDS];
    int64_t n = 0;

    memcpy(at, to, (size_t)loader->num_sample_fields * sizeof at[0]);
    while (n < loader->options.batch_size) {
        bool end = false;
        light_status status = dataset->vtable->stream_next(dataset, shard->stream, at, &end);
        if (status != LIGHT_OK) {
            return light_fail_in(status, "%s: sample %" PRId64 " of shard %d", dataset->vtable->name,
                                 shard->samples, shard->stream->shard);
        }
        if (end) {
            shard->ended = true;
            break;
        }
        slot->indices[n++] =
            shard->samples++ * loader->all_shards + (int64_t)number * loader->share.size + loader->share.rank;
        for (int f = 0; f < loader->num_sample_fields; f++) {
            at[f] = (char *)at[f] + light_field_bytes(&loader->sample_fields[f]);
        }
    }
    slot->batch.size = n < loader->options.batch_size && loader->options.drop_last ? 0 : n;
    return LIGHT_OK;
}

light_status light_loader_stream_read(light_loader *loader, light_loader_slot *slot, int64_t ticket,
                                      void *const *to)
{
    int number = (int)(ticket % loader->num_shards);
    light_loader_shard *shard = &loader->shards[number];
    light_dataset *dataset = loader->dataset;
    light_status status = LIGHT_OK;

    pthread_mutex_lock(&loader->lock);
    while (shard->turn != ticket) pthread_cond_wait(&loader->turn, &loader->lock);
    pthread_mutex_unlock(&loader->lock);

    slot->batch.size = 0;
    if (!shard->ended) status = read_samples(loader, shard, slot, number, to);
    if (status != LIGHT_OK) shard->ended = true;
    slot->ended = shard->ended;
    slot->samples = shard->samples;
    if (shard->stream && status == LIGHT_OK && LIGHT_HOOK(dataset->vtable, stream_save)) {
        dataset->vtable->stream_save(dataset, shard->stream, slot->position);
    }

    pthread_mutex_lock(&loader->lock);
    shard->turn = ticket + loader->num_shards;
    pthread_cond_broadcast(&loader->turn);
    pthread_mutex_unlock(&loader->lock);
    return status;
}
