/* SPDX-License-Identifier: Apache-2.0 */
/* Loggers: where metrics go. A user's struct has a light_logger first. */
#ifndef LIGHT_LOGGER_H
#define LIGHT_LOGGER_H

#include <light/callback.h>

typedef struct light_logger light_logger;
typedef struct light_logger_vtable light_logger_vtable;

typedef struct light_metric {
    const char *name;
    double value;
} light_metric;

struct light_logger {
    const light_logger_vtable *vtable;
    bool owned; /* made by light_logger_new: the trainer frees it */
};

struct light_logger_vtable {
    size_t size; /* the first three by LIGHT_LOGGER */
    const char *name;
    size_t instance_size;
    const light_option *options;
    void (*free)(light_logger *self);
    /* The run begins, or goes on from `resumed_step` (-1: it is new): what was logged beyond it is dropped. */
    light_status (*begin)(light_logger *self, light_trainer *t, const char *folder, int64_t resumed_step);
    /* n metrics at optimizer step `step`; the last one is always "epoch". */
    light_status (*log_metrics)(light_logger *self, int64_t step, const light_metric *metrics, int n);
    light_status (*save)(light_logger *self); /* everything so far reaches the disk */
    /* The run is over: LIGHT_OK, LIGHT_ERR_INTERRUPTED, or how it failed. */
    light_status (*finalize)(light_logger *self, light_status status);
};

#define LIGHT_LOGGER(type) .size = sizeof(light_logger_vtable), .name = #type, .instance_size = sizeof(type)

LIGHT_API light_logger *light_logger_new(const light_logger_vtable *vtable);
LIGHT_API void light_logger_free(light_logger *logger);

/* metrics.csv in the run's folder: one row a step, one column a metric. */
LIGHT_API light_logger *light_csv_logger(void);

#endif
