/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of this process. Backends other than the CPU's are registered by their plug-in. */
#include "tensor/device.h"

#include <light/message.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BACKENDS 4
#define MAX_DEVICES  16

static const light_backend *backends[MAX_BACKENDS];
static int backend_count;
static light_device devices[MAX_DEVICES];
static int device_count;
static light_device *_Atomic default_device; /* NULL: the CPU */

light_device *light_device_cpu(void)
{
    static light_device cpu = {.name = "cpu", .is_host = true, .backend = &light_cpu_backend};
    return &cpu;
}

light_device *light_default_device(void)
{
    light_device *device = atomic_load(&default_device);
    return device ? device : light_device_cpu();
}

light_device *light_set_default_device(light_device *device)
{
    light_device *was = atomic_exchange(&default_device, device);
    return was ? was : light_device_cpu();
}

light_status light_backend_register(const light_backend *backend)
{
    if (backend->size != sizeof(light_backend))
        return light_fail(LIGHT_ERR_UNSUPPORTED, "backend %s was built for another version of liblight",
                          backend->name);
    if (backend_count == MAX_BACKENDS)
        return light_fail(LIGHT_ERR_STATE, "backend %s: %d backends are registered already", backend->name,
                          MAX_BACKENDS);
    backends[backend_count++] = backend;
    return LIGHT_OK;
}

static const light_backend *find_backend(const char *name, size_t length)
{
    for (int i = 0; i < backend_count; i++)
        if (strlen(backends[i]->name) == length && !strncmp(backends[i]->name, name, length))
            return backends[i];
    return NULL;
}

/* "cuda:1" into the length of "cuda" and 1. */
static bool parse_name(const char *name, size_t *length, int *index)
{
    *length = strcspn(name, ":");
    *index = 0;
    if (!name[*length]) return *length > 0;
    char *end;
    long value = strtol(name + *length + 1, &end, 10);
    *index = (int)value;
    return *length > 0 && end != name + *length + 1 && !*end && value >= 0 && value < 4096;
}

/* The real device, or the simulated one. */
static light_status open_cuda(const light_backend **backend)
{
    const char *kind = getenv("LIGHT_CUDA");
    bool simulated = kind && !strcmp(kind, "simulated");
    const void *table;
    if (kind && !simulated && strcmp(kind, "real"))
        return light_fail(LIGHT_ERR_ARGUMENT, "LIGHT_CUDA is \"%s\"; it may be real or simulated", kind);
    LIGHT_TRY(light_plugin_open(simulated ? "cuda_sim" : "cuda", &table));
    *backend = table;
    return LIGHT_OK;
}

/* The first use of a backend that is not built in. */
static light_status open_backend(const char *device, size_t length, const light_backend **backend)
{
    if (length != strlen("cuda") || strncmp(device, "cuda", length))
        return light_fail(LIGHT_ERR_UNSUPPORTED, "device \"%s\": there are cpu and cuda", device);
    light_status status = open_cuda(backend);
    if (status == LIGHT_OK) status = light_backend_register(*backend);
    return status == LIGHT_OK ? status : light_fail_in(status, "device \"%s\"", device);
}

light_status light_device_get(const char *name, light_device **device)
{
    size_t length;
    int index;
    if (!name || !strcmp(name, "cpu")) {
        *device = light_device_cpu();
        return LIGHT_OK;
    }
    if (!parse_name(name, &length, &index))
        return light_fail(LIGHT_ERR_ARGUMENT, "device \"%s\": expected cpu, cuda or cuda:N", name);
    const light_backend *backend = find_backend(name, length);
    if (!backend) LIGHT_TRY(open_backend(name, length, &backend));
    for (int i = 0; i < device_count; i++) {
        if (devices[i].backend == backend && devices[i].index == index) {
            *device = &devices[i];
            return LIGHT_OK;
        }
    }
    if (device_count == MAX_DEVICES)
        return light_fail(LIGHT_ERR_STATE, "device \"%s\": %d devices are open already", name, MAX_DEVICES);
    light_device *d = &devices[device_count];
    *d = (light_device){.backend = backend, .index = index};
    snprintf(d->name, sizeof d->name, "%.*s:%d", (int)length, name, index);
    LIGHT_TRY(backend->open(d, index));
    if (d->simulated) {
        snprintf(d->name, sizeof d->name, "%.*s:%d (simulated)", (int)length, name, index);
        light_message(LIGHT_MESSAGE_WARNING,
                      "%s: the CPU plays the GPU, to test the GPU's code; its speed means nothing", d->name);
    }
    device_count++;
    *device = d;
    return LIGHT_OK;
}

const char *light_device_name(const light_device *device)
{
    return device ? device->name : "no device";
}

light_status light_device_synchronize(light_device *device)
{
    if (!device) return light_fail(LIGHT_ERR_ARGUMENT, "device_synchronize: no device");
    return device->backend->synchronize(device);
}
