/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions in one type; reduce.c includes this for f32, f64 and i64. It wants
 *   T       the type of elements         TOTAL   the type of results (double or int64_t)
 *   T_DTYPE, TOTAL_DTYPE  their dtypes   NAME(x) x under a name for it
 *   EXP(x)  the exponential function     IS_NAN(x) */

enum { NAME(LANES) = 64, NAME(BLOCK) = 2048 };

static TOTAL NAME(identity)(pass p)
{
    return p == MAX ? LEAST : p == MIN ? MOST : 0;
}

static TOTAL NAME(join)(pass p, TOTAL a, TOTAL b)
{
    switch (p) {
    case MAX: return b > a || IS_NAN(b) ? b : a;
    case MIN: return b < a || IS_NAN(b) ? b : a;
    default: return a + b;
    }
}

/* One step of each pass: the running value a, the element x, the center c. */
#define STEP_SUM(a, x)     ((a) + (x))
#define STEP_MAX(a, x)     ((x) > (a) || IS_NAN(x) ? (x) : (a))
#define STEP_MIN(a, x)     ((x) < (a) || IS_NAN(x) ? (x) : (a))
#define STEP_SQUARES(a, x) ((a) + ((x)-c) * ((x)-c))
#define STEP_EXPS(a, x)    ((a) + EXP((x)-c))

/* ---- along rows --------------------------------------------------------- */

/* n elements in many lanes, which go into one total: the order is the same for every instruction set. */
#define ROW(STEP)                                                                                            \
    for (; i + NAME(LANES) <= n; i += NAME(LANES)) {                                                         \
        _Pragma("omp simd") for (int l = 0; l < NAME(LANES); l++) lane[l] = STEP(lane[l], x[i + l]);         \
    }                                                                                                        \
    for (int l = 0; i < n; i++, l++) lane[l] = STEP(lane[l], x[i]);                                          \
    break
static TOTAL NAME(block)(pass p, const T *x, int64_t n, T c)
{
    T lane[NAME(LANES)];
    int64_t i = 0;
    (void)c;
    for (int l = 0; l < NAME(LANES); l++) lane[l] = (T)NAME(identity)(p);
    switch (p) {
    case SUM: ROW(STEP_SUM);
    case MAX: ROW(STEP_MAX);
    case MIN: ROW(STEP_MIN);
    case SQUARES: ROW(STEP_SQUARES);
    case EXPS: ROW(STEP_EXPS);
    }
    for (int half = NAME(LANES) / 2; half >= 8; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] = p == MAX   ? STEP_MAX(lane[l], lane[l + half])
                      : p == MIN ? STEP_MIN(lane[l], lane[l + half])
                                 : lane[l] + lane[l + half];
    TOTAL total = lane[0];
    for (int l = 1; l < 8; l++) total = NAME(join)(p, total, lane[l]);
    return total;
}
#undef ROW

static TOTAL NAME(row)(pass p, const T *x, int64_t n, T c, TOTAL total)
{
    for (int64_t at = 0; at < n; at += NAME(BLOCK)) {
        int64_t count = n - at < NAME(BLOCK) ? n - at : NAME(BLOCK);
        if (count < 16 && (p == SUM || p == MAX || p == MIN))
            for (int64_t i = 0; i < count; i++) total = NAME(join)(p, total, x[at + i]);
        else
            total = NAME(join)(p, total, NAME(block)(p, x + at, count, c));
    }
    return total;
}

/* Elements [from, to) of the reduced dims of the output whose input begins at `offset`. */
static TOTAL NAME(span)(const plan *w, pass p, int64_t offset, int64_t from, int64_t to, T c)
{
    const light_iter *it = &w->reduced;
    T room[TILE];
    light_cursor at;
    TOTAL total = NAME(identity)(p);
    light_cursor_at(it, &at, from);
    while (from < to) {
        int64_t n = light_cursor_run(it, &at);
        bool direct = w->x_dtype == T_DTYPE && it->strides[0][it->ndim - 1] == 1;
        if (n > to - from) n = to - from;
        if (!direct && n > TILE) n = TILE;
        total = NAME(row)(
            p, read_elements(w, offset + at.offset[0], it->strides[0][it->ndim - 1], n, T_DTYPE, room), n, c,
            total);
        light_cursor_advance(it, &at, n);
        from += n;
    }
    return total;
}

typedef struct NAME(span_work) {
    const plan *w;
    pass p;
    int64_t offset, parts;
    T center;
    TOTAL *totals;
} NAME(span_work);

static void NAME(span_parts)(void *context, int64_t from, int64_t to)
{
    const NAME(span_work) *k = context;
    int64_t n = k->w->reduced.numel;
    for (int64_t i = from; i < to; i++)
        k->totals[i] = NAME(span)(k->w, k->p, k->offset, light_part_at(n, k->parts, i),
                                  light_part_at(n, k->parts, i + 1), k->center);
}

/* One pass for one output. With `wide`, the threads share it. */
static TOTAL NAME(whole)(const plan *w, pass p, int64_t offset, T c, bool wide)
{
    TOTAL totals[MOST_PARTS];
    int64_t n = w->reduced.numel, parts = light_part_count(n, PART, MOST_PARTS);
    NAME(span_work) work = {w, p, offset, parts, c, totals};
    if (wide)
        light_parallel(parts, n / parts, NAME(span_parts), &work);
    else
        NAME(span_parts)(&work, 0, parts);
    TOTAL total = totals[0];
    for (int64_t i = 1; i < parts; i++) total = NAME(join)(p, total, totals[i]);
    return total;
}

static void NAME(output)(const plan *w, int64_t linear, bool wide)
{
    light_cursor at;
    TOTAL total, center = 0;
    light_cursor_at(&w->kept, &at, linear);
    if (w->first != w->last) {
        total = NAME(whole)(w, w->first, at.offset[0], 0, wide);
        center = CENTER(w, total);
    }
    total = NAME(whole)(w, w->last, at.offset[0], (T)center, wide);
    total = FINISH(w, total, (TOTAL)(T)center);
    write_results(w, at.offset[1], 1, &total, TOTAL_DTYPE, 1);
}

static void NAME(outputs)(void *context, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) NAME(output)(context, i, false);
}

/* ---- along columns ------------------------------------------------------ */

#define COLUMNS(STEP)                                                                                        \
    for (int64_t row = 0; row < rows; row++, x += step) {                                                    \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                  \
        {                                                                                                    \
            const T c = centers[i];                                                                          \
            (void)c;                                                                                         \
            lane[i] = STEP(lane[i], x[i]);                                                                   \
        }                                                                                                    \
    }                                                                                                        \
    break
static void NAME(add_rows)(pass p, T *restrict lane, const T *restrict x, int64_t step, int64_t rows,
                           const T *restrict centers, int64_t n)
{
    switch (p) {
    case SUM: COLUMNS(STEP_SUM);
    case MAX: COLUMNS(STEP_MAX);
    case MIN: COLUMNS(STEP_MIN);
    case SQUARES: COLUMNS(STEP_SQUARES);
    case EXPS: COLUMNS(STEP_EXPS);
    }
}
#undef COLUMNS

/* Rows that are added up before they go into the wider total. */
enum { NAME(FEW) = 64 };

/* Rows [from, to) of the reduced dims, n neighbouring outputs at once: memory is read in its order. */
static void NAME(strip)(const plan *w, pass p, int64_t offset, int64_t n, int64_t from, int64_t to,
                        const T *centers, TOTAL *totals)
{
    const light_iter *it = &w->reduced;
    int64_t stride = w->kept.strides[0][w->kept.ndim - 1], step = it->strides[0][it->ndim - 1];
    bool direct = stride == 1 && w->x_dtype == T_DTYPE;
    T lane[TILE], room[TILE];
    light_cursor at;
    for (int64_t i = 0; i < n; i++) totals[i] = NAME(identity)(p);
    light_cursor_at(it, &at, from);
    for (int64_t row = from; row < to;) {
        int64_t end = to - row < NAME(FEW) ? to : row + NAME(FEW);
        for (int64_t i = 0; i < n; i++) lane[i] = (T)NAME(identity)(p);
        while (row < end) {
            int64_t run = direct ? light_cursor_run(it, &at) : 1;
            if (run > end - row) run = end - row;
            const T *x = read_elements(w, offset + at.offset[0], stride, n, T_DTYPE, room);
            NAME(add_rows)(p, lane, x, step, run, centers, n);
            light_cursor_advance(it, &at, run);
            row += run;
        }
        for (int64_t i = 0; i < n; i++) totals[i] = NAME(join)(p, totals[i], lane[i]);
    }
}

typedef struct NAME(strip_work) {
    const plan *w;
    pass p;
    int64_t offset, n, parts;
    const T *centers;
    TOTAL (*totals)[TILE];
} NAME(strip_work);

static void NAME(strip_parts)(void *context, int64_t from, int64_t to)
{
    const NAME(strip_work) *k = context;
    int64_t rows = k->w->reduced.numel;
    for (int64_t i = from; i < to; i++) NAME(strip)
    (k->w, k->p, k->offset, k->n, light_part_at(rows, k->parts, i), light_part_at(rows, k->parts, i + 1),
     k->centers, k->totals[i]);
}

static void NAME(whole_strip)(const plan *w, pass p, int64_t offset, int64_t n, const T *centers,
                              TOTAL *totals, bool wide)
{
    TOTAL partial[STRIP_PARTS][TILE];
    int64_t rows = w->reduced.numel, parts = light_part_count(rows * n, PART, STRIP_PARTS);
    if (parts > rows) parts = rows > 0 ? rows : 1;
    NAME(strip_work) work = {w, p, offset, n, parts, centers, partial};
    if (wide)
        light_parallel(parts, rows * n / parts, NAME(strip_parts), &work);
    else
        NAME(strip_parts)(&work, 0, parts);
    memcpy(totals, partial[0], (size_t)n * sizeof *totals);
    for (int64_t part = 1; part < parts; part++)
        for (int64_t i = 0; i < n; i++) totals[i] = NAME(join)(p, totals[i], partial[part][i]);
}

/* Strip number `item`: up to TILE outputs along the fastest kept dim. */
static void NAME(strip_output)(const plan *w, int64_t item, bool wide)
{
    int last = w->kept.ndim - 1;
    int64_t columns = w->kept.shape[last], strips = (columns + TILE - 1) / TILE;
    int64_t first = item % strips * TILE, n = columns - first < TILE ? columns - first : TILE;
    TOTAL totals[TILE];
    T centers[TILE] = {0};
    light_cursor at;
    light_cursor_at(&w->kept, &at, item / strips * columns + first);
    if (w->first != w->last) {
        NAME(whole_strip)(w, w->first, at.offset[0], n, centers, totals, wide);
        for (int64_t i = 0; i < n; i++) centers[i] = (T)CENTER(w, totals[i]);
    }
    NAME(whole_strip)(w, w->last, at.offset[0], n, centers, totals, wide);
    for (int64_t i = 0; i < n; i++) totals[i] = FINISH(w, totals[i], (TOTAL)centers[i]);
    write_results(w, at.offset[1], w->kept.strides[1][last], totals, TOTAL_DTYPE, n);
}

static void NAME(strip_outputs)(void *context, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) NAME(strip_output)(context, i, false);
}

static void NAME(reduce)(plan *w)
{
    int64_t columns = w->kept.shape[w->kept.ndim - 1];
    int64_t items = w->columns ? w->kept.numel / columns * ((columns + TILE - 1) / TILE) : w->kept.numel;
    int64_t cost = w->kept.numel * w->reduced.numel / items;
    if (items >= 16) {
        light_parallel(items, cost > 16 ? cost : 16, w->columns ? NAME(strip_outputs) : NAME(outputs), w);
        return;
    }
    for (int64_t i = 0; i < items; i++) {
        if (w->columns)
            NAME(strip_output)(w, i, true);
        else
            NAME(output)(w, i, true);
    }
}

#undef STEP_SUM
#undef STEP_MAX
#undef STEP_MIN
#undef STEP_SQUARES
#undef STEP_EXPS
#undef T
#undef TOTAL
#undef T_DTYPE
#undef TOTAL_DTYPE
#undef NAME
#undef EXP
#undef IS_NAN
#undef LEAST
#undef MOST
#undef CENTER
#undef FINISH
