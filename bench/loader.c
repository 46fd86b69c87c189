/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds per sample of a shuffled loader, batch 128, over 60,000 u8 images of 28x28 with labels, normalised: what a
 * training loop would get, with 0 and with 2 workers. */
#include "common/bench.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 60000, PIXELS = 28 * 28 };

static light_status epoch(light_loader *loader, light_step *s, int64_t number, double *seconds_per_sample)
{
    double begin = bench_now();
    int64_t count = 0;
    LIGHT_TRY(light_loader_begin(loader, number, 0));
    for (;;) {
        light_batch batch;
        LIGHT_TRY(light_step_begin(s));
        LIGHT_TRY(light_loader_next(loader, s, &batch));
        if (batch.size == 0) break;
        count += batch.size;
    }
    *seconds_per_sample = (bench_now() - begin) / (double)count;
    return LIGHT_OK;
}

static light_status measure(const bench_run *run, light_loader *loader, light_step *s)
{
    double *samples = calloc((size_t)run->steps, sizeof(double)), unused;
    if (!samples) return light_fail(LIGHT_ERR_MEMORY, "no memory for %d samples", run->steps);
    light_status status = LIGHT_OK;
    for (int i = -run->warmup; i < run->steps && status == LIGHT_OK; i++)
        status = epoch(loader, s, i + run->warmup, i < 0 ? &unused : &samples[i]);
    if (status == LIGHT_OK) bench_report(run->name, samples, run->steps, NULL);
    free(samples);
    return status;
}

static light_status open_and_measure(const bench_run *run, const uint8_t *images, const int64_t *labels)
{
    const light_field fields[] = {{"image", LIGHT_U8, LIGHT_SHAPE(1, 28, 28)},
                                  {"label", LIGHT_I64, LIGHT_SCALAR}};
    const void *arrays[] = {images, labels};
    light_dataset *data = NULL;
    light_loader *loader = NULL;
    light_step *s = NULL;
    light_status status = light_memory_dataset_open(&data, fields, 2, SAMPLES, arrays);
    if (status == LIGHT_OK) status = light_step_new(&s, .seed = 1);
    if (status == LIGHT_OK) {
        loader = light_loader_new(data, .batch_size = 128, .shuffle = true, .seed = 1,
                                  .num_workers = run->name[strlen(run->name) - 1] - '0',
                                  .transform = light_normalize(0, .mean = 0.2860f, .std = 0.3530f));
        status = loader ? measure(run, loader, s) : LIGHT_ERR_MEMORY;
    }
    light_loader_free(loader);
    light_dataset_free(data);
    light_step_free(s);
    return status;
}

int main(int argc, char **argv)
{
    const char *const cases[] = {"loader_w0", "loader_w2", NULL};
    bench_run run = bench_arguments(argc, argv, cases);
    bench_defaults(&run, 1, 5);
    uint8_t *images = malloc((size_t)SAMPLES * PIXELS);
    int64_t *labels = malloc(SAMPLES * sizeof(*labels));
    light_status status =
        images && labels ? LIGHT_OK : light_fail(LIGHT_ERR_MEMORY, "no memory for the images");
    if (status == LIGHT_OK) {
        for (size_t i = 0; i < (size_t)SAMPLES * PIXELS; i++) images[i] = (uint8_t)(i * 2654435761u >> 13);
        for (int i = 0; i < SAMPLES; i++) labels[i] = i % 10;
        status = open_and_measure(&run, images, labels);
    }
    free(images);
    free(labels);
    return bench_exit(status);
}
