/* SPDX-License-Identifier: Apache-2.0 */
/* A step owns what is computed for one batch: tensors, the tape, the first error, the random state.
 *
 * The trainer makes and ends steps; a program with a loop of its own does it with the calls below:
 *
 *     light_step *s;
 *     LIGHT_TRY(light_step_new(&s, .seed = 1));
 *     for (;;) {
 *         LIGHT_TRY(light_step_begin(s));
 *         light_tensor *loss = ...;
 *         LIGHT_TRY(light_backward(s, loss));
 *         ... optimizer ...
 *     }
 *     light_step_free(s);
 */
#ifndef LIGHT_STEP_H
#define LIGHT_STEP_H

#include <light/tensor.h>

typedef struct light_step_options {
    light_device *device; /* default: light_default_device */
    uint64_t seed;        /* of dropout and the random operations */
    bool inference;       /* records no tape */
} light_step_options;

#define light_step_new(out, ...) light_step_new_with(out, &(light_step_options){__VA_ARGS__})
LIGHT_API light_status light_step_new_with(light_step **out, const light_step_options *options);
LIGHT_API void light_step_free(light_step *s);

/* Ends what the step held: every tensor of it becomes invalid, its memory is used again, the error is cleared. */
LIGHT_API light_status light_step_begin(light_step *s);
/* The number that keys random operations; light_step_begin adds one. A resumed run sets it. */
LIGHT_API void light_step_set_counter(light_step *s, uint64_t counter);
LIGHT_API uint64_t light_step_counter(const light_step *s);
/* Bytes of device memory that the step holds now, and the most it ever held. */
LIGHT_API size_t light_step_bytes(const light_step *s);
LIGHT_API size_t light_step_peak_bytes(const light_step *s);

/* The first failure of an operation in this step, or LIGHT_OK. Operations after a failure return NULL at once. */
LIGHT_API light_status light_step_status(const light_step *s);
/* Records a failure from user code in the step; the first one stays. Returns NULL for `return light_step_fail(...)`. */
LIGHT_API light_tensor *light_step_fail(light_step *s, light_status status, const char *format, ...)
    LIGHT_PRINTF(3, 4);

/* ---- autograd ----------------------------------------------------------- */

/* Adds d loss / d t to the gradient of every tensor that requires one. `loss` has one element. Once it returns, the
 * tape is empty and the tensors of the forward pass are released, except `loss`; with light_step_retain(s, true)
 * before it they stay until the step ends (manual optimization does that). A loss has one backward: a second one is an
 * error, as PyTorch's is. */
LIGHT_API light_status light_backward(light_step *s, light_tensor *loss);
/* The same from a gradient of `t`'s shape. */
LIGHT_API light_status light_backward_from(light_step *s, light_tensor *t, light_tensor *grad);
LIGHT_API void light_step_retain(light_step *s, bool retain);

/* Turns recording off or on for the rest of the step; returns what it was:
 *     bool was = light_set_grad_enabled(s, false); ...
 * light_step_begin sets it back to what .inference says. */
LIGHT_API bool light_set_grad_enabled(light_step *s, bool enabled);

/* The same values outside the tape. */
LIGHT_API light_tensor *light_detach(light_step *s, light_tensor *t);

/* Activation checkpointing: runs fn without keeping what backward needs, and runs it again in backward, with the same
 * random numbers. fn must be a function of its inputs, `user` and parameters only. Torch: torch.utils.checkpoint. */
typedef light_tensor *(*light_recompute_fn)(light_step *s, void *user, light_tensor **inputs, int n);
LIGHT_API light_tensor *light_recompute(light_step *s, light_recompute_fn fn, void *user,
                                        light_tensor **inputs, int n);

#endif
