/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of named values: what callbacks, loops, loaders, schedules and modules put into a checkpoint and get back. It
 * is kept in memory; the checkpoint writes each group as an HDF5 group and each value as a small dataset.
 *
 *     LIGHT_TRY(light_state_put(state, "best", p->best));
 *     LIGHT_TRY(light_state_get(state, "best", &p->best));
 */
#ifndef LIGHT_STATE_H
#define LIGHT_STATE_H

#include <light/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct light_state light_state;

LIGHT_API light_state *light_state_new(void); /* NULL when out of memory */
LIGHT_API void light_state_free(light_state *state);

/* The group called `name`, made when it is not there (put) or NULL when it is not (get). It belongs to `state`. */
LIGHT_API light_state *light_state_group(light_state *state, const char *name);
LIGHT_API const light_state *light_state_find_group(const light_state *state, const char *name);
LIGHT_API bool light_state_has(const light_state *state, const char *name);
/* Nothing has been put. */
LIGHT_API bool light_state_empty(const light_state *state);

/* Numbers, bools and strings by the type of `value`; putting a name again replaces it. A get of a name that is not
 * there, or of another type (an integer is not a string; numbers convert when nothing is lost), is an error that names
 * it and leaves *value alone. A string got belongs to the state. */
#define light_state_put(state, name, value)                                                                  \
    _Generic((value),                                                                                        \
        float: light_state_put_double,                                                                       \
        double: light_state_put_double,                                                                      \
        char *: light_state_put_string,                                                                      \
        const char *: light_state_put_string,                                                                \
        default: light_state_put_int64)(state, name, value)
#define light_state_get(state, name, value)                                                                  \
    _Generic((value),                                                                                        \
        float *: light_state_get_float,                                                                      \
        double *: light_state_get_double,                                                                    \
        bool *: light_state_get_bool,                                                                        \
        int *: light_state_get_int,                                                                          \
        const char **: light_state_get_string,                                                               \
        uint64_t *: light_state_get_uint64,                                                                  \
        int64_t *: light_state_get_int64)(state, name, value)

LIGHT_API light_status light_state_put_double(light_state *state, const char *name, double value);
LIGHT_API light_status light_state_put_int64(light_state *state, const char *name, int64_t value);
LIGHT_API light_status light_state_put_string(light_state *state, const char *name, const char *value);
/* Arrays and raw bytes; copied. */
LIGHT_API light_status light_state_put_doubles(light_state *state, const char *name, const double *values,
                                               size_t n);
LIGHT_API light_status light_state_put_int64s(light_state *state, const char *name, const int64_t *values,
                                              size_t n);
LIGHT_API light_status light_state_put_bytes(light_state *state, const char *name, const void *bytes,
                                             size_t n);

LIGHT_API light_status light_state_get_float(const light_state *state, const char *name, float *value);
LIGHT_API light_status light_state_get_double(const light_state *state, const char *name, double *value);
LIGHT_API light_status light_state_get_bool(const light_state *state, const char *name, bool *value);
LIGHT_API light_status light_state_get_int(const light_state *state, const char *name, int *value);
LIGHT_API light_status light_state_get_int64(const light_state *state, const char *name, int64_t *value);
LIGHT_API light_status light_state_get_uint64(const light_state *state, const char *name, uint64_t *value);
LIGHT_API light_status light_state_get_string(const light_state *state, const char *name, const char **value);
/* The array itself, which belongs to the state, and its length. */
LIGHT_API light_status light_state_get_doubles(const light_state *state, const char *name,
                                               const double **values, size_t *n);
LIGHT_API light_status light_state_get_int64s(const light_state *state, const char *name,
                                              const int64_t **values, size_t *n);
LIGHT_API light_status light_state_get_bytes(const light_state *state, const char *name, const void **bytes,
                                             size_t *n);

#endif
