/* SPDX-License-Identifier: Apache-2.0 */
/* One save that several processes write together. Each calls light_group_save, in the thread that writes:
 *
 *     rank 0                                   the others
 *     makes the temporary folder, tells it ──▶ wait for it
 *     writes model-00000-of-N.h5, common.h5    write model-0000r-of-N.h5, flush it
 *     receives all parts                   ◀── send their part of the manifest, or why there is none
 *     checks that the parts fit, writes the
 *     manifest, gives the folder its name
 *     tells how it went                    ──▶ wait for it
 *
 * A failure anywhere is the outcome everywhere. Only rank 0 ever gives a name to anything. */
#ifndef LIGHT_CHECKPOINT_GROUP_H
#define LIGHT_CHECKPOINT_GROUP_H

#include "checkpoint/job.h"

typedef struct light_group_save {
    const light_checkpoint_group *group;
    uint64_t number; /* of the save, alike on all ranks */
    const char *path, *run;
    light_save_job *job;
    /* How the job's preparation went: one that failed is told to the others instead of written. */
    light_status prepared;
    const char *why;
    /* On rank 0, when the checkpoint has its name; its failure is one of the save. */
    light_status (*after)(void *user);
    void *user;
    uint64_t bytes; /* out: of all files */
} light_group_save;

/* The same result on all ranks, unless a call of the group fails. */
light_status light_group_save_run(light_group_save *save);

#endif
