/* SPDX-License-Identifier: Apache-2.0 */
/* The transforms that ship. Random ones draw from Philox keyed by (seed, epoch) at (sample index, place in the
 * chain), so they do the same to a sample whoever loads it. */
#include "data/transform.h"

#include "base/philox.h"
#include "data/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- random numbers ------------------------------------------------------ */

static void draw(const light_host_batch *batch, int64_t i, uint64_t stream, uint32_t bits[4])
{
    uint32_t key[2];

    light_rng_key(batch->seed, LIGHT_RNG_TRANSFORM, (uint64_t)batch->epoch, key);
    light_philox_at(key, (uint64_t)batch->indices[i], stream, bits);
}

double light_sample_uniform(const light_host_batch *batch, int64_t i, uint32_t n)
{
    uint32_t bits[4];

    draw(batch, i, (UINT64_C(1) << 32) + n, bits);
    return light_uniform_double(bits[0], bits[1]);
}

/* ---- reading and writing any dtype --------------------------------------- */

#define CHUNK 256

static bool is_plain(light_dtype dtype)
{
    return dtype != LIGHT_F16 && dtype != LIGHT_BF16;
}

static void load(light_dtype dtype, const void *from, size_t start, size_t n, double *to)
{
#define LOAD(type)                                                                                           \
    for (size_t i = 0; i < n; i++) to[i] = (double)((const type *)from)[start + i];                          \
    break
    switch (dtype) {
    case LIGHT_F64: LOAD(double);
    case LIGHT_F32: LOAD(float);
    case LIGHT_I64: LOAD(int64_t);
    case LIGHT_I32: LOAD(int32_t);
    default: LOAD(uint8_t);
    }
#undef LOAD
}

static double into_range(double x, double low, double high)
{
    if (!(x >= low)) return x < low ? low : 0;
    return x > high ? high : x;
}

static void store(light_dtype dtype, const double *from, size_t n, void *to, size_t start)
{
#define STORE(type, value)                                                                                   \
    for (size_t i = 0; i < n; i++) ((type *)to)[start + i] = (type)(value);                                  \
    break
    switch (dtype) {
    case LIGHT_F64: STORE(double, from[i]);
    case LIGHT_F32: STORE(float, from[i]);
    /* The largest double below 2^63. */
    case LIGHT_I64: STORE(int64_t, into_range(from[i], -0x1p63, 0x1.fffffffffffffp62));
    case LIGHT_I32: STORE(int32_t, into_range(from[i], INT32_MIN, INT32_MAX));
    case LIGHT_BOOL: STORE(uint8_t, from[i] != 0);
    default: STORE(uint8_t, into_range(from[i], 0, UINT8_MAX));
    }
#undef STORE
}

/* ---- normalize ------------------------------------------------------------ */

static bool by_channel(const light_transform_step *step)
{
    return step->sizes[0] != 0;
}

static light_status normalize_plan(const light_transform_step *step, light_field *field)
{
    int channels = by_channel(step) ? LIGHT_MAX_IMAGE_CHANNELS : 1;

    if (!is_plain(field->dtype)) {
        return light_fail(LIGHT_ERR_DTYPE, "field %d is %s, which a loader does not compute with",
                          step->field, light_dtype_name(field->dtype));
    }
    if (by_channel(step)) {
        while (channels > 1 && step->stds[channels - 1] == 0 && step->means[channels - 1] == 0) channels--;
        if (field->shape.ndim < 2 || field->shape.dims[1] != channels) {
            return light_fail(LIGHT_ERR_SHAPE,
                              "%d means and stds, but samples of field %d have %" PRId64 " channels",
                              channels, step->field, field->shape.ndim < 2 ? 0 : field->shape.dims[1]);
        }
    }
    for (int c = 0; c < channels; c++) {
        if (!(step->stds[c] > 0) || !isfinite(step->means[c])) {
            return light_fail(LIGHT_ERR_ARGUMENT, "mean %g, std %g: the standard deviation must be above 0",
                              (double)step->means[c], (double)step->stds[c]);
        }
    }
    field->dtype = LIGHT_F32;
    return LIGHT_OK;
}

static void scale_u8(const uint8_t *restrict x, float *restrict y, size_t n, float scale, float shift)
{
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i] * scale + shift;
}

static void scale_f32(const float *restrict x, float *restrict y, size_t n, float scale, float shift)
{
    for (size_t i = 0; i < n; i++) y[i] = x[i] * scale + shift;
}

/* Element `start` .. `start + n` of a field, whatever its dtype: (x - mean) / std. */
static void scale_any(light_dtype dtype, const void *x, float *y, size_t start, size_t n, double mean,
                      double std)
{
    double chunk[CHUNK];

    for (size_t done = 0; done < n; done += CHUNK) {
        size_t count = n - done < CHUNK ? n - done : CHUNK;
        load(dtype, x, start + done, count, chunk);
        for (size_t i = 0; i < count; i++) y[start + done + i] = (float)((chunk[i] - mean) / std);
    }
}

static light_status normalize_apply(const light_transform_step *step, int number, light_host_batch *batch,
                                    void *to)
{
    const light_field *field = &batch->fields[step->field];
    const void *x = batch->data[step->field];
    size_t total = (size_t)light_shape_numel(field->shape);
    size_t channels = by_channel(step) ? (size_t)field->shape.dims[1] : 1;
    size_t plane = by_channel(step) ? total / (size_t)field->shape.dims[0] / channels : total;
    float *y = to;

    (void)number;
    for (size_t start = 0, c = 0; start < total; start += plane, c = (c + 1) % channels) {
        double mean = (double)step->means[c], std = (double)step->stds[c];
        if (field->dtype == LIGHT_U8) {
            scale_u8((const uint8_t *)x + start, y + start, plane, (float)(1 / (255 * std)),
                     (float)(-mean / std));
        } else if (field->dtype == LIGHT_F32) {
            scale_f32((const float *)x + start, y + start, plane, (float)(1 / std), (float)(-mean / std));
        } else {
            scale_any(field->dtype, x, y, start, plane, mean, std);
        }
    }
    return LIGHT_OK;
}

static const light_transform_kind normalize = {"normalize", false, normalize_plan, normalize_apply};

light_transform light_normalize_with(int field, const light_normalize_options *options)
{
    light_transform t = {.count = 1, .steps[0] = {.kind = &normalize, .field = field}};
    light_transform_step *step = &t.steps[0];

    for (int c = 0; c < LIGHT_MAX_IMAGE_CHANNELS; c++) {
        if (options->means[c] != 0 || options->stds[c] != 0) step->sizes[0] = 1;
    }
    if (by_channel(step)) {
        memcpy(step->means, options->means, sizeof step->means);
        memcpy(step->stds, options->stds, sizeof step->stds);
    } else {
        step->means[0] = options->mean;
        step->stds[0] = options->std == 0 ? 1 : options->std;
    }
    return t;
}

/* ---- convert ---------------------------------------------------------------- */

static light_status convert_plan(const light_transform_step *step, light_field *field)
{
    if (step->dtype <= LIGHT_DTYPE_DEFAULT || step->dtype >= LIGHT_DTYPE_COUNT || !is_plain(step->dtype) ||
        !is_plain(field->dtype)) {
        return light_fail(
            LIGHT_ERR_DTYPE,
            "field %d is %s and cannot become %s in a loader; 16-bit floats are made by the trainer's "
            "precision",
            step->field, light_dtype_name(field->dtype), light_dtype_name(step->dtype));
    }
    field->dtype = step->dtype;
    return LIGHT_OK;
}

static light_status convert_apply(const light_transform_step *step, int number, light_host_batch *batch,
                                  void *to)
{
    const light_field *field = &batch->fields[step->field];
    const void *from = batch->data[step->field];
    size_t n = (size_t)light_shape_numel(field->shape);
    double chunk[CHUNK];

    (void)number;
    if (field->dtype == step->dtype) {
        memcpy(to, from, light_field_bytes(field));
        return LIGHT_OK;
    }
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t count = n - done < CHUNK ? n - done : CHUNK;
        load(field->dtype, from, done, count, chunk);
        store(step->dtype, chunk, count, to, done);
    }
    return LIGHT_OK;
}

static const light_transform_kind convert = {"convert_field", false, convert_plan, convert_apply};

light_transform light_convert_field(int field, light_dtype dtype)
{
    return (light_transform){.count = 1, .steps[0] = {.kind = &convert, .field = field, .dtype = dtype}};
}

/* ---- random horizontal flip --------------------------------------------------- */

static light_status flip_plan(const light_transform_step *step, light_field *field)
{
    if (!(step->number >= 0 && step->number <= 1)) {
        return light_fail(LIGHT_ERR_ARGUMENT, "the probability %g is not in 0..1", step->number);
    }
    if (field->shape.ndim < 2) {
        return light_fail(LIGHT_ERR_SHAPE, "samples of field %d have no dims, there is no side to mirror",
                          step->field);
    }
    return LIGHT_OK;
}

static void reverse_row(char *row, int64_t width, size_t bytes)
{
#define REVERSE(type)                                                                                        \
    for (int64_t a = 0, b = width - 1; a < b; a++, b--) {                                                    \
        type swapped = ((type *)(void *)row)[a];                                                             \
        ((type *)(void *)row)[a] = ((type *)(void *)row)[b];                                                 \
        ((type *)(void *)row)[b] = swapped;                                                                  \
    }                                                                                                        \
    break
    switch (bytes) {
    case 1: REVERSE(uint8_t);
    case 2: REVERSE(uint16_t);
    case 4: REVERSE(uint32_t);
    default: REVERSE(uint64_t);
    }
#undef REVERSE
}

static light_status flip_apply(const light_transform_step *step, int number, light_host_batch *batch,
                               void *to)
{
    light_shape shape = batch->fields[step->field].shape;
    size_t bytes = light_dtype_size(batch->fields[step->field].dtype);
    int64_t width = shape.dims[shape.ndim - 1];
    int64_t rows = light_shape_numel(shape) / shape.dims[0] / width;

    for (int64_t i = 0; i < batch->size; i++) {
        uint32_t bits[4];
        draw(batch, i, (uint64_t)number, bits);
        if (!(light_uniform_double(bits[0], bits[1]) < step->number)) continue;
        char *row = (char *)to + (size_t)(i * rows * width) * bytes;
        for (int64_t r = 0; r < rows; r++, row += (size_t)width * bytes) reverse_row(row, width, bytes);
    }
    return LIGHT_OK;
}

static const light_transform_kind flip = {"random_horizontal_flip", true, flip_plan, flip_apply};

light_transform light_random_horizontal_flip(int field, double probability)
{
    return (light_transform){.count = 1, .steps[0] = {.kind = &flip, .field = field, .number = probability}};
}

/* ---- random crop ------------------------------------------------------------------ */

static light_status crop_plan(const light_transform_step *step, light_field *field)
{
    light_shape *shape = &field->shape;
    int64_t padding = step->sizes[2];

    if (shape->ndim < 3) {
        return light_fail(LIGHT_ERR_SHAPE, "samples of field %d have no height and width", step->field);
    }
    for (int i = 0; i < 2; i++) {
        int64_t *size = &shape->dims[shape->ndim - 2 + i];
        int64_t wanted = step->sizes[i] == 0 ? *size : step->sizes[i];
        if (wanted < 0 || padding < 0 || wanted > *size + 2 * padding) {
            return light_fail(LIGHT_ERR_SHAPE,
                              "%s %" PRId64 " cannot be cut out of %" PRId64 " with a padding of %" PRId64,
                              i ? "width" : "height", wanted, *size, padding);
        }
        *size = wanted;
    }
    return LIGHT_OK;
}

/* One plane: out[y][x] = in[y + top][x + left], zero outside. */
static void crop_plane(const char *in, int64_t height, int64_t width, char *out, int64_t out_height,
                       int64_t out_width, int64_t top, int64_t left, size_t bytes)
{
    int64_t from = left < 0 ? -left : 0;                              /* first column of out that is inside */
    int64_t to = left + out_width > width ? width - left : out_width; /* the one behind the last */

    if (from > out_width) from = out_width;
    if (to < from) to = from;
    for (int64_t y = 0; y < out_height; y++) {
        char *row = out + (size_t)(y * out_width) * bytes;
        if (y + top < 0 || y + top >= height) {
            memset(row, 0, (size_t)out_width * bytes);
            continue;
        }
        memset(row, 0, (size_t)from * bytes);
        if (to > from) {
            memcpy(row + (size_t)from * bytes, in + (size_t)((y + top) * width + from + left) * bytes,
                   (size_t)(to - from) * bytes);
        }
        memset(row + (size_t)to * bytes, 0, (size_t)(out_width - to) * bytes);
    }
}

static light_status crop_apply(const light_transform_step *step, int number, light_host_batch *batch,
                               void *to)
{
    const light_field *field = &batch->fields[step->field];
    light_field after = *field;
    size_t bytes = light_dtype_size(field->dtype);
    int last = field->shape.ndim - 1;
    int64_t height = field->shape.dims[last - 1], width = field->shape.dims[last], padding = step->sizes[2];
    int64_t planes = light_shape_numel(field->shape) / field->shape.dims[0] / height / width;

    LIGHT_TRY(crop_plan(step, &after));
    int64_t out_height = after.shape.dims[last - 1], out_width = after.shape.dims[last];
    const char *in = batch->data[step->field];
    char *out = to;
    for (int64_t i = 0; i < batch->size; i++) {
        uint32_t bits[4];
        draw(batch, i, (uint64_t)number, bits);
        int64_t top =
            (int64_t)light_uniform_below(bits[0], bits[1], (uint64_t)(height + 2 * padding - out_height + 1));
        int64_t left =
            (int64_t)light_uniform_below(bits[2], bits[3], (uint64_t)(width + 2 * padding - out_width + 1));
        for (int64_t p = 0; p < planes; p++) {
            crop_plane(in, height, width, out, out_height, out_width, top - padding, left - padding, bytes);
            in += (size_t)(height * width) * bytes;
            out += (size_t)(out_height * out_width) * bytes;
        }
    }
    return LIGHT_OK;
}

static const light_transform_kind crop = {"random_crop", false, crop_plan, crop_apply};

light_transform light_random_crop(int field, int64_t height, int64_t width, int64_t padding)
{
    return (light_transform){.count = 1,
                             .steps[0] = {.kind = &crop, .field = field, .sizes = {height, width, padding}}};
}

/* ---- the user's own ------------------------------------------------------------------ */

static light_status function_plan(const light_transform_step *step, light_field *field)
{
    (void)field;
    if (!step->function) return light_fail(LIGHT_ERR_ARGUMENT, "the function is NULL");
    return LIGHT_OK;
}

static light_status function_apply(const light_transform_step *step, int number, light_host_batch *batch,
                                   void *to)
{
    (void)number;
    (void)to;
    return step->function(step->user, batch);
}

static const light_transform_kind function = {"function", true, function_plan, function_apply};

light_transform light_transform_with(light_status (*fn)(void *user, light_host_batch *batch), void *user)
{
    return (light_transform){.count = 1, .steps[0] = {.kind = &function, .function = fn, .user = user}};
}
