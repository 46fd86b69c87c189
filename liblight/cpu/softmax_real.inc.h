/* SPDX-License-Identifier: Apache-2.0 */
/* softmax in one floating type; softmax.c includes this for f32 and f64. It wants T, T_DTYPE, NAME(x), EXP(x), LOG(x).
 *
 * Lines lie along the dim. Where it is the fastest in memory a line is worked on by itself, piece by piece; else up to
 * STRIP neighbouring lines are worked on together. */

/* n elements `stride` apart as an array of T. */
static const T *NAME(read)(const operand *o, int64_t offset, int64_t stride, int64_t n, T *room)
{
    const char *x = o->data + offset * (int64_t)o->size;
    uint64_t raw[PIECE];
    if (o->dtype == T_DTYPE) {
        if (stride == 1) return (const T *)(const void *)x;
        LIGHT_ISA(light_gather)(room, x, stride, n, o->size);
    } else if (stride == 1) {
        LIGHT_ISA(light_convert)(room, T_DTYPE, x, o->dtype, n);
    } else {
        LIGHT_ISA(light_gather)(raw, x, stride, n, o->size);
        LIGHT_ISA(light_convert)(room, T_DTYPE, raw, o->dtype, n);
    }
    return room;
}

static void NAME(write)(const operand *o, int64_t offset, int64_t stride, int64_t n, T *values,
                        bool accumulate)
{
    char *y = o->data + offset * (int64_t)o->size;
    uint64_t raw[PIECE];
    if (accumulate) {
        T room[PIECE];
        const T *old = NAME(read)(o, offset, stride, n, room);
        for (int64_t i = 0; i < n; i++) values[i] += old[i];
    }
    if (o->dtype == T_DTYPE) {
        LIGHT_ISA(light_scatter)(y, values, stride, n, o->size);
    } else {
        LIGHT_ISA(light_convert)(stride == 1 ? (void *)y : (void *)raw, o->dtype, values, T_DTYPE, n);
        if (stride != 1) LIGHT_ISA(light_scatter)(y, raw, stride, n, o->size);
    }
}

static double NAME(sum)(const T *x, int64_t n)
{
    T lane[LANES] = {0};
    double total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        _Pragma("omp simd") for (int l = 0; l < LANES; l++) lane[l] += x[i + l];
    }
    for (int l = 0; i < n; i++, l++) lane[l] += x[i];
    for (int l = 0; l < LANES; l++) total += lane[l];
    return total;
}

/* NaN is left out: it comes back with the sum. */
static T NAME(largest)(const T *x, int64_t n, T most)
{
    T lane[LANES];
    int64_t i = 0;
    for (int l = 0; l < LANES; l++) lane[l] = most;
    for (; i + LANES <= n; i += LANES) {
        _Pragma("omp simd") for (int l = 0; l < LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    }
    for (; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (int l = 0; l < LANES; l++) most = lane[l] > most ? lane[l] : most;
    return most;
}

static void NAME(line)(const softmax_work *w, const light_cursor *at)
{
    T room[PIECE], values[PIECE];
    T most = -INFINITY;
    double total = 0;
    for (int64_t from = 0; from < w->n; from += PIECE) {
        int64_t n = w->n - from < PIECE ? w->n - from : PIECE;
        most = NAME(largest)(NAME(read)(&w->a, at->offset[1] + from * w->a.stride, w->a.stride, n, room), n,
                             most);
    }
    for (int64_t from = 0; from < w->n; from += PIECE) {
        int64_t n = w->n - from < PIECE ? w->n - from : PIECE;
        const T *x = NAME(read)(&w->a, at->offset[1] + from * w->a.stride, w->a.stride, n, room);
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = EXP(x[i] - most);
        total += NAME(sum)(values, n);
    }
    const T scale = (T)(1 / total), shift = (T)LOG(total);
    for (int64_t from = 0; from < w->n; from += PIECE) {
        int64_t n = w->n - from < PIECE ? w->n - from : PIECE;
        const T *x = NAME(read)(&w->a, at->offset[1] + from * w->a.stride, w->a.stride, n, room);
        if (w->log) {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = x[i] - most - shift;
        } else if (w->n > PIECE) {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = EXP(x[i] - most) * scale;
        } else { /* they are still there */
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] *= scale;
        }
        NAME(write)(&w->y, at->offset[0] + from * w->y.stride, w->y.stride, n, values, w->accumulate);
    }
}

static void NAME(line_backward)(const softmax_work *w, const light_cursor *at)
{
    T room_g[PIECE], room_y[PIECE], values[PIECE];
    double total = 0;
    for (int64_t from = 0; from < w->n; from += PIECE) {
        int64_t n = w->n - from < PIECE ? w->n - from : PIECE;
        const T *g = NAME(read)(&w->a, at->offset[1] + from * w->a.stride, w->a.stride, n, room_g);
        const T *y = NAME(read)(&w->b, at->offset[2] + from * w->b.stride, w->b.stride, n, room_y);
        if (w->log) {
            total += NAME(sum)(g, n);
            continue;
        }
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = g[i] * y[i];
        total += NAME(sum)(values, n);
    }
    const T dot = (T)total;
    for (int64_t from = 0; from < w->n; from += PIECE) {
        int64_t n = w->n - from < PIECE ? w->n - from : PIECE;
        const T *g = NAME(read)(&w->a, at->offset[1] + from * w->a.stride, w->a.stride, n, room_g);
        const T *y = NAME(read)(&w->b, at->offset[2] + from * w->b.stride, w->b.stride, n, room_y);
        if (w->log) {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = g[i] - EXP(y[i]) * dot;
        } else {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = y[i] * (g[i] - dot);
        }
        NAME(write)(&w->y, at->offset[0] + from * w->y.stride, w->y.stride, n, values, w->accumulate);
    }
}

/* ---- neighbouring lines together ---------------------------------------- */

/* Element k of all lines of the strip. */
static const T *NAME(across)(const operand *o, int64_t offset, int64_t k, int64_t side, int64_t n, T *room)
{
    return NAME(read)(o, offset + k * o->stride, side, n, room);
}

static void NAME(strip)(const softmax_work *w, const light_cursor *at, int64_t n)
{
    int last = w->lines.ndim - 1;
    int64_t side = w->lines.strides[1][last], out_side = w->lines.strides[0][last];
    T room[STRIP], values[STRIP], most[STRIP], total[STRIP] = {0};
    for (int64_t i = 0; i < n; i++) most[i] = -INFINITY;
    for (int64_t k = 0; k < w->n; k++) {
        const T *x = NAME(across)(&w->a, at->offset[1], k, side, n, room);
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) most[i] = x[i] > most[i] ? x[i] : most[i];
    }
    for (int64_t k = 0; k < w->n; k++) {
        const T *x = NAME(across)(&w->a, at->offset[1], k, side, n, room);
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) total[i] += EXP(x[i] - most[i]);
    }
    for (int64_t i = 0; i < n; i++) total[i] = w->log ? LOG(total[i]) : 1 / total[i];
    for (int64_t k = 0; k < w->n; k++) {
        const T *x = NAME(across)(&w->a, at->offset[1], k, side, n, room);
        if (w->log) {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = x[i] - most[i] - total[i];
        } else {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = EXP(x[i] - most[i]) * total[i];
        }
        NAME(write)(&w->y, at->offset[0] + k * w->y.stride, out_side, n, values, w->accumulate);
    }
}

static void NAME(strip_backward)(const softmax_work *w, const light_cursor *at, int64_t n)
{
    int last = w->lines.ndim - 1;
    int64_t side_g = w->lines.strides[1][last], side_y = w->lines.strides[2][last];
    T room_g[STRIP], room_y[STRIP], values[STRIP], dot[STRIP] = {0};
    for (int64_t k = 0; k < w->n; k++) {
        const T *g = NAME(across)(&w->a, at->offset[1], k, side_g, n, room_g);
        const T *y = NAME(across)(&w->b, at->offset[2], k, side_y, n, room_y);
        if (w->log) {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) dot[i] += g[i];
        } else {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) dot[i] += g[i] * y[i];
        }
    }
    for (int64_t k = 0; k < w->n; k++) {
        const T *g = NAME(across)(&w->a, at->offset[1], k, side_g, n, room_g);
        const T *y = NAME(across)(&w->b, at->offset[2], k, side_y, n, room_y);
        if (w->log) {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = g[i] - EXP(y[i]) * dot[i];
        } else {
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) values[i] = y[i] * (g[i] - dot[i]);
        }
        NAME(write)
        (&w->y, at->offset[0] + k * w->y.stride, w->lines.strides[0][last], n, values, w->accumulate);
    }
}

/* Item i is a line, or a strip of up to STRIP lines. */
static void NAME(lines)(void *context, int64_t from, int64_t to)
{
    const softmax_work *w = context;
    int64_t side = w->lines.shape[w->lines.ndim - 1], strips = (side + STRIP - 1) / STRIP;
    light_cursor at;
    for (int64_t item = from; item < to; item++) {
        if (!w->together) {
            light_cursor_at(&w->lines, &at, item);
            if (w->backward)
                NAME(line_backward)(w, &at);
            else
                NAME(line)(w, &at);
            continue;
        }
        int64_t first = item % strips * STRIP, n = side - first < STRIP ? side - first : STRIP;
        light_cursor_at(&w->lines, &at, item / strips * side + first);
        if (w->backward)
            NAME(strip_backward)(w, &at, n);
        else
            NAME(strip)(w, &at, n);
    }
}

#undef T
#undef T_DTYPE
#undef NAME
#undef EXP
#undef LOG
