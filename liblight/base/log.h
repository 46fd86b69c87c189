/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, seen from inside the library: whether preparing one is worth the work. */
#ifndef LIGHT_BASE_LOG_H
#define LIGHT_BASE_LOG_H

#include <light/message.h>

#include <stdbool.h>

bool light_message_enabled(light_message_level level);

#endif
