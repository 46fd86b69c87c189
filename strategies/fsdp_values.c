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

light_status light_fsdp_gather(light_fsdp *f, light_unit *u)
{
    if (u->gather) return LIGHT_OK;
    LIGHT_TRY(light_fsdp_agree(f, LIGHT_EVENT_GATHER, u->index));
    if (f->level == 3) {
        light_unit **slot = &f->in_slot[u->index % LIGHT_FSDP_SLOTS];
        if (*slot && *slot != u) {
            if ((*slot)->gather) LIGHT_TRY(light_communicate_wait(f->shards, (*slot)->gather));
            (*slot)->gather = 0;
            (*slot)->base.here = false;
        }
        *slot = u;
    }
    return light_communicate_start(f->shards,
                                   &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                       .in = light_fsdp_own_values(u),
                                                       .out = u->buffer->values->data,
                                                       .count = u->count,
                                                       .dtype = u->buffer->dtype,
                                                       .what = u->what[0]},
                                   &u->gather);
}

/* The unit that is read after u, if things go by the order of creation. */
static light_unit *neighbour(light_fsdp *f, const light_unit *u)
{
    int next = u->index + (f->walking ? -1 : 1);
    return next >= 0 && next < f->n ? &f->units[next] : NULL;
}

light_status light_fsdp_finish_gather(light_unit *u)
{
    LIGHT_TRY(light_communicate_wait(u->f->shards, u->gather));
    u->gather = 0;
    u->base.here = true;
    u->buffer->lowered.made = false;
    return LIGHT_OK;
}

light_status light_fsdp_fetch(light_keeper *keeper, light_step *s)
{
    light_unit *u = (light_unit *)keeper;
    light_fsdp *f = u->f;
    if (f->level == 3 && !s)
        return light_fail(
            LIGHT_ERR_STATE,
            "%s: no process has all of the parameter's values; operations of a step may read them, "
            "and a checkpoint holds them whole",
            f->job.base.vtable->name);
    LIGHT_TRY(light_fsdp_gather(f, u));
    LIGHT_TRY(light_fsdp_finish_gather(u));
    light_unit *next = f->level == 3 ? neighbour(f, u) : NULL;
    return next && !next->base.here ? light_fsdp_gather(f, next) : LIGHT_OK;
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
        if (f->units[i].gather) LIGHT_TRY(light_communicate_wait(f->shards, f->units[i].gather));
        f->units[i].gather = 0;
        f->units[i].base.here = false;
    }
    return LIGHT_OK;
}
