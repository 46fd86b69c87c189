/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a step: a two-level segregated fit allocator over one reserved range of addresses.
 *
 * The same sequence of calls gives the same offsets, so a training step that repeats itself finds its tensors at the
 * addresses of the step before: memory that is mapped, in the caches' sets it knows, and never asked of the heap.
 * Block descriptors live outside the range, so that the range may be device memory. */
#ifndef LIGHT_TENSOR_ARENA_H
#define LIGHT_TENSOR_ARENA_H

#include "tensor/device.h"

typedef struct light_arena light_arena;

light_status light_arena_new(light_arena **out, light_device *device);
void light_arena_free(light_arena *arena);
/* `bytes` at *data, aligned to 64; returns the block, or -1 with the error set. */
int32_t light_arena_take(light_arena *arena, size_t bytes, void **data);
void light_arena_give(light_arena *arena, int32_t block);
/* Gives everything back at once. */
void light_arena_reset(light_arena *arena);
size_t light_arena_used(const light_arena *arena);
size_t light_arena_peak(const light_arena *arena);

#endif
