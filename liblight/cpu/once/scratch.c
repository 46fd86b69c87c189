/* SPDX-License-Identifier: Apache-2.0 */
/* Work memory of the CPU backend; see scratch.h. */
#include "cpu/once/scratch.h"

#include <light/status.h>

#include <sys/mman.h>

static struct {
    void *base;
    size_t size;
} blocks[LIGHT_SCRATCH_COUNT];

void *light_cpu_scratch(light_scratch_slot slot, size_t size)
{
    if (size <= blocks[slot].size) return blocks[slot].base;
    const size_t unit = (size_t)2 << 20;
    const size_t want = (size + size / 4 + unit - 1) / unit * unit;
    if (blocks[slot].base) munmap(blocks[slot].base, blocks[slot].size);
    blocks[slot].base = NULL;
    blocks[slot].size = 0;
    void *p = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        light_fail(LIGHT_ERR_MEMORY, "cpu: out of memory for %zu bytes of work space", want);
        return NULL;
    }
    madvise(p, want, MADV_HUGEPAGE);
    blocks[slot].base = p;
    blocks[slot].size = want;
    return p;
}
