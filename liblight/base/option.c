/* SPDX-License-Identifier: Apache-2.0 */
/* Options as tables: defaults, from text, to text. */
#include "base/memory.h"
#include "base/string.h"

#include <light/option.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- strings that live as long as the process --------------------------- */

typedef struct kept_text {
    struct kept_text *next;
    char text[];
} kept_text;

static kept_text *kept;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* One copy of each text, however often it is set. */
static const char *keep(const char *text)
{
    const char *found = NULL;
    pthread_mutex_lock(&lock);
    for (kept_text *k = kept; k && !found; k = k->next)
        if (!strcmp(k->text, text)) found = k->text;
    if (!found) {
        kept_text *k = light_alloc(sizeof *k + strlen(text) + 1);
        if (k) {
            memcpy(k->text, text, strlen(text) + 1);
            k->next = kept;
            kept = k;
            found = k->text;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- defaults ----------------------------------------------------------- */

static void set_number(const light_option *o, void *object, double number)
{
    void *field = (char *)object + o->offset;
    switch (o->type) {
    case LIGHT_OPTION_BOOL: *(bool *)field = number != 0; break;
    case LIGHT_OPTION_INT: *(int *)field = (int)number; break;
    case LIGHT_OPTION_INT64: *(int64_t *)field = (int64_t)number; break;
    case LIGHT_OPTION_FLOAT: *(float *)field = (float)number; break;
    case LIGHT_OPTION_DOUBLE: *(double *)field = number; break;
    case LIGHT_OPTION_SWITCH: *(light_switch *)field = (light_switch)(int)number; break;
    case LIGHT_OPTION_STRING:
    case LIGHT_OPTION_END_: break;
    }
}

void light_options_default(const light_option *options, void *object)
{
    for (const light_option *o = options; o && o->name; o++) {
        if (o->type == LIGHT_OPTION_STRING)
            *(const char **)((char *)object + o->offset) = o->string;
        else
            set_number(o, object, o->number);
    }
}

void light_options_merge(const light_option *options, void *object, const void *given, size_t shift)
{
    for (const light_option *o = options; o && o->name; o++) {
        const void *from = (const char *)given + (o->offset - shift);
        void *to = (char *)object + o->offset;
        switch (o->type) {
        case LIGHT_OPTION_BOOL:
            if (*(const bool *)from) *(bool *)to = true;
            break;
        case LIGHT_OPTION_INT:
            if (*(const int *)from) *(int *)to = *(const int *)from;
            break;
        case LIGHT_OPTION_INT64: {
            int64_t value = *(const int64_t *)from;
            if (value) *(int64_t *)to = value == LIGHT_ZERO_COUNT ? 0 : value;
            break;
        }
        case LIGHT_OPTION_FLOAT:
            if (*(const float *)from != 0 || signbit(*(const float *)from))
                *(float *)to = *(const float *)from + 0.0f;
            break;
        case LIGHT_OPTION_DOUBLE:
            if (*(const double *)from != 0 || signbit(*(const double *)from))
                *(double *)to = *(const double *)from + 0.0;
            break;
        case LIGHT_OPTION_SWITCH:
            if (*(const light_switch *)from) *(light_switch *)to = *(const light_switch *)from;
            break;
        case LIGHT_OPTION_STRING:
            if (*(const char *const *)from) *(const char **)to = *(const char *const *)from;
            break;
        case LIGHT_OPTION_END_: break;
        }
    }
}

const light_option *light_option_find(const light_option *options, const char *name)
{
    for (const light_option *o = options; o && o->name; o++)
        if (!strcmp(o->name, name)) return o;
    return NULL;
}

/* ---- from text ---------------------------------------------------------- */

static bool parse_bool(const char *text, bool *value)
{
    static const char *const words[][2] = {{"false", "true"}, {"no", "yes"}, {"off", "on"}, {"0", "1"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int v = 0; v < 2; v++)
            if (!strcmp(text, words[i][v])) {
                *value = v;
                return true;
            }
    return false;
}

/* Whole numbers, also as 1e6. */
static bool parse_integer(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    if (end != text && !*end && errno == 0) {
        *value = whole;
        return true;
    }
    double number = strtod(text, &end);
    if (end == text || *end || !(fabs(number) < 9e15) || number != floor(number)) return false;
    *value = (int64_t)number;
    return true;
}

static bool parse_number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && !*end && !isnan(*value);
}

static light_status wrong_type(const char *where, const char *text, const char *expected)
{
    return light_fail(LIGHT_ERR_ARGUMENT, "%s \"%s\": expected %s", where, text, expected);
}

static light_status check_range(const light_option *o, double value, const char *where, const char *text)
{
    bool any = o->low == 0 && o->high == 0;
    if (o->type == LIGHT_OPTION_FLOAT && isfinite(value) &&
        fabs(value) >= 0x1.ffffffp127) /* rounds to infinity */
        return light_fail(LIGHT_ERR_ARGUMENT, "%s %s: is too large", where, text);
    /* An infinite default must come back from a configuration file. */
    if (any ? isfinite(value) || value == o->number : value >= o->low && value <= o->high) return LIGHT_OK;
    if (any) return wrong_type(where, text, "a finite number");
    if (isinf(o->high))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s %s: must be at least %.15g", where, text, o->low);
    if (isinf(o->low))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s %s: must be at most %.15g", where, text, o->high);
    return light_fail(LIGHT_ERR_ARGUMENT, "%s %s: must be between %.15g and %.15g", where, text, o->low,
                      o->high);
}

static light_status check_choice(const light_option *o, const char *text, const char *where)
{
    light_nearest nearest = {.wanted = text};
    if (!o->choices) return LIGHT_OK;
    for (const char *at = o->choices; *at;) {
        size_t length = strcspn(at, "|");
        char *choice = light_strndup(at, length);
        if (!choice) return LIGHT_ERR_MEMORY;
        bool same = !strcmp(choice, text);
        light_nearest_offer(&nearest, choice);
        bool suggest = nearest.best == choice;
        if (suggest && !(nearest.best = keep(choice))) nearest.best = NULL; /* outlives `choice` */
        light_free(choice);
        if (same) return LIGHT_OK;
        at += length + (at[length] == '|');
    }
    return light_fail(LIGHT_ERR_ARGUMENT, "%s \"%s\": expected one of %s%s%s%s", where, text, o->choices,
                      nearest.best ? " (did you mean " : "", nearest.best ? nearest.best : "",
                      nearest.best ? "?)" : "");
}

static light_status set_integer(const light_option *o, void *object, const char *text, const char *where)
{
    int64_t value;
    if (!parse_integer(text, &value)) return wrong_type(where, text, "a whole number");
    if (o->type == LIGHT_OPTION_INT && (value < INT_MIN || value > INT_MAX))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s %s: is too large", where, text);
    LIGHT_TRY(check_range(o, (double)value, where, text));
    if (o->type == LIGHT_OPTION_INT)
        *(int *)((char *)object + o->offset) = (int)value;
    else
        *(int64_t *)((char *)object + o->offset) = value;
    return LIGHT_OK;
}

light_status light_option_set(const light_option *o, void *object, const char *text, const char *where)
{
    bool flag;
    double number;
    switch (o->type) {
    case LIGHT_OPTION_BOOL:
    case LIGHT_OPTION_SWITCH:
        if (!parse_bool(text, &flag)) return wrong_type(where, text, "true or false");
        set_number(o, object, o->type == LIGHT_OPTION_BOOL ? flag : flag ? LIGHT_ON : LIGHT_OFF);
        return LIGHT_OK;
    case LIGHT_OPTION_INT:
    case LIGHT_OPTION_INT64: return set_integer(o, object, text, where);
    case LIGHT_OPTION_FLOAT:
    case LIGHT_OPTION_DOUBLE:
        if (!parse_number(text, &number)) return wrong_type(where, text, "a number");
        LIGHT_TRY(check_range(o, number, where, text));
        set_number(o, object, number);
        return LIGHT_OK;
    case LIGHT_OPTION_STRING: {
        LIGHT_TRY(check_choice(o, text, where));
        const char *copy = keep(text);
        if (!copy) return LIGHT_ERR_MEMORY;
        *(const char **)((char *)object + o->offset) = copy;
        return LIGHT_OK;
    }
    case LIGHT_OPTION_END_: break;
    }
    return light_fail(LIGHT_ERR_INTERNAL, "%s: the option's table entry has no type", where);
}

/* ---- to text ------------------------------------------------------------ */

/* The shortest decimal that reads back as the same number, but 60 rather than 6e+01. */
static void format_number(double value, bool is_float, char *text, size_t bytes)
{
    int most = is_float ? 9 : 17;
    if (value == rint(value) && fabs(value) < 1e5) {
        snprintf(text, bytes, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= most; digits++) {
        snprintf(text, bytes, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (is_float ? (float)back == (float)value : back == value) return;
    }
}

char *light_option_get(const light_option *o, const void *object, char *text, size_t bytes)
{
    const void *field = (const char *)object + o->offset;
    switch (o->type) {
    case LIGHT_OPTION_BOOL: snprintf(text, bytes, "%s", *(const bool *)field ? "true" : "false"); break;
    case LIGHT_OPTION_SWITCH:
        snprintf(text, bytes, "%s", *(const light_switch *)field == LIGHT_ON ? "true" : "false");
        break;
    case LIGHT_OPTION_INT: snprintf(text, bytes, "%d", *(const int *)field); break;
    case LIGHT_OPTION_INT64: snprintf(text, bytes, "%" PRId64, *(const int64_t *)field); break;
    case LIGHT_OPTION_FLOAT: format_number((double)*(const float *)field, true, text, bytes); break;
    case LIGHT_OPTION_DOUBLE: format_number(*(const double *)field, false, text, bytes); break;
    case LIGHT_OPTION_STRING: {
        const char *value = *(const char *const *)field;
        snprintf(text, bytes, "%s", value ? value : "");
        break;
    }
    case LIGHT_OPTION_END_: snprintf(text, bytes, "%s", ""); break;
    }
    return text;
}
