/* SPDX-License-Identifier: Apache-2.0 */
/* A group of tests on the processes of a launcher, which all have the same folder. */
#ifndef TESTS_STRATEGIES_LAUNCHED_H
#define TESTS_STRATEGIES_LAUNCHED_H

#include "trainer/lab.h"

#include "strategies/communicators.h"

#include <errno.h>

static light_communicator *host;

static int launched_begin(void **state)
{
    (void)state;
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    snprintf(folder, sizeof folder, "%s/light-%.30s-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             program_invocation_short_name, (int)getppid());
    return light_mpi_communicator_new(&host) == LIGHT_OK ? 0 : -1;
}

static int launched_end(void **state)
{
    (void)state;
    light_status status = light_barrier(host, "end");
    if (host->rank == 0 && light_directory_exists(folder)) status = light_remove_tree(folder);
    light_communicator_free(host);
    return status == LIGHT_OK ? 0 : -1;
}

#endif
