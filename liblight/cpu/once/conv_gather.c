/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions that gather, as matrix products without the matrix: a tile's rows are output pixels, and for each tap
 * their inputs lie evenly apart in work memory (conv_axis.h), so a tile sums over all taps in registers.
 *
 * A task is a strip of output rows of a few images, all channels. Every output is one chain of additions, cut at the
 * same taps whatever the tiling, so neither the tasks nor the threads show in the bits. */
#include "cpu/once/conv_gather.h"

#include "cpu/gemm_kernels.h"
#include "cpu/once/conv_axis.h"
#include "cpu/once/gemm.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

#include <string.h>

enum {
    STRIP_BYTES = 256 << 10, /* of input, at most, that a task holds */
    PANEL_BYTES = 64 << 10,  /* of finished output */
    WEIGHT_BYTES = 32 << 10, /* of packed weights that tiles go over before the next rows of taps */
    EDGES = 8,               /* images side by side from which on tiles stop where taps fall away */
    TASKS = 16,              /* to have, if the rows allow */
};

typedef struct {
    light_conv_pass pass;
    const light_conv_shape *s;
    const light_gemm_kernels *kernels;
    const light_gemm_family *family;
    light_conv_strip in;
    int64_t size;            /* bytes of a real number */
    int64_t groups, ci, co;  /* channels in and out of a group */
    int64_t kw, taps;        /* of a window: across, and all */
    int64_t join, block;     /* see fill_lanes */
    int64_t classes[2];      /* outputs with taps in common lie so far apart */
    int64_t out_h, out_w;    /* of the output image */
    int64_t rows, in_stride; /* output rows of a class, at most; input rows from one to the next */
    int64_t top, reach;      /* the first input row that output row 0 needs, and how many */
    int64_t images, chunks, strips, strip;
    int64_t nr, panels, weight_panel; /* columns of a panel; their number; elements of one */
    const char *bias, *w;
    char *out, *weights, *work;
    size_t room, rank_bytes; /* of the strip; of all that a thread has */
    bool accumulate;
} gather;

/* What a task has at hand. */
typedef struct {
    const gather *g;
    light_conv_axis down, across;
    int64_t first, images; /* of the batch */
    int64_t from, to;      /* output rows of the class */
    int64_t in_from;       /* the first input row in the strip */
    int64_t width;         /* columns of the tile */
    bool more;             /* the panel holds the sums over the first taps */
    const char *strip, *weights;
    char *room, *panel; /* where outputs go: work memory [row, column, image, width], or */
    bool in_place;      /* their place in the image, */
    int64_t row, pixel; /* with rows and pixels so many elements apart */
    const char *bias;   /* that tiles in place add with the last taps */
    light_gemm_part *parts;
    light_conv_ahead next;
} gather_task;

static light_conv_axis axis_of(const gather *g, int d, int64_t a)
{
    light_conv_axis x =
        g->pass == LIGHT_CONV_FORWARD ? light_conv_forward_axis(g->s, d) : light_conv_data_axis(g->s, d, a);
    if (d == 0 || g->block == 1) return x;
    x.taps += (g->block - 1) * x.stride;
    x.stride *= g->block;
    x.count /= g->block;
    return x;
}

/* ---- tiles --------------------------------------------------------------- */

/* The taps `down` and `across` (from the first up to the second) as parts of a sum; returns how many there are. */
static int64_t list_parts(const gather_task *t, int64_t u, int64_t x, const int64_t down[2],
                          const int64_t across[2], bool merged)
{
    const gather *g = t->g;
    const light_conv_axis *v = &t->down, *h = &t->across;
    const int64_t row = light_conv_strip_row(&g->in, t->images);
    int64_t n = 0;
    for (int64_t i = down[0]; i < down[1]; i++) {
        const int64_t at = (u * v->stride + v->offset + i * v->spread - t->in_from) * row;
        for (int64_t j = across[0]; j < (merged ? across[0] + 1 : across[1]); j++) {
            const int64_t column = x * h->stride + h->offset + j * h->spread;
            const int64_t tap = (v->first + i * v->skip) * g->kw + h->first + j * h->skip;
            t->parts[n++] = (light_gemm_part){at + light_conv_strip_column(&g->in, t->images, column),
                                              tap * g->ci * t->width};
        }
    }
    return n;
}

/* Outputs [x, end) of row u, which have the same taps across. */
static void sum_run(const gather_task *t, int64_t u, int64_t x, int64_t end, const int64_t down[2],
                    const int64_t across[2])
{
    const gather *g = t->g;
    const light_conv_axis *h = &t->across;
    /* Taps side by side in memory, input and weights alike, are one deep part. */
    const bool merged = g->in.pixel == g->ci && t->images == 1 && h->spread == 1 && h->skip == 1;
    const int64_t parts = list_parts(t, u, x, down, across, merged && across[1] > across[0]);
    const int64_t depth = parts == 0 ? 0 : merged ? (across[1] - across[0]) * g->ci : g->ci;
    const int64_t rows = (end - x) * t->images, step = light_conv_strip_step(&g->in, t->images);
    const int64_t mr = light_conv_ceil(rows, light_conv_ceil(rows, g->family->mr));
    char *to = t->panel + ((u - t->from) * t->row + x * t->images * t->pixel) * g->size;
    light_gemm_tile tile = {.parts = t->parts,
                            .part_count = parts,
                            .ldc = t->pixel,
                            .cols = t->width,
                            .bias = t->bias,
                            .alpha = 1,
                            .accumulate = t->more};
    for (int64_t r = 0; r < rows; r += mr) {
        const int64_t count = light_conv_min(mr, rows - r);
        tile.c = to + r * t->pixel * g->size;
        g->family->row_any[t->width > g->family->vl][count - 1](depth, t->strip + r * step * g->size, step, 1,
                                                                t->weights, t->width, &tile);
    }
}

static void sum_row(gather_task *t, int64_t u, const int64_t taps[2])
{
    const gather *g = t->g;
    const light_conv_axis *v = &t->down, *h = &t->across;
    const int64_t from = light_conv_max(taps[0], light_conv_first_tap(v, u));
    const int64_t to = light_conv_min(taps[1], light_conv_end_tap(v, u, g->in.h));
    const int64_t down[2] = {from, light_conv_max(from, to)};
    light_conv_fetch(&t->next);
    if (t->images < EDGES) {
        sum_run(t, u, 0, h->count, down, (const int64_t[2]){0, h->taps});
        return;
    }
    for (int64_t x = 0, end; x < h->count; x = end) {
        int64_t across[2] = {light_conv_first_tap(h, x), light_conv_end_tap(h, x, g->in.w)};
        for (end = x + 1; end < h->count && light_conv_first_tap(h, end) == across[0] &&
                          light_conv_end_tap(h, end, g->in.w) == across[1];)
            end++;
        if (across[1] < across[0]) across[1] = across[0];
        sum_run(t, u, x, end, down, across);
    }
}

/* ---- tasks --------------------------------------------------------------- */

/* A panel of `channels` finished output channels from `channel` on to where they belong. */
static void give_panel(const gather_task *t, int64_t channel, int64_t channels)
{
    const gather *g = t->g;
    const light_conv_axis *v = &t->down, *h = &t->across;
    const int64_t all = g->co * g->groups, out_size = (int64_t)light_dtype_size(g->s->dtype);
    const light_conv_pixels p = {.pixels = h->count,
                                 .channels = channels,
                                 .from_step = t->images * t->width,
                                 .to_step = h->step * all};
    for (int64_t u = t->from; u < t->to; u++)
        for (int64_t i = 0; i < t->images; i++) {
            const int64_t row = (t->first + i) * g->out_h + v->from + u * v->step;
            g->in.kernels->give(g->s->dtype, &p, t->panel + ((u - t->from) * t->row + i * t->width) * g->size,
                                g->bias ? g->bias + channel * g->size : NULL, g->accumulate,
                                g->out + ((row * g->out_w + h->from) * all + channel) * out_size);
        }
}

/* Chooses where tiles of `channels` from `channel` on go: in place, where what a tile leaves is what shall be there. */
static void aim(gather_task *t, int64_t channel, int64_t channels, bool last)
{
    const gather *g = t->g;
    const int64_t all = g->co * g->groups;
    t->in_place = t->images == 1 && channels == t->width && light_dtype_size(g->s->dtype) == (size_t)g->size;
    t->pixel = t->in_place ? t->across.step * all : t->width;
    t->row = t->in_place ? t->down.step * g->out_w * all : t->across.count * t->images * t->width;
    t->bias = t->in_place && last && g->bias ? g->bias + channel * g->size : NULL;
    t->panel = t->room;
    if (!t->in_place) return;
    const int64_t row = t->first * g->out_h + t->down.from + t->from * t->down.step;
    t->panel = g->out + ((row * g->out_w + t->across.from) * all + channel) * g->size;
    t->more = t->more || g->accumulate;
}

static void sum_class(gather_task *t, int64_t group)
{
    const gather *g = t->g;
    const int64_t bytes = g->kw * g->ci * g->nr * g->size, most = light_conv_max(1, WEIGHT_BYTES / bytes);
    for (int64_t j = 0; j < g->panels; j++) {
        const int64_t channel = group * g->co + j * g->nr,
                      channels = light_conv_min(g->nr, g->co - j * g->nr);
        t->width = channels > g->family->vl ? g->nr : g->family->vl;
        t->weights = g->weights + (group * g->panels + j) * g->weight_panel * g->size;
        for (int64_t tap = 0; tap == 0 || tap < t->down.taps; tap += most) {
            t->more = tap > 0;
            aim(t, channel, channels, tap + most >= t->down.taps);
            for (int64_t u = t->from; u < t->to; u++)
                sum_row(t, u, (const int64_t[2]){tap, light_conv_min(tap + most, t->down.taps)});
        }
        if (!t->in_place) give_panel(t, channel, channels);
    }
}

static void run_task(void *context, int64_t index, int rank)
{
    const gather *g = context;
    char *work = g->work + (size_t)rank * g->rank_bytes;
    const int64_t first = index / g->strips * g->images, from = index % g->strips * g->strip;
    const int64_t to = light_conv_min(from + g->strip, g->rows), top = from * g->in_stride + g->top;
    gather_task t = {.g = g,
                     .first = first,
                     .images = light_conv_min(g->images, g->s->n - first),
                     .in_from = light_conv_max(0, top),
                     .strip = work,
                     .room = work + g->room,
                     .parts = (light_gemm_part *)(work + g->rank_bytes) - g->taps};
    const int64_t in_to = light_conv_min(g->in.h, top + (to - from - 1) * g->in_stride + g->reach);
    if (t.images == 1)
        t.next = light_conv_next(&g->in, first, in_to, (to - from) * g->in_stride, g->s->n,
                                 g->panels * (to - from));
    for (int64_t group = 0; group < g->groups; group++) {
        light_conv_strip_fill(&g->in, first, t.images, group * g->ci, t.in_from, in_to, work);
        for (int64_t a = 0; a < g->classes[0]; a++)
            for (int64_t b = 0; b < g->classes[1]; b++) {
                t.down = axis_of(g, 0, a);
                t.across = axis_of(g, 1, b);
                t.from = light_conv_min(from, t.down.count);
                t.to = light_conv_min(to, t.down.count);
                sum_class(&t, group);
            }
    }
}

/* ---- weights ------------------------------------------------------------- */

/* Where packed weights come from and go to: a panel [tap, channel in, column]. */
typedef struct {
    const gather *g;
    light_gemm_pack_fn *pack;
    int64_t group, first, columns, width; /* of weights: before groups were joined and pixels put together */
    int64_t ci, co, taps;
    char *room, *panel;
} packing;

/* One row of weights: those of a tap and a channel, for the columns from `column` on. */
static void place(const packing *p, int64_t tap, int64_t channel, int64_t column, const char *from)
{
    const gather *g = p->g;
    const int64_t kw = g->s->kw, step = g->pass == LIGHT_CONV_FORWARD ? g->s->stride[1] : 1;
    for (int64_t b = 0; b < g->block; b++) {
        const int64_t to = (tap / kw * g->kw + tap % kw + b * step) * g->ci + channel;
        memcpy(p->panel + (to * p->width + column + b * p->co) * g->size, from,
               (size_t)(p->columns * g->size));
    }
}

static void pack_forward(const packing *p, int64_t column)
{
    const gather *g = p->g;
    const int64_t in_size = (int64_t)light_dtype_size(g->s->dtype), row = p->width * g->size;
    const int64_t most = light_conv_max(1, 256 / p->taps), channel = column / p->co * p->ci;
    for (int64_t c = 0; c < p->ci; c += most) {
        const int64_t count = light_conv_min(most, p->ci - c), o = p->group * p->co + p->first;
        p->pack(p->room, p->width, p->columns, g->w + (o * p->ci + c) * p->taps * in_size, p->ci * p->taps,
                count * p->taps);
        for (int64_t i = 0; i < count * p->taps; i++)
            place(p, i % p->taps, channel + c + i / p->taps, column, p->room + i * row);
    }
}

/* From the last tap back, with the channels in and out exchanged. */
static void pack_turned(const packing *p, int64_t column)
{
    const gather *g = p->g;
    const int64_t in_size = (int64_t)light_dtype_size(g->s->dtype), row = p->width * g->size;
    const int64_t channel = column / p->co * p->ci;
    for (int64_t o = 0; o < p->ci; o++) {
        const int64_t from = (p->group * p->ci + o) * p->co + p->first;
        p->pack(p->room, p->width, p->columns, g->w + from * p->taps * in_size, p->taps, p->taps);
        for (int64_t t = 0; t < p->taps; t++)
            place(p, p->taps - 1 - t, channel + o, column, p->room + t * row);
    }
}

static void pack_panel(void *context, int64_t index, int rank)
{
    const gather *g = context;
    static const light_gemm_src sources[] = {[LIGHT_F32] = LIGHT_GEMM_SRC_F32,
                                             [LIGHT_F64] = LIGHT_GEMM_SRC_F64,
                                             [LIGHT_BF16] = LIGHT_GEMM_SRC_BF16,
                                             [LIGHT_F16] = LIGHT_GEMM_SRC_F16};
    const int64_t columns = light_conv_min(g->nr, g->co - index % g->panels * g->nr);
    packing p = {.g = g,
                 .pack = g->kernels->pack_rows[sources[g->s->dtype]],
                 .first = index % g->panels * g->nr,
                 .width = columns > g->family->vl ? g->nr : g->family->vl,
                 .ci = g->ci / g->join,
                 .co = g->co / (g->join * g->block),
                 .taps = g->s->kh * g->s->kw,
                 .room = g->work + (size_t)rank * g->rank_bytes,
                 .panel = g->weights + index * g->weight_panel * g->size};
    p.columns = light_conv_min(columns, p.co);
    memset(p.panel, 0, (size_t)(g->weight_panel / g->nr * p.width * g->size));
    for (int64_t j = 0; j < g->join; j++) {
        p.group = index / g->panels * g->join + j;
        if (g->pass == LIGHT_CONV_FORWARD)
            pack_forward(&p, j * p.co);
        else
            pack_turned(&p, j * p.co);
    }
}

/* ---- the plan ------------------------------------------------------------ */

/* A window of one pixel: the input is a smaller image without the pixels between. */
static void skip_pixels(gather *g, light_conv_shape *s)
{
    if (g->pass != LIGHT_CONV_FORWARD || s->kh * s->kw > 1 || s->padding[0] || s->padding[1]) return;
    g->in.row_step *= s->stride[0];
    g->in.pixel_step *= s->stride[1];
    g->in.h = s->h = s->oh;
    g->in.w = s->w = s->ow;
    s->stride[0] = s->stride[1] = 1;
}

/* What all classes of an axis need together: the first input of output 0, how many inputs from there on to the last of
 * that output, and the number of outputs. */
static void span(const gather *g, int d, int64_t *first, int64_t *reach, int64_t *outputs)
{
    int64_t low = INT64_MAX, high = INT64_MIN;
    *outputs = 0;
    for (int64_t a = 0; a < g->classes[d]; a++) {
        const light_conv_axis x = axis_of(g, d, a);
        *outputs = light_conv_max(*outputs, x.count);
        if (x.count == 0 || x.taps == 0) continue;
        low = light_conv_min(low, x.offset);
        high = light_conv_max(high, x.offset + (x.taps - 1) * x.spread);
    }
    *first = low <= high ? low : 0;
    *reach = low <= high ? high - low + 1 : 1;
}

/* Few output channels leave lanes of a vector idle. Groups are joined to one, with weights of 0 between them, as long as
 * one vector holds their outputs; or pixels side by side are taken for one of more channels, whose window is wider. */
static void fill_lanes(gather *g, const light_conv_shape *s)
{
    const bool forward = g->pass == LIGHT_CONV_FORWARD;
    const int64_t step = forward ? s->stride[1] : 1, columns = forward ? s->ow : s->w, lanes = g->family->vl;
    for (int64_t n = 2; n <= s->groups && n * g->co <= lanes; n++)
        if (s->groups % n == 0) g->join = n;
    g->groups = s->groups / g->join;
    g->ci *= g->join, g->co *= g->join;
    if (s->groups > 1 || s->dilation[1] > 1 || (!forward && s->stride[1] > 1)) return;
    int64_t best = 1;
    for (int64_t n = 2; n * g->co <= lanes; n++)
        if (columns % n == 0 && (s->kw + (n - 1) * step) * best < (s->kw + (best - 1) * step) * n) best = n;
    g->block = best;
    g->co *= best;
    g->out_w /= best;
    g->kw += (best - 1) * step;
}

static void describe_input(gather *g, const light_conv_shape *s, const void *in)
{
    const bool forward = g->pass == LIGHT_CONV_FORWARD;
    const int64_t h = forward ? s->h : s->oh, w = forward ? s->w : s->ow, all = forward ? s->c : s->o;
    g->in = (light_conv_strip){.kernels = light_cpu_conv_kernels(),
                               .dtype = s->dtype,
                               .data = in,
                               .h = h,
                               .w = w,
                               .pixel_step = all,
                               .row_step = w * all,
                               .image_step = h * w * all};
}

/* Classes, strides and pixels, once it is clear what a group and an output are. */
static void describe_windows(gather *g, const light_conv_shape *s)
{
    const bool forward = g->pass == LIGHT_CONV_FORWARD;
    g->taps = s->kh * g->kw;
    g->classes[0] = forward ? 1 : light_conv_min(s->stride[0], s->h);
    g->classes[1] = forward ? 1 : light_conv_min(s->stride[1], s->w);
    g->in_stride = forward ? s->stride[0] : 1;
    g->in.phases = (forward ? s->stride[1] : 1) * g->block;
    g->in.channels = g->ci;
    g->in.pixel =
        g->ci * g->size % 2048 ? g->ci : g->ci + 16; /* rows of a tile in different sets of the cache */
}

static void plan_strips(gather *g)
{
    const light_conv_shape *s = g->s;
    int64_t across, columns;
    span(g, 0, &g->top, &g->reach, &g->rows);
    span(g, 1, &g->in.left, &across, &columns);
    g->in.columns = (columns - 1) * g->in.phases + across;
    g->images = light_conv_side_by_side(s->n, columns, g->ci);
    g->chunks = light_conv_ceil(s->n, g->images);
    const int64_t row = light_conv_strip_row(&g->in, g->images) * g->size;
    const int64_t panel = columns * g->images * g->nr * g->size;
    int64_t fit = (STRIP_BYTES / row - g->reach) / g->in_stride + 1;
    fit = light_conv_min(light_conv_max(fit, 1), light_conv_max(1, PANEL_BYTES / panel));
    g->strips = light_conv_ceil(g->rows, fit);
    if (g->strips * g->chunks < TASKS) g->strips = light_conv_min(g->rows, light_conv_ceil(TASKS, g->chunks));
    g->strip = light_conv_ceil(g->rows, g->strips);
    g->strips = light_conv_ceil(g->rows, g->strip);
    const int64_t rows = light_conv_min((g->strip - 1) * g->in_stride + g->reach, g->in.h);
    const size_t held = (size_t)(rows * row) + LIGHT_GEMM_MAX_NR * 8;
    const size_t packing = (size_t)(light_conv_max(256, s->kh * s->kw) * g->nr * g->size);
    g->room = (light_conv_max(held, packing) + 4095) / 4096 * 4096;
    const size_t parts = (size_t)g->taps * sizeof(light_gemm_part);
    g->rank_bytes = (g->room + (size_t)(g->strip * panel) + parts + 4095) / 4096 * 4096;
}

static light_status prepare(gather *g)
{
    g->panels = light_conv_ceil(g->co, g->nr);
    g->weight_panel = g->taps * g->ci * g->nr;
    const size_t weights = (size_t)(g->groups * g->panels * g->weight_panel * g->size);
    const int64_t one = g->co / g->block * g->size,
                  bias = g->block > 1 ? light_conv_ceil(g->co * g->size, 64) * 64 : 0;
    g->weights = light_cpu_scratch(LIGHT_SCRATCH_CONV,
                                   weights + (size_t)bias + (size_t)light_team_size() * g->rank_bytes);
    if (!g->weights) return LIGHT_ERR_MEMORY;
    g->work = g->weights + weights + bias;
    for (int64_t b = 0; g->bias && g->block > 1 && b < g->block; b++)
        memcpy(g->weights + weights + b * one, g->bias, (size_t)one);
    if (g->bias && g->block > 1) g->bias = g->weights + weights;
    return LIGHT_OK;
}

light_status light_conv_gather(light_conv_pass pass, const light_conv_shape *shape, const void *in,
                               const void *w, const void *bias, void *out, bool accumulate)
{
    light_conv_shape s = *shape;
    const bool forward = pass == LIGHT_CONV_FORWARD, f64 = s.dtype == LIGHT_F64;
    gather g = {.pass = pass,
                .s = &s,
                .kernels = light_cpu_gemm_kernels(),
                .bias = bias,
                .w = w,
                .out = out,
                .accumulate = accumulate,
                .kw = s.kw,
                .join = 1,
                .block = 1,
                .size = f64 ? 8 : 4};
    g.family = f64 ? &g.kernels->f64 : &g.kernels->f32;
    g.nr = 2 * g.family->vl;
    g.ci = (forward ? s.c : s.o) / s.groups;
    g.co = (forward ? s.o : s.c) / s.groups;
    g.out_h = forward ? s.oh : s.h, g.out_w = forward ? s.ow : s.w;
    if (s.n * g.out_h * g.out_w * g.co == 0) return LIGHT_OK;
    describe_input(&g, &s, in);
    skip_pixels(&g, &s);
    fill_lanes(&g, &s);
    describe_windows(&g, &s);
    plan_strips(&g);
    LIGHT_TRY(prepare(&g));
    const int64_t work = s.n * s.oh * s.ow * s.o * (s.c / s.groups) * g.taps;
    light_team_each(s.o * (s.c / s.groups) * g.taps > 65536, g.groups * g.panels, pack_panel, &g);
    light_team_each(work > 65536, g.chunks * g.strips, run_task, &g);
    return LIGHT_OK;
}
