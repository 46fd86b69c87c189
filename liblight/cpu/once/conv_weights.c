/* SPDX-License-Identifier: Apache-2.0 */
/* The weight gradient: for each tap, the product of gy [pixel, o], transposed, and the inputs [pixel, c] that the tap
 * meets. Both lie in work memory a strip at a time, and a tile sums over the strip in registers.
 *
 * A task is a piece of the batch and a range of input channels. Pieces have sums of their own, which are added in order,
 * and their number depends on the shape alone, so the threads do not show in the bits. */
#include "cpu/once/conv_weights.h"

#include "cpu/gemm_kernels.h"
#include "cpu/once/conv_axis.h"
#include "cpu/once/gemm.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

#include <string.h>

enum {
    STRIP_BYTES = 128 << 10, /* of input, and of output gradients, at most, that a task holds */
    RANGE = 64,              /* channels of a task, where a window has many */
    MOST_PIECES = 8,
    PIECE_MACS = 1000000, /* of work in a piece, at least */
    SUM_BYTES = 24 << 20, /* of all pieces' sums, at most, beyond two */
};

typedef struct {
    const light_conv_shape *s;
    const light_gemm_family *family;
    light_conv_strip x, gy; /* gy with the rows of a tile for channels */
    light_conv_axis down, across;
    light_dtype real, gw_dtype;
    int64_t size;         /* bytes of a real number */
    int64_t taps, cg, og; /* of a window; channels in and out of a group */
    int64_t range, ranges, pieces, piece, images;
    int64_t strip, reach; /* output rows that are summed over together; input rows that one needs */
    int64_t mr, panels;   /* output channels of a tile; tiles of a group */
    int64_t sums;         /* elements of a piece's sums: [o, tap, c] */
    char *totals, *work, *gw;
    size_t x_room, gy_room, rank_bytes;
    bool merged; /* taps side by side are like channels */
    bool accumulate;
} weights;

typedef struct {
    const weights *g;
    int64_t images, channel, channels, group;
    int64_t from, to, in_from; /* output rows; the first input row in the strip */
    const char *x, *gy;
    char *sums;
    light_gemm_part *parts;
    light_conv_ahead next_x, next_gy;
} weights_task;

/* ---- tiles --------------------------------------------------------------- */

/* Inputs [at, at + columns) of the pixels that tap (i, j) meets, against all output channels. */
static void sum_tile(weights_task *t, int64_t i, int64_t j, int64_t at, int64_t columns,
                     light_gemm_tile *tile)
{
    const weights *g = t->g;
    const light_conv_axis *h = &g->across;
    const int64_t from = g->merged ? 0 : light_conv_first_output(h, j);
    const int64_t to = g->merged ? h->count : light_conv_end_output(h, j, g->x.w);
    const int64_t first = light_conv_max(t->from, light_conv_first_output(&g->down, i));
    const int64_t end = light_conv_min(t->to, light_conv_end_output(&g->down, i, g->x.h));
    const int64_t row = light_conv_strip_row(&g->x, t->images),
                  step = light_conv_strip_step(&g->x, t->images);
    const int64_t gy_row = h->count * t->images * g->gy.pixel;
    const int64_t column =
        light_conv_strip_column(&g->x, t->images, from * h->stride + h->offset + j * h->spread);
    if (to <= from || end <= first) return;
    tile->part_count = 0;
    for (int64_t u = first; u < end; u++) {
        const int64_t r = u * g->down.stride + g->down.offset + i * g->down.spread - t->in_from;
        t->parts[tile->part_count++] =
            (light_gemm_part){(u - t->from) * gy_row + from * t->images * g->gy.pixel, r * row + column + at};
    }
    tile->cols = columns;
    light_conv_fetch(&t->next_x);
    light_conv_fetch(&t->next_gy);
    for (int64_t p = 0; p < g->panels; p++) {
        const int64_t o = t->group * g->og + p * g->mr, rows = light_conv_min(g->mr, g->og - p * g->mr);
        tile->c = t->sums + ((o * g->taps + i * g->s->kw + j) * g->cg + t->channel + at) * g->size;
        g->family->row_unit[columns > g->family->vl][rows - 1]((to - from) * t->images,
                                                               t->gy + p * gy_row * g->strip * g->size, 1,
                                                               g->gy.pixel, t->x, step, tile);
    }
}

static void sum_strip(weights_task *t)
{
    const weights *g = t->g;
    const int64_t nr = 2 * g->family->vl, across = g->merged ? 1 : g->s->kw;
    const int64_t all = g->merged ? g->s->kw * t->channels : t->channels;
    light_gemm_tile tile = {.parts = t->parts, .ldc = g->taps * g->cg, .alpha = 1, .accumulate = true};
    for (int64_t at = 0; at < all; at += nr)
        for (int64_t i = 0; i < g->s->kh; i++)
            for (int64_t j = 0; j < across; j++) sum_tile(t, i, j, at, light_conv_min(nr, all - at), &tile);
}

/* ---- tasks --------------------------------------------------------------- */

/* gy as [tile, row, column, image, channel of the tile]. */
static void fill_gy(const weights_task *t, int64_t first, char *room)
{
    const weights *g = t->g;
    light_conv_strip gy = g->gy;
    const int64_t panel = g->strip * g->across.count * t->images * g->gy.pixel * g->size;
    for (int64_t p = 0; p < g->panels; p++) {
        gy.channels = light_conv_min(g->mr, g->og - p * g->mr);
        light_conv_strip_fill(&gy, first, t->images, t->group * g->og + p * g->mr, t->from, t->to,
                              room + p * panel);
    }
}

static void clear_sums(const weights_task *t)
{
    const weights *g = t->g;
    for (int64_t i = 0; i < g->s->o * g->taps; i++)
        memset(t->sums + (i * g->cg + t->channel) * g->size, 0, (size_t)(t->channels * g->size));
}

static void run_images(weights_task *t, int64_t first, char *work)
{
    const weights *g = t->g;
    const light_conv_axis *v = &g->down;
    for (t->from = 0; t->from < v->count; t->from = t->to) {
        t->to = light_conv_min(t->from + g->strip, v->count);
        const int64_t top = t->from * v->stride + v->offset;
        t->in_from = light_conv_max(0, top);
        const int64_t in_to = light_conv_min(g->x.h, top + (t->to - t->from - 1) * v->stride + g->reach);
        for (t->group = 0; t->group < g->s->groups; t->group++) {
            light_conv_strip x = g->x;
            x.channels = t->channels;
            light_conv_strip_fill(&x, first, t->images, t->group * g->cg + t->channel, t->in_from, in_to,
                                  work);
            fill_gy(t, first, work + g->x_room);
            if (t->images == 1) {
                const int64_t tiles =
                    g->s->kh * (g->merged ? 1 : g->s->kw * light_conv_ceil(t->channels, 2 * g->family->vl));
                t->next_x =
                    light_conv_next(&g->x, first, in_to, (t->to - t->from) * v->stride, g->s->n, tiles);
                t->next_gy = light_conv_next(&g->gy, first, t->to, t->to - t->from, g->s->n, tiles);
            }
            sum_strip(t);
        }
    }
}

static void run_task(void *context, int64_t index, int rank)
{
    const weights *g = context;
    const int64_t piece = index / g->ranges, end = light_conv_min((piece + 1) * g->piece, g->s->n);
    char *work = g->work + (size_t)rank * g->rank_bytes;
    weights_task t = {.g = g,
                      .channel = index % g->ranges * g->range,
                      .x = work,
                      .gy = work + g->x_room,
                      .sums = g->totals + piece * g->sums * g->size,
                      .parts = (light_gemm_part *)(work + g->x_room + g->gy_room)};
    t.channels = light_conv_min(g->range, g->cg - t.channel);
    clear_sums(&t);
    for (int64_t first = piece * g->piece; first < end; first += t.images) {
        t.images = light_conv_min(g->images, end - first);
        run_images(&t, first, work);
    }
}

static void give_channel(void *context, int64_t o, int rank)
{
    const weights *g = context;
    const int64_t n = g->taps * g->cg;
    g->x.kernels->sum_pieces(g->real, g->taps, g->cg, g->pieces, g->sums, g->totals + o * n * g->size,
                             g->work + (size_t)rank * g->rank_bytes, g->gw_dtype, g->accumulate,
                             g->gw + o * n * (int64_t)light_dtype_size(g->gw_dtype));
}

/* ---- the plan ------------------------------------------------------------ */

static void plan_tasks(weights *g)
{
    const light_conv_shape *s = g->s;
    const int64_t macs = s->n * s->oh * s->ow * s->o * g->cg * g->taps;
    g->sums = s->o * g->taps * g->cg;
    int64_t most = light_conv_max(2, SUM_BYTES / (g->sums * g->size));
    most = light_conv_min(light_conv_min(most, MOST_PIECES), macs / PIECE_MACS);
    g->piece = light_conv_max(1, light_conv_ceil(s->n, light_conv_max(1, most)));
    g->pieces = light_conv_max(1, light_conv_ceil(s->n, g->piece));
    g->images = light_conv_side_by_side(g->piece, s->ow, g->cg);
    g->range = g->merged ? g->cg : light_conv_min(RANGE, g->cg);
    g->ranges = light_conv_ceil(g->cg, g->range);
}

static void plan_memory(weights *g)
{
    const light_conv_axis *v = &g->down, *h = &g->across;
    g->x.pixel = g->merged ? g->cg : light_conv_pixel_room(g->range);
    g->reach = (v->taps - 1) * v->spread + 1;
    const int64_t row = light_conv_strip_row(&g->x, g->images) * g->size;
    const int64_t gy_row = g->panels * g->gy.pixel * h->count * g->images * g->size;
    const int64_t fit = light_conv_min((STRIP_BYTES / row - g->reach) / v->stride + 1, STRIP_BYTES / gy_row);
    g->strip = light_conv_min(light_conv_max(fit, 1), v->count);
    g->strip = light_conv_ceil(v->count, light_conv_ceil(v->count, g->strip));
    const int64_t rows = light_conv_min((g->strip - 1) * v->stride + g->reach, g->x.h);
    const int64_t x_bytes = rows * row + LIGHT_GEMM_MAX_NR * 8;
    g->x_room = (size_t)light_conv_ceil(light_conv_max(x_bytes, g->taps * g->cg * g->size), 4096) * 4096;
    g->gy_room = (size_t)light_conv_ceil(gy_row * g->strip, 64) * 64;
    g->rank_bytes =
        (g->x_room + g->gy_room + (size_t)g->strip * sizeof(light_gemm_part) + 4095) / 4096 * 4096;
}

static void describe(weights *g, const light_conv_shape *s, const void *gy, const void *x)
{
    g->down = light_conv_forward_axis(s, 0);
    g->across = light_conv_forward_axis(s, 1);
    g->x = (light_conv_strip){.kernels = light_cpu_conv_kernels(),
                              .dtype = s->dtype,
                              .data = x,
                              .h = s->h,
                              .w = s->w,
                              .pixel_step = s->c,
                              .row_step = s->w * s->c,
                              .image_step = s->h * s->w * s->c,
                              .left = -s->padding[1],
                              .columns = (s->ow - 1) * s->stride[1] + (s->kw - 1) * s->dilation[1] + 1,
                              .phases = s->stride[1]};
    g->gy = (light_conv_strip){.kernels = g->x.kernels,
                               .dtype = s->dtype,
                               .data = gy,
                               .h = s->oh,
                               .w = s->ow,
                               .pixel_step = s->o,
                               .row_step = s->ow * s->o,
                               .image_step = s->oh * s->ow * s->o,
                               .pixel = g->mr,
                               .columns = s->ow,
                               .phases = 1};
}

light_status light_conv_weights(const light_conv_shape *s, const void *gy, const void *x, void *gw,
                                light_dtype gw_dtype, bool accumulate)
{
    const light_gemm_kernels *kernels = light_cpu_gemm_kernels();
    const bool f64 = s->dtype == LIGHT_F64;
    weights g = {.s = s,
                 .family = f64 ? &kernels->f64 : &kernels->f32,
                 .real = f64 ? LIGHT_F64 : LIGHT_F32,
                 .gw_dtype = gw_dtype,
                 .size = f64 ? 8 : 4,
                 .taps = s->kh * s->kw,
                 .cg = s->c / s->groups,
                 .og = s->o / s->groups,
                 .gw = gw,
                 .accumulate = accumulate};
    if (g.og * g.cg * g.taps == 0) return LIGHT_OK;
    g.panels = light_conv_ceil(g.og, g.family->mr);
    g.mr = light_conv_ceil(g.og, g.panels);
    describe(&g, s, gy, x);
    g.merged = g.cg < 16 && s->dilation[1] == 1;
    plan_tasks(&g);
    plan_memory(&g);
    const size_t totals = (size_t)light_conv_ceil(g.pieces * g.sums * g.size, 4096) * 4096;
    g.totals = light_cpu_scratch(LIGHT_SCRATCH_CONV, totals + (size_t)light_team_size() * g.rank_bytes);
    if (!g.totals) return LIGHT_ERR_MEMORY;
    g.work = g.totals + totals;
    light_team_each(s->n * s->oh * s->ow * g.sums > 65536, g.pieces * g.ranges, run_task, &g);
    light_team_each(g.pieces * g.sums > 65536, s->o, give_channel, &g);
    return LIGHT_OK;
}
