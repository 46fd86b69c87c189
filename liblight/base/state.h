/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a state tree, which is what writing one to a file takes. */
#ifndef LIGHT_BASE_STATE_H
#define LIGHT_BASE_STATE_H

#include <light/state.h>

typedef enum light_state_type {
    LIGHT_STATE_GROUP,
    LIGHT_STATE_INT64,
    LIGHT_STATE_DOUBLE,
    LIGHT_STATE_STRING,
    LIGHT_STATE_INT64S,
    LIGHT_STATE_DOUBLES,
    LIGHT_STATE_BYTES,
} light_state_type;

/* One name of a group. What it points to belongs to the state. */
typedef struct light_state_entry {
    const char *name;
    light_state_type type;
    const light_state *group; /* LIGHT_STATE_GROUP only */
    const void *data;         /* the number, the text, the array; of a group NULL */
    size_t count;             /* elements; of a string its length, without the NUL */
} light_state_entry;

/* How many names the group holds, and the one at `index`, in the order in which they were first put. */
size_t light_state_count(const light_state *state);
light_state_entry light_state_at(const light_state *state, size_t index);

/* Bytes of one element of a type; 0 for a group. */
size_t light_state_type_size(light_state_type type);

/* "loops/fit" of a group in its tree, "" of the root, into `text`, which it returns. Cut when too long. */
char *light_state_path(const light_state *state, char *text, size_t bytes);

/* The same names, types and bits, in the same order. NULL counts as empty. */
bool light_state_equal(const light_state *a, const light_state *b);

#endif
