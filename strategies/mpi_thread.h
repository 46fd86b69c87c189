/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that makes all calls of MPI: it does one thing after the other, as they were handed over. MPI can be started
 * once in a process, so the thread stays until the process ends. */
#ifndef LIGHT_STRATEGIES_MPI_THREAD_H
#define LIGHT_STRATEGIES_MPI_THREAD_H

#include "strategies/communicators.h"
#include "tensor/collectives.h"

#include <stdatomic.h>

/* Processes that send each other messages under a tag of their own. */
typedef struct light_mpi_group {
    light_communicator base;
    int tag;
    int *members; /* their ranks in the job, by rank in the group */
    light_ticket started;
    int64_t numbered;          /* of these, those that all ranks make */
    _Atomic light_ticket done; /* all calls up to here */
} light_mpi_group;

/* The first call starts the thread and MPI. The job's rank and size as MPI says. */
light_status light_mpi_open(int *rank, int *size);
/* As many as opens. When a process ends with all closed, MPI is ended in good order; else mpirun ends the job. */
void light_mpi_close(void);

/* The first failure of all, which ends the use of MPI. */
light_status light_mpi_status(void);
/* Hands a call over, and waits for it. */
light_status light_mpi_start(light_mpi_group *group, const light_collective *call, light_ticket *ticket);
light_status light_mpi_wait(light_mpi_group *group, light_ticket ticket);

/* A call that a device makes by itself, and that has to be looked after in its turn: whether it is done, and what to do
 * when it will never be. All in the thread. */
typedef struct light_mpi_watched {
    void *user;
    light_ticket ticket; /* the user's */
    light_status (*test)(void *user, light_ticket ticket, bool *done);
    void (*give_up)(void *user);
} light_mpi_watched;
light_status light_mpi_watch(light_mpi_group *group, const light_collective *call,
                             const light_mpi_watched *watched, light_ticket *ticket);
/* For `test`: messages of host memory, all at once. */
light_status light_mpi_exchange(light_mpi_group *group, const light_transfer *transfers, int n);

/* A tag above all that this process has used, and one that is used from now on. */
int light_mpi_next_tag(void);
light_status light_mpi_use_tag(int tag);

/* Bytes of a message at most, longer ones are sent in pieces; and of a sum that goes through at once. Tests make both
 * small. */
extern size_t light_mpi_piece;
extern int64_t light_mpi_block;

#endif
