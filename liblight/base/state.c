/* SPDX-License-Identifier: Apache-2.0 */
/* The state tree: groups of named values in memory. Groups are small, so a name is looked for one by one. */
#include "base/state.h"

#include "base/memory.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of a string or array `array` holds the elements, of a number `number` does. */
typedef struct state_value {
    char *name;
    light_state_type type;
    union {
        int64_t i;
        double d;
    } number;
    void *array;
    size_t count;
    light_state *group;
} state_value;

struct light_state {
    const light_state *parent;
    const char *name; /* the parent's copy; "" for the root */
    state_value *values;
    size_t count, capacity;
};

light_state *light_state_new(void)
{
    light_state *state = light_calloc(1, sizeof *state);
    if (state) state->name = "";
    return state;
}

static void clear_value(state_value *value)
{
    light_free(value->array);
    light_state_free(value->group);
    light_free(value->name);
}

void light_state_free(light_state *state)
{
    if (!state) return;
    for (size_t i = 0; i < state->count; i++) clear_value(&state->values[i]);
    light_free(state->values);
    light_free(state);
}

char *light_state_path(const light_state *state, char *text, size_t bytes)
{
    if (bytes == 0) return text;
    text[0] = '\0';
    if (!state || !state->parent) return text;
    light_state_path(state->parent, text, bytes);
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s%s", used ? "/" : "", state->name);
    return text;
}

static light_status fail_at(light_status status, const light_state *state, const char *name, const char *what)
{
    char path[512];

    light_state_path(state, path, sizeof path);
    return light_fail(status, "state '%s%s%s' %s", path, path[0] ? "/" : "", name, what);
}

static state_value *find(const light_state *state, const char *name)
{
    if (!state || !name) return NULL;
    for (size_t i = 0; i < state->count; i++) {
        if (strcmp(state->values[i].name, name) == 0) return &state->values[i];
    }
    return NULL;
}

/* Appends a value called `name`, of no type yet. NULL after light_fail. */
static state_value *append(light_state *state, const char *name)
{
    if (state->count == state->capacity) {
        size_t capacity = state->capacity ? state->capacity * 2 : 8;
        state_value *larger = light_realloc(state->values, capacity * sizeof *larger);
        if (!larger) return NULL;
        state->values = larger;
        state->capacity = capacity;
    }
    char *copy = light_strdup(name);
    if (!copy) return NULL;
    state_value *value = &state->values[state->count++];
    *value = (state_value){.name = copy};
    return value;
}

light_state *light_state_group(light_state *state, const char *name)
{
    if (!state || !name || !name[0]) {
        light_fail(LIGHT_ERR_ARGUMENT, "a state group needs a state to be in and a name");
        return NULL;
    }
    state_value *value = find(state, name);
    if (value) {
        if (!value->group) fail_at(LIGHT_ERR_ARGUMENT, state, name, "is a value, it cannot become a group");
        return value->group;
    }
    light_state *group = light_state_new();
    if (!group) return NULL;
    value = append(state, name);
    if (!value) {
        light_state_free(group);
        return NULL;
    }
    group->parent = state;
    group->name = value->name;
    value->group = group;
    return group;
}

const light_state *light_state_find_group(const light_state *state, const char *name)
{
    const state_value *value = find(state, name);
    return value ? value->group : NULL;
}

bool light_state_has(const light_state *state, const char *name)
{
    return find(state, name) != NULL;
}

bool light_state_empty(const light_state *state)
{
    return !state || state->count == 0;
}

/* ---- putting ------------------------------------------------------------ */

/* The place for a value called `name`: a new one, or the old one with its contents dropped. Takes over `array`, which
 * is freed on failure. */
static light_status place(light_state *state, const char *name, light_state_type type, void *array,
                          size_t count, state_value **out)
{
    light_status status = LIGHT_OK;
    state_value *value = find(state, name);

    if (!state || !name || !name[0])
        status = light_fail(LIGHT_ERR_ARGUMENT, "a state value needs a state to be in and a name");
    else if (value && value->group)
        status = fail_at(LIGHT_ERR_ARGUMENT, state, name, "is a group, it cannot become a value");
    else if (!value && !(value = append(state, name)))
        status = LIGHT_ERR_MEMORY;
    if (status != LIGHT_OK) {
        light_free(array);
        return status;
    }
    light_free(value->array);
    value->type = type;
    value->array = array;
    value->count = count;
    *out = value;
    return LIGHT_OK;
}

light_status light_state_put_double(light_state *state, const char *name, double number)
{
    state_value *value = NULL;
    LIGHT_TRY(place(state, name, LIGHT_STATE_DOUBLE, NULL, 1, &value));
    value->number.d = number;
    return LIGHT_OK;
}

light_status light_state_put_int64(light_state *state, const char *name, int64_t number)
{
    state_value *value = NULL;
    LIGHT_TRY(place(state, name, LIGHT_STATE_INT64, NULL, 1, &value));
    value->number.i = number;
    return LIGHT_OK;
}

static light_status put_array(light_state *state, const char *name, light_state_type type, const void *from,
                              size_t count)
{
    size_t size = light_state_type_size(type);
    if (count > SIZE_MAX / 16 || (count && !from))
        return fail_at(LIGHT_ERR_ARGUMENT, state, name ? name : "", "is put without its elements");
    /* A NUL behind the elements, which makes text of a string. */
    char *copy = light_alloc(count * size + 1);
    if (!copy) return LIGHT_ERR_MEMORY;
    if (count) memcpy(copy, from, count * size);
    copy[count * size] = '\0';
    state_value *value = NULL;
    return place(state, name, type, copy, count, &value);
}

light_status light_state_put_string(light_state *state, const char *name, const char *text)
{
    return put_array(state, name, LIGHT_STATE_STRING, text, text ? strlen(text) : SIZE_MAX);
}

light_status light_state_put_doubles(light_state *state, const char *name, const double *values, size_t n)
{
    return put_array(state, name, LIGHT_STATE_DOUBLES, values, n);
}

light_status light_state_put_int64s(light_state *state, const char *name, const int64_t *values, size_t n)
{
    return put_array(state, name, LIGHT_STATE_INT64S, values, n);
}

light_status light_state_put_bytes(light_state *state, const char *name, const void *bytes, size_t n)
{
    return put_array(state, name, LIGHT_STATE_BYTES, bytes, n);
}

/* ---- getting ------------------------------------------------------------ */

static const char *type_text(light_state_type type)
{
    switch (type) {
    case LIGHT_STATE_GROUP: return "a group";
    case LIGHT_STATE_INT64: return "a whole number";
    case LIGHT_STATE_DOUBLE: return "a number";
    case LIGHT_STATE_STRING: return "a string";
    case LIGHT_STATE_INT64S: return "an array of whole numbers";
    case LIGHT_STATE_DOUBLES: return "an array of numbers";
    case LIGHT_STATE_BYTES: return "bytes";
    }
    return "unknown";
}

static light_status fail_type(const light_state *state, const state_value *value, const char *wanted)
{
    char what[128];
    light_state_type type = value->group ? LIGHT_STATE_GROUP : value->type;

    snprintf(what, sizeof what, "is %s, but %s is asked for", type_text(type), wanted);
    return fail_at(LIGHT_ERR_ARGUMENT, state, value->name, what);
}

static light_status get_value(const light_state *state, const char *name, const state_value **out)
{
    *out = find(state, name);
    if (*out) return LIGHT_OK;
    return fail_at(LIGHT_ERR_NOT_FOUND, state, name ? name : "", "is not there");
}

/* A whole number, from either kind of number. */
static light_status get_whole(const light_state *state, const char *name, int64_t *out)
{
    const state_value *value;
    LIGHT_TRY(get_value(state, name, &value));
    if (value->group) return fail_type(state, value, "a whole number");
    if (value->type == LIGHT_STATE_INT64) {
        *out = value->number.i;
        return LIGHT_OK;
    }
    if (value->type != LIGHT_STATE_DOUBLE) return fail_type(state, value, "a whole number");
    double d = value->number.d;
    /* 2^63 itself does not fit; the comparison is false for NaN. */
    if (!(d >= -0x1p63 && d < 0x1p63) || d != floor(d)) return fail_type(state, value, "a whole number");
    *out = (int64_t)d;
    return LIGHT_OK;
}

light_status light_state_get_double(const light_state *state, const char *name, double *out)
{
    const state_value *value;
    LIGHT_TRY(get_value(state, name, &value));
    if (value->group) return fail_type(state, value, "a number");
    if (value->type == LIGHT_STATE_DOUBLE) {
        *out = value->number.d;
        return LIGHT_OK;
    }
    if (value->type != LIGHT_STATE_INT64) return fail_type(state, value, "a number");
    double d = (double)value->number.i;
    if (d >= 0x1p63 || (int64_t)d != value->number.i)
        return fail_at(LIGHT_ERR_ARGUMENT, state, name, "does not fit in a double without loss");
    *out = d;
    return LIGHT_OK;
}

light_status light_state_get_float(const light_state *state, const char *name, float *out)
{
    double d;
    LIGHT_TRY(light_state_get_double(state, name, &d));
    if (!isnan(d) && (double)(float)d != d)
        return fail_at(LIGHT_ERR_ARGUMENT, state, name, "does not fit in a float without loss");
    *out = (float)d;
    return LIGHT_OK;
}

light_status light_state_get_int64(const light_state *state, const char *name, int64_t *out)
{
    int64_t i;
    LIGHT_TRY(get_whole(state, name, &i));
    *out = i;
    return LIGHT_OK;
}

/* Unsigned numbers are put through int64_t: the same 64 bits come back, seeds above 2^63 too. */
light_status light_state_get_uint64(const light_state *state, const char *name, uint64_t *out)
{
    int64_t i;
    LIGHT_TRY(get_whole(state, name, &i));
    *out = (uint64_t)i;
    return LIGHT_OK;
}

light_status light_state_get_int(const light_state *state, const char *name, int *out)
{
    int64_t i;
    LIGHT_TRY(get_whole(state, name, &i));
    if (i < INT_MIN || i > INT_MAX) return fail_at(LIGHT_ERR_ARGUMENT, state, name, "does not fit in an int");
    *out = (int)i;
    return LIGHT_OK;
}

light_status light_state_get_bool(const light_state *state, const char *name, bool *out)
{
    int64_t i;
    LIGHT_TRY(get_whole(state, name, &i));
    if (i != 0 && i != 1) return fail_at(LIGHT_ERR_ARGUMENT, state, name, "is neither 0 nor 1, as a bool is");
    *out = i != 0;
    return LIGHT_OK;
}

static light_status get_array(const light_state *state, const char *name, light_state_type type,
                              const state_value **out)
{
    const state_value *value;
    LIGHT_TRY(get_value(state, name, &value));
    if (value->group || value->type != type) return fail_type(state, value, type_text(type));
    *out = value;
    return LIGHT_OK;
}

light_status light_state_get_string(const light_state *state, const char *name, const char **out)
{
    const state_value *value = NULL;
    LIGHT_TRY(get_array(state, name, LIGHT_STATE_STRING, &value));
    *out = value->array;
    return LIGHT_OK;
}

light_status light_state_get_doubles(const light_state *state, const char *name, const double **values,
                                     size_t *n)
{
    const state_value *value = NULL;
    LIGHT_TRY(get_array(state, name, LIGHT_STATE_DOUBLES, &value));
    *values = value->array;
    *n = value->count;
    return LIGHT_OK;
}

light_status light_state_get_int64s(const light_state *state, const char *name, const int64_t **values,
                                    size_t *n)
{
    const state_value *value = NULL;
    LIGHT_TRY(get_array(state, name, LIGHT_STATE_INT64S, &value));
    *values = value->array;
    *n = value->count;
    return LIGHT_OK;
}

light_status light_state_get_bytes(const light_state *state, const char *name, const void **bytes, size_t *n)
{
    const state_value *value = NULL;
    LIGHT_TRY(get_array(state, name, LIGHT_STATE_BYTES, &value));
    *bytes = value->array;
    *n = value->count;
    return LIGHT_OK;
}

/* ---- walking ------------------------------------------------------------ */

size_t light_state_count(const light_state *state)
{
    return state ? state->count : 0;
}

light_state_entry light_state_at(const light_state *state, size_t index)
{
    const state_value *value = &state->values[index];
    if (value->group) return (light_state_entry){.name = value->name, .group = value->group};
    return (light_state_entry){.name = value->name,
                               .type = value->type,
                               .data = value->array ? value->array : (const void *)&value->number,
                               .count = value->count};
}

size_t light_state_type_size(light_state_type type)
{
    switch (type) {
    case LIGHT_STATE_GROUP: return 0;
    case LIGHT_STATE_INT64:
    case LIGHT_STATE_INT64S: return sizeof(int64_t);
    case LIGHT_STATE_DOUBLE:
    case LIGHT_STATE_DOUBLES: return sizeof(double);
    case LIGHT_STATE_STRING:
    case LIGHT_STATE_BYTES: return 1;
    }
    return 0;
}

bool light_state_equal(const light_state *a, const light_state *b)
{
    if (light_state_count(a) != light_state_count(b)) return false;
    for (size_t i = 0; i < light_state_count(a); i++) {
        light_state_entry x = light_state_at(a, i), y = light_state_at(b, i);
        if (strcmp(x.name, y.name) != 0 || x.type != y.type || x.count != y.count) return false;
        if (x.type == LIGHT_STATE_GROUP) {
            if (!light_state_equal(x.group, y.group)) return false;
        } else if (memcmp(x.data, y.data, x.count * light_state_type_size(x.type)) != 0) {
            return false;
        }
    }
    return true;
}
