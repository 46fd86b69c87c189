/* SPDX-License-Identifier: Apache-2.0 */
/* Who may write into a run's folder. A process that was thought dead may wake up after its job has been started again,
 * and two jobs may be given one folder; what such a process has half written must not get its name.
 *
 * A writer puts a file LOCK into the folder, with the job and the attempt (LIGHT_JOB, LIGHT_ATTEMPT of our launcher, or
 * Slurm's), and holds a lock on it while it lives. A later attempt of the same job puts another file in its place; the
 * earlier one finds that its own is gone. */
#ifndef LIGHT_CHECKPOINT_FENCE_H
#define LIGHT_CHECKPOINT_FENCE_H

#include <light/status.h>

#include <stdbool.h>

#define LIGHT_FENCE_NAME "LOCK"

typedef struct light_fence light_fence;

/* Fails when another job is at work in the folder, or a later attempt of this one. */
light_status light_fence_take(light_fence **out, const char *folder);
/* Is asked right before something gets its name or loses it: are all folders that this process has taken still its? */
light_status light_fence_check(void);
/* NULL is fine. The file stays, and tells whose the folder is. */
void light_fence_release(light_fence *fence);

/* Was the folder last written to by this job, in this or an earlier attempt? False where the job has no name. */
bool light_fence_is_ours(const char *folder);
/* This process belongs to a job that was started again. */
bool light_fence_is_restart(void);

#endif
