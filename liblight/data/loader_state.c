/* SPDX-License-Identifier: Apache-2.0 */
/* A loader's position in a checkpoint. Batches that are ready but were not taken do not count. */
#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader_parts.h"

#include <inttypes.h>
#include <string.h>

/* Of each shard: has it ended, samples taken, the stream's own numbers. */
#define SHARD_NUMBERS (2 + LIGHT_STREAM_POSITION)

/* How far this process is: its turns in front, then its shards. */
static light_status own_numbers(const light_loader *loader, int64_t **out, size_t *count)
{
    *count = 1 + (size_t)loader->num_shards * SHARD_NUMBERS;
    int64_t *numbers = *out = light_alloc(*count * sizeof *numbers);

    if (!numbers) return LIGHT_ERR_MEMORY;
    *numbers++ = loader->next;
    for (int i = 0; i < loader->num_shards; i++, numbers += SHARD_NUMBERS) {
        numbers[0] = loader->shards[i].taken_ended;
        numbers[1] = loader->shards[i].taken_samples;
        memcpy(numbers + 2, loader->shards[i].taken_position, sizeof loader->shards[i].taken_position);
    }
    return LIGHT_OK;
}

/* Those of all processes, one rank after the other, into new memory. */
static light_status all_numbers(const light_loader *loader, light_communicator *host, int64_t **out,
                                size_t *count)
{
    if (!host) return own_numbers(loader, out, count);
    int64_t *own = NULL;
    size_t own_count, *sizes = light_calloc((size_t)host->size, sizeof *sizes);
    char *all = NULL;
    light_status status = sizes ? own_numbers(loader, &own, &own_count) : LIGHT_ERR_MEMORY;

    if (status == LIGHT_OK)
        status = light_gather_bytes(host, own, own_count * sizeof *own, &all, sizes, "positions in a stream");
    *count = 0;
    for (int r = 0; status == LIGHT_OK && r < host->size; r++) *count += sizes[r] / sizeof *own;
    *out = (int64_t *)(void *)all;
    light_free(own);
    light_free(sizes);
    return status;
}

static light_status save_shards(light_loader *loader, light_communicator *host, light_state *state)
{
    int64_t *numbers;
    size_t count;

    LIGHT_TRY(all_numbers(loader, host, &numbers, &count));
    light_status status = light_state_put_int64s(state, "shards", numbers, count);
    light_free(numbers);
    return status;
}

light_status light_loader_save_state(light_loader *loader, light_communicator *host, light_state *state)
{
    LIGHT_TRY(light_state_put(state, "epoch", loader->epoch));
    LIGHT_TRY(light_state_put(state, "batch", light_share_position(&loader->share, loader->given)));
    LIGHT_TRY(light_state_put(state, "batch_size", loader->options.batch_size));
    LIGHT_TRY(light_state_put(state, "world", loader->share.size));
    LIGHT_TRY(light_state_put(state, "length", loader->length));
    LIGHT_TRY(light_state_put(state, "shuffle", loader->options.shuffle));
    /* Seeds use all 64 bits. */
    LIGHT_TRY(light_state_put_bytes(state, "seed", &loader->seed, sizeof loader->seed));
    return loader->is_stream ? save_shards(loader, host, state) : LIGHT_OK;
}

static light_status load_shards(light_loader *loader, const light_state *state, int64_t batch_size, int world)
{
    const int64_t *numbers;
    const light_share *share = &loader->share;
    size_t count, expected = (size_t)share->size + (size_t)loader->all_shards * SHARD_NUMBERS;

    LIGHT_TRY(light_state_get_int64s(state, "shards", &numbers, &count));
    if (count != expected || world != share->size || batch_size != loader->options.batch_size) {
        return light_fail(
            LIGHT_ERR_STATE,
            "the position in the stream %s was saved by %d processes with %zu shards and batch_size %" PRId64
            "; %d processes with %d shards and batch_size %" PRId64 " cannot go on from it",
            loader->dataset->vtable->name, world, (count - (size_t)world) / SHARD_NUMBERS, batch_size,
            share->size, loader->all_shards, loader->options.batch_size);
    }
    for (int r = 0; r < share->rank; r++)
        numbers += 1 + (loader->all_shards - r + share->size - 1) / share->size * SHARD_NUMBERS;
    loader->next = *numbers++;
    for (int i = 0; i < loader->num_shards; i++, numbers += SHARD_NUMBERS) {
        loader->shards[i].taken_ended = numbers[0] != 0;
        loader->shards[i].taken_samples = numbers[1];
        memcpy(loader->shards[i].taken_position, numbers + 2, sizeof loader->shards[i].taken_position);
    }
    return LIGHT_OK;
}

/* The saved position in batches of this loader's size. The end of an epoch is the end for any. */
static light_status translate(const light_loader *loader, int64_t batch_size, int64_t *batch)
{
    if (batch_size == loader->options.batch_size) return LIGHT_OK;
    int64_t samples = *batch * batch_size;
    if (samples >= loader->length) {
        *batch = loader->share.total;
        return LIGHT_OK;
    }
    if (samples % loader->options.batch_size != 0) {
        return light_fail(LIGHT_ERR_STATE,
                          "the checkpoint has seen %" PRId64 " samples of the epoch (batch_size %" PRId64
                          "); with batch_size %" PRId64 " that is no whole number of batches",
                          samples, batch_size, loader->options.batch_size);
    }
    *batch = samples / loader->options.batch_size;
    return LIGHT_OK;
}

light_status light_loader_load_state(light_loader *loader, const light_state *state)
{
    int64_t epoch, batch, batch_size, length;
    int world;

    LIGHT_TRY(light_state_get(state, "epoch", &epoch));
    LIGHT_TRY(light_state_get(state, "batch", &batch));
    LIGHT_TRY(light_state_get(state, "batch_size", &batch_size));
    LIGHT_TRY(light_state_get(state, "world", &world));
    LIGHT_TRY(light_state_get(state, "length", &length));
    if (epoch < 0 || batch < 0 || batch_size < 1 || world < 1 || world > 1 << 20) {
        return light_fail(LIGHT_ERR_FORMAT, "the loader's position in the checkpoint is damaged");
    }
    if (length != loader->length) {
        return light_fail(LIGHT_ERR_STATE,
                          "the checkpoint's position is one in %" PRId64
                          " samples, but the dataset %s has %" PRId64,
                          length, loader->dataset->vtable->name, loader->length);
    }
    light_loader_ring_stop(loader);
    loader->begun = false;
    if (loader->is_stream) {
        LIGHT_TRY(load_shards(loader, state, batch_size, world));
        loader->given = batch / world;
    } else {
        LIGHT_TRY(translate(loader, batch_size, &batch));
        loader->share.origin = batch;
        loader->given = 0;
    }
    loader->epoch = epoch;
    loader->resuming = true;
    return LIGHT_OK;
}
