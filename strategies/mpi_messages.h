/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a call, in MPI's thread. It never waits inside of MPI: messages are started and tested, and between two
 * tests the control channel is asked, so that a failure elsewhere ends the wait. */
#ifndef LIGHT_STRATEGIES_MPI_MESSAGES_H
#define LIGHT_STRATEGIES_MPI_MESSAGES_H

#include "strategies/mpi/table.h"
#include "strategies/mpi_thread.h"

void light_mpi_messages_begin(const light_mpi *mpi);
void light_mpi_messages_free(void);

/* Makes the call, or looks after one that a device makes (watched->test), to its end. `number` is its place among the calls
 * that all ranks of the group make. */
light_status light_mpi_make_call(const light_mpi_group *group, const light_collective *call, int64_t number,
                                 light_control *control, const light_mpi_watched *watched);

#endif
