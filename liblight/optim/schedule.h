/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a schedule: what the trainer and checkpoints ask it. */
#ifndef LIGHT_OPTIM_SCHEDULE_H
#define LIGHT_OPTIM_SCHEDULE_H

#include <light/optim.h>
#include <light/state.h>

/* LIGHT_INTERVAL_STEP or LIGHT_INTERVAL_EPOCH. */
light_interval light_schedule_interval(const light_schedule *schedule);
int64_t light_schedule_frequency(const light_schedule *schedule);
/* "cosine". */
const char *light_schedule_name(const light_schedule *schedule);
/* The metric that reduce_on_plateau reads; NULL for the others. */
const char *light_schedule_monitor(const light_schedule *schedule);
/* A metric that is not there skips the step instead of being an error. */
bool light_schedule_lenient(const light_schedule *schedule);
/* The failure that made this schedule, or LIGHT_OK; sets the error's text. */
light_status light_schedule_failure(const light_schedule *schedule);
/* Steps so far. */
int64_t light_schedule_count(const light_schedule *schedule);

light_status light_schedule_save(const light_schedule *schedule, light_state *state);
/* Sets the groups' learning rates too. */
light_status light_schedule_load(light_schedule *schedule, const light_state *state);

/* ---- for the kinds ------------------------------------------------------- */

/* What a schedule says about one group at t. momentum NAN: leave it. */
typedef struct light_schedule_value {
    double lr, momentum;
} light_schedule_value;

typedef struct light_schedule_class {
    const char *name;
    light_interval interval; /* the default */
    bool needs_total;
    /* NULL for reduce_on_plateau. */
    light_status (*at)(const light_schedule *schedule, int64_t t, double base, light_schedule_value *out);
} light_schedule_class;

struct light_schedule {
    const light_schedule_class *class;
    light_status failure; /* why it could not be made, with `message` */
    char message[256];
    light_interval interval;
    int64_t frequency;
    int64_t count;  /* t */
    int64_t total;  /* 0: not known yet */
    bool own_total; /* given by the user */
    light_optimizer *optimizer;
    union {
        light_step_schedule_options step;
        light_multi_step_schedule_options multi_step;
        light_exponential_schedule_options exponential;
        light_linear_schedule_options linear;
        light_polynomial_schedule_options polynomial;
        light_cosine_schedule_options cosine;
        light_cosine_restarts_schedule_options restarts;
        light_one_cycle_schedule_options one_cycle;
        light_warmup_schedule_options warmup;
        light_reduce_on_plateau_options plateau;
        light_function_schedule_options function;
    } options;
    int n_parts; /* warmup, sequential: schedules that it owns */
    light_schedule *parts[16];
    int64_t starts[16]; /* t at which a part begins */
    double best;        /* reduce_on_plateau */
    int64_t bad, cooling;
};

extern const light_schedule_class light_plateau_class;

/* A schedule of `class`, with the fields that all share. Never NULL: out of memory is a schedule that failed. */
light_schedule *light_schedule_new(const light_schedule_class *class, light_interval interval,
                                   int64_t frequency, int64_t total);
/* Makes it a failed one, unless it is; returns it. */
light_schedule *light_schedule_refuse(light_schedule *schedule, const char *format, ...) LIGHT_PRINTF(2, 3);
/* The schedule's own failure, or the lack of a total that it needs. */
light_status light_schedule_ready(const light_schedule *schedule);
/* Tells the parts how long they are, as far as that is known. */
void light_schedule_share_total(light_schedule *schedule);
/* One step of reduce_on_plateau. */
light_status light_plateau_advance(light_schedule *schedule, double metric);

#endif
