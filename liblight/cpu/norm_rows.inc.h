/* SPDX-License-Identifier: Apache-2.0 */
/* Template of norm.c in one arithmetic (real.inc.h): layer norm and RMS norm of rows. A norm without a mean, RMS norm, has
 * `mean` NULL. */

static KEEP_APART REAL NAME(sum)(const REAL *x, int64_t n)
{
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

static KEEP_APART REAL NAME(square_sum)(const REAL *x, int64_t n, REAL mean)
{
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

/* Mean and 1 / sqrt(variance + eps) of a row, read twice: the second time it is in the cache. */
static void NAME(row_statistics)(const light_tensor *x, const char *row, const light_norm_attrs *attrs,
                                 REAL *mean, REAL *rstd)
{
    REAL room[BLOCK];
    double sum = 0, squares = 0;

    for (int64_t i = 0; mean && i < attrs->n; i += BLOCK) {
        int64_t n = block_length(attrs->n - i);
        sum += NAME(sum)(NAME(load)(x->dtype, row + i * size_of(x), n, room), n);
    }
    if (mean) *mean = (REAL)(sum / (double)attrs->n);
    for (int64_t i = 0; i < attrs->n; i += BLOCK) {
        int64_t n = block_length(attrs->n - i);
        squares += NAME(square_sum)(NAME(load)(x->dtype, row + i * size_of(x), n, room), n, mean ? *mean : 0);
    }
    *rstd = (REAL)(1 / sqrt(squares / (double)attrs->n + attrs->eps));
}

static void NAME(normalize_row)(const row_norm *job, int64_t row, REAL mean, REAL rstd)
{
    REAL room[4][BLOCK];
    int64_t begin = row * job->attrs->n;

    for (int64_t i = 0; i < job->attrs->n; i += BLOCK) {
        int64_t n = block_length(job->attrs->n - i);
        const REAL *x = NAME(load)(job->x->dtype, at(job->x, begin + i), n, room[0]);
        const REAL *w = job->w ? NAME(load)(job->w->dtype, at(job->w, i), n, room[1]) : NULL;
        const REAL *b = job->b ? NAME(load)(job->b->dtype, at(job->b, i), n, room[2]) : NULL;
        REAL *result = NAME(target)(job->y->dtype, at(job->y, begin + i), room[3], false);
        if (w && b)
            for (int64_t j = 0; j < n; j++) result[j] = (x[j] - mean) * rstd * w[j] + b[j];
        else if (w)
            for (int64_t j = 0; j < n; j++) result[j] = (x[j] - mean) * rstd * w[j];
        else
            for (int64_t j = 0; j < n; j++) result[j] = (x[j] - mean) * rstd + (b ? b[j] : 0);
        NAME(store)(job->y->dtype, at(job->y, begin + i), n, result, false);
    }
}

static void NAME(each_row)(void *context, int64_t row, int rank)
{
    const row_norm *job = context;
    REAL *mean = job->mean ? (REAL *)job->mean->data : NULL, *rstd = (REAL *)job->rstd->data;

    (void)rank;
    NAME(row_statistics)
    (job->x, at(job->x, row * job->attrs->n), job->attrs, mean ? &mean[row] : NULL, &rstd[row]);
    NAME(normalize_row)(job, row, mean ? mean[row] : 0, rstd[row]);
}

static void NAME(row_norm)(const row_norm *job)
{
    light_team_each(job->x->numel >= LIGHT_PARALLEL_MIN, job->rows, NAME(each_row), (void *)job);
}

/* The sums of h = gy w and of h xhat over a row; adds gy xhat to gw and gy to gb on the way. */
static KEEP_APART void NAME(row_sums)(const row_norm *job, int64_t row, REAL mean, REAL rstd, REAL *gw,
                                      REAL *gb, double sums[2])
{
    REAL room[3][BLOCK];
    int64_t begin = row * job->attrs->n;

    sums[0] = sums[1] = 0;
    for (int64_t i = 0; i < job->attrs->n; i += BLOCK) {
        int64_t n = block_length(job->attrs->n - i);
        const REAL *x = NAME(load)(job->x->dtype, at(job->x, begin + i), n, room[0]);
        const REAL *gy = NAME(load)(job->gy->dtype, at(job->gy, begin + i), n, room[1]);
        const REAL *w = job->w ? NAME(load)(job->w->dtype, at(job->w, i), n, room[2]) : NULL;
        REAL plain = 0, scaled = 0;
        if (w) {
#pragma omp simd reduction(+ : plain, scaled)
            for (int64_t j = 0; j < n; j++) {
                plain += gy[j] * w[j];
                scaled += gy[j] * w[j] * ((x[j] - mean) * rstd);
            }
        } else {
#pragma omp simd reduction(+ : plain, scaled)
            for (int64_t j = 0; j < n; j++) {
                plain += gy[j];
                scaled += gy[j] * ((x[j] - mean) * rstd);
            }
        }
        if (gw)
            for (int64_t j = 0; j < n; j++) gw[i + j] += gy[j] * ((x[j] - mean) * rstd);
        if (gb)
            for (int64_t j = 0; j < n; j++) gb[i + j] += gy[j];
        sums[0] += plain;
        sums[1] += scaled;
    }
}

/* gx = rstd (h - mean(h) - xhat mean(h xhat)); without a mean the middle term is absent. */
static void NAME(row_gradient)(const row_norm *job, int64_t row, REAL mean, REAL rstd, const double sums[2])
{
    REAL room[4][BLOCK];
    int64_t begin = row * job->attrs->n;
    REAL plain = job->mean ? (REAL)(sums[0] / (double)job->attrs->n) : 0;
    REAL scaled = (REAL)(sums[1] / (double)job->attrs->n * rstd);

    for (int64_t i = 0; i < job->attrs->n; i += BLOCK) {
        int64_t n = block_length(job->attrs->n - i);
        const REAL *x = NAME(load)(job->x->dtype, at(job->x, begin + i), n, room[0]);
        const REAL *gy = NAME(load)(job->gy->dtype, at(job->gy, begin + i), n, room[1]);
        const REAL *w = job->w ? NAME(load)(job->w->dtype, at(job->w, i), n, room[2]) : NULL;
        REAL *result = NAME(target)(job->gx->dtype, at(job->gx, begin + i), room[3], job->add[0]);
        if (w)
            for (int64_t j = 0; j < n; j++)
                result[j] = rstd * (gy[j] * w[j] - plain - (x[j] - mean) * scaled);
        else
            for (int64_t j = 0; j < n; j++) result[j] = rstd * (gy[j] - plain - (x[j] - mean) * scaled);
        NAME(store)(job->gx->dtype, at(job->gx, begin + i), n, result, job->add[0]);
    }
}

/* Adds the chunks' sums up in their order. */
static void NAME(join_chunks)(const REAL *parts, int64_t chunks, int64_t stride, int64_t n, light_tensor *g,
                              bool add)
{
    REAL sum[BLOCK];

    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t count = block_length(n - i);
        for (int64_t j = 0; j < count; j++) sum[j] = parts[i + j];
        for (int64_t c = 1; c < chunks; c++)
            for (int64_t j = 0; j < count; j++) sum[j] += parts[c * stride + i + j];
        NAME(store)(g->dtype, at(g, i), count, sum, add);
    }
}

/* Rows are shared out in chunks, each with sums of its own for gw and gb. */
typedef struct NAME(row_chunks) {
    const row_norm *job;
    REAL *parts;
    int64_t chunks;
} NAME(row_chunks);

static void NAME(each_chunk)(void *context, int64_t chunk, int rank)
{
    const NAME(row_chunks) *c = context;
    const row_norm *job = c->job;
    const REAL *mean = job->mean ? (const REAL *)job->mean->data : NULL,
               *rstd = (const REAL *)job->rstd->data;
    int64_t n = job->attrs->n, end = light_part_at(job->rows, c->chunks, chunk + 1);
    REAL *gw = job->gw ? c->parts + chunk * 2 * n : NULL, *gb = job->gb ? c->parts + chunk * 2 * n + n : NULL;

    (void)rank;
    if (gw) memset(gw, 0, (size_t)n * sizeof *gw);
    if (gb) memset(gb, 0, (size_t)n * sizeof *gb);
    for (int64_t row = light_part_at(job->rows, c->chunks, chunk); row < end; row++) {
        double sums[2];
        NAME(row_sums)(job, row, mean ? mean[row] : 0, rstd[row], gw, gb, sums);
        if (job->gx) NAME(row_gradient)(job, row, mean ? mean[row] : 0, rstd[row], sums);
    }
}

static light_status NAME(row_norm_backward)(const row_norm *job)
{
    int64_t n = job->attrs->n, chunks = light_part_count(job->rows, 8, 32);
    REAL *parts = job->gw || job->gb
                      ? light_cpu_scratch(LIGHT_SCRATCH_KERNEL, (size_t)(chunks * 2 * n) * sizeof *parts)
                      : NULL;

    if (!parts && (job->gw || job->gb)) return LIGHT_ERR_MEMORY;
    NAME(row_chunks) c = {job, parts, chunks};
    light_team_each(job->x->numel >= LIGHT_PARALLEL_MIN, chunks, NAME(each_chunk), &c);
    if (job->gw) NAME(join_chunks)(parts, chunks, 2 * n, n, job->gw, job->add[1]);
    if (job->gb) NAME(join_chunks)(parts + n, chunks, 2 * n, n, job->gb, job->add[2]);
    return LIGHT_OK;
}
