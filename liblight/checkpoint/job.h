/* SPDX-License-Identifier: Apache-2.0 */
/* A save, taken apart into the files, datasets and manifest entries that it will be. */
#ifndef LIGHT_CHECKPOINT_JOB_H
#define LIGHT_CHECKPOINT_JOB_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/write.h"

/* "model-00002-of-00004.h5" */
#define LIGHT_SHARD_NAME_BYTES 40
void light_shard_name(char name[LIGHT_SHARD_NAME_BYTES], int rank, int size);

enum { LIGHT_PLAN_TENSORS, LIGHT_PLAN_STATE, LIGHT_PLAN_COUNT };

/* Starts as {0}. */
typedef struct light_save_job {
    light_manifest manifest;
    light_file_plan plans[LIGHT_PLAN_COUNT];
    light_state *state; /* what the values of the second file point to */
} light_save_job;

/* Memory for copies that is kept from one save to the next. Starts as {0}. */
typedef struct light_staging {
    char *memory;
    size_t bytes;
} light_staging;
void light_staging_free(light_staging *staging);

/* Fills the job from a request: checks it, copies the tensors to `staging` (all of them with `background`, else those
 * that cannot be written from where they are), walks the state. The job takes over the state, on failure too. Of a group,
 * rank 0 has both files and the others that of their tensors. */
light_status light_save_job_init(light_save_job *job, const light_checkpoint_request *request,
                                 const char *run, light_staging *staging);
void light_save_job_free(light_save_job *job);

#endif
