/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution: which implementation, and how the work is cut.
 *
 * The batch is cut into pieces whose number depends on the shape alone, and every piece is computed by one thread; the
 * pieces of a weight gradient are summed in order. So the bits do not depend on the number of threads. */
#include "cpu/once/conv.h"

#include "cpu/once/conv_plain.h"
#include "cpu/once/gemm.h"
#include "cpu/once/onednn.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

#include <stdatomic.h>
#include <string.h>

enum {
    PIECE_FLOPS = 2000000, /* of work in a piece, at least */
    MAX_PIECES = 16,
    LARGE_WEIGHTS = 300000,
    MANY_PIXELS = 512,
    GRADIENT_BYTES = 24 << 20, /* of partial weight gradients, at most, beyond two */
};

static bool plain_only;

void light_cpu_conv_plain_only(bool plain)
{
    plain_only = plain;
}

static size_t align(size_t bytes)
{
    return (bytes + 4095) / 4096 * 4096;
}

/* ---- pieces of the batch ------------------------------------------------- */

typedef struct {
    light_onednn_conv *conv[2]; /* for `images` images; for the rest that the last piece has */
    int64_t images, pieces;
    int threads;
    char *weights[2], *work; /* packed weights (of each conv), work memory of the threads */
    size_t work_bytes, weight_bytes;
    char *extra; /* what the pass asked for besides */
} pieces;

static int64_t count_pieces(const light_conv_shape *s, int64_t most)
{
    const double flops =
        2.0 * (double)(s->n * s->oh * s->ow) * (double)(s->o * (s->c / s->groups) * s->kh * s->kw);
    int64_t n = 1;
    while (n < most && flops >= 2.0 * PIECE_FLOPS * (double)n) n *= 2;
    /* Large weights are worth their way through the caches for many pixels only. */
    const int64_t weights = s->o * (s->c / s->groups) * s->kh * s->kw;
    while (n > 1 && weights > LARGE_WEIGHTS && s->n * s->oh * s->ow < n * MANY_PIXELS) n /= 2;
    if (n > s->n) n = s->n;
    for (int64_t even = n; even < 2 * n && even <= most; even++)
        if (s->n % even == 0) return even; /* one primitive serves them all */
    return n;
}

/* Finds the convolutions for the pieces. False: oneDNN will not do. */
static bool cut(pieces *p, light_conv_pass pass, const light_conv_shape *s, bool bias, int64_t most)
{
    memset(p, 0, sizeof *p);
    const int64_t wanted = count_pieces(s, most);
    p->images = (s->n + wanted - 1) / wanted;
    p->pieces = (s->n + p->images - 1) / p->images;
    p->threads = light_team_size();
    if (p->pieces == 1) p->threads = 1;
    light_conv_shape part = *s;
    for (int i = 0; i < 2; i++) {
        part.n = i == 0 ? p->images : s->n % p->images;
        if (part.n == 0) break;
        p->conv[i] = light_onednn_conv_get(pass, &part, bias, p->threads);
        if (!p->conv[i]) return false;
        const size_t work = align(light_onednn_conv_work_bytes(p->conv[i]));
        const size_t weights = align(light_onednn_conv_weight_bytes(p->conv[i]));
        if (work > p->work_bytes) p->work_bytes = work;
        if (weights > p->weight_bytes) p->weight_bytes = weights;
    }
    return pass != LIGHT_CONV_BACKWARD_WEIGHT || !p->conv[1] ||
           light_onednn_conv_same_weights(p->conv[0], p->conv[1]);
}

/* Work memory: `weights` packed weights, a piece of work memory for each thread, and `extra` bytes. */
static light_status prepare(pieces *p, int64_t weights, size_t extra)
{
    const size_t packed = (size_t)weights * p->weight_bytes, work = (size_t)p->threads * p->work_bytes;
    char *base = light_cpu_scratch(LIGHT_SCRATCH_CONV, packed + work + extra);
    if (!base) return LIGHT_ERR_MEMORY;
    p->weights[0] = p->weights[1] = base;
    p->work = base + packed;
    p->extra = base + packed + work;
    return LIGHT_OK;
}

/* Packs the weights for a pass that reads them. */
static light_status pack(pieces *p, const void *w)
{
    LIGHT_TRY(light_onednn_conv_pack(p->conv[0], w, p->weights[0]));
    if (!p->conv[1] || light_onednn_conv_same_weights(p->conv[0], p->conv[1])) return LIGHT_OK;
    p->weights[1] = p->weights[0] + p->weight_bytes;
    return light_onednn_conv_pack(p->conv[1], w, p->weights[1]);
}

static void add(light_dtype dtype, int64_t n, const void *from, void *to)
{
    if (dtype == LIGHT_F32) {
        for (int64_t i = 0; i < n; i++) ((float *)to)[i] += ((const float *)from)[i];
        return;
    }
    float wide[256];
    for (int64_t i = 0; i < n; i += 256) {
        const int64_t count = n - i < 256 ? n - i : 256;
        light_cpu_widen(dtype, count, (const uint16_t *)from + i, wide);
        light_cpu_narrow(dtype, count, wide, (uint16_t *)to + i, true);
    }
}

/* What a pass over the pieces reads and writes. */
typedef struct {
    const pieces *p;
    const light_conv_shape *s;
    bool forward, accumulate;
    const char *in, *other; /* other: the bias; or gy of a weight gradient */
    char *out;
    atomic_int status;
} pass_job;

static int64_t images_of(const pass_job *j, int64_t piece)
{
    const int64_t left = j->s->n - piece * j->p->images;
    return left < j->p->images ? left : j->p->images;
}

static light_status run_pieces(pass_job *j, light_task_each fn)
{
    light_team_each(j->p->threads > 1, j->p->pieces, fn, j);
    const light_status status = (light_status)j->status;
    return status == LIGHT_OK ? status : light_fail(status, "conv2d: oneDNN failed");
}

static void run_piece(void *context, int64_t i, int rank)
{
    pass_job *j = context;
    const pieces *p = j->p;
    const light_conv_shape *s = j->s;
    const int64_t size = (int64_t)light_dtype_size(s->dtype), x = s->h * s->w * s->c,
                  y = s->oh * s->ow * s->o;
    const int64_t in_image = j->forward ? x : y, out_image = j->forward ? y : x;
    const int64_t first = i * p->images, images = images_of(j, i);
    const size_t spare = align((size_t)(p->images * out_image * size));
    const int which = images < p->images;
    const char *from = j->in + first * in_image * size;
    char *to = j->out + first * out_image * size,
         *target = j->accumulate ? p->extra + (size_t)rank * spare : to;
    const light_status e =
        light_onednn_conv_run(p->conv[which], rank, j->forward ? from : target, p->weights[which], j->other,
                              j->forward ? target : from, p->work + (size_t)rank * p->work_bytes);
    if (j->accumulate && e == LIGHT_OK) add(s->dtype, images * out_image, target, to);
    if (e != LIGHT_OK) j->status = (int)e;
}

static void run_weights(void *context, int64_t i, int rank)
{
    pass_job *j = context;
    const pieces *p = j->p;
    const light_conv_shape *s = j->s;
    const int64_t size = (int64_t)light_dtype_size(s->dtype), first = i * p->images;
    const light_status e = light_onednn_conv_run(
        p->conv[images_of(j, i) < p->images], rank, j->in + first * s->h * s->w * s->c * size,
        p->weights[0] + (size_t)i * p->weight_bytes, NULL, j->other + first * s->oh * s->ow * s->o * size,
        p->work + (size_t)rank * p->work_bytes);
    if (e != LIGHT_OK) j->status = (int)e;
}

/* ---- the passes for f32 and bf16 ----------------------------------------- */

/* Where measurement speaks for our own products: 1x1, few channels to spread a data gradient into, and small images with
 * many channels. */
static bool better_plain(light_conv_pass pass, const light_conv_shape *s)
{
    const int64_t cg = s->c / s->groups, og = s->o / s->groups;
    return (light_conv_is_product(s) && s->groups == 1) ||
           (pass == LIGHT_CONV_BACKWARD_DATA && cg <= 4 && og >= 16) ||
           (pass != LIGHT_CONV_BACKWARD_DATA && s->oh * s->ow <= 16 && og >= 256);
}

static bool for_onednn(light_conv_pass pass, const light_conv_shape *s)
{
    return !plain_only && s->n > 0 &&
           (s->dtype == LIGHT_BF16 || (s->dtype == LIGHT_F32 && !better_plain(pass, s)));
}

/* A data gradient of stride 1 is a convolution of gy with the weights turned around, and oneDNN's forward code for
 * channels-last images is 5 to 15 % faster than its backward code. */
static bool turns(light_conv_pass pass, const light_conv_shape *s, light_conv_shape *turned)
{
    if (pass != LIGHT_CONV_BACKWARD_DATA || s->dtype != LIGHT_F32 || s->groups > 1 || s->stride[0] > 1 ||
        s->stride[1] > 1 || s->c % 16 || s->o % 16 || s->h * s->w <= 16)
        return false;
    *turned = *s;
    turned->c = s->o, turned->h = s->oh, turned->w = s->ow;
    turned->o = s->c, turned->oh = s->h, turned->ow = s->w;
    turned->padding[0] = (s->kh - 1) * s->dilation[0] - s->padding[0];
    turned->padding[1] = (s->kw - 1) * s->dilation[1] - s->padding[1];
    return turned->padding[0] >= 0 && turned->padding[1] >= 0;
}

typedef struct {
    const light_conv_shape *s;
    const float *w;
    float *turned;
} turning;

static void turn_channel(void *context, int64_t c, int rank)
{
    const turning *m = context;
    const light_conv_shape *s = m->s;
    const int64_t taps = s->kh * s->kw;
    (void)rank;
    for (int64_t o = 0; o < s->o; o++)
        for (int64_t t = 0; t < taps; t++)
            m->turned[(c * s->o + o) * taps + t] = m->w[(o * s->c + c) * taps + taps - 1 - t];
}

/* [o, c, kh kw] to [c, o, kh kw], with kh and kw backwards. */
static void turn_weights(const light_conv_shape *s, const float *w, float *turned)
{
    turning m = {s, w, turned};
    light_team_each(s->c * s->o * s->kh * s->kw > 65536, s->c, turn_channel, &m);
}

/* True when it was done here. */
static bool try_images(light_conv_pass pass, const light_conv_shape *s, const void *in, const void *w,
                       const float *bias, void *out, bool accumulate, light_status *status)
{
    pieces p;
    light_conv_shape turned;
    if (!for_onednn(pass, s)) return false;
    const bool turn =
        turns(pass, s, &turned) && cut(&p, LIGHT_CONV_FORWARD, &turned, bias != NULL, MAX_PIECES);
    if (!turn && !cut(&p, pass, s, bias != NULL, MAX_PIECES)) return false;
    const int64_t image = pass == LIGHT_CONV_FORWARD ? s->oh * s->ow * s->o : s->h * s->w * s->c;
    const size_t spare = align((size_t)(p.images * image) * light_dtype_size(s->dtype));
    size_t extra = accumulate ? (size_t)p.threads * spare : 0;
    const size_t weights = turn ? (size_t)(s->o * s->c * s->kh * s->kw) * sizeof(float) : 0;
    if (extra < weights) extra = weights; /* turned weights are done with before the first piece runs */
    *status = prepare(&p, 2, extra);
    if (*status == LIGHT_OK && turn) turn_weights(s, w, (float *)p.extra);
    if (*status == LIGHT_OK) *status = pack(&p, turn ? p.extra : w);
    if (*status != LIGHT_OK) return true;
    pass_job job = {.p = &p,
                    .s = turn ? &turned : s,
                    .forward = turn || pass == LIGHT_CONV_FORWARD,
                    .accumulate = accumulate,
                    .in = in,
                    .other = (const char *)bias,
                    .out = out};
    *status = run_pieces(&job, run_piece);
    return true;
}

typedef struct {
    float *sums;
    int64_t n, step, count;
} piece_sums;

enum { RUN = 1024 };

static void sum_run(void *context, int64_t run, int rank)
{
    const piece_sums *s = context;
    const int64_t from = run * RUN, to = from + RUN < s->n ? from + RUN : s->n;
    (void)rank;
    for (int64_t q = 1; q < s->count; q++)
        for (int64_t j = from; j < to; j++) s->sums[j] += s->sums[q * s->step + j];
}

static void sum_pieces(float *sums, int64_t n, int64_t step, int64_t count)
{
    piece_sums s = {sums, n, step, count};
    light_team_each(n * count > 65536, (n + RUN - 1) / RUN, sum_run, &s);
}

/* gw is f32 here. */
static bool try_weights(const light_conv_shape *s, const void *gy, const void *x, float *gw, bool accumulate,
                        light_status *status)
{
    pieces p;
    const int64_t bytes = s->o * (s->c / s->groups) * s->kh * s->kw * 4;
    int64_t most = GRADIENT_BYTES / (bytes ? bytes : 1);
    most = most < 2 ? 2 : most > MAX_PIECES / 2 ? MAX_PIECES / 2 : most;
    if (!for_onednn(LIGHT_CONV_BACKWARD_WEIGHT, s) || !cut(&p, LIGHT_CONV_BACKWARD_WEIGHT, s, false, most))
        return false;
    *status = prepare(&p, p.pieces, 0);
    if (*status != LIGHT_OK) return true;
    pass_job job = {.p = &p, .s = s, .in = x, .other = gy};
    *status = run_pieces(&job, run_weights);
    if (*status != LIGHT_OK) return true;
    sum_pieces((float *)p.weights[0], (int64_t)(light_onednn_conv_weight_bytes(p.conv[0]) / 4),
               (int64_t)(p.weight_bytes / 4), p.pieces);
    *status = light_onednn_conv_unpack(p.conv[0], p.weights[0], gw, accumulate);
    return true;
}

/* ---- through f32 ---------------------------------------------------------- */

/* f32 copies of 16-bit operands, and a place for an f32 result. */
static light_status widen(const light_conv_shape *s, int64_t na, const void *a, int64_t nb, const void *b,
                          int64_t nc, float *out[3])
{
    const size_t sizes[3] = {align((size_t)na * 4), align((size_t)nb * 4), align((size_t)nc * 4)};
    char *base = light_cpu_scratch(LIGHT_SCRATCH_CONVERT, sizes[0] + sizes[1] + sizes[2]);
    if (!base) return LIGHT_ERR_MEMORY;
    out[0] = (float *)base;
    out[1] = (float *)(base + sizes[0]);
    out[2] = (float *)(base + sizes[0] + sizes[1]);
    if (a) light_cpu_widen(s->dtype, na, a, out[0]);
    if (b) light_cpu_widen(s->dtype, nb, b, out[1]);
    return LIGHT_OK;
}

static int64_t x_count(const light_conv_shape *s)
{
    return s->n * s->h * s->w * s->c;
}

static int64_t y_count(const light_conv_shape *s)
{
    return s->n * s->oh * s->ow * s->o;
}

static int64_t w_count(const light_conv_shape *s)
{
    return s->o * (s->c / s->groups) * s->kh * s->kw;
}

static bool is_16_bit(light_dtype dtype)
{
    return dtype == LIGHT_BF16 || dtype == LIGHT_F16;
}

/* ---- the calls ------------------------------------------------------------ */

light_status light_cpu_conv_forward(const light_conv_shape *s, const void *x, const void *w, const void *bias,
                                    light_dtype bias_dtype, void *y, bool accumulate)
{
    light_status status = LIGHT_OK;
    const void *wide_bias = bias;
    if (bias && is_16_bit(bias_dtype)) {
        float *wide = light_cpu_scratch(LIGHT_SCRATCH_SUMS, (size_t)s->o * 4);
        if (!wide) return LIGHT_ERR_MEMORY;
        light_cpu_widen(bias_dtype, s->o, bias, wide);
        wide_bias = wide;
    }
    if (try_images(LIGHT_CONV_FORWARD, s, x, w, wide_bias, y, accumulate, &status)) return status;
    if (!is_16_bit(s->dtype)) return light_conv_plain_forward(s, x, w, wide_bias, y, accumulate);
    float *wide[3];
    light_conv_shape f = *s;
    f.dtype = LIGHT_F32;
    LIGHT_TRY(widen(s, x_count(s), x, w_count(s), w, y_count(s), wide));
    LIGHT_TRY(light_cpu_conv_forward(&f, wide[0], wide[1], wide_bias, LIGHT_F32, wide[2], false));
    light_cpu_narrow(s->dtype, y_count(s), wide[2], y, accumulate);
    return LIGHT_OK;
}

light_status light_cpu_conv_backward_data(const light_conv_shape *s, const void *gy, const void *w, void *gx,
                                          bool accumulate)
{
    light_status status = LIGHT_OK;
    if (try_images(LIGHT_CONV_BACKWARD_DATA, s, gy, w, NULL, gx, accumulate, &status)) return status;
    if (!is_16_bit(s->dtype)) return light_conv_plain_backward_data(s, gy, w, gx, accumulate);
    float *wide[3];
    light_conv_shape f = *s;
    f.dtype = LIGHT_F32;
    LIGHT_TRY(widen(s, y_count(s), gy, w_count(s), w, x_count(s), wide));
    LIGHT_TRY(light_cpu_conv_backward_data(&f, wide[0], wide[1], wide[2], false));
    light_cpu_narrow(s->dtype, x_count(s), wide[2], gx, accumulate);
    return LIGHT_OK;
}

light_status light_cpu_conv_backward_weight(const light_conv_shape *s, const void *gy, const void *x,
                                            void *gw, light_dtype gw_dtype, bool accumulate)
{
    light_status status = LIGHT_OK;
    if (s->dtype == LIGHT_F64) return light_conv_plain_backward_weight(s, gy, x, gw, accumulate);
    const bool narrow = is_16_bit(gw_dtype);
    float *wide[3] = {NULL, NULL, gw};
    if (narrow || is_16_bit(s->dtype))
        LIGHT_TRY(widen(s, y_count(s), NULL, x_count(s), NULL, w_count(s), wide));
    float *to = narrow ? wide[2] : gw;
    const bool add_here = accumulate && !narrow;
    if (!try_weights(s, gy, x, to, add_here, &status)) {
        light_conv_shape f = *s;
        f.dtype = LIGHT_F32;
        if (is_16_bit(s->dtype)) {
            light_cpu_widen(s->dtype, y_count(s), gy, wide[0]);
            light_cpu_widen(s->dtype, x_count(s), x, wide[1]);
            if (!try_weights(&f, wide[0], wide[1], to, add_here, &status))
                status = light_conv_plain_backward_weight(&f, wide[0], wide[1], to, add_here);
        } else {
            status = light_conv_plain_backward_weight(s, gy, x, to, add_here);
        }
    }
    if (status == LIGHT_OK && narrow) light_cpu_narrow(gw_dtype, w_count(s), to, gw, accumulate);
    return status;
}
