/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic shared memory is one array. Static __shared__ variables are thread_local, because that puts them, and nothing
 * else of this library, side by side: into the library's thread-local storage, of which the part that a kernel uses is
 * seen when it first runs. */
#include "cuda/sim/shared.h"

#include "cuda/sim/runtime.h"
#include "cuda/sim/sanitizer.h"

#include <algorithm>
#include <cstring>
#include <link.h>
#include <map>

namespace sim
{

struct part {
    size_t from, to;
};
static std::map<const void *, part> &parts = *new std::map<const void *, part>; /* of storage, by kernel */

alignas(1024) static unsigned char room[SHARED_LIMIT];
static unsigned char *storage; /* of static variables; NaN but for the part of the kernel that runs */
static size_t storage_bytes;
static struct {
    const void *kernel;
    size_t bytes; /* of room */
    bool known;   /* its part has been seen */
    int blocks;
    part used;
} run;

/* ---- static variables --------------------------------------------------------------- */

static int look_at(dl_phdr_info *info, size_t, void *)
{
    uintptr_t own = (uintptr_t)&room;
    bool ours = false;
    const ElfW(Phdr) *tls = nullptr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + p->p_vaddr;
        ours = ours || (p->p_type == PT_LOAD && own >= from && own < from + p->p_memsz);
        if (p->p_type == PT_TLS) tls = p;
    }
    /* A program has thread-local variables that are not ours. */
    if (!ours || !tls || !info->dlpi_name[0]) return ours;
    storage = (unsigned char *)info->dlpi_tls_data;
    storage_bytes = tls->p_memsz;
    return 1;
}

/* That of the calling thread, which is zero when it is new. */
static void find_storage()
{
    static thread_local unsigned char touched;
    bool fresh = *(volatile unsigned char *)&touched == 0;
    storage = nullptr;
    storage_bytes = 0;
    dl_iterate_phdr(look_at, nullptr);
    if (!storage) storage_bytes = 0;
    if (fresh && storage) memset(storage, 0xff, storage_bytes);
}

/* What is no longer NaN. */
static part dirty_part()
{
    size_t from = 0, to = storage_bytes;
    while (from < to && storage[from] == 0xff) from++;
    while (to > from && storage[to - 1] == 0xff) to--;
    return {from, to};
}

static void clean_storage()
{
    if (!storage) return;
    if (!run.known) {
        part dirty = dirty_part();
        if (run.used.from == run.used.to) run.used = dirty;
        run.used = {std::min(run.used.from, dirty.from), std::max(run.used.to, dirty.to)};
    }
    memset(storage + run.used.from, 0xff, run.used.to - run.used.from);
}

/* ---- launches ------------------------------------------------------------------------- */

void begin_shared(const void *kernel, size_t bytes)
{
    auto seen = parts.find(kernel);
    bool known = kernel && seen != parts.end();
    run = {kernel, bytes, known, 0, known ? seen->second : part{0, 0}};
    find_storage();
    ASAN_UNPOISON_MEMORY_REGION(room, bytes);
    ASAN_POISON_MEMORY_REGION(room + bytes, sizeof room - bytes);
}

unsigned char *fresh_shared()
{
    memset(room, 0xff, run.bytes);
    if (run.blocks++) clean_storage();
    if (run.blocks == 2) run.known = run.known || run.kernel;
    return room;
}

void end_shared()
{
    run.known = parts.count(run.kernel);
    clean_storage();
    parts[run.kernel] = run.used;
}

} // namespace sim
