/* SPDX-License-Identifier: Apache-2.0 */
/* Units of flat memory: who owns which part, and where values and gradients lie. */
#include "strategies/fsdp.h"

#include "base/memory.h"

#include <light/message.h>

/* ---- making units ------------------------------------------------------------ */

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Which elements of its parameters belong to this rank. */
static void divide(light_unit *u)
{
    const light_flat_buffer *b = u->buffer;
    int64_t size = (int64_t)light_dtype_size(b->dtype), from = u->f->shards->rank * u->count;
    for (int64_t i = 0; i < b->n; i++) {
        light_parameter *p = b->entries[i].parameter;
        int64_t at = (int64_t)b->entries[i].offset / size, numel = p->tensor->numel;
        p->own_begin = clamp(from - at, 0, numel);
        p->own_end = clamp(from + u->count - at, 0, numel);
        if (!u->shard) continue;
        u->shard[i] = (light_shard){.values = u->host_values ? u->host_values : u->values,
                                    .grads = u->host_grads ? u->host_grads : u->grads,
                                    .offset = (size_t)((at + p->own_begin - from) * size)};
        if (p->own_begin == p->own_end) u->shard[i].offset = 0;
        p->shard = &u->shard[i];
    }
}

static void point_values(light_unit *u, char *values)
{
    light_flat_buffer *b = u->buffer;
    b->values->data = values;
    for (int64_t i = 0; i < b->n; i++) b->entries[i].parameter->tensor->data = values + b->entries[i].offset;
}

static void point_lowered(light_unit *u, char *lowered)
{
    light_flat_buffer *b = u->buffer;
    size_t size = light_dtype_size(b->dtype), narrow = light_dtype_size(b->lowered.dtype);
    b->lowered.storage->data = lowered;
    for (int64_t i = 0; i < b->n; i++)
        b->entries[i].parameter->tensor->lowered->data = lowered + b->entries[i].offset / size * narrow;
}

/* Gives a storage's own memory back; what it points to from now on is lent. */
static void let_memory_go(light_storage *storage)
{
    if (!storage || storage->borrowed) return;
    storage->device->backend->release(storage->device, storage->data, storage->bytes ? storage->bytes : 1);
    storage->data = NULL;
    storage->borrowed = true;
}

static light_status take_own_values(light_unit *u)
{
    size_t bytes = (size_t)u->count * light_dtype_size(u->buffer->dtype);
    char *from = light_fsdp_own_values(u);
    LIGHT_TRY(light_storage_new(&u->values, bytes, u->buffer->values->device));
    light_storage source = {
        .data = from, .bytes = bytes, .device = u->buffer->values->device, .refs = 1, .block = -1};
    light_tensor a = light_window_on(&source, u->buffer->dtype, 0, bytes),
                 b = light_window_on(u->values, u->buffer->dtype, 0, bytes);
    return light_device_copy(source.device, &b, &a);
}

/* What the optimizer works on, in host memory. */
static light_status make_host_part(light_unit *u)
{
    size_t bytes = (size_t)u->count * light_dtype_size(u->buffer->dtype);
    light_device *device = u->buffer->values->device, *cpu = light_device_cpu();
    LIGHT_TRY(light_storage_new(&u->host_values, bytes, cpu));
    LIGHT_TRY(light_storage_new(&u->host_grads, bytes, cpu));
    return device->backend->copy(device, u->host_values->data, light_fsdp_own_values(u), bytes,
                                 LIGHT_COPY_DEVICE_TO_HOST);
}

static light_status refuse_gradient(light_keeper *keeper, light_step *s)
{
    (void)keeper, (void)s;
    return light_fail(LIGHT_ERR_STATE,
                      "no process has all of the parameter's gradient: each has the part that it "
                      "updates, which light_clip_grad_norm and light_clip_grad_value work on");
}

static light_status make_unit(light_fsdp *f, int i)
{
    light_unit *u = &f->units[i];
    light_flat_buffer *b = &f->job.flat->buffers[i];
    size_t size = light_dtype_size(b->dtype);
    *u = (light_unit){.base = {.here = true,
                               .grads_here = true,
                               .fetch = light_fsdp_fetch,
                               .fetch_grads = light_fsdp_fetch_grads,
                               .ready = light_fsdp_ready},
                      .grads_base = {.grads_here = true, .fetch = refuse_gradient},
                      .narrow = {.here = true, .grads_here = true, .fetch = light_fsdp_fetch_narrow},
                      .f = f,
                      .buffer = b,
                      .index = i,
                      .slot = f->level == 3 && !b->vectors ? f->sharded++ % LIGHT_FSDP_SLOTS : -1,
                      .count = (int64_t)(b->bytes / size) / f->shards->size};
    const light_parameter *first = b->entries[0].parameter;
    LIGHT_TRY(light_job_label(&f->job, &u->what[0], "values", i + 1, f->n, first));
    LIGHT_TRY(light_job_label(&f->job, &u->what[1], "gradients", i + 1, f->n, first));
    if ((f->level >= 2 || f->offload) && !(u->shard = light_calloc((size_t)b->n, sizeof *u->shard)))
        return LIGHT_ERR_MEMORY;
    if (f->level >= 2) LIGHT_TRY(light_storage_new(&u->grads, (size_t)u->count * size, b->values->device));
    if (u->slot >= 0) LIGHT_TRY(take_own_values(u));
    if (f->offload) LIGHT_TRY(make_host_part(u));
    divide(u);
    b->values->keeper = &u->base;
    if (f->level >= 2 || f->shards->size > 1) b->grads->keeper = &u->grads_base;
    if (b->lowered.storage) b->lowered.storage->keeper = u->slot >= 0 ? &u->narrow : &u->base;
    return LIGHT_OK;
}

/* Memory that any unit of the slot fits in. */
static light_status new_slot(const light_fsdp *f, int slot, bool narrow, light_storage **out)
{
    size_t most = 0;
    for (int i = 0; i < f->n; i++) {
        const light_flat_buffer *b = f->units[i].buffer;
        size_t bytes = !narrow ? b->bytes : b->lowered.storage ? b->lowered.storage->bytes : 0;
        if (f->units[i].slot == slot && bytes > most) most = bytes;
    }
    return light_storage_new(out, most, f->shards->device);
}

light_status light_fsdp_make_slot(light_fsdp *f, int slot)
{
    if (f->slots[slot]) return LIGHT_OK;
    LIGHT_TRY(new_slot(f, slot, false, &f->slots[slot]));
    for (int i = 0; i < f->n; i++)
        if (f->units[i].slot == slot) point_values(&f->units[i], f->slots[slot]->data);
    return LIGHT_OK;
}

static light_status make_narrow_slot(light_fsdp *f, light_unit *u)
{
    light_storage **narrow = &f->narrow_slots[u->slot];
    if (!u->buffer->lowered.storage) return LIGHT_OK;
    let_memory_go(u->buffer->lowered.storage);
    if (!*narrow) LIGHT_TRY(new_slot(f, u->slot, true, narrow));
    point_lowered(u, (*narrow)->data);
    return LIGHT_OK;
}

/* Values go where they are gathered to. */
static light_status move_to_slots(light_fsdp *f)
{
    for (int i = 0; i < f->n; i++) {
        light_unit *u = &f->units[i];
        if (u->slot < 0) continue;
        LIGHT_TRY(make_narrow_slot(f, u));
        let_memory_go(u->buffer->values);
        u->base.here = u->narrow.here = false;
    }
    return LIGHT_OK;
}

/* Whole gradients lie in rooms, unless they stay for several batches (deterministic elastic). */
static bool uses_rooms(const light_fsdp *f)
{
    return f->level >= 2 &&
           !(f->job.base.ordered && f->job.options->accumulate_grad_batches > f->job.base.size);
}

light_status light_fsdp_make_units(light_fsdp *f)
{
    f->n = f->job.flat->n;
    f->sharded = 0;
    f->units = light_calloc((size_t)f->n + 1, sizeof *f->units);
    if (!f->units) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < f->n; i++) LIGHT_TRY(make_unit(f, i));
    f->each = uses_rooms(f);
    for (int i = 0; i < f->n && f->each; i++) {
        let_memory_go(f->units[i].buffer->grads);
        f->units[i].base.grads_here = false;
    }
    return move_to_slots(f);
}

/* The group of this rank and, unless that is all, those who have the same part. */
static light_status split(light_communicator *all, int shard_size, light_communicator **shards,
                          light_communicator **replicas)
{
    if (shard_size == all->size) {
        *shards = all;
        return LIGHT_OK;
    }
    LIGHT_TRY(all->vtable->split(all, all->rank / shard_size, all->rank, shards));
    return replicas ? all->vtable->split(all, all->rank % shard_size, all->rank, replicas) : LIGHT_OK;
}

light_status light_fsdp_make_groups(light_fsdp *f)
{
    light_strategy *job = &f->job.base;
    int shard_size = f->job.options->shard_size ? (int)f->job.options->shard_size : job->size;
    if (f->shards) return LIGHT_OK;
    if (job->size % shard_size)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.shard_size %d: the number of processes, %d, must be a multiple of it",
                          shard_size, job->size);
    LIGHT_TRY(split(job->tensors, shard_size, &f->shards, &f->replicas));
    if (shard_size == 1) f->level = 1;
    return f->offload ? split(job->host, shard_size, &f->host_shards, NULL) : LIGHT_OK;
}

/* ---- undoing them ----------------------------------------------------------- */

bool light_fsdp_has_failed(const light_fsdp *f)
{
    return f->shards->failed || light_control_has_failed(f->job.control);
}

/* Own memory again, with all values. */
static light_status restore_unit(light_fsdp *f, light_unit *u)
{
    light_flat_buffer *b = u->buffer;
    light_device *device = b->values->device;
    bool sharded = u->slot >= 0;
    if (b->grads->borrowed) {
        LIGHT_TRY(device->backend->allocate(device, b->bytes, &b->grads->data));
        b->grads->borrowed = false;
        light_fsdp_point_grads(u, b->grads);
    }
    if (sharded) {
        void *data;
        LIGHT_TRY(device->backend->allocate(device, b->bytes, &data));
        point_values(u, data);
        b->values->borrowed = false;
        f->in_slot[u->slot] = NULL;
        u->slot = -1;
    }
    if (light_fsdp_has_failed(f)) return LIGHT_OK;
    if (sharded) LIGHT_TRY(light_fsdp_gather(f, u, false));
    return u->gather ? light_fsdp_finish_gather(u) : LIGHT_OK;
}

static void free_unit(light_unit *u)
{
    for (int64_t i = 0; u->buffer && i < u->buffer->n; i++) {
        light_parameter *p = u->buffer->entries[i].parameter;
        p->shard = NULL;
        p->own_begin = 0;
        p->own_end = p->tensor->numel;
        light_grad_zero(p->tensor);
    }
    if (u->buffer) u->buffer->values->keeper = u->buffer->grads->keeper = NULL;
    if (u->buffer && u->buffer->lowered.storage) u->buffer->lowered.storage->keeper = NULL;
    light_storage_free(u->values);
    light_storage_free(u->grads);
    light_storage_free(u->host_values);
    light_storage_free(u->host_grads);
    light_free(u->shard);
}

static void free_memory(light_fsdp *f)
{
    for (int i = 0; i < LIGHT_FSDP_SLOTS; i++) {
        light_storage_free(f->slots[i]);
        light_storage_free(f->narrow_slots[i]);
        f->slots[i] = f->narrow_slots[i] = NULL;
        f->in_slot[i] = NULL;
        light_storage_free(f->arrivals[i]);
        f->arrivals[i] = NULL;
        f->in_arrival[i] = NULL;
    }
    while (f->rooms) {
        light_room *r = f->rooms;
        f->rooms = r->next;
        light_storage_free(r->storage);
        light_free(r);
    }
}

void light_fsdp_free_units(light_fsdp *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->units[i].buffer && restore_unit(f, &f->units[i]) != LIGHT_OK)
            light_message(LIGHT_MESSAGE_WARNING, "%s: the model's values are lost: %s",
                          f->job.base.vtable->name, light_error_message());
    if (f->n && f->level == 3) light_flat_lower(f->job.flat, LIGHT_DTYPE_DEFAULT);
    for (int i = 0; i < f->n; i++) free_unit(&f->units[i]);
    light_free(f->units);
    f->units = NULL;
    f->n = 0;
    free_memory(f);
}
