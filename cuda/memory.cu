/* SPDX-License-Identifier: Apache-2.0 */
/* Lasting memory: parameters, gradients, optimizer state. Asking CUDA for memory and giving it back waits for the
 * device, so blocks that are released stay here, by size, for the next that fits. Work memory of kernels too. */
#include "cuda/memory.h"

#include <stdio.h>
#include <stdlib.h>

namespace light
{

/* Sizes are rounded up to one of 8 steps between powers of two, so that at most an eighth is unused. */
enum { SMALLEST = 512, STEPS = 8, CLASSES = 36 * STEPS };

struct free_block {
    free_block *next;
    void *data;
};

struct pool {
    free_block *free_of[CLASSES]; /* by class; the descriptors are host memory */
    size_t held, cached;          /* bytes asked of CUDA; of them unused */
    free_block *outgrown;         /* work memory that graphs may still use */
};

static size_t class_bytes(int which)
{
    size_t base = (size_t)SMALLEST << which / STEPS;
    return base + base / STEPS * (size_t)(which % STEPS);
}

static int class_of(size_t bytes)
{
    int which = 0;
    while (which < CLASSES && class_bytes(which) < bytes) which++;
    return which;
}

char *memory_report(const light_device *device, char *text, size_t bytes)
{
    size_t free_bytes = 0, total = 0;
    const pool *p = state_of(device)->memory;
    cudaMemGetInfo(&free_bytes, &total);
    snprintf(text, bytes, "%zu MiB of lasting memory are held, %zu MiB of the device's %zu MiB are free",
             p->held >> 20, free_bytes >> 20, total >> 20);
    return text;
}

light_status step_too_large(const light_device *device, size_t from, size_t to)
{
    char text[256];
    return light_fail(
        LIGHT_ERR_MEMORY,
        "out of memory on %s: a step grew to %zu MiB, %zu MiB more than there were; %s (smaller batches, "
        "light_recompute or 16-bit precision need less)",
        device->name, to >> 20, (to - from) >> 20, memory_report(device, text, sizeof text));
}

/* Gives all that is unused back to CUDA. */
static void trim(pool *p)
{
    for (int i = 0; i < CLASSES; i++) {
        while (free_block *block = p->free_of[i]) {
            p->free_of[i] = block->next;
            p->held -= class_bytes(i);
            p->cached -= class_bytes(i);
            cudaFree(block->data);
            free(block);
        }
    }
}

light_status ask_cuda(light_device *device, size_t bytes, void **data)
{
    pool *p = state_of(device)->memory;
    char text[256];
    LIGHT_TRY(refuse_recording(device, "asking for memory"));
    LIGHT_TRY(use(device));
    cudaError_t error = cudaMalloc(data, bytes);
    if (error == cudaErrorMemoryAllocation && p->cached) {
        cudaGetLastError();
        trim(p);
        error = cudaMalloc(data, bytes);
    }
    if (error == cudaSuccess) return LIGHT_OK;
    cudaGetLastError(); /* the error is told here, the next call has its own */
    if (error != cudaErrorMemoryAllocation) return cuda_status(device, error, "asking for memory");
    return light_fail(
        LIGHT_ERR_MEMORY,
        "out of memory on %s: %zu KiB were asked for; %s (smaller batches, light_recompute or 16-bit "
        "precision need less)",
        device->name, bytes >> 10, memory_report(device, text, sizeof text));
}

bool give_back_unused(light_device *device)
{
    held mutex(device);
    pool *p = state_of(device)->memory;
    if (!p->cached) return false;
    trim(p);
    return true;
}

light_status memory_open(light_device *device)
{
    device_state *s = state_of(device);
    s->memory = (pool *)calloc(1, sizeof *s->memory);
    if (!s->memory) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    return transfer_open(device);
}

void memory_close(light_device *device)
{
    device_state *s = state_of(device);
    transfer_close(device);
    if (s->scratch) cudaFree(s->scratch);
    if (s->memory) {
        trim(s->memory);
        while (free_block *block = s->memory->outgrown) {
            s->memory->outgrown = block->next;
            cudaFree(block->data);
            free(block);
        }
    }
    free(s->memory);
}

/* From the pool, or from CUDA. */
static light_status take_block(light_device *device, int which, void **data)
{
    pool *p = state_of(device)->memory;
    if (free_block *block = p->free_of[which]) {
        p->free_of[which] = block->next;
        p->cached -= class_bytes(which);
        *data = block->data;
        free(block);
        return LIGHT_OK;
    }
    LIGHT_TRY(ask_cuda(device, class_bytes(which), data));
    p->held += class_bytes(which);
    return LIGHT_OK;
}

light_status allocate(light_device *device, size_t bytes, void **data)
{
    held mutex(device);
    int which = class_of(bytes);
    LIGHT_TRY(refuse_recording(device, "asking for memory"));
    if (which == CLASSES)
        return light_fail(LIGHT_ERR_MEMORY, "out of memory on %s: %zu MiB were asked for", device->name,
                          bytes >> 20);
    LIGHT_TRY(take_block(device, which, data));
    return cuda_status(device, cudaMemsetAsync(*data, 0, bytes, stream_of(device)), "clearing memory");
}

void release(light_device *device, void *data, size_t bytes)
{
    held mutex(device);
    pool *p = state_of(device)->memory;
    int which = class_of(bytes);
    free_block *block = (free_block *)malloc(sizeof *block);
    if (!block) { /* nowhere to note it */
        p->held -= class_bytes(which);
        cudaFree(data);
        return;
    }
    *block = free_block{p->free_of[which], data};
    p->free_of[which] = block;
    p->cached += class_bytes(which);
}

/* ---- work memory of kernels ---------------------------------------------------- */

/* A graph goes on using the memory that it was recorded with: where there are graphs it is kept, and what follows it is so
 * much larger that all that is kept takes no more than the last. */
static light_status drop_scratch(device_state *s, size_t *wanted)
{
    if (s->graphs && s->scratch) {
        free_block *block = (free_block *)malloc(sizeof *block);
        if (!block) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
        *block = free_block{s->memory->outgrown, s->scratch};
        s->memory->outgrown = block;
        if (*wanted < 2 * s->scratch_bytes) *wanted = 2 * s->scratch_bytes;
    } else {
        cudaFree(s->scratch); /* waits for the kernels that use it */
    }
    s->scratch = NULL;
    s->scratch_bytes = 0;
    return LIGHT_OK;
}

light_status scratch(const light_device *device, size_t bytes, void **data)
{
    device_state *s = state_of(device);
    if (bytes > s->scratch_bytes) {
        held mutex(device);
        LIGHT_TRY(refuse_recording(device, "asking for memory"));
        LIGHT_TRY(drop_scratch(s, &bytes));
        LIGHT_TRY(ask_cuda((light_device *)device, bytes, &s->scratch));
        s->scratch_bytes = bytes;
    }
    *data = s->scratch;
    return LIGHT_OK;
}

} // namespace light
