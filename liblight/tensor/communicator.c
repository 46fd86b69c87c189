/* SPDX-License-Identifier: Apache-2.0 */
/* What all communicators have in common: checks, counts, groups of one process, and numbers of the host. */
#include "tensor/communicator.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

const char *const light_collective_names[LIGHT_COLLECTIVE_COUNT] = {
    "all_reduce", "reduce_scatter", "all_gather", "broadcast", "all_to_all", "send", "receive", "barrier",
};

/* ---- checks -------------------------------------------------------------------- */

static bool combines(const light_collective *call)
{
    return call->kind == LIGHT_ALL_REDUCE || call->kind == LIGHT_REDUCE_SCATTER;
}

static bool has_parts(const light_collective *call)
{
    return call->kind == LIGHT_REDUCE_SCATTER || call->kind == LIGHT_ALL_GATHER ||
           call->kind == LIGHT_ALL_TO_ALL;
}

int64_t light_collective_whole(const light_communicator *c, const light_collective *call)
{
    return has_parts(call) ? call->count * c->size : call->count;
}

static light_status wrong(const light_collective *call, const char *text, long long number)
{
    const char *name =
        (unsigned)call->kind < LIGHT_COLLECTIVE_COUNT ? light_collective_names[call->kind] : "a collective";
    light_fail(LIGHT_ERR_ARGUMENT, text, number);
    return light_fail_in(LIGHT_ERR_ARGUMENT, "%s%s%s", name, call->what ? " of " : "",
                         call->what ? call->what : "");
}

static light_status check_peer(const light_communicator *c, const light_collective *call)
{
    bool single = call->kind == LIGHT_SEND || call->kind == LIGHT_RECEIVE;
    if (!single && call->kind != LIGHT_BROADCAST) return LIGHT_OK;
    if (call->peer < 0 || call->peer >= c->size) return wrong(call, "the group has no rank %lld", call->peer);
    if (single && call->peer == c->rank) return wrong(call, "rank %lld is this one", call->peer);
    return LIGHT_OK;
}

static light_status check_combination(const light_communicator *c, const light_collective *call)
{
    if (!combines(call)) return LIGHT_OK;
    if (call->contributors < 0 || call->contributors > c->size)
        return wrong(call, "%lld contributors are not in the group", call->contributors);
    if ((unsigned)call->combine > LIGHT_COMBINE_MAX)
        return wrong(call, "%lld is no way to combine", (long long)call->combine);
    if (call->combine == LIGHT_COMBINE_SUM && call->dtype == LIGHT_BOOL)
        return wrong(call, "bool has no sum; take the maximum", 0);
    return LIGHT_OK;
}

/* Where the two arrays may lie to each other: apart, or this rank's part at its place. */
static light_status check_places(const light_communicator *c, const light_collective *call)
{
    size_t each = light_dtype_size(call->dtype) * (size_t)call->count;
    size_t whole = light_dtype_size(call->dtype) * (size_t)light_collective_whole(c, call);
    size_t in_bytes = call->kind == LIGHT_ALL_GATHER ? each : whole;
    size_t out_bytes = call->kind == LIGHT_REDUCE_SCATTER ? each : whole;
    uintptr_t in = (uintptr_t)call->in, out = (uintptr_t)call->out;
    uintptr_t own = each * (size_t)c->rank;
    if (in >= out + out_bytes || out >= in + in_bytes) return LIGHT_OK;
    if (call->kind == LIGHT_ALL_TO_ALL) return wrong(call, "the arrays overlap", 0);
    if (call->kind == LIGHT_REDUCE_SCATTER ? out == in + own
        : call->kind == LIGHT_ALL_GATHER   ? in == out + own
                                           : in == out)
        return LIGHT_OK;
    return wrong(call, "the arrays overlap, and not in place", 0);
}

static light_status check_arrays(const light_communicator *c, const light_collective *call)
{
    int64_t bytes;
    if (call->kind == LIGHT_BARRIER) return LIGHT_OK;
    if (call->dtype <= LIGHT_DTYPE_DEFAULT || call->dtype >= LIGHT_DTYPE_COUNT)
        return wrong(call, "%lld is no dtype", (long long)call->dtype);
    if (call->count < 0) return wrong(call, "the count is %lld", call->count);
    if (__builtin_mul_overflow(call->count, (int64_t)light_dtype_size(call->dtype) * c->size, &bytes))
        return wrong(call, "%lld elements are too many", call->count);
    if (call->count == 0) return LIGHT_OK;
    bool reads = call->kind != LIGHT_RECEIVE && (call->kind != LIGHT_BROADCAST || call->peer == c->rank);
    if (combines(call) && call->contributors && c->rank >= call->contributors) reads = false;
    if (reads && !call->in) return wrong(call, "there is no input", 0);
    if (call->kind != LIGHT_SEND && !call->out) return wrong(call, "there is no output", 0);
    return reads && call->kind != LIGHT_SEND ? check_places(c, call) : LIGHT_OK;
}

static light_status check_call(const light_communicator *c, const light_collective *call)
{
    if ((unsigned)call->kind >= LIGHT_COLLECTIVE_COUNT)
        return wrong(call, "there is no kind %lld", (long long)call->kind);
    LIGHT_TRY(check_peer(c, call));
    LIGHT_TRY(check_combination(c, call));
    return check_arrays(c, call);
}

/* ---- one process ------------------------------------------------------------------ */

static light_tensor window(const light_collective *call, const void *data)
{
    light_tensor t = {.data = (char *)(uintptr_t)data, .dtype = (uint8_t)call->dtype};
    light_tensor_set_shape(&t, LIGHT_SHAPE(call->count));
    return t;
}

static light_status copy_alone(light_communicator *c, const light_collective *call)
{
    if (call->kind == LIGHT_BARRIER || call->count == 0 || call->in == call->out) return LIGHT_OK;
    light_tensor from = window(call, call->in), to = window(call, call->out);
    light_kernel_args args = {.device = c->device, .in = {&from}, .out = {&to}};
    return c->device->backend->kernels[LIGHT_KERNEL_COPY](&args);
}

/* ---- calls --------------------------------------------------------------------------- */

static uint64_t bytes_sent(const light_communicator *c, const light_collective *call)
{
    uint64_t whole = (uint64_t)light_collective_whole(c, call) * light_dtype_size(call->dtype);
    uint64_t n = (uint64_t)c->size;
    switch (call->kind) {
    case LIGHT_ALL_REDUCE: return whole * 2 * (n - 1) / n;
    case LIGHT_SEND: return whole;
    case LIGHT_RECEIVE:
    case LIGHT_BARRIER: return 0;
    default: return whole * (n - 1) / n;
    }
}

static light_status failed_before(light_communicator *c)
{
    return light_fail(LIGHT_ERR_STATE, "the communicator \"%s\" is of no use any more: %s", c->vtable->name,
                      c->failure);
}

static light_status note_failure(light_communicator *c, light_status status)
{
    c->failed = status != LIGHT_OK;
    if (c->failed) snprintf(c->failure, sizeof c->failure, "%s", light_error_message());
    return status;
}

light_status light_communicate_start(light_communicator *c, const light_collective *call,
                                     light_ticket *ticket)
{
    *ticket = 0;
    if (c->failed) return failed_before(c);
    LIGHT_TRY(check_call(c, call));
    c->calls++;
    c->bytes += bytes_sent(c, call);
    if (c->size == 1) return copy_alone(c, call);
    return note_failure(c, c->vtable->start(c, call, ticket));
}

light_status light_communicate_wait(light_communicator *c, light_ticket ticket)
{
    if (ticket == 0) return LIGHT_OK;
    if (c->failed) return failed_before(c);
    return note_failure(c, c->vtable->wait(c, ticket));
}

light_status light_communicate(light_communicator *c, const light_collective *call)
{
    light_ticket ticket;
    LIGHT_TRY(light_communicate_start(c, call, &ticket));
    return light_communicate_wait(c, ticket);
}

void light_communicator_free(light_communicator *c)
{
    if (c) c->vtable->free(c);
}

/* ---- numbers of the host ------------------------------------------------------------- */

static light_status communicate_host(light_communicator *c, const light_collective *call)
{
    if (c->device->is_host) return light_communicate(c, call);
    return light_fail(LIGHT_ERR_ARGUMENT, "%s of %s: a communicator on the memory of %s, not of the host",
                      light_collective_names[call->kind], call->what, c->device->name);
}

light_status light_barrier(light_communicator *c, const char *what)
{
    light_collective call = {.kind = LIGHT_BARRIER, .what = what};
    return communicate_host(c, &call);
}

light_status light_broadcast_bytes(light_communicator *c, void *bytes, size_t n, int root, const char *what)
{
    light_collective call = {.kind = LIGHT_BROADCAST,
                             .in = bytes,
                             .out = bytes,
                             .count = (int64_t)n,
                             .dtype = LIGHT_U8,
                             .peer = root,
                             .what = what};
    return communicate_host(c, &call);
}

light_status light_reduce_doubles(light_communicator *c, double *values, int64_t n, light_combine combine,
                                  const char *what)
{
    light_collective call = {.kind = LIGHT_ALL_REDUCE,
                             .in = values,
                             .out = values,
                             .count = n,
                             .dtype = LIGHT_F64,
                             .combine = combine,
                             .what = what};
    return communicate_host(c, &call);
}

static light_status all_gather(light_communicator *c, const void *in, void *out, size_t n, const char *what)
{
    light_collective call = {
        .kind = LIGHT_ALL_GATHER, .in = in, .out = out, .count = (int64_t)n, .dtype = LIGHT_U8, .what = what};
    return communicate_host(c, &call);
}

/* Every block in a slot of `slot` bytes; then they are moved together. */
static light_status gather_slots(light_communicator *c, const void *bytes, size_t slot, char *all,
                                 const size_t *sizes, const char *what)
{
    size_t end = 0;
    char *own = all + (size_t)c->rank * slot;
    if (sizes[c->rank]) memcpy(own, bytes, sizes[c->rank]);
    memset(own + sizes[c->rank], 0, slot - sizes[c->rank]);
    LIGHT_TRY(all_gather(c, own, all, slot, what));
    for (int r = 0; r < c->size; r++) {
        memmove(all + end, all + (size_t)r * slot, sizes[r]);
        end += sizes[r];
    }
    return LIGHT_OK;
}

light_status light_gather_bytes(light_communicator *c, const void *bytes, size_t n, char **all, size_t *sizes,
                                const char *what)
{
    size_t slot = 0;
    *all = NULL;
    sizes[c->rank] = n;
    LIGHT_TRY(all_gather(c, &sizes[c->rank], sizes, sizeof *sizes, what));
    for (int r = 0; r < c->size; r++) slot = sizes[r] > slot ? sizes[r] : slot;
    char *blocks = light_alloc(slot * (size_t)c->size);
    if (!blocks) return LIGHT_ERR_MEMORY;
    light_status status = gather_slots(c, bytes, slot, blocks, sizes, what);
    if (status == LIGHT_OK)
        *all = blocks;
    else
        light_free(blocks);
    return status;
}
