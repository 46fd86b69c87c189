/* SPDX-License-Identifier: Apache-2.0 */
/* What all schedules share: attaching, advancing, totals, state. */
#include "optim/schedule.h"

#include "base/default.h"
#include "base/memory.h"
#include "optim/optimizer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- making ------------------------------------------------------------- */

static const light_schedule_class no_class = {.name = "schedule"};
static light_schedule out_of_memory = {
    .class = &no_class,
    .failure = LIGHT_ERR_MEMORY,
    .message = "out of memory for a schedule",
};

light_schedule *light_schedule_new(const light_schedule_class *class, light_interval interval,
                                   int64_t frequency, int64_t total)
{
    light_schedule *schedule = light_calloc(1, sizeof *schedule);
    if (!schedule) return &out_of_memory;
    schedule->class = class;
    schedule->interval = interval ? interval : class->interval;
    schedule->frequency = light_int_or_default(frequency, 1);
    schedule->total = total;
    schedule->own_total = total != 0;
    if (schedule->frequency < 1) light_schedule_refuse(schedule, "frequency is %lld", (long long)frequency);
    if (total < 0) light_schedule_refuse(schedule, "total_steps is %lld", (long long)total);
    return schedule;
}

light_schedule *light_schedule_refuse(light_schedule *schedule, const char *format, ...)
{
    if (schedule->failure != LIGHT_OK) return schedule;
    schedule->failure = LIGHT_ERR_ARGUMENT;
    int used = snprintf(schedule->message, sizeof schedule->message, "%s schedule: ", schedule->class->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(schedule->message + used, sizeof schedule->message - (size_t)used, format, arguments);
    va_end(arguments);
    return schedule;
}

void light_schedule_free(light_schedule *schedule)
{
    if (!schedule || schedule == &out_of_memory) return;
    for (int i = 0; i < schedule->n_parts; i++) light_schedule_free(schedule->parts[i]);
    light_free(schedule);
}

/* ---- asking ------------------------------------------------------------- */

light_interval light_schedule_interval(const light_schedule *schedule)
{
    return schedule->interval;
}

int64_t light_schedule_frequency(const light_schedule *schedule)
{
    return schedule->frequency;
}

const char *light_schedule_name(const light_schedule *schedule)
{
    return schedule->class->name;
}

const char *light_schedule_monitor(const light_schedule *schedule)
{
    return schedule->class == &light_plateau_class ? schedule->options.plateau.monitor : NULL;
}

bool light_schedule_lenient(const light_schedule *schedule)
{
    return schedule->class == &light_plateau_class && schedule->options.plateau.lenient;
}

int64_t light_schedule_count(const light_schedule *schedule)
{
    return schedule->count;
}

light_status light_schedule_failure(const light_schedule *schedule)
{
    return schedule->failure == LIGHT_OK ? LIGHT_OK : light_fail(schedule->failure, "%s", schedule->message);
}

static const light_schedule *without_total(const light_schedule *schedule)
{
    if (schedule->class->needs_total && !schedule->total) return schedule;
    for (int i = 0; i < schedule->n_parts; i++) {
        const light_schedule *part = without_total(schedule->parts[i]);
        if (part) return part;
    }
    return NULL;
}

light_status light_schedule_ready(const light_schedule *schedule)
{
    LIGHT_TRY(light_schedule_failure(schedule));
    const light_schedule *part = without_total(schedule);
    if (!part) return LIGHT_OK;
    return light_fail(
        LIGHT_ERR_ARGUMENT,
        "%s schedule: the length of the run is not known: give total_steps (or the trainer max_epochs or "
        "max_steps)",
        part->class->name);
}

/* ---- stepping ----------------------------------------------------------- */

static bool has_beta1(const light_optimizer *optimizer)
{
    return strstr(optimizer->class->reads, " beta1 ");
}

static light_status apply(light_schedule *schedule)
{
    if (!schedule->class->at) return LIGHT_OK;
    light_optimizer *optimizer = schedule->optimizer;
    for (int g = 0; g < optimizer->n_groups; g++) {
        light_optimizer_group *group = &optimizer->groups[g];
        light_schedule_value value = {.lr = group->base_lr, .momentum = NAN};
        LIGHT_TRY(schedule->class->at(schedule, schedule->count, group->base_lr, &value));
        group->options.lr = value.lr;
        if (isnan(value.momentum)) continue;
        if (has_beta1(optimizer))
            group->options.betas[0] = value.momentum;
        else
            group->options.momentum = value.momentum;
    }
    return LIGHT_OK;
}

static bool cycles_momentum(const light_schedule *schedule);

static light_status check_momentum(const light_schedule *schedule, const light_optimizer *optimizer)
{
    if (!cycles_momentum(schedule) || has_beta1(optimizer)) return LIGHT_OK;
    for (int g = 0; g < optimizer->n_groups; g++)
        if (optimizer->groups[g].options.momentum == 0)
            return light_fail(
                LIGHT_ERR_ARGUMENT,
                "one_cycle schedule: %s has no momentum to cycle: give it one, or cycle_momentum = "
                "LIGHT_OFF",
                optimizer->class->name);
    return LIGHT_OK;
}

/* One-cycle, alone or inside another. */
static bool cycles_momentum(const light_schedule *schedule)
{
    if (strcmp(schedule->class->name, "one_cycle") == 0)
        return schedule->options.one_cycle.cycle_momentum != LIGHT_OFF;
    for (int i = 0; i < schedule->n_parts; i++)
        if (cycles_momentum(schedule->parts[i])) return true;
    return false;
}

light_status light_schedule_attach(light_schedule *schedule, light_optimizer *optimizer)
{
    LIGHT_TRY(light_schedule_failure(schedule));
    LIGHT_TRY(check_momentum(schedule, optimizer));
    schedule->optimizer = optimizer;
    for (int g = 0; g < optimizer->n_groups; g++)
        optimizer->groups[g].base_lr = optimizer->groups[g].options.lr;
    return without_total(schedule) ? LIGHT_OK : apply(schedule);
}

light_status light_schedule_advance(light_schedule *schedule, double metric)
{
    LIGHT_TRY(light_schedule_ready(schedule));
    if (!schedule->optimizer)
        return light_fail(LIGHT_ERR_STATE, "%s schedule: has no optimizer yet", schedule->class->name);
    schedule->count++;
    return schedule->class->at ? apply(schedule) : light_plateau_advance(schedule, metric);
}

/* ---- totals ------------------------------------------------------------- */

static void set_total(light_schedule *schedule, int64_t total)
{
    if (!schedule->own_total) schedule->total = total;
    light_schedule_share_total(schedule);
}

void light_schedule_share_total(light_schedule *schedule)
{
    for (int i = 0; i < schedule->n_parts; i++) {
        int64_t end = i + 1 < schedule->n_parts ? schedule->starts[i + 1] : schedule->total;
        if (end == 0) continue;
        set_total(schedule->parts[i], end > schedule->starts[i] ? end - schedule->starts[i] : 1);
    }
}

light_status light_schedule_set_total(light_schedule *schedule, int64_t steps, int64_t epochs)
{
    LIGHT_TRY(light_schedule_failure(schedule));
    int64_t total = (schedule->interval == LIGHT_INTERVAL_STEP ? steps : epochs) / schedule->frequency;
    if (total > 0) set_total(schedule, total);
    return schedule->optimizer && !without_total(schedule) ? apply(schedule) : LIGHT_OK;
}

/* ---- state -------------------------------------------------------------- */

light_status light_schedule_save(const light_schedule *schedule, light_state *state)
{
    LIGHT_TRY(light_state_put_string(state, "name", schedule->class->name));
    LIGHT_TRY(light_state_put_int64(state, "count", schedule->count));
    if (schedule->class->at) return LIGHT_OK;
    LIGHT_TRY(light_state_put_double(state, "best", schedule->best));
    LIGHT_TRY(light_state_put_int64(state, "bad", schedule->bad));
    return light_state_put_int64(state, "cooling", schedule->cooling);
}

light_status light_schedule_load(light_schedule *schedule, const light_state *state)
{
    const char *name;
    int64_t count;
    LIGHT_TRY(light_state_get_string(state, "name", &name));
    if (strcmp(name, schedule->class->name) != 0)
        return light_fail(LIGHT_ERR_FORMAT, "the state is of a %s schedule, this one is %s", name,
                          schedule->class->name);
    LIGHT_TRY(light_state_get_int64(state, "count", &count));
    if (!schedule->class->at) {
        double best;
        int64_t bad, cooling;
        LIGHT_TRY(light_state_get_double(state, "best", &best));
        LIGHT_TRY(light_state_get_int64(state, "bad", &bad));
        LIGHT_TRY(light_state_get_int64(state, "cooling", &cooling));
        schedule->best = best;
        schedule->bad = bad;
        schedule->cooling = cooling;
    }
    schedule->count = count;
    return schedule->optimizer && !without_total(schedule) ? apply(schedule) : LIGHT_OK;
}
