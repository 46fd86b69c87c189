/* SPDX-License-Identifier: Apache-2.0 */
/* Rooms for whole gradients, and their reduction to the owners of parts. */
#include "strategies/fsdp.h"

#include "base/memory.h"

enum { ROOMS = 3 };

/* ---- rooms ------------------------------------------------------------------ */

static light_status new_room(light_fsdp *f, light_room **out)
{
    size_t most = 0;
    for (int i = 0; i < f->n; i++)
        if (f->units[i].buffer->bytes > most) most = f->units[i].buffer->bytes;
    light_room *r = light_calloc(1, sizeof *r);
    if (!r) return LIGHT_ERR_MEMORY;
    light_status status = light_storage_new(&r->storage, most, f->shards->device);
    if (status != LIGHT_OK) {
        light_free(r);
        return status;
    }
    r->next = f->rooms;
    f->rooms = r;
    *out = r;
    return LIGHT_OK;
}

/* One that nobody uses; rather one that no reduction reads either, or a new one while there are few. */
static light_status take_room(light_fsdp *f, light_room **out)
{
    light_room *leaving = NULL;
    int count = 0;
    for (light_room *r = f->rooms; r; r = r->next, count++) {
        if (r->user) continue;
        leaving = r;
        if (!r->leaves) break;
    }
    if (!leaving || (leaving->leaves && count < ROOMS)) return new_room(f, out);
    if (leaving->leaves) LIGHT_TRY(light_communicate_wait(f->shards, leaving->leaves));
    leaving->leaves = 0;
    *out = leaving;
    return LIGHT_OK;
}

void light_fsdp_point_grads(light_unit *u, light_storage *storage)
{
    u->buffer->grads->data = storage->data;
    for (int64_t i = 0; i < u->buffer->n; i++)
        u->buffer->entries[i].parameter->tensor->grad->data =
            (char *)storage->data + u->buffer->entries[i].offset;
}

light_status light_fsdp_fetch_grads(light_keeper *keeper, light_step *s)
{
    light_unit *u = (light_unit *)keeper;
    (void)s;
    LIGHT_TRY(take_room(u->f, &u->room));
    u->room->user = u;
    u->base.grads_here = true;
    light_fsdp_point_grads(u, u->room->storage);
    return LIGHT_OK;
}

/* ---- gradients ------------------------------------------------------------- */

/* What lies between the gradients is added up with them. */
static light_status zero_gaps(light_step *s, const light_unit *u)
{
    const light_flat_buffer *b = u->buffer;
    size_t size = light_dtype_size(b->dtype);
    light_fill_attrs zero = {0};
    for (int64_t i = 0; i < b->n; i++) {
        size_t from = b->entries[i].offset + (size_t)b->entries[i].parameter->tensor->numel * size;
        size_t to = i + 1 < b->n ? b->entries[i + 1].offset : b->bytes;
        light_tensor gap = light_window_on(b->grads, b->dtype, from, to);
        if (from < to) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {&gap}, .attrs = &zero));
    }
    return LIGHT_OK;
}

/* Ranks whose gradients count, which are the first ones. */
static int contributors(const light_fsdp *f)
{
    return f->each ? f->window.present : f->window.contributors;
}

/* Of a group that has none the number does not matter: the sum over groups leaves it out. */
static int in_group(const light_fsdp *f, int all)
{
    int size = f->shards->size, before = f->job.base.rank / size * size;
    int n = all - before < size ? all - before : size;
    return n < 1 ? 1 : n;
}

/* This rank's part of a unit's gradients. */
static char *own_grads(const light_unit *u)
{
    if (u->grads) return u->grads->data;
    size_t size = light_dtype_size(u->buffer->dtype);
    return (char *)u->buffer->grads->data + (size_t)u->f->shards->rank * (size_t)u->count * size;
}

/* Where the sum of this rank's part comes to. */
static char *sum_of(const light_unit *u)
{
    return u->arriving ? u->arriving->data : own_grads(u);
}

static light_status sum_in_group(light_fsdp *f, light_unit *u)
{
    const light_collective call = {.kind = LIGHT_REDUCE_SCATTER,
                                   .in = u->buffer->grads->data,
                                   .out = sum_of(u),
                                   .count = u->count,
                                   .dtype = u->buffer->dtype,
                                   .ordered = f->job.base.ordered,
                                   .contributors = in_group(f, contributors(f)),
                                   .what = u->what[1]};
    LIGHT_TRY(light_communicate_start(f->shards, &call, &u->reduce));
    if (u->room) u->room->leaves = u->reduce;
    return LIGHT_OK;
}

/* The sum over groups of what a group has summed. */
static light_status sum_over_groups(light_fsdp *f, light_unit *u)
{
    const light_collective call = {.kind = LIGHT_ALL_REDUCE,
                                   .in = sum_of(u),
                                   .out = sum_of(u),
                                   .count = u->count,
                                   .dtype = u->buffer->dtype,
                                   .ordered = f->job.base.ordered,
                                   .contributors = (contributors(f) + f->shards->size - 1) / f->shards->size,
                                   .what = u->what[1]};
    return light_communicate_start(f->replicas, &call, &u->reduce);
}

/* The unit that was reduced before, if this is not the first one. */
static light_unit *reduced_before(light_fsdp *f, const light_unit *u)
{
    return u->index + 1 < f->n ? &f->units[u->index + 1] : NULL;
}

/* On a device the second sum has to wait for the first one, and so has all that the device is asked for later. */
static light_status sum_over_groups_later(light_fsdp *f, light_unit *u)
{
    LIGHT_TRY(light_communicate_wait(f->shards, u->reduce));
    for (light_room *r = f->rooms; r; r = r->next)
        if (r->leaves == u->reduce) r->leaves = 0;
    return sum_over_groups(f, u);
}

/* On host memory the second sum follows the first by itself. On devices a unit's begins behind the first one of the unit after
 * it, which gives it time to arrive while backward goes on; the last unit has none. */
static light_status start_sums(light_fsdp *f, light_unit *u)
{
    LIGHT_TRY(sum_in_group(f, u));
    if (!f->replicas) return LIGHT_OK;
    if (f->shards->device->is_host) return sum_over_groups(f, u);
    light_unit *before = reduced_before(f, u);
    if (before) LIGHT_TRY(sum_over_groups_later(f, before));
    return u->index == 0 ? sum_over_groups_later(f, u) : LIGHT_OK;
}

light_status light_fsdp_finish_reduction(light_fsdp *f, light_step *s, light_unit *u)
{
    LIGHT_TRY(light_communicate_wait(f->replicas ? f->replicas : f->shards, u->reduce));
    u->reduced = false;
    u->filled = true;
    if (!u->arriving) return LIGHT_OK;
    light_tensor sum = light_window_on(u->grads, u->buffer->dtype, 0, u->grads->bytes),
                 more = light_window_on(u->arriving, u->buffer->dtype, 0, u->grads->bytes);
    u->arriving = NULL;
    return LIGHT_RUN(s, BINARY, .in = {&sum, &more}, .out = {&sum},
                     .attrs = &(light_binary_attrs){LIGHT_BINARY_ADD});
}

/* Room for a part beside the one that is there; whoever has it still is finished with first. */
static light_status take_arrival(light_fsdp *f, light_step *s, light_unit *u)
{
    int slot = u->index % LIGHT_FSDP_SLOTS;
    light_unit *user = f->in_arrival[slot];
    size_t most = 0;
    if (user && user->arriving) LIGHT_TRY(light_fsdp_finish_reduction(f, s, user));
    for (int i = 0; i < f->n && !f->arrivals[slot]; i++)
        if (f->units[i].grads->bytes > most) most = f->units[i].grads->bytes;
    if (!f->arrivals[slot]) LIGHT_TRY(light_storage_new(&f->arrivals[slot], most, u->grads->device));
    f->in_arrival[slot] = u;
    u->arriving = f->arrivals[slot];
    return LIGHT_OK;
}

light_status light_fsdp_reduce(light_fsdp *f, light_step *s, light_unit *u)
{
    LIGHT_TRY(light_fsdp_agree(f, LIGHT_EVENT_REDUCE, u->index));
    if (!u->base.grads_here) LIGHT_TRY(light_fsdp_fetch_grads(&u->base, s));
    LIGHT_TRY(light_zero_unwritten(s, &f->window, u->buffer->entries, u->buffer->n));
    if (u->room) LIGHT_TRY(zero_gaps(s, u));
    if (f->job.base.ordered && !f->each && f->window.mine > 0)
        LIGHT_TRY(light_tree_finish(&f->job.tree, s, u->index, 0, u->buffer->bytes, f->window.mine - 1));
    if (u->grads && u->filled && f->each) LIGHT_TRY(take_arrival(f, s, u));
    LIGHT_TRY(start_sums(f, u));
    u->reduced = true;
    if (u->room) {
        u->room->user = NULL;
        u->room = NULL;
        u->base.grads_here = false;
    }
    return LIGHT_OK;
}

light_status light_fsdp_reduce_complete(light_fsdp *f, light_step *s, bool all)
{
    while (f->next >= 0 && (all || f->units[f->next].incomplete == 0))
        LIGHT_TRY(light_fsdp_reduce(f, s, &f->units[f->next--]));
    return LIGHT_OK;
}

void light_fsdp_ready(light_keeper *keeper, light_step *s, light_tensor *leaf)
{
    light_unit *u = (light_unit *)keeper;
    (void)leaf;
    if (!u->f->reducing || u->incomplete == 0) return;
    if (--u->incomplete == 0) light_step_record(s, light_fsdp_reduce_complete(u->f, s, false));
}

void light_fsdp_begin_reduction(light_fsdp *f)
{
    for (int i = 0; i < f->n; i++) {
        light_unit *u = &f->units[i];
        u->incomplete = 0;
        for (int64_t k = 0; k < u->buffer->n; k++)
            u->incomplete += u->buffer->entries[k].parameter->tensor->requires_grad;
    }
    f->next = f->n - 1;
}

/* ---- optimizers in host memory ------------------------------------------------ */

light_status light_fsdp_bring_grads(light_unit *u)
{
    light_device *device = u->buffer->values->device;
    return device->backend->copy(device, u->host_grads->data, own_grads(u), u->host_grads->bytes,
                                 LIGHT_COPY_DEVICE_TO_HOST);
}

light_status light_fsdp_return_grads(light_unit *u)
{
    light_device *device = u->buffer->values->device;
    return device->backend->copy(device, own_grads(u), u->host_grads->data, u->host_grads->bytes,
                                 LIGHT_COPY_HOST_TO_DEVICE);
}

light_status light_fsdp_take_values(light_unit *u)
{
    light_device *device = u->buffer->values->device;
    return device->backend->copy(device, light_fsdp_own_values(u), u->host_values->data,
                                 u->host_values->bytes, LIGHT_COPY_HOST_TO_DEVICE);
}
