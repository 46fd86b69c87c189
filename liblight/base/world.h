/* SPDX-License-Identifier: Apache-2.0 */
/* Which process of how many this is, as the launcher tells in the environment (mpirun, srun, or ourselves). Nothing is
 * opened or initialised: a program that runs alone pays for a few getenv. */
#ifndef LIGHT_BASE_WORLD_H
#define LIGHT_BASE_WORLD_H

#include <light/status.h>

#include <stdbool.h>

typedef struct light_world {
    int rank, size;             /* 0 of 1 for a program that runs alone */
    int local_rank, local_size; /* among the processes of this host */
    int node, nodes;      /* this host among the job's; mpirun does not say which, so it is a guess there */
    const char *launcher; /* "": none; "mpirun", "srun" */
    int attempt;          /* 0, and one more after each restart by our launcher or by Slurm */
    char host[64];
} light_world;

/* Read once, the same from then on. An environment that contradicts itself is a failure on the first call of
 * light_world_check and reads as a program that runs alone. */
const light_world *light_world_get(void);
light_status light_world_check(void);

#endif
