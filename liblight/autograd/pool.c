/* SPDX-License-Identifier: Apache-2.0 */
#include "autograd/pool.h"

#include "base/memory.h"

#include <string.h>

#define CHUNK_BYTES ((size_t)256 << 10)

struct light_pool_chunk {
    light_pool_chunk *next;
    size_t bytes;
    _Alignas(16) char memory[];
};

/* Goes on to the next chunk that has room, making it when there is none. */
static light_pool_chunk *next_chunk(light_pool *pool, size_t bytes)
{
    light_pool_chunk **link = pool->current ? &pool->current->next : &pool->first;
    while (*link && (*link)->bytes < bytes) link = &(*link)->next;
    if (!*link) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        light_pool_chunk *chunk = light_alloc(sizeof *chunk + size);
        if (!chunk) return NULL;
        chunk->next = NULL;
        chunk->bytes = size;
        *link = chunk;
    }
    pool->current = *link;
    pool->used = 0;
    return *link;
}

void *light_pool_take(light_pool *pool, size_t bytes)
{
    light_pool_chunk *chunk = pool->current;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!chunk || chunk->bytes - pool->used < bytes) {
        chunk = next_chunk(pool, bytes);
        if (!chunk) return NULL;
    }
    void *memory = chunk->memory + pool->used;
    pool->used += bytes;
    return memset(memory, 0, bytes);
}

void light_pool_reset(light_pool *pool)
{
    pool->current = pool->first;
    pool->used = 0;
}

void light_pool_free(light_pool *pool)
{
    for (light_pool_chunk *chunk = pool->first; chunk;) {
        light_pool_chunk *next = chunk->next;
        light_free(chunk);
        chunk = next;
    }
    *pool = (light_pool){0};
}
