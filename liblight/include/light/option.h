/* SPDX-License-Identifier: Apache-2.0 */
/* Options: a table that says which fields of a struct a person may set. One table feeds the command line, YAML files,
 * environment, --help, --print_config, the hyperparameters in checkpoints and every logger.
 *
 *     static const light_option convnet_options[] = {
 *         LIGHT_OPTION(convnet, hidden, 128,  "width of the hidden layer"),
 *         LIGHT_OPTION(convnet, lr,     1e-3, "peak learning rate"),
 *         LIGHT_OPTIONS_END
 *     };
 */
#ifndef LIGHT_OPTION_H
#define LIGHT_OPTION_H

#include <light/status.h>

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum light_option_type {
    LIGHT_OPTION_END_ = 0,
    LIGHT_OPTION_BOOL,   /* bool */
    LIGHT_OPTION_INT,    /* int */
    LIGHT_OPTION_INT64,  /* int64_t */
    LIGHT_OPTION_FLOAT,  /* float */
    LIGHT_OPTION_DOUBLE, /* double */
    LIGHT_OPTION_SWITCH, /* light_switch: true or false */
    LIGHT_OPTION_STRING, /* const char *; what was set is owned by the configuration */
} light_option_type;

typedef struct light_option {
    const char *name;
    light_option_type type;
    size_t offset; /* of the field in the struct */
    double number; /* the default, by type */
    const char *string;
    const char *help;
    double low, high;    /* accepted range, both ends included; both 0: any */
    const char *choices; /* "min|max": accepted strings; NULL: any */
} light_option;

#define LIGHT_OPTION_TYPE_(struct_type, field)                                                               \
    _Generic(((struct_type *)0)->field,                                                                      \
        bool: LIGHT_OPTION_BOOL,                                                                             \
        int: LIGHT_OPTION_INT,                                                                               \
        long: LIGHT_OPTION_INT64,                                                                            \
        long long: LIGHT_OPTION_INT64,                                                                       \
        float: LIGHT_OPTION_FLOAT,                                                                           \
        double: LIGHT_OPTION_DOUBLE,                                                                         \
        light_switch: LIGHT_OPTION_SWITCH,                                                                         \
        char *: LIGHT_OPTION_STRING,                                                                         \
        const char *: LIGHT_OPTION_STRING)
#define LIGHT_OPTION_FIELDS_(struct_type, field, value, text)                                                \
    .name = #field, .type = LIGHT_OPTION_TYPE_(struct_type, field), .offset = offsetof(struct_type, field),  \
    .number = _Generic((value), char *: 0.0, const char *: 0.0, default: (value)),                           \
    .string = _Generic((value), char *: (value), const char *: (value), default: NULL), .help = text

/* field, default, help */
#define LIGHT_OPTION(struct_type, field, value, help)                                                        \
    {                                                                                                        \
        LIGHT_OPTION_FIELDS_(struct_type, field, value, help)                                                \
    }
/* a number with limits, both included (INFINITY for none) */
#define LIGHT_OPTION_RANGE(struct_type, field, value, lowest, highest, help)                                 \
    {                                                                                                        \
        LIGHT_OPTION_FIELDS_(struct_type, field, value, help), .low = (lowest), .high = (highest)            \
    }
/* a string out of "a|b|c" */
#define LIGHT_OPTION_CHOICE(struct_type, field, value, list, help)                                           \
    {                                                                                                        \
        LIGHT_OPTION_FIELDS_(struct_type, field, value, help), .choices = (list)                             \
    }
/* a field of an options struct that is the `member` of another */
#define LIGHT_OPTION_IN(struct_type, member, field, value, help)                                             \
    {                                                                                                        \
        LIGHT_OPTION_IN_FIELDS_(struct_type, member, field, value, help)                                     \
    }
#define LIGHT_OPTION_IN_CHOICE(struct_type, member, field, value, list, help)                                \
    {                                                                                                        \
        LIGHT_OPTION_IN_FIELDS_(struct_type, member, field, value, help), .choices = (list)                  \
    }
#define LIGHT_OPTION_IN_FIELDS_(struct_type, member, field, value, text)                                     \
    .name = #field, .type = LIGHT_OPTION_TYPE_(struct_type, member.field),                                   \
    .offset = offsetof(struct_type, member.field),                                                           \
    .number = _Generic((value), char *: 0.0, const char *: 0.0, default: (value)),                           \
    .string = _Generic((value), char *: (value), const char *: (value), default: NULL), .help = text
#define LIGHT_OPTIONS_END                                                                                    \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }

/* Writes every option's default into `object`. */
LIGHT_API void light_options_default(const light_option *options, void *object);
/* Options as C programs write them, where zero means the default and LIGHT_ZERO_COUNT, or -0.0, zero itself: writes
 * each field that is not zero in `given` into `object`. `shift` is where the options struct lies in `object`. */
LIGHT_API void light_options_merge(const light_option *options, void *object, const void *given,
                                   size_t shift);
#define LIGHT_ZERO_COUNT INT64_MIN
/* Sets one field from text, as the command line does: "3e-4", "true", "adam". Checks type, range and choices. Strings
 * are copied and live as long as the process. `where` begins the message, such as "--model.lr". */
LIGHT_API light_status light_option_set(const light_option *option, void *object, const char *text,
                                        const char *where);
/* The field as text that light_option_set reads back to the same value. Returns `text`. */
LIGHT_API char *light_option_get(const light_option *option, const void *object, char *text, size_t bytes);
/* The option called `name`, or NULL. */
LIGHT_API const light_option *light_option_find(const light_option *options, const char *name);

#endif
