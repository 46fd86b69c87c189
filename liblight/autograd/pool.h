/* SPDX-License-Identifier: Apache-2.0 */
/* Small structs that live for one step: memory handed out in order and taken back all at once. Chunks stay for the
 * next step, so a steady state asks nothing of the heap. */
#ifndef LIGHT_AUTOGRAD_POOL_H
#define LIGHT_AUTOGRAD_POOL_H

#include <stddef.h>

typedef struct light_pool_chunk light_pool_chunk;

typedef struct light_pool {
    light_pool_chunk *first, *current;
    size_t used; /* of `current` */
} light_pool;

/* Zeroed, aligned to 16. NULL when out of memory. */
void *light_pool_take(light_pool *pool, size_t bytes);
void light_pool_reset(light_pool *pool);
void light_pool_free(light_pool *pool);

#endif
