/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU as a device: its memory, and its kernels in the best instruction set that this processor has. */
#include "cpu/once/backend.h"

#include "base/memory.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Arrays of kernels, one for each file of cpu/. */
#define KERNEL_ARRAYS(X)                                                                                     \
    X(light_attention_kernels)                                                                               \
    X(light_combine_kernels)                                                                                 \
    X(light_conv2d_kernels)                                                                                  \
    X(light_copy_kernels)                                                                                    \
    X(light_dropout_kernels)                                                                                 \
    X(light_elementwise_kernels)                                                                             \
    X(light_embedding_kernels)                                                                               \
    X(light_flat_kernels)                                                                                    \
    X(light_index_kernels)                                                                                   \
    X(light_loss_kernels)                                                                                    \
    X(light_matmul_kernels)                                                                                  \
    X(light_norm_kernels)                                                                                    \
    X(light_optimizer_kernels)                                                                               \
    X(light_pool_kernels)                                                                                    \
    X(light_random_kernels)                                                                                  \
    X(light_reduce_kernels)                                                                                  \
    X(light_rope_kernels)                                                                                    \
    X(light_scan_kernels)                                                                                    \
    X(light_softmax_kernels)

#if defined(LIGHT_CPU_X86_64)
#define ISAS(X, name) X(name##_generic) X(name##_avx2) X(name##_avx512)
#else
#define ISAS(X, name) X(name##_generic)
#endif

#define DECLARE(name)  extern const light_cpu_kernel name[];
#define DECLARE3(name) ISAS(DECLARE, name)
KERNEL_ARRAYS(DECLARE3)

typedef enum isa { GENERIC, AVX2, AVX512 } isa;

#define ENTRY(name)  name,
#define ENTRY3(name) {ISAS(ENTRY, name)},
static const light_cpu_kernel *const arrays[][3] = {KERNEL_ARRAYS(ENTRY3)};

static light_kernel table[LIGHT_KERNEL_COUNT];

/* ---- which instruction set ---------------------------------------------- */

static isa best_isa(void)
{
#if defined(LIGHT_CPU_X86_64)
    __builtin_cpu_init();
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
    return v3 && v4 ? AVX512 : v3 ? AVX2 : GENERIC;
#else
    return GENERIC;
#endif
}

/* LIGHT_CPU=generic, avx2 or avx512 asks for less than the processor has. */
static isa chosen_isa(void)
{
    static const char *const names[] = {"generic", "avx2", "avx512"};
    isa best = best_isa();
    const char *wanted = getenv("LIGHT_CPU");
    for (int i = 0; wanted && i < (int)best; i++)
        if (!strcmp(wanted, names[i])) return (isa)i;
    return best;
}

int light_cpu_isa(void)
{
    static int isa = -1; /* asked for by one thread first, before main */
    if (isa < 0) isa = (int)chosen_isa();
    return isa;
}

/* Before main, so that no thread ever sees half a table. */
__attribute__((constructor)) static void fill_table(void)
{
    int chosen = light_cpu_isa();
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        for (const light_cpu_kernel *k = arrays[i][chosen]; k->kernel; k++) table[k->id] = k->kernel;
}

/* ---- memory ------------------------------------------------------------- */

#define HUGE_PAGE ((size_t)2 << 20)

static light_status cpu_open(light_device *device, int index)
{
    (void)device;
    if (index == 0) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT, "device \"cpu:%d\": there is one cpu device", index);
}

static void cpu_close(light_device *device)
{
    (void)device;
}

static light_status cpu_reserve(light_device *device, size_t reserve, void **base)
{
    (void)device;
    void *memory =
        mmap(NULL, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return light_fail(LIGHT_ERR_MEMORY, "cpu: cannot reserve %zu MiB of addresses: %s", reserve >> 20,
                          strerror(errno));
    madvise(memory, reserve, MADV_HUGEPAGE); /* where the system has none, small pages do */
    *base = memory;
    return LIGHT_OK;
}

/* What the system can still give, in bytes; SIZE_MAX when it does not say. */
static size_t available_memory(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    unsigned long long kilobytes = 0;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1;
    if (file) fclose(file);
    return found ? (size_t)kilobytes * 1024 : SIZE_MAX;
}

/* Pages come by themselves when touched; only a request that cannot be met has to be told before it kills the process. */
static light_status cpu_commit(light_device *device, void *base, size_t from, size_t to)
{
    (void)device;
    (void)base;
    size_t available = available_memory();
    if (to - from <= available) return LIGHT_OK;
    return light_fail(
        LIGHT_ERR_MEMORY,
        "out of memory on cpu: a step grew to %zu MiB, %zu MiB more than there were, and %zu MiB are "
        "left (smaller batches, light_recompute or 16-bit precision need less)",
        to >> 20, (to - from) >> 20, available >> 20);
}

static void cpu_unreserve(light_device *device, void *base, size_t reserve)
{
    (void)device;
    munmap(base, reserve);
}

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* Large blocks are mapped, on huge pages where there are any; small ones share pages by malloc's own means. */
static light_status cpu_allocate(light_device *device, size_t bytes, void **data)
{
    (void)device;
    size_t available = bytes >= HUGE_PAGE ? available_memory() : SIZE_MAX;
    if (bytes > available || bytes > SIZE_MAX / 2)
        return light_fail(LIGHT_ERR_MEMORY, "out of memory on cpu: %zu MiB were asked for, %zu MiB are left",
                          bytes >> 20, available >> 20);
    if (bytes < HUGE_PAGE) {
        /* At least LIGHT_ALIGN_FROM bytes, so that the block is aligned. */
        *data = light_calloc(1, bytes < LIGHT_ALIGN_FROM ? LIGHT_ALIGN_FROM : bytes);
        return *data ? LIGHT_OK : LIGHT_ERR_MEMORY;
    }
    void *memory = mmap(NULL, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return light_fail(LIGHT_ERR_MEMORY, "out of memory on cpu: %zu MiB were asked for: %s", bytes >> 20,
                          strerror(errno));
    madvise(memory, whole_pages(bytes), MADV_HUGEPAGE);
    *data = memory;
    return LIGHT_OK;
}

static void cpu_release(light_device *device, void *data, size_t bytes)
{
    (void)device;
    if (bytes < HUGE_PAGE)
        light_free(data);
    else
        munmap(data, whole_pages(bytes));
}

static light_status cpu_copy(light_device *device, void *to, const void *from, size_t bytes,
                             light_copy_kind kind)
{
    (void)device;
    (void)kind;
    memcpy(to, from, bytes);
    return LIGHT_OK;
}

static light_status cpu_synchronize(light_device *device)
{
    (void)device;
    return LIGHT_OK;
}

const light_backend light_cpu_backend = {
    .size = sizeof(light_backend),
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .reserve = cpu_reserve,
    .commit = cpu_commit,
    .unreserve = cpu_unreserve,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .copy = cpu_copy,
    .synchronize = cpu_synchronize,
    .kernels = table,
};
