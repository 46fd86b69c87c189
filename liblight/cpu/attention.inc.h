/* SPDX-License-Identifier: Apache-2.0 */
/* Template of attention.c in one arithmetic (real.inc.h).
 *
 * T. Dao: FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning. 2023. Scores are made for a
 * block of keys and a block of queries at a time and never leave the cache. They are kept with queries side by side, so
 * that maxima and sums over keys go down whole vectors, and every product reads K, V, Q and the gradient as they lie in
 * memory; only the queries (and their gradient) of a block are transposed, once. */

/* C [m, n] (+)= A B. n is a multiple of the vector; A has its rows or its columns in neighbouring elements. */
static void NAME(product)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t rs, int64_t cs,
                          const REAL *b, int64_t ldb, REAL *c, int64_t ldc, bool add)
{
    const light_gemm_family *family = &LIGHT_ISA(light_gemm_kernels).FAMILY;
    int64_t most = (m + family->mr - 1) / family->mr;

    most = (m + most - 1) / most; /* tiles of even heights */
    for (int64_t j = 0; j < n;) {
        int vectors = n - j >= 2 * family->vl ? 2 : 1;
        light_gemm_tile_fn *const *tiles =
            rs == 1 ? family->row_unit[vectors - 1] : family->row_any[vectors - 1];
        for (int64_t row = 0; row < m; row += most) {
            size_t rows = (size_t)(m - row < most ? m - row : most);
            light_gemm_tile tile = {.c = c + row * ldc + j,
                                    .ldc = ldc,
                                    .cols = vectors * family->vl,
                                    .alpha = 1,
                                    .accumulate = add};
            tiles[rows - 1](k, a + row * rs, rs, cs, b + j, ldb, &tile);
        }
        j += vectors * family->vl;
    }
}

static inline int64_t NAME(whole_vectors)(int64_t n)
{
    int64_t lanes = LIGHT_ISA(light_gemm_kernels).FAMILY.vl;
    return (n + lanes - 1) / lanes * lanes;
}

/* Rows [first, first + count) of one head: where they lie when they can be read by whole vectors there, else copied into
 * `room`, zero up to a whole vector. */
static const REAL *NAME(rows)(const light_tensor *t, int64_t b, int64_t h, int64_t first, int64_t count,
                              REAL *room, int64_t *stride)
{
    int64_t d = t->shape[3], wide = NAME(whole_vectors)(d);
    bool plain = t->dtype == (sizeof(REAL) == 8 ? LIGHT_F64 : LIGHT_F32);

    if (plain && d == wide) {
        *stride = t->strides[2];
        return (const REAL *)(const void *)place(t, b, h, first);
    }
    *stride = wide;
    for (int64_t i = 0; i < count; i++) {
        REAL *to = room + i * wide;
        const REAL *from = NAME(load)(t->dtype, place(t, b, h, first + i), d, to);
        if (from != to) memcpy(to, from, (size_t)d * sizeof *to);
        memset(to + d, 0, (size_t)(wide - d) * sizeof *to);
    }
    return room;
}

/* The same rows transposed: to[p * QUERIES + j], zero beyond `count`. */
static void NAME(transposed)(const light_tensor *t, int64_t b, int64_t h, int64_t first, int64_t count,
                             REAL factor, REAL *to)
{
    light_gemm_src source = t->dtype == LIGHT_F64    ? LIGHT_GEMM_SRC_F64
                            : t->dtype == LIGHT_BF16 ? LIGHT_GEMM_SRC_BF16
                            : t->dtype == LIGHT_F16  ? LIGHT_GEMM_SRC_F16
                                                     : LIGHT_GEMM_SRC_F32;

    LIGHT_ISA(light_gemm_kernels)
        .pack_rows[source](to, QUERIES, count, place(t, b, h, first), t->strides[2], t->shape[3]);
    for (int64_t i = 0; factor != 1 && i < t->shape[3] * QUERIES; i++) to[i] *= factor;
}

/* ---- what happens to scores ------------------------------------------------ */

/* What the mask adds to the scores of query q with n keys: 0 and -infinity for a bool mask. */
static void NAME(mask_row)(const attention *a, const block *at, int64_t q, REAL *row)
{
    const light_tensor *mask = a->mask;
    int64_t size = light_element_size(mask->dtype), step = mask->strides[3];
    const char *p = place(mask, at->b, at->h, q) + at->k0 * step * size;

    for (int64_t i = 0; i < at->nk; i++) {
        if (mask->dtype == LIGHT_BOOL)
            row[i] = p[i * step] ? 0 : -INFINITY;
        else
            row[i] = (REAL)light_load_one(p + i * step * size, (light_dtype)mask->dtype);
    }
}

static void NAME(add_mask)(const attention *a, const block *at, REAL *scores)
{
    REAL row[KEYS];

    if (a->mask->strides[2] == 0) {
        NAME(mask_row)(a, at, 0, row);
        for (int64_t k = 0; k < at->nk; k++)
            for (int64_t j = 0; j < QUERIES; j++) scores[k * QUERIES + j] += row[k];
        return;
    }
    for (int64_t j = 0; j < at->nq; j++) {
        NAME(mask_row)(a, at, at->q0 + j, row);
        for (int64_t k = 0; k < at->nk; k++) scores[k * QUERIES + j] += row[k];
    }
}

/* Query t sees keys up to t + S - T. */
static void NAME(hide_future)(const attention *a, const block *at, REAL *scores)
{
    for (int64_t k = 0; k < at->nk; k++) {
        int64_t blind = at->k0 + k - (a->keys - a->queries) - at->q0;
        for (int64_t j = 0; j < blind && j < QUERIES; j++) scores[k * QUERIES + j] = -INFINITY;
    }
}

/* Scores of a block: K (scale Q)^T and the masks. */
static void NAME(scores)(const attention *a, const block *at, const REAL *k, int64_t stride, const REAL *qt,
                         REAL *scores)
{
    NAME(product)(at->nk, at->lanes, a->width, k, stride, 1, qt, QUERIES, scores, QUERIES, false);
    if (a->mask) NAME(add_mask)(a, at, scores);
    if (a->causal && at->k0 + at->nk - 1 > at->q0 + a->keys - a->queries) NAME(hide_future)(a, at, scores);
}

/* Multiplies a tile by 0 where a weight is dropped, else by 1 / (1 - p). */
static void NAME(drop)(const attention *a, const block *at, REAL *tile)
{
    uint32_t bits[KEYS + 8];
    REAL scale = (REAL)a->keep_scale;

    for (int64_t j = 0; j < at->nq; j++) {
        uint64_t first =
            (uint64_t)(((at->b * a->heads + at->h) * a->queries + at->q0 + j) * a->keys + at->k0);
        light_random_bits(a->rng, first / 4, at->nk / 4 + 2, bits);
        for (int64_t k = 0; k < at->nk; k++)
            tile[k * QUERIES + j] *= bits[first % 4 + (uint64_t)k] >> 8 >= a->threshold ? scale : 0;
    }
}

/* ---- forward ---------------------------------------------------------------- */

/* Running maximum and sum of the weights of each query. */
typedef struct NAME(softmax) {
    REAL max[QUERIES], sum[QUERIES], shrink[QUERIES];
} NAME(softmax);

/* Scores become weights exp(score - max); `shrink` is what earlier blocks must be multiplied with. */
static void NAME(weigh)(NAME(softmax) * m, int64_t nk, REAL *scores)
{
    REAL max[QUERIES], sum[QUERIES] = {0};

    memcpy(max, m->max, sizeof max);
    for (int64_t k = 0; k < nk; k++)
        for (int64_t j = 0; j < QUERIES; j++)
            max[j] = scores[k * QUERIES + j] > max[j] ? scores[k * QUERIES + j] : max[j];
    for (int64_t j = 0; j < QUERIES; j++) {
        m->shrink[j] = max[j] == -INFINITY ? 0 : EXP(m->max[j] - max[j]);
        m->max[j] = max[j];
        max[j] = max[j] == -INFINITY ? 0 : max[j];
    }
    for (int64_t k = 0; k < nk; k++) {
        for (int64_t j = 0; j < QUERIES; j++) {
            REAL weight = EXP(scores[k * QUERIES + j] - max[j]);
            scores[k * QUERIES + j] = weight;
            sum[j] += weight;
        }
    }
    for (int64_t j = 0; j < QUERIES; j++) m->sum[j] = m->sum[j] * m->shrink[j] + sum[j];
}

static void NAME(finish_queries)(const attention *a, const block *at, const NAME(softmax) * m, REAL *sums,
                                 int64_t wide)
{
    REAL *lse = (REAL *)a->lse->data + (at->b * a->heads + at->h) * a->queries + at->q0;

    for (int64_t j = 0; j < at->nq; j++) {
        REAL scale = m->sum[j] == 0 ? 0 : 1 / m->sum[j];
        for (int64_t p = 0; p < a->width; p++) sums[j * wide + p] *= scale;
        NAME(store)(a->y->dtype, place(a->y, at->b, at->h, at->q0 + j), a->width, sums + j * wide, false);
        lse[j] = m->sum[j] == 0
                     ? 0
                     : m->max[j] + LOG(m->sum[j]); /* nothing to attend to: any finite number does */
    }
}

static void NAME(attend)(const attention *a, int64_t b, int64_t h, int64_t q0, REAL *work)
{
    int64_t wide = NAME(whole_vectors)(a->width), group = h / (a->heads / a->kv_heads), stride;
    block at = {.b = b, .h = h, .q0 = q0, .nq = a->queries - q0 < QUERIES ? a->queries - q0 : QUERIES};
    REAL *qt = work, *scores = qt + wide * QUERIES, *sums = scores + KEYS * QUERIES,
         *room = sums + QUERIES * wide;
    int64_t end = visible_end(a, q0 + at.nq);
    NAME(softmax) m;

    at.lanes = NAME(whole_vectors)(at.nq);
    for (int64_t j = 0; j < QUERIES; j++) {
        m.max[j] = -INFINITY;
        m.sum[j] = 0;
    }
    memset(sums, 0, (size_t)(QUERIES * wide) * sizeof *sums);
    memset(scores, 0, KEYS * QUERIES * sizeof *scores);
    NAME(transposed)(a->q, b, h, q0, at.nq, (REAL)a->scale, qt);
    for (at.k0 = 0; at.k0 < end; at.k0 += KEYS) {
        at.nk = end - at.k0 < KEYS ? end - at.k0 : KEYS;
        const REAL *k = NAME(rows)(a->k, b, group, at.k0, at.nk, room, &stride);
        NAME(scores)(a, &at, k, stride, qt, scores);
        NAME(weigh)(&m, at.nk, scores);
        if (a->threshold) NAME(drop)(a, &at, scores);
        for (int64_t j = 0; at.k0 > 0 && j < at.nq; j++)
            for (int64_t p = 0; p < wide; p++) sums[j * wide + p] *= m.shrink[j];
        const REAL *v = NAME(rows)(a->v, b, group, at.k0, at.nk, room, &stride);
        NAME(product)(at.nq, wide, at.nk, scores, 1, QUERIES, v, stride, sums, wide, true);
    }
    NAME(finish_queries)(a, &at, &m, sums, wide);
}

typedef struct NAME(tasks) {
    const attention *a;
    REAL *work;
    int64_t each, blocks; /* elements of work memory of one thread; blocks of queries in a head */
} NAME(tasks);

static void NAME(each_block)(void *context, int64_t i, int rank)
{
    const NAME(tasks) *t = context;
    int64_t heads = t->a->heads;

    NAME(attend)
    (t->a, i / t->blocks / heads, i / t->blocks % heads, i % t->blocks * QUERIES, t->work + t->each * rank);
}

static light_status NAME(sdpa)(const attention *a)
{
    int64_t wide = NAME(whole_vectors)(a->width), blocks = (a->queries + QUERIES - 1) / QUERIES;
    NAME(tasks) t = {a, NULL, 2 * wide * QUERIES + KEYS * QUERIES + KEYS * wide, blocks};

    t.work = light_cpu_scratch(LIGHT_SCRATCH_KERNEL, (size_t)(t.each * light_team_size()) * sizeof *t.work);
    if (!t.work) return LIGHT_ERR_MEMORY;
    light_team_each(pays(a), a->batch * a->heads * blocks, NAME(each_block), &t);
    return LIGHT_OK;
}

/* ---- backward --------------------------------------------------------------- */

/* Work memory of a task, and what holds for its block of queries. */
typedef struct NAME(gradients) {
    REAL *qt, *gt;                           /* scale Q and gy, transposed */
    REAL *weights, *slopes, *keep;           /* tiles [KEYS, QUERIES] */
    REAL *k_room, *v_room, *q_room, *g_room; /* for rows that cannot be read in place */
    REAL *gq, *gk, *gv, *gmask;              /* sums: of the queries' block, of the task's keys, of a tile */
    REAL lse[QUERIES], delta[QUERIES];       /* delta: sum of gy y */
} NAME(gradients);

static int64_t NAME(lay_out)(NAME(gradients) * g, REAL *work, int64_t wide, int64_t keys)
{
    const struct {
        REAL **to;
        int64_t n;
    } parts[] = {{&g->qt, wide * QUERIES},     {&g->gt, wide * QUERIES},     {&g->weights, KEYS * QUERIES},
                 {&g->slopes, KEYS * QUERIES}, {&g->keep, KEYS * QUERIES},   {&g->k_room, KEYS * wide},
                 {&g->v_room, KEYS * wide},    {&g->q_room, QUERIES * wide}, {&g->g_room, QUERIES * wide},
                 {&g->gq, QUERIES * wide},     {&g->gk, keys * wide},        {&g->gv, keys * wide},
                 {&g->gmask, KEYS * QUERIES}};
    int64_t used = 0;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (work) *parts[i].to = work + used;
        used += parts[i].n;
    }
    return used;
}

static void NAME(start_queries)(const attention *a, const block *at, NAME(gradients) * g, int64_t wide)
{
    const REAL *lse = (const REAL *)a->lse->data + (at->b * a->heads + at->h) * a->queries + at->q0;
    int64_t stride;

    NAME(transposed)(a->q, at->b, at->h, at->q0, at->nq, (REAL)a->scale, g->qt);
    NAME(transposed)(a->gy, at->b, at->h, at->q0, at->nq, 1, g->gt);
    memset(g->gq, 0, (size_t)(QUERIES * wide) * sizeof *g->gq);
    memset(g->lse, 0, sizeof g->lse);
    memset(g->delta, 0, sizeof g->delta);
    memcpy(g->lse, lse, (size_t)at->nq * sizeof *lse);
    for (int64_t j = 0; j < at->nq; j++) {
        const REAL *y = NAME(rows)(a->y, at->b, at->h, at->q0 + j, 1, g->q_room, &stride);
        const REAL *gy = NAME(rows)(a->gy, at->b, at->h, at->q0 + j, 1, g->g_room, &stride);
        REAL sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t p = 0; p < a->width; p++) sum += y[p] * gy[p];
        g->delta[j] = sum;
    }
}

/* P, the weights of a block, and D, their dropout factors. Returns the block's rows of k. */
static const REAL *NAME(block_weights)(const attention *a, const block *at, NAME(gradients) * g,
                                       int64_t *k_stride)
{
    int64_t group = at->h / (a->heads / a->kv_heads);
    const REAL *k = NAME(rows)(a->k, at->b, group, at->k0, at->nk, g->k_room, k_stride);
    REAL *weights = g->weights;

    NAME(scores)(a, at, k, *k_stride, g->qt, weights);
    for (int64_t i = 0; i < at->nk; i++)
        for (int64_t j = 0; j < QUERIES; j++)
            weights[i * QUERIES + j] = EXP(weights[i * QUERIES + j] - g->lse[j]);
    if (a->threshold) {
        for (int64_t i = 0; i < at->nk * QUERIES; i++) g->keep[i] = 1;
        NAME(drop)(a, at, g->keep);
    }
    return k;
}

/* S = P (gy v^T D - delta): the gradient of the scores, and of what the mask adds to them. */
static void NAME(block_slopes)(const attention *a, const block *at, NAME(gradients) * g)
{
    int64_t group = at->h / (a->heads / a->kv_heads), stride;
    const REAL *v = NAME(rows)(a->v, at->b, group, at->k0, at->nk, g->v_room, &stride);
    const REAL *weights = g->weights;
    REAL *slopes = g->slopes;

    NAME(product)(at->nk, at->lanes, a->width, v, stride, 1, g->gt, QUERIES, slopes, QUERIES, false);
    if (a->threshold)
        for (int64_t i = 0; i < at->nk * QUERIES; i++) slopes[i] *= g->keep[i];
    for (int64_t i = 0; i < at->nk; i++)
        for (int64_t j = 0; j < QUERIES; j++)
            slopes[i * QUERIES + j] = weights[i * QUERIES + j] * (slopes[i * QUERIES + j] - g->delta[j]);
}

/* One block of scores: gv += (P D)^T gy,  gk += S^T q,  gq += S k. */
static void NAME(block_gradients)(const attention *a, const block *at, NAME(gradients) * g, const sides *want,
                                  const REAL *q, int64_t q_stride, const REAL *gy, int64_t gy_stride)
{
    int64_t wide = NAME(whole_vectors)(a->width), own = at->k0 - want->k_from, k_stride;
    const REAL *k = NAME(block_weights)(a, at, g, &k_stride), *weights = g->weights;
    REAL *slopes = g->slopes;

    if (want->values) {
        const REAL *used = weights;
        if (a->threshold) {
            for (int64_t i = 0; i < at->nk * QUERIES; i++) slopes[i] = weights[i] * g->keep[i];
            used = slopes;
        }
        NAME(product)(at->nk, wide, at->nq, used, QUERIES, 1, gy, gy_stride, g->gv + own * wide, wide, true);
    }
    NAME(block_slopes)(a, at, g);
    if (want->keys)
        NAME(product)(at->nk, wide, at->nq, slopes, QUERIES, 1, q, q_stride, g->gk + own * wide, wide, true);
    if (want->queries)
        NAME(product)(at->nq, wide, at->nk, slopes, 1, QUERIES, k, k_stride, g->gq, wide, true);
}

static void NAME(put_rows)(light_tensor *t, int64_t b, int64_t h, int64_t first, int64_t count, REAL *rows,
                           int64_t wide, REAL factor, bool add)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t p = 0; p < t->shape[3]; p++) rows[i * wide + p] *= factor;
        NAME(store)(t->dtype, place(t, b, h, first + i), t->shape[3], rows + i * wide, add);
    }
}

/* The part of the gradients that `want` names: queries and keys in its ranges, of the heads that share a head of keys. */
static void NAME(task_gradients)(const attention *a, int64_t b, const sides *want, REAL *work)
{
    if (!want->queries && !want->keys && !want->values) return;
    int64_t wide = NAME(whole_vectors)(a->width), share = a->heads / a->kv_heads,
            keys = want->k_to - want->k_from;
    int64_t q_stride, gy_stride;
    NAME(gradients) g;

    NAME(lay_out)(&g, work, wide, want->keys || want->values ? keys : 0);
    if (want->keys) memset(g.gk, 0, (size_t)(keys * wide) * sizeof *g.gk);
    if (want->values) memset(g.gv, 0, (size_t)(keys * wide) * sizeof *g.gv);
    memset(g.weights, 0, KEYS * QUERIES * sizeof *g.weights);
    memset(g.slopes, 0, KEYS * QUERIES * sizeof *g.slopes);
    for (int64_t h = want->h_from; h < want->h_to; h++) {
        for (int64_t q0 = want->q_from; q0 < want->q_to; q0 += QUERIES) {
            block at = {
                .b = b, .h = h, .q0 = q0, .nq = a->queries - q0 < QUERIES ? a->queries - q0 : QUERIES};
            int64_t end = visible_end(a, q0 + at.nq);
            if (end > want->k_to) end = want->k_to;
            at.lanes = NAME(whole_vectors)(at.nq);
            NAME(start_queries)(a, &at, &g, wide);
            const REAL *q = NAME(rows)(a->q, b, h, q0, at.nq, g.q_room, &q_stride);
            const REAL *gy = NAME(rows)(a->gy, b, h, q0, at.nq, g.g_room, &gy_stride);
            for (at.k0 = want->k_from; at.k0 < end; at.k0 += KEYS) {
                at.nk = end - at.k0 < KEYS ? end - at.k0 : KEYS;
                NAME(block_gradients)(a, &at, &g, want, q, q_stride, gy, gy_stride);
            }
            if (want->queries) NAME(put_rows)(a->gq, b, h, q0, at.nq, g.gq, wide, (REAL)a->scale, a->add[0]);
        }
    }
    if (want->keys) NAME(put_rows)
    (a->gk, b, want->h_from / share, want->k_from, keys, g.gk, wide, (REAL)a->scale, a->add[1]);
    if (want->values)
        NAME(put_rows)(a->gv, b, want->h_from / share, want->k_from, keys, g.gv, wide, 1, a->add[2]);
}

/* Adds the slopes of a block to a tile of the mask's gradient, in the tile's only row or column where the mask has no more. */
static void NAME(gather_mask)(const attention *a, const block *at, NAME(gradients) * g)
{
    bool one_query = a->gmask->shape[2] == 1, one_key = a->gmask->shape[3] == 1;

    for (int64_t i = 0; i < at->nk; i++) {
        REAL *to = g->gmask + (one_key ? 0 : i * QUERIES);
        const REAL *from = g->slopes + i * QUERIES;
        REAL sum = 0;
        for (int64_t j = 0; j < at->nq && !one_query; j++) to[j] += from[j];
        for (int64_t j = 0; j < at->nq && one_query; j++) sum += from[j];
        if (one_query) to[0] += sum;
    }
}

/* The slopes of one head for the queries and keys of a tile, which are all of them where the mask has one. */
static void NAME(mask_of_head)(const attention *a, int64_t b, int64_t h, int64_t q_from, int64_t k_from,
                               NAME(gradients) * g, int64_t wide)
{
    int64_t q_to = a->gmask->shape[2] == 1 ? a->queries : q_from + QUERIES;
    int64_t k_to = a->gmask->shape[3] == 1 ? a->keys : k_from + KEYS, k_stride;

    for (int64_t q0 = q_from; q0 < q_to && q0 < a->queries; q0 += QUERIES) {
        block at = {.b = b, .h = h, .q0 = q0, .nq = a->queries - q0 < QUERIES ? a->queries - q0 : QUERIES};
        int64_t end = visible_end(a, q0 + at.nq);
        at.lanes = NAME(whole_vectors)(at.nq);
        NAME(start_queries)(a, &at, g, wide);
        for (at.k0 = k_from; at.k0 < k_to && at.k0 < end; at.k0 += KEYS) {
            at.nk = end - at.k0 < KEYS ? end - at.k0 : KEYS;
            NAME(block_weights)(a, &at, g, &k_stride);
            NAME(block_slopes)(a, &at, g);
            NAME(gather_mask)(a, &at, g);
        }
    }
}

static void NAME(put_mask)(const attention *a, int64_t b, int64_t h, int64_t q0, int64_t k0, const REAL *tile)
{
    const light_tensor *t = a->gmask;
    int64_t nq = t->shape[2] - q0 < QUERIES ? t->shape[2] - q0 : QUERIES;
    int64_t nk = t->shape[3] - k0 < KEYS ? t->shape[3] - k0 : KEYS;
    REAL row[KEYS];

    for (int64_t j = 0; j < nq; j++) {
        for (int64_t i = 0; i < nk; i++) row[i] = tile[i * QUERIES + j];
        char *to = place(t, b, h, q0 + j) + k0 * light_element_size(t->dtype);
        NAME(store)(t->dtype, to, nk, row, a->add[3]);
    }
}

/* Tile i of the mask's gradient, summed over batches, heads, queries and keys in this order. */
static void NAME(task_mask)(const attention *a, int64_t i, REAL *work)
{
    const int64_t *shape = a->gmask->shape;
    int64_t across = mask_tiles(shape[3], KEYS), down = mask_tiles(shape[2], QUERIES);
    int64_t k0 = i % across * KEYS, q0 = i / across % down * QUERIES;
    int64_t h0 = i / across / down % shape[1], b0 = i / across / down / shape[1];
    int64_t h_to = shape[1] == 1 ? a->heads : h0 + 1, b_to = shape[0] == 1 ? a->batch : b0 + 1;
    int64_t wide = NAME(whole_vectors)(a->width);
    NAME(gradients) g;

    NAME(lay_out)(&g, work, wide, 0);
    memset(g.weights, 0, KEYS * QUERIES * sizeof *g.weights);
    memset(g.slopes, 0, KEYS * QUERIES * sizeof *g.slopes);
    memset(g.gmask, 0, KEYS * QUERIES * sizeof *g.gmask);
    for (int64_t b = b0; b < b_to; b++)
        for (int64_t h = h0; h < h_to; h++) NAME(mask_of_head)(a, b, h, q0, k0, &g, wide);
    NAME(put_mask)(a, b0, h0, q0, k0, g.gmask);
}

static void NAME(each_task)(void *context, int64_t i, int rank)
{
    const NAME(tasks) *t = context;
    REAL *work = t->work + t->each * rank;
    int64_t b, others = task_count(t->a);

    if (i >= others) {
        NAME(task_mask)(t->a, i - others, work);
        return;
    }
    sides want = task_sides(t->a, i, &b);
    NAME(task_gradients)(t->a, b, &want, work);
}

static light_status NAME(sdpa_backward)(const attention *a)
{
    NAME(gradients) g;
    NAME(tasks) t = {.a = a, .each = NAME(lay_out)(&g, NULL, NAME(whole_vectors)(a->width), a->key_range)};

    t.work = light_cpu_scratch(LIGHT_SCRATCH_KERNEL, (size_t)(t.each * light_team_size()) * sizeof *t.work);
    if (!t.work) return LIGHT_ERR_MEMORY;
    light_team_each(pays(a), task_count(a) + mask_tasks(a), NAME(each_task), &t);
    return LIGHT_OK;
}
