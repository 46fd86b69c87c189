/* SPDX-License-Identifier: Apache-2.0 */
/* The communicator vtable: what a group of processes can do together with the memory of one kind of device. The
 * implementations are in strategies/: self (one process), mpi (host memory, and device memory through a stage), nccl.
 *
 * Every process of the group makes the same calls in the same order. A call only starts: on the host it runs beside the
 * caller, on a device behind the work that the device has been asked for so far. Until it has been waited for, its
 * memory may be neither written nor, where it is an output, read. Calls run in the order of starting, on host memory those
 * of all groups of a job: a call may read what an earlier one of another group brings.
 *
 * Ranks that make different calls (another kind, another length, another `what`) get an error that names both calls, never
 * each other's numbers. No call waits for ever: when another process of the job has failed, or does not come within the
 * time limit, a wait fails as light_control_status does, with a text that names it. Nothing may be asked of the
 * communicator after that. */
#ifndef LIGHT_TENSOR_COMMUNICATOR_H
#define LIGHT_TENSOR_COMMUNICATOR_H

#include "tensor/device.h"

typedef struct light_communicator light_communicator;

typedef enum light_collective_kind {
    LIGHT_ALL_REDUCE,     /* in[count] of every rank, combined, to out[count] of every rank */
    LIGHT_REDUCE_SCATTER, /* in[size * count]; part r, combined, to out[count] of rank r */
    LIGHT_ALL_GATHER,     /* in[count] of rank r becomes part r of out[size * count] of every rank */
    LIGHT_BROADCAST,      /* in[count] of rank `peer` to out[count] of every rank */
    LIGHT_ALL_TO_ALL, /* part q of in[size * count] of rank r becomes part r of out[size * count] of rank q */
    LIGHT_SEND,       /* in[count] to rank `peer` */
    LIGHT_RECEIVE,    /* out[count] from rank `peer` */
    LIGHT_BARRIER,
    LIGHT_COLLECTIVE_COUNT
} light_collective_kind;
extern const char *const light_collective_names[LIGHT_COLLECTIVE_COUNT]; /* "all_reduce" */

typedef struct light_collective {
    light_collective_kind kind;
    /* In place: in == out, and for the two with parts the part of this rank at its place in the larger array. Else they
     * do not overlap; all_to_all never is in place. */
    const void *in;
    void *out;
    int64_t count; /* elements */
    light_dtype dtype;
    light_combine combine; /* kernels.h; bool has no sum */
    int peer;
    /* Sums in the order of a binary tree over the ranks that depends on nothing else: ((0+1)+(2+3))+..., where rank i is
     * the i-th leaf and trees of equal size are joined first; what is left at the end is joined from the right. Without
     * it a communicator may sum in the order it likes, the same on all ranks. 16-bit floats are summed in f32 and
     * rounded once either way. */
    bool ordered;
    /* Of a combination: the first so many ranks count, the others' inputs are not read. 0: all. */
    int contributors;
    const char *what; /* for messages, "gradients 5 of 12", alike on all ranks; outlives the call */
} light_collective;

typedef int64_t light_ticket; /* of a call under way; 0: none */

typedef struct light_communicator_vtable {
    size_t size;
    const char *name; /* "self", "mpi", "nccl" */
    light_status (*start)(light_communicator *c, const light_collective *call, light_ticket *ticket);
    /* On the host: returns when the call is done. On a device: what is asked of the device from here on comes after it.
     * Tickets are waited for in any order, each once, or never (a wait for a later one covers it). */
    light_status (*wait)(light_communicator *c, light_ticket ticket);
    /* Splits the group: those with the same color form one, ranked by `key`. All call it. */
    light_status (*split)(light_communicator *c, int color, int key, light_communicator **out);
    /* Releases what is held. After a failure nobody else is waited for. */
    void (*free)(light_communicator *c);
} light_communicator_vtable;

struct light_control; /* strategies/control.h */

struct light_communicator {
    const light_communicator_vtable *vtable;
    int rank, size;
    light_device *device; /* whose memory it works on */
    bool failed;
    char failure[256]; /* what failed */
    /* Is told what is waited for, and tells when to give up. NULL: nobody. Set between calls; splits have it too. */
    struct light_control *control;
    /* Counted by light_communicate_start: calls, and bytes that leave this rank by the ring formulas' count
     * (all_reduce 2 (n-1)/n, reduce_scatter, all_gather, all_to_all and broadcast (n-1)/n of the larger array). */
    uint64_t calls, bytes;
};

/* Elements of the whole of it: size * count where there are parts. */
int64_t light_collective_whole(const light_communicator *c, const light_collective *call);
/* Starts a call and counts it. With one process in the group nothing but a copy happens. */
light_status light_communicate_start(light_communicator *c, const light_collective *call,
                                     light_ticket *ticket);
light_status light_communicate_wait(light_communicator *c, light_ticket ticket);
/* Both. On a device the host does not wait, where the communicator is nccl. */
light_status light_communicate(light_communicator *c, const light_collective *call);
void light_communicator_free(light_communicator *c); /* NULL is fine */

/* ---- numbers of the host, for communicators on host memory ----------------- */

light_status light_barrier(light_communicator *c, const char *what);
light_status light_broadcast_bytes(light_communicator *c, void *bytes, size_t n, int root, const char *what);
light_status light_reduce_doubles(light_communicator *c, double *values, int64_t n, light_combine combine,
                                  const char *what);
/* Gathers `n` bytes of every rank: *all gets size blocks, to be freed with light_free; n may differ, sizes[size] says. */
light_status light_gather_bytes(light_communicator *c, const void *bytes, size_t n, char **all, size_t *sizes,
                                const char *what);

#endif
