/* SPDX-License-Identifier: Apache-2.0 */
/* How the processes of a job share the batches of an epoch: arithmetic only, the same on all of them.
 *
 * The batches of an epoch are numbered 0 .. total-1. From `origin` on they come in windows of size * run neighbouring
 * ones; of each window rank r has those from r * run to (r + 1) * run. All ranks go through a window in `run` turns, in
 * each of which a rank has one batch, or none where the last window is short. No batch is used twice, none is left out.
 *
 * Training: run is accumulate_grad_batches of a rank, and a window makes one optimizer step. Evaluation: run is 1, so batch
 * j belongs to rank j % size.
 *
 * Where every rank has a loader of its own (use_distributed_sampler false), batch j of rank r counts as number
 * j * size + r: the batches of a window are dealt out one by one. */
#ifndef LIGHT_DATA_SHARE_H
#define LIGHT_DATA_SHARE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct light_share {
    int rank, size;
    int64_t run;
    int64_t origin; /* where windows are counted from: 0, or where a run went on within the epoch */
    int64_t total;  /* -1: not known, as many as come */
    bool dealt;     /* rank r has every size-th batch of a window, not a run of them */
} light_share;

/* One turn of all ranks. */
typedef struct light_turn {
    int64_t before, after; /* batches of the epoch that all ranks have had, before and after it */
    int64_t batch;         /* number of this rank's batch; -1: it has none */
    int64_t window;        /* batches of the window, over all ranks */
    int64_t mine;          /* of them, of this rank */
    int64_t done;          /* turns of the window before this one */
    int contributors;      /* ranks 0 .. contributors - 1 have batches in the window */
    int present;           /* ranks 0 .. present - 1 have one in this turn */
    bool begins, ends;     /* the window */
    bool last;             /* of the epoch */
} light_turn;

/* The whole epoch for a process alone. */
light_share light_share_alone(int64_t total);
/* Turns from the origin to the end of the epoch: rank 0 has a batch in each. */
int64_t light_share_turns(const light_share *s);
/* Batches of this rank among them: it has those of its first turns. */
int64_t light_share_batches(const light_share *s);
/* The number of this rank's batch in a turn, also where that lies behind the end. */
int64_t light_share_batch(const light_share *s, int64_t turn);
/* Batches of the epoch that all ranks have had before a turn, those before the origin too. */
int64_t light_share_position(const light_share *s, int64_t turn);
light_turn light_share_turn(const light_share *s, int64_t turn);

#endif
