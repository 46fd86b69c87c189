/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products: blocking, packing and threads around the tile kernels of cpu/gemm_kernels.c.
 *
 * An element of C is one chain of multiply-adds in rising k, cut every KC elements, where C itself carries the sum.
 * Which thread computes it, in which tile, packed or not, does not enter. That is why the same bits come out for any
 * number of threads, and why all choices below may depend on it. */
#include "cpu/once/gemm.h"

#include "cpu/gemm_kernels.h"
#include "cpu/once/backend.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

#include <stddef.h>

extern const light_gemm_kernels light_gemm_kernels_generic;
#ifdef LIGHT_CPU_X86_64
extern const light_gemm_kernels light_gemm_kernels_avx2, light_gemm_kernels_avx512;
#endif

enum {
    KC_BYTES = 2048,      /* depth of a packed block, in bytes of one row */
    NC = 1024,            /* columns of B packed at a time */
    A_BYTES = 12 << 20,   /* at most this much of A packed at a time */
    L2_BYTES = 480 << 10, /* of packed A that one thread runs over for every column panel */
    MACS_PER_WAIT = 1000, /* a nanosecond of waiting for the other threads for so much work: a tenth of it */
    MACS_PER_THREAD = 400000, /* below this much work another thread costs more than it brings */
};

typedef struct {
    const light_gemm_args *g;
    const light_gemm_kernels *kernels;
    const light_gemm_family *family;
    light_gemm_src src;
    int64_t in_size, out_size; /* bytes of an element of A and B, of C */
    int64_t unit;              /* elements of k in one packed element: 2 for pairs */
    int64_t packed_size;       /* bytes of a packed element */
    int64_t mr, nr, kc, ks, mb, nc;
    bool pack_a, pack_b, narrow; /* narrow: C is 16 bits wide */
    double alpha;
    int64_t a_bytes, b_bytes, c_bytes; /* parts of one work memory */
} gemm_plan;

/* One run of a plan: by the threads of a team together, or by one thread alone. */
typedef struct {
    const char *a, *b;
    char *c;
    const char *bias;
    char *work;
    bool accumulate;
    int rank, size;
} gemm_run;

static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- which kernels ------------------------------------------------------------------------------------------ */

static const light_gemm_kernels *chosen;
static bool has_bf16;

bool light_cpu_gemm_isa(int isa)
{
    const int best = light_cpu_isa();
    if (isa < 0) isa = best;
    if (isa > best) return false;
    chosen = &light_gemm_kernels_generic;
    has_bf16 = false;
#ifdef LIGHT_CPU_X86_64
    if (isa == 1) chosen = &light_gemm_kernels_avx2;
    if (isa == 2) {
        chosen = &light_gemm_kernels_avx512;
        has_bf16 = __builtin_cpu_supports("avx512bf16");
    }
#endif
    return true;
}

const light_gemm_kernels *light_cpu_gemm_kernels(void)
{
    if (!chosen) light_cpu_gemm_isa(-1);
    return chosen;
}

/* ---- the plan ----------------------------------------------------------------------------------------------- */

static int64_t round_up(int64_t n, int64_t to)
{
    return ceil_div(n, to) * to;
}

static void plan_gemm(gemm_plan *p, const light_gemm_args *g)
{
    if (!chosen) light_cpu_gemm_isa(-1);
    p->g = g;
    p->kernels = chosen;
    p->alpha = g->alpha == 0 ? 1 : g->alpha;
    p->in_size = (int64_t)light_dtype_size(g->dtype);
    p->out_size = (int64_t)light_dtype_size(g->out_dtype);
    p->narrow = p->out_size == 2;
    p->unit = 1;
    p->packed_size = 4;
    p->family = &chosen->f32;
    switch (g->dtype) {
    case LIGHT_F32: p->src = LIGHT_GEMM_SRC_F32; break;
    case LIGHT_F64:
        p->src = LIGHT_GEMM_SRC_F64;
        p->packed_size = 8;
        p->family = &chosen->f64;
        break;
    case LIGHT_F16: p->src = LIGHT_GEMM_SRC_F16; break;
    default: /* bf16 */
        p->src = LIGHT_GEMM_SRC_BF16;
        if (has_bf16) {
            p->src = LIGHT_GEMM_SRC_BF16_PAIR;
            p->family = &chosen->bf16;
            p->unit = 2;
        }
        break;
    }
    const bool direct = p->in_size >= 4 && !p->narrow;
    p->nr = 2 * p->family->vl;
    p->mr = ceil_div(g->m, ceil_div(g->m, p->family->mr));
    /* Tiles read f32 and f64 where they lie as fast as packed. Packing pays where rows a multiple of 4 KiB apart would
     * fight for their cache sets, for a transposed B, and for a B that many rows of A go over. */
    const int64_t a_step = g->lda * p->in_size, b_step = g->ldb * p->in_size;
    p->pack_a = !direct || (a_step % 4096 == 0 && g->n > 4 * p->nr);
    p->pack_b = !direct || g->trans_b || g->m > (b_step % 4096 == 0 ? 8 : 32) * p->mr;

    p->kc = KC_BYTES / p->packed_size * p->unit;
    p->kc = g->k <= p->kc + p->kc / 2 ? (g->k > 0 ? g->k : 1)
                                      : round_up(ceil_div(g->k, ceil_div(g->k, p->kc)), 16);
    p->nc = min_i64(round_up(g->n, p->nr), NC);
    p->mb = g->m;
    p->ks = g->k > 0 ? g->k : 1;
    const int64_t bytes_per_k = p->packed_size / p->unit;
    if (p->pack_a) {
        if (!p->narrow) p->ks = min_i64(p->ks, round_up(4096, p->kc));
        const int64_t fit = A_BYTES / (ceil_div(p->ks, p->kc) * p->kc * bytes_per_k) / p->mr * p->mr;
        p->mb = min_i64(p->mb, fit > p->mr ? fit : p->mr);
    }
    const int64_t depth = round_up(p->kc, p->unit);
    const int64_t blocks = ceil_div(p->ks, p->kc);
    p->a_bytes = p->pack_a ? round_up(round_up(p->mb, p->mr) * blocks * depth * bytes_per_k + 64, 4096) : 0;
    p->b_bytes = round_up((p->pack_b ? p->nc : p->nr) * depth * bytes_per_k + 64, 4096);
    p->c_bytes = p->narrow ? round_up(p->mb * p->nc * 4, 4096) : 0;
}

/* ---- packing ------------------------------------------------------------------------------------------------ */

/* Panels of mr rows over all of A's k block at [k0, k0 + ks), block by block of kc. */
static void pack_a(const gemm_plan *p, const gemm_run *r, int64_t m0, int64_t rows, int64_t k0, int64_t ks)
{
    const light_gemm_args *g = p->g;
    light_gemm_pack_fn *pack = (g->trans_a ? p->kernels->pack_cols : p->kernels->pack_rows)[p->src];
    const int64_t panels = ceil_div(rows, p->mr), depth = ceil_div(p->kc, p->unit);
    const int64_t blocks = ceil_div(ks, p->kc), tasks = panels * blocks;
    for (int64_t t = tasks * r->rank / r->size; t < tasks * (r->rank + 1) / r->size; t++) {
        const int64_t block = t / panels, i = t % panels;
        const int64_t row = m0 + i * p->mr, k = k0 + block * p->kc;
        const char *src = r->a + (g->trans_a ? k * g->lda + row : row * g->lda + k) * p->in_size;
        char *dst = r->work + (block * panels + i) * p->mr * depth * p->packed_size;
        pack(dst, p->mr, min_i64(p->mr, m0 + rows - row), src, g->lda, min_i64(p->kc, k0 + ks - k));
    }
}

/* Width of the packed panel that holds `cols` columns. */
static inline int64_t panel_width(const gemm_plan *p, int64_t cols)
{
    return cols > p->family->vl ? p->nr : p->family->vl;
}

static inline bool packed_panel(const gemm_plan *p, int64_t cols)
{
    return p->pack_b || (cols != p->nr && cols != p->family->vl);
}

static void pack_b_panel(const gemm_plan *p, const gemm_run *r, char *dst, int64_t n0, int64_t cols,
                         int64_t k0, int64_t kc)
{
    const light_gemm_args *g = p->g;
    light_gemm_pack_fn *pack = (g->trans_b ? p->kernels->pack_rows : p->kernels->pack_cols)[p->src];
    const char *src = r->b + (g->trans_b ? n0 * g->ldb + k0 : k0 * g->ldb + n0) * p->in_size;
    pack(dst, panel_width(p, cols), cols, src, g->ldb, kc);
}

/* ---- tiles -------------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t m0, rows, n0, cols; /* the block of C */
    int64_t k0, kc;             /* the block of k */
    const char *a, *b;          /* packed blocks, where packed */
    char *tail;                 /* where this thread may pack a last panel of an unpacked B */
    char *c;                    /* the block of C: in place, or f32 work memory */
    int64_t ldc, c_size;
    bool accumulate, last;
    int64_t i0, i1, j0, j1; /* this thread's panels */
} gemm_block;

static void run_panel(const gemm_plan *p, const gemm_run *r, const gemm_block *w, int64_t j, int64_t from,
                      int64_t to)
{
    const light_gemm_args *g = p->g;
    const int64_t depth = ceil_div(w->kc, p->unit), full = ceil_div(p->kc, p->unit);
    const int64_t cols = min_i64(p->nr, w->cols - j * p->nr), nv = panel_width(p, cols) / p->family->vl - 1;
    const char *b;
    int64_t ldb = panel_width(p, cols);
    if (p->pack_b) {
        b = w->b + j * p->nr * depth * p->packed_size;
    } else if (packed_panel(p, cols)) {
        pack_b_panel(p, r, w->tail, w->n0 + j * p->nr, cols, w->k0, w->kc);
        b = w->tail;
    } else {
        b = r->b + (w->k0 * g->ldb + w->n0 + j * p->nr) * p->in_size;
        ldb = g->ldb;
    }
    light_gemm_tile tile = {
        .ldc = w->ldc,
        .cols = cols,
        .alpha = p->alpha,
        .accumulate = w->accumulate,
        .bias = w->last && r->bias ? r->bias + (w->n0 + j * p->nr) * (g->dtype == LIGHT_F64 ? 8 : 4) : NULL,
    };
    for (int64_t i = from; i < to; i++) {
        const int64_t rows = min_i64(p->mr, w->rows - i * p->mr);
        tile.c = w->c + (i * p->mr * w->ldc + j * p->nr) * w->c_size;
        if (p->pack_a) {
            const char *a = w->a + i * p->mr * full * p->packed_size;
            p->family->row_unit[nv][rows - 1](depth, a, 1, p->mr, b, ldb, &tile);
        } else if (g->trans_a) {
            const char *a = r->a + (w->k0 * g->lda + w->m0 + i * p->mr) * p->in_size;
            p->family->row_unit[nv][rows - 1](depth, a, 1, g->lda, b, ldb, &tile);
        } else {
            const char *a = r->a + ((w->m0 + i * p->mr) * g->lda + w->k0) * p->in_size;
            p->family->row_any[nv][rows - 1](depth, a, g->lda, 1, b, ldb, &tile);
        }
    }
}

static void run_tiles(const gemm_plan *p, const gemm_run *r, const gemm_block *w)
{
    int64_t strip = L2_BYTES / (p->mr * ceil_div(w->kc, p->unit) * p->packed_size + 1);
    if (strip < 4) strip = 4;
    for (int64_t i = w->i0; i < w->i1; i += strip)
        for (int64_t j = w->j0; j < w->j1; j++) run_panel(p, r, w, j, i, min_i64(i + strip, w->i1));
}

/* Rounds this thread's finished part of the f32 block into C. */
static void narrow_tiles(const gemm_plan *p, const gemm_run *r, const gemm_block *w)
{
    const light_gemm_args *g = p->g;
    const int64_t first = w->j0 * p->nr, last = min_i64(w->j1 * p->nr, w->cols);
    for (int64_t i = w->i0 * p->mr; i < min_i64(w->i1 * p->mr, w->rows) && first < last; i++) {
        const float *in = (const float *)w->c + i * w->ldc + first;
        uint16_t *out = (uint16_t *)r->c + (w->m0 + i) * g->ldc + w->n0 + first;
        p->kernels->store_16(last - first, in, out, g->out_dtype == LIGHT_F16, r->accumulate);
    }
}

/* Splits rows x columns of panels among the team, as evenly as a grid allows; ties go to few splits of the rows,
 * because every split of the rows reads the packed B again. */
static void share_panels(gemm_block *w, int64_t row_panels, int64_t col_panels, int rank, int size)
{
    int best = 1;
    int64_t least = INT64_MAX;
    for (int rows = 1; rows <= size; rows++) {
        if (size % rows) continue;
        const int64_t most = ceil_div(row_panels, rows) * ceil_div(col_panels, size / rows);
        if (most < least) {
            least = most;
            best = rows;
        }
    }
    const int cols = size / best, y = rank / cols, x = rank % cols;
    w->i0 = row_panels * y / best, w->i1 = row_panels * (y + 1) / best;
    w->j0 = col_panels * x / cols, w->j1 = col_panels * (x + 1) / cols;
}

/* The part of the product over columns n0.. of the rows that are packed. Two buffers of B take turns, so that one
 * barrier a block is enough. */
static void run_columns(const gemm_plan *p, const gemm_run *r, gemm_block *w, int64_t k_first, int64_t ks,
                        int64_t *turn)
{
    const light_gemm_args *g = p->g;
    const int64_t col_panels = ceil_div(w->cols, p->nr), row_panels = ceil_div(w->rows, p->mr);
    share_panels(w, row_panels, col_panels, r->rank, r->size);
    for (int64_t k = 0; k < ks || k == 0; k += p->kc) {
        w->k0 = k_first + k;
        w->kc = min_i64(p->kc, ks - k);
        w->last = w->k0 + w->kc >= g->k;
        w->accumulate = w->k0 > 0 || (r->accumulate && !p->narrow);
        w->a = r->work + k / p->kc * row_panels * p->mr * ceil_div(p->kc, p->unit) * p->packed_size;
        char *b = r->work + p->a_bytes + (p->pack_b ? (*turn)++ % 2 : r->rank) * p->b_bytes;
        w->b = w->tail = b;
        if (p->pack_b) {
            const int64_t depth = ceil_div(w->kc, p->unit);
            for (int64_t j = col_panels * r->rank / r->size; j < col_panels * (r->rank + 1) / r->size; j++)
                pack_b_panel(p, r, b + j * p->nr * depth * p->packed_size, w->n0 + j * p->nr,
                             min_i64(p->nr, w->cols - j * p->nr), w->k0, w->kc);
            light_crew_barrier(r->size);
        }
        run_tiles(p, r, w);
    }
    if (p->narrow) narrow_tiles(p, r, w);
}

static void run_gemm(const gemm_plan *p, const gemm_run *r)
{
    const light_gemm_args *g = p->g;
    int64_t turn = 0;
    for (int64_t k = 0; k < g->k || k == 0; k += p->ks) {
        for (int64_t m = 0; m < g->m; m += p->mb) {
            gemm_block w = {.m0 = m, .rows = min_i64(p->mb, g->m - m)};
            if (p->pack_a) {
                light_crew_barrier(r->size); /* everyone is done with the last one */
                pack_a(p, r, m, w.rows, k, min_i64(p->ks, g->k - k));
                light_crew_barrier(r->size);
            }
            for (int64_t n = 0; n < g->n; n += p->nc) {
                w.n0 = n;
                w.cols = min_i64(p->nc, g->n - n);
                w.c =
                    p->narrow ? r->work + p->a_bytes + 2 * p->b_bytes : r->c + (m * g->ldc + n) * p->out_size;
                w.ldc = p->narrow ? p->nc : g->ldc;
                w.c_size = p->narrow ? 4 : p->out_size;
                run_columns(p, r, &w, k, min_i64(p->ks, g->k - k), &turn);
            }
        }
    }
}

/* ---- vectors ------------------------------------------------------------------------------------------------ */

static int team_size(int64_t macs)
{
    return macs < 2 * MACS_PER_THREAD ? 1 : light_team_size();
}

static bool plan_dots(light_gemm_dots *d, const light_gemm_args *g)
{
    enum { SHORT = 64 };
    if (g->dtype != LIGHT_F32 || g->out_dtype != LIGHT_F32 || g->k < SHORT ||
        (g->bias && g->bias_dtype && g->bias_dtype != LIGHT_F32) || g->batch > 1 || g->trans_a)
        return false;
    *d = (light_gemm_dots){.k = g->k,
                           .bias = g->bias,
                           .y = g->c,
                           .alpha = g->alpha == 0 ? 1 : g->alpha,
                           .accumulate = g->accumulate};
    if (g->m <= LIGHT_GEMM_MAX_X && g->trans_b) {
        d->rows = g->n, d->count = g->m;
        d->x = g->a, d->ldx = g->lda, d->w = g->b, d->ldw = g->ldb;
        d->ldy = 1, d->step_y = g->ldc, d->bias_ld = 1;
        return true;
    }
    if ((g->n <= LIGHT_GEMM_MAX_X && g->trans_b) || (g->n == 1 && g->ldb == 1)) {
        d->rows = g->m, d->count = g->n;
        d->x = g->b, d->ldx = g->ldb, d->w = g->a, d->ldw = g->lda;
        d->ldy = g->ldc, d->step_y = 1, d->bias_step = 1;
        return true;
    }
    return false;
}

enum { ROWS = 16 };

static void each_dots(void *context, int64_t i, int rank)
{
    const light_gemm_dots *d = context;
    (void)rank;
    chosen->dots_f32(d, i * ROWS, min_i64(i * ROWS + ROWS, d->rows));
}

static void run_dots(light_gemm_dots *d)
{
    if (team_size(d->rows * d->count * d->k) == 1)
        chosen->dots_f32(d, 0, d->rows);
    else
        light_team_each(true, ceil_div(d->rows, ROWS), each_dots, d);
}

/* ---- 16 bits ----------------------------------------------------------------------------------------------- */

enum { PIECE = 4096 }; /* elements that a thread converts at a time */

static void widen_piece(light_gemm_src src, int64_t n, const uint16_t *in, float *out)
{
    const int64_t width = LIGHT_GEMM_MAX_NR, rows = n / width, rest = n % width;
    chosen->pack_cols[src](out, width, width, in, width, rows);
    if (rest) chosen->pack_cols[src](out + rows * width, rest, rest, in + rows * width, 0, 1);
}

/* An array to convert: widen reads `narrow` and writes `wide`, the opposite the other way round. */
typedef struct {
    int64_t n;
    light_gemm_src src;
    uint16_t *narrow;
    float *wide;
    bool f16, accumulate;
} conversion;

static void each_widen(void *context, int64_t i, int rank)
{
    const conversion *c = context;
    const int64_t at = i * PIECE;
    (void)rank;
    widen_piece(c->src, min_i64(PIECE, c->n - at), c->narrow + at, c->wide + at);
}

static void each_narrow(void *context, int64_t i, int rank)
{
    const conversion *c = context;
    const int64_t at = i * PIECE;
    (void)rank;
    chosen->store_16(min_i64(PIECE, c->n - at), c->wide + at, c->narrow + at, c->f16, c->accumulate);
}

void light_cpu_widen(light_dtype from, int64_t n, const void *in, float *out)
{
    if (!chosen) light_cpu_gemm_isa(-1);
    const light_gemm_src src = from == LIGHT_F16 ? LIGHT_GEMM_SRC_F16 : LIGHT_GEMM_SRC_BF16;
    if (n <= 16 * PIECE) {
        widen_piece(src, n, in, out);
        return;
    }
    conversion c = {.n = n, .src = src, .narrow = (uint16_t *)(uintptr_t)in, .wide = out};
    light_team_each(true, ceil_div(n, PIECE), each_widen, &c);
}

void light_cpu_narrow(light_dtype to, int64_t n, const float *in, void *out, bool accumulate)
{
    if (!chosen) light_cpu_gemm_isa(-1);
    if (n <= 16 * PIECE) {
        chosen->store_16(n, in, out, to == LIGHT_F16, accumulate);
        return;
    }
    conversion c = {.n = n,
                    .narrow = out,
                    .wide = (float *)(uintptr_t)in,
                    .f16 = to == LIGHT_F16,
                    .accumulate = accumulate};
    light_team_each(true, ceil_div(n, PIECE), each_narrow, &c);
}

/* ---- the call ----------------------------------------------------------------------------------------------- */

/* The same product in the form that runs best. */
static void normalise(light_gemm_args *g)
{
    if (g->batch < 1) g->batch = 1;
    /* One B for the whole batch: a taller A, where its rows and C's go on evenly. */
    if (g->batch > 1 && g->stride_b == 0 && !g->trans_a && g->stride_a == g->m * g->lda &&
        g->stride_c == g->m * g->ldc) {
        g->m *= g->batch;
        g->batch = 1;
    }
    /* A column of C is a row of its transpose, and rows are what the tiles are wide in. */
    if (g->n == 1 && g->m > 1 && g->ldc == 1 && !g->bias && (g->trans_a || !(g->trans_b || g->ldb == 1))) {
        light_gemm_args t = *g;
        t.m = 1, t.n = g->m;
        t.a = g->b, t.lda = g->ldb, t.trans_a = !g->trans_b, t.stride_a = g->stride_b;
        t.b = g->a, t.ldb = g->lda, t.trans_b = !g->trans_a, t.stride_b = g->stride_a;
        t.ldc = g->m;
        *g = t;
    }
}

static void run_batch(const gemm_plan *p, char *work, const char *bias, int64_t from, int64_t to, int rank,
                      int size)
{
    const light_gemm_args *g = p->g;
    for (int64_t i = from; i < to; i++) {
        const gemm_run r = {
            .a = (const char *)g->a + i * g->stride_a * p->in_size,
            .b = (const char *)g->b + i * g->stride_b * p->in_size,
            .c = (char *)g->c + i * g->stride_c * p->out_size,
            .bias = bias,
            .work = work,
            .accumulate = g->accumulate || (g->stride_c == 0 && i > 0),
            .rank = rank,
            .size = size,
        };
        run_gemm(p, &r);
        light_crew_barrier(size);
    }
}

/* The bias in the dtype that sums are in; converted into `to` where it has another. */
static const void *wide_bias(const light_gemm_args *g, void *to)
{
    const light_dtype dtype = g->bias_dtype ? g->bias_dtype : g->out_dtype;
    if (!g->bias || dtype == LIGHT_F32 || dtype == LIGHT_F64) return g->bias;
    light_cpu_widen(dtype, g->n, g->bias, to);
    return to;
}

/* What a crew needs: all its members on one product after the other, or each with products of its own. */
typedef struct {
    const gemm_plan *p;
    char *work;
    const char *bias;
    int64_t own; /* bytes of work memory of a member that works alone */
    bool alone;
} gemm_job;

static void run_member(void *context, int rank, int size)
{
    const gemm_job *j = context;
    const int64_t batch = j->p->g->batch;
    if (j->alone)
        run_batch(j->p, j->work + j->own * rank, j->bias, batch * rank / size, batch * (rank + 1) / size, 0,
                  1);
    else
        run_batch(j->p, j->work, j->bias, 0, batch, rank, size);
}

light_status light_cpu_gemm(const light_gemm_args *args)
{
    light_gemm_args g = *args;
    gemm_plan p;
    light_gemm_dots d;
    if (g.m <= 0 || g.n <= 0) return LIGHT_OK;
    if (!chosen) light_cpu_gemm_isa(-1);
    normalise(&g);
    if (plan_dots(&d, &g)) {
        run_dots(&d);
        return LIGHT_OK;
    }
    plan_gemm(&p, &g);

    const int64_t macs = g.m * g.n * (g.k + 1);
    const int team = team_size(macs * g.batch);
    const bool alone = g.stride_c != 0 && g.batch > 1 && (g.batch >= 4 * team || team_size(macs) == 1);
    const int64_t own = p.a_bytes + p.c_bytes + (p.pack_b ? 2 : alone ? 1 : team) * p.b_bytes;
    const int64_t parts = alone ? team : 1, bias_bytes = g.bias ? round_up(g.n, LIGHT_GEMM_MAX_NR) * 4 : 0;
    char *work = light_cpu_scratch(LIGHT_SCRATCH_GEMM, (size_t)(own * parts + bias_bytes));
    if (!work) return LIGHT_ERR_MEMORY;
    const char *bias = wide_bias(&g, work + own * parts);
    if (team == 1) {
        run_batch(&p, work, bias, 0, g.batch, 0, 1);
        return LIGHT_OK;
    }
    gemm_job job = {&p, work, bias, own, alone};
    light_team_crew(1000 + macs * g.batch / MACS_PER_WAIT, run_member, &job);
    return LIGHT_OK;
}
