/* SPDX-License-Identifier: Apache-2.0 */
/* Growable text and the distance between names. */
#include "base/string.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

#define COMPARED_BYTES 127

/* Makes room for `more` bytes and the NUL. */
static bool reserve(light_string *s, size_t more)
{
    size_t needed;

    if (s->failed) return false;
    if (__builtin_add_overflow(s->length + 1, more, &needed)) {
        s->failed = true;
        return false;
    }
    if (needed <= s->capacity) return true;

    size_t capacity = s->capacity ? s->capacity : 64;
    while (capacity < needed) capacity = capacity > needed / 2 ? needed : capacity * 2;
    char *text = light_realloc(s->text, capacity);
    if (!text) {
        s->failed = true;
        return false;
    }
    s->text = text;
    s->capacity = capacity;
    return true;
}

void light_string_append_bytes(light_string *s, const char *bytes, size_t count)
{
    if (!reserve(s, count)) return;
    if (count) memcpy(s->text + s->length, bytes, count);
    s->length += count;
    s->text[s->length] = '\0';
}

void light_string_append(light_string *s, const char *text)
{
    light_string_append_bytes(s, text, strlen(text));
}

void light_string_vprintf(light_string *s, const char *format, va_list arguments)
{
    va_list again;

    va_copy(again, arguments);
    int count = vsnprintf(NULL, 0, format, arguments);
    if (count < 0) {
        s->failed = true;
    } else if (reserve(s, (size_t)count)) {
        vsnprintf(s->text + s->length, (size_t)count + 1, format, again);
        s->length += (size_t)count;
    }
    va_end(again);
}

void light_string_printf(light_string *s, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    light_string_vprintf(s, format, arguments);
    va_end(arguments);
}

const char *light_string_text(const light_string *s)
{
    return s->text ? s->text : "";
}

void light_string_clear(light_string *s)
{
    s->length = 0;
    s->failed = false;
    if (s->text) s->text[0] = '\0';
}

void light_string_free(light_string *s)
{
    light_free(s->text);
    *s = (light_string){0};
}

light_status light_string_take(light_string *s, char **out)
{
    *out = NULL;
    light_string_append(s, ""); /* an empty string is a block too */
    if (s->failed) {
        size_t length = s->length;
        light_string_free(s);
        return light_fail(LIGHT_ERR_MEMORY, "out of memory: a text of more than %zu bytes was being made",
                          length);
    }
    *out = s->text;
    *s = (light_string){0};
    return LIGHT_OK;
}

char *light_format(const char *format, ...)
{
    light_string s = {0};
    va_list arguments;
    char *text;

    va_start(arguments, format);
    light_string_vprintf(&s, format, arguments);
    va_end(arguments);
    return light_string_take(&s, &text) == LIGHT_OK ? text : NULL;
}

bool light_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool light_ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text), wanted = strlen(suffix);

    return length >= wanted && memcmp(text + length - wanted, suffix, wanted) == 0;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t light_edit_distance(const char *a, const char *b)
{
    size_t na = strnlen(a, COMPARED_BYTES), nb = strnlen(b, COMPARED_BYTES);
    size_t rows[3][COMPARED_BYTES + 1];
    size_t *older = rows[0], *old = rows[1], *row = rows[2];

    for (size_t j = 0; j <= nb; j++) old[j] = j;
    for (size_t i = 1; i <= na; i++) {
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = least(old[j] + 1, row[j - 1] + 1);
            best = least(best, old[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                best = least(best, older[j - 2] + 1);
            }
            row[j] = best;
        }
        size_t *spare = older;
        older = old;
        old = row;
        row = spare;
    }
    return old[nb];
}

void light_nearest_offer(light_nearest *search, const char *candidate)
{
    /* More than a third of the name changed is another name. */
    size_t limit = strnlen(search->wanted, COMPARED_BYTES) / 3;
    size_t distance = light_edit_distance(search->wanted, candidate);

    if (distance > (limit ? limit : 1)) return;
    if (search->best && distance >= search->distance) return;
    search->best = candidate;
    search->distance = distance;
}

const char *light_nearest_of(const char *wanted, const char *const *candidates, size_t count)
{
    light_nearest search = {.wanted = wanted};

    for (size_t i = 0; i < count; i++) light_nearest_offer(&search, candidates[i]);
    return search.best;
}
