/* SPDX-License-Identifier: Apache-2.0 */
/* The backend's own calls, on the simulated device. */
#ifndef LIGHT_TESTS_CUDA_BACKEND_H
#define LIGHT_TESTS_CUDA_BACKEND_H

#include <light/message.h>

#include "support/tensors.h"

#include "tensor/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Opens the device; its warning, that it is none, is not wanted here. */
static inline light_device *open_cuda(const char *name)
{
    light_device *device;
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    assert_light_ok(light_device_get(name, &device));
    return device;
}

/* What the simulated device counts, see cuda/sim/runtime.h. */
typedef struct sim_counts {
    uint64_t launches, synchronizations, allocations;
} sim_counts;

/* After open_cuda. */
static inline sim_counts counts_now(void)
{
    const sim_counts *(*counts)(void);
    char path[4096];
    snprintf(path, sizeof path, "%s/liblight_cuda_sim.so", getenv("LIGHT_PLUGIN_PATH"));
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    *(void **)&counts = dlsym(library, "light_sim_counts");
    dlclose(library); /* it stays open for the device */
    assert_non_null(counts);
    return *counts();
}

/* Byte i of pattern p. */
static inline unsigned char pattern(size_t i, unsigned p)
{
    return (unsigned char)((i * 2654435761u >> 7) + 31u * p);
}

static inline unsigned char *new_pattern(size_t bytes, unsigned p)
{
    unsigned char *data = malloc(bytes);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++) data[i] = pattern(i, p);
    return data;
}

static inline void assert_pattern(const unsigned char *data, size_t bytes, unsigned p)
{
    size_t i = 0;
    while (i < bytes && data[i] == pattern(i, p)) i++;
    if (i < bytes) fail_msg("byte %zu of %zu of pattern %u is %u", i, bytes, p, data[i]);
}

static inline light_tensor bytes_at(void *data, size_t bytes)
{
    light_tensor t = {.data = data, .dtype = LIGHT_U8};
    light_tensor_set_shape(&t, LIGHT_SHAPE((int64_t)bytes));
    return t;
}

/* Device to device, by the kernel, on the stream of all kernels. */
static inline void copy_within(light_device *device, void *to, void *from, size_t bytes)
{
    light_tensor x = bytes_at(from, bytes), y = bytes_at(to, bytes);
    light_kernel_args args = {.device = device, .in = {&x}, .out = {&y}};
    assert_light_ok(device->backend->kernels[LIGHT_KERNEL_COPY](&args));
}

static inline void *allocate(light_device *device, size_t bytes)
{
    void *data;
    assert_light_ok(device->backend->allocate(device, bytes, &data));
    return data;
}

#endif
