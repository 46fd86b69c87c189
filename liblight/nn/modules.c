/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that the shipped modules share. */
#include "nn/modules.h"

#include <stdarg.h>
#include <stdio.h>

light_status light_nn_refuse(const light_module *self, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return light_fail(LIGHT_ERR_ARGUMENT, "%s%s%s: %s", self->path, self->path[0] ? ": " : "",
                      self->vtable->name, text);
}

light_status light_nn_positive(const light_module *self, const char *field, int64_t value)
{
    if (value >= 1) return LIGHT_OK;
    return light_nn_refuse(self, "%s is %lld; it must be at least 1", field, (long long)value);
}

light_status light_nn_probability(const light_module *self, const char *field, double value)
{
    if (value >= 0 && value <= 1) return LIGHT_OK;
    return light_nn_refuse(self, "%s is %g; it must lie between 0 and 1", field, value);
}
