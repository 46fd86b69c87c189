/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a loader, shared by its files: loader.c (making, asking), loader_fill.c (one batch into one slot),
 * loader_ring.c (slots and workers), loader_stream.c (streams), loader_state.c (checkpoints).
 *
 * A ticket is the number of a batch of this process, counted from where the epoch was begun; for a stream, of one turn of
 * one shard, which may have nothing left to give. Ticket t is filled into slot t % num_slots, by whichever worker comes to it, and taken by the consumer in
 * order. A slot is filled again once the consumer has asked for the batch after it. */
#ifndef LIGHT_DATA_LOADER_PARTS_H
#define LIGHT_DATA_LOADER_PARTS_H

#include "base/permutation.h"
#include "data/loader.h"
#include "data/transform.h"

#include <pthread.h>

typedef struct light_loader_slot {
    bool ready;
    int64_t ticket;
    light_host_batch batch; /* size 0: a stream's shard had nothing left */
    void *memory[LIGHT_MAX_FIELDS];
    int64_t *indices;
    light_status status;
    char error[1024];
    /* Of the stream's shard, behind this batch. */
    bool ended;
    int64_t samples;
    int64_t position[LIGHT_STREAM_POSITION];
} light_loader_slot;

/* What one thread needs to fill slots. */
typedef struct light_loader_filler {
    light_loader *loader;
    pthread_t thread;
    void *raw[LIGHT_MAX_FIELDS]; /* samples for a custom collate */
    void *scratch[LIGHT_MAX_FIELDS][2];
} light_loader_filler;

/* A part of a stream. The first group belongs to the thread whose turn it is, the second to the consumer. */
typedef struct light_loader_shard {
    light_stream *stream;
    int64_t turn; /* ticket that may read next; under the loader's lock */
    bool ended;
    int64_t samples;

    bool taken_ended;
    int64_t taken_samples;
    int64_t taken_position[LIGHT_STREAM_POSITION];
} light_loader_shard;

struct light_loader {
    light_dataset *dataset;
    light_loader_options options;
    light_loader *chained;
    int chain_index;
    bool is_stream;

    light_field sample_fields[LIGHT_MAX_FIELDS]; /* of the dataset */
    int num_sample_fields;
    light_field raw_fields[LIGHT_MAX_FIELDS]; /* of the largest batch, before the transforms */
    light_field fields[LIGHT_MAX_FIELDS];     /* and after them */
    int num_fields;
    size_t scratch_bytes[LIGHT_MAX_FIELDS];

    light_share share; /* total -1: a stream */
    uint64_t seed;
    int64_t length;  /* of the order that all ranks share; -1: a stream */
    int64_t batches; /* of this rank in the epoch under way; -1: a stream */

    /* The epoch under way. */
    bool begun, finished;
    int64_t epoch;
    light_permutation permutation;
    int64_t next;  /* ticket that the consumer asks for next */
    int64_t given; /* batches taken since the share's origin; of a stream, since its start */
    light_loader_shard *shards;
    int num_shards; /* of this rank */
    int all_shards;
    /* A position that was loaded and not begun yet. */
    bool resuming;

    light_loader_slot *slots;
    int num_slots;
    light_loader_filler self; /* the consumer's own thread, without workers */
    light_loader_filler *workers;
    int started;

    pthread_mutex_t lock;
    pthread_cond_t work, ready, idle, turn;
    bool running, quit;
    int busy;           /* workers that are filling */
    int64_t free_below; /* tickets below this may be filled */
    int64_t next_work;  /* the first ticket that no worker has taken */
};

/* loader_fill.c: fills the slot with ticket `ticket`; what went wrong is in the slot. */
void light_loader_fill(light_loader_filler *filler, light_loader_slot *slot, int64_t ticket);
light_status light_loader_filler_init(light_loader_filler *filler, light_loader *loader);
void light_loader_filler_free(light_loader_filler *filler);

/* loader_ring.c: makes slots and workers unless they are there. */
light_status light_loader_ring_prepare(light_loader *loader);
void light_loader_ring_free(light_loader *loader);
/* Workers finish the batches that they are in and wait. */
void light_loader_ring_stop(light_loader *loader);
/* Slots are empty, tickets begin at loader->next. */
void light_loader_ring_start(light_loader *loader);
/* Waits for a ticket that is not behind the window of slots. */
light_loader_slot *light_loader_ring_wait(light_loader *loader, int64_t ticket);
/* The consumer is done with all tickets below. */
void light_loader_ring_release(light_loader *loader, int64_t ticket);

/* loader_stream.c */
light_status light_loader_streams_open(light_loader *loader);
void light_loader_streams_close(light_loader *loader);
/* Reads the samples of a ticket into to[]; the slot gets size, indices and the position. */
light_status light_loader_stream_read(light_loader *loader, light_loader_slot *slot, int64_t ticket,
                                      void *const *to);

#endif
