/* SPDX-License-Identifier: Apache-2.0 */
/* Part of pool.c: largest elements of windows of 2x2 pixels side by side, f32 with channels side by side. Every pixel
 * belongs to one window, so windows can write gradients themselves.
 *
 * Channels go in vectors of LANES; the last vector of a pixel overlaps the one before. A pixel of fewer channels lets
 * its vector go on over the pixels after it: what it writes there is wrong, and is written again when their turn comes.
 * At the end of a row, and where gradients are added, channels go in exact numbers instead. */

enum { LANES = 16 };

static bool in_quads(const pool *p)
{
    const axis *axes[] = {&p->h, &p->w};
    const light_tensor *tensors[] = {p->x, p->y, p->index};

    for (int i = 0; i < 2; i++)
        if (axes[i]->adaptive || axes[i]->kernel != 2 || axes[i]->stride != 2 || axes[i]->padding ||
            axes[i]->dilation != 1 || 2 * axes[i]->out > axes[i]->in)
            return false;
    for (int i = 0; i < 3; i++)
        if (!tensors[i] || !light_tensor_is_channels_last(tensors[i])) return false;
    return p->channels && p->x->dtype == LIGHT_F32 && p->y->dtype == LIGHT_F32;
}

/* A row of windows: its two rows of pixels, and how far apart the tensors' neighbours in a row are. */
typedef struct quads {
    float *above, *below, *y;
    int32_t *at;
    int64_t windows, channels;
    int32_t first, width; /* index of the row's first pixel; pixels in a row */
} quads;

static quads quads_of(const pool *p, int64_t row)
{
    int64_t n = row / p->h.out, oh = row % p->h.out;

    return (quads){.above = (float *)p->x->data + element(p->x, n, 0, 2 * oh, 0),
                   .below = (float *)p->x->data + element(p->x, n, 0, 2 * oh + 1, 0),
                   .y = (float *)p->y->data + element(p->y, n, 0, oh, 0),
                   .at = (int32_t *)p->index->data + element(p->index, n, 0, oh, 0),
                   .windows = p->w.out,
                   .channels = p->x->shape[1],
                   .first = (int32_t)(2 * oh * p->w.in),
                   .width = (int32_t)p->w.in};
}

static inline void larger(float x, int32_t pixel, float *best, int32_t *at)
{
    bool take = (x > *best) | (x != x);
    *best = take ? x : *best;
    *at = take ? pixel : *at;
}

static inline void quad_forward(const quads *q, int64_t window, int64_t c, int64_t count)
{
    const int64_t right = q->channels, in = 2 * window * right + c, out = window * right + c;
    const float *restrict above = q->above + in, *restrict below = q->below + in;
    float *restrict y = q->y + out;
    int32_t *restrict at = q->at + out;
    const int32_t pixel = q->first + 2 * (int32_t)window, next = pixel + q->width;

#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float best = above[i];
        int32_t place = pixel;
        larger(above[right + i], pixel + 1, &best, &place);
        larger(below[i], next, &best, &place);
        larger(below[right + i], next + 1, &best, &place);
        y[i] = best;
        at[i] = place;
    }
}

static inline void quad_backward(const quads *q, int64_t window, int64_t c, int64_t count, bool add)
{
    const int64_t right = q->channels, in = 2 * window * right + c, out = window * right + c;
    float *above = q->above + in, *below = q->below + in;
    const float *gy = q->y + out;
    const int32_t *at = q->at + out, pixel = q->first + 2 * (int32_t)window, next = pixel + q->width;
    float *const to[] = {above, above + right, below, below + right};
    const int32_t pixels[] = {pixel, pixel + 1, next, next + 1};

    for (int k = 0; k < 4; k++) { /* pixels by rising address, so that the right values come last */
        float *restrict gx = to[k];
#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            float g = at[i] == pixels[k] ? gy[i] : 0;
            gx[i] = add ? gx[i] + g : g;
        }
    }
}

/* Where the vector of channels from c on begins. */
static inline int64_t vector_at(const quads *q, int64_t c)
{
    return q->channels >= LANES && c + LANES > q->channels ? q->channels - LANES : c;
}

static inline bool vector_fits(const quads *q, int64_t window, int64_t c)
{
    return window * q->channels + vector_at(q, c) + LANES <= q->windows * q->channels;
}

static void quads_forward_rows(void *context, int64_t from, int64_t to)
{
    for (int64_t row = from; row < to; row++) {
        const quads q = quads_of(context, row);
        for (int64_t w = 0; w < q.windows; w++) {
            for (int64_t c = 0; c < q.channels; c += LANES) {
                if (vector_fits(&q, w, c))
                    quad_forward(&q, w, vector_at(&q, c), LANES);
                else
                    quad_forward(&q, w, c, q.channels - c);
            }
        }
    }
}

/* Pixels to the right of and below the last windows belong to none. */
static void quads_border(const pool *p, const quads *q, int64_t row)
{
    const int64_t covered = 2 * q->windows * q->channels, all = p->w.in * q->channels;
    const size_t rest = (size_t)(all - covered) * sizeof(float);

    memset(q->above + covered, 0, rest);
    memset(q->below + covered, 0, rest);
    if (p->h.in % 2 && row % p->h.out == p->h.out - 1) memset(q->below + all, 0, (size_t)all * sizeof(float));
}

static void quads_backward_rows(void *context, int64_t from, int64_t to)
{
    const pool *p = context;

    for (int64_t row = from; row < to; row++) {
        const quads q = quads_of(p, row);
        for (int64_t w = 0; w < q.windows; w++) {
            for (int64_t c = 0; c < q.channels; c += LANES) {
                const int64_t left = q.channels - c;
                if (p->add)
                    quad_backward(&q, w, c, left < LANES ? left : LANES, true);
                else if (vector_fits(&q, w, c))
                    quad_backward(&q, w, vector_at(&q, c), LANES, false);
                else
                    quad_backward(&q, w, c, left, false);
            }
        }
        if (!p->add) quads_border(p, &q, row);
    }
}

static void quads_forward(pool *p)
{
    light_parallel(p->y->shape[0] * p->h.out, 4 * p->w.out * p->x->shape[1], quads_forward_rows, p);
}

static void quads_backward(pool *p)
{
    light_parallel(p->y->shape[0] * p->h.out, 4 * p->w.out * p->x->shape[1], quads_backward_rows, p);
}
