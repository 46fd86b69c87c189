/* SPDX-License-Identifier: Apache-2.0 */
/* A loader's position in a checkpoint. Batches that are ready but were not taken do not count. */
#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader_parts.h"

#include <inttypes.h>
#include <string.h>

/* Of each shard: has it ended, samples taken, the stream's own numbers. */
#define SHARD_NUMBERS (2 + LIGHT_STREAM_POSITION)

static light_status save_shards(light_loader *loader, light_state *state)
{
    size_t count = (size_t)loader->num_shards * SHARD_NUMBERS;
    int64_t *numbers = light_alloc(count * sizeof *numbers);

    if (!numbers) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < loader->num_shards; i++) {
        int64_t *n = numbers + (size_t)i * SHARD_NUMBERS;
        n[0] = loader->shards[i].taken_ended;
        n[1] = loader->shards[i].taken_samples;
        memcpy(n + 2, loader->shards[i].taken_position, sizeof loader->shards[i].taken_position);
    }
    light_status status = light_state_put_int64s(state, "shards", numbers, count);
    light_free(numbers);
    LIGHT_TRY(status);
    LIGHT_TRY(light_state_put(state, "rank", loader->rank));
    return light_state_put(state, "turn", loader->next);
}

light_status light_loader_save_state(light_loader *loader, light_state *state)
{
    LIGHT_TRY(light_state_put(state, "epoch", loader->epoch));
    LIGHT_TRY(light_state_put(state, "batch", loader->given));
    LIGHT_TRY(light_state_put(state, "batch_size", loader->options.batch_size));
    LIGHT_TRY(light_state_put(state, "world", loader->world));
    LIGHT_TRY(light_state_put(state, "length", loader->length));
    LIGHT_TRY(light_state_put(state, "shuffle", loader->options.shuffle));
    /* Seeds use all 64 bits. */
    LIGHT_TRY(light_state_put_bytes(state, "seed", &loader->seed, sizeof loader->seed));
    return loader->is_stream ? save_shards(loader, state) : LIGHT_OK;
}

static light_status load_shards(light_loader *loader, const light_state *state, int64_t batch_size, int world)
{
    const int64_t *numbers;
    size_t count;
    int64_t turn;
    int rank;

    LIGHT_TRY(light_state_get(state, "rank", &rank));
    LIGHT_TRY(light_state_get(state, "turn", &turn));
    LIGHT_TRY(light_state_get_int64s(state, "shards", &numbers, &count));
    if (count != (size_t)loader->num_shards * SHARD_NUMBERS || world != loader->world ||
        rank != loader->rank || batch_size != loader->options.batch_size || turn < 0) {
        return light_fail(
            LIGHT_ERR_STATE,
            "the position in the stream %s was saved by process %d of %d with %zu shards and batch_size "
            "%" PRId64 "; it cannot go on in process %d of %d with %d shards and batch_size %" PRId64,
            loader->dataset->vtable->name, rank, world, count / SHARD_NUMBERS, batch_size, loader->rank,
            loader->world, loader->num_shards, loader->options.batch_size);
    }
    for (int i = 0; i < loader->num_shards; i++) {
        const int64_t *n = numbers + (size_t)i * SHARD_NUMBERS;
        loader->shards[i].taken_ended = n[0] != 0;
        loader->shards[i].taken_samples = n[1];
        memcpy(loader->shards[i].taken_position, n + 2, sizeof loader->shards[i].taken_position);
    }
    loader->next = turn;
    return LIGHT_OK;
}

/* The saved position in batches of this loader's size and world. The end of an epoch is the end for any. */
static light_status translate(const light_loader *loader, int64_t batch_size, int world, int64_t *batch)
{
    if (batch_size == loader->options.batch_size && world == loader->world) return LIGHT_OK;
    int64_t samples = *batch * batch_size * world;
    int64_t whole = loader->options.batch_size * loader->world;
    if (samples >= loader->length) {
        *batch = loader->num_batches;
        return LIGHT_OK;
    }
    if (samples % whole != 0) {
        return light_fail(LIGHT_ERR_STATE,
                          "the checkpoint has seen %" PRId64 " samples of the epoch (batch_size %" PRId64
                          ", %d processes); with batch_size %" PRId64
                          " and %d processes that is no whole number of "
                          "batches",
                          samples, batch_size, world, loader->options.batch_size, loader->world);
    }
    *batch = samples / whole;
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
    if (epoch < 0 || batch < 0 || batch_size < 1 || world < 1) {
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
    } else {
        LIGHT_TRY(translate(loader, batch_size, world, &batch));
        loader->next = batch;
    }
    loader->epoch = epoch;
    loader->given = batch;
    loader->resuming = true;
    return LIGHT_OK;
}
