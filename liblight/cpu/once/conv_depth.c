/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution, vectorised over the channels. A task is one row of output pixels or, of a weight gradient, a
 * piece of the batch. */
#include "cpu/once/conv_depth.h"

#include "cpu/once/conv_axis.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

#include <string.h>

enum { MOST_PIECES = 16 };

typedef struct {
    light_conv_pass pass;
    const light_conv_shape *s;
    const light_conv_kernels *kernels;
    light_dtype real;
    int64_t size, in_size; /* bytes of a real number, of an element */
    int64_t in_h, in_w, out_h, out_w;
    const char *in, *bias;
    char *out, *work;
    char *weights; /* [tap, channel] in real numbers; of a weight gradient, the sums of all pieces */
    const char *gy;
    int64_t pieces, piece;
    size_t in_room, rank_bytes;
    bool accumulate;
} depth;

static int64_t round_up(int64_t bytes)
{
    return light_conv_ceil(bytes, 4096) * 4096;
}

static light_conv_axis axis_of(const depth *g, int d, int64_t a)
{
    return g->pass == LIGHT_CONV_BACKWARD_DATA ? light_conv_data_axis(g->s, d, a)
                                               : light_conv_forward_axis(g->s, d);
}

/* A row of pixels in real numbers: where it lies, or in `room`. */
static const char *take_row(const depth *g, const char *images, int64_t row, int64_t pixels, char *room)
{
    const int64_t c = g->s->c;
    const char *from = images + row * pixels * c * g->in_size;
    if (g->in_size == g->size) return from;
    const light_conv_pixels p = {.pixels = pixels, .channels = c, .from_step = c, .to_step = c};
    g->kernels->take(g->s->dtype, &p, from, room);
    return room;
}

static light_conv_depth_row row_of(const depth *g, const light_conv_axis *across)
{
    const int64_t c = g->s->c;
    return (light_conv_depth_row){.channels = c,
                                  .outputs = across->count,
                                  .output_step = across->step * c,
                                  .inputs = g->in_w,
                                  .input_step = c,
                                  .taps = across->taps,
                                  .tap_step = across->skip * c,
                                  .stride = across->stride,
                                  .offset = across->offset,
                                  .spread = across->spread};
}

/* ---- forward, and the data gradient --------------------------------------- */

static void run_row(void *context, int64_t index, int rank)
{
    const depth *g = context;
    const int64_t c = g->s->c, image = index / g->out_h, y = index % g->out_h;
    const bool forward = g->pass == LIGHT_CONV_FORWARD;
    const int64_t down_classes = forward ? 1 : g->s->stride[0],
                  across_classes = forward ? 1 : g->s->stride[1];
    const light_conv_axis v = axis_of(g, 0, y % down_classes);
    const int64_t u = y / down_classes, first = light_conv_first_tap(&v, u),
                  end = light_conv_end_tap(&v, u, g->in_h);
    char *room = g->work + (size_t)rank * g->rank_bytes, *sums = room + g->in_room;
    memset(sums, 0, (size_t)(g->out_w * c * g->size));
    for (int64_t t = first; t < end; t++) {
        const char *in =
            take_row(g, g->in, image * g->in_h + u * v.stride + v.offset + t * v.spread, g->in_w, room);
        for (int64_t b = 0; b < across_classes; b++) {
            const light_conv_axis h = axis_of(g, 1, b);
            const light_conv_depth_row row = row_of(g, &h);
            const int64_t tap = (v.first + t * v.skip) * g->s->kw + h.first;
            g->kernels->depth_row(g->real, &row, in, g->weights + tap * c * g->size,
                                  sums + h.from * c * g->size);
        }
    }
    const light_conv_pixels p = {.pixels = g->out_w, .channels = c, .from_step = c, .to_step = c};
    g->kernels->give(g->s->dtype, &p, sums, g->bias, g->accumulate,
                     g->out + index * g->out_w * c * g->in_size);
}

/* [channel, tap] to [tap, channel], for a data gradient from the last tap back. */
static void take_weights(const depth *g, const char *w)
{
    const int64_t taps = g->s->kh * g->s->kw, c = g->s->c;
    const light_conv_pixels p = {.pixels = c, .channels = 1, .from_step = taps, .to_step = 1};
    for (int64_t t = 0; t < taps; t++) {
        const int64_t to = g->pass == LIGHT_CONV_FORWARD ? t : taps - 1 - t;
        g->kernels->take(g->s->dtype, &p, w + t * g->in_size, g->weights + to * c * g->size);
    }
}

static depth begin(light_conv_pass pass, const light_conv_shape *s, bool accumulate)
{
    const bool data = pass == LIGHT_CONV_BACKWARD_DATA, f64 = s->dtype == LIGHT_F64;
    return (depth){.pass = pass,
                   .s = s,
                   .kernels = light_cpu_conv_kernels(),
                   .real = f64 ? LIGHT_F64 : LIGHT_F32,
                   .size = f64 ? 8 : 4,
                   .in_size = (int64_t)light_dtype_size(s->dtype),
                   .in_h = data ? s->oh : s->h,
                   .in_w = data ? s->ow : s->w,
                   .out_h = data ? s->h : s->oh,
                   .out_w = data ? s->w : s->ow,
                   .accumulate = accumulate};
}

/* Weights or sums of so many bytes, and for each thread a row of input and one of output. */
static light_status get_memory(depth *g, int64_t weights)
{
    const int64_t first = round_up(weights);
    g->in_room = (size_t)round_up(g->in_w * g->s->c * g->size);
    g->rank_bytes = g->in_room + (size_t)round_up(g->out_w * g->s->c * g->size);
    g->weights =
        light_cpu_scratch(LIGHT_SCRATCH_CONV, (size_t)first + (size_t)light_team_size() * g->rank_bytes);
    if (!g->weights) return LIGHT_ERR_MEMORY;
    g->work = g->weights + first;
    return LIGHT_OK;
}

light_status light_conv_depth_gather(light_conv_pass pass, const light_conv_shape *s, const void *in,
                                     const void *w, const void *bias, void *out, bool accumulate)
{
    depth g = begin(pass, s, accumulate);
    const int64_t taps = s->kh * s->kw, rows = s->n * g.out_h;
    g.in = in, g.bias = bias, g.out = out;
    LIGHT_TRY(get_memory(&g, taps * s->c * g.size));
    take_weights(&g, w);
    light_team_each(rows * g.out_w * s->c * taps > 65536, rows, run_row, &g);
    return LIGHT_OK;
}

/* ---- the weight gradient --------------------------------------------------- */

static void run_piece(void *context, int64_t index, int rank)
{
    const depth *g = context;
    const light_conv_axis v = axis_of(g, 0, 0), h = axis_of(g, 1, 0);
    const light_conv_depth_row row = row_of(g, &h);
    const int64_t sums = g->s->kh * g->s->kw * g->s->c, tap_row = g->s->kw * g->s->c * g->size;
    const int64_t end = light_conv_min((index + 1) * g->piece, g->s->n);
    char *room = g->work + (size_t)rank * g->rank_bytes, *to = g->weights + index * sums * g->size;
    memset(to, 0, (size_t)(sums * g->size));
    for (int64_t i = index * g->piece * v.count; i < end * v.count; i++) {
        const int64_t image = i / v.count, u = i % v.count;
        const char *gy = take_row(g, g->gy, i, h.count, room + g->in_room);
        for (int64_t t = light_conv_first_tap(&v, u); t < light_conv_end_tap(&v, u, g->in_h); t++) {
            const int64_t y = u * v.stride + v.offset + t * v.spread;
            g->kernels->depth_weights(g->real, &row, take_row(g, g->in, image * g->in_h + y, g->in_w, room),
                                      gy, to + t * tap_row);
        }
    }
}

light_status light_conv_depth_weights(const light_conv_shape *s, const void *gy, const void *x, void *gw,
                                      light_dtype gw_dtype, bool accumulate)
{
    depth g = begin(LIGHT_CONV_BACKWARD_WEIGHT, s, accumulate);
    const int64_t taps = s->kh * s->kw, sums = taps * s->c;
    g.in = x, g.gy = gy;
    g.piece = light_conv_max(1, light_conv_ceil(s->n, MOST_PIECES));
    g.pieces = light_conv_max(1, light_conv_ceil(s->n, g.piece));
    const int64_t room = g.pieces * sums * g.size;
    LIGHT_TRY(get_memory(&g, room + sums * g.size));
    light_team_each(s->n * s->oh * s->ow * sums > 65536, g.pieces, run_piece, &g);
    g.kernels->sum_pieces(g.real, taps, s->c, g.pieces, sums, g.weights, g.weights + room, gw_dtype,
                          accumulate, gw);
    return LIGHT_OK;
}
