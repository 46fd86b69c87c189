/* SPDX-License-Identifier: Apache-2.0 */
/* Gathering values where they are read, in the same order on all ranks. */
#include "strategies/fsdp.h"

/* ---- one order for all ---------------------------------------------------- */

static const char *name_event(const light_fsdp *f, const light_event *event)
{
    if (event->kind == LIGHT_EVENT_END || event->unit < 0 || event->unit >= f->n) return "the end of a batch";
    return f->units[event->unit].what[event->kind == LIGHT_EVENT_REDUCE];
}

light_status light_fsdp_agree(light_fsdp *f, int kind, int unit)
{
    light_event mine = {kind, unit}, led = mine;
    if (!f->led) return LIGHT_OK;
    LIGHT_TRY(light_broadcast_bytes(f->job.base.host, &led, sizeof led, f->leader, "order of units"));
    if (led.kind == mine.kind && led.unit == mine.unit) return LIGHT_OK;
    return light_fail(
        LIGHT_ERR_STATE, "rank %d is at %s, where rank %d is at %s; with %s all ranks must compute alike",
        f->job.base.rank, name_event(f, &mine), f->leader, name_event(f, &led), f->job.base.vtable->name);
}

/* ---- values --------------------------------------------------------------- */

char *light_fsdp_own_values(const light_unit *u)
{
    if (u->values) return u->values->data;
    size_t size = light_dtype_size(u->buffer->dtype);
    return (char *)u->buffer->values->data + (size_t)u->f->shards->rank * (size_t)u->count * size;
}

/* A slot for the unit; whose values lie there has them no more. */
static light_status take_slot(light_fsdp *f, light_unit *u)
{
    light_unit **slot = &f->in_slot[u->slot], *user = *slot;
    *slot = u;
    if (!user || user == u) return LIGHT_OK;
    if (user->gather) LIGHT_TRY(light_communicate_wait(f->shards, user->gather));
    user->gather = 0;
    user->base.here = user->narrow.here = false;
    return LIGHT_OK;
}

/* This rank's part of the 16-bit copy, in its place; lowering goes element by element, so it does not matter who does it. To
 * the tape the copy stays as it is: what comes back is what was there. */
static light_status lower_own(const light_unit *u)
{
    const light_lowered *copy = &u->buffer->lowered;
    size_t bytes = (size_t)u->count * light_dtype_size(copy->dtype), at = (size_t)u->f->shards->rank * bytes;
    light_tensor from = light_window_on(u->values, u->buffer->dtype, 0, u->values->bytes),
                 to = light_window_on(copy->storage, copy->dtype, at, at + bytes);
    light_kernel_args args = {.device = u->values->device, .in = {&from}, .out = {&to}};
    return args.device->backend->kernels[LIGHT_KERNEL_COPY](&args);
}

static light_status start_gather(light_fsdp *f, light_unit *u, bool narrow)
{
    const light_lowered *copy = &u->buffer->lowered;
    if (u->slot >= 0 && !narrow) LIGHT_TRY(light_fsdp_make_slot(f, u->slot));
    light_collective call = {.kind = LIGHT_ALL_GATHER,
                             .in = light_fsdp_own_values(u),
                             .out = u->buffer->values->data,
                             .count = u->count,
                             .dtype = u->buffer->dtype,
                             .what = u->what[0]};
    u->gathers_narrow = narrow;
    if (narrow) {
        LIGHT_TRY(lower_own(u));
        call.dtype = copy->dtype;
        call.out = copy->storage->data;
        call.in = (char *)call.out + (size_t)(f->shards->rank * u->count) * light_dtype_size(copy->dtype);
    }
    return light_communicate_start(f->shards, &call, &u->gather);
}

light_status light_fsdp_gather(light_fsdp *f, light_unit *u, bool narrow)
{
    if (u->gather && u->gathers_narrow == narrow) return LIGHT_OK;
    if (u->gather) LIGHT_TRY(light_fsdp_finish_gather(u));
    LIGHT_TRY(light_fsdp_agree(f, narrow ? LIGHT_EVENT_GATHER_NARROW : LIGHT_EVENT_GATHER, u->index));
    if (u->slot >= 0) LIGHT_TRY(take_slot(f, u));
    u->read_wide |= !narrow;
    return start_gather(f, u, narrow);
}

light_status light_fsdp_finish_gather(light_unit *u)
{
    light_lowered *copy = &u->buffer->lowered;
    LIGHT_TRY(light_communicate_wait(u->f->shards, u->gather));
    u->gather = 0;
    u->narrow.here = true; /* of values that are here it can be made */
    copy->made = u->gathers_narrow;
    copy->version = u->buffer->values->version;
    if (!u->gathers_narrow) u->base.here = true;
    return LIGHT_OK;
}

/* Whether it is enough to gather a unit's 16-bit copy: no operation has read more of it so far. */
static bool is_narrow(const light_unit *u)
{
    return u->slot >= 0 && u->buffer->lowered.storage && !u->read_wide;
}

/* Begins with the unit that is read after u, if things go by the order of creation. */
static light_status gather_ahead(light_fsdp *f, const light_unit *u)
{
    int way = f->walking ? -1 : 1, next = u->index + way;
    while (next >= 0 && next < f->n && f->units[next].slot < 0) next += way;
    if (u->slot < 0 || next < 0 || next >= f->n) return LIGHT_OK;
    light_unit *v = &f->units[next];
    bool narrow = is_narrow(v), here = narrow ? v->narrow.here : v->base.here;
    return here ? LIGHT_OK : light_fsdp_gather(f, v, narrow);
}

light_status light_fsdp_fetch(light_keeper *keeper, light_step *s)
{
    light_unit *u = (light_unit *)keeper;
    light_fsdp *f = u->f;
    if (u->slot >= 0 && !s)
        return light_fail(
            LIGHT_ERR_STATE,
            "%s: no process has all of the parameter's values; operations of a step may read them, "
            "and a checkpoint holds them whole",
            f->job.base.vtable->name);
    LIGHT_TRY(light_fsdp_gather(f, u, false));
    LIGHT_TRY(light_fsdp_finish_gather(u));
    return gather_ahead(f, u);
}

light_status light_fsdp_fetch_narrow(light_keeper *keeper, light_step *s)
{
    light_unit *u = (light_unit *)((char *)keeper - offsetof(light_unit, narrow));
    if (!s || !is_narrow(u)) return light_fsdp_fetch(&u->base, s);
    LIGHT_TRY(light_fsdp_gather(u->f, u, true));
    LIGHT_TRY(light_fsdp_finish_gather(u));
    return gather_ahead(u->f, u);
}

light_status light_fsdp_finish_gathers(light_fsdp *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->units[i].gather) LIGHT_TRY(light_fsdp_finish_gather(&f->units[i]));
    return LIGHT_OK;
}

light_status light_fsdp_forget_values(light_fsdp *f)
{
    if (f->level < 3) return LIGHT_OK;
    for (int i = 0; i < f->n; i++) {
        light_unit *u = &f->units[i];
        if (u->slot < 0) continue;
        if (u->gather) LIGHT_TRY(light_communicate_wait(f->shards, u->gather));
        u->gather = 0;
        u->base.here = u->narrow.here = false;
    }
    return LIGHT_OK;
}
