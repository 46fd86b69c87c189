/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of MPI that are made, as a table that the plug-in liblight_mpi.so brings: messages between two processes, and
 * no more. What they add up to is in strategies/mpi_communicator.c. All are called by one thread, none but init and finalize
 * waits for other processes. */
#ifndef LIGHT_STRATEGIES_MPI_TABLE_H
#define LIGHT_STRATEGIES_MPI_TABLE_H

#include <light/status.h>

#include <stdbool.h>
#include <stddef.h>

typedef struct light_mpi {
    size_t size;          /* sizeof(light_mpi) of the plug-in's build */
    size_t request_bytes; /* of a message under way */
    int last_tag;
    light_status (*init)(int *rank, int *size);
    void (*finalize)(void);
    /* Start a message of at most INT_MAX bytes, whose memory stays as it is until it has been tested. Messages with the same
     * ends and tag arrive in order. */
    light_status (*send)(const void *data, size_t bytes, int to, int tag, void *request);
    light_status (*receive)(void *data, size_t bytes, int from, int tag, void *request);
    /* Whether all of n messages, whose requests are neighbours, are done. */
    light_status (*test)(void *requests, int n, bool *done);
} light_mpi;

#endif
