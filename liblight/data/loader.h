/* SPDX-License-Identifier: Apache-2.0 */
/* What the trainer asks of a loader beside the public calls: sharding, seeds, positions, chains.
 *
 * light_loader_begin, light_loader_next, light_loader_num_batches and light_loader_free are in light/data.h. Set
 * everything here before light_loader_begin. */
#ifndef LIGHT_DATA_LOADER_H
#define LIGHT_DATA_LOADER_H

#include "data/share.h"
#include "tensor/communicator.h"

#include <light/data.h>
#include <light/state.h>

/* This process is `rank` of `size`, and reads its batches of each window (data/share.h). Of a stream it reads the shards
 * rank, rank + size, ..., of which there must be one for each process at least. Default: 0 of 1. */
light_status light_loader_set_share(light_loader *loader, int rank, int size, int64_t run);
/* The run's seed, unless the loader was made with one of its own. */
void light_loader_set_seed(light_loader *loader, uint64_t seed);
/* Turns shuffling off or on (overfit_batches). */
void light_loader_set_shuffle(light_loader *loader, bool shuffle);

/* The loaders of a hook: for (l = first, i = 0; l; l = light_loader_following(l), i++). i is the dataloader_idx, which
 * light_loader_next puts into the batches. */
light_loader *light_loader_following(const light_loader *loader);
int64_t light_loader_batch_size(const light_loader *loader);
bool light_loader_shuffles(const light_loader *loader);
const char *light_loader_dataset_name(const light_loader *loader);

/* The same as light_loader_next in host memory. */
light_status light_loader_next_host(light_loader *loader, light_host_batch *batch, light_batch *about);

/* Where the loader is: the epoch, and how many batches of it all processes have been given. Batches that are ready but
 * not given out do not count. Exact where a window ends, on rank 0, which has a batch in each turn. */
void light_loader_position(const light_loader *loader, int64_t *epoch, int64_t *batch);
/* The position into a group of a checkpoint, and back. It counts samples of all processes, so any number of them may go
 * on from it. After a load light_loader_position says where; a light_loader_begin with exactly that continues streams
 * where they were. Another batch size is fine where the samples seen make whole batches of it; another dataset length, or
 * for a stream other shards or another number of processes, are an error. `host`: all processes of the loader's share,
 * which call this together; NULL: there is one. */
light_status light_loader_save_state(light_loader *loader, light_communicator *host, light_state *state);
light_status light_loader_load_state(light_loader *loader, const light_state *state);

#endif
