/* SPDX-License-Identifier: Apache-2.0 */
/* Scaling images: a separable triangle filter, first along rows, then along columns. */
#include "data/formats/image.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* One axis: output i is the sum over k of weights[i * taps + k] * in[first[i] + k]. */
typedef struct {
    int taps;
    int *first;
    float *weights;
} filter;

static void filter_free(filter *f)
{
    light_free(f->first);
    light_free(f->weights);
}

/* The stretch [start, start + length) of an axis of `in` pixels becomes `out` pixels. Weights outside of the image are
 * left out, the others sum to 1. */
static light_status filter_new(filter *f, int in, double start, double length, int out)
{
    double scale = length / out, radius = scale > 1 ? scale : 1;

    f->taps = (int)ceil(radius) * 2 + 1;
    f->first = light_calloc((size_t)out, sizeof *f->first);
    f->weights = light_calloc((size_t)out * (size_t)f->taps, sizeof *f->weights);
    if (!f->first || !f->weights) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < out; i++) {
        double centre = start + (i + 0.5) * scale, sum = 0;
        int low = (int)fmax(0, floor(centre - radius + 0.5)),
            high = (int)fmin(in, floor(centre + radius + 0.5));
        float *weights = f->weights + (size_t)i * (size_t)f->taps;
        f->first[i] = low;
        for (int k = low; k < high; k++) {
            double weight = fmax(0, 1 - fabs((k + 0.5 - centre) / radius));
            weights[k - low] = (float)weight;
            sum += weight;
        }
        for (int k = 0; k < f->taps; k++) weights[k] = (float)((double)weights[k] / sum);
    }
    return LIGHT_OK;
}

static void scale_rows(const light_image *image, const filter *f, int width, float *to)
{
    for (int y = 0; y < image->height; y++) {
        const uint8_t *row = image->rgb + (size_t)y * (size_t)image->width * 3;
        for (int x = 0; x < width; x++, to += 3) {
            const float *weights = f->weights + (size_t)x * (size_t)f->taps;
            int first = f->first[x], count = image->width - first < f->taps ? image->width - first : f->taps;
            float sum[3] = {0, 0, 0};
            for (int k = 0; k < count; k++) {
                for (int c = 0; c < 3; c++) sum[c] += weights[k] * (float)row[3 * (first + k) + c];
            }
            memcpy(to, sum, sizeof sum);
        }
    }
}

static void scale_columns(const float *rows, int in_height, const filter *f, int height, int width,
                          uint8_t *to)
{
    size_t plane = (size_t)height * (size_t)width;

    for (int y = 0; y < height; y++) {
        const float *weights = f->weights + (size_t)y * (size_t)f->taps;
        int first = f->first[y], count = in_height - first < f->taps ? in_height - first : f->taps;
        for (int x = 0; x < width; x++) {
            for (int c = 0; c < 3; c++) {
                float sum = 0.5f;
                for (int k = 0; k < count; k++) {
                    sum +=
                        weights[k] * rows[((size_t)(first + k) * (size_t)width + (size_t)x) * 3 + (size_t)c];
                }
                to[(size_t)c * plane + (size_t)y * (size_t)width + (size_t)x] = (uint8_t)(sum < 0     ? 0
                                                                                          : sum > 255 ? 255
                                                                                                      : sum);
            }
        }
    }
}

static void copy_planes(const light_image *image, uint8_t *to)
{
    size_t plane = (size_t)image->height * (size_t)image->width;

    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < 3; c++) to[c * plane + i] = image->rgb[3 * i + c];
    }
}

light_status light_image_to_planes(const light_image *image, bool keep_aspect, int height, int width,
                                   uint8_t *to)
{
    filter across = {0}, down = {0};
    double used_height = image->height, used_width = image->width;
    light_status status;

    if (image->height == height && image->width == width) {
        copy_planes(image, to);
        return LIGHT_OK;
    }
    if (keep_aspect) {
        double scale = fmin(used_height / height, used_width / width);
        used_height = scale * height;
        used_width = scale * width;
    }
    float *rows = light_alloc((size_t)image->height * (size_t)width * 3 * sizeof *rows);
    status = rows ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) {
        status = filter_new(&across, image->width, (image->width - used_width) / 2, used_width, width);
    }
    if (status == LIGHT_OK) {
        status = filter_new(&down, image->height, (image->height - used_height) / 2, used_height, height);
    }
    if (status == LIGHT_OK) {
        scale_rows(image, &across, width, rows);
        scale_columns(rows, image->height, &down, height, width, to);
    }
    filter_free(&across);
    filter_free(&down);
    light_free(rows);
    return status;
}
