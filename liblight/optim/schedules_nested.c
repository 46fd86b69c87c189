/* SPDX-License-Identifier: Apache-2.0 */
/* Schedules made of schedules: warmup and sequential. */
#include "optim/schedule.h"

#include "base/default.h"

/* Takes over a part with its failure; the owner frees it. */
static void adopt(light_schedule *s, light_schedule *part, int64_t start)
{
    s->starts[s->n_parts] = start;
    s->parts[s->n_parts++] = part;
    if (part->failure && !s->failure) {
        light_schedule_refuse(s, "%s", part->message);
        s->failure = part->failure;
    }
    if (!part->class->at && !part->failure)
        light_schedule_refuse(s, "%s cannot be part of another schedule: it is no function of the step",
                              part->class->name);
}

/* ---- warmup ------------------------------------------------------------- */

static light_status warmup_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    const light_warmup_schedule_options *o = &s->options.warmup;
    if (t < o->steps) {
        out->lr = base * (o->start_factor + (1 - o->start_factor) * (double)t / (double)o->steps);
        return LIGHT_OK;
    }
    if (s->n_parts) return s->parts[0]->class->at(s->parts[0], t - o->steps, base, out);
    out->lr = base;
    return LIGHT_OK;
}

static const light_schedule_class warmup_class = {
    .name = "warmup",
    .interval = LIGHT_INTERVAL_STEP,
    .at = warmup_at,
};

light_schedule *light_warmup_schedule_with(const light_warmup_schedule_options *o)
{
    light_interval interval = o->interval ? o->interval
                              : o->then   ? o->then->interval
                                          : LIGHT_INTERVAL_DEFAULT;
    int64_t frequency = o->frequency ? o->frequency : o->then ? o->then->frequency : 1;
    light_schedule *s = light_schedule_new(&warmup_class, interval, frequency, 0);
    if (s->failure == LIGHT_ERR_MEMORY) {
        light_schedule_free(o->then);
        return s;
    }
    s->options.warmup = *o;
    s->options.warmup.start_factor = light_or_default(o->start_factor, 1.0 / (double)(o->steps + 1));
    if (o->steps < 1) light_schedule_refuse(s, "steps is %lld; it must be at least 1", (long long)o->steps);
    if (o->start_factor < 0)
        light_schedule_refuse(s, "start_factor is %g; it must be 0 or more", o->start_factor);
    if (o->then) adopt(s, o->then, o->steps);
    return s;
}

/* ---- sequential --------------------------------------------------------- */

static light_status sequential_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    int i = 0;
    while (i + 1 < s->n_parts && t >= s->starts[i + 1]) i++;
    return s->parts[i]->class->at(s->parts[i], t - s->starts[i], base, out);
}

static const light_schedule_class sequential_class = {
    .name = "sequential",
    .interval = LIGHT_INTERVAL_STEP,
    .at = sequential_at,
};

light_schedule *light_sequential_schedule_with(const light_sequential_schedule_options *o)
{
    const light_schedule *first = o->schedules[0];
    light_interval interval = o->interval ? o->interval : first ? first->interval : LIGHT_INTERVAL_DEFAULT;
    int64_t frequency = o->frequency ? o->frequency : first ? first->frequency : 1;
    light_schedule *s = light_schedule_new(&sequential_class, interval, frequency, 0);
    if (s->failure == LIGHT_ERR_MEMORY) {
        for (int i = 0; i < 16 && o->schedules[i]; i++) light_schedule_free(o->schedules[i]);
        return s;
    }
    for (int i = 0; i < 16 && o->schedules[i]; i++) adopt(s, o->schedules[i], i ? o->milestones[i - 1] : 0);
    if (s->n_parts < 1) light_schedule_refuse(s, "it needs schedules");
    for (int i = 0; i + 1 < s->n_parts; i++)
        if (o->milestones[i] < 1 || (i && o->milestones[i] <= o->milestones[i - 1]))
            light_schedule_refuse(s, "milestone %d is %lld; %d milestones must rise, from 1 on", i,
                                  (long long)o->milestones[i], s->n_parts - 1);
    light_schedule_share_total(s);
    return s;
}
