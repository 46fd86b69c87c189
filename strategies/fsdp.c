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
 *   tensors keep their addresses. The neighbour that will be read next is gathered ahead. In a 16-bit precision it is the
 *   16-bit copies that are gathered, each lowered by its owner, unless an operation has read a unit's f32 values. In mixed
 *   precision norms do; so vectors lie in units of their own then, whose values stay whole, as with zero2.
 *
 * All processes must gather and reduce in the same order, so they must compute alike. Where one of them has no batch, one
 * that has tells it step by step what the others do. */
#include "strategies/fsdp.h"
#include "strategies/builtin.h"

#include <light/message.h>

static const double MEGABYTE = 1 << 20;

static void detach(light_strategy *self)
{
    light_fsdp *f = (light_fsdp *)self;
    f->led = f->walking = f->reducing = false;
    /* What was gathered ahead, or in a batch that this rank has followed, has come to a slot; all are to gather anew. */
    if (f->n && !light_fsdp_has_failed(f) && light_fsdp_forget_values(f) != LIGHT_OK)
        light_message(LIGHT_MESSAGE_WARNING, "%s: %s", self->vtable->name, light_error_message());
    light_fsdp_free_units(f);
    light_job_detach(&f->job);
}

static light_status attach(light_strategy *self, light_module *module, light_step *s)
{
    light_fsdp *f = (light_fsdp *)self;
    detach(self);
    if (f->offload && s->device->is_host)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "trainer.cpu_offload: the device, %s, is the host itself, there is nothing to move to it",
            s->device->name);
    LIGHT_TRY(light_fsdp_make_groups(f));
    const light_flat_rule rule = {.bytes = (size_t)(f->job.options->shard_unit_mb * MEGABYTE),
                                  .multiple = LIGHT_FLAT_ALIGNMENT * (size_t)f->shards->size,
                                  .vectors_apart = f->level == 3 && s->lower && !s->lower_all};
    LIGHT_TRY(light_flat_arrange(module->flat, module, &rule));
    LIGHT_TRY(light_flat_lower(module->flat, s->lower));
    LIGHT_TRY(light_job_attach(&f->job, module));
    f->job.sharing.group = f->shards->size == 1 ? NULL : f->offload ? f->host_shards : f->shards;
    f->job.sharing.copies = f->replicas ? f->replicas->size : 1;
    f->job.sharing.copy = f->replicas ? f->replicas->rank : 0;
    return light_fsdp_make_units(f);
}

static light_status before_backward(light_strategy *self, light_step *s, const light_window *window)
{
    light_fsdp *f = (light_fsdp *)self;
    f->window = *window;
    f->walking = true;
    f->reducing = window->last || f->each;
    if (window->manual) LIGHT_TRY(light_fsdp_keep_summed(f, s));
    for (int i = 0; i < f->n && window->first && !window->manual; i++) f->units[i].filled = false;
    if (f->reducing) light_fsdp_begin_reduction(f);
    return LIGHT_OK;
}

/* A leaf of the tree; the next batch writes its gradients in the same place. */
static light_status keep_leaf(light_fsdp *f, light_step *s, int64_t leaf)
{
    for (int i = 0; i < f->n; i++) {
        const light_flat_buffer *b = f->units[i].buffer;
        LIGHT_TRY(light_zero_unwritten(s, &f->window, b->entries, b->n));
        LIGHT_TRY(light_tree_add(&f->job.tree, s, i, leaf));
        for (int64_t k = 0; k < b->n; k++) light_grad_zero(b->entries[k].parameter->tensor);
    }
    return LIGHT_OK;
}

/* What the next backward gives is written, not added. */
static void begin_anew(light_fsdp *f)
{
    for (int i = 0; i < f->n; i++)
        for (int64_t k = 0; k < f->units[i].buffer->n; k++)
            light_grad_zero(f->units[i].buffer->entries[k].parameter->tensor);
}

static light_status after_backward(light_strategy *self, light_step *s, const light_window *window,
                                   bool backward)
{
    light_fsdp *f = (light_fsdp *)self;
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
    LIGHT_TRY(light_fsdp_finish_gathers(f));
    LIGHT_TRY(light_fsdp_reduce_complete(f, s, true));
    f->reducing = false;
    LIGHT_TRY(light_settle_unused(&f->job, window, backward, !f->each || (window->first && !window->manual),
                                  window->last));
    for (int i = f->n - 1; i >= 0; i--)
        if (f->units[i].reduced) LIGHT_TRY(light_fsdp_finish_reduction(f, s, &f->units[i]));
    for (int i = 0; i < f->n && window->last && f->offload; i++)
        LIGHT_TRY(light_fsdp_bring_grads(&f->units[i]));
    if (!window->last && f->each) begin_anew(f);
    return LIGHT_OK;
}

static light_status after_step(light_strategy *self, light_step *s)
{
    light_fsdp *f = (light_fsdp *)self;
    (void)s;
    for (int i = 0; i < f->n; i++) {
        light_unit *u = &f->units[i];
        u->buffer->values->version++;
        if (f->offload) LIGHT_TRY(light_fsdp_take_values(u));
        if (u->slot >= 0 || f->shards->size == 1) continue;
        u->base.here = false;
        LIGHT_TRY(light_fsdp_gather(f, u, false));
    }
    return light_fsdp_forget_values(f);
}

/* Does what the leader does, until it is done. */
static light_status follow(light_fsdp *f, light_step *s)
{
    for (;;) {
        light_event led;
        LIGHT_TRY(light_broadcast_bytes(f->job.base.host, &led, sizeof led, f->leader, "order of units"));
        if (led.kind == LIGHT_EVENT_END || led.unit < 0 || led.unit >= f->n)
            return light_fsdp_forget_values(f);
        f->led = false; /* what follows has been agreed */
        light_unit *u = &f->units[led.unit];
        light_status status = led.kind == LIGHT_EVENT_REDUCE
                                  ? light_fsdp_reduce(f, s, u)
                                  : light_fsdp_gather(f, u, led.kind == LIGHT_EVENT_GATHER_NARROW);
        if (led.kind == LIGHT_EVENT_REDUCE) f->next = led.unit - 1;
        f->led = true;
        LIGHT_TRY(status);
    }
}

static light_status begin_batch(light_strategy *self, light_step *s, const light_window *window, bool mine,
                                int leader)
{
    light_fsdp *f = (light_fsdp *)self;
    f->walking = false;
    LIGHT_TRY(light_fsdp_forget_values(f));
    if (leader < 0 || f->level < 3) return LIGHT_OK;
    f->led = true;
    f->leader = leader;
    if (mine) return LIGHT_OK;
    if (window) {
        if (window->first) begin_anew(f); /* the trainer's zero_grad comes later */
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
    light_fsdp *f = (light_fsdp *)self;
    (void)s;
    if (!f->led) return LIGHT_OK;
    light_status status = light_fsdp_agree(f, LIGHT_EVENT_END, 0);
    f->led = false;
    LIGHT_TRY(status);
    return light_fsdp_forget_values(f);
}

static void close_fsdp(light_strategy *self)
{
    light_fsdp *f = (light_fsdp *)self;
    detach(self);
    light_communicator_free(f->replicas);
    if (f->host_shards != f->job.base.host) light_communicator_free(f->host_shards);
    if (f->shards != f->job.base.tensors) light_communicator_free(f->shards);
    light_job_close(self);
}

static light_status open_level(const light_strategy_vtable *vtable, int level,
                               const light_trainer_options *options, light_device *device,
                               light_strategy **out)
{
    LIGHT_TRY(light_job_open(vtable, sizeof(light_fsdp), options, device, out));
    light_fsdp *f = (light_fsdp *)*out;
    f->level = level;
    f->offload = options->cpu_offload;
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
