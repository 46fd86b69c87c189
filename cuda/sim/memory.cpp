/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory that the host cannot touch.
 *
 * It lies in zones of reserved addresses whose beginning is memory. That is accessible only while work of the device
 * runs, so a host that follows a device pointer stops at once. Memory without an owner holds NaN; under ASan it is
 * poisoned too, with a gap after every allocation, so that kernels that leave their memory are told where. */
#include "cuda/sim/runtime.h"
#include "cuda/sim/sanitizer.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <vector>

namespace sim
{

/* Changing the protection of huge pages takes 4 us; of small ones, 40 us a MiB. */
static const size_t HUGE_PAGE = (size_t)2 << 20, GAP = 256;

struct zone {
    void *mapping;
    size_t mapped;
    char *base;
    size_t bytes, memory; /* addresses; of them memory */
    int device;
    bool heap; /* of cudaMalloc; else a range */
};
struct allocation {
    size_t bytes, taken; /* asked for; with the gap */
    memory_kind kind;
};

/* Never destroyed: the library may be called until the process ends. */
static std::vector<zone> &zones = *new std::vector<zone>;
static std::map<char *, allocation> &allocations = *new std::map<char *, allocation>;
static std::map<char *, size_t> &holes = *new std::map<char *, size_t>; /* of heaps */
static std::map<int, size_t> &used = *new std::map<int, size_t>;        /* by device */
static int touching;

/* ---- access ------------------------------------------------------------------- */

static void protect(int how)
{
    for (const zone &z : zones)
        if (z.memory) mprotect(z.base, z.memory, how);
}

access::access()
{
    if (touching++ == 0) protect(PROT_READ | PROT_WRITE);
}

access::~access()
{
    if (--touching == 0) protect(PROT_NONE);
}

static zone *zone_of(const void *data)
{
    for (zone &z : zones)
        if ((char *)data >= z.base && (char *)data < z.base + z.bytes) return &z;
    return nullptr;
}

/* ---- zones ------------------------------------------------------------------------ */

static cudaError_t new_zone(size_t bytes, bool heap, char **base)
{
    size_t mapped = bytes + 2 * HUGE_PAGE; /* there is a gap before and after */
    void *mapping = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return fail(cudaErrorMemoryAllocation, "no %zu MiB of addresses", bytes >> 20);
    *base = (char *)(((uintptr_t)mapping / HUGE_PAGE + 1) * HUGE_PAGE);
    madvise(*base, bytes, MADV_HUGEPAGE);
    zones.push_back({mapping, mapped, *base, bytes, 0, chosen_device(), heap});
    return cudaSuccess;
}

/* More of the zone is memory: NaN, without an owner. */
static cudaError_t extend(zone *z, size_t to)
{
    access open;
    char *from = z->base + z->memory;
    size_t more = to - z->memory;
    if (mprotect(from, more, PROT_READ | PROT_WRITE))
        return fail(cudaErrorMemoryAllocation, "the host has no %zu MiB", more >> 20);
    memset(from, 0xff, more);
    ASAN_POISON_MEMORY_REGION(from, more);
    z->memory = to;
    return cudaSuccess;
}

cudaError_t reserve_range(size_t bytes, void **base)
{
    lock held(mutex);
    char *made = nullptr;
    cudaError_t error = new_zone(bytes, false, &made);
    *base = made;
    return error;
}

static cudaError_t check_limit(size_t more)
{
    size_t rest = memory_limit() - used[chosen_device()];
    if (more <= rest) return cudaSuccess;
    return fail(cudaErrorMemoryAllocation, "%zu KiB more, %zu KiB are free", more >> 10, rest >> 10);
}

cudaError_t commit_range(void *base, size_t from, size_t to)
{
    lock held(mutex);
    zone *z = zone_of(base);
    if (!z || z->base != base || z->memory != from || to > z->bytes)
        return fail(cudaErrorInvalidValue, "bytes %zu to %zu of a range", from, to);
    if (cudaError_t error = check_limit(to - from)) return error;
    if (cudaError_t error = extend(z, to)) return error;
    ASAN_UNPOISON_MEMORY_REGION(z->base, to);
    used[z->device] += to - from;
    allocations[z->base] = {to, to, MEMORY_DEVICE};
    return cudaSuccess;
}

void release_range(void *base)
{
    lock held(mutex);
    for (size_t i = 0; i < zones.size(); i++) {
        if (zones[i].base != base) continue;
        used[zones[i].device] -= zones[i].memory;
        allocations.erase(zones[i].base);
        munmap(zones[i].mapping, zones[i].mapped);
        zones.erase(zones.begin() + (ptrdiff_t)i);
        return;
    }
}

memory_kind kind_of(const void *data, size_t *bytes)
{
    char *p = (char *)data;
    auto next = allocations.upper_bound(p);
    *bytes = 0;
    if (next != allocations.begin()) {
        auto found = std::prev(next);
        if (p < found->first + found->second.bytes) {
            *bytes = (size_t)(found->first + found->second.bytes - p);
            return found->second.kind;
        }
    }
    return zone_of(data) ? MEMORY_DEVICE : MEMORY_PAGEABLE;
}

/* ---- cudaMalloc ------------------------------------------------------------------------ */

static zone *find_heap()
{
    for (zone &z : zones)
        if (z.heap && z.device == chosen_device()) return &z;
    return nullptr;
}

static void add_hole(char *at, size_t bytes)
{
    auto next = holes.lower_bound(at);
    if (next != holes.end() && next->first == at + bytes) {
        bytes += next->second;
        next = holes.erase(next);
    }
    if (next != holes.begin() && std::prev(next)->first + std::prev(next)->second == at)
        std::prev(next)->second += bytes;
    else
        holes[at] = bytes;
}

static char *take_hole(const zone *heap, size_t bytes)
{
    for (auto hole = holes.lower_bound(heap->base); hole != holes.end(); ++hole) {
        auto [at, size] = *hole;
        if (at >= heap->base + heap->bytes) break;
        if (size < bytes) continue;
        holes.erase(hole);
        if (size > bytes) holes[at + bytes] = size - bytes;
        return at;
    }
    return nullptr;
}

static cudaError_t take_memory(size_t bytes, char **data)
{
    char *base;
    if (!find_heap())
        if (cudaError_t error = new_zone(4 * memory_limit(), true, &base)) return error;
    zone *heap = find_heap();
    *data = take_hole(heap, bytes);
    if (*data) return cudaSuccess;
    size_t before = heap->memory, more = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (more > heap->bytes - before) return fail(cudaErrorMemoryAllocation, "memory is in too many pieces");
    if (cudaError_t error = extend(heap, before + more)) return error;
    add_hole(heap->base + before, more);
    *data = take_hole(heap, bytes);
    return cudaSuccess;
}

static cudaError_t allocate(size_t bytes, char **data)
{
    size_t taken = (bytes + GAP - 1) / GAP * GAP + GAP;
    if (bytes > memory_limit()) return check_limit(bytes);
    if (cudaError_t error = check_limit(taken)) return error;
    if (cudaError_t error = take_memory(taken, data)) return error;
    ASAN_UNPOISON_MEMORY_REGION(*data, bytes);
    allocations[*data] = {bytes, taken, MEMORY_DEVICE};
    used[chosen_device()] += taken;
    counted.allocations++;
    return cudaSuccess;
}

static cudaError_t check_owned(void *data, memory_kind kind)
{
    auto found = allocations.find((char *)data);
    const zone *z = zone_of(data);
    if (found != allocations.end() && found->second.kind == kind && (!z || z->heap)) return cudaSuccess;
    return fail(cudaErrorInvalidValue, "%p was not allocated so", data);
}

static void give_back(char *data)
{
    allocation a = allocations[data];
    access open;
    memset(data, 0xff, a.bytes);
    ASAN_POISON_MEMORY_REGION(data, a.taken);
    used[zone_of(data)->device] -= a.taken;
    allocations.erase(data);
    add_hole(data, a.taken);
}

} // namespace sim

cudaError_t cudaMalloc(void **data, size_t bytes)
{
    sim::lock held(sim::mutex);
    char *memory = nullptr;
    cudaError_t error = sim::device_error();
    if (error == cudaSuccess) error = sim::unless_capturing("cudaMalloc");
    if (error == cudaSuccess && bytes) error = sim::allocate(bytes, &memory);
    *data = memory;
    return error;
}

cudaError_t cudaFree(void *data)
{
    sim::lock held(sim::mutex);
    if (!data) return cudaSuccess;
    if (cudaError_t error = sim::unless_capturing("cudaFree")) return error;
    if (cudaError_t error = sim::check_owned(data, sim::MEMORY_DEVICE)) return error;
    cudaError_t error = sim::finish_all();
    sim::give_back((char *)data);
    return error;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    sim::lock held(sim::mutex);
    *total = sim::memory_limit();
    *free_bytes = *total - sim::used[sim::chosen_device()];
    return sim::device_error();
}

/* ---- pinned memory --------------------------------------------------------------------------- */

cudaError_t cudaMallocHost(void **data, size_t bytes)
{
    sim::lock held(sim::mutex);
    *data = nullptr;
    if (cudaError_t error = sim::unless_capturing("cudaMallocHost")) return error;
    *data = malloc(bytes ? bytes : 1);
    if (!*data) return sim::fail(cudaErrorMemoryAllocation, "%zu MiB of pinned memory", bytes >> 20);
    memset(*data, 0xff, bytes);
    sim::allocations[(char *)*data] = {bytes, bytes, sim::MEMORY_PINNED};
    return sim::device_error();
}

cudaError_t cudaHostAlloc(void **data, size_t bytes, unsigned)
{
    return cudaMallocHost(data, bytes);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned)
{
    sim::lock held(sim::mutex);
    *device = host;
    return sim::check_owned(host, sim::MEMORY_PINNED);
}

cudaError_t cudaFreeHost(void *data)
{
    sim::lock held(sim::mutex);
    if (!data) return cudaSuccess;
    if (cudaError_t error = sim::unless_capturing("cudaFreeHost")) return error;
    if (cudaError_t error = sim::check_owned(data, sim::MEMORY_PINNED)) return error;
    cudaError_t error = sim::finish_all();
    sim::allocations.erase((char *)data);
    free(data);
    return error;
}
