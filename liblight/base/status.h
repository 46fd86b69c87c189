/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIGHT_BASE_STATUS_H
#define LIGHT_BASE_STATUS_H

#include <light/status.h>

#include <stdarg.h>

/* light_fail with its arguments in a list. */
light_status light_failv(light_status status, const char *format, va_list arguments);

#endif
