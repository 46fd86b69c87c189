/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution by im2col and matrix products; see conv_plain.h. A row of `columns` is the window of one output pixel,
 * in the order kh, kw, channel, in which a channels-last image has runs to copy. */
#include "cpu/once/conv_plain.h"

#include "cpu/once/gemm.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

#include <string.h>

enum { COLUMN_BYTES = 8 << 20 };

typedef struct {
    const light_conv_shape *s;
    int64_t size;   /* bytes of an element */
    int64_t cg, og; /* channels in and out of one group */
    int64_t window; /* kh kw cg */
    int64_t images; /* handled at a time */
    bool product;
    char *columns, *weights;
} plain;

static light_status begin(plain *p, const light_conv_shape *s)
{
    *p = (plain){
        .s = s, .size = (int64_t)light_dtype_size(s->dtype), .cg = s->c / s->groups, .og = s->o / s->groups};
    p->window = s->kh * s->kw * p->cg;
    p->product = light_conv_is_product(s);
    const int64_t image = s->oh * s->ow * p->window * p->size, fit = COLUMN_BYTES / (image ? image : 1);
    p->images = p->product || fit > s->n ? s->n : fit > 0 ? fit : 1;
    const int64_t weights = (s->o * p->window * p->size + 4095) / 4096 * 4096;
    p->weights =
        light_cpu_scratch(LIGHT_SCRATCH_CONV, (size_t)(weights + (p->product ? 0 : p->images * image)));
    if (!p->weights) return LIGHT_ERR_MEMORY;
    p->columns = p->weights + weights;
    return LIGHT_OK;
}

#define DEFINE_PERMUTE(T)                                                                                    \
    /* [cg, kh kw] to [kh kw, cg], or back, then perhaps adding. */                                          \
    static void permute_##T(int64_t cg, int64_t taps, const T *in, T *out, bool back, bool add)              \
    {                                                                                                        \
        for (int64_t t = 0; t < taps; t++)                                                                   \
            for (int64_t c = 0; c < cg; c++) {                                                               \
                if (!back)                                                                                   \
                    out[t * cg + c] = in[c * taps + t];                                                      \
                else                                                                                         \
                    out[c * taps + t] = add ? out[c * taps + t] + in[t * cg + c] : in[t * cg + c];           \
            }                                                                                                \
    }
DEFINE_PERMUTE(float)
DEFINE_PERMUTE(double)

/* Weights [o, cg, kh kw] to [o, kh kw, cg], or back. */
typedef struct {
    const plain *p;
    const char *in;
    char *out;
    bool back, add;
} permutation;

static void permute_one(void *context, int64_t i, int rank)
{
    const permutation *m = context;
    const plain *p = m->p;
    const int64_t taps = p->s->kh * p->s->kw, at = i * p->cg * taps * p->size;
    (void)rank;
    if (p->size == 4)
        permute_float(p->cg, taps, (const float *)(m->in + at), (float *)(m->out + at), m->back, m->add);
    else
        permute_double(p->cg, taps, (const double *)(m->in + at), (double *)(m->out + at), m->back, m->add);
}

static void permute(const plain *p, const void *in, void *out, bool back, bool add)
{
    permutation m = {p, in, out, back, add};
    light_team_each(p->s->o * p->cg * p->s->kh * p->s->kw > 65536, p->s->o, permute_one, &m);
}

/* Copies the windows of one row of output pixels. */
static void window_row(const plain *p, const char *image, int64_t y, char *to)
{
    const light_conv_shape *s = p->s;
    const int64_t run = p->cg * p->size, step = s->c * p->size;
    for (int64_t x = 0; x < s->ow; x++)
        for (int64_t i = 0; i < s->kh; i++) {
            const int64_t h = y * s->stride[0] - s->padding[0] + i * s->dilation[0];
            for (int64_t j = 0; j < s->kw; j++, to += run) {
                const int64_t w = x * s->stride[1] - s->padding[1] + j * s->dilation[1];
                if (h < 0 || h >= s->h || w < 0 || w >= s->w)
                    memset(to, 0, (size_t)run);
                else
                    memcpy(to, image + (h * s->w + w) * step, (size_t)run);
            }
        }
}

/* `columns` of images from `first`, of one group. */
typedef struct {
    const plain *p;
    const char *x;
    char *gx;
    int64_t first, group;
    bool add;
} columns;

static void fill_row(void *context, int64_t r, int rank)
{
    const columns *c = context;
    const plain *p = c->p;
    const light_conv_shape *s = p->s;
    const int64_t image = s->h * s->w * s->c * p->size, row = s->ow * p->window * p->size;
    (void)rank;
    window_row(p, c->x + (c->first + r / s->oh) * image + c->group * p->cg * p->size, r % s->oh,
               p->columns + r * row);
}

static void fill_columns(const plain *p, const char *x, int64_t first, int64_t images, int64_t group)
{
    columns c = {.p = p, .x = x, .first = first, .group = group};
    const int64_t rows = images * p->s->oh;
    light_team_each(rows * p->s->ow * p->window * p->size > 65536, rows, fill_row, &c);
}

#define DEFINE_GATHER(T)                                                                                     \
    /* Sums into one row of an input image what the windows that reach it hold. */                           \
    static void gather_##T(const plain *p, const T *columns, int64_t h, T *to, bool add)                     \
    {                                                                                                        \
        const light_conv_shape *s = p->s;                                                                    \
        for (int64_t w = 0; w < s->w && !add; w++)                                                           \
            for (int64_t c = 0; c < p->cg; c++) to[w * s->c + c] = 0;                                        \
        for (int64_t i = 0; i < s->kh; i++) {                                                                \
            const int64_t up = h + s->padding[0] - i * s->dilation[0], y = up / s->stride[0];                \
            if (up < 0 || up % s->stride[0] || y >= s->oh) continue;                                         \
            for (int64_t x = 0; x < s->ow; x++)                                                              \
                for (int64_t j = 0; j < s->kw; j++) {                                                        \
                    const int64_t w = x * s->stride[1] - s->padding[1] + j * s->dilation[1];                 \
                    const T *from = columns + (y * s->ow + x) * p->window + (i * s->kw + j) * p->cg;         \
                    for (int64_t c = 0; c < p->cg && w >= 0 && w < s->w; c++) to[w * s->c + c] += from[c];   \
                }                                                                                            \
        }                                                                                                    \
    }
DEFINE_GATHER(float)
DEFINE_GATHER(double)

static void gather_row(void *context, int64_t r, int rank)
{
    const columns *c = context;
    const plain *p = c->p;
    const light_conv_shape *s = p->s;
    const int64_t row = s->w * s->c * p->size, image = s->oh * s->ow * p->window * p->size;
    const void *from = p->columns + r / s->h * image;
    void *to = c->gx + (c->first * s->h + r) * row + c->group * p->cg * p->size;
    (void)rank;
    if (p->size == 4)
        gather_float(p, from, r % s->h, to, c->add);
    else
        gather_double(p, from, r % s->h, to, c->add);
}

static void gather_columns(const plain *p, char *gx, int64_t first, int64_t images, int64_t group, bool add)
{
    columns c = {.p = p, .gx = gx, .first = first, .group = group, .add = add};
    const int64_t image = p->s->oh * p->s->ow * p->window * p->size;
    light_team_each(images * image > 65536, images * p->s->h, gather_row, &c);
}

light_status light_conv_plain_forward(const light_conv_shape *s, const void *x, const void *w,
                                      const void *bias, void *y, bool accumulate)
{
    plain p;
    LIGHT_TRY(begin(&p, s));
    if (!p.product) permute(&p, w, p.weights, false, false);
    for (int64_t first = 0; first < s->n; first += p.images)
        for (int64_t g = 0; g < s->groups; g++) {
            const int64_t images = s->n - first < p.images ? s->n - first : p.images, pixels = s->oh * s->ow;
            if (!p.product) fill_columns(&p, x, first, images, g);
            const light_gemm_args product = {
                .dtype = s->dtype,
                .out_dtype = s->dtype,
                .trans_b = true,
                .m = images * pixels,
                .n = p.og,
                .k = p.window,
                .a = p.product ? (const char *)x + g * p.cg * p.size : p.columns,
                .lda = p.product ? s->c : p.window,
                .b = (p.product ? (const char *)w : p.weights) + g * p.og * p.window * p.size,
                .ldb = p.window,
                .c = (char *)y + (first * pixels * s->o + g * p.og) * p.size,
                .ldc = s->o,
                .bias = bias ? (const char *)bias + g * p.og * p.size : NULL,
                .accumulate = accumulate,
            };
            LIGHT_TRY(light_cpu_gemm(&product));
        }
    return LIGHT_OK;
}

light_status light_conv_plain_backward_data(const light_conv_shape *s, const void *gy, const void *w,
                                            void *gx, bool accumulate)
{
    plain p;
    LIGHT_TRY(begin(&p, s));
    if (!p.product) permute(&p, w, p.weights, false, false);
    for (int64_t first = 0; first < s->n; first += p.images)
        for (int64_t g = 0; g < s->groups; g++) {
            const int64_t images = s->n - first < p.images ? s->n - first : p.images, pixels = s->oh * s->ow;
            const light_gemm_args product = {
                .dtype = s->dtype,
                .out_dtype = s->dtype,
                .m = images * pixels,
                .n = p.window,
                .k = p.og,
                .a = (const char *)gy + (first * pixels * s->o + g * p.og) * p.size,
                .lda = s->o,
                .b = (p.product ? (const char *)w : p.weights) + g * p.og * p.window * p.size,
                .ldb = p.window,
                .c = p.product ? (char *)gx + g * p.cg * p.size : p.columns,
                .ldc = p.product ? s->c : p.window,
                .accumulate = accumulate && p.product,
            };
            LIGHT_TRY(light_cpu_gemm(&product));
            if (!p.product) gather_columns(&p, gx, first, images, g, accumulate);
        }
    return LIGHT_OK;
}

light_status light_conv_plain_backward_weight(const light_conv_shape *s, const void *gy, const void *x,
                                              void *gw, bool accumulate)
{
    plain p;
    LIGHT_TRY(begin(&p, s));
    char *to = p.product ? gw : p.weights;
    for (int64_t first = 0; first < s->n || first == 0; first += p.images > 0 ? p.images : 1)
        for (int64_t g = 0; g < s->groups; g++) {
            const int64_t images = s->n - first < p.images ? s->n - first : p.images, pixels = s->oh * s->ow;
            if (!p.product) fill_columns(&p, x, first, images, g);
            const light_gemm_args product = {
                .dtype = s->dtype,
                .out_dtype = s->dtype,
                .trans_a = true,
                .m = p.og,
                .n = p.window,
                .k = images * pixels,
                .a = (const char *)gy + (first * pixels * s->o + g * p.og) * p.size,
                .lda = s->o,
                .b = p.product ? (const char *)x + g * p.cg * p.size : p.columns,
                .ldb = p.product ? s->c : p.window,
                .c = to + g * p.og * p.window * p.size,
                .ldc = p.window,
                .accumulate = first > 0 || (accumulate && p.product),
            };
            LIGHT_TRY(light_cpu_gemm(&product));
        }
    if (!p.product) permute(&p, p.weights, gw, true, accumulate);
    return LIGHT_OK;
}
