/* SPDX-License-Identifier: Apache-2.0 */
/* Two-level segregated fit (Masmano et al., 2004) with descriptors outside the memory that it hands out. */
#include "tensor/arena.h"

#include "base/memory.h"

#define GRAIN       64 /* every block is a multiple, so every address is aligned to it */
#define SECOND_BITS 4  /* each power of two is cut into 16 classes */
#define SECOND      (1 << SECOND_BITS)
#define FIRST       44 /* classes up to 2^(44 + 6) bytes */
#define COMMIT_STEP ((size_t)4 << 20)
#define NONE        (-1)

typedef struct block {
    size_t offset, size;
    int32_t before, after; /* neighbours in memory */
    int32_t left, right;   /* in the free list of its class; right chains unused descriptors too */
    bool free;
} block;

struct light_arena {
    light_device *device;
    char *base;
    size_t reserved, committed;
    size_t used, peak;
    block *blocks;
    int32_t block_count, block_capacity, unused;
    uint64_t first_map;
    uint32_t second_map[FIRST];
    int32_t heads[FIRST][SECOND];
};

/* The class that holds sizes like `size` (in grains). */
static void class_of(size_t grains, int *first, int *second)
{
    if (grains < SECOND) {
        *first = 0;
        *second = (int)grains;
        return;
    }
    int top = 63 - __builtin_clzll(grains);
    *first = top - SECOND_BITS + 1;
    *second = (int)((grains >> (top - SECOND_BITS)) & (SECOND - 1));
}

static void list_add(light_arena *arena, int32_t id)
{
    int first, second;
    block *b = &arena->blocks[id];
    class_of(b->size / GRAIN, &first, &second);
    int32_t head = arena->heads[first][second];
    b->free = true;
    b->left = NONE;
    b->right = head;
    if (head != NONE) arena->blocks[head].left = id;
    arena->heads[first][second] = id;
    arena->second_map[first] |= 1u << second;
    arena->first_map |= 1ull << first;
}

static void list_remove(light_arena *arena, int32_t id)
{
    int first, second;
    block *b = &arena->blocks[id];
    class_of(b->size / GRAIN, &first, &second);
    if (b->right != NONE) arena->blocks[b->right].left = b->left;
    if (b->left != NONE) {
        arena->blocks[b->left].right = b->right;
    } else {
        arena->heads[first][second] = b->right;
        if (b->right == NONE && !(arena->second_map[first] &= ~(1u << second)))
            arena->first_map &= ~(1ull << first);
    }
    b->free = false;
}

/* A free block of at least `grains`, or NONE. Rounds up to the next class, whose blocks all fit. */
static int32_t list_find(const light_arena *arena, size_t grains)
{
    int first, second;
    if (grains >= SECOND) grains += ((size_t)1 << (63 - __builtin_clzll(grains) - SECOND_BITS)) - 1;
    class_of(grains, &first, &second);
    if (first >= FIRST) return NONE;
    uint32_t seconds = arena->second_map[first] & (~0u << second);
    if (!seconds) {
        uint64_t firsts = first + 1 < 64 ? arena->first_map & (~0ull << (first + 1)) : 0;
        if (!firsts) return NONE;
        first = __builtin_ctzll(firsts);
        seconds = arena->second_map[first];
    }
    return arena->heads[first][__builtin_ctz(seconds)];
}

static int32_t new_descriptor(light_arena *arena)
{
    if (arena->unused != NONE) {
        int32_t id = arena->unused;
        arena->unused = arena->blocks[id].right;
        return id;
    }
    if (arena->block_count == arena->block_capacity) {
        int32_t capacity = arena->block_capacity ? 2 * arena->block_capacity : 256;
        block *blocks = light_realloc(arena->blocks, (size_t)capacity * sizeof *blocks);
        if (!blocks) return NONE;
        arena->blocks = blocks;
        arena->block_capacity = capacity;
    }
    return arena->block_count++;
}

static void drop_descriptor(light_arena *arena, int32_t id)
{
    arena->blocks[id].right = arena->unused;
    arena->unused = id;
}

void light_arena_reset(light_arena *arena)
{
    arena->first_map = 0;
    for (int i = 0; i < FIRST; i++) {
        arena->second_map[i] = 0;
        for (int j = 0; j < SECOND; j++) arena->heads[i][j] = NONE;
    }
    arena->block_count = 1;
    arena->unused = NONE;
    arena->used = 0;
    arena->blocks[0] = (block){.size = arena->reserved, .before = NONE, .after = NONE};
    list_add(arena, 0);
}

light_status light_arena_new(light_arena **out, light_device *device)
{
    light_arena *arena = light_calloc(1, sizeof *arena);
    if (!arena) return LIGHT_ERR_MEMORY;
    light_status status = LIGHT_ERR_MEMORY;
    arena->device = device;
    arena->blocks = light_alloc(256 * sizeof *arena->blocks);
    arena->block_capacity = 256;
    if (!arena->blocks) goto failed;
    /* Addresses cost nothing; take as many as the system gives. */
    for (arena->reserved = (size_t)1 << 40; arena->reserved >= (size_t)1 << 28; arena->reserved >>= 1) {
        void *base;
        status = device->backend->reserve(device, arena->reserved, &base);
        arena->base = base;
        if (status == LIGHT_OK) break;
    }
    if (status != LIGHT_OK) goto failed;
    light_arena_reset(arena);
    *out = arena;
    return LIGHT_OK;
failed:
    light_free(arena->blocks);
    light_free(arena);
    return status;
}

void light_arena_free(light_arena *arena)
{
    if (!arena) return;
    arena->device->backend->unreserve(arena->device, arena->base, arena->reserved);
    light_free(arena->blocks);
    light_free(arena);
}

/* Makes the range up to `end` memory. */
static light_status commit(light_arena *arena, size_t end)
{
    if (end <= arena->committed) return LIGHT_OK;
    size_t to = (end + COMMIT_STEP - 1) / COMMIT_STEP * COMMIT_STEP;
    if (to > arena->reserved) to = arena->reserved;
    LIGHT_TRY(arena->device->backend->commit(arena->device, arena->base, arena->committed, to));
    arena->committed = to;
    return LIGHT_OK;
}

int32_t light_arena_take(light_arena *arena, size_t bytes, void **data)
{
    size_t size = bytes ? (bytes + GRAIN - 1) / GRAIN * GRAIN : GRAIN;
    int32_t id = size >= bytes ? list_find(arena, size / GRAIN) : NONE;
    if (id == NONE) {
        light_fail(LIGHT_ERR_MEMORY, "out of memory on %s: a step that holds %zu MiB asked for %zu MiB more",
                   arena->device->name, arena->used >> 20, bytes >> 20);
        return NONE;
    }
    if (commit(arena, arena->blocks[id].offset + size) != LIGHT_OK) return NONE;
    list_remove(arena, id);
    if (arena->blocks[id].size > size) {
        int32_t rest = new_descriptor(arena);
        if (rest == NONE) {
            list_add(arena, id);
            return NONE;
        }
        block *b = &arena->blocks[id];
        arena->blocks[rest] =
            (block){.offset = b->offset + size, .size = b->size - size, .before = id, .after = b->after};
        if (b->after != NONE) arena->blocks[b->after].before = rest;
        b->after = rest;
        b->size = size;
        list_add(arena, rest);
    }
    arena->used += size;
    if (arena->used > arena->peak) arena->peak = arena->used;
    *data = arena->base + arena->blocks[id].offset;
    return id;
}

/* Joins b with the block after it. */
static void join(light_arena *arena, int32_t id, int32_t next)
{
    block *b = &arena->blocks[id], *n = &arena->blocks[next];
    b->size += n->size;
    b->after = n->after;
    if (n->after != NONE) arena->blocks[n->after].before = id;
    drop_descriptor(arena, next);
}

void light_arena_give(light_arena *arena, int32_t id)
{
    block *b = &arena->blocks[id];
    arena->used -= b->size;
    int32_t after = b->after, before = b->before;
    if (after != NONE && arena->blocks[after].free) {
        list_remove(arena, after);
        join(arena, id, after);
    }
    if (before != NONE && arena->blocks[before].free) {
        list_remove(arena, before);
        join(arena, before, id);
        id = before;
    }
    list_add(arena, id);
}

size_t light_arena_used(const light_arena *arena)
{
    return arena->used;
}

size_t light_arena_peak(const light_arena *arena)
{
    return arena->peak;
}
