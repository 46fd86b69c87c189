/* SPDX-License-Identifier: Apache-2.0 */
/* The form of an operation, and what its code may call.
 *
 * A file in ops/ describes a family: `infer` checks the inputs and says what comes out, `forward` runs kernels,
 * `backward` turns the gradients of the outputs into those of the inputs. No arithmetic stands there. An operation is
 * applied with light_apply, which does the rest: errors, output memory, the tape, recomputation. */
#ifndef LIGHT_AUTOGRAD_OP_H
#define LIGHT_AUTOGRAD_OP_H

#include "tensor/device.h"

#include <light/step.h>

#define LIGHT_OP_MAX_IN    8  /* operations with more (cat, stack) bring their own arrays */
#define LIGHT_OP_MAX_OUT   16 /* split */
#define LIGHT_OP_MAX_EXTRA 4

typedef struct light_op light_op;

/* One application of an operation. Lives on the tape when a gradient is needed. */
struct light_node {
    const light_op *op;
    light_node *previous; /* on the tape */
    const char *path;     /* module that was running, for messages */
    int n_in, n_out;
    light_tensor **in;
    light_tensor **out;
    light_tensor *extra[LIGHT_OP_MAX_EXTRA]; /* saved by forward for backward: statistics, indices */
    void *attrs;
    uint64_t rng[2];   /* Philox key and counter of this application */
    uint32_t saved_in; /* bit i: in[i]'s memory is held until backward has passed */
    uint32_t saved_out;
    uint32_t versions[LIGHT_OP_MAX_IN]; /* of the saved inputs' storage when saved */
};

/* Precision classes for mixed precision. */
typedef enum light_op_class {
    LIGHT_OP_PROMOTE = 0, /* runs in the widest input dtype */
    LIGHT_OP_LOWER,       /* products: 16 bit under mixed precision */
    LIGHT_OP_FULL         /* f32 under mixed precision: softmax, norms, losses, exp, .. */
} light_op_class;

struct light_op {
    const char *name;
    /* Checks node->in and attrs; fills specs[0 .. node->n_out). May change node->in (casts, contiguous copies), n_out. */
    light_status (*infer)(light_step *s, light_node *node, light_spec *specs);
    /* Computes node->out (allocated from specs). May fill node->extra with light_step_tensor. */
    light_status (*forward)(light_step *s, light_node *node);
    /* grads[i] is the gradient of out[i], or NULL where none arrived. Delivers with light_grad_slot / light_grad_give. */
    light_status (*backward)(light_step *s, light_node *node, light_tensor *const *grads);
    uint32_t saves_in, saves_out; /* bit masks of what backward reads; infer may set node->saved_* narrower */
    light_op_class precision;
    /* Bit i: backward may be given f32 memory for the gradient of in[i] while in[i] is 16-bit. */
    uint32_t wide_grads;
    bool random; /* node->rng is drawn for it */
    /* Outputs share in[0]'s storage: forward sets them up itself; specs need give dtype and shape only. */
    bool view;
};

/* Applies `op`. in[i] may be NULL only where the operation allows it: `optional` has bit i set for those (and an op
 * with a NULL in a place that is not optional gives NULL quietly: the failure is already recorded). attrs are copied.
 * Returns the first output and writes all of them to out[] unless NULL. */
light_tensor *light_apply(light_step *s, const light_op *op, light_tensor *const *in, int n_in,
                          uint32_t optional, const void *attrs, size_t attrs_size, light_tensor **out,
                          int n_out);
#define LIGHT_APPLY1(s, op, attrs, a)                                                                        \
    light_apply(s, op, (light_tensor *[]){a}, 1, 0, attrs, sizeof *(attrs), NULL, 1)
#define LIGHT_APPLY2(s, op, attrs, a, b)                                                                     \
    light_apply(s, op, (light_tensor *[]){a, b}, 2, 0, attrs, sizeof *(attrs), NULL, 1)

/* What operations get for t: where all of them run in 16 bits, a parameter's copy. light_apply does it; whoever looks at
 * a dtype before has to ask. */
light_tensor *light_seen(light_step *s, light_tensor *t);

/* ---- for infer ---------------------------------------------------------- */

/* "linear: ..." into the step's error. Returns `status`. */
light_status light_op_fail(light_step *s, const light_node *node, light_status status, const char *format,
                           ...) LIGHT_PRINTF(4, 5);
/* The spec of `t`, keeping a channels-last or row-major layout. */
light_spec light_spec_like(const light_tensor *t);
/* Broadcasts two shapes; false when they do not fit. */
bool light_broadcast(light_shape a, light_shape b, light_shape *out);
light_dtype light_promote(light_dtype a, light_dtype b);

/* ---- for forward and backward ------------------------------------------- */

/* Memory in the step. The caller holds one reference; internal tensors are let go with light_step_release. */
light_tensor *light_step_tensor(light_step *s, light_spec spec);
void light_step_release(light_step *s, light_tensor *t);
/* A tensor of the step over memory that somebody else keeps for as long as the step lasts; row-major. */
light_tensor *light_step_wrap(light_step *s, light_spec spec, void *data);
/* t under another name, on the tape. */
light_tensor *light_alias(light_step *s, light_tensor *t);
/* A window on t: same storage (counted once more), new shape and strides; data_offset in elements. Not on the tape. */
light_tensor *light_step_view(light_step *s, light_tensor *t, light_shape shape, const int64_t *strides,
                              int64_t offset);
/* A window on all of t. */
light_tensor *light_alias_view(light_step *s, light_tensor *t);
/* One reference more to memory. */
void light_storage_ref(light_storage *storage);
/* t expanded to `shape` with zero strides, aligned at the last dim. Not on the tape. */
light_tensor *light_step_expanded(light_step *s, light_tensor *t, light_shape shape);
/* t itself (one reference more) when row-major, else a row-major copy. Not on the tape. */
light_tensor *light_step_contiguous(light_step *s, light_tensor *t);

/* Runs a kernel of the step's device, and records what fails. */
light_status light_run(light_step *s, light_kernel_id kernel, const light_kernel_args *args);
/* {in..} and {out..} are NULL-terminated by the zeroed rest of the arrays:
 *     LIGHT_RUN(s, UNARY, .in = {x}, .out = {y}, .attrs = node->attrs) */
#define LIGHT_RUN(s, kernel, ...) light_run(s, LIGHT_KERNEL_##kernel, &(light_kernel_args){__VA_ARGS__})

/* Where the gradient of in[i] goes. `tensor` is memory of in[i]'s shape to write to, or to add to when `accumulate`;
 * it is of in[i]'s dtype, but for wide_grads.
 * NULL when in[i] needs none (test it before work is done for it) or memory ran out (then the step has failed).
 * Use:  light_slot gx = light_grad_slot(s, node, 0);
 *       if (gx.tensor) LIGHT_TRY(LIGHT_RUN(s, .., .out = {gx.tensor}, .accumulate = gx.accumulate)); */
typedef struct light_slot {
    light_tensor *tensor;
    uint32_t accumulate; /* 0 or 1 */
} light_slot;
bool light_grad_needed(const light_node *node, int i);
light_slot light_grad_slot(light_step *s, light_node *node, int i);
/* Hands over a finished gradient for in[i], of its shape: kept without a copy when it is the first (it may be the
 * gradient that came in, or a view of it; one reference is added), else added. Sums over broadcast dims when `g` has a
 * larger shape than in[i]. */
light_status light_grad_give(light_step *s, light_node *node, int i, light_tensor *g);

/* The module path that messages carry; light_forward sets it around a module. Returns the old one. */
const char *light_step_set_path(light_step *s, const char *path);
/* Train mode for dropout, as set around a module by light_forward. */
bool light_step_training(const light_step *s);
bool light_step_set_training(light_step *s, bool training);
light_device *light_step_device(const light_step *s);

#endif
