/* SPDX-License-Identifier: Apache-2.0 */
/* What all strategies of several processes have in common: the job's communicators and control channel, the flat buffers
 * of the model, and the sums of an optimizer's step. A strategy's struct begins with a light_job. */
#ifndef LIGHT_STRATEGIES_JOB_H
#define LIGHT_STRATEGIES_JOB_H

#include "nn/flat.h"
#include "nn/parameter.h"
#include "strategies/call_mark.h"
#include "strategies/control.h"
#include "strategies/tree.h"
#include "trainer/strategy.h"

/* The name of a call in messages. */
typedef struct light_label {
    struct light_label *next;
    char text[LIGHT_MARK_WHAT];
} light_label;

typedef struct light_job {
    light_strategy base;
    light_control *control;               /* NULL: one process */
    const light_trainer_options *options; /* the trainer's */
    light_label *labels; /* of calls, which may be under way until the communicators are closed */
    /* While a module is attached. */
    light_module *module;
    light_flat *flat;
    light_sharing sharing;
    light_tree tree; /* of deterministic elastic */
    uint8_t *
        used; /* by parameter: some batch of the window has given it a gradient. NULL: nobody has asked so far */
} light_job;

/* For vtables: see light_strategy_vtable. `open` is for a struct of `bytes` bytes. */
light_status light_job_launch(const light_trainer_options *options);
light_status light_job_device(const light_trainer_options *options, light_device **device);
light_status light_job_open(const light_strategy_vtable *vtable, size_t bytes,
                            const light_trainer_options *options, light_device *device, light_strategy **out);
bool light_job_fail(light_strategy *self, light_status status, const char *text);
light_status light_job_boundary(light_strategy *self, int64_t boundary, int signal, bool *stop);
void light_job_close(light_strategy *self);

/* Notes module and flat memory, and makes rank 0's values those of all. */
light_status light_job_attach(light_job *job, light_module *module);
void light_job_detach(light_job *job);

/* "WHAT I of N from PARAMETER", the first one, which stays until the job is closed. */
light_status light_job_label(light_job *job, const char **label, const char *what, int i, int n,
                             const light_parameter *first);

/* Bytes [from, to) of a storage as a 1-d window without an owner. */
light_tensor light_window_on(light_storage *storage, light_dtype dtype, size_t from, size_t to);

/* Gradients of `entries` that no backward has written become zeros. Frozen parameters are left out, but for manual
 * optimization, which freezes and thaws them between two backwards of one sum. */
light_status light_zero_unwritten(light_step *s, const light_window *window, const light_flat_entry *entries,
                                  int64_t n);
/* Notes which parameters have a gradient, beside those that had one before, or `anew`. */
light_status light_note_used(light_job *job, bool anew);
/* After a turn: which parameters have a gradient. `anew`: forgets what earlier turns had. `last`: parameters that some rank
 * has given one get it on all, the others keep theirs as not there. Without find_unused_parameters one that has none
 * after a `backward` of this rank is an error that names it. */
light_status light_settle_unused(light_job *job, const light_window *window, bool backward, bool anew,
                                 bool last);

#endif
