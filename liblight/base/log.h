/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, seen from inside the library: whether preparing one is worth the work. In a job of several processes the
 * first one shows them all; the others show warnings and errors, with "[rank r] " in front, no progress and no output. */
#ifndef LIGHT_BASE_LOG_H
#define LIGHT_BASE_LOG_H

#include <light/message.h>

#include <stdbool.h>

bool light_message_enabled(light_message_level level);

/* Progress: on a terminal `text` replaces the line before it, unless that one is to `stay`. Elsewhere only lines that
 * stay are shown, as messages. An empty text takes the line away. */
void light_progress_line(const char *text, bool stay);
/* Lines that do not stay are shown: standard error is a terminal, no sink has taken over, messages are not off. */
bool light_progress_is_live(void);

/* Text for standard output: what a command line was asked to print. */
void light_output(const char *text);

#endif
