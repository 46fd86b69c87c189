/* SPDX-License-Identifier: Apache-2.0 */
/* Clipping as the trainer does it: the factor stays on the device and goes into the optimizer's own pass. */
#ifndef LIGHT_OPTIM_CLIP_H
#define LIGHT_OPTIM_CLIP_H

#include <light/optim.h>

/* The common norm of the optimizer's gradients (f64 scalar, *norm unless NULL) and min(1, max_norm / (norm + 1e-6)) (f32
 * scalar) for light_optimizer_step_now. Both belong to the step. Where gradients are scaled (light_step.grad_scale), the
 * norm is that without the scale, and the factor takes the scale away as well. */
light_status light_grad_norm_factor(light_step *s, light_optimizer *optimizer, double max_norm,
                                    light_tensor **norm, light_tensor **factor);
/* Limits every element of the optimizer's gradients to [-value, value]. */
light_status light_grad_clamp(light_optimizer *optimizer, double value);

#endif
