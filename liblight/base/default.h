/* SPDX-License-Identifier: Apache-2.0 */
/* Reading options in which zero means the default. */
#ifndef LIGHT_BASE_DEFAULT_H
#define LIGHT_BASE_DEFAULT_H

#include <math.h>
#include <stdint.h>

/* LIGHT_ZERO, minus zero, is a value. */
static inline double light_or_default(double value, double fallback)
{
    return value == 0 && !signbit(value) ? fallback : value;
}

static inline int64_t light_int_or_default(int64_t value, int64_t fallback)
{
    return value ? value : fallback;
}

#endif
