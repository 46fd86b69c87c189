/* SPDX-License-Identifier: Apache-2.0 */
/* An optimizer's state as checkpoints see it: tensors by parameter and name, numbers by group. */
#include "optim/optimizer.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

static void describe(const light_optimizer_group *group, int64_t entry, int k, light_optimizer_state *out)
{
    out->parameter = group->entries[entry].parameter;
    out->name = group->state_names[k];
    out->tensor = light_optimizer_state_window(group, entry, k);
}

static int kinds_of(const light_optimizer_group *group)
{
    int n = 0;
    for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++) n += group->states[k] != NULL;
    return n;
}

bool light_optimizer_state_at(light_optimizer *optimizer, int64_t i, light_optimizer_state *out)
{
    for (int g = 0; g < optimizer->n_groups; g++) {
        const light_optimizer_group *group = &optimizer->groups[g];
        int kinds = kinds_of(group);
        if (i >= group->n * kinds) {
            i -= group->n * kinds;
            continue;
        }
        int64_t which = i % kinds;
        for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++)
            if (group->states[k] && which-- == 0) describe(group, i / kinds, k, out);
        return true;
    }
    return false;
}

bool light_optimizer_find_state(light_optimizer *optimizer, const char *path, const char *name,
                                light_optimizer_state *out)
{
    for (int g = 0; g < optimizer->n_groups; g++) {
        const light_optimizer_group *group = &optimizer->groups[g];
        for (int64_t i = 0; i < group->n; i++) {
            if (strcmp(group->entries[i].parameter->path, path) != 0) continue;
            for (int k = 0; k < LIGHT_OPTIMIZER_MAX_STATES; k++)
                if (group->states[k] && strcmp(group->state_names[k], name) == 0) {
                    describe(group, i, k, out);
                    return true;
                }
        }
    }
    return false;
}

/* ---- numbers ------------------------------------------------------------ */

static const char *group_name(int g, char text[24])
{
    snprintf(text, 24, "group%d", g);
    return text;
}

static light_status save_group(const light_optimizer_group *group, light_state *state)
{
    for (int i = 0; i < light_optimizer_field_count; i++)
        LIGHT_TRY(light_state_put_double(state, light_optimizer_fields[i].name,
                                         light_optimizer_field_get(&group->options, i)));
    LIGHT_TRY(light_state_put_double(state, "base_lr", group->base_lr));
    int64_t *steps = light_calloc((size_t)group->n, sizeof *steps);
    if (!steps) return LIGHT_ERR_MEMORY;
    for (int64_t i = 0; i < group->n; i++) steps[i] = group->entries[i].steps;
    light_status status = light_state_put_int64s(state, "steps", steps, (size_t)group->n);
    light_free(steps);
    return status;
}

light_status light_optimizer_save(light_optimizer *optimizer, light_state *state)
{
    char text[24];
    LIGHT_TRY(light_optimizer_settle(optimizer));
    LIGHT_TRY(light_state_put_string(state, "name", optimizer->class->name));
    LIGHT_TRY(light_state_put_int64(state, "groups", optimizer->n_groups));
    for (int g = 0; g < optimizer->n_groups; g++) {
        light_state *group = light_state_group(state, group_name(g, text));
        if (!group) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(save_group(&optimizer->groups[g], group));
    }
    return LIGHT_OK;
}

/* Nothing is changed unless all of it can be. */
static light_status load_group(light_optimizer_group *group, const light_state *state, bool apply)
{
    light_optimizer_options options = {0};
    const int64_t *steps;
    double base_lr;
    size_t n;
    for (int i = 0; i < light_optimizer_field_count; i++) {
        double value;
        LIGHT_TRY(light_state_get_double(state, light_optimizer_fields[i].name, &value));
        light_optimizer_field_set(&options, i, value);
    }
    LIGHT_TRY(light_state_get_double(state, "base_lr", &base_lr));
    LIGHT_TRY(light_state_get_int64s(state, "steps", &steps, &n));
    if ((int64_t)n != group->n)
        return light_fail(LIGHT_ERR_FORMAT, "it holds %zu parameters, the group has %lld", n,
                          (long long)group->n);
    if (!apply) return LIGHT_OK;
    group->options = options;
    group->base_lr = base_lr;
    for (int64_t i = 0; i < group->n; i++) group->entries[i].steps = steps[i];
    return LIGHT_OK;
}

light_status light_optimizer_load(light_optimizer *optimizer, const light_state *state)
{
    char text[24];
    const char *name;
    int groups;
    LIGHT_TRY(light_state_get_string(state, "name", &name));
    LIGHT_TRY(light_state_get_int(state, "groups", &groups));
    if (strcmp(name, optimizer->class->name) != 0 || groups != optimizer->n_groups)
        return light_fail(LIGHT_ERR_FORMAT, "the state is of %s with %d groups, the optimizer is %s with %d",
                          name, groups, optimizer->class->name, optimizer->n_groups);
    for (int apply = 0; apply < 2; apply++)
        for (int g = 0; g < groups; g++) {
            const light_state *group = light_state_find_group(state, group_name(g, text));
            if (!group) return light_fail(LIGHT_ERR_FORMAT, "%s: %s is missing", name, text);
            light_status status = load_group(&optimizer->groups[g], group, apply);
            if (status != LIGHT_OK) return light_fail_in(status, "%s: %s", name, text);
        }
    return LIGHT_OK;
}
