/* SPDX-License-Identifier: Apache-2.0 */
/* What the trainer tests share: a folder, small data in memory, the boring model, messages that are kept. */
#ifndef TESTS_TRAINER_LAB_H
#define TESTS_TRAINER_LAB_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"

#include <light/light.h>
#include <light/message.h>

#define MAYBE_UNUSED __attribute__((unused))

/* ---- a folder for each test --------------------------------------------- */

static char folder[64];

/* In memory where that is possible: tests that save hundreds of times would wait for the disk. */
MAYBE_UNUSED static int lab_begin(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/light-trainer-XXXXXX",
             access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp");
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    return mkdtemp(folder) ? 0 : -1;
}

MAYBE_UNUSED static int lab_end(void **state)
{
    (void)state;
    return light_remove_tree(folder) == LIGHT_OK ? 0 : -1;
}

#define lab_test(name) cmocka_unit_test_setup_teardown(name, lab_begin, lab_end)

/* folder/format, in one of a few buffers that are used in turn. */
MAYBE_UNUSED static const char *at(const char *format, ...)
{
    static char buffers[16][512];
    static int next;
    char *buffer = buffers[next++ % 16];
    int n = snprintf(buffer, sizeof buffers[0], "%s/", folder);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer + n, sizeof buffers[0] - (size_t)n, format, arguments);
    va_end(arguments);
    return buffer;
}

#define assert_ok(expression)                                                                                \
    do {                                                                                                     \
        light_status status_of_this = (expression);                                                          \
        if (status_of_this != LIGHT_OK) fail_msg("%s", light_error_message());                               \
    } while (0)

/* The status, and each of the texts in the message, which is one line. */
#define assert_fails(expression, expected, ...)                                                              \
    do {                                                                                                     \
        light_status status_of_this = (expression);                                                          \
        if (status_of_this != (expected))                                                                    \
            fail_msg("status %d, %d expected: %s", status_of_this, expected, light_error_message());         \
        const char *const parts_[] = {__VA_ARGS__};                                                          \
        for (size_t p_ = 0; p_ < sizeof parts_ / sizeof *parts_; p_++)                                       \
            if (!strstr(light_error_message(), parts_[p_]))                                                  \
                fail_msg("'%s' is not in '%s'", parts_[p_], light_error_message());                          \
        assert_null(strchr(light_error_message(), '\n'));                                                    \
    } while (0)

/* ---- messages ----------------------------------------------------------- */

static char lab_messages[1 << 16];

MAYBE_UNUSED static void lab_keep_message(void *user, light_message_level level, const char *text)
{
    size_t used = strlen(lab_messages);
    (void)user;
    snprintf(lab_messages + used, sizeof lab_messages - used, "%s%s\n",
             level == LIGHT_MESSAGE_WARNING ? "warning: " : "", text);
}

MAYBE_UNUSED static void lab_listen(light_message_level level)
{
    lab_messages[0] = '\0';
    light_message_set_sink(lab_keep_message, NULL);
    light_message_set_level(level);
}

MAYBE_UNUSED static void lab_stop_listening(void)
{
    light_message_set_sink(NULL, NULL);
    light_message_set_level(LIGHT_MESSAGE_ERROR);
}

/* How often `part` is in `text`. */
MAYBE_UNUSED static int occurrences(const char *text, const char *part)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)); p += strlen(part)) n++;
    return n;
}

/* ---- data --------------------------------------------------------------- */

#define LAB_FEATURES 32
#define LAB_SAMPLES  64
#define LAB_CLASSES  2

static float lab_x[LAB_SAMPLES][LAB_FEATURES];
static int64_t lab_y[LAB_SAMPLES];

MAYBE_UNUSED static void lab_fill(void)
{
    uint32_t state = 12345;
    for (int i = 0; i < LAB_SAMPLES; i++) {
        lab_y[i] = i % LAB_CLASSES;
        for (int j = 0; j < LAB_FEATURES; j++) {
            state = state * 1664525u + 1013904223u;
            lab_x[i][j] = (float)(state >> 8) / (float)(1 << 24) - 0.5f + 0.2f * (float)lab_y[i];
        }
    }
}

/* 64 samples of 32 features, one in a batch: as in Lightning's own tests. */
typedef struct lab_data {
    light_datamodule base;
    int64_t train_samples, val_samples, test_samples, batch_size, val_loaders;
    int workers;
    bool shuffle, drop_last;
} lab_data;

static const light_option lab_data_options[] = {
    LIGHT_OPTION(lab_data, train_samples, LAB_SAMPLES, "samples"),
    LIGHT_OPTION(lab_data, val_samples, LAB_SAMPLES, "samples"),
    LIGHT_OPTION(lab_data, test_samples, LAB_SAMPLES, "samples"),
    LIGHT_OPTION(lab_data, batch_size, 1, "samples in a batch"),
    LIGHT_OPTION(lab_data, val_loaders, 1, "validation loaders"),
    LIGHT_OPTION(lab_data, workers, 0, "threads"),
    LIGHT_OPTION(lab_data, shuffle, false, "shuffle"),
    LIGHT_OPTION(lab_data, drop_last, false, "drop the last short batch"),
    LIGHT_OPTIONS_END};

MAYBE_UNUSED static light_loader *lab_loader(lab_data *d, int64_t samples, bool shuffle)
{
    const light_field fields[] = {{"x", LIGHT_F32, LIGHT_SHAPE(LAB_FEATURES)},
                                  {"y", LIGHT_I64, LIGHT_SCALAR}};
    const void *const arrays[] = {lab_x, lab_y};
    light_dataset *dataset;
    lab_fill();
    if (light_memory_dataset_open(&dataset, fields, 2, samples, arrays) != LIGHT_OK) return NULL;
    return light_loader_new(dataset, .batch_size = d->batch_size, .shuffle = shuffle,
                            .num_workers = d->workers, .drop_last = d->drop_last);
}

/* The same samples as a stream, whose length nobody knows. */
typedef struct lab_source {
    light_dataset base;
    int64_t samples;
} lab_source;

typedef struct lab_stream {
    light_stream base;
    int64_t next;
} lab_stream;

MAYBE_UNUSED static light_status lab_stream_describe(light_dataset *self, light_field *fields, int *n)
{
    (void)self;
    fields[0] = (light_field){"x", LIGHT_F32, LIGHT_SHAPE(LAB_FEATURES)};
    fields[1] = (light_field){"y", LIGHT_I64, LIGHT_SCALAR};
    *n = 2;
    return LIGHT_OK;
}

MAYBE_UNUSED static light_status lab_stream_open(light_dataset *self, light_stream *stream)
{
    (void)self;
    ((lab_stream *)stream)->next = stream->shard;
    return LIGHT_OK;
}

MAYBE_UNUSED static light_status lab_stream_next(light_dataset *self, light_stream *stream, void *const *to,
                                                 bool *end)
{
    lab_stream *s = (lab_stream *)stream;
    if ((*end = s->next >= ((lab_source *)self)->samples)) return LIGHT_OK;
    memcpy(to[0], lab_x[s->next], sizeof lab_x[0]);
    memcpy(to[1], &lab_y[s->next], sizeof lab_y[0]);
    s->next += stream->num_shards;
    return LIGHT_OK;
}

MAYBE_UNUSED static const light_dataset_vtable lab_source_vtable = {
    LIGHT_DATASET(lab_source),      .describe = lab_stream_describe, .stream_size = sizeof(lab_stream),
    .stream_open = lab_stream_open, .stream_next = lab_stream_next,
};

MAYBE_UNUSED static light_loader *lab_stream_train(light_datamodule *self)
{
    lab_data *d = (lab_data *)self;
    light_dataset *dataset;
    lab_fill();
    if (light_dataset_new(&dataset, &lab_source_vtable) != LIGHT_OK) return NULL;
    ((lab_source *)dataset)->samples = d->train_samples;
    return light_loader_new(dataset, .batch_size = d->batch_size, .num_workers = d->workers);
}

MAYBE_UNUSED static light_loader *lab_train(light_datamodule *self)
{
    lab_data *d = (lab_data *)self;
    return lab_loader(d, d->train_samples, d->shuffle);
}

MAYBE_UNUSED static light_loader *lab_val(light_datamodule *self)
{
    lab_data *d = (lab_data *)self;
    light_loader *all = lab_loader(d, d->val_samples, false);
    for (int64_t i = 1; i < d->val_loaders; i++)
        all = light_loader_chain(all, lab_loader(d, d->val_samples, false));
    return all;
}

MAYBE_UNUSED static light_loader *lab_test_loader(light_datamodule *self)
{
    lab_data *d = (lab_data *)self;
    return lab_loader(d, d->test_samples, false);
}

MAYBE_UNUSED static const light_datamodule_vtable lab_data_vtable = {
    LIGHT_DATAMODULE(lab_data), .options = lab_data_options,        .train_dataloader = lab_train,
    .val_dataloader = lab_val,  .test_dataloader = lab_test_loader, .predict_dataloader = lab_test_loader,
};

/* Training data is a stream. */
MAYBE_UNUSED static const light_datamodule_vtable lab_stream_vtable = {
    LIGHT_DATAMODULE(lab_data),
    .options = lab_data_options,
    .train_dataloader = lab_stream_train,
    .val_dataloader = lab_val,
};

/* ---- the boring model --------------------------------------------------- */

typedef struct boring {
    light_module base;
    light_linear layer;
} boring;

MAYBE_UNUSED static light_status boring_init(light_module *self)
{
    return light_linear_init(&((boring *)self)->layer, self, "layer", .in_features = LAB_FEATURES,
                             .out_features = LAB_CLASSES);
}

MAYBE_UNUSED static light_tensor *boring_forward(light_module *self, light_step *s, light_tensor *x)
{
    return light_forward(s, &((boring *)self)->layer.base, x);
}

MAYBE_UNUSED static light_tensor *boring_loss(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *y = light_forward(s, self, batch->fields[0]);
    return light_mse_loss(s, y, light_full(s, LIGHT_SHAPE(batch->size, LAB_CLASSES), 1, LIGHT_F32));
}

MAYBE_UNUSED static light_tensor *boring_training_step(light_module *self, light_step *s,
                                                       const light_batch *batch)
{
    light_tensor *loss = boring_loss(self, s, batch);
    light_log(s, "train_loss", loss);
    return loss;
}

MAYBE_UNUSED static void boring_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_log(s, "val_loss", boring_loss(self, s, batch));
}

MAYBE_UNUSED static void boring_test_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_log(s, "test_loss", boring_loss(self, s, batch));
}

MAYBE_UNUSED static light_status boring_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.1), NULL);
}

MAYBE_UNUSED static const light_module_vtable boring_vtable = {
    LIGHT_MODULE(boring),
    .init = boring_init,
    .forward = boring_forward,
    .training_step = boring_training_step,
    .validation_step = boring_validation_step,
    .test_step = boring_test_step,
    .configure_optimizers = boring_optimizers,
};

/* ---- a run and its parts ------------------------------------------------ */

typedef struct lab {
    light_module *module;
    lab_data *data;
    light_trainer *trainer;
} lab;

MAYBE_UNUSED static lab lab_new_with(const light_module_vtable *module, const light_datamodule_vtable *data,
                                     light_trainer *trainer)
{
    lab l = {.module = light_module_new(module), .trainer = trainer};
    l.data = (lab_data *)light_datamodule_new(data);
    if (!l.module || !l.data || !trainer) fail_msg("%s", light_error_message());
    return l;
}

MAYBE_UNUSED static lab lab_new(const light_module_vtable *module, light_trainer *trainer)
{
    return lab_new_with(module, &lab_data_vtable, trainer);
}

/* The layer's weight and bias, behind one another. */
#define LAB_WEIGHTS (LAB_FEATURES * LAB_CLASSES + LAB_CLASSES)
MAYBE_UNUSED static void lab_read_weights(light_module *module, float weights[LAB_WEIGHTS])
{
    boring *b = (boring *)module;
    assert_ok(
        light_tensor_read(b->layer.weight, LIGHT_F32, weights, sizeof(float) * LAB_FEATURES * LAB_CLASSES));
    assert_ok(light_tensor_read(b->layer.bias, LIGHT_F32, weights + LAB_FEATURES * LAB_CLASSES,
                                sizeof(float) * LAB_CLASSES));
}

MAYBE_UNUSED static void lab_free(lab *l)
{
    light_trainer_free(l->trainer);
    light_module_free(l->module);
    light_datamodule_free(&l->data->base);
}

#define lab_fit(l, ...)      light_trainer_fit((l)->trainer, (l)->module, &(l)->data->base, __VA_ARGS__)
#define lab_validate(l, ...) light_trainer_validate((l)->trainer, (l)->module, &(l)->data->base, __VA_ARGS__)
#define lab_run_test(l, ...) light_trainer_test((l)->trainer, (l)->module, &(l)->data->base, __VA_ARGS__)
#define lab_predict(l, ...)  light_trainer_predict((l)->trainer, (l)->module, &(l)->data->base, __VA_ARGS__)

MAYBE_UNUSED static double metric_of(const light_trainer *t, const char *name)
{
    double value = NAN;
    if (!light_trainer_metric(t, name, &value)) fail_msg("%s has not been logged", name);
    return value;
}

/* A whole file as text, to be freed with light_free; "" when there is none. */
MAYBE_UNUSED static char *read_text(const char *path)
{
    char *text;
    size_t bytes;
    return light_file_read(path, &text, &bytes) == LIGHT_OK ? text : light_strdup("");
}

#endif
