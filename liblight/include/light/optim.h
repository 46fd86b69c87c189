/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizers, learning rate schedules and gradient clipping. Names, defaults and numbers are PyTorch's.
 *
 *     light_optimizer *adamw = light_adamw(light_parameters(self), .lr = m->lr, .weight_decay = 1e-2);
 *     return light_optimizers_add(out, adamw, light_cosine_schedule(.warmup_steps = 100));
 *
 * In the option structs zero means the default. Where zero itself is meant, write LIGHT_ZERO, or light_exactly(value)
 * for a value that may turn out to be zero. */
#ifndef LIGHT_OPTIM_H
#define LIGHT_OPTIM_H

#include <light/module.h>

typedef struct light_optimizer light_optimizer;
typedef struct light_schedule light_schedule;

/* ---- optimizers --------------------------------------------------------- */

/* Each kind reads the fields that its line names; another one that is set is an error. All take lr, weight_decay and
 * maximize. */
typedef struct light_optimizer_options {
    double lr;
    double weight_decay;
    double momentum;
    double dampening;
    bool nesterov;
    double betas[2];
    double eps;
    bool amsgrad;
    double alpha; /* smoothing of the squared gradient's mean */
    bool centered;
    double lr_decay;
    double initial_accumulator_value;
    bool maximize;
} light_optimizer_options;

/* An optimizer of the parameters in `set`, or NULL with the error set (light_optimizers_add then returns it). Buffers
 * are left out; parameters without a gradient are skipped by a step. The set is evaluated now: the module must have
 * been built. */
/* lr 1e-3, momentum 0, dampening 0, weight_decay 0, nesterov */
#define light_sgd(set, ...) light_sgd_with(set, &(light_optimizer_options){__VA_ARGS__})
/* lr 1e-3, betas {0.9, 0.999}, eps 1e-8, weight_decay 0 (added to the gradient), amsgrad. Kingma, Ba 2015. */
#define light_adam(set, ...) light_adam_with(set, &(light_optimizer_options){__VA_ARGS__})
/* lr 1e-3, betas {0.9, 0.999}, eps 1e-8, weight_decay 1e-2 (decoupled), amsgrad. Loshchilov, Hutter 2019. */
#define light_adamw(set, ...) light_adamw_with(set, &(light_optimizer_options){__VA_ARGS__})
/* lr 1e-2, alpha 0.99, eps 1e-8, weight_decay 0, momentum 0, centered. Hinton 2012. */
#define light_rmsprop(set, ...) light_rmsprop_with(set, &(light_optimizer_options){__VA_ARGS__})
/* lr 1e-2, lr_decay 0, weight_decay 0, initial_accumulator_value 0, eps 1e-10. Duchi, Hazan, Singer 2011. */
#define light_adagrad(set, ...) light_adagrad_with(set, &(light_optimizer_options){__VA_ARGS__})
/* lr 1e-4, betas {0.9, 0.99}, weight_decay 0 (decoupled). Chen et al. 2023. */
#define light_lion(set, ...) light_lion_with(set, &(light_optimizer_options){__VA_ARGS__})
LIGHT_API light_optimizer *light_sgd_with(light_parameter_set set, const light_optimizer_options *options);
LIGHT_API light_optimizer *light_adam_with(light_parameter_set set, const light_optimizer_options *options);
LIGHT_API light_optimizer *light_adamw_with(light_parameter_set set, const light_optimizer_options *options);
LIGHT_API light_optimizer *light_rmsprop_with(light_parameter_set set,
                                              const light_optimizer_options *options);
LIGHT_API light_optimizer *light_adagrad_with(light_parameter_set set,
                                              const light_optimizer_options *options);
LIGHT_API light_optimizer *light_lion_with(light_parameter_set set, const light_optimizer_options *options);

/* One more group of parameters, with hyperparameters of its own; what is left zero is as in the first group. A
 * parameter may be in one group only. */
#define light_optimizer_add_group(optimizer, set, ...)                                                       \
    light_optimizer_add_group_with(optimizer, set, &(light_optimizer_options){__VA_ARGS__})
LIGHT_API light_status light_optimizer_add_group_with(light_optimizer *optimizer, light_parameter_set set,
                                                      const light_optimizer_options *options);
LIGHT_API void light_optimizer_free(light_optimizer *optimizer); /* NULL is fine */

LIGHT_API const char *light_optimizer_name(const light_optimizer *optimizer); /* "adamw" */
LIGHT_API int light_optimizer_groups(const light_optimizer *optimizer);
/* The learning rate that the next step of a group takes. NAN when there is no such group. */
LIGHT_API double light_optimizer_lr(const light_optimizer *optimizer, int group);
/* Sets it, until a schedule sets it again. */
LIGHT_API light_status light_optimizer_set_lr(light_optimizer *optimizer, int group, double lr);
/* All hyperparameters of a group as they stand now; NULL when there is no such group. */
LIGHT_API const light_optimizer_options *light_optimizer_hyperparameters(const light_optimizer *optimizer,
                                                                         int group);

/* One step over all parameters that have a gradient. `factor`, an f32 scalar or NULL, multiplies every gradient on the
 * way (clipping, loss scale). For loops of one's own; the trainer does it otherwise. */
LIGHT_API light_status light_optimizer_step_now(light_optimizer *optimizer, light_tensor *factor);
/* Forgets the gradients of all its parameters: the next backward writes instead of adding. Touches no memory. */
LIGHT_API void light_optimizer_zero_grad(light_optimizer *optimizer);

/* ---- manual optimization, in training_step ------------------------------ */

/* The optimizer's step, counted and announced (on_before_optimizer_step) by the trainer. A failure is the step's. */
LIGHT_API void light_optimizer_step(light_step *s, light_optimizer *optimizer);
LIGHT_API void light_zero_grad(light_step *s, light_optimizer *optimizer);
/* While an optimizer is toggled, the parameters of the module's other optimizers that are not its own need no
 * gradient. untoggle puts things back. */
LIGHT_API void light_toggle_optimizer(light_step *s, light_optimizer *optimizer);
LIGHT_API void light_untoggle_optimizer(light_step *s, light_optimizer *optimizer);

/* ---- what configure_optimizers returns ---------------------------------- */

/* Adds an optimizer, and its schedule unless NULL. `optimizers` owns both from then on, also after a failure. A NULL
 * optimizer or a schedule that could not be made is returned as the error it was. */
LIGHT_API light_status light_optimizers_add(light_optimizers *optimizers, light_optimizer *optimizer,
                                            light_schedule *schedule);

/* ---- schedules ---------------------------------------------------------- */

/* When a schedule steps: after each optimizer step, or after each epoch. */
typedef enum light_interval {
    LIGHT_INTERVAL_DEFAULT = 0,
    LIGHT_INTERVAL_STEP,
    LIGHT_INTERVAL_EPOCH
} light_interval;

/* Every schedule takes these; the schedule advances at each `frequency`-th (1) end of an interval. */
#define LIGHT_SCHEDULE_FIELDS_                                                                               \
    light_interval interval;                                                                                 \
    int64_t frequency

/* Below, t counts the schedule's steps from 0, base is the group's own learning rate. A schedule is a function of t
 * alone (but for reduce_on_plateau), so a resumed run gets the same numbers. `total_steps`, where there is one, is by
 * default what the trainer is going to do. Failures show when the schedule is added. */

/* base gamma^floor(t / step_size); per epoch. step_size is needed, gamma 0.1. */
typedef struct light_step_schedule_options {
    int64_t step_size;
    double gamma;
    LIGHT_SCHEDULE_FIELDS_;
} light_step_schedule_options;

/* base gamma^(number of milestones <= t); per epoch. Milestones rise and end at the first zero. gamma 0.1. */
typedef struct light_multi_step_schedule_options {
    int64_t milestones[32];
    double gamma;
    LIGHT_SCHEDULE_FIELDS_;
} light_multi_step_schedule_options;

/* base gamma^t; per epoch. gamma is needed. */
typedef struct light_exponential_schedule_options {
    double gamma;
    LIGHT_SCHEDULE_FIELDS_;
} light_exponential_schedule_options;

/* base (start + (end - start) min(t, total) / total); per step. start_factor 1/3, end_factor 1. */
typedef struct light_linear_schedule_options {
    double start_factor, end_factor;
    int64_t total_steps;
    LIGHT_SCHEDULE_FIELDS_;
} light_linear_schedule_options;

/* base (1 - min(t, total) / total)^power; per step. power 1. */
typedef struct light_polynomial_schedule_options {
    double power;
    int64_t total_steps;
    LIGHT_SCHEDULE_FIELDS_;
} light_polynomial_schedule_options;

/* eta_min + (base - eta_min) (1 + cos(pi u / T)) / 2 with u = t - warmup_steps, T = total_steps - warmup_steps; per
 * step. Before that linearly from base * warmup_start_factor (1 / (warmup_steps + 1)) to base. Past the total it rises
 * again, as PyTorch's does. Loshchilov, Hutter 2017. */
typedef struct light_cosine_schedule_options {
    double eta_min;
    int64_t total_steps;
    int64_t warmup_steps;
    double warmup_start_factor;
    LIGHT_SCHEDULE_FIELDS_;
} light_cosine_schedule_options;

/* Cosine from base to eta_min again and again, over t_0, t_0 t_mult, t_0 t_mult^2 .. steps; per epoch. t_0 is needed,
 * t_mult 1. */
typedef struct light_cosine_restarts_schedule_options {
    int64_t t_0;
    int64_t t_mult;
    double eta_min;
    LIGHT_SCHEDULE_FIELDS_;
} light_cosine_restarts_schedule_options;

/* Up from max_lr / div_factor to max_lr in pct_start of the total, then down to max_lr / div_factor /
 * final_div_factor; per step. max_lr defaults to the group's lr; pct_start 0.3, div_factor 25, final_div_factor 1e4;
 * cosine, or straight lines with `linear`. Momentum (beta1) goes the other way, between max_momentum 0.95 and
 * base_momentum 0.85, unless cycle_momentum is LIGHT_OFF. three_phase: down to the start first, then to the end.
 * t past the last step is an error. Smith, Topin 2017. */
typedef struct light_one_cycle_schedule_options {
    double max_lr;
    int64_t total_steps;
    double pct_start;
    double div_factor, final_div_factor;
    bool linear, three_phase;
    light_switch cycle_momentum;
    double base_momentum, max_momentum;
    LIGHT_SCHEDULE_FIELDS_;
} light_one_cycle_schedule_options;

/* `steps` steps from base * start_factor (1 / (steps + 1)) to base, linearly, then `then` (counted from 0; NULL: base),
 * which the result owns. Interval and frequency default to those of `then`, or per step. */
typedef struct light_warmup_schedule_options {
    int64_t steps;
    double start_factor;
    light_schedule *then;
    LIGHT_SCHEDULE_FIELDS_;
} light_warmup_schedule_options;

/* schedules[0] until milestones[0], then schedules[1], counted from 0, until milestones[1] ..; one milestone fewer than
 * schedules. The result owns them. Interval and frequency default to those of the first. */
typedef struct light_sequential_schedule_options {
    light_schedule *schedules[16];
    int64_t milestones[15];
    LIGHT_SCHEDULE_FIELDS_;
} light_sequential_schedule_options;

/* Multiplies the learning rate by `factor` (0.1) when `monitor`, a logged metric, has not improved for more than
 * `patience` (10) steps of the schedule; per epoch. mode "min" or "max"; better by `threshold` (1e-4), a share of the
 * best (threshold_mode "rel") or a difference ("abs"); then `cooldown` steps that do not count; never below min_lr; a
 * change below `eps` (1e-8) is not made. A patience of 0 is LIGHT_NO_PATIENCE. */
typedef struct light_reduce_on_plateau_options {
    const char *monitor; /* "val_loss"; its metric must be there, unless `lenient` */
    const char *mode;
    double factor;
    int64_t patience;
    double threshold;
    const char *threshold_mode;
    int64_t cooldown;
    double min_lr;
    double eps;
    bool lenient;
    LIGHT_SCHEDULE_FIELDS_;
} light_reduce_on_plateau_options;
#define LIGHT_NO_PATIENCE (-1)

/* base function(t, user); per epoch. */
typedef struct light_function_schedule_options {
    double (*function)(int64_t t, void *user);
    void *user;
    LIGHT_SCHEDULE_FIELDS_;
} light_function_schedule_options;

#define light_step_schedule(...)            light_schedule_call_(step_schedule, __VA_ARGS__)
#define light_multi_step_schedule(...)      light_schedule_call_(multi_step_schedule, __VA_ARGS__)
#define light_exponential_schedule(...)     light_schedule_call_(exponential_schedule, __VA_ARGS__)
#define light_linear_schedule(...)          light_schedule_call_(linear_schedule, __VA_ARGS__)
#define light_polynomial_schedule(...)      light_schedule_call_(polynomial_schedule, __VA_ARGS__)
#define light_cosine_schedule(...)          light_schedule_call_(cosine_schedule, __VA_ARGS__)
#define light_cosine_restarts_schedule(...) light_schedule_call_(cosine_restarts_schedule, __VA_ARGS__)
#define light_one_cycle_schedule(...)       light_schedule_call_(one_cycle_schedule, __VA_ARGS__)
#define light_warmup_schedule(...)          light_schedule_call_(warmup_schedule, __VA_ARGS__)
#define light_sequential_schedule(...)      light_schedule_call_(sequential_schedule, __VA_ARGS__)
#define light_reduce_on_plateau(...)        light_schedule_call_(reduce_on_plateau, __VA_ARGS__)
#define light_function_schedule(...)        light_schedule_call_(function_schedule, __VA_ARGS__)
#define light_schedule_call_(kind, ...)     light_##kind##_with(&(light_##kind##_options){__VA_ARGS__})
LIGHT_API light_schedule *light_step_schedule_with(const light_step_schedule_options *options);
LIGHT_API light_schedule *light_multi_step_schedule_with(const light_multi_step_schedule_options *options);
LIGHT_API light_schedule *light_exponential_schedule_with(const light_exponential_schedule_options *options);
LIGHT_API light_schedule *light_linear_schedule_with(const light_linear_schedule_options *options);
LIGHT_API light_schedule *light_polynomial_schedule_with(const light_polynomial_schedule_options *options);
LIGHT_API light_schedule *light_cosine_schedule_with(const light_cosine_schedule_options *options);
LIGHT_API light_schedule *light_cosine_restarts_schedule_with(
    const light_cosine_restarts_schedule_options *options);
LIGHT_API light_schedule *light_one_cycle_schedule_with(const light_one_cycle_schedule_options *options);
LIGHT_API light_schedule *light_warmup_schedule_with(const light_warmup_schedule_options *options);
LIGHT_API light_schedule *light_sequential_schedule_with(const light_sequential_schedule_options *options);
LIGHT_API light_schedule *light_reduce_on_plateau_with(const light_reduce_on_plateau_options *options);
LIGHT_API light_schedule *light_function_schedule_with(const light_function_schedule_options *options);

/* For loops of one's own; light_optimizers and the trainer do this otherwise. */
LIGHT_API void light_schedule_free(light_schedule *schedule); /* NULL is fine */
/* Takes the groups' learning rates as the base and sets those of t = 0. */
LIGHT_API light_status light_schedule_attach(light_schedule *schedule, light_optimizer *optimizer);
/* t + 1. `metric` is read by reduce_on_plateau only. */
LIGHT_API light_status light_schedule_advance(light_schedule *schedule, double metric);
/* How long the run is going to be, in optimizer steps and epochs, for schedules without a total_steps of their own. */
LIGHT_API light_status light_schedule_set_total(light_schedule *schedule, int64_t steps, int64_t epochs);

/* ---- clipping ----------------------------------------------------------- */

/* Scales all gradients of the set so that their common norm is at most max_norm: by max_norm / (norm + 1e-6) when that
 * is below 1. Returns the norm before (f64 scalar), NULL after a failure. For configure_gradient_clipping and loops of
 * one's own; the trainer's gradient_clip_val works without this pass over memory. */
LIGHT_API light_tensor *light_clip_grad_norm(light_step *s, light_parameter_set set, double max_norm);
/* Limits every element of the gradients to [-value, value]. A failure is the step's. */
LIGHT_API void light_clip_grad_value(light_step *s, light_parameter_set set, double value);

#endif
