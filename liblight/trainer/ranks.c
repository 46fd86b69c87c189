/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer among the processes of a job: its strategy, what rank 0 says, and stops that all take together. All calls
 * here are made by all ranks in the same order; in a run without a strategy they do nothing. */
#include "trainer/trainer.h"

#include "base/memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the strategy ------------------------------------------------------- */

/* "single, ddp, fsdp" */
static const char *known_strategies(char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "single");
    for (const light_extension *e = light_extensions; e->name && used < bytes; e++)
        if (e->strategy) used += (size_t)snprintf(text + used, bytes - used, ", %s", e->name);
    return text;
}

light_status light_strategy_find(const light_trainer_options *o, const light_strategy_vtable **table)
{
    const light_world *world = light_world_get();
    char *end, known[256];
    bool any = !strcmp(o->devices, "auto"), elastic = !strcmp(o->deterministic, "elastic");
    long devices = any ? 1 : strtol(o->devices, &end, 10);
    const char *name = o->strategy;
    *table = NULL;
    LIGHT_TRY(light_world_check());
    if (!any && (*end || devices < 1 || devices > INT_MAX))
        return light_fail(LIGHT_ERR_ARGUMENT, "trainer.devices \"%s\": expected auto or a number, at least 1",
                          o->devices);
    if (elastic && o->sync_batchnorm)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.deterministic elastic: with trainer.sync_batchnorm a batch norm sees the "
                          "batches of all processes at once, so results depend on how many there are; leave "
                          "one of the two out");
    bool several = world->size > 1 || devices > 1 || o->num_nodes > 1;
    if (!strcmp(name, "auto")) name = several || elastic ? "ddp" : "single";
    if (!strcmp(name, "single")) {
        if (several)
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "trainer.strategy single is for one process: leave it out where there are "
                              "several (%d have been started; trainer.devices %s, trainer.num_nodes %lld)",
                              world->size, o->devices, (long long)o->num_nodes);
        if (elastic)
            return light_fail(
                LIGHT_ERR_ARGUMENT,
                "trainer.deterministic elastic has sums of its own, which trainer.strategy single "
                "has not: leave the strategy out");
        return LIGHT_OK;
    }
    const light_extension *e = light_extension_find(name);
    if (!e || !e->strategy)
        return light_fail(LIGHT_ERR_ARGUMENT, "trainer.strategy \"%s\": expected auto or one of %s", name,
                          known_strategies(known, sizeof known));
    *table = e->strategy;
    return LIGHT_OK;
}

light_status light_strategy_open(light_trainer *t)
{
    if (!t->strategy_table || t->strategy) return LIGHT_OK;
    return t->strategy_table->open(&t->options, t->device, &t->strategy);
}

void light_strategy_close(light_trainer *t)
{
    if (t->strategy) t->strategy->vtable->close(t->strategy);
    t->strategy = NULL;
}

int light_trainer_global_rank(const light_trainer *t)
{
    return t->strategy ? t->strategy->rank : 0;
}

int light_trainer_world_size(const light_trainer *t)
{
    return t->strategy ? t->strategy->size : 1;
}

static bool alone(const light_trainer *t)
{
    return light_trainer_world_size(t) == 1;
}

/* ---- turns ---------------------------------------------------------------- */

/* Of a stream each rank knows its own end only. *first: a rank that has a batch, `size` when none has; *all: all have. */
static light_status ask_who_has_a_batch(light_trainer *t, bool mine, int *first, bool *all)
{
    double answers[2] = {mine ? t->strategy->rank : t->strategy->size, mine};
    LIGHT_TRY(light_reduce_doubles(t->strategy->host, answers, 2, LIGHT_COMBINE_MIN, "batches of a stream"));
    *first = (int)answers[0];
    *all = answers[1] != 0;
    return LIGHT_OK;
}

light_status light_begin_turn(light_trainer *t, bool training, bool mine, bool *any)
{
    const light_turn *turn = training ? &t->turn : &t->eval_turn;
    *any = mine;
    if (!t->strategy || !t->strategy->vtable->begin_batch) return LIGHT_OK;
    const light_window window = light_window_of(t, turn->ends);
    int first = 0;
    bool all = turn->present == t->strategy->size;
    if (training ? t->streams : t->eval_streams) LIGHT_TRY(ask_who_has_a_batch(t, mine, &first, &all));
    *any = first < t->strategy->size;
    return t->strategy->vtable->begin_batch(t->strategy, t->step, training ? &window : NULL, mine,
                                            all || !*any ? -1 : first);
}

light_status light_end_turn(light_trainer *t)
{
    if (!t->strategy || !t->strategy->vtable->end_batch) return LIGHT_OK;
    return t->strategy->vtable->end_batch(t->strategy, t->step);
}

/* ---- what rank 0 says ---------------------------------------------------- */

light_status light_trainer_broadcast(light_trainer *t, void *bytes, size_t n)
{
    return alone(t) ? LIGHT_OK : light_broadcast_bytes(t->strategy->host, bytes, n, 0, "what rank 0 says");
}

light_status light_trainer_barrier(light_trainer *t)
{
    return alone(t) ? LIGHT_OK : light_barrier(t->strategy->host, "trainer");
}

light_status light_follow_first(light_trainer *t, light_status status, char **text)
{
    if (alone(t)) return status;
    bool first = light_trainer_global_rank(t) == 0;
    const char *said = status == LIGHT_OK ? *text : light_error_message();
    /* Status, whether there is a text, its length. */
    int64_t head[3] = {status, said != NULL, said ? (int64_t)strlen(said) : 0};
    LIGHT_TRY(light_trainer_broadcast(t, head, sizeof head));
    char *copy = light_calloc(1, (size_t)head[2] + 1);
    if (!copy) return LIGHT_ERR_MEMORY;
    if (first && said) memcpy(copy, said, (size_t)head[2]);
    light_status sent = head[2] ? light_trainer_broadcast(t, copy, (size_t)head[2]) : LIGHT_OK;
    if (first || sent != LIGHT_OK) {
        light_free(copy);
        return sent != LIGHT_OK ? sent : status;
    }
    if (head[0] != LIGHT_OK) {
        light_fail((light_status)head[0], "%s", copy);
        light_free(copy);
        return (light_status)head[0];
    }
    light_free(*text);
    *text = head[1] ? copy : NULL;
    if (!head[1]) light_free(copy);
    return LIGHT_OK;
}

static light_status follow_buffer(light_trainer *t, light_tensor *buffer)
{
    light_dtype dtype = light_dtype_of(buffer);
    size_t bytes = (size_t)light_numel(buffer) * light_dtype_size(dtype);
    void *values = light_alloc(bytes + 1);
    bool first = light_trainer_global_rank(t) == 0;
    if (!values) return LIGHT_ERR_MEMORY;
    light_status status = first ? light_tensor_read(buffer, dtype, values, bytes) : LIGHT_OK;
    if (status == LIGHT_OK) status = light_trainer_broadcast(t, values, bytes);
    if (status == LIGHT_OK && !first) status = light_tensor_write(buffer, dtype, values, bytes);
    light_free(values);
    return status;
}

light_status light_follow_buffers(light_trainer *t)
{
    if (alone(t)) return LIGHT_OK;
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p))
        if (p->is_buffer) LIGHT_TRY(follow_buffer(t, p->tensor));
    return LIGHT_OK;
}

bool light_trainer_monitor(light_trainer *t, const char *name, double *value)
{
    double said[2] = {light_trainer_metric(t, name, value), *value};
    if (light_trainer_broadcast(t, said, sizeof said) != LIGHT_OK) {
        light_trainer_fail(t, light_error_status(), "%s", light_error_message());
        return false;
    }
    if (said[0] != 0) *value = said[1];
    return said[0] != 0;
}

/* ---- stops ---------------------------------------------------------------- */

light_status light_ask_to_stop(light_trainer *t, bool *stop)
{
    *stop = light_signals_pending() != 0;
    if (t->strategy)
        LIGHT_TRY(t->strategy->vtable->boundary(t->strategy, t->boundaries++, light_signals_pending(), stop));
    t->signalled = *stop;
    return LIGHT_OK;
}

/* ---- shares ---------------------------------------------------------------- */

static bool has_own_samplers(const light_trainer *t)
{
    return !alone(t) && t->options.use_distributed_sampler != LIGHT_ON;
}

light_status light_share_loader(const light_trainer *t, light_loader *loader, int64_t run)
{
    if (alone(t) || has_own_samplers(t)) return LIGHT_OK;
    return light_loader_set_share(loader, t->strategy->rank, t->strategy->size, run);
}

int64_t light_shared_batches(const light_trainer *t, const light_loader *loader)
{
    int64_t batches = light_loader_num_batches(loader);
    return batches > 0 && has_own_samplers(t) ? batches * t->strategy->size : batches;
}

light_share light_share_of(const light_trainer *t, int64_t run, int64_t origin, int64_t total)
{
    bool dealt = has_own_samplers(t);
    int size = light_trainer_world_size(t);
    /* Those who have loaders of their own all have as many batches. */
    if (dealt && total > 0) total -= total % size;
    return (light_share){.rank = light_trainer_global_rank(t),
                         .size = size,
                         .run = run,
                         .origin = origin,
                         .total = total,
                         .dealt = dealt};
}

light_status light_begin_share(light_loader *loader, int64_t epoch, const light_share *share)
{
    return light_loader_begin(loader, epoch, share->dealt ? share->origin / share->size : share->origin);
}
