/* SPDX-License-Identifier: Apache-2.0 */
/* What the library has to say goes through here, and a program may take it over. */
#ifndef LIGHT_MESSAGE_H
#define LIGHT_MESSAGE_H

#include <light/status.h>

/* LIGHT_MESSAGE_OFF is a threshold only: nothing is said at all. */
typedef enum light_message_level {
    LIGHT_MESSAGE_OFF,
    LIGHT_MESSAGE_ERROR,
    LIGHT_MESSAGE_WARNING,
    LIGHT_MESSAGE_INFO,
    LIGHT_MESSAGE_DEBUG,
} light_message_level;

/* Gets one message without a newline at its end. Called from any thread, one call at a time. */
typedef void (*light_message_sink)(void *user, light_message_level level, const char *text);

/* Sends messages to `sink` from now on; NULL brings back the default, which is standard error. */
LIGHT_API void light_message_set_sink(light_message_sink sink, void *user);

/* Messages less urgent than `level` are dropped. Until this is called the environment variable LIGHT_LOG decides:
 * off, error, warning, info (the default) or debug. */
LIGHT_API void light_message_set_level(light_message_level level);

/* Says something. A text longer than 4095 bytes is cut. */
LIGHT_API void light_message(light_message_level level, const char *format, ...) LIGHT_PRINTF(2, 3);

#endif
