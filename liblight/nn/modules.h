/* SPDX-License-Identifier: Apache-2.0 */
/* What the shipped modules share. */
#ifndef LIGHT_NN_MODULES_H
#define LIGHT_NN_MODULES_H

#include "base/default.h"
#include "nn/parameter.h"

#include <light/nn.h>

/* The first members of a shipped module's vtable; `text` is its name in summaries and messages. */
#define LIGHT_NN_VTABLE(type, text)                                                                          \
    .size = sizeof(light_module_vtable), .name = text, .instance_size = sizeof(type)

/* "conv1: conv2d: out_channels is 0; it must be at least 1" unless value >= 1. */
static inline light_status light_nn_positive(const light_module *self, const char *field, int64_t value)
{
    if (value >= 1) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT, "%s: %s: %s is %lld; it must be at least 1", self->path,
                      self->vtable->name, field, (long long)value);
}

static inline light_status light_nn_probability(const light_module *self, const char *field, double value)
{
    if (value >= 0 && value <= 1) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT, "%s: %s: %s is %g; it must lie between 0 and 1", self->path,
                      self->vtable->name, field, value);
}

#endif
