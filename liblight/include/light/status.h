/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and the text of the last failure. */
#ifndef LIGHT_STATUS_H
#define LIGHT_STATUS_H

#if defined(__GNUC__)
#define LIGHT_API                __attribute__((visibility("default")))
#define LIGHT_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define LIGHT_API
#define LIGHT_PRINTF(fmt, first)
#endif

/* code, text. Members are only ever appended. */
#define LIGHT_STATUS_MAP(X)                                                                                  \
    X(OK, "ok")                                                                                              \
    X(ERR_ARGUMENT, "invalid argument")                                                                      \
    X(ERR_SHAPE, "shapes do not fit")                                                                        \
    X(ERR_DTYPE, "dtype not accepted")                                                                       \
    X(ERR_MEMORY, "out of memory")                                                                           \
    X(ERR_IO, "input/output error")                                                                          \
    X(ERR_FORMAT, "damaged or unknown format")                                                               \
    X(ERR_NOT_FOUND, "not found")                                                                            \
    X(ERR_UNSUPPORTED, "not supported here")                                                                 \
    X(ERR_STATE, "called at the wrong time")                                                                 \
    X(ERR_NUMERIC, "not a finite number")                                                                    \
    X(ERR_INTERRUPTED, "interrupted")                                                                        \
    X(ERR_USER, "failure reported by user code")                                                             \
    X(ERR_INTERNAL, "internal error")                                                                        \
    X(ERR_PEER, "another process of the job has failed")

typedef enum light_status {
#define X(code, text) LIGHT_##code,
    LIGHT_STATUS_MAP(X)
#undef X
} light_status;

/* The name of a status, such as "invalid argument". Never NULL. */
LIGHT_API const char *light_status_text(light_status status);

/* The text of this thread's last failure, one line, never NULL; empty before the first.
 * Valid until the next failing call of this thread. */
LIGHT_API const char *light_error_message(void);
/* Its status, for functions that return NULL after a failure. LIGHT_OK before the first. */
LIGHT_API light_status light_error_status(void);

/* Records a failure of this thread and returns `status`, so that code can write
 * `return light_fail(LIGHT_ERR_ARGUMENT, "...")`. User hooks call it too. */
LIGHT_API light_status light_fail(light_status status, const char *format, ...) LIGHT_PRINTF(2, 3);

/* Puts "context: " in front of the last failure's text and returns `status`. */
LIGHT_API light_status light_fail_in(light_status status, const char *format, ...) LIGHT_PRINTF(2, 3);

/* Exit codes. A scheduler may start a job again after the last two. */
#define LIGHT_EXIT_FAILED      1
#define LIGHT_EXIT_USAGE       2   /* a wrong command line */
#define LIGHT_EXIT_INTERRUPTED 130 /* Ctrl-C */
#define LIGHT_EXIT_REQUEUE     75 /* stopped by SIGUSR1 or SIGTERM with its state saved: start again to go on */
#define LIGHT_EXIT_PEER        76 /* another process of the job died, hung or was cut off */

/* What main returns when a run has ended with `status`: 0, or one of these. */
LIGHT_API int light_exit_code(light_status status);

/* Leaves the calling function with the status of `expression` unless it is LIGHT_OK. */
#define LIGHT_TRY(expression)                                                                                \
    do {                                                                                                     \
        light_status light_try_status_ = (expression);                                                       \
        if (light_try_status_ != LIGHT_OK) return light_try_status_;                                         \
    } while (0)

/* The same with a clean-up label; `status` is the function's result variable. */
#define LIGHT_TRY_GOTO(status, expression, label)                                                            \
    do {                                                                                                     \
        (status) = (expression);                                                                             \
        if ((status) != LIGHT_OK) goto label;                                                                \
    } while (0)

/* A setting with three states, for options whose default is not "off". `true` reads as LIGHT_ON. */
typedef enum light_switch { LIGHT_DEFAULT = 0, LIGHT_ON = 1, LIGHT_OFF = 2 } light_switch;

/* A zero that is meant, for numbers in options whose default is not zero: minus zero, which arithmetic takes for zero.
 * light_exactly is for a value that may turn out to be zero. */
#define LIGHT_ZERO (-0.0)
static inline double light_exactly(double value)
{
    return value == 0 ? LIGHT_ZERO : value;
}

#endif
