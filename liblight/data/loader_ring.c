/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of slots and the worker threads that fill it ahead of the consumer. */
#include "base/memory.h"
#include "base/thread.h"
#include "data/dataset.h"
#include "data/loader_parts.h"

#define SMALL_RING_BYTES (1u << 20)

static light_loader_slot *slot_of(light_loader *loader, int64_t ticket)
{
    return &loader->slots[ticket % loader->num_slots];
}

static void *work(void *argument)
{
    light_loader_filler *filler = argument;
    light_loader *loader = filler->loader;

    pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (!loader->quit && !(loader->running && loader->next_work < loader->free_below &&
                                  (loader->is_stream || loader->next_work < loader->batches))) {
            pthread_cond_wait(&loader->work, &loader->lock);
        }
        if (loader->quit) break;
        int64_t ticket = loader->next_work++;
        loader->busy++;
        pthread_mutex_unlock(&loader->lock);

        light_loader_fill(filler, slot_of(loader, ticket), ticket);

        pthread_mutex_lock(&loader->lock);
        slot_of(loader, ticket)->ready = true;
        if (--loader->busy == 0) pthread_cond_signal(&loader->idle);
        pthread_cond_signal(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* Two batches a worker; of small ones more, which saves waking up so often and stays in the cache. */
static int default_prefetch(const light_loader *loader)
{
    int count = 2 * loader->options.num_workers;
    size_t bytes = 0;

    for (int f = 0; f < loader->num_fields; f++) bytes += light_field_bytes(&loader->fields[f]);
    while (count < 16 && (size_t)(count + 1) * bytes <= SMALL_RING_BYTES) count++;
    return count;
}

static light_status make_slots(light_loader *loader)
{
    int ahead = loader->options.prefetch ? loader->options.prefetch : default_prefetch(loader);
    /* One is in the consumer's hands. To see the end of a stream it looks one turn of each shard ahead. */
    int count = loader->options.num_workers ? ahead + 1 : 1;
    if (loader->is_stream && count < loader->num_shards + 2) count = loader->num_shards + 2;
    if (!loader->is_stream && count > loader->share.total) count = (int)loader->share.total;

    loader->slots = light_calloc((size_t)count, sizeof *loader->slots);
    if (!loader->slots) return LIGHT_ERR_MEMORY;
    loader->num_slots = count;
    for (int i = 0; i < count; i++) {
        light_loader_slot *slot = &loader->slots[i];
        slot->indices = light_alloc((size_t)loader->options.batch_size * sizeof *slot->indices);
        if (!slot->indices) return LIGHT_ERR_MEMORY;
        for (int f = 0; f < loader->num_fields; f++) {
            slot->memory[f] = light_alloc(light_field_bytes(&loader->fields[f]));
            if (!slot->memory[f]) return LIGHT_ERR_MEMORY;
        }
    }
    return LIGHT_OK;
}

static light_status start_workers(light_loader *loader)
{
    int count = loader->options.num_workers;

    if (count == 0) return light_loader_filler_init(&loader->self, loader);
    loader->workers = light_calloc((size_t)count, sizeof *loader->workers);
    if (!loader->workers) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < count; i++) {
        light_loader_filler *worker = &loader->workers[i];
        LIGHT_TRY(light_loader_filler_init(worker, loader));
        LIGHT_TRY(light_thread_start(&worker->thread, "light_loader", work, worker));
        loader->started++;
    }
    return LIGHT_OK;
}

light_status light_loader_ring_prepare(light_loader *loader)
{
    if (loader->slots) return LIGHT_OK;
    light_status status = make_slots(loader);
    if (status == LIGHT_OK) status = start_workers(loader);
    if (status != LIGHT_OK) light_loader_ring_free(loader);
    return status;
}

void light_loader_ring_free(light_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->quit = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->started; i++) pthread_join(loader->workers[i].thread, NULL);
    for (int i = 0; i < loader->options.num_workers && loader->workers; i++) {
        light_loader_filler_free(&loader->workers[i]);
    }
    light_loader_filler_free(&loader->self);
    light_free(loader->workers);
    for (int i = 0; i < loader->num_slots; i++) {
        for (int f = 0; f < LIGHT_MAX_FIELDS; f++) light_free(loader->slots[i].memory[f]);
        light_free(loader->slots[i].indices);
    }
    light_free(loader->slots);
    loader->workers = NULL;
    loader->slots = NULL;
    loader->self = (light_loader_filler){0};
    loader->started = loader->num_slots = 0;
    loader->quit = false;
}

void light_loader_ring_stop(light_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->running = false;
    while (loader->busy > 0) pthread_cond_wait(&loader->idle, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
}

void light_loader_ring_start(light_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    for (int i = 0; i < loader->num_slots; i++) loader->slots[i].ready = false;
    loader->next_work = loader->next;
    loader->free_below = loader->next + loader->num_slots;
    loader->running = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

light_loader_slot *light_loader_ring_wait(light_loader *loader, int64_t ticket)
{
    light_loader_slot *slot = slot_of(loader, ticket);

    if (!loader->workers) {
        if (!slot->ready) light_loader_fill(&loader->self, slot, ticket);
        slot->ready = true;
        return slot;
    }
    pthread_mutex_lock(&loader->lock);
    /* The consumer is too fast for those who are awake. */
    if (!(slot->ready && slot->ticket == ticket)) pthread_cond_broadcast(&loader->work);
    while (!(slot->ready && slot->ticket == ticket)) pthread_cond_wait(&loader->ready, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
    return slot;
}

void light_loader_ring_release(light_loader *loader, int64_t ticket)
{
    pthread_mutex_lock(&loader->lock);
    for (int64_t t = loader->free_below - loader->num_slots; t < ticket; t++)
        slot_of(loader, t)->ready = false;
    loader->free_below = ticket + loader->num_slots;
    /* Waking a thread costs the consumer microseconds, so they sleep until half of the ring is free, and one is called
     * at a time. */
    if (loader->free_below - loader->next_work >= (loader->num_slots + 1) / 2)
        pthread_cond_signal(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}
