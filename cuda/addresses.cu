/* SPDX-License-Identifier: Apache-2.0 */
/* Address ranges that become memory piece by piece, by the driver's virtual memory calls: the arena of a step grows
 * without moving. The driver is reached through the runtime, so that this library loads on machines without one. */
#include "cuda/memory.h"

#include <cuda.h>

#include <stdlib.h>

namespace light
{

/* A piece of memory in a range. */
struct piece {
    piece *next;
    CUmemGenericAllocationHandle handle;
    size_t offset, bytes;
};

struct range {
    range *next;
    char *base;
    size_t bytes;
    piece *pieces;
};

#define CALLS(X)                                                                                             \
    X(cuMemAddressReserve)                                                                                   \
    X(cuMemAddressFree)                                                                                      \
    X(cuMemCreate) X(cuMemRelease) X(cuMemMap) X(cuMemUnmap) X(cuMemSetAccess) X(cuGetErrorString)
static struct {
#define MEMBER(name) decltype(&::name) name;
    CALLS(MEMBER)
} driver;

static light_status find_call(light_device *device, const char *name, void **call)
{
    cudaDriverEntryPointQueryResult found;
    LIGHT_TRY(cuda_status(
        device, cudaGetDriverEntryPointByVersion(name, call, 12000, cudaEnableDefault, &found), name));
    if (found == cudaDriverEntryPointSuccess) return LIGHT_OK;
    return light_fail(LIGHT_ERR_UNSUPPORTED, "%s: the driver has no %s; update it", device->name, name);
}

static light_status find_driver(light_device *device)
{
    if (driver.cuGetErrorString) return LIGHT_OK;
#define FIND(call) LIGHT_TRY(find_call(device, #call, (void **)&driver.call));
    CALLS(FIND)
    return LIGHT_OK;
}

static light_status driver_status(light_device *device, CUresult error, const char *doing)
{
    const char *text = "unknown error";
    if (error == CUDA_SUCCESS) return LIGHT_OK;
    driver.cuGetErrorString(error, &text);
    return light_fail(error == CUDA_ERROR_OUT_OF_MEMORY ? LIGHT_ERR_MEMORY : LIGHT_ERR_INTERNAL, "%s: %s: %s",
                      device->name, doing, text);
}

light_status reserve(light_device *device, size_t bytes, void **base)
{
    LIGHT_TRY(find_driver(device));
    range *r = (range *)calloc(1, sizeof *r);
    CUdeviceptr address;
    if (!r) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    light_status status =
        driver_status(device, driver.cuMemAddressReserve(&address, bytes, 0, 0, 0), "reserving addresses");
    if (status != LIGHT_OK) {
        free(r);
        return status;
    }
    *r = range{state_of(device)->ranges, (char *)address, bytes, NULL};
    state_of(device)->ranges = r;
    *base = r->base;
    return LIGHT_OK;
}

static range *find_range(light_device *device, const void *base)
{
    range *r = state_of(device)->ranges;
    while (r && r->base != base) r = r->next;
    return r;
}

static CUresult map_piece(const light_device *device, const range *r, piece *p)
{
    CUmemAllocationProp properties = {};
    CUmemAccessDesc access = {};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = state_of(device)->index;
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    CUdeviceptr at = (CUdeviceptr)r->base + p->offset;
    CUresult error = driver.cuMemCreate(&p->handle, p->bytes, &properties, 0);
    if (error != CUDA_SUCCESS) return error;
    error = driver.cuMemMap(at, p->bytes, 0, p->handle, 0);
    if (error == CUDA_SUCCESS) {
        error = driver.cuMemSetAccess(at, p->bytes, &access, 1);
        if (error != CUDA_SUCCESS) driver.cuMemUnmap(at, p->bytes);
    }
    if (error != CUDA_SUCCESS) driver.cuMemRelease(p->handle);
    return error;
}

light_status commit(light_device *device, void *base, size_t from, size_t to)
{
    range *r = find_range(device, base);
    piece *p = (piece *)calloc(1, sizeof *p);
    if (!p) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    p->offset = from;
    p->bytes = to - from;
    CUresult error = map_piece(device, r, p);
    if (error == CUDA_ERROR_OUT_OF_MEMORY && give_back_unused(device)) error = map_piece(device, r, p);
    if (error == CUDA_SUCCESS) {
        p->next = r->pieces;
        r->pieces = p;
        return LIGHT_OK;
    }
    free(p);
    if (error != CUDA_ERROR_OUT_OF_MEMORY) return driver_status(device, error, "mapping memory");
    return step_too_large(device, from, to);
}

void unreserve(light_device *device, void *base, size_t bytes)
{
    range **link = &state_of(device)->ranges;
    while (*link && (*link)->base != base) link = &(*link)->next;
    range *r = *link;
    if (!r) return;
    *link = r->next;
    cudaStreamSynchronize(stream_of(device));
    while (piece *p = r->pieces) {
        r->pieces = p->next;
        driver.cuMemUnmap((CUdeviceptr)r->base + p->offset, p->bytes);
        driver.cuMemRelease(p->handle);
        free(p);
    }
    driver.cuMemAddressFree((CUdeviceptr)r->base, bytes);
    free(r);
}

} // namespace light
