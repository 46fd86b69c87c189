/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to standard error or to the program's own sink. The only file of the library that prints. */
#include "base/log.h"

#include "base/world.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES    4096
#define LEVEL_NOT_SET (-1)

static const char *const level_names[] = {"off", "error", "warning", "info", "debug"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static light_message_sink sink_function; /* under lock */
static void *sink_user;                  /* under lock */
static atomic_int threshold = LEVEL_NOT_SET;

static int level_from_environment(void)
{
    const char *wanted = getenv("LIGHT_LOG");

    for (int i = 0; wanted && i <= LIGHT_MESSAGE_DEBUG; i++) {
        if (strcmp(wanted, level_names[i]) == 0) return i;
    }
    return LIGHT_MESSAGE_INFO;
}

static int current_threshold(void)
{
    int level = atomic_load_explicit(&threshold, memory_order_relaxed);

    if (level == LEVEL_NOT_SET) {
        /* A level that the program sets meanwhile wins over the environment. */
        int wanted = level_from_environment();
        if (atomic_compare_exchange_strong(&threshold, &level, wanted)) level = wanted;
    }
    return level;
}

/* Of the processes of a job the first one speaks; the others only of what has gone wrong. */
static bool speaks(light_message_level level)
{
    return level <= LIGHT_MESSAGE_WARNING || light_world_get()->rank == 0;
}

bool light_message_enabled(light_message_level level)
{
    return level != LIGHT_MESSAGE_OFF && (int)level <= current_threshold() && speaks(level);
}

void light_message_set_level(light_message_level level)
{
    atomic_store(&threshold, (int)level);
}

void light_message_set_sink(light_message_sink sink, void *user)
{
    pthread_mutex_lock(&lock);
    sink_function = sink;
    sink_user = user;
    pthread_mutex_unlock(&lock);
}

/* ---- progress ----------------------------------------------------------- */

static bool line_shown; /* under lock: a line that does not stay is on the terminal */

static void take_line_away(void)
{
    if (line_shown) fprintf(stderr, "\r\033[K");
    line_shown = false;
}

bool light_progress_is_live(void)
{
    pthread_mutex_lock(&lock);
    bool own = sink_function == NULL;
    pthread_mutex_unlock(&lock);
    return own && light_message_enabled(LIGHT_MESSAGE_INFO) && isatty(STDERR_FILENO);
}

void light_progress_line(const char *text, bool stay)
{
    if (stay && text[0]) {
        light_message(LIGHT_MESSAGE_INFO, "%s", text);
        return;
    }
    if (!light_progress_is_live()) return;
    pthread_mutex_lock(&lock);
    take_line_away();
    if (text[0]) {
        /* Not wrapped: a line that is too long ends at the edge, and one row is all there is to take away. */
        fprintf(stderr, "\033[?7l%s\033[?7h", text);
        line_shown = true;
    }
    fflush(stderr);
    pthread_mutex_unlock(&lock);
}

void light_output(const char *text)
{
    if (light_world_get()->rank > 0) return;
    fputs(text, stdout);
    fflush(stdout);
}

void light_message(light_message_level level, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    int rank, used = 0;

    if (!light_message_enabled(level)) return;
    rank = light_world_get()->rank;
    if (rank > 0) used = snprintf(text, sizeof text, "[rank %d] ", rank);
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);

    pthread_mutex_lock(&lock);
    take_line_away();
    if (sink_function) {
        sink_function(sink_user, level, text);
    } else if (level == LIGHT_MESSAGE_INFO) {
        fprintf(stderr, "%s\n", text);
    } else {
        fprintf(stderr, "%s: %s\n", level_names[level], text);
    }
    pthread_mutex_unlock(&lock);
}
