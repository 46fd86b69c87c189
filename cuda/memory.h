/* SPDX-License-Identifier: Apache-2.0 */
/* The backend's memory calls: see light_backend in tensor/device.h. */
#ifndef LIGHT_CUDA_MEMORY_H
#define LIGHT_CUDA_MEMORY_H

#include "cuda/device.h"

namespace light
{

/* device.cu */
light_status open_device(light_device *device, int index);
void close_device(light_device *device);
light_status synchronize(light_device *device);

/* memory.cu: lasting memory, from a pool that keeps what is released. */
light_status memory_open(light_device *device);
void memory_close(light_device *device);
light_status allocate(light_device *device, size_t bytes, void **data);
void release(light_device *device, void *data, size_t bytes);
/* "12.1 GiB are held, 0.3 GiB of 79.1 GiB are free", for messages */
char *memory_report(const light_device *device, char *text, size_t bytes);

/* Memory from CUDA, for as long as the device is open; gives the pool's unused memory back if it must. The caller holds
 * the device's mutex. */
light_status ask_cuda(light_device *device, size_t bytes, void **data);
/* Gives the pool's unused memory back to CUDA; false if there is none. */
bool give_back_unused(light_device *device);
/* An error: there is no memory for a step that grows from `from` bytes to `to`. */
light_status step_too_large(const light_device *device, size_t from, size_t to);

/* addresses.cu: a range of addresses that becomes memory piece by piece. */
light_status reserve(light_device *device, size_t bytes, void **base);
light_status commit(light_device *device, void *base, size_t from, size_t to);
void unreserve(light_device *device, void *base, size_t bytes);

/* transfer.cu: bytes between host and device. */
light_status transfer_open(light_device *device);
void transfer_close(light_device *device);
light_status copy(light_device *device, void *to, const void *from, size_t bytes, light_copy_kind kind);
light_status upload_begin(light_device *device);
light_status upload(light_device *device, const void *from, size_t bytes, void **data);
light_status fetch(light_device *device, const void *data, light_dtype dtype, int *ticket);
light_status fetched(light_device *device, int ticket, bool wait, double *value);

/* graph.cu: work that is recorded and repeated. */
light_status graph_begin(light_device *device);
light_status graph_end(light_device *device, void **graph);
light_status graph_launch(light_device *device, void *graph, uint64_t counter, const double *numbers, int n);
void graph_free(light_device *device, void *graph);
void graph_close(light_device *device);

} // namespace light

#endif
