/* SPDX-License-Identifier: Apache-2.0 */
/* Fully sharded data parallel: the processes of a group share one copy of what they would all hold.
 *
 *            values     gradients    optimizer state
 *     zero1  whole      whole        own part
 *     zero2  whole      own part     own part
 *     zero3  own part   own part     own part
 *
 * The model lies in units: flat buffers of about trainer.shard_unit_mb, or the modules marked by light_module_shard_unit.
 * Each is filled up to a multiple of the group's size, so part r of every unit belongs to rank r: its optimizer, its
 * checkpoints and its norms see nothing else. Groups that repeat the same parts (trainer.shard_size) sum over each other.
 *
 * - Gradients: as a unit's are complete they are reduced to the owners of its parts. With zero2 and zero3 a unit has memory
 *   for whole gradients (a room, of a small pool) only from its first gradient until then.
 * - Values of zero1 and zero2 are gathered in place after the optimizer's step, and waited for where they are read next.
 * - Values of zero3 are gathered where they are read, into one of three slots; unit i always into slot i mod 3, so its
 *   tensors keep their addresses. The neighbour that will be read next is gathered ahead.
 *
 * All processes must gather and reduce in the same order, so they must compute alike. Where one of them has no batch, rank
 * 0 tells it step by step what the others do. */
#include "strategies/builtin.h"
#include "strategies/job.h"

#include "base/memory.h"

#include <light/message.h>

#include <stdio.h>
#include <string.h>

enum { SLOTS = 3, ROOMS = 3 };

typedef struct fsdp fsdp;
typedef struct unit unit;

/* Memory for the whole gradients of one unit. */
typedef struct room {
    light_storage *storage;
    unit *user;          /* whose gradients come in; NULL: nobody's */
    light_ticket leaves; /* the reduction that reads it still; 0: none */
    struct room *next;
} room;

struct unit {
    light_keeper base;
    fsdp *f;
    light_flat_buffer *buffer;
    int index;
    int64_t count;                 /* elements of a part */
    light_shard *shard;            /* by entry; NULL for zero1 */
    light_storage *values, *grads; /* of the own part; NULL: in the buffer's own */
    light_ticket gather;           /* under way; 0: none */
    room *room;
    int64_t incomplete; /* gradients that this backward has yet to complete */
    bool reduced;       /* in this backward */
    bool filled;        /* `grads` holds what earlier batches of the window came to */
    light_ticket reduce;
    light_storage *arriving; /* what is to be added to `grads`; NULL: it arrives there itself */
    char what[2][40];        /* gather, reduce */
};

struct fsdp {
    light_job job;
    int level;                    /* 1, 2, 3 */
    light_communicator *shards;   /* those who share one copy */
    light_communicator *replicas; /* those who have the same part; NULL: this process alone */
    int n;
    unit *units;
    light_storage *slots[SLOTS], *lowered_slots[SLOTS];
    unit *in_slot[SLOTS];
    room *rooms;
    bool walking;  /* in a backward */
    bool each;     /* gradients are reduced after every batch, not once a window */
    bool reducing; /* in this backward */
    int next;      /* unit that is reduced next, n - 1 .. 0; -1: all are */
    light_window window;
    bool led;      /* some rank has no batch in this turn */
    bool followed; /* this one had none, and has done what the others did */
};

static const size_t MEGABYTE = 1 << 20;

/* ---- one order for all ---------------------------------------------------- */

typedef struct event {
    int32_t kind; /* below */
    int32_t unit;
} event;
enum { EVENT_END, EVENT_GATHER, EVENT_REDUCE };

/* In an iteration that not all ranks compute: rank 0 tells what comes next, the others check that it is what they do. */
static light_status agree(fsdp *f, int kind, int unit)
{
    event mine = {kind, unit}, led = mine;
    if (!f->led) return LIGHT_OK;
    LIGHT_TRY(light_broadcast_bytes(f->job.base.host, &led, sizeof led, 0, "order of units"));
    if (led.kind == mine.kind && led.unit == mine.unit) return LIGHT_OK;
    return light_fail(
        LIGHT_ERR_STATE,
        "rank %d reads its parameters in another order than rank 0; with %s all ranks must compute alike",
        f->job.base.rank, f->job.base.vtable->name);
}

/* ---- values --------------------------------------------------------------- */

static char *own_values(const unit *u)
{
    if (u->values) return u->values->data;
    size_t size = light_dtype_size(u->buffer->dtype);
    return (char *)u->buffer->values->data + (size_t)u->f->shards->rank * (size_t)u->count * size;
}

static light_status start_gather(fsdp *f, unit *u)
{
    if (u->gather) return LIGHT_OK;
    LIGHT_TRY(agree(f, EVENT_GATHER, u->index));
    if (f->level == 3) {
        unit **slot = &f->in_slot[u->index % SLOTS];
        if (*slot && *slot != u) {
            if ((*slot)->gather) LIGHT_TRY(light_communicate_wait(f->shards, (*slot)->gather));
            (*slot)->gather = 0;
            (*slot)->base.here = false;
        }
        *slot = u;
    }
    return light_communicate_start(f->shards,
                                   &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                       .in = own_values(u),
                                                       .out = u->buffer->values->data,
                                                       .count = u->count,
                                                       .dtype = u->buffer->dtype,
                                                       .what = u->what[0]},
                                   &u->gather);
}

/* The unit that is read after u, if things go by the order of creation. */
static unit *neighbour(fsdp *f, const unit *u)
{
    int next = u->index + (f->walking ? -1 : 1);
    return next >= 0 && next < f->n ? &f->units[next] : NULL;
}

static light_status finish_gather(unit *u)
{
    LIGHT_TRY(light_communicate_wait(u->f->shards, u->gather));
    u->gather = 0;
    u->base.here = true;
    u->buffer->lowered.made = false;
    return LIGHT_OK;
}

static light_status fetch(light_keeper *keeper, light_step *s)
{
    unit *u = (unit *)keeper;
    fsdp *f = u->f;
    if (f->level == 3 && !s)
        return light_fail(
            LIGHT_ERR_STATE,
            "%s: no process has all of the parameter's values; operations of a step may read them, "
            "and a checkpoint holds them whole",
            f->job.base.vtable->name);
    LIGHT_TRY(start_gather(f, u));
    LIGHT_TRY(finish_gather(u));
    unit *next = f->level == 3 ? neighbour(f, u) : NULL;
    return next && !next->base.here ? start_gather(f, next) : LIGHT_OK;
}

/* Values that nobody has read: their owners are about to change them. */
static light_status finish_gathers(fsdp *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->units[i].gather) LIGHT_TRY(finish_gather(&f->units[i]));
    return LIGHT_OK;
}

/* No value of an earlier batch stays, nor of one that not all ranks have computed, so that all ranks gather the same
 * whatever came before. */
static light_status forget_values(fsdp *f)
{
    if (f->level < 3) return LIGHT_OK;
    for (int i = 0; i < f->n; i++) {
        if (f->units[i].gather) LIGHT_TRY(light_communicate_wait(f->shards, f->units[i].gather));
        f->units[i].gather = 0;
        f->units[i].base.here = false;
    }
    return LIGHT_OK;
}

/* ---- rooms ------------------------------------------------------------------ */

static light_status new_room(fsdp *f, room **out)
{
    size_t most = 0;
    for (int i = 0; i < f->n; i++)
        if (f->units[i].buffer->bytes > most) most = f->units[i].buffer->bytes;
    room *r = light_calloc(1, sizeof *r);
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
static light_status take_room(fsdp *f, room **out)
{
    room *leaving = NULL;
    int count = 0;
    for (room *r = f->rooms; r; r = r->next, count++) {
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

static void point_grads(unit *u, light_storage *storage)
{
    u->buffer->grads->data = storage->data;
    for (int64_t i = 0; i < u->buffer->n; i++)
        u->buffer->entries[i].parameter->tensor->grad->data =
            (char *)storage->data + u->buffer->entries[i].offset;
}

static light_status fetch_grads(light_keeper *keeper, light_step *s)
{
    unit *u = (unit *)keeper;
    (void)s;
    LIGHT_TRY(take_room(u->f, &u->room));
    u->room->user = u;
    u->base.grads_here = true;
    point_grads(u, u->room->storage);
    return LIGHT_OK;
}

/* ---- gradients ------------------------------------------------------------- */

/* What lies between the gradients is added up with them. */
static light_status zero_gaps(light_step *s, const unit *u)
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

/* Ranks whose gradients count: of the group's, and groups. Batches are dealt to ranks in order, so the first ones have
 * them. */
static int contributors(const fsdp *f)
{
    return f->each ? f->window.present : f->window.contributors;
}

static int in_group(const fsdp *f, int all)
{
    int before = f->job.base.rank / f->shards->size * f->shards->size;
    int n = all - before;
    return n < 1                 ? 1
           : n > f->shards->size ? f->shards->size
                                 : n; /* of a group that does not count, whatever */
}

/* Where gradients of several batches come together, each but the first arrives beside them. */
static bool arrives_beside(const unit *u)
{
    return u->f->each && u->grads && u->filled;
}

static char *own_grads(const unit *u)
{
    if (arrives_beside(u)) return u->arriving->data;
    if (u->grads) return u->grads->data;
    size_t size = light_dtype_size(u->buffer->dtype);
    return (char *)u->buffer->grads->data + (size_t)u->f->shards->rank * (size_t)u->count * size;
}

static light_status start_sums(fsdp *f, unit *u)
{
    int all = contributors(f);
    char *own = own_grads(u);
    light_collective call = {.kind = LIGHT_REDUCE_SCATTER,
                             .in = u->buffer->grads->data,
                             .out = own,
                             .count = u->count,
                             .dtype = u->buffer->dtype,
                             .ordered = f->job.base.ordered,
                             .contributors = in_group(f, all),
                             .what = u->what[1]};
    LIGHT_TRY(light_communicate_start(f->shards, &call, &u->reduce));
    if (u->room) u->room->leaves = u->reduce;
    if (!f->replicas) return LIGHT_OK;
    /* Both groups' calls run one after the other, but devices order them only where they are told to. */
    LIGHT_TRY(light_communicate_wait(f->shards, u->reduce));
    if (u->room) u->room->leaves = 0;
    call.kind = LIGHT_ALL_REDUCE;
    call.in = own;
    call.contributors = (all + f->shards->size - 1) / f->shards->size;
    return light_communicate_start(f->replicas, &call, &u->reduce);
}

static light_status reduce(fsdp *f, light_step *s, unit *u)
{
    LIGHT_TRY(agree(f, EVENT_REDUCE, u->index));
    if (!u->base.grads_here) LIGHT_TRY(fetch_grads(&u->base, s));
    LIGHT_TRY(light_zero_unwritten(s, u->buffer->entries, u->buffer->n));
    if (u->room) LIGHT_TRY(zero_gaps(s, u));
    if (f->job.base.ordered && !f->each && f->window.mine > 0)
        LIGHT_TRY(light_tree_finish(&f->job.tree, s, u->index, 0, u->buffer->bytes, f->window.mine - 1));
    if (arrives_beside(u) && !u->arriving)
        LIGHT_TRY(light_storage_new(&u->arriving, u->grads->bytes, u->grads->device));
    LIGHT_TRY(start_sums(f, u));
    u->reduced = true;
    if (u->room) {
        u->room->user = NULL;
        u->room = NULL;
        u->base.grads_here = false;
    }
    return LIGHT_OK;
}

static light_status reduce_complete(fsdp *f, light_step *s, bool all)
{
    while (f->next >= 0 && (all || f->units[f->next].incomplete == 0))
        LIGHT_TRY(reduce(f, s, &f->units[f->next--]));
    return LIGHT_OK;
}

static void ready(light_keeper *keeper, light_step *s, light_tensor *leaf)
{
    unit *u = (unit *)keeper;
    (void)leaf;
    if (!u->f->reducing || u->incomplete == 0) return;
    if (--u->incomplete == 0) light_step_record(s, reduce_complete(u->f, s, false));
}

static light_status finish_reduction(fsdp *f, light_step *s, unit *u)
{
    LIGHT_TRY(light_communicate_wait(f->replicas ? f->replicas : f->shards, u->reduce));
    u->reduced = false;
    bool beside = arrives_beside(u);
    u->filled = true;
    if (!beside) return LIGHT_OK;
    light_tensor sum = light_window_on(u->grads, u->buffer->dtype, 0, u->grads->bytes),
                 more = light_window_on(u->arriving, u->buffer->dtype, 0, u->arriving->bytes);
    return LIGHT_RUN(s, BINARY, .in = {&sum, &more}, .out = {&sum},
                     .attrs = &(light_binary_attrs){LIGHT_BINARY_ADD});
}

static void begin_reduction(fsdp *f)
{
    for (int i = 0; i < f->n; i++) {
        unit *u = &f->units[i];
        u->incomplete = 0;
        for (int64_t k = 0; k < u->buffer->n; k++)
            u->incomplete += u->buffer->entries[k].parameter->tensor->requires_grad;
    }
    f->next = f->n - 1;
}

/* ---- making units ------------------------------------------------------------ */

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Which elements of its parameters belong to this rank. */
static void divide(unit *u)
{
    const light_flat_buffer *b = u->buffer;
    int64_t size = (int64_t)light_dtype_size(b->dtype), from = u->f->shards->rank * u->count;
    for (int64_t i = 0; i < b->n; i++) {
        light_parameter *p = b->entries[i].parameter;
        int64_t at = (int64_t)b->entries[i].offset / size, numel = p->tensor->numel;
        p->own_begin = clamp(from - at, 0, numel);
        p->own_end = clamp(from + u->count - at, 0, numel);
        if (!u->shard) continue;
        u->shard[i] = (light_shard){
            .values = u->values, .grads = u->grads, .offset = (size_t)((at + p->own_begin - from) * size)};
        if (p->own_begin == p->own_end) u->shard[i].offset = 0;
        p->shard = &u->shard[i];
    }
}

static void point_values(unit *u, char *values, char *lowered)
{
    light_flat_buffer *b = u->buffer;
    size_t size = light_dtype_size(b->dtype);
    b->values->data = values;
    if (b->lowered.storage) b->lowered.storage->data = lowered;
    for (int64_t i = 0; i < b->n; i++) {
        light_tensor *t = b->entries[i].parameter->tensor;
        t->data = values + b->entries[i].offset;
        if (t->lowered)
            t->lowered->data = lowered + b->entries[i].offset / size * light_dtype_size(b->lowered.dtype);
    }
}

/* Gives a storage's own memory back; what it points to from now on is lent. */
static void let_memory_go(light_storage *storage)
{
    if (!storage || storage->borrowed) return;
    storage->device->backend->release(storage->device, storage->data, storage->bytes ? storage->bytes : 1);
    storage->data = NULL;
    storage->borrowed = true;
}

static light_status take_own_values(unit *u)
{
    size_t bytes = (size_t)u->count * light_dtype_size(u->buffer->dtype);
    char *from = own_values(u);
    LIGHT_TRY(light_storage_new(&u->values, bytes, u->buffer->values->device));
    light_storage source = {
        .data = from, .bytes = bytes, .device = u->buffer->values->device, .refs = 1, .block = -1};
    light_tensor a = light_window_on(&source, u->buffer->dtype, 0, bytes),
                 b = light_window_on(u->values, u->buffer->dtype, 0, bytes);
    return light_device_copy(source.device, &b, &a);
}

static light_status make_unit(fsdp *f, int i)
{
    unit *u = &f->units[i];
    light_flat_buffer *b = &f->job.flat->buffers[i];
    size_t size = light_dtype_size(b->dtype);
    *u = (unit){.base = {.here = true,
                         .grads_here = true,
                         .fetch = fetch,
                         .fetch_grads = fetch_grads,
                         .ready = ready},
                .f = f,
                .buffer = b,
                .index = i,
                .count = (int64_t)(b->bytes / size) / f->shards->size};
    snprintf(u->what[0], sizeof u->what[0], "values %d of %d", i + 1, f->n);
    snprintf(u->what[1], sizeof u->what[1], "gradients %d of %d", i + 1, f->n);
    if (f->level >= 2) {
        u->shard = light_calloc((size_t)b->n, sizeof *u->shard);
        if (!u->shard) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(light_storage_new(&u->grads, (size_t)u->count * size, b->values->device));
    }
    if (f->level == 3) LIGHT_TRY(take_own_values(u));
    divide(u);
    b->values->keeper = &u->base;
    if (b->lowered.storage) b->lowered.storage->keeper = &u->base;
    return LIGHT_OK;
}

static light_status make_slots(fsdp *f)
{
    size_t most = 0, most_lowered = 0;
    for (int i = 0; i < f->n; i++) {
        const light_flat_buffer *b = f->units[i].buffer;
        if (b->bytes > most) most = b->bytes;
        if (b->lowered.storage && b->lowered.storage->bytes > most_lowered)
            most_lowered = b->lowered.storage->bytes;
    }
    for (int i = 0; i < SLOTS && i < f->n; i++) {
        LIGHT_TRY(light_storage_new(&f->slots[i], most, f->shards->device));
        if (most_lowered) LIGHT_TRY(light_storage_new(&f->lowered_slots[i], most_lowered, f->shards->device));
    }
    for (int i = 0; i < f->n; i++) {
        unit *u = &f->units[i];
        let_memory_go(u->buffer->values);
        let_memory_go(u->buffer->lowered.storage);
        light_storage *lowered = f->lowered_slots[i % SLOTS];
        point_values(u, f->slots[i % SLOTS]->data, lowered ? lowered->data : NULL);
        u->base.here = false;
    }
    return LIGHT_OK;
}

/* Whole gradients lie in rooms, unless they stay for several batches (deterministic elastic). */
static bool uses_rooms(const fsdp *f)
{
    return f->level >= 2 &&
           !(f->job.base.ordered && f->job.options->accumulate_grad_batches > f->job.base.size);
}

static light_status make_units(fsdp *f)
{
    f->n = f->job.flat->n;
    f->units = light_calloc((size_t)f->n + 1, sizeof *f->units);
    if (!f->units) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < f->n; i++) LIGHT_TRY(make_unit(f, i));
    f->each = uses_rooms(f);
    for (int i = 0; i < f->n && f->each; i++) {
        let_memory_go(f->units[i].buffer->grads);
        f->units[i].base.grads_here = false;
    }
    return f->level == 3 ? make_slots(f) : LIGHT_OK;
}

static light_status make_groups(fsdp *f)
{
    light_communicator *all = f->job.base.tensors;
    int rank = f->job.base.rank, size = f->job.base.size;
    int shard_size = f->job.options->shard_size ? (int)f->job.options->shard_size : size;
    if (f->shards) return LIGHT_OK;
    if (size % shard_size)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.shard_size %d: the number of processes, %d, must be a multiple of it",
                          shard_size, size);
    if (shard_size == size) {
        f->shards = all;
        return LIGHT_OK;
    }
    LIGHT_TRY(all->vtable->split(all, rank / shard_size, rank, &f->shards));
    return all->vtable->split(all, rank % shard_size, rank, &f->replicas);
}

/* ---- the strategy -------------------------------------------------------------- */

/* Own memory again, with all values. */
static light_status restore_unit(fsdp *f, unit *u)
{
    light_flat_buffer *b = u->buffer;
    light_device *device = b->values->device;
    light_status status = LIGHT_OK;
    if (b->grads->borrowed) {
        LIGHT_TRY(device->backend->allocate(device, b->bytes, &b->grads->data));
        b->grads->borrowed = false;
        point_grads(u, b->grads);
    }
    if (f->level == 3) {
        void *data;
        LIGHT_TRY(device->backend->allocate(device, b->bytes, &data));
        point_values(u, data, NULL);
        b->values->borrowed = false;
        f->in_slot[u->index % SLOTS] = NULL;
        if (!f->shards->failed) status = start_gather(f, u);
    }
    return u->gather && status == LIGHT_OK ? finish_gather(u) : status;
}

static void free_unit(unit *u)
{
    for (int64_t i = 0; u->buffer && i < u->buffer->n; i++) {
        light_parameter *p = u->buffer->entries[i].parameter;
        p->shard = NULL;
        p->own_begin = 0;
        p->own_end = p->tensor->numel;
        light_grad_zero(p->tensor);
    }
    if (u->buffer) u->buffer->values->keeper = NULL;
    light_storage_free(u->values);
    light_storage_free(u->grads);
    light_storage_free(u->arriving);
    light_free(u->shard);
}

static void free_memory(fsdp *f)
{
    for (int i = 0; i < SLOTS; i++) {
        light_storage_free(f->slots[i]);
        light_storage_free(f->lowered_slots[i]);
        f->slots[i] = f->lowered_slots[i] = NULL;
        f->in_slot[i] = NULL;
    }
    while (f->rooms) {
        room *r = f->rooms;
        f->rooms = r->next;
        light_storage_free(r->storage);
        light_free(r);
    }
}

static void detach(light_strategy *self)
{
    fsdp *f = (fsdp *)self;
    f->led = f->walking = f->reducing = false;
    /* What was gathered ahead, or in a batch that this rank has followed, has come to a slot; all are to gather anew. */
    if (f->n && !f->shards->failed && forget_values(f) != LIGHT_OK)
        light_message(LIGHT_MESSAGE_WARNING, "%s: %s", self->vtable->name, light_error_message());
    for (int i = 0; i < f->n; i++)
        if (f->units[i].buffer && restore_unit(f, &f->units[i]) != LIGHT_OK)
            light_message(LIGHT_MESSAGE_WARNING, "%s: the model's values are lost: %s", self->vtable->name,
                          light_error_message());
    if (f->n && f->level == 3) light_flat_lower(f->job.flat, LIGHT_DTYPE_DEFAULT);
    for (int i = 0; i < f->n; i++) free_unit(&f->units[i]);
    light_free(f->units);
    f->units = NULL;
    f->n = 0;
    free_memory(f);
    light_job_detach(&f->job);
}

static light_status attach(light_strategy *self, light_module *module, light_step *s)
{
    fsdp *f = (fsdp *)self;
    detach(self);
    if (module->vtable->manual_optimization && self->size > 1)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "module %s optimizes manually, which strategy %s cannot share out: use ddp",
                          module->vtable->name, self->vtable->name);
    LIGHT_TRY(make_groups(f));
    const light_flat_rule rule = {.bytes = (size_t)(f->job.options->shard_unit_mb * (double)MEGABYTE),
                                  .multiple = LIGHT_FLAT_ALIGNMENT * (size_t)f->shards->size};
    LIGHT_TRY(light_flat_arrange(module->flat, module, &rule));
    LIGHT_TRY(light_flat_lower(module->flat, s->lower));
    LIGHT_TRY(light_job_attach(&f->job, module));
    f->job.sharing.group = f->shards->size > 1 ? f->shards : NULL;
    f->job.sharing.copies = f->replicas ? f->replicas->size : 1;
    f->job.sharing.copy = f->replicas ? f->replicas->rank : 0;
    return make_units(f);
}

static light_status before_backward(light_strategy *self, light_step *s, const light_window *window)
{
    fsdp *f = (fsdp *)self;
    (void)s;
    f->window = *window;
    f->walking = true;
    f->reducing = window->last || f->each;
    if (window->first)
        for (int i = 0; i < f->n; i++) f->units[i].filled = false;
    if (f->reducing) begin_reduction(f);
    return LIGHT_OK;
}

/* A leaf of the tree; the next batch writes its gradients in the same place. */
static light_status keep_leaf(fsdp *f, light_step *s, int64_t leaf)
{
    for (int i = 0; i < f->n; i++) {
        const light_flat_buffer *b = f->units[i].buffer;
        LIGHT_TRY(light_zero_unwritten(s, b->entries, b->n));
        LIGHT_TRY(light_tree_add(&f->job.tree, s, i, leaf));
        for (int64_t k = 0; k < b->n; k++) light_grad_zero(b->entries[k].parameter->tensor);
    }
    return LIGHT_OK;
}

static light_status after_backward(light_strategy *self, light_step *s, const light_window *window,
                                   bool backward)
{
    fsdp *f = (fsdp *)self;
    f->walking = false;
    if (!window->last && !f->each) {
        bool keep = f->job.base.ordered && backward && window->done + 1 < window->mine;
        return keep ? keep_leaf(f, s, window->done) : LIGHT_OK;
    }
    if (!backward && !f->followed) {
        LIGHT_TRY(before_backward(self, s, window));
        f->walking = false;
    }
    f->followed = false;
    LIGHT_TRY(finish_gathers(f));
    LIGHT_TRY(reduce_complete(f, s, true));
    f->reducing = false;
    LIGHT_TRY(light_settle_unused(&f->job, window, backward, !f->each || window->first, window->last));
    for (int i = f->n - 1; i >= 0; i--)
        if (f->units[i].reduced) LIGHT_TRY(finish_reduction(f, s, &f->units[i]));
    if (!window->last && f->each) /* the next batch's gradients arrive anew */
        for (int i = 0; i < f->n; i++)
            for (int64_t k = 0; k < f->units[i].buffer->n; k++)
                light_grad_zero(f->units[i].buffer->entries[k].parameter->tensor);
    return LIGHT_OK;
}

static light_status after_step(light_strategy *self, light_step *s)
{
    fsdp *f = (fsdp *)self;
    (void)s;
    for (int i = 0; i < f->n; i++) {
        unit *u = &f->units[i];
        u->buffer->values->version++;
        if (f->level == 3 || f->shards->size == 1) continue;
        u->base.here = false;
        LIGHT_TRY(start_gather(f, u));
    }
    return forget_values(f);
}

/* Does what rank 0 does, until it is done. */
static light_status follow(fsdp *f, light_step *s)
{
    for (;;) {
        event led;
        LIGHT_TRY(light_broadcast_bytes(f->job.base.host, &led, sizeof led, 0, "order of units"));
        if (led.kind == EVENT_END || led.unit < 0 || led.unit >= f->n) return forget_values(f);
        f->led = false; /* what follows has been agreed */
        light_status status = led.kind == EVENT_GATHER ? start_gather(f, &f->units[led.unit])
                                                       : reduce(f, s, &f->units[led.unit]);
        if (led.kind == EVENT_REDUCE) f->next = led.unit - 1;
        f->led = true;
        LIGHT_TRY(status);
    }
}

static light_status begin_batch(light_strategy *self, light_step *s, const light_window *window, bool mine,
                                bool all)
{
    fsdp *f = (fsdp *)self;
    f->walking = false;
    LIGHT_TRY(forget_values(f));
    if (all) return LIGHT_OK;
    f->led = true;
    if (mine) return LIGHT_OK;
    if (window) {
        LIGHT_TRY(before_backward(self, s, window));
        f->walking = false;
    }
    light_status status = follow(f, s);
    f->led = false;
    f->followed = window != NULL;
    return status;
}

static light_status end_batch(light_strategy *self, light_step *s)
{
    fsdp *f = (fsdp *)self;
    (void)s;
    if (!f->led) return LIGHT_OK;
    light_status status = agree(f, EVENT_END, 0);
    f->led = false;
    LIGHT_TRY(status);
    return forget_values(f);
}

static void close_fsdp(light_strategy *self)
{
    fsdp *f = (fsdp *)self;
    detach(self);
    light_communicator_free(f->replicas);
    if (f->shards != f->job.base.tensors) light_communicator_free(f->shards);
    light_job_close(self);
}

static light_status open_level(const light_strategy_vtable *vtable, int level,
                               const light_trainer_options *options, light_device *device,
                               light_strategy **out)
{
    LIGHT_TRY(light_job_open(vtable, sizeof(fsdp), options, device, out));
    ((fsdp *)*out)->level = level;
    return LIGHT_OK;
}

#define LEVEL(NAME, VTABLE, LEVEL_, BEGIN, END)                                                              \
    static light_status open_##VTABLE(const light_trainer_options *options, light_device *device,            \
                                      light_strategy **out)                                                  \
    {                                                                                                        \
        return open_level(&light_##VTABLE##_vtable, LEVEL_, options, device, out);                           \
    }                                                                                                        \
    const light_strategy_vtable light_##VTABLE##_vtable = {.size = sizeof(light_strategy_vtable),            \
                                                           .name = NAME,                                     \
                                                           .launch = light_job_launch,                       \
                                                           .device = light_job_device,                       \
                                                           .open = open_##VTABLE,                            \
                                                           .fail = light_job_fail,                           \
                                                           .boundary = light_job_boundary,                   \
                                                           .close = close_fsdp,                              \
                                                           .attach = attach,                                 \
                                                           .begin_batch = BEGIN,                             \
                                                           .before_backward = before_backward,               \
                                                           .after_backward = after_backward,                 \
                                                           .end_batch = END,                                 \
                                                           .after_step = after_step,                         \
                                                           .detach = detach}
LEVEL("zero1", zero1, 1, NULL, NULL);
LEVEL("zero2", zero2, 2, NULL, NULL);
LEVEL("zero3", zero3, 3, begin_batch, end_batch);
LEVEL("fsdp", fsdp, 3, begin_batch, end_batch);
