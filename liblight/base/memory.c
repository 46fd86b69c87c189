/* SPDX-License-Identifier: Apache-2.0 */
/* malloc with counters, alignment for large blocks, and failure on demand. */
#include "base/memory.h"

#include <light/status.h>

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint_fast64_t call_count;
static atomic_int_fast64_t live_count;
static atomic_int_fast64_t fail_countdown;

/* Counts a call and says whether it is the one that has to fail. */
static bool must_fail(void)
{
    atomic_fetch_add_explicit(&call_count, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

static void *out_of_memory(size_t bytes)
{
    light_fail(LIGHT_ERR_MEMORY, "out of memory: %zu bytes were asked for", bytes);
    return NULL;
}

/* The block alone, without counting. NULL when there is no memory. */
static void *raw_alloc(size_t bytes)
{
    void *block;

    if (bytes < LIGHT_ALIGN_FROM) return malloc(bytes ? bytes : 1);
    return posix_memalign(&block, LIGHT_ALIGNMENT, bytes) == 0 ? block : NULL;
}

void *light_alloc(size_t bytes)
{
    void *block = must_fail() ? NULL : raw_alloc(bytes);

    if (!block) return out_of_memory(bytes);
    atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
    return block;
}

void *light_calloc(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        light_fail(LIGHT_ERR_MEMORY, "out of memory: %zu times %zu bytes were asked for", count, size);
        return NULL;
    }
    /* glibc's calloc knows which pages are zero already, so it is used where its alignment is enough. */
    if (bytes < LIGHT_ALIGN_FROM) {
        void *block = must_fail() ? NULL : calloc(1, bytes ? bytes : 1);
        if (!block) return out_of_memory(bytes);
        atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
        return block;
    }
    void *block = light_alloc(bytes);
    return block ? memset(block, 0, bytes) : NULL;
}

void *light_realloc(void *block, size_t bytes)
{
    if (!block) return light_alloc(bytes);
    if (must_fail()) return out_of_memory(bytes);

    /* realloc would keep no alignment, so the block is moved by hand. */
    size_t held = malloc_usable_size(block);
    void *moved = raw_alloc(bytes);
    if (!moved) return out_of_memory(bytes);
    memcpy(moved, block, held < bytes ? held : bytes);
    free(block);
    return moved;
}

char *light_strndup(const char *text, size_t length)
{
    char *copy = light_alloc(length + 1);

    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *light_strdup(const char *text)
{
    return light_strndup(text, strlen(text));
}

void light_free(void *block)
{
    if (!block) return;
    atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
    free(block);
}

light_memory_counters light_memory_count(void)
{
    return (light_memory_counters){
        .calls = atomic_load(&call_count),
        .live = atomic_load(&live_count),
    };
}

void light_memory_fail_nth(int64_t n)
{
    atomic_store(&fail_countdown, n);
}
