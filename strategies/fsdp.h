/* SPDX-License-Identifier: Apache-2.0 */
/* Inside fully sharded data parallel: see fsdp.c. Values are in fsdp_values.c, gradients in fsdp_grads.c and
 * fsdp_manual.c; units are made and undone in fsdp_units.c. */
#ifndef LIGHT_STRATEGIES_FSDP_H
#define LIGHT_STRATEGIES_FSDP_H

#include "strategies/job.h"

enum { LIGHT_FSDP_SLOTS = 3 };

typedef struct light_fsdp light_fsdp;
typedef struct light_unit light_unit;

/* Memory for the whole gradients of one unit. */
typedef struct light_room {
    light_storage *storage;
    light_unit *user;    /* whose gradients come in; NULL: nobody's */
    light_ticket leaves; /* the reduction that reads it still; 0: none */
    struct light_room *next;
} light_room;

struct light_unit {
    light_keeper base;       /* of the values */
    light_keeper narrow;     /* of zero3's 16-bit copy */
    light_keeper grads_base; /* of whole gradients, which nobody can read */
    light_fsdp *f;
    light_flat_buffer *buffer;
    int index;
    int slot;                                /* of zero3's values; -1: they stay whole */
    int64_t count;                           /* elements of a part */
    light_shard *shard;                      /* by entry; NULL for zero1 */
    light_storage *values, *grads;           /* of the own part; NULL: in the buffer's own */
    light_storage *host_values, *host_grads; /* the own part as the optimizer has it; NULL: no cpu_offload */
    light_ticket gather;                     /* under way; 0: none */
    bool gathers_narrow;                     /* it is the 16-bit copy that is under way */
    bool read_wide; /* operations read the values, not only their 16-bit copy: zero3 gathers the values */
    light_room *room;
    int64_t incomplete; /* gradients that this backward has yet to complete */
    bool reduced;       /* in this backward */
    bool filled;        /* `grads` holds what earlier batches of the window came to */
    light_ticket reduce;
    light_storage *arriving; /* one of arrivals[], to be added to `grads`; NULL: it arrives there itself */
    const char *what[2];     /* gather, reduce: for messages */
};

struct light_fsdp {
    light_job job;
    int level;                       /* 1, 2, 3; 1 in a group of one, which has nobody to share with */
    bool offload;                    /* optimizers work in host memory */
    light_communicator *host_shards; /* those who share one copy, on host memory; NULL: no cpu_offload */
    light_communicator *shards;      /* those who share one copy */
    light_communicator *replicas;    /* those who have the same part; NULL: this process alone */
    int n, sharded;                  /* sharded: of these, with a slot */
    light_unit *units;
    light_storage *slots[LIGHT_FSDP_SLOTS]; /* NULL: nothing has been gathered there yet, but 16-bit copies */
    light_storage *narrow_slots[LIGHT_FSDP_SLOTS];
    light_unit *in_slot[LIGHT_FSDP_SLOTS];
    light_room *rooms;
    light_storage *arrivals[LIGHT_FSDP_SLOTS]; /* what is reduced to this rank beside what it has already */
    light_unit *in_arrival[LIGHT_FSDP_SLOTS];
    bool walking;  /* in a backward */
    bool each;     /* gradients are reduced after every batch, not once a window */
    bool reducing; /* in this backward */
    int next;      /* unit that is reduced next, n - 1 .. 0; -1: all are */
    light_window window;
    bool led;      /* some rank has no batch in this turn, */
    int leader;    /* and this one, which has, tells what comes */
    bool followed; /* this one had none, and has done what the others did */
};

/* ---- one order for all: fsdp_values.c ----------------------------------------- */

typedef struct light_event {
    int32_t kind;
    int32_t unit;
} light_event;
enum { LIGHT_EVENT_END, LIGHT_EVENT_GATHER, LIGHT_EVENT_GATHER_NARROW, LIGHT_EVENT_REDUCE };

/* In a turn that not all ranks compute: the leader tells what comes next, the others check that it is what they do. */
light_status light_fsdp_agree(light_fsdp *f, int kind, int unit);

/* ---- values: fsdp_values.c ------------------------------------------------------ */

/* This rank's part of a unit's values. */
char *light_fsdp_own_values(const light_unit *u);
/* Starts to bring all values of a unit, or (`narrow`) their 16-bit copies, unless that is under way, and waits for them. */
light_status light_fsdp_gather(light_fsdp *f, light_unit *u, bool narrow);
light_status light_fsdp_finish_gather(light_unit *u);
/* The keepers'. */
light_status light_fsdp_fetch(light_keeper *keeper, light_step *s);
light_status light_fsdp_fetch_narrow(light_keeper *keeper, light_step *s);
/* Waits for values that nobody has read: their owners are about to change them. */
light_status light_fsdp_finish_gathers(light_fsdp *f);
/* zero3: no value of an earlier batch stays, nor of one that not all ranks have computed, so that all ranks gather the
 * same whatever came before. */
light_status light_fsdp_forget_values(light_fsdp *f);

/* ---- gradients: fsdp_grads.c ------------------------------------------------------ */

/* The keeper's: a room for a unit's whole gradients, and that one of them is complete. */
light_status light_fsdp_fetch_grads(light_keeper *keeper, light_step *s);
void light_fsdp_ready(light_keeper *keeper, light_step *s, light_tensor *leaf);
/* Lets the gradients of a unit lie in `storage`. */
void light_fsdp_point_grads(light_unit *u, light_storage *storage);
/* Before a backward whose gradients are reduced. */
void light_fsdp_begin_reduction(light_fsdp *f);
/* Sends a unit's gradients to the owners of its parts; all units whose turn it is and that are complete, or all. */
light_status light_fsdp_reduce(light_fsdp *f, light_step *s, light_unit *u);
light_status light_fsdp_reduce_complete(light_fsdp *f, light_step *s, bool all);
/* cpu_offload: own gradients to the host, and back; own values from it. */
light_status light_fsdp_bring_grads(light_unit *u);
light_status light_fsdp_return_grads(light_unit *u);
light_status light_fsdp_take_values(light_unit *u);
/* Waits for what a unit's reduction brings, and adds it to what earlier batches have brought. */
light_status light_fsdp_finish_reduction(light_fsdp *f, light_step *s, light_unit *u);

/* ---- manual optimization: fsdp_manual.c ------------------------------------------------ */

/* Before a backward: gradients that are there already count once in its sums. */
light_status light_fsdp_keep_summed(light_fsdp *f, light_step *s);

/* ---- units: fsdp_units.c ------------------------------------------------------------ */

bool light_fsdp_has_failed(const light_fsdp *f);
/* Memory for the values of a slot's units, from the first time on that it is needed. */
light_status light_fsdp_make_slot(light_fsdp *f, int slot);
/* The groups of processes, once; a unit for each flat buffer. */
light_status light_fsdp_make_groups(light_fsdp *f);
light_status light_fsdp_make_units(light_fsdp *f);
/* All values and whole gradients are in memory of their own again; what could not be brought is told, unless the job has
 * failed, which somebody has told. */
void light_fsdp_free_units(light_fsdp *f);

#endif
