/* SPDX-License-Identifier: Apache-2.0 */
/* Template of loss.c: cross entropy and negative log-likelihood over rows of classes, in one arithmetic (real.inc.h). */

static REAL NAME(element)(const light_tensor *t, int64_t i)
{
    REAL room;
    return *NAME(load)(t->dtype, t->data + i * light_element_size(t->dtype), 1, &room);
}

static KEEP_APART REAL NAME(block_max)(const REAL *x, int64_t n, REAL max)
{
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

static KEEP_APART REAL NAME(block_exp_sum)(const REAL *x, int64_t n, REAL max)
{
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += EXP(x[i] - max);
    return sum;
}

static KEEP_APART REAL NAME(block_sum)(const REAL *x, const REAL *w, int64_t n)
{
    REAL sum = 0;
    if (w) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += w[i] * x[i];
    } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += x[i];
    }
    return sum;
}

/* log sum exp of a row; with `smooth` also the sum of w x into *weighted. */
static double NAME(row_lse)(const class_rows *c, int64_t row, bool smooth, double *weighted)
{
    REAL room[BLOCK], max = -INFINITY;
    const REAL *w = c->weight;
    double sum = 0;

    for (int64_t i = 0; i < c->classes; i += BLOCK) {
        int64_t n = block_length(c->classes - i);
        max = NAME(block_max)(NAME(load)(c->x->dtype, scores_at(c, row, i), n, room), n, max);
    }
    for (int64_t i = 0; i < c->classes; i += BLOCK) {
        int64_t n = block_length(c->classes - i);
        const REAL *x = NAME(load)(c->x->dtype, scores_at(c, row, i), n, room);
        sum += NAME(block_exp_sum)(x, n, max);
        if (smooth) *weighted += NAME(block_sum)(x, w ? w + i : NULL, n);
    }
    return max + log(sum);
}

static double NAME(weight_sum)(const class_rows *c)
{
    const REAL *w = c->weight;
    double sum = 0;

    if (!w) return (double)c->classes;
    for (int64_t i = 0; i < c->classes; i++) sum += w[i];
    return sum;
}

static double NAME(cross_entropy_row)(const class_rows *c, int64_t row, int64_t y, double w, double all,
                                      REAL *lse)
{
    double smoothing = c->attrs->label_smoothing, weighted = 0, loss;
    double total = NAME(row_lse)(c, row, smoothing > 0, &weighted);
    REAL room, score = *NAME(load)(c->x->dtype, scores_at(c, row, y), 1, &room);

    *lse = (REAL)total;
    loss = w * (total - score);
    return smoothing > 0 ? (1 - smoothing) * loss + smoothing / (double)c->classes * (all * total - weighted)
                         : loss;
}

/* Both losses: lse NULL means that x holds log-probabilities. The partial sums are cut by the shape alone, so any
 * number of threads adds in one order. */
typedef struct NAME(class_loss_job) {
    const class_rows *c;
    light_tensor *out;
    REAL *lse;
    double all; /* sum of the weights */
    int64_t chunks;
    double sums[CHUNKS], weights[CHUNKS];
} NAME(class_loss_job);

static void NAME(class_loss_chunk)(void *context, int64_t chunk, int rank)
{
    NAME(class_loss_job) *job = context;
    const class_rows *c = job->c;
    const REAL *w = c->weight;
    light_tensor *out = job->out;
    double sum = 0, weight = 0;

    (void)rank;
    for (int64_t row = c->rows * chunk / job->chunks; row < c->rows * (chunk + 1) / job->chunks; row++) {
        int64_t y = target_at(c->target, row);
        bool ignored = y == c->attrs->ignore_index;
        double loss = 0, wy = ignored ? 0 : w ? (double)w[y] : 1;

        if (job->lse && ignored)
            job->lse[row] = 0;
        else if (job->lse)
            loss = NAME(cross_entropy_row)(c, row, y, wy, job->all, &job->lse[row]);
        else if (!ignored)
            loss = -wy * NAME(element)(c->x, row * c->stride + y);
        sum += loss;
        weight += wy;
        if (c->attrs->reduction == LIGHT_NONE) {
            REAL value = (REAL)loss;
            NAME(store)(out->dtype, out->data + row * light_element_size(out->dtype), 1, &value, false);
        }
    }
    job->sums[chunk] = sum;
    job->weights[chunk] = weight;
}

static void NAME(class_loss)(const class_rows *c, light_tensor *out, REAL *lse, REAL *total)
{
    double sum = 0, weight = 0;
    bool each = c->attrs->reduction == LIGHT_NONE;
    NAME(class_loss_job) job = {.c = c, .out = out, .lse = lse, .all = NAME(weight_sum)(c)};

    job.chunks = c->rows < CHUNKS ? c->rows : CHUNKS;
    light_team_each(c->rows * (lse ? c->classes : 1) >= LIGHT_PARALLEL_MIN, job.chunks,
                    NAME(class_loss_chunk), &job);
    for (int64_t i = 0; i < job.chunks; i++) {
        sum += job.sums[i];
        weight += job.weights[i];
    }
    *total = (REAL)weight;
    if (!each) {
        REAL value = (REAL)(c->attrs->reduction == LIGHT_MEAN ? sum / weight : sum);
        NAME(store)(out->dtype, out->data, 1, &value, false);
    }
}

/* The gradient that reaches a row. */
static double NAME(row_gradient)(const class_rows *c, const light_tensor *g, REAL total, int64_t row)
{
    double value = NAME(element)(g, c->attrs->reduction == LIGHT_NONE ? row : 0);
    return c->attrs->reduction == LIGHT_MEAN ? value / total : value;
}

static void NAME(clear_row)(const class_rows *c, light_tensor *gx, int64_t row)
{
    size_t size = (size_t)light_element_size(gx->dtype);
    memset(gx->data + row * gx->strides[0] * (int64_t)size, 0, (size_t)c->classes * size);
}

/* gx = (1 - e) w_y g (p - 1[y]) + e / C g (W p - w), p = exp(x - lse), W the sum of all weights. */
static void NAME(cross_entropy_row_backward)(const class_rows *c, light_tensor *gx, bool add, int64_t row,
                                             int64_t y, double g, double all, REAL lse)
{
    const REAL *w = c->weight;
    double even = c->attrs->label_smoothing / (double)c->classes * g;
    double hit = (1 - c->attrs->label_smoothing) * (w ? (double)w[y] : 1) * g;
    REAL p_scale = (REAL)(hit + even * all), shift = (REAL)even, room[BLOCK], result[BLOCK];
    int64_t size = light_element_size(gx->dtype);

    for (int64_t i = 0; i < c->classes; i += BLOCK) {
        int64_t n = block_length(c->classes - i);
        const REAL *x = NAME(load)(c->x->dtype, scores_at(c, row, i), n, room);
        for (int64_t j = 0; j < n; j++) result[j] = EXP(x[j] - lse) * p_scale;
        if (shift != 0 && w)
            for (int64_t j = 0; j < n; j++) result[j] -= shift * w[i + j];
        else if (shift != 0)
            for (int64_t j = 0; j < n; j++) result[j] -= shift;
        if (y >= i && y < i + n) result[y - i] -= (REAL)hit;
        NAME(store)(gx->dtype, gx->data + (row * gx->strides[0] + i) * size, n, result, add);
    }
}

typedef struct NAME(class_gradient) {
    const class_rows *c;
    const light_tensor *g;
    const REAL *lse;
    REAL total;
    light_tensor *gx;
    bool add;
    double all; /* sum of the weights */
} NAME(class_gradient);

static void NAME(cross_entropy_gradient)(void *context, int64_t row, int rank)
{
    const NAME(class_gradient) *job = context;
    const class_rows *c = job->c;
    int64_t y = target_at(c->target, row);

    (void)rank;
    if (y == c->attrs->ignore_index) {
        if (!job->add) NAME(clear_row)(c, job->gx, row);
        return;
    }
    NAME(cross_entropy_row_backward)
    (c, job->gx, job->add, row, y, NAME(row_gradient)(c, job->g, job->total, row), job->all, job->lse[row]);
}

static void NAME(cross_entropy_backward)(const class_rows *c, const light_tensor *g, const REAL *lse,
                                         REAL total, light_tensor *gx, bool add)
{
    NAME(class_gradient) job = {c, g, lse, total, gx, add, NAME(weight_sum)(c)};

    light_team_each(c->rows * c->classes >= LIGHT_PARALLEL_MIN, c->rows, NAME(cross_entropy_gradient), &job);
}

static void NAME(nll_gradient)(void *context, int64_t row, int rank)
{
    const NAME(class_gradient) *job = context;
    const class_rows *c = job->c;
    const REAL *w = c->weight;
    light_tensor *gx = job->gx;
    int64_t y = target_at(c->target, row), size = light_element_size(gx->dtype);

    (void)rank;
    if (!job->add) NAME(clear_row)(c, gx, row);
    if (y == c->attrs->ignore_index) return;
    REAL value = (REAL)(-(w ? (double)w[y] : 1) * NAME(row_gradient)(c, job->g, job->total, row));
    NAME(store)(gx->dtype, gx->data + (row * gx->strides[0] + y) * size, 1, &value, job->add);
}

static void NAME(nll_backward)(const class_rows *c, const light_tensor *g, REAL total, light_tensor *gx,
                               bool add)
{
    NAME(class_gradient) job = {.c = c, .g = g, .total = total, .gx = gx, .add = add};

    light_team_each(c->rows * c->classes >= LIGHT_PARALLEL_MIN, c->rows, NAME(nll_gradient), &job);
}

typedef struct NAME(hits) {
    const class_rows *c;
    atomic_llong count;
} NAME(hits);

static void NAME(row_hit)(void *context, int64_t row, int rank)
{
    NAME(hits) *hits = context;
    const class_rows *c = hits->c;
    REAL room[BLOCK], best = -INFINITY;
    int64_t at = 0;

    (void)rank;
    for (int64_t i = 0; i < c->classes; i += BLOCK) {
        int64_t n = block_length(c->classes - i);
        const REAL *x = NAME(load)(c->x->dtype, scores_at(c, row, i), n, room);
        REAL max = NAME(block_max)(x, n, best);
        if (!(max > best)) continue;
        for (int64_t j = n - 1; j >= 0; j--)
            if (x[j] == max) at = i + j;
        best = max;
    }
    if (at == target_at(c->target, row)) atomic_fetch_add_explicit(&hits->count, 1, memory_order_relaxed);
}

static int64_t NAME(count_hits)(const class_rows *c)
{
    NAME(hits) hits = {.c = c};

    light_team_each(c->rows * c->classes >= LIGHT_PARALLEL_MIN, c->rows, NAME(row_hit), &hits);
    return hits.count;
}
