/* SPDX-License-Identifier: Apache-2.0 */
/* Work memory of the CPU backend: grows to the largest request, lies on huge pages, is reused for ever. */
#ifndef LIGHT_CPU_ONCE_SCRATCH_H
#define LIGHT_CPU_ONCE_SCRATCH_H

#include <stddef.h>

/* One block per user, so that a convolution can call a product while it holds its own. */
typedef enum {
    LIGHT_SCRATCH_GEMM,
    LIGHT_SCRATCH_CONV,
    LIGHT_SCRATCH_CONVERT,
    LIGHT_SCRATCH_SUMS,
    LIGHT_SCRATCH_KERNEL, /* norms, embedding, attention: none of these calls another */
    LIGHT_SCRATCH_COUNT
} light_scratch_slot;

/* At least size bytes, aligned to 4096; NULL (and the message set) when memory is out. The contents and the
 * address last until the next call with the same slot. For the one thread that computes. */
void *light_cpu_scratch(light_scratch_slot slot, size_t size);

/* Zeroed memory for what is kept as long as the process, such as caches; never given back, so not the heap's. NULL (and
 * the message set) when memory is out. */
void *light_cpu_lasting(size_t size);

#endif
