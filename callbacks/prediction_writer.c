/* SPDX-License-Identifier: Apache-2.0 */
/* PredictionWriter: one row for each predicted sample, its index in the dataset and the prediction's values. Of several
 * processes each writes a file of its own, with the samples that it has predicted. */
#include "callbacks/builtin.h"

#include "base/memory.h"
#include "base/string.h"

#include <light/message.h>
#include <light/trainer.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef struct prediction_writer {
    light_callback base;
    const char *path;
    FILE *file;
    char *name; /* of the file */
    double *values;
    size_t capacity;
} prediction_writer;

static const light_option options[] = {
    LIGHT_OPTION(prediction_writer, path, "", "file; empty: predictions.csv in the checkpoint's run"),
    LIGHT_OPTIONS_END,
};

static void close_file(prediction_writer *w)
{
    if (w->file) fclose(w->file);
    w->file = NULL;
    light_free(w->name);
    w->name = NULL;
}

static void free_writer(light_callback *self)
{
    prediction_writer *w = (prediction_writer *)self;
    close_file(w);
    light_free(w->values);
}

/* "predictions.csv", and "predictions-0-of-4.csv" of rank 0 of 4. */
static char *part_of_rank(char *path, const light_trainer *t)
{
    int size = light_trainer_world_size(t);
    if (size == 1 || !path) return path;
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    size_t stem = dot ? (size_t)(dot - path) : strlen(path);
    char *part =
        light_format("%.*s-%d-of-%d%s", (int)stem, path, light_trainer_global_rank(t), size, path + stem);
    light_free(path);
    return part;
}

static void on_predict_start(light_callback *self, light_trainer *t)
{
    prediction_writer *w = (prediction_writer *)self;
    const char *folder = light_trainer_log_dir(t);
    close_file(w);
    w->name = w->path[0] ? light_strdup(w->path)
                         : light_format("%s%spredictions.csv", folder, folder[0] ? "/" : "");
    w->name = part_of_rank(w->name, t);
    if (w->name) w->file = fopen(w->name, "w");
    if (!w->file)
        light_trainer_fail(t, LIGHT_ERR_IO, "cannot write predictions to %s: %s", w->name ? w->name : "",
                           strerror(errno));
}

static light_status read_values(prediction_writer *w, const light_tensor *prediction, size_t n)
{
    if (n > w->capacity) {
        double *grown = light_realloc(w->values, n * sizeof *grown);
        if (!grown) return LIGHT_ERR_MEMORY;
        w->values = grown;
        w->capacity = n;
    }
    return light_tensor_read(prediction, LIGHT_F64, w->values, n * sizeof *w->values);
}

static light_status write_batch(prediction_writer *w, const light_batch *batch,
                                const light_tensor *prediction)
{
    char text[256];
    size_t n = (size_t)light_numel(prediction), width = batch->size > 0 ? n / (size_t)batch->size : 0;
    if (light_ndim(prediction) == 0 || light_dim(prediction, 0) != batch->size)
        return light_fail(
            LIGHT_ERR_SHAPE,
            "predict_step returned shape %s for a batch of %lld: the first dim must be the samples",
            light_shape_format(light_shape_of(prediction), text, sizeof text), (long long)batch->size);
    LIGHT_TRY(read_values(w, prediction, n));
    if (ftell(w->file) == 0) {
        fprintf(w->file, "index");
        for (size_t j = 0; j < width; j++)
            width == 1 ? fprintf(w->file, ",prediction") : fprintf(w->file, ",prediction_%zu", j);
        fprintf(w->file, "\n");
    }
    for (int64_t i = 0; i < batch->size; i++) {
        fprintf(w->file, "%lld", (long long)batch->indices[i]);
        for (size_t j = 0; j < width; j++) fprintf(w->file, ",%.9g", w->values[(size_t)i * width + j]);
        fprintf(w->file, "\n");
    }
    if (ferror(w->file)) return light_fail(LIGHT_ERR_IO, "cannot write %s: %s", w->name, strerror(errno));
    return LIGHT_OK;
}

static void on_predict_batch_end(light_callback *self, light_trainer *t, const light_batch *batch,
                                 light_tensor *prediction)
{
    prediction_writer *w = (prediction_writer *)self;
    if (!w->file || !prediction) return;
    light_status status = write_batch(w, batch, prediction);
    if (status != LIGHT_OK) light_trainer_fail(t, status, "%s", light_error_message());
}

static void on_predict_end(light_callback *self, light_trainer *t)
{
    prediction_writer *w = (prediction_writer *)self;
    if (w->file && fflush(w->file))
        light_trainer_fail(t, LIGHT_ERR_IO, "cannot write %s: %s", w->name, strerror(errno));
    else if (w->file)
        light_message(LIGHT_MESSAGE_INFO, "predictions: %s%s", w->name,
                      light_trainer_world_size(t) > 1 ? " and those of the other processes beside it" : "");
    close_file(w);
}

const light_callback_vtable light_prediction_writer_vtable = {
    LIGHT_CALLBACK(prediction_writer),
    .options = options,
    .free = free_writer,
    .on_predict_start = on_predict_start,
    .on_predict_batch_end = on_predict_batch_end,
    .on_predict_end = on_predict_end,
};
