/* SPDX-License-Identifier: Apache-2.0 */
/* The control channel of a job: TCP from every process to the first one, beside the communicators, with a thread of its
 * own at each end. It carries heartbeats, what each process waits for, failures, requests to stop, and small messages
 * (checkpoint parts). It is what keeps a job from hanging:
 *
 * - a process that dies is seen at once (its connection ends), one that is cut off after LIGHT_CONTROL_LOST seconds
 *   (nothing of what is sent is acknowledged), one that is stopped or never enters a collective after the time limit;
 * - then every process ends: the first one that lives prints one line, which names rank, host, pid, operation,
 *   sequence number and size, and all exit with LIGHT_EXIT_PEER, from this thread if the program does not do it within
 *   1.5 s; where it is the program that has failed, in itself or by waiting in other calls than the others, with
 *   LIGHT_EXIT_FAILED. LIGHT_ERR_PEER is the status of a failure that is told already; light_exit_code knows its code.
 *
 * In a job of one process there is no channel; all calls take NULL and then concern this process alone. */
#ifndef LIGHT_STRATEGIES_CONTROL_H
#define LIGHT_STRATEGIES_CONTROL_H

#include "tensor/communicator.h"

#define LIGHT_CONTROL_LOST 8 /* seconds */

typedef struct light_control light_control;

/* Opens the channel of a job: rank 0's address goes to the others through `host`, a communicator on host memory that all
 * processes share. `timeout`: seconds that a process may stay behind the others in a collective; ten times as many before
 * all have come to their first boundary (they prepare data) and at the end (they save). */
light_status light_control_open(light_control **out, light_communicator *host, double timeout);
/* This process has come to the end; waits for the others (one that is gone after this is no failure). After a failure
 * the process has little time left. */
void light_control_close(light_control *control);

/* ---- what communicators tell --------------------------------------------- */

/* Around the wait for a call: what this process waits for, with its number in the order of this process's calls, which
 * are the same on all; leave says that it is over. Wait-free, no system call; one thread at a time. */
void light_control_enter(light_control *control, const light_collective *call, uint64_t sequence);
void light_control_leave(light_control *control, uint64_t sequence);
/* LIGHT_OK, or the failure that ends the job, with its text. One atomic load; called in waiting loops. */
light_status light_control_status(light_control *control);
bool light_control_has_failed(light_control *control); /* the same without a text */

/* ---- failures and stops ---------------------------------------------------- */

/* This process has failed with `text`: the others are told, and it is waited until they know (1 s at most). True: it is
 * this process that prints the text. False: somebody has, for another failure was first or rank 0 prints it for us; so
 * of several processes that fail together one speaks. */
bool light_control_fail(light_control *control, light_status status, const char *text);

/* This process was asked to stop by `signal` (0: was not). Called at each boundary between two steps, where `boundary`
 * counts them, rising, alike on all ranks. *stop is true on all ranks at the same boundary, the first that no rank had
 * passed when the request became known. Costs an atomic load while nobody asks. */
light_status light_control_boundary(light_control *control, int64_t boundary, int signal, bool *stop);

/* ---- small messages ---------------------------------------------------------- */

/* From any thread: sends bytes under a number to rank 0 (to itself too). */
light_status light_control_send(light_control *control, uint64_t number, const void *bytes, size_t n);
/* On rank 0, from any thread: waits for the message `number` of `rank`. *bytes is the caller's, to be light_free'd. */
light_status light_control_receive(light_control *control, int rank, uint64_t number, void **bytes,
                                   size_t *n);
/* From rank 0 to all; the others wait for it. */
light_status light_control_announce(light_control *control, uint64_t number, const void *bytes, size_t n);
light_status light_control_await(light_control *control, uint64_t number, void **bytes, size_t *n);

#endif
