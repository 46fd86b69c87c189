/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizers: groups and their flat state, and the step. */
#include "optim/optimizer.h"

#include "base/memory.h"
#include "nn/flat.h"
#include "nn/parameter.h"

#include <string.h>

/* ---- groups ------------------------------------------------------------- */

/* The bytes of a parameter's own part, with the gap behind it where it has the parameter's end. */
static size_t own_bytes(const light_parameter *p)
{
    size_t size = light_dtype_size((light_dtype)p->tensor->dtype);
    size_t begin = (size_t)p->own_begin * size, end = (size_t)p->own_end * size;
    if (p->own_begin == p->own_end) return 0;
    return (p->own_end == p->tensor->numel ? light_flat_padded(end) : end) - begin;
}

static bool state_needed(const char *name, const light_optimizer_options *o)
{
    if (!name) return false;
    if (strcmp(name, "momentum_buffer") == 0) return o->momentum != 0;
    if (strcmp(name, "max_exp_avg_sq") == 0) return o->amsgrad;
    if (strcmp(name, "grad_avg") == 0) return o->centered;
    return true;
}

static bool holds(const light_optimizer *optimizer, const light_parameter *p)
{
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++)
            if (optimizer->groups[g].entries[i].parameter == p) return true;
    return false;
}

/* Entries of a new group. */
static light_status collect(const light_optimizer *optimizer, light_optimizer_group *group,
                            light_parameter_set set)
{
    const char *kind = optimizer->class->name;
    for (light_parameter *p = light_parameter_set_next(set, NULL); p; p = light_parameter_set_next(set, p)) {
        if (holds(optimizer, p))
            return light_fail(LIGHT_ERR_ARGUMENT, "%s: parameter '%s' is in another group already", kind,
                              p->path);
        group->n++;
    }
    if (group->n == 0)
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: there is no parameter to optimize%s", kind,
                          set.root && !set.root->built ? " (the module has not been built)" : "");
    group->entries = light_calloc((size_t)group->n, sizeof *group->entries);
    if (!group->entries) return LIGHT_ERR_MEMORY;
    light_parameter *p = light_parameter_set_next(set, NULL);
    size_t offset = 0;
    for (int64_t i = 0; i < group->n; i++, p = light_parameter_set_next(set, p)) {
        group->entries[i] = (light_optimizer_entry){.parameter = p, .offset = offset};
        offset += own_bytes(p);
    }
    return LIGHT_OK;
}

light_tensor light_optimizer_state_window(const light_optimizer_group *group, int64_t entry, int state)
{
    const light_optimizer_entry *e = &group->entries[entry];
    light_part own = light_parameter_own(e->parameter);
    own.tensor.storage = group->states[state];
    own.tensor.data = (char *)group->states[state]->data + e->offset;
    return own.tensor;
}

static light_status fill(light_device *device, light_tensor *t, double value)
{
    light_kernel kernel = device->backend->kernels[LIGHT_KERNEL_FILL];
    if (!kernel) return light_fail(LIGHT_ERR_UNSUPPORTED, "FILL is not available on %s", device->name);
    return kernel(&(light_kernel_args){.device = device, .out = {t}, .attrs = &(light_fill_attrs){value}});
}

static light_status make_states(const light_optimizer *optimizer, light_optimizer_group *group)
{
    const light_optimizer_entry *last = &group->entries[group->n - 1];
    size_t bytes = last->offset + own_bytes(last->parameter);
    for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++) {
        const char *name = optimizer->class->states[k];
        if (!state_needed(name, &group->options)) continue;
        group->state_names[k] = name;
        LIGHT_TRY(light_storage_new(&group->states[k], bytes, optimizer->device));
        double first = group->options.initial_accumulator_value;
        for (int64_t i = 0; i < group->n && first != 0; i++) {
            light_tensor window = light_optimizer_state_window(group, i, k);
            LIGHT_TRY(fill(optimizer->device, &window, first));
        }
    }
    return LIGHT_OK;
}

static void group_free(light_optimizer_group *group)
{
    for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++) light_storage_free(group->states[k]);
    light_free(group->entries);
}

light_status light_optimizer_add_group_with(light_optimizer *optimizer, light_parameter_set set,
                                            const light_optimizer_options *options)
{
    if (!optimizer) return light_fail_in(LIGHT_ERR_ARGUMENT, "add_group: no optimizer");
    const light_optimizer_class *class = optimizer->class;
    const light_optimizer_options *defaults =
        optimizer->n_groups ? &optimizer->groups[0].options : &class->defaults;
    light_optimizer_group group = {0};
    LIGHT_TRY(light_optimizer_options_complete(class, options, defaults, &group.options));
    group.base_lr = group.options.lr;
    light_status status = collect(optimizer, &group, set);
    if (status == LIGHT_OK && !optimizer->device)
        optimizer->device = light_parameter_own(group.entries[0].parameter).tensor.storage->device;
    if (status == LIGHT_OK) status = make_states(optimizer, &group);
    light_optimizer_group *groups = NULL;
    if (status == LIGHT_OK) {
        groups = light_realloc(optimizer->groups, (size_t)(optimizer->n_groups + 1) * sizeof *groups);
        if (!groups) status = LIGHT_ERR_MEMORY;
    }
    if (status != LIGHT_OK) {
        group_free(&group);
        return status;
    }
    groups[optimizer->n_groups++] = group;
    optimizer->groups = groups;
    return LIGHT_OK;
}

light_optimizer *light_optimizer_new(const light_optimizer_class *class, light_parameter_set set,
                                     const light_optimizer_options *options)
{
    light_optimizer *optimizer = light_calloc(1, sizeof *optimizer);
    if (!optimizer) return NULL;
    optimizer->class = class;
    if (light_optimizer_add_group_with(optimizer, set, options) == LIGHT_OK) return optimizer;
    light_optimizer_free(optimizer);
    return NULL;
}

void light_optimizer_free(light_optimizer *optimizer)
{
    if (!optimizer) return;
    for (int g = 0; g < optimizer->n_groups; g++) group_free(&optimizer->groups[g]);
    light_free(optimizer->groups);
    light_free(optimizer);
}

/* ---- asking ------------------------------------------------------------- */

const char *light_optimizer_name(const light_optimizer *optimizer)
{
    return optimizer->class->name;
}

int light_optimizer_groups(const light_optimizer *optimizer)
{
    return optimizer->n_groups;
}

double light_optimizer_lr(const light_optimizer *optimizer, int group)
{
    return group >= 0 && group < optimizer->n_groups ? optimizer->groups[group].options.lr : NAN;
}

light_status light_optimizer_set_lr(light_optimizer *optimizer, int group, double lr)
{
    if (group < 0 || group >= optimizer->n_groups)
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: group %d; there are %d", optimizer->class->name, group,
                          optimizer->n_groups);
    if (!(lr >= 0) || isinf(lr))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: lr is %g; it must be a finite number, 0 or more",
                          optimizer->class->name, lr);
    optimizer->groups[group].options.lr = lr;
    return LIGHT_OK;
}

const light_optimizer_options *light_optimizer_hyperparameters(const light_optimizer *optimizer, int group)
{
    return group >= 0 && group < optimizer->n_groups ? &optimizer->groups[group].options : NULL;
}

const light_sharing *light_optimizer_sharing(const light_optimizer *optimizer)
{
    const light_module *root = optimizer->groups[0].entries[0].parameter->module;
    while (root->parent) root = root->parent;
    return root->flat ? root->flat->sharing : NULL;
}

/* ---- runs --------------------------------------------------------------- */

/* Has a part here, and a gradient for it. */
static bool takes_part(const light_parameter *p)
{
    return p->own_begin < p->own_end && light_grad(p->tensor);
}

/* Where a parameter's own part begins. */
typedef struct place {
    light_storage *storage;
    char *data;
} place;

static place place_in(const light_parameter *p, const light_tensor *t, light_storage *shard)
{
    if (shard) return (place){shard, (char *)shard->data + p->shard->offset};
    return (place){t->storage, t->data + (size_t)p->own_begin * light_dtype_size((light_dtype)t->dtype)};
}

static place values_of(const light_parameter *p)
{
    return place_in(p, p->tensor, p->shard ? p->shard->values : NULL);
}

static place grads_of(const light_parameter *p)
{
    return place_in(p, p->tensor->grad, p->shard ? p->shard->grads : NULL);
}

static bool is_behind(place a, place b, size_t bytes)
{
    return a.storage == b.storage && b.data == a.data + bytes;
}

/* b's own part lies behind a's, in values and in gradients, with nothing but the flat buffer's gap between. */
static bool follows(const light_parameter *a, const light_parameter *b)
{
    size_t bytes = own_bytes(a);
    return a->tensor->dtype == b->tensor->dtype && is_behind(values_of(a), values_of(b), bytes) &&
           is_behind(grads_of(a), grads_of(b), bytes);
}

static light_tensor flat_window(light_storage *storage, char *data, uint8_t dtype, int64_t numel)
{
    light_tensor window = {.storage = storage, .data = data, .dtype = dtype};
    light_tensor_set_shape(&window, LIGHT_SHAPE(numel));
    return window;
}

/* The same elements of the 16-bit copy, which a process has where it has all values. */
static light_tensor lowered_window(const light_parameter *p, int64_t numel)
{
    const light_tensor *copy = p->tensor->lowered;
    if (!copy || (p->shard && p->shard->values)) return (light_tensor){0};
    char *data = copy->data + (size_t)p->own_begin * light_dtype_size((light_dtype)copy->dtype);
    return flat_window(copy->storage, data, copy->dtype, numel);
}

bool light_optimizer_next_run(const light_optimizer_group *group, int64_t *at, light_optimizer_run *run)
{
    const light_optimizer_entry *e = group->entries;
    int64_t first = *at;
    while (first < group->n && !takes_part(e[first].parameter)) first++;
    if (first >= group->n) return false;
    int64_t last = first;
    while (last + 1 < group->n && takes_part(e[last + 1].parameter) && e[last + 1].steps == e[first].steps &&
           follows(e[last].parameter, e[last + 1].parameter))
        last++;
    *at = last + 1;

    const light_parameter *from = e[first].parameter, *to = e[last].parameter;
    const uint8_t dtype = from->tensor->dtype;
    const place value = values_of(from), grad = grads_of(from);
    int64_t numel = (values_of(to).data - value.data) / (int64_t)light_dtype_size((light_dtype)dtype) +
                    to->own_end - to->own_begin;
    run->first = first;
    run->n = last - first + 1;
    run->value = flat_window(value.storage, value.data, dtype, numel);
    run->grad = flat_window(grad.storage, grad.data, dtype, numel);
    run->lowered = lowered_window(from, numel);
    for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++)
        if (group->states[k])
            run->state[k] =
                flat_window(group->states[k], (char *)group->states[k]->data + e[first].offset, dtype, numel);
    return true;
}

/* ---- the step ----------------------------------------------------------- */

static light_optimizer_attrs attributes(const light_optimizer *optimizer, const light_optimizer_options *o)
{
    return (light_optimizer_attrs){
        .kind = optimizer->class->kind,
        .lr = o->lr,
        .weight_decay = o->weight_decay,
        .momentum = o->momentum,
        .dampening = o->dampening,
        .beta1 = o->betas[0],
        .beta2 = o->betas[1],
        .eps = o->eps,
        .alpha = o->alpha,
        .lr_decay = o->lr_decay,
        .nesterov = o->nesterov,
        .amsgrad = o->amsgrad,
        .centered = o->centered,
        .maximize = o->maximize,
    };
}

/* The steps that were skipped are those of all parameters that had a gradient then. */
light_status light_optimizer_settle(light_optimizer *optimizer)
{
    float state[LIGHT_LOSS_SCALE_SIZE];
    if (!optimizer->scaling) return LIGHT_OK;
    LIGHT_TRY(light_tensor_read(optimizer->scaling, LIGHT_F32, state, sizeof state));
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++) {
            light_optimizer_entry *e = &optimizer->groups[g].entries[i];
            if (e->stepped) e->steps -= (int64_t)state[LIGHT_LOSS_SCALE_SKIPPED];
        }
    state[LIGHT_LOSS_SCALE_SKIPPED] = 0;
    return light_tensor_write(optimizer->scaling, LIGHT_F32, state, sizeof state);
}

/* Notes which parameters take part in the step to come. When it is others than before, the device's one count of skipped
 * steps will not be right for all of them, so it is settled first. */
static light_status note_participants(light_optimizer *optimizer)
{
    bool same = true;
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++) {
            const light_optimizer_entry *e = &optimizer->groups[g].entries[i];
            same &= e->stepped == (light_grad(e->parameter->tensor) != NULL);
        }
    if (same) return LIGHT_OK;
    LIGHT_TRY(light_optimizer_settle(optimizer));
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++) {
            light_optimizer_entry *e = &optimizer->groups[g].entries[i];
            e->stepped = light_grad(e->parameter->tensor) != NULL;
        }
    return LIGHT_OK;
}

static light_status step_run(const light_optimizer *optimizer, light_optimizer_group *group,
                             light_optimizer_run *run, const light_tensor *factor)
{
    light_optimizer_entry *entries = &group->entries[run->first];
    light_optimizer_attrs attrs = attributes(optimizer, &group->options);
    light_kernel_args args = {.device = optimizer->device,
                              .in = {&run->grad, factor, optimizer->scaling},
                              .out = {&run->value},
                              .attrs = &attrs};
    if (run->value.storage->device != optimizer->device)
        return light_fail(
            LIGHT_ERR_STATE,
            "%s: %s has been moved to %s, but the optimizer's state is on %s; make the optimizer after "
            "light_module_to",
            optimizer->class->name, entries->parameter->path, run->value.storage->device->name,
            optimizer->device->name);
    attrs.step = entries->steps + 1;
    for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++)
        if (group->states[k]) args.out[1 + k] = &run->state[k];
    if (run->lowered.data) args.out[1 + LIGHT_OPTIMIZER_MAX_STATES] = &run->lowered;
    light_status status = optimizer->device->backend->kernels[LIGHT_KERNEL_OPTIMIZER](&args);
    if (status != LIGHT_OK)
        return light_fail_in(status, "%s: %s", optimizer->class->name, entries->parameter->path);
    return LIGHT_OK;
}

light_status light_optimizer_step_now(light_optimizer *optimizer, light_tensor *factor)
{
    if (!optimizer->device->backend->kernels[LIGHT_KERNEL_OPTIMIZER])
        return light_fail(LIGHT_ERR_UNSUPPORTED, "%s: optimizers are not available on %s",
                          optimizer->class->name, optimizer->device->name);
    if (factor && (factor->numel != 1 || factor->dtype != LIGHT_F32))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: the factor must be an f32 scalar", optimizer->class->name);
    if (optimizer->scaling) LIGHT_TRY(note_participants(optimizer));
    for (int g = 0; g < optimizer->n_groups; g++) {
        light_optimizer_run run;
        for (int64_t at = 0; light_optimizer_next_run(&optimizer->groups[g], &at, &run);)
            LIGHT_TRY(step_run(optimizer, &optimizer->groups[g], &run, factor));
    }
    light_optimizer_count_step(optimizer); /* of all, also where other processes have the parameter */
    return LIGHT_OK;
}

void light_optimizer_count_step(light_optimizer *optimizer)
{
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++) {
            light_optimizer_entry *e = &optimizer->groups[g].entries[i];
            if (light_grad(e->parameter->tensor)) e->steps++;
        }
}

void light_optimizer_zero_grad(light_optimizer *optimizer)
{
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++)
            light_grad_zero(optimizer->groups[g].entries[i].parameter->tensor);
}
