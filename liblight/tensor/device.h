/* SPDX-License-Identifier: Apache-2.0 */
/* The backend vtable: what a device must offer to the engine. A backend is a table of memory calls and a table of
 * kernels (kernels.h). The CPU's is built in, others are plug-ins that register themselves when opened. */
#ifndef LIGHT_TENSOR_DEVICE_H
#define LIGHT_TENSOR_DEVICE_H

#include "tensor/kernels.h"
#include "tensor/tensor.h"

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
    /* Waits for all work; reports what went wrong since the last call. */
    light_status (*synchronize)(light_device *device);
    const light_kernel *kernels; /* LIGHT_KERNEL_COUNT entries, NULL: this backend lacks it */
} light_backend;

struct light_device {
    const light_backend *backend;
    char name[32]; /* "cpu", "cuda:0" */
    int index;
    bool is_host; /* data pointers may be read by the host */
    void *state;  /* the backend's */
};

/* The CPU device; always there. */
light_device *light_device_cpu(void);
/* For plug-ins: adds a backend under its name. */
light_status light_backend_register(const light_backend *backend);

extern const light_backend light_cpu_backend;

#endif
