/* SPDX-License-Identifier: Apache-2.0 */
/* A job of several processes by fork, without MPI: each runs `body` with a control channel, and what became of them is
 * noted. Their collectives are counters in shared memory. */
#ifndef LIGHT_TESTS_JOB_H
#define LIGHT_TESTS_JOB_H

#include "strategies/control.h"

#include <stdatomic.h>
#include <sys/types.h>

#define JOB_RANKS 8
#define JOB_CALLS 4096

typedef struct job job;

/* One process of it. */
typedef struct job_rank {
    job *job;
    light_communicator host; /* broadcasts from rank 0, that is all */
    light_control *control;
    int rank;
} job_rank;

typedef struct job_shared {
    atomic_int arrived[JOB_CALLS]; /* by the sequence number of the collective */
    _Atomic int64_t values[JOB_RANKS][64];
    _Atomic pid_t pids[JOB_RANKS];
    atomic_bool go;
} job_shared;

struct job {
    int size;
    double timeout;
    int (*body)(job_rank *r); /* what it returns is the exit code */
    bool (*meddle)(job *j);   /* called by the test all the time, until it returns true */
    bool no_channel;          /* the body opens it, or does not */
    int64_t number;           /* for the body */
    int pipes[JOB_RANKS][2];  /* the host communicator: socket pairs between rank 0 and each other */
    job_shared *shared;
    /* What has become of it: */
    int exited[JOB_RANKS];     /* the exit code, or 1000 and the signal */
    double seconds[JOB_RANKS]; /* from the start to the end of each */
    char said[8192];           /* standard error of all */
    int lines;                 /* in it */
};

/* Runs it to the end. */
void job_run(job *j);

/* From a body: a collective of all. It ends early, with the status, when the job has failed. */
light_status job_meet(job_rank *r, int sequence, const char *what, int64_t count);
light_status job_boundary(job_rank *r, int64_t boundary);
/* Does not return. */
void job_hang(void);

#endif
