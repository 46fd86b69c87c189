/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that repeat as graphs of the device (trainer.cuda_graphs): after a few eager steps of one kind, what a step asks
 * of the device is recorded, and later steps of that kind launch the record instead of running training_step.
 *
 * A kind is all that may change what a step asks: the batch's shapes and dtypes, the place in the accumulation window, and
 * what holds for the model (who is trained, who is in train mode, writes to parameters by others than the optimizer).
 * Tensors have the addresses of the recorded step, since the arena is a pure function of the calls made to it; the batch
 * is copied to the same place each time. What the host does in a step (counters, schedules, the values that are
 * logged) is done for launches too. */
#include "trainer/trainer.h"

#include "base/memory.h"

#include <light/message.h>

enum { MOST_KINDS = 16, EAGER_STEPS = 2, MOST_LOGS = 64, MOST_NUMBERS = 512 };

typedef struct kind {
    uint64_t signature;
    int seen;    /* eager steps */
    void *graph; /* NULL: not recorded yet */
    int n_logs;
    light_graph_log logs[MOST_LOGS];
} kind;

struct light_graphs {
    int n;
    kind kinds[MOST_KINDS];
    kind *recording;
    bool off; /* something in this model's steps cannot be recorded */
};

void light_graphs_free(light_trainer *t)
{
    light_graphs *g = t->graphs;
    if (!g) return;
    for (int i = 0; i < g->n; i++) t->device->backend->graph_free(t->device, g->kinds[i].graph);
    light_free(g);
    t->graphs = NULL;
}

/* ---- whether ------------------------------------------------------------- */

/* Hooks between the batch and the optimizer's step run on the host, which a record does not. */
static const char *what_forbids(const light_trainer *t)
{
    const light_module_vtable *m = &t->module_hooks;
    if (t->strategy) return "trainer.strategy, whose messages no graph holds";
    if (m->manual_optimization) return "manual optimization";
    if (t->options.detect_anomaly) return "trainer.detect_anomaly";
    if (m->configure_gradient_clipping) return "the module's configure_gradient_clipping";
    if (m->on_before_zero_grad || m->on_before_backward || m->on_after_backward ||
        m->on_before_optimizer_step)
        return "a hook of the module around backward or the optimizer's step";
    for (int i = 0; i < t->n_callbacks; i++) {
        const light_callback_vtable *c = &t->callbacks[i].hooks;
        if (c->on_before_zero_grad || c->on_before_backward || c->on_after_backward ||
            c->on_before_optimizer_step)
            return c->name;
    }
    return NULL;
}

light_status light_graphs_new(light_trainer *t)
{
    light_graphs_free(t);
    if (!t->options.cuda_graphs) return LIGHT_OK;
    if (!t->device->backend->graph_begin)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "trainer.cuda_graphs: %s has no graphs; leave it out, or run on cuda",
                          t->device->name);
    const char *why = what_forbids(t);
    if (why)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "trainer.cuda_graphs: steps cannot be recorded with %s",
                          why);
    t->graphs = light_calloc(1, sizeof *t->graphs);
    return t->graphs ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

/* Says once that steps stay eager, and why. */
static void give_up(light_trainer *t, const char *why)
{
    t->graphs->off = true;
    light_message(LIGHT_MESSAGE_WARNING, "trainer.cuda_graphs: steps are run one by one: %s", why);
}

/* ---- kinds --------------------------------------------------------------- */

/* FNV-1a (Fowler, Noll, Vo). */
static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t signature_of(const light_trainer *t, const light_batch *batch)
{
    const int64_t place[] = {t->accumulated, t->accumulated ? t->window : light_window_length(t),
                             light_window_ends(t), batch->size, batch->num_fields};
    uint64_t hash = mix(0xcbf29ce484222325u, place, sizeof place);
    for (int f = 0; f < batch->num_fields; f++) {
        light_shape shape = light_shape_of(batch->fields[f]);
        const int32_t head[] = {(int32_t)light_dtype_of(batch->fields[f]), shape.ndim};
        hash = mix(hash, head, sizeof head);
        hash = mix(hash, shape.dims, (size_t)shape.ndim * sizeof *shape.dims);
    }
    for (light_module *m = t->module; m; m = light_next_module(t->module, m))
        hash = mix(hash, &m->training, sizeof m->training);
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p)) {
        if (p->is_buffer) continue;
        const uint32_t held[] = {p->tensor->requires_grad, p->tensor->storage->version};
        hash = mix(hash, held, sizeof held);
    }
    return hash;
}

static kind *kind_of(light_graphs *g, uint64_t signature)
{
    for (int i = 0; i < g->n; i++)
        if (g->kinds[i].signature == signature) return &g->kinds[i];
    if (g->n == MOST_KINDS) return NULL;
    g->kinds[g->n] = (kind){.signature = signature};
    return &g->kinds[g->n++];
}

/* ---- a step -------------------------------------------------------------- */

/* The batch in memory of the step, which has the same addresses in every step. */
static light_status settle_batch(light_trainer *t, light_batch *batch)
{
    for (int f = 0; f < batch->num_fields; f++) {
        light_tensor *from = batch->fields[f];
        light_tensor *to = light_step_tensor(
            t->step, (light_spec){.dtype = (light_dtype)from->dtype, .shape = light_shape_of(from)});
        if (!to) return light_step_status(t->step);
        LIGHT_TRY(LIGHT_RUN(t->step, COPY, .in = {from}, .out = {to}));
        batch->fields[f] = to;
    }
    return LIGHT_OK;
}

bool light_graph_keeps_log(light_trainer *t, const light_graph_log *log)
{
    kind *k = t->graphs ? t->graphs->recording : NULL;
    if (!k) return false;
    if (k->n_logs < MOST_LOGS) k->logs[k->n_logs] = *log;
    k->n_logs++; /* record() sees when they are too many */
    return true;
}

/* Learning rate and step number of each optimizer call, in the order of light_optimizer_step_now. */
static int numbers_of(const light_trainer *t, double numbers[MOST_NUMBERS])
{
    int n = 0;
    if (t->optimizers->n == 0) return 0;
    const light_optimizer *optimizer = t->optimizers->entries[0].optimizer;
    for (int g = 0; g < optimizer->n_groups; g++) {
        const light_optimizer_group *group = &optimizer->groups[g];
        light_optimizer_run run;
        for (int64_t at = 0; n < MOST_NUMBERS && light_optimizer_next_run(group, &at, &run);) {
            numbers[n++] = group->options.lr;
            numbers[n++] = (double)(group->entries[run.first].steps + 1);
        }
    }
    return n;
}

static light_status launch(light_trainer *t, const kind *k, const double *numbers, int n)
{
    LIGHT_TRY(t->device->backend->graph_launch(t->device, k->graph, t->step->counter, numbers, n));
    for (int i = 0; i < k->n_logs; i++) LIGHT_TRY(light_log_again(t, &k->logs[i]));
    return LIGHT_OK;
}

/* Runs the step while the device records, then launches the record, so that the step is done. */
static light_status record(light_trainer *t, kind *k, light_batch *batch)
{
    const light_backend *b = t->device->backend;
    double numbers[MOST_NUMBERS];
    int n = numbers_of(t, numbers);
    LIGHT_TRY(b->graph_begin(t->device));
    t->graphs->recording = k;
    k->n_logs = 0;
    light_status status = light_train_eagerly(t, batch);
    t->graphs->recording = NULL;
    if (status == LIGHT_OK && k->n_logs > MOST_LOGS)
        status = light_fail(LIGHT_ERR_UNSUPPORTED, "trainer.cuda_graphs: a step logs more than %d values",
                            MOST_LOGS);
    if (status != LIGHT_OK) {
        b->graph_end(t->device, NULL);
        return status;
    }
    LIGHT_TRY(b->graph_end(t->device, &k->graph));
    return launch(t, k, numbers, n);
}

/* What training_step did that cannot be recorded, such as reading a value, is met before anything of the host's state has
 * changed: the step begins anew, and from now on all are eager. */
static light_status record_or_give_up(light_trainer *t, kind *k, light_batch *batch)
{
    int64_t steps = t->global_step, accumulated = t->accumulated;
    light_status status = record(t, k, batch);
    if (status != LIGHT_ERR_STATE || t->global_step != steps || t->accumulated != accumulated) return status;
    give_up(t, light_error_message());
    light_step_retry(t->step);
    return light_train_eagerly(t, batch);
}

/* A step whose work is a record. */
static light_status repeat(light_trainer *t, const kind *k)
{
    double numbers[MOST_NUMBERS];
    int n = numbers_of(t, numbers);
    t->stepped = false;
    LIGHT_TRY(launch(t, k, numbers, n));
    return light_count_recorded_step(t);
}

light_status light_train_with_graphs(light_trainer *t, light_batch *batch)
{
    light_graphs *g = t->graphs;
    if (g->off) return light_train_eagerly(t, batch);
    kind *k = kind_of(g, signature_of(t, batch));
    if (!k) {
        give_up(t, "they are of too many kinds (shapes of batches, accumulation)");
        return light_train_eagerly(t, batch);
    }
    LIGHT_TRY(settle_batch(t, batch));
    if (k->graph) return repeat(t, k);
    return k->seen++ < EAGER_STEPS ? light_train_eagerly(t, batch) : record_or_give_up(t, k, batch);
}
