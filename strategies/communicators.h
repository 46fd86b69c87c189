/* SPDX-License-Identifier: Apache-2.0 */
/* The communicators that ship: see tensor/communicator.h. */
#ifndef LIGHT_STRATEGIES_COMMUNICATORS_H
#define LIGHT_STRATEGIES_COMMUNICATORS_H

#include "strategies/control.h"

/* A group of this process alone. */
light_status light_self_communicator_new(light_communicator **out, light_device *device);

/* All processes of the job, on host memory. Alone, without a launcher, it is a group of one and MPI is not touched. */
light_status light_mpi_communicator_new(light_communicator **out);

/* The ranks of `host`, which is used for it and must outlive it, on the memory of any device. */
light_status light_staged_communicator_new(light_communicator **out, light_communicator *host,
                                           light_device *device);

/* The same by the device's own library, NCCL, and its streams. `host` is light_mpi_communicator_new's, or a split of it. */
light_status light_nccl_communicator_new(light_communicator **out, light_communicator *host,
                                         light_device *device);
/* The best of these for the device: nccl where all ranks have it, else through the host, which one line says. */
light_status light_device_communicator_new(light_communicator **out, light_communicator *host,
                                           light_device *device);

/* From now on waits are reported to the control channel, and end when it says so. NULL: no more. */
static inline void light_communicator_set_control(light_communicator *c, light_control *control)
{
    c->control = control;
}

#endif
