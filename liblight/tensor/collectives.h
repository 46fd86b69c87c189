/* SPDX-License-Identifier: Apache-2.0 */
/* What a device brings for communicators on its memory: messages between processes, as work of a stream of its own, and
 * whole collectives where its library has them. strategies/nccl_communicator.c makes a communicator of it. */
#ifndef LIGHT_TENSOR_COLLECTIVES_H
#define LIGHT_TENSOR_COLLECTIVES_H

#include "tensor/communicator.h"

/* Bytes by which the processes of a group find each other. */
#define LIGHT_GROUP_ID_BYTES 128

/* A message to or from a rank of the group. */
typedef struct light_transfer {
    void *data;
    size_t bytes;
    int peer;
    bool receive;
} light_transfer;

typedef struct light_group_setup {
    int rank, size;
    char id[LIGHT_GROUP_ID_BYTES]; /* the same on all ranks */
    void *user;
    /* Fails when nobody should wait any longer. */
    light_status (*check)(void *user);
    /* For a simulated device: does the transfers in host memory. Called from `test` only. */
    light_status (*exchange)(void *user, const light_transfer *transfers, int n);
} light_group_setup;

/* Nothing of it waits for the device or for other processes, but `open` and `close`, which all ranks call, and what a
 * library is slow to take. */
typedef struct light_collectives {
    /* Why there are none here; LIGHT_OK: there are. */
    light_status (*available)(light_device *device);
    light_status (*make_id)(light_device *device, char id[LIGHT_GROUP_ID_BYTES]);
    light_status (*open)(light_device *device, const light_group_setup *setup, void **group);
    void (*close)(void *group);
    /* Another process has failed: what is under way ends, somehow. From any thread; only close may follow. */
    void (*abort)(void *group);
    /* A call is what is asked for from begin to end. It comes after all work that the device was asked for before. */
    light_status (*begin)(void *group);
    light_status (*end)(void *group, light_ticket *ticket);
    /* What the device is asked for from now on comes after the call. */
    light_status (*wait)(void *group, light_ticket ticket);
    /* Whether the call is done. From another thread, for the calls in their order. */
    light_status (*test)(void *group, light_ticket ticket, bool *done);
    /* All transfers at once. */
    light_status (*transfer)(void *group, const light_transfer *transfers, int n);
    /* The whole call, summed in any order and in the call's dtype. `done` is false where the library has no such. */
    light_status (*collective)(void *group, const light_collective *call, bool *done);
    light_status (*copy)(void *group, void *to, const void *from, size_t bytes);
    light_status (*combine)(void *group, const light_kernel_args *args); /* the COMBINE kernel */
    /* Memory that is kept from call to call. */
    light_status (*stage)(void *group, size_t bytes, char **data);
} light_collectives;

#endif
