/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and collectives by NCCL, which is opened when the first group is asked for; LIGHT_NCCL=0 leaves it out. Groups do
 * not block: what NCCL is slow to take is asked for again and again, and given up when the job has failed. */
#include "cuda/collectives.h"

#include <nccl.h>

#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>

namespace light
{

#define FUNCTIONS(X)                                                                                         \
    X(ncclGetVersion)                                                                                        \
    X(ncclGetErrorString)                                                                                    \
    X(ncclGetUniqueId)                                                                                       \
    X(ncclCommInitRankConfig)                                                                                \
    X(ncclCommGetAsyncError)                                                                                 \
    X(ncclCommFinalize)                                                                                      \
    X(ncclCommDestroy)                                                                                       \
    X(ncclCommAbort)                                                                                         \
    X(ncclGroupStart)                                                                                        \
    X(ncclGroupEnd)                                                                                          \
    X(ncclSend)                                                                                              \
    X(ncclRecv)                                                                                              \
    X(ncclAllReduce)                                                                                         \
    X(ncclReduceScatter)                                                                                     \
    X(ncclAllGather)                                                                                         \
    X(ncclBroadcast)

enum { LEAST_VERSION = 21400 /* groups that do not block */ };

/* Stays open until the process ends. */
static struct {
    void *handle;
    bool ready;
    int version;
#define X(name) decltype(&::name) name;
    FUNCTIONS(X)
#undef X
} nccl;

struct library_group {
    ncclComm_t comm;
    bool aborted;
};

/* ---- the library ------------------------------------------------------------------ */

static bool load_functions()
{
    bool all = true;
#define X(name) all = (nccl.name = (decltype(nccl.name))dlsym(nccl.handle, #name)) && all;
    FUNCTIONS(X)
#undef X
    return all;
}

light_status library_available(light_device *)
{
    const char *wish = getenv("LIGHT_NCCL");
    if (wish && !strcmp(wish, "0")) return light_fail(LIGHT_ERR_UNSUPPORTED, "LIGHT_NCCL is 0");
    if (nccl.ready) return LIGHT_OK;
    nccl.handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!nccl.handle) return light_fail(LIGHT_ERR_UNSUPPORTED, "%s", dlerror());
    nccl.ready = load_functions() && nccl.ncclGetVersion(&nccl.version) == ncclSuccess &&
                 nccl.version >= LEAST_VERSION;
    if (nccl.ready) return LIGHT_OK;
    return light_fail(LIGHT_ERR_UNSUPPORTED, "libnccl.so.2 is of version %d; 2.14 or later is needed",
                      nccl.version);
}

static light_status nccl_status(const light_device *device, ncclResult_t result, const char *doing)
{
    if (result == ncclSuccess || result == ncclInProgress) return LIGHT_OK;
    return light_fail(LIGHT_ERR_STATE, "%s: %s: NCCL: %s (NCCL_DEBUG=INFO says more)", device->name, doing,
                      nccl.ncclGetErrorString(result));
}

/* Until NCCL has taken what was asked for. */
static light_status settle(group *g, ncclResult_t result, const char *doing)
{
    LIGHT_TRY(nccl_status(g->device, result, doing));
    while (result == ncclInProgress) {
        ncclResult_t asked = nccl.ncclCommGetAsyncError(g->library->comm, &result);
        LIGHT_TRY(nccl_status(g->device, asked, doing));
        LIGHT_TRY(nccl_status(g->device, result, doing));
        LIGHT_TRY(g->setup.check(g->setup.user));
        if (result == ncclInProgress) sched_yield();
    }
    return LIGHT_OK;
}

/* ---- groups ------------------------------------------------------------------------- */

light_status library_make_id(light_device *device, char id[LIGHT_GROUP_ID_BYTES])
{
    ncclUniqueId made;
    static_assert(sizeof made <= LIGHT_GROUP_ID_BYTES, "an id has no room");
    LIGHT_TRY(nccl_status(device, nccl.ncclGetUniqueId(&made), "making a group"));
    memcpy(id, &made, sizeof made);
    return LIGHT_OK;
}

light_status library_open(group *g)
{
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memcpy(&id, g->setup.id, sizeof id);
    g->library = (library_group *)calloc(1, sizeof *g->library);
    if (!g->library) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    ncclResult_t result =
        nccl.ncclCommInitRankConfig(&g->library->comm, g->setup.size, id, g->setup.rank, &config);
    light_status status = settle(g, result, "making a group");
    if (status != LIGHT_OK) library_abort(g);
    return status;
}

void library_abort(group *g)
{
    if (g->library->comm && !g->library->aborted) nccl.ncclCommAbort(g->library->comm);
    g->library->aborted = true;
}

void library_close(group *g)
{
    library_group *l = g->library;
    if (!l->aborted && settle(g, nccl.ncclCommFinalize(l->comm), "closing a group") != LIGHT_OK)
        library_abort(g);
    if (!l->aborted) nccl.ncclCommDestroy(l->comm);
    free(l);
}

light_status library_test(group *g, light_ticket)
{
    ncclResult_t result = ncclSuccess;
    LIGHT_TRY(nccl_status(g->device, nccl.ncclCommGetAsyncError(g->library->comm, &result), "a collective"));
    return nccl_status(g->device, result, "a collective");
}

/* ---- messages ------------------------------------------------------------------------ */

light_status library_transfer(group *g, const light_transfer *transfers, int n)
{
    ncclComm_t comm = g->library->comm;
    LIGHT_TRY(nccl_status(g->device, nccl.ncclGroupStart(), "sending"));
    ncclResult_t result = ncclSuccess;
    for (int i = 0; i < n && (result == ncclSuccess || result == ncclInProgress); i++) {
        const light_transfer *t = &transfers[i];
        result = t->receive ? nccl.ncclRecv(t->data, t->bytes, ncclUint8, t->peer, comm, stream_of(g))
                            : nccl.ncclSend(t->data, t->bytes, ncclUint8, t->peer, comm, stream_of(g));
    }
    ncclResult_t ended = nccl.ncclGroupEnd();
    LIGHT_TRY(nccl_status(g->device, result, "sending"));
    return settle(g, ended, "sending");
}

static ncclDataType_t type_of(light_dtype dtype)
{
    switch (dtype) {
    case LIGHT_F64: return ncclFloat64;
    case LIGHT_F32: return ncclFloat32;
    case LIGHT_BF16: return ncclBfloat16;
    case LIGHT_F16: return ncclFloat16;
    case LIGHT_I64: return ncclInt64;
    case LIGHT_I32: return ncclInt32;
    default: return ncclUint8;
    }
}

light_status library_collective(group *g, const light_collective *call, bool *done)
{
    static const ncclRedOp_t operations[] = {ncclSum, ncclMin, ncclMax};
    ncclRedOp_t operation = operations[call->combine];
    ncclDataType_t type = type_of(call->dtype);
    ncclComm_t comm = g->library->comm;
    cudaStream_t stream = stream_of(g);
    size_t n = (size_t)call->count;
    ncclResult_t result = ncclSuccess;
    *done = true;
    switch (call->kind) {
    case LIGHT_ALL_REDUCE:
        result = nccl.ncclAllReduce(call->in, call->out, n, type, operation, comm, stream);
        break;
    case LIGHT_REDUCE_SCATTER:
        result = nccl.ncclReduceScatter(call->in, call->out, n, type, operation, comm, stream);
        break;
    case LIGHT_ALL_GATHER: result = nccl.ncclAllGather(call->in, call->out, n, type, comm, stream); break;
    case LIGHT_BROADCAST:
        result = nccl.ncclBroadcast(call->in, call->out, n, type, call->peer, comm, stream);
        break;
    default: *done = false;
    }
    return settle(g, result, light_collective_names[call->kind]);
}

} // namespace light
