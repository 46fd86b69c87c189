/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives made of messages between two processes, for whatever carries them: MPI, or a device's own library. */
#ifndef LIGHT_STRATEGIES_COLLECTIVES_H
#define LIGHT_STRATEGIES_COLLECTIVES_H

#include "tensor/communicator.h"

/* What carries messages for the ranks of a group, in one kind of memory. What is asked for happens in the order of asking,
 * but for messages between two calls of `finish`: those go at once. */
typedef struct light_transport light_transport;
struct light_transport {
    int rank, size;
    int64_t block_bytes; /* longer sums go through in pieces of so many */
    light_status (*send)(light_transport *t, const void *data, size_t bytes, int peer);
    light_status (*receive)(light_transport *t, void *data, size_t bytes, int peer);
    light_status (*finish)(light_transport *t);
    light_status (*copy)(light_transport *t, void *to, const void *from, size_t bytes);
    /* Memory that is kept from call to call; its contents are not. */
    light_status (*stage)(light_transport *t, size_t bytes, char **data);
    /* The COMBINE kernel; the device is filled in. */
    light_status (*combine)(light_transport *t, light_kernel_args *args);
};

/* Does the whole call, or asks for all of it. */
light_status light_run_collective(light_transport *t, const light_collective *call);

#endif
