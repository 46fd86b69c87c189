/* SPDX-License-Identifier: Apache-2.0 */
/* One axis of a convolution, and the input images as work memory holds them. */
#ifndef LIGHT_CPU_ONCE_CONV_AXIS_H
#define LIGHT_CPU_ONCE_CONV_AXIS_H

#include "cpu/conv_kernels.h"
#include "cpu/once/conv.h"

/* Outputs from, from + step, ... of a pass that gathers. The i-th of them sums over taps t: input
 * i * stride + offset + t * spread times weight first + t * skip. */
typedef struct {
    int64_t from, step, count;
    int64_t stride, offset, spread;
    int64_t taps, first, skip;
} light_conv_axis;

static inline int64_t light_conv_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t light_conv_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* a / b rounded up, for b > 0. */
static inline int64_t light_conv_ceil(int64_t a, int64_t b)
{
    return a > 0 ? (a + b - 1) / b : -(-a / b);
}

/* The forward pass along axis d (0 down, 1 across). */
static inline light_conv_axis light_conv_forward_axis(const light_conv_shape *s, int d)
{
    return (light_conv_axis){.step = 1,
                             .count = d == 0 ? s->oh : s->ow,
                             .stride = s->stride[d],
                             .offset = -s->padding[d],
                             .spread = s->dilation[d],
                             .taps = d == 0 ? s->kh : s->kw,
                             .skip = 1};
}

/* The data gradient at inputs a, a + stride, ..., which all meet the same weights. Weights count from the last one back,
 * so that gradients are read in rising order. */
static inline light_conv_axis light_conv_data_axis(const light_conv_shape *s, int d, int64_t a)
{
    const int64_t stride = s->stride[d], dilation = s->dilation[d], kernel = d == 0 ? s->kh : s->kw;
    const int64_t at = a + s->padding[d] - (kernel - 1) * dilation, size = d == 0 ? s->h : s->w;
    int64_t skip = 1, first = 0;
    while (skip * dilation % stride) skip++;
    while (first < skip && (at + first * dilation) % stride) first++;
    const bool any = first < skip && first < kernel;
    return (light_conv_axis){.from = a,
                             .step = stride,
                             .count = a < size ? (size - 1 - a) / stride + 1 : 0,
                             .stride = 1,
                             .offset = any ? (at + first * dilation) / stride : 0,
                             .spread = skip * dilation / stride,
                             .taps = any ? (kernel - 1 - first) / skip + 1 : 0,
                             .first = first,
                             .skip = skip};
}

/* The first tap that output i has within `size` inputs, and the one after the last. */
static inline int64_t light_conv_first_tap(const light_conv_axis *a, int64_t i)
{
    const int64_t at = i * a->stride + a->offset;
    return at >= 0 ? 0 : light_conv_min(a->taps, light_conv_ceil(-at, a->spread));
}

static inline int64_t light_conv_end_tap(const light_conv_axis *a, int64_t i, int64_t size)
{
    const int64_t left = size - 1 - (i * a->stride + a->offset);
    return left < 0 ? 0 : light_conv_min(a->taps, left / a->spread + 1);
}

/* The first output that meets an input at tap t, and the one after the last. */
static inline int64_t light_conv_first_output(const light_conv_axis *a, int64_t t)
{
    const int64_t at = a->offset + t * a->spread;
    return at >= 0 ? 0 : light_conv_min(a->count, light_conv_ceil(-at, a->stride));
}

static inline int64_t light_conv_end_output(const light_conv_axis *a, int64_t t, int64_t size)
{
    const int64_t left = size - 1 - (a->offset + t * a->spread);
    return left < 0 ? 0 : light_conv_min(a->count, left / a->stride + 1);
}

/* ---- strips -------------------------------------------------------------- */

/* Rows of some images as work memory holds them: [row, column, image, channel], in real numbers, with zeros where
 * windows reach over the sides. Pixels of one column and neighbouring images are evenly apart, so a tile's rows may go
 * over both: where there is more than one image, columns that a stride jumps over lie apart from the others. */
typedef struct {
    const light_conv_kernels *kernels;
    light_dtype dtype;
    const char *data; /* of the whole batch */
    int64_t h, w;
    int64_t pixel_step, row_step, image_step; /* in the batch, in elements */
    int64_t channels;                         /* held here, */
    int64_t pixel;                            /* and elements from one pixel to the next */
    int64_t left, columns;                    /* the column of the image that is the first here; how many */
    int64_t phases;
} light_conv_strip;

/* Elements of a row of so many images. */
static inline int64_t light_conv_strip_row(const light_conv_strip *s, int64_t images)
{
    const int64_t phases = images > 1 ? s->phases : 1;
    return light_conv_ceil(s->columns, phases) * phases * images * s->pixel;
}

/* Where a column begins in its row. */
static inline int64_t light_conv_strip_column(const light_conv_strip *s, int64_t images, int64_t column)
{
    const int64_t phases = images > 1 ? s->phases : 1, q = column - s->left;
    return (q % phases * light_conv_ceil(s->columns, phases) + q / phases) * images * s->pixel;
}

/* From a pixel to that of the next image or, of one image, the next output. */
static inline int64_t light_conv_strip_step(const light_conv_strip *s, int64_t images)
{
    return images > 1 ? s->pixel : s->phases * s->pixel;
}

/* Fills rows [from, to) of images first .. first + images - 1, channels from `channel` on. */
void light_conv_strip_fill(const light_conv_strip *s, int64_t first, int64_t images, int64_t channel,
                           int64_t from, int64_t to, void *room);

/* Memory that the next task reads, to be fetched while this one computes: so many lines a call. */
typedef struct {
    const char *at, *end;
    int64_t lines;
} light_conv_ahead;

/* The `rows` rows after image `first`'s row `row`, where images of the batch of n follow each other, in `calls` calls. */
static inline light_conv_ahead light_conv_next(const light_conv_strip *s, int64_t first, int64_t row,
                                               int64_t rows, int64_t n, int64_t calls)
{
    const int64_t size = (int64_t)light_dtype_size(s->dtype), left = (n - first) * s->h - row;
    const char *at = s->data + (first * s->image_step + row * s->row_step) * size;
    const int64_t bytes = light_conv_min(rows, left) * s->row_step * size;
    return (light_conv_ahead){at, at + bytes, bytes / (64 * calls) + 1};
}

static inline void light_conv_fetch(light_conv_ahead *a)
{
    for (int64_t i = 0; i < a->lines && a->at < a->end; i++, a->at += 64) __builtin_prefetch(a->at, 0, 2);
}

/* Elements of a pixel so that rows of a tile fall into different sets of the first cache. */
static inline int64_t light_conv_pixel_room(int64_t channels)
{
    return channels < 32 ? channels : (light_conv_ceil(channels, 16) | 1) * 16;
}

/* How many images of n, whose output has so many columns, lie side by side: enough for tiles to be full. One alone keeps
 * taps together that have few channels. */
int64_t light_conv_side_by_side(int64_t n, int64_t columns, int64_t channels);

const light_conv_kernels *light_cpu_conv_kernels(void);

#endif
