/* SPDX-License-Identifier: Apache-2.0 */
/* See device.h. */
#include "support/device.h"

#include "tensor/device.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the locked device -------------------------------------------------- */

/* Addresses only: steps come from the beginning of the range, lasting memory from its end. */
#define RANGE ((size_t)1 << 42)
#define SLOT  ((size_t)1 << 30) /* for one step */
#define SLOTS 1024

static char *range;
static bool slot_taken[SLOTS];
static size_t lasting; /* bytes */
static struct {
    void *data;
    size_t bytes;
} spare[SLOTS];    /* released, to be handed out again: fresh addresses would cost a page table each */
static int inside; /* calls that have the door open */
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;

static void set_door(int change)
{
    pthread_mutex_lock(&door);
    bool was = inside > 0;
    inside += change;
    bool open = inside > 0;
    if (open != was && mprotect(range, RANGE, open ? PROT_READ | PROT_WRITE : PROT_NONE)) abort();
    pthread_mutex_unlock(&door);
}

static light_status locked_open(light_device *device, int index)
{
    (void)device;
    if (index) return light_fail(LIGHT_ERR_ARGUMENT, "device \"locked:%d\": there is one", index);
    range = mmap(NULL, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return range != MAP_FAILED ? LIGHT_OK : light_fail(LIGHT_ERR_MEMORY, "locked: no addresses");
}

static void locked_close(light_device *device)
{
    (void)device;
    munmap(range, RANGE);
}

static light_status locked_reserve(light_device *device, size_t reserve, void **base)
{
    (void)device;
    size_t slot = 0;
    if (reserve > SLOT) return light_fail(LIGHT_ERR_MEMORY, "locked: a step has 1 GiB");
    pthread_mutex_lock(&door);
    while (slot < SLOTS && slot_taken[slot]) slot++;
    if (slot < SLOTS) slot_taken[slot] = true;
    pthread_mutex_unlock(&door);
    *base = range + slot * SLOT;
    return slot < SLOTS ? LIGHT_OK : light_fail(LIGHT_ERR_MEMORY, "locked: too many steps");
}

static light_status locked_commit(light_device *device, void *base, size_t from, size_t to)
{
    (void)device, (void)base, (void)from, (void)to;
    return LIGHT_OK;
}

static void locked_unreserve(light_device *device, void *base, size_t reserve)
{
    (void)device;
    madvise(base, reserve, MADV_DONTNEED);
    pthread_mutex_lock(&door);
    slot_taken[(size_t)((char *)base - range) / SLOT] = false;
    pthread_mutex_unlock(&door);
}

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static light_status locked_allocate(light_device *device, size_t bytes, void **data)
{
    (void)device;
    size_t pages = whole_pages(bytes), i = 0;
    pthread_mutex_lock(&door);
    while (i < SLOTS && spare[i].bytes != pages) i++;
    if (i < SLOTS) {
        *data = spare[i].data;
        spare[i].bytes = 0;
    } else {
        lasting += pages;
        *data = range + RANGE - lasting;
    }
    pthread_mutex_unlock(&door);
    return LIGHT_OK;
}

static void locked_release(light_device *device, void *data, size_t bytes)
{
    (void)device;
    size_t pages = whole_pages(bytes), i = 0;
    madvise(data, pages, MADV_DONTNEED); /* zeros when it is used again */
    pthread_mutex_lock(&door);
    while (i < SLOTS && spare[i].bytes) i++;
    if (i < SLOTS) {
        spare[i].data = data;
        spare[i].bytes = pages;
    }
    pthread_mutex_unlock(&door);
}

static light_status locked_copy(light_device *device, void *to, const void *from, size_t bytes,
                                light_copy_kind kind)
{
    (void)device;
    const char *there = kind == LIGHT_COPY_HOST_TO_DEVICE ? to : from;
    if (there < range || there >= range + RANGE)
        return light_fail(LIGHT_ERR_ARGUMENT, "locked: a copy in the wrong direction");
    set_door(1);
    memcpy(to, from, bytes);
    set_door(-1);
    return LIGHT_OK;
}

/* Batches take turns in three parts of a slot. */
static struct {
    char *base;
    size_t used;
    int batch;
} uploads;

static light_status locked_upload_begin(light_device *device)
{
    void *base = uploads.base;
    if (!base) LIGHT_TRY(locked_reserve(device, SLOT, &base));
    uploads.base = base;
    uploads.batch = (uploads.batch + 1) % 3;
    uploads.used = 0;
    return LIGHT_OK;
}

static light_status locked_upload(light_device *device, const void *from, size_t bytes, void **data)
{
    *data = uploads.base + (size_t)uploads.batch * (SLOT / 4) + uploads.used;
    uploads.used += whole_pages(bytes);
    if (uploads.used > SLOT / 4) return light_fail(LIGHT_ERR_MEMORY, "locked: a batch has 256 MiB");
    return locked_copy(device, *data, from, bytes, LIGHT_COPY_HOST_TO_DEVICE);
}

/* Numbers that are fetched arrive when somebody waits for them, as late as can be. */
static struct {
    double value;
    bool taken;
} fetches[LIGHT_FETCHES];
static int next_fetch;

static light_status locked_fetch(light_device *device, const void *data, light_dtype dtype, int *ticket)
{
    double value;
    float narrow;
    if (fetches[next_fetch].taken)
        return light_fail(LIGHT_ERR_STATE, "locked: %d numbers are on their way", LIGHT_FETCHES);
    LIGHT_TRY(locked_copy(device, dtype == LIGHT_F64 ? (void *)&value : (void *)&narrow, data,
                          light_dtype_size(dtype), LIGHT_COPY_DEVICE_TO_HOST));
    fetches[next_fetch].value = dtype == LIGHT_F64 ? value : narrow;
    fetches[next_fetch].taken = true;
    *ticket = next_fetch;
    next_fetch = (next_fetch + 1) % LIGHT_FETCHES;
    return LIGHT_OK;
}

static light_status locked_fetched(light_device *device, int ticket, bool wait, double *value)
{
    if (!wait) return LIGHT_ERR_STATE;
    device->synchronizations++;
    fetches[ticket].taken = false;
    *value = fetches[ticket].value;
    return LIGHT_OK;
}

static light_status locked_synchronize(light_device *device)
{
    (void)device;
    return LIGHT_OK;
}

static light_status call_inside(light_kernel_id id, const light_kernel_args *args)
{
    set_door(1);
    light_status status = light_cpu_backend.kernels[id](args);
    set_door(-1);
    return status;
}

#define X(name)                                                                                              \
    static light_status locked_##name(const light_kernel_args *args)                                         \
    {                                                                                                        \
        return call_inside(LIGHT_KERNEL_##name, args);                                                       \
    }
LIGHT_KERNEL_MAP(X)
#undef X

#define X(name) locked_##name,
static const light_kernel locked_kernels[] = {LIGHT_KERNEL_MAP(X)};
#undef X

static const light_backend locked_backend = {
    .size = sizeof(light_backend),
    .name = "locked",
    .open = locked_open,
    .close = locked_close,
    .reserve = locked_reserve,
    .commit = locked_commit,
    .unreserve = locked_unreserve,
    .allocate = locked_allocate,
    .release = locked_release,
    .copy = locked_copy,
    .upload_begin = locked_upload_begin,
    .upload = locked_upload,
    .fetch = locked_fetch,
    .fetched = locked_fetched,
    .synchronize = locked_synchronize,
    .kernels = locked_kernels,
};

/* ---- the device of the tests -------------------------------------------- */

__attribute__((constructor)) static void choose(void)
{
    const char *name = getenv("LIGHT_TEST_DEVICE");
    light_device *device;
    if (light_backend_register(&locked_backend) != LIGHT_OK || light_device_get(name, &device) != LIGHT_OK) {
        fprintf(stderr, "LIGHT_TEST_DEVICE: %s\n", light_error_message());
        _Exit(1);
    }
    light_set_default_device(device);
}

light_device *test_device(void)
{
    return light_default_device();
}

void device_read(light_device *device, const void *from, void *to, size_t bytes)
{
    assert_int_equal(device->backend->copy(device, to, from, bytes, LIGHT_COPY_DEVICE_TO_HOST), LIGHT_OK);
}

void device_write(light_device *device, void *to, const void *from, size_t bytes)
{
    assert_int_equal(device->backend->copy(device, to, from, bytes, LIGHT_COPY_HOST_TO_DEVICE), LIGHT_OK);
}
