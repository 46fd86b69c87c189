/* SPDX-License-Identifier: Apache-2.0 */
/* What the trainer asks of a loader beside the public calls: sharding, seeds, positions, chains.
 *
 * light_loader_begin, light_loader_next, light_loader_num_batches and light_loader_free are in light/data.h. Set
 * everything here before light_loader_begin. */
#ifndef LIGHT_DATA_LOADER_H
#define LIGHT_DATA_LOADER_H

#include <light/data.h>
#include <light/state.h>

/* This process reads part `rank` of `world`. Position p of the epoch's order belongs to rank p % world, so the batches
 * of all ranks together are the same samples for any world. With `pad` (training) every rank gets as many samples: the
 * order starts again at its front to fill up, or with drop_last the rest is left out. Without it (evaluation) each
 * sample is seen once, and ranks may differ by one sample, and so by one batch. Default: 0 of 1. */
light_status light_loader_set_shard(light_loader *loader, int rank, int world, bool pad);
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

/* Where the loader is: the epoch, and how many batches light_loader_next has given out of it. Batches that are ready
 * but not given out do not count. */
void light_loader_position(const light_loader *loader, int64_t *epoch, int64_t *batch);
/* The position into a group of a checkpoint, and back. After a load light_loader_position says where to go on; a
 * light_loader_begin with exactly that continues streams where they were. Another batch size or world is fine where
 * the samples seen make whole batches of it; another dataset length, or shards, are an error. */
light_status light_loader_save_state(light_loader *loader, light_state *state);
light_status light_loader_load_state(light_loader *loader, const light_state *state);

#endif
