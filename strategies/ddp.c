/* SPDX-License-Identifier: Apache-2.0 */
/* Data parallel: every process has the whole model and sums gradients with the others.
 *
 * The flat gradients are cut into buckets, which are reduced in the order in which a backward pass usually completes them:
 * from the last parameter to the first, a small one to begin with. A bucket goes to the communicator as soon as all of its
 * gradients are complete, while the pass goes on with earlier layers. All processes reduce in the same order, whatever
 * the order in which theirs complete. The gradients of a parameter stay where they are: nothing is copied. */
#include "strategies/builtin.h"
#include "strategies/job.h"

#include "base/memory.h"

/* The first one is small, so that communication starts early; PyTorch's number. */
#define FIRST_BUCKET_BYTES ((size_t)1 << 20)

typedef struct bucket {
    int buffer;
    size_t from, to;    /* bytes in it */
    int64_t first, n;   /* entries of the buffer */
    int64_t incomplete; /* gradients that this backward has yet to complete */
    light_ticket ticket;
    const char *what; /* for messages */
} bucket;

typedef struct ddp ddp;

/* Looks after one flat buffer. */
typedef struct buffer_keeper {
    light_keeper base;
    ddp *ddp;
    int buffer;
} buffer_keeper;

struct ddp {
    light_job job;
    buffer_keeper *keepers; /* by buffer */
    bucket *buckets;        /* in the order of reduction */
    int n;
    int next;        /* the next to be reduced */
    bool overlapped; /* in a backward whose gradients are reduced as they come */
    light_window window;
};

/* ---- reducing ----------------------------------------------------------- */

static light_status start(ddp *d, light_step *s, bucket *b)
{
    const light_flat_buffer *buffer = &d->job.flat->buffers[b->buffer];
    LIGHT_TRY(light_zero_unwritten(s, &d->window, buffer->entries + b->first, b->n));
    if (d->job.base.ordered && d->window.mine > 0)
        LIGHT_TRY(light_tree_finish(&d->job.tree, s, b->buffer, b->from, b->to, d->window.mine - 1));
    light_tensor grads = light_window_on(buffer->grads, buffer->dtype, b->from, b->to);
    const light_collective call = {.kind = LIGHT_ALL_REDUCE,
                                   .in = grads.data,
                                   .out = grads.data,
                                   .count = grads.numel,
                                   .dtype = buffer->dtype,
                                   .ordered = d->job.base.ordered,
                                   .contributors = d->window.contributors,
                                   .what = b->what};
    return light_communicate_start(d->job.base.tensors, &call, &b->ticket);
}

/* Those that are complete and whose turn has come. */
static light_status start_complete(ddp *d, light_step *s, bool all)
{
    while (d->next < d->n && (all || d->buckets[d->next].incomplete == 0))
        LIGHT_TRY(start(d, s, &d->buckets[d->next++]));
    return LIGHT_OK;
}

static void count(ddp *d)
{
    for (int i = 0; i < d->n; i++) {
        bucket *b = &d->buckets[i];
        const light_flat_entry *entries = d->job.flat->buffers[b->buffer].entries + b->first;
        b->incomplete = 0;
        for (int64_t k = 0; k < b->n; k++) b->incomplete += entries[k].parameter->tensor->requires_grad;
    }
    d->next = 0;
}

/* The bucket of a parameter; they are few, and lie the other way round. */
static bucket *bucket_of(ddp *d, int buffer, const light_tensor *leaf)
{
    size_t at = (size_t)(leaf->data - (char *)leaf->storage->data);
    for (int i = 0; i < d->n; i++)
        if (d->buckets[i].buffer == buffer && at >= d->buckets[i].from && at < d->buckets[i].to)
            return &d->buckets[i];
    return NULL;
}

static void ready(light_keeper *keeper, light_step *s, light_tensor *leaf)
{
    buffer_keeper *k = (buffer_keeper *)keeper;
    ddp *d = k->ddp;
    bucket *b = d->overlapped ? bucket_of(d, k->buffer, leaf) : NULL;
    if (!b || b->incomplete == 0) return;
    b->incomplete--;
    light_step_record(s, start_complete(d, s, false));
}

/* ---- making buckets ----------------------------------------------------- */

static light_status add_bucket(ddp *d, int buffer, int64_t first, int64_t last)
{
    const light_flat_buffer *b = &d->job.flat->buffers[buffer];
    bucket *grown = light_realloc(d->buckets, (size_t)(d->n + 1) * sizeof *grown);
    if (!grown) return LIGHT_ERR_MEMORY;
    d->buckets = grown;
    d->buckets[d->n++] = (bucket){.buffer = buffer,
                                  .from = b->entries[first].offset,
                                  .to = last + 1 < b->n ? b->entries[last + 1].offset : b->bytes,
                                  .first = first,
                                  .n = last - first + 1};
    return LIGHT_OK;
}

/* From the buffer's end; a parameter is never cut. */
static light_status cut(ddp *d, int buffer, size_t most)
{
    const light_flat_buffer *b = &d->job.flat->buffers[buffer];
    size_t end = b->bytes;
    int64_t last = b->n - 1;
    for (int64_t i = b->n - 1; i >= 0; i--) {
        size_t limit = d->n ? most : FIRST_BUCKET_BYTES;
        if (i > 0 && end - b->entries[i].offset < (limit < most ? limit : most)) continue;
        LIGHT_TRY(add_bucket(d, buffer, i, last));
        end = b->entries[i].offset;
        last = i - 1;
    }
    return LIGHT_OK;
}

static light_status make_buckets(ddp *d)
{
    size_t most = (size_t)(d->job.options->bucket_cap_mb * 1048576.0);
    for (int i = d->job.flat->n - 1; i >= 0; i--) LIGHT_TRY(cut(d, i, most));
    for (int i = 0; i < d->n; i++) {
        bucket *b = &d->buckets[i];
        const light_flat_entry *first = &d->job.flat->buffers[b->buffer].entries[b->first];
        LIGHT_TRY(light_job_label(&d->job, &b->what, "gradients", i + 1, d->n, first->parameter));
    }
    return LIGHT_OK;
}

static light_status make_keepers(ddp *d)
{
    light_flat *flat = d->job.flat;
    d->keepers = light_calloc((size_t)flat->n + 1, sizeof *d->keepers);
    if (!d->keepers) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < flat->n; i++) {
        d->keepers[i] = (buffer_keeper){
            .base = {.here = true, .grads_here = true, .ready = ready}, .ddp = d, .buffer = i};
        flat->buffers[i].values->keeper = &d->keepers[i].base;
    }
    return LIGHT_OK;
}

/* ---- the strategy ------------------------------------------------------- */

static void detach(light_strategy *self)
{
    ddp *d = (ddp *)self;
    for (int i = 0; d->keepers && i < d->job.flat->n; i++) d->job.flat->buffers[i].values->keeper = NULL;
    light_free(d->keepers);
    light_free(d->buckets);
    d->keepers = NULL;
    d->buckets = NULL;
    d->n = 0;
    d->overlapped = false;
    light_job_detach(&d->job);
}

static light_status attach(light_strategy *self, light_module *module, light_step *s)
{
    ddp *d = (ddp *)self;
    (void)s;
    detach(self);
    if (d->job.options->cpu_offload)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.cpu_offload: strategy ddp shards nothing; choose fsdp, zero1, "
                          "zero2 or zero3");
    if (d->job.options->shard_size)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "trainer.shard_size %lld: strategy ddp shards nothing; choose fsdp, zero1, zero2 or zero3",
            (long long)d->job.options->shard_size);
    LIGHT_TRY(light_job_attach(&d->job, module));
    LIGHT_TRY(make_buckets(d));
    return make_keepers(d);
}

/* Gradients that have been summed are in the sum once, by rank 0. */
static void drop_summed(ddp *d)
{
    for (int b = 0; b < d->job.flat->n; b++)
        for (int64_t i = 0; i < d->job.flat->buffers[b].n; i++)
            light_grad_zero(d->job.flat->buffers[b].entries[i].parameter->tensor);
}

static light_status before_backward(light_strategy *self, light_step *s, const light_window *window)
{
    ddp *d = (ddp *)self;
    (void)s;
    d->window = *window;
    /* With sync_batchnorm the pass itself asks for sums, of ranks that may be elsewhere in the window: those come first. */
    d->overlapped = window->last && !d->job.options->sync_batchnorm;
    if (window->last) count(d);
    if (window->manual && d->job.base.rank > 0) drop_summed(d);
    return LIGHT_OK;
}

/* A leaf of the tree; the next batch writes its gradients in the same place. */
static light_status keep_leaf(ddp *d, light_step *s, int64_t leaf)
{
    const light_flat *flat = d->job.flat;
    for (int b = 0; b < flat->n; b++) {
        LIGHT_TRY(light_zero_unwritten(s, &d->window, flat->buffers[b].entries, flat->buffers[b].n));
        LIGHT_TRY(light_tree_add(&d->job.tree, s, b, leaf));
        for (int64_t i = 0; i < flat->buffers[b].n; i++)
            light_grad_zero(flat->buffers[b].entries[i].parameter->tensor);
    }
    return LIGHT_OK;
}

static light_status after_backward(light_strategy *self, light_step *s, const light_window *window,
                                   bool backward)
{
    ddp *d = (ddp *)self;
    d->overlapped = false;
    if (!window->last) {
        bool keep = d->job.base.ordered && backward && window->done + 1 < window->mine;
        return keep ? keep_leaf(d, s, window->done) : LIGHT_OK;
    }
    if (!backward) {
        d->window = *window;
        d->next = 0;
    }
    LIGHT_TRY(start_complete(d, s, true));
    LIGHT_TRY(light_settle_unused(&d->job, window, backward, true, true));
    return light_communicate_wait(d->job.base.tensors, d->buckets[d->n - 1].ticket);
}

static light_status after_step(light_strategy *self, light_step *s)
{
    (void)self, (void)s;
    return LIGHT_OK;
}

static light_status open_ddp(const light_trainer_options *options, light_device *device, light_strategy **out)
{
    return light_job_open(&light_ddp_vtable, sizeof(ddp), options, device, out);
}

static void close_ddp(light_strategy *self)
{
    detach(self);
    light_job_close(self);
}

const light_strategy_vtable light_ddp_vtable = {.size = sizeof(light_strategy_vtable),
                                                .name = "ddp",
                                                .launch = light_job_launch,
                                                .device = light_job_device,
                                                .open = open_ddp,
                                                .fail = light_job_fail,
                                                .boundary = light_job_boundary,
                                                .close = close_ddp,
                                                .attach = attach,
                                                .before_backward = before_backward,
                                                .after_backward = after_backward,
                                                .after_step = after_step,
                                                .detach = detach};
