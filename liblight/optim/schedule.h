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

#endif
