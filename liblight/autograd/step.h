/* SPDX-License-Identifier: Apache-2.0 */
/* The struct behind light_step. */
#ifndef LIGHT_AUTOGRAD_STEP_H
#define LIGHT_AUTOGRAD_STEP_H

#include "autograd/op.h"
#include "autograd/pool.h"
#include "tensor/arena.h"
#include "tensor/communicator.h"

struct light_step {
    light_device *device;
    light_arena *arena; /* contents of tensors */
    light_pool pool;    /* tensors, storages and nodes themselves */
    light_node *tape;   /* the last node; they chain backwards */
    light_storage *storages;
    light_status status; /* of the first failure; its text is in `error` */
    char error[1024];
    const char *path; /* of the module that runs */
    const char *op;   /* name of the operation that runs, or NULL */
    uint64_t serial;  /* of this batch, unique in the process */
    uint64_t key;     /* Philox key, from the seed */
    uint64_t counter; /* of steps */
    uint64_t calls;   /* of random operations in this step */
    bool grad_enabled;
    bool inference;
    bool training;
    bool retain;
    light_dtype dtype; /* of floating tensors for which none is given; LIGHT_DTYPE_DEFAULT: f32 */
    light_dtype lower; /* products run in this dtype; LIGHT_DTYPE_DEFAULT: as they come */
    bool lower_all;    /* so does all that reads parameters (bf16-true); false: mixed precision */
    light_communicator
        *batch_group; /* batch norm in training uses the batches of its first ranks; NULL: its own */
    int batch_ranks;
    struct light_batch_statistics
        *batch_statistics;          /* looks after running statistics of batch norm; NULL: nobody does */
    const light_tensor *grad_scale; /* f32 scalar by which gradients are too large; NULL: they are not */
    light_step
        *host; /* for what optimizers compute in host memory (cpu_offload); NULL: they do it on this device */
    void *trainer; /* what runs the step, for light_log and manual optimization */
};

/* Where optimizers, norms of gradients and the loss scale compute. */
static inline light_step *light_step_for_optimizers(light_step *s)
{
    return s->host ? s->host : s;
}

/* Forgets the tape and the failure, and draws the same random numbers again; tensors stay. */
void light_step_retry(light_step *s);
/* One more random operation: its Philox key and counter into rng[2]. */
void light_step_draw(light_step *s, uint64_t rng[2]);
/* Records light_error_message() as the step's failure, with module path and operation, unless there is one already. */
light_status light_step_record(light_step *s, light_status status);
void light_storage_unref(light_step *s, light_storage *storage);
/* Drops the user's hold on all storages made since `since` (NULL: all), except `keep`. */
void light_step_drop_users(light_step *s, const light_storage *since, const light_storage *keep);
/* Inputs whose values a strategy has fetched for one operation are all still there; `saved`: those that backward reads. */
light_status light_all_here(const light_node *node, bool saved);
/* The 16-bit copy of a parameter, up to date; NULL when it has none. It is a leaf whose gradient is the parameter's. */
light_tensor *light_step_lowered(light_step *s, light_tensor *t);
/* x in `dtype`, on the tape. */
light_tensor *light_step_cast(light_step *s, light_tensor *x, light_dtype dtype);
/* light_backward of weight times the loss. */
light_status light_backward_weighted(light_step *s, light_tensor *loss, double weight);
/* Walks the tape back to where it begins and empties it. Gradients of its last outputs are set already. */
light_status light_walk_tape(light_step *s);

#endif
