/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is asked for several processes and has been started alone starts itself under mpirun. */
#ifndef LIGHT_STRATEGIES_LAUNCH_H
#define LIGHT_STRATEGIES_LAUNCH_H

#include <light/trainer.h>

#include <stdbool.h>

/* The strategies' vtable->launch. Returns in a process of the job, and where one process is all that is asked for; the
 * process that starts the job ends here, with the job's exit code. A job that has died is started again from its last
 * checkpoint, trainer.max_restarts times at most. */
light_status light_launch(const light_trainer_options *options);

/* launch_wait.c. How a started job has ended. */
typedef struct light_launch_end {
    int code;    /* as shells count: 128 and the signal for one that was killed */
    int stopped; /* the first signal by which a person or a scheduler asked it to stop; 0: none */
} light_launch_end;

/* Starts `command` with the environment as it is and waits until it and all processes that it has left are gone. SIGTERM,
 * SIGINT and SIGUSR1 reach the job as SIGUSR1, which leaves its processes time to save; a second SIGTERM or SIGINT ends
 * it at once. */
light_status light_launch_run(char *const *command, light_launch_end *end);

#endif
