/* SPDX-License-Identifier: Apache-2.0 */
/* The loggers that ship; each is defined in the file of its name. */
#ifndef LIGHT_LOGGERS_BUILTIN_H
#define LIGHT_LOGGERS_BUILTIN_H

#include <light/logger.h>

extern const light_logger_vtable light_csv_logger_vtable;

#endif
