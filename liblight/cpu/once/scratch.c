/* SPDX-License-Identifier: Apache-2.0 */
/* Work memory of the CPU backend; see scratch.h. */
#include "cpu/once/scratch.h"

#include <light/status.h>

#include <sys/mman.h>

static struct {
    void *base;
    size_t size;
} blocks[LIGHT_SCRATCH_COUNT];

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) return p;
    light_fail(LIGHT_ERR_MEMORY, "cpu: out of memory for %zu bytes of work space", size);
    return NULL;
}

void *light_cpu_scratch(light_scratch_slot slot, size_t size)
{
    const size_t unit = (size_t)2 << 20;
    if (size <= blocks[slot].size) return blocks[slot].base;
    const size_t want = (size + size / 4 + unit - 1) / unit * unit;
    if (blocks[slot].base) munmap(blocks[slot].base, blocks[slot].size);
    blocks[slot].size = 0;
    blocks[slot].base = map(want);
    if (!blocks[slot].base) return NULL;
    madvise(blocks[slot].base, want, MADV_HUGEPAGE); /* where the system has none, small pages do */
    blocks[slot].size = want;
    return blocks[slot].base;
}

/* There in a build with the sanitizers only: pointers in mapped memory count for LeakSanitizer once it knows of it. */
extern void __lsan_register_root_region(const void *begin, size_t size) __attribute__((weak));

void *light_cpu_lasting(size_t size)
{
    static char *chunk;
    static size_t left;
    const size_t unit = (size_t)64 << 10, bytes = (size + 63) / 64 * 64;
    if (bytes > left) {
        const size_t want = (bytes + unit - 1) / unit * unit;
        char *fresh = map(want);
        if (!fresh) return NULL;
        if (__lsan_register_root_region) __lsan_register_root_region(fresh, want);
        chunk = fresh;
        left = want;
    }
    chunk += bytes;
    left -= bytes;
    return chunk - bytes;
}
