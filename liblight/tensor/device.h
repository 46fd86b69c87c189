/* SPDX-License-Identifier: Apache-2.0 */
/* The backend vtable: what a device must offer to the engine. A backend is a table of memory calls and a table of
 * kernels (kernels.h). The CPU's is built in, others are plug-ins that register themselves when opened. */
#ifndef LIGHT_TENSOR_DEVICE_H
#define LIGHT_TENSOR_DEVICE_H

#include "tensor/kernels.h"
#include "tensor/tensor.h"

#include <light/message.h>

#include <stdarg.h>

typedef enum light_copy_kind { LIGHT_COPY_HOST_TO_DEVICE, LIGHT_COPY_DEVICE_TO_HOST } light_copy_kind;

typedef struct light_backend {
    size_t size;      /* sizeof(light_backend) of the plug-in's build */
    const char *name; /* "cpu" */
    /* Opens device `index`; sets device->state. */
    light_status (*open)(light_device *device, int index);
    void (*close)(light_device *device);
    /* Address space for a step's arena: `reserve` bytes that become memory as `commit` asks for them. */
    light_status (*reserve)(light_device *device, size_t reserve, void **base);
    light_status (*commit)(light_device *device, void *base, size_t from, size_t to);
    void (*unreserve)(light_device *device, void *base, size_t reserve);
    /* Lasting memory, zeroed, aligned to 64 bytes at least. */
    light_status (*allocate)(light_device *device, size_t bytes, void **data);
    void (*release)(light_device *device, void *data, size_t bytes);
    /* Contiguous bytes between host and device; returns when the host side may be used again. */
    light_status (*copy)(light_device *device, void *to, const void *from, size_t bytes,
                         light_copy_kind kind);
    /* A batch from the host, without waiting for it or for the device. `upload_begin` starts the next batch; `upload`
     * copies bytes to memory of that batch, which stays until the second upload_begin after it. The host side may be
     * used again when upload returns. NULL on a host device. */
    light_status (*upload_begin)(light_device *device);
    light_status (*upload)(light_device *device, const void *from, size_t bytes, void **data);
    /* A number to the host, without waiting: `fetch` starts the copy of an f32 or f64, as it is when all work asked for
     * so far is done; `fetched` gives it as a double, once, and says LIGHT_ERR_STATE while it is not there yet unless it
     * may wait. At most LIGHT_FETCHES may be on their way. NULL on a host device. */
    light_status (*fetch)(light_device *device, const void *data, light_dtype dtype, int *ticket);
    light_status (*fetched)(light_device *device, int ticket, bool wait, double *value);
    /* Work that repeats (NULL: this backend has no graphs). What is asked for between begin and end is recorded and not
     * done; end gives the record, or drops it where `graph` is NULL. A launch does it once: random numbers are those of
     * the step `counter`, and the i-th OPTIMIZER call of the record takes numbers[2 i] for lr and numbers[2 i + 1] for
     * step. Reading results, and asking for memory, is an error while recording. */
    light_status (*graph_begin)(light_device *device);
    light_status (*graph_end)(light_device *device, void **graph);
    light_status (*graph_launch)(light_device *device, void *graph, uint64_t counter, const double *numbers,
                                 int n);
    void (*graph_free)(light_device *device, void *graph);
    /* Waits for all work; reports what went wrong since the last call. */
    light_status (*synchronize)(light_device *device);
    /* Names what the host does from push to pop, for a profiler. NULL: there is none. */
    void (*range_push)(const char *name);
    void (*range_pop)(void);
    const light_kernel *kernels;                 /* LIGHT_KERNEL_COUNT entries, NULL: this backend lacks it */
    const struct light_collectives *collectives; /* collectives.h; NULL: there are none */
} light_backend;

struct light_device {
    const light_backend *backend;
    char name[32]; /* "cpu", "cuda:0" */
    int index;
    bool is_host;              /* data pointers may be read by the host */
    bool simulated;            /* a GPU that is played by the CPU */
    uint64_t synchronizations; /* how often the host has waited for the device */
    void *state;               /* the backend's */
};

#define LIGHT_FETCHES 256

/* A plug-in is a shared library with one entry. It needs no symbol of this library, so that a program may have that
 * linked in; it calls it through `host`. */
typedef struct light_plugin_host {
    size_t size; /* sizeof(light_plugin_host) of the library's build */
    light_status (*fail)(light_status status, const char *format, va_list arguments);
    void (*message)(light_message_level level, const char *format, ...) LIGHT_PRINTF(2, 3);
} light_plugin_host;
/* Gives the plug-in's table, which begins with its size: a light_backend, or what its name stands for. */
typedef const void *(*light_plugin_entry)(const light_plugin_host *host);
#define LIGHT_PLUGIN_ENTRY "light_plugin"

static inline void light_range_push(const light_device *device, const char *name)
{
    if (device->backend->range_push) device->backend->range_push(name);
}

static inline void light_range_pop(const light_device *device)
{
    if (device->backend->range_pop) device->backend->range_pop();
}

/* The CPU device; always there. */
light_device *light_device_cpu(void);
/* Adds a backend under its name. */
light_status light_backend_register(const light_backend *backend);
/* plugin.c: opens liblight_NAME.so ("cuda", "cuda_sim", "mpi") and gives its table. Looked for in LIGHT_PLUGIN_PATH, beside
 * this library, and where it was installed. */
light_status light_plugin_open(const char *name, const void **table);

extern const light_backend light_cpu_backend;

#endif
