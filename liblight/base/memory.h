/* SPDX-License-Identifier: Apache-2.0 */
/* Heap memory that is counted, and that tests can make fail. */
#ifndef LIGHT_BASE_MEMORY_H
#define LIGHT_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Blocks of at least this size start on a cache line. */
#define LIGHT_ALIGN_FROM 256
#define LIGHT_ALIGNMENT  64

/* Each returns NULL after light_fail(LIGHT_ERR_MEMORY, ...), so callers just pass LIGHT_ERR_MEMORY on.
 * A size of zero gives a block that can be freed, never NULL. Release with light_free only. */
void *light_alloc(size_t bytes);
void *light_calloc(size_t count, size_t size);
void *light_realloc(void *block, size_t bytes); /* on failure the old block stays as it was */
char *light_strdup(const char *text);
char *light_strndup(const char *text, size_t length); /* `length` bytes of text, and a NUL */
void light_free(void *block);                         /* NULL is fine */

/* Count since the program started. A difference of `calls` tells whether a piece of code allocates,
 * a difference of `live` whether it leaks. */
typedef struct light_memory_counters {
    uint64_t calls; /* allocations asked for, reallocations included */
    int64_t live;   /* blocks not freed yet */
} light_memory_counters;

light_memory_counters light_memory_count(void);

/* For tests: the nth allocation from now on fails (1 is the next), once. 0 calls it off. */
void light_memory_fail_nth(int64_t n);

#endif
