/* SPDX-License-Identifier: Apache-2.0 */
/* Writing checkpoints, as the trainer does it.
 *
 *     light_checkpoint_list list = {0};
 *     LIGHT_TRY(light_checkpoint_list_add_module(&list, root, "model"));
 *     LIGHT_TRY(light_checkpoint_list_add(&list, "optimizer/0/state/conv1.weight/exp_avg", tensor, NULL, NULL));
 *     status = light_checkpoint_save(writer, &(light_checkpoint_request){.path = "runs/7/last", .tensors = &list,
 *                                    .state = state, .background = true, .done = saved, .user = self});
 *     light_checkpoint_list_free(&list);
 *     ... each step: light_checkpoint_poll(writer);   at the end: light_checkpoint_wait(writer);
 */
#ifndef LIGHT_CHECKPOINT_CHECKPOINT_H
#define LIGHT_CHECKPOINT_CHECKPOINT_H

#include "tensor/tensor.h"

#include <light/checkpoint.h>

/* ---- what to save -------------------------------------------------------- */

typedef struct light_checkpoint_item {
    char *name;
    light_tensor tensor; /* a window on the caller's memory */
    light_shape global_shape;
    int64_t start[LIGHT_MAX_DIMS];
} light_checkpoint_item;

/* Starts as {0}. */
typedef struct light_checkpoint_list {
    light_checkpoint_item *items;
    size_t count, capacity;
} light_checkpoint_list;

/* Adds a slice that begins at `start` of a global tensor. NULL, NULL: `tensor` is all of it. The part of `name` before
 * the last slash is the group in the file. The struct `tensor` is copied, so it may be a temporary window; its storage
 * has to stay as it is until light_checkpoint_save has returned. A name may be added several times, with slices that do
 * not overlap and together make the global tensor. */
light_status light_checkpoint_list_add(light_checkpoint_list *list, const char *name,
                                       const light_tensor *tensor, const light_shape *global_shape,
                                       const int64_t *start);
/* Adds the elements from `begin` on, in row-major order, of a global tensor. `part` is gapless, and 1-d unless it is all
 * of it. They become the boxes of light_boxes_of_range, each a slice; of an empty part nothing is added, unless the
 * global tensor is empty. */
light_status light_checkpoint_list_add_part(light_checkpoint_list *list, const char *name,
                                            const light_tensor *part, const light_shape *global_shape,
                                            int64_t begin);
/* Adds the parameters and persistent buffers of a built module as PREFIX/PATH, of each the part that this process saves.
 * Tied ones are added once. */
light_status light_checkpoint_list_add_module(light_checkpoint_list *list, light_module *root,
                                              const char *prefix);
void light_checkpoint_list_free(light_checkpoint_list *list);

/* ---- saving -------------------------------------------------------------- */

/* How a save ended. All that it points to is valid during the callback only. */
typedef struct light_checkpoint_result {
    const char *path;
    light_status status; /* LIGHT_OK: the checkpoint is on disk */
    const char *message; /* why not; "" when it is */
    uint64_t bytes;
    double blocked_seconds; /* in light_checkpoint_save */
    double total_seconds;   /* from the call of light_checkpoint_save until it was on disk */
} light_checkpoint_result;

typedef void (*light_checkpoint_done)(void *user, const light_checkpoint_result *result);

/* The processes that write one checkpoint together. Rank r writes the file model-0000r-of-N.h5 with the tensors of its
 * list; rank 0 also the state, the manifest and the names. The calls are made from the writer's thread; they fail when
 * another process has failed. Messages have numbers, alike on all ranks: each rank sends, and rank 0 announces, at most
 * one of a number, and none is sent that nobody takes. */
typedef struct light_checkpoint_group {
    int rank, size;
    void *user;
    /* To rank 0; from rank `rank`, on rank 0 (*bytes is the caller's, to be light_free'd). */
    light_status (*send)(void *user, uint64_t number, const void *bytes, size_t n);
    light_status (*receive)(void *user, int rank, uint64_t number, void **bytes, size_t *n);
    /* From rank 0 to all others. */
    light_status (*announce)(void *user, uint64_t number, const void *bytes, size_t n);
    light_status (*await)(void *user, uint64_t number, void **bytes, size_t *n);
} light_checkpoint_group;

typedef struct light_checkpoint_request {
    const char *path; /* a checkpoint that stands there is replaced in one go */
    const light_checkpoint_group
        *group; /* NULL: this process writes it alone; else all ranks ask for the same save */
    const light_checkpoint_list *tensors;
    light_state *state; /* taken over, on failure too; NULL: empty */
    int64_t step, epoch;
    const char *const
        *also; /* further paths for the same checkpoint, NULL-terminated: hard links where possible */
    const char *const *remove; /* checkpoints to remove once this one is on disk, NULL-terminated */
    bool background; /* return when the tensors are copied; else when all is on disk, without a copy */
    /* Called once by save, poll, wait or free, in the thread that calls those. It may not call them. */
    light_checkpoint_done done;
    void *user;
} light_checkpoint_request;

/* A writer has at most one save under way and keeps the memory for the copy from one save to the next. One thread
 * uses it. */
typedef struct light_checkpoint_writer light_checkpoint_writer;
light_status light_checkpoint_writer_new(light_checkpoint_writer **out);
/* Waits for the save under way. NULL is fine. */
void light_checkpoint_writer_free(light_checkpoint_writer *writer);

/* Starts a save, after waiting for the one before. A failure to start is returned, and `done` is not called; what
 * happens after that is told to `done`, and without one as a warning. With background false the return value says it
 * too. A failed save leaves no files behind, and the checkpoint that stood at `path` as it was. In a group every failure
 * is told to `done`, on all ranks the same, since the others wait for this one. */
light_status light_checkpoint_save(light_checkpoint_writer *writer, const light_checkpoint_request *request);

/* Has the save under way ended? Then calls its `done` and returns its status; LIGHT_OK else. Costs nothing. */
light_status light_checkpoint_poll(light_checkpoint_writer *writer);
/* The same after waiting for it. */
light_status light_checkpoint_wait(light_checkpoint_writer *writer);

/* ---- folders ------------------------------------------------------------- */

/* Opens what light_checkpoint_newest would find. */
light_status light_checkpoint_open_newest(const char *folder, light_checkpoint **out);

/* Removes what saves that were cut off have left in `folder`; those under way, of other processes too, are let alone.
 * Call it before looking for checkpoints. A missing folder is fine. */
light_status light_checkpoint_clean(const char *folder);

#endif
