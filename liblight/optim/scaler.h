/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic loss scaling for gradients that pass through f16, as PyTorch's GradScaler does it, without a word to the host.
 *
 * Losses are multiplied by a scale (light_step.grad_scale), so that small gradients do not vanish. An optimizer's step
 * divides by it again, and does nothing where a gradient is not finite; then the scale falls, and it rises after many
 * steps that went well. All of this is in device memory: LIGHT_KERNEL_OPTIMIZER and LIGHT_KERNEL_LOSS_SCALE read it. */
#ifndef LIGHT_OPTIM_SCALER_H
#define LIGHT_OPTIM_SCALER_H

#include "autograd/step.h"
#include "optim/optimizer.h"

#define LIGHT_SCALER_INIT 65536.0

typedef struct light_scaler {
    light_loss_scale_attrs attrs;
    light_storage *storage;
    light_optimizers *optimizers;
    light_tensor common; /* the state that decides the scale; the only one where there is one optimizer */
    light_tensor scale;  /* its first number */
    light_tensor
        seed; /* the same for losses: a copy of it where optimizers work in host memory and losses do not */
    light_storage *copy;
    /* With several optimizers each has a state of its own: what it found, and how many steps it has skipped. */
    light_tensor *own;
    bool *stepped; /* since the last update */
} light_scaler;

/* For losses on `device`. `shared`: the optimizers are stepped by hand, each as often as it likes, before one update. The
 * optimizers' scaling state is the scaler's from then on, on their device: that of the steps below. */
light_status light_scaler_new(light_scaler **out, light_optimizers *optimizers, light_device *device,
                              bool shared);
void light_scaler_free(light_scaler *scaler); /* before its optimizers; NULL is fine */

/* Looks whether optimizer i's gradients are finite: in `norm`, their norm or sum of squares, or else in themselves. */
light_status light_scaler_check(light_scaler *scaler, light_step *s, int i, const light_tensor *norm);
/* *factor = 1 / scale, f32, for light_optimizer_step_now. */
light_status light_scaler_factor(light_scaler *scaler, light_step *s, light_tensor **factor);
/* Checks optimizer i's gradients and divides them by the scale, for those who want to see them. */
light_status light_scaler_unscale(light_scaler *scaler, light_step *s, int i);
/* After the steps of one batch. */
light_status light_scaler_update(light_scaler *scaler, light_step *s);

/* Waits for the device. */
light_status light_scaler_read(const light_scaler *scaler, double *scale);
light_status light_scaler_save(const light_scaler *scaler, light_state *state);
light_status light_scaler_load(light_scaler *scaler, const light_state *state);

#endif
