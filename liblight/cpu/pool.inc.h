/* SPDX-License-Identifier: Apache-2.0 */
/* Template of pool.c in one arithmetic (real.inc.h). Gradients are gathered: each element of gx adds up what the windows
 * over it send back, so it is written once, in a fixed order, by one thread. */

/* ---- channels side by side in memory: vectors of channels ---------------- */

static void NAME(max_pixel)(const pool *p, int64_t n, int64_t oh, int64_t ow, int64_t c, int64_t count)
{
    window h = window_at(&p->h, oh), w = window_at(&p->w, ow);
    REAL best[BLOCK], room[BLOCK];
    int32_t spare[BLOCK],
        *at = p->index ? (int32_t *)p->index->data + element(p->index, n, c, oh, ow) : spare;
    bool first = true;

    for (int64_t ih = h.first; ih < h.end; ih += h.step) {
        for (int64_t iw = w.first; iw < w.end; iw += w.step) {
            const REAL *x = NAME(load)(p->x->dtype, address(p->x, n, c, ih, iw), count, room);
            int32_t pixel = (int32_t)(ih * p->w.in + iw);
            for (int64_t i = 0; first && i < count; i++) {
                best[i] = x[i];
                at[i] = pixel;
            }
            for (int64_t i = 0; !first && i < count; i++) {
                bool take = (x[i] > best[i]) | (x[i] != x[i]);
                best[i] = take ? x[i] : best[i];
                at[i] = take ? pixel : at[i];
            }
            first = false;
        }
    }
    for (int64_t i = 0; first && i < count; i++) { /* a dilated window can miss a small image */
        best[i] = -INFINITY;
        at[i] = -1;
    }
    NAME(store)(p->y->dtype, address(p->y, n, c, oh, ow), count, best, false);
}

static void NAME(avg_pixel)(const pool *p, int64_t n, int64_t oh, int64_t ow, int64_t c, int64_t count)
{
    window h = window_at(&p->h, oh), w = window_at(&p->w, ow);
    REAL sum[BLOCK], room[BLOCK], scale = (REAL)average_scale(p, oh, ow);

    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int64_t ih = h.first; ih < h.end; ih++) {
        for (int64_t iw = w.first; iw < w.end; iw++) {
            const REAL *x = NAME(load)(p->x->dtype, address(p->x, n, c, ih, iw), count, room);
            for (int64_t i = 0; i < count; i++) sum[i] += x[i];
        }
    }
    for (int64_t i = 0; i < count; i++) sum[i] *= scale;
    NAME(store)(p->y->dtype, address(p->y, n, c, oh, ow), count, sum, false);
}

static void NAME(gradient_pixel)(const pool *p, int64_t n, int64_t ih, int64_t iw, int64_t c, int64_t count)
{
    window h = windows_over(&p->h, ih), w = windows_over(&p->w, iw);
    REAL sum[BLOCK], room[BLOCK];
    int32_t pixel = (int32_t)(ih * p->w.in + iw);

    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int64_t oh = h.first; oh < h.end; oh++) {
        for (int64_t ow = w.first; ow < w.end; ow++) {
            const REAL *gy = NAME(load)(p->y->dtype, address(p->y, n, c, oh, ow), count, room);
            if (p->index) {
                const int32_t *at = (const int32_t *)p->index->data + element(p->index, n, c, oh, ow);
                for (int64_t i = 0; i < count; i++) sum[i] += at[i] == pixel ? gy[i] : 0;
            } else {
                REAL scale = (REAL)average_scale(p, oh, ow);
                for (int64_t i = 0; i < count; i++) sum[i] += gy[i] * scale;
            }
        }
    }
    NAME(store)(p->x->dtype, address(p->x, n, c, ih, iw), count, sum, p->add);
}

/* Runs `pixel` over a row of pixels, in blocks of channels. */
static void NAME(channels_row)(const pool *p, const light_tensor *over, int64_t row,
                               void (*pixel)(const pool *, int64_t, int64_t, int64_t, int64_t, int64_t))
{
    int64_t channels = over->shape[1], n = row / over->shape[2], h = row % over->shape[2];

    for (int64_t w = 0; w < over->shape[3]; w++)
        for (int64_t c = 0; c < channels; c += BLOCK)
            pixel(p, n, h, w, c, channels - c < BLOCK ? channels - c : BLOCK);
}

/* ---- any strides: plane by plane ----------------------------------------- */

static inline REAL NAME(value)(const light_tensor *t, const char *plane, int64_t h, int64_t w)
{
    REAL room;
    return *NAME(load)(t->dtype, plane + (h * t->strides[2] + w * t->strides[3]) * size_of(t), 1, &room);
}

/* Outputs [ow, ow + count) of one row, for rows of the image that can be read in place. */
static void NAME(forward_segment)(const pool *p, const char *plane, window h, int64_t ow, int64_t count,
                                  REAL *result, int32_t *at)
{
    for (int64_t i = 0; i < count; i++) {
        result[i] = p->max ? -INFINITY : 0;
        at[i] = -1;
    }
    for (int64_t ih = h.first; ih < h.end; ih += h.step) {
        const REAL *row = (const REAL *)(const void *)(plane + ih * p->x->strides[2] * size_of(p->x));
        for (int64_t k = 0; k < p->w.kernel; k++) {
            /* Output i reads pixel first + i stride: those with a pixel inside the image are from .. to. */
            int64_t stride = p->w.stride, first = ow * stride - p->w.padding + k * p->w.dilation;
            int64_t from = first < 0 ? ceil_div(-first, stride) : 0;
            int64_t to = first >= p->w.in ? 0 : ceil_div(p->w.in - first, stride);
            int32_t pixel = (int32_t)(ih * p->w.in + first);
            if (to > count) to = count;
            for (int64_t i = from; !p->max && i < to; i++) result[i] += row[first + i * stride];
            for (int64_t i = from; p->max && i < to; i++) {
                REAL x = row[first + i * stride];
                bool take = (x > result[i]) | (x != x) | (at[i] < 0);
                result[i] = take ? x : result[i];
                at[i] = take ? pixel + (int32_t)(i * stride) : at[i];
            }
        }
    }
}

static void NAME(forward_rows)(const pool *p, int64_t n, int64_t c)
{
    REAL result[BLOCK];
    int32_t at[BLOCK];

    for (int64_t oh = 0; oh < p->h.out; oh++) {
        for (int64_t ow = 0; ow < p->w.out; ow += BLOCK) {
            int64_t count = p->w.out - ow < BLOCK ? p->w.out - ow : BLOCK;
            NAME(forward_segment)(p, address(p->x, n, c, 0, 0), window_at(&p->h, oh), ow, count, result, at);
            for (int64_t i = 0; !p->max && i < count; i++) result[i] *= (REAL)average_scale(p, oh, ow + i);
            for (int64_t i = 0; p->index && i < count; i++)
                ((int32_t *)p->index->data)[element(p->index, n, c, oh, ow + i)] = at[i];
            for (int64_t i = 0; i < count; i++)
                NAME(store)(p->y->dtype, address(p->y, n, c, oh, ow + i), 1, &result[i], false);
        }
    }
}

static void NAME(forward_plane)(const pool *p, int64_t n, int64_t c)
{
    if (!p->h.adaptive && p->x->strides[3] == 1 &&
        p->x->dtype == (sizeof(REAL) == 8 ? LIGHT_F64 : LIGHT_F32)) {
        NAME(forward_rows)(p, n, c);
        return;
    }
    const char *plane = address(p->x, n, c, 0, 0);

    for (int64_t oh = 0; oh < p->h.out; oh++) {
        window h = window_at(&p->h, oh);
        for (int64_t ow = 0; ow < p->w.out; ow++) {
            window w = window_at(&p->w, ow);
            REAL result = p->max ? -INFINITY : 0;
            int64_t at = h.first < h.end && w.first < w.end ? h.first * p->w.in + w.first : -1;
            for (int64_t ih = h.first; ih < h.end; ih += h.step) {
                for (int64_t iw = w.first; iw < w.end; iw += w.step) {
                    REAL x = NAME(value)(p->x, plane, ih, iw);
                    if (!p->max) {
                        result += x;
                    } else if (x > result || x != x) {
                        result = x;
                        at = ih * p->w.in + iw;
                    }
                }
            }
            if (!p->max) result *= (REAL)average_scale(p, oh, ow);
            if (p->index) ((int32_t *)p->index->data)[element(p->index, n, c, oh, ow)] = (int32_t)at;
            NAME(store)(p->y->dtype, address(p->y, n, c, oh, ow), 1, &result, false);
        }
    }
}

/* The largest elements' gradients put where they came from, for planes that can be added to in place. */
static void NAME(scatter_plane)(const pool *p, int64_t n, int64_t c)
{
    REAL *plane = (REAL *)(void *)address(p->x, n, c, 0, 0);
    const char *gy = address(p->y, n, c, 0, 0);
    const int32_t *index = (const int32_t *)p->index->data + element(p->index, n, c, 0, 0);

    if (!p->add) memset(plane, 0, (size_t)(p->h.in * p->w.in) * sizeof *plane);
    for (int64_t oh = 0; oh < p->h.out; oh++) {
        for (int64_t ow = 0; ow < p->w.out; ow++) {
            int32_t pixel = index[oh * p->index->strides[2] + ow * p->index->strides[3]];
            if (pixel >= 0) plane[pixel] += NAME(value)(p->y, gy, oh, ow);
        }
    }
}

static void NAME(backward_plane)(const pool *p, int64_t n, int64_t c)
{
    if (p->index && p->x->strides[3] == 1 && p->x->strides[2] == p->w.in &&
        p->x->dtype == (sizeof(REAL) == 8 ? LIGHT_F64 : LIGHT_F32)) {
        NAME(scatter_plane)(p, n, c);
        return;
    }
    const char *plane = address(p->y, n, c, 0, 0);
    const int32_t *index = p->index ? (const int32_t *)p->index->data + element(p->index, n, c, 0, 0) : NULL;

    for (int64_t ih = 0; ih < p->h.in; ih++) {
        window h = windows_over(&p->h, ih);
        for (int64_t iw = 0; iw < p->w.in; iw++) {
            window w = windows_over(&p->w, iw);
            REAL sum = 0;
            for (int64_t oh = h.first; oh < h.end; oh++) {
                for (int64_t ow = w.first; ow < w.end; ow++) {
                    if (!index)
                        sum += NAME(value)(p->y, plane, oh, ow) * (REAL)average_scale(p, oh, ow);
                    else if (index[oh * p->index->strides[2] + ow * p->index->strides[3]] ==
                             ih * p->w.in + iw)
                        sum += NAME(value)(p->y, plane, oh, ow);
                }
            }
            NAME(store)(p->x->dtype, address(p->x, n, c, ih, iw), 1, &sum, p->add);
        }
    }
}

/* ---- the whole ------------------------------------------------------------ */

static void NAME(forward_part)(void *context, int64_t i, int rank)
{
    const pool *p = context;

    (void)rank;
    if (p->channels)
        NAME(channels_row)(p, p->y, i, p->max ? NAME(max_pixel) : NAME(avg_pixel));
    else
        NAME(forward_plane)(p, i / p->y->shape[1], i % p->y->shape[1]);
}

static void NAME(backward_part)(void *context, int64_t i, int rank)
{
    const pool *p = context;

    (void)rank;
    if (p->channels)
        NAME(channels_row)(p, p->x, i, NAME(gradient_pixel));
    else
        NAME(backward_plane)(p, i / p->x->shape[1], i % p->x->shape[1]);
}

/* Rows of all images, or planes. */
static void NAME(each_part)(const pool *p, const light_tensor *over, light_task_each fn)
{
    light_team_each(p->x->numel >= LIGHT_PARALLEL_MIN, over->shape[0] * over->shape[p->channels ? 2 : 1], fn,
                    (void *)p);
}

static void NAME(pool_forward)(const pool *p)
{
    NAME(each_part)(p, p->y, NAME(forward_part));
}

static void NAME(pool_backward)(const pool *p)
{
    NAME(each_part)(p, p->x, NAME(backward_part));
}
