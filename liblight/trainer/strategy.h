/* SPDX-License-Identifier: Apache-2.0 */
/* The strategy vtable: how the processes of a job share one training. The trainer calls it at the moments below, finds it
 * by name in the table of extensions, and knows nothing else of other processes than `rank` and `size`. A run of one
 * process without a strategy has none (light_trainer.strategy is NULL). */
#ifndef LIGHT_TRAINER_STRATEGY_H
#define LIGHT_TRAINER_STRATEGY_H

#include "checkpoint/checkpoint.h"
#include "optim/optimizer.h"
#include "tensor/communicator.h"

#include <light/trainer.h>

typedef struct light_strategy light_strategy;

/* Where in the optimizer's step a backward is. Batches ("micro-batches") of all ranks that make one optimizer step form
 * a window; each rank works on a run of neighbouring ones. */
typedef struct light_window {
    int64_t batches; /* of the window, over all ranks: each loss is divided by it */
    int64_t mine;    /* of them, of this rank; may be 0 in the last window of an epoch */
    int64_t done;    /* of mine, before the current one */
    /* Ranks that have any: 0 .. contributors - 1. Streams end when they will: then it is all ranks, and one that has no batch
     * (mine 0) contributes zeros. */
    int contributors;
    int present; /* ranks that have a batch in this turn: 0 .. present - 1 */
    bool first;  /* this turn begins the window */
    bool last;   /* this turn is its last one: reduce now, on all ranks */
    bool manual; /* the module calls backward itself */
} light_window;

typedef struct light_strategy_vtable {
    size_t size;
    const char *name; /* "ddp" */

    /* ---- the job: the same for all that ship (strategies/job.c) ---- */

    /* Before anything else, with the flags checked. A program that was started alone although the flags ask for several
     * processes starts itself under mpirun, waits, and ends with the job's exit code; so this may not return. */
    light_status (*launch)(const light_trainer_options *options);
    /* The device that this process takes, by the flags accelerator and devices and its rank on this host. */
    light_status (*device)(const light_trainer_options *options, light_device **device);
    /* Opens communicators and control channel. All ranks call it, or end. */
    light_status (*open)(const light_trainer_options *options, light_device *device, light_strategy **out);
    /* This process has failed: the others are told, and end too. False: the failure has been printed by whoever does that
     * for the job. */
    bool (*fail)(light_strategy *self, light_status status, const char *text);
    /* Between two steps, numbered by `boundary`, rising, alike on all ranks: `signal` asked this process to stop (0: none
     * did). *stop becomes true on all ranks at the same boundary. */
    light_status (*boundary)(light_strategy *self, int64_t boundary, int signal, bool *stop);
    /* Detaches and closes. */
    void (*close)(light_strategy *self);

    /* ---- the sharing: what makes the difference ---- */

    /* The module is built and on its device, optimizers are yet to be made: shards what is to be sharded. The module's
     * values are those of rank 0 from then on. */
    light_status (*attach)(light_strategy *self, light_module *module, light_step *s);
    /* Around the batch of each turn, of training and (`window` NULL) of evaluation, where forward passes ask other ranks
     * for values. `mine`: this rank has a batch; `leader`: the first rank that has one, where not all do, else -1. Without
     * a batch begin_batch does its part in what the others do. NULL: no rank needs another one's company in a forward
     * pass. */
    light_status (*begin_batch)(light_strategy *self, light_step *s, const light_window *window, bool mine,
                                int leader);
    light_status (*end_batch)(light_strategy *self, light_step *s);
    /* Before and after a backward. after_backward also, with `backward` false, in each turn in which this rank has no
     * batch. When it has returned for the last batch, the gradients that the optimizer works on are those of the window,
     * summed over all ranks, on ranks without a batch too.
     *
     * In manual optimization each backward has a window of its own. Gradients that are there before it were summed already:
     * they count once, and what this backward adds is summed. */
    light_status (*before_backward)(light_strategy *self, light_step *s, const light_window *window);
    light_status (*after_backward)(light_strategy *self, light_step *s, const light_window *window,
                                   bool backward);
    /* The optimizer has stepped, or values have been read from a checkpoint: those that other ranks have are fetched. */
    light_status (*after_step)(light_strategy *self, light_step *s);
    /* Before the module or the optimizers go. Whole values are back in place. */
    void (*detach)(light_strategy *self);
} light_strategy_vtable;

struct light_strategy {
    const light_strategy_vtable *vtable;
    int rank, size;
    bool ordered;             /* trainer.deterministic elastic: sums do not depend on the number of ranks */
    light_communicator *host; /* host memory, all ranks */
    light_communicator *tensors; /* memory of the run's device, all ranks; may be `host` */
    /* How ranks bring the parts of a checkpoint together. */
    light_checkpoint_group checkpoint_group;
};

#endif
