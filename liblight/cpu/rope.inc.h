/* SPDX-License-Identifier: Apache-2.0 */
/* Template of rope.c in one arithmetic (real.inc.h). */

/* Pairs [first, first + n) of one row. */
static void NAME(rotate)(const rope *r, const char *from, char *to, int64_t first, int64_t n,
                         const REAL *cosine, const REAL *sine)
{
    int64_t size = light_element_size(r->x->dtype), half = r->width / 2;
    REAL room[2][2 * PAIRS], result[2][2 * PAIRS];

    if (r->interleaved) {
        const REAL *x = NAME(load)(r->x->dtype, from + 2 * first * size, 2 * n, room[0]);
        REAL *y = result[0];
        for (int64_t i = 0; i < n; i++) {
            y[2 * i] = x[2 * i] * cosine[i] - x[2 * i + 1] * sine[i];
            y[2 * i + 1] = x[2 * i + 1] * cosine[i] + x[2 * i] * sine[i];
        }
        NAME(store)(r->y->dtype, to + 2 * first * size, 2 * n, y, r->add);
        return;
    }
    const REAL *a = NAME(load)(r->x->dtype, from + first * size, n, room[0]);
    const REAL *b = NAME(load)(r->x->dtype, from + (half + first) * size, n, room[1]);
    for (int64_t i = 0; i < n; i++) {
        result[0][i] = a[i] * cosine[i] - b[i] * sine[i];
        result[1][i] = b[i] * cosine[i] + a[i] * sine[i];
    }
    NAME(store)(r->y->dtype, to + first * size, n, result[0], r->add);
    NAME(store)(r->y->dtype, to + (half + first) * size, n, result[1], r->add);
}

/* All rows at position t. The angles are made once for them, in double. */
static void NAME(rotate_position)(const rope *r, int64_t t, int64_t first, int64_t n,
                                  const double *frequencies)
{
    int64_t size = light_element_size(r->x->dtype);
    REAL cosine[PAIRS], sine[PAIRS];

    for (int64_t i = 0; i < n; i++) {
        double angle = (double)(r->offset + t) * frequencies[i];
        cosine[i] = (REAL)cos(angle);
        sine[i] = (REAL)(r->inverse ? -sin(angle) : sin(angle));
    }
    for (int64_t row = 0; row < r->rows; row++) NAME(rotate)
    (r, r->x->data + row_offset(r->x, row, t) * size, r->y->data + row_offset(r->y, row, t) * size, first, n,
     cosine, sine);
}

typedef struct NAME(pairs) {
    const rope *r;
    const double *frequencies;
    int64_t first, n;
} NAME(pairs);

static void NAME(each_position)(void *context, int64_t t, int rank)
{
    const NAME(pairs) *p = context;

    (void)rank;
    NAME(rotate_position)(p->r, t, p->first, p->n, p->frequencies);
}

static void NAME(rope)(const rope *r, double base)
{
    for (int64_t first = 0; first < r->width / 2; first += PAIRS) {
        int64_t n = r->width / 2 - first < PAIRS ? r->width / 2 - first : PAIRS;
        double frequencies[PAIRS];
        for (int64_t i = 0; i < n; i++)
            frequencies[i] = pow(base, -2.0 * (double)(first + i) / (double)r->width);
        NAME(pairs) p = {r, frequencies, first, n};
        light_team_each(r->x->numel >= LIGHT_PARALLEL_MIN, r->positions, NAME(each_position), &p);
    }
}
