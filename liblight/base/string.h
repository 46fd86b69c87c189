/* SPDX-License-Identifier: Apache-2.0 */
/* Text that grows, and the nearest of several names for "did you mean". */
#ifndef LIGHT_BASE_STRING_H
#define LIGHT_BASE_STRING_H

#include <light/status.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Starts as {0}. The first failed allocation sticks: later appends do nothing, and light_string_take reports it. */
typedef struct light_string {
    char *text; /* NUL-terminated, NULL while empty */
    size_t length;
    size_t capacity;
    bool failed;
} light_string;

void light_string_append(light_string *s, const char *text);
void light_string_append_bytes(light_string *s, const char *bytes, size_t count);
void light_string_printf(light_string *s, const char *format, ...) LIGHT_PRINTF(2, 3);
void light_string_vprintf(light_string *s, const char *format, va_list arguments);

/* What is there so far, never NULL. */
const char *light_string_text(const light_string *s);

/* Empties the string and keeps its memory. */
void light_string_clear(light_string *s);
void light_string_free(light_string *s);

/* Hands the text over to the caller (light_free) and empties the string; LIGHT_ERR_MEMORY when an append failed. */
light_status light_string_take(light_string *s, char **out);

/* printf into new memory (light_free); NULL after light_fail. */
char *light_format(const char *format, ...) LIGHT_PRINTF(1, 2);

bool light_starts_with(const char *text, const char *prefix);
bool light_ends_with(const char *text, const char *suffix);

/* The number of insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`
 * (optimal string alignment). Only the first 127 bytes of each are compared. */
size_t light_edit_distance(const char *a, const char *b);

/* The nearest of the names offered, or NULL when none is near enough to be meant:
 *     light_nearest search = {.wanted = "max_epoch"};
 *     for (...) light_nearest_offer(&search, name);
 *     if (search.best) ... */
typedef struct light_nearest {
    const char *wanted;
    const char *best;
    size_t distance;
} light_nearest;

void light_nearest_offer(light_nearest *search, const char *candidate);
const char *light_nearest_of(const char *wanted, const char *const *candidates, size_t count);

#endif
