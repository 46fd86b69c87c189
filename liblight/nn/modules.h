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

/* LIGHT_ERR_ARGUMENT with "conv1: conv2d: " in front of the text. */
light_status light_nn_refuse(const light_module *self, const char *format, ...) LIGHT_PRINTF(2, 3);
light_status light_nn_positive(const light_module *self, const char *field, int64_t value);
light_status light_nn_probability(const light_module *self, const char *field, double value);

bool light_is_batch_norm(const light_module *m);

#endif
