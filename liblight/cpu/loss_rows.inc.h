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
static void NAME(class_loss)(const class_rows *c, light_tensor *out, REAL *lse, REAL *total)
{
    double sums[CHUNKS] = {0}, weights[CHUNKS] = {0}, sum = 0, weight = 0;
    double all = NAME(weight_sum)(c);
    int64_t chunks = c->rows < CHUNKS ? c->rows : CHUNKS, ignored = c->attrs->ignore_index;
    const REAL *w = c->weight;
    bool each = c->attrs->reduction == LIGHT_NONE;

#pragma omp parallel for schedule(static) if (c->rows * (lse ? c->classes : 1) >= LIGHT_PARALLEL_MIN)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        for (int64_t row = c->rows * chunk / chunks; row < c->rows * (chunk + 1) / chunks; row++) {
            int64_t y = target_at(c->target, row);
            double loss = 0, wy = y == ignored ? 0 : w ? (double)w[y] : 1;

            if (lse && y == ignored)
                lse[row] = 0;
            else if (lse)
                loss = NAME(cross_entropy_row)(c, row, y, wy, all, &lse[row]);
            else if (y != ignored)
                loss = -wy * NAME(element)(c->x, row * c->stride + y);
            sums[chunk] += loss;
            weights[chunk] += wy;
            if (each) {
                REAL value = (REAL)loss;
                NAME(store)
                (out->dtype, out->data + row * light_element_size(out->dtype), 1, &value, false);
            }
        }
    }
    for (int64_t i = 0; i < chunks; i++) {
        sum += sums[i];
        weight += weights[i];
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

static void NAME(cross_entropy_backward)(const class_rows *c, const light_tensor *g, const REAL *lse,
                                         REAL total, light_tensor *gx, bool add)
{
    double all = NAME(weight_sum)(c);
#pragma omp parallel for schedule(static) if (c->rows * c->classes >= LIGHT_PARALLEL_MIN)
    for (int64_t row = 0; row < c->rows; row++) {
        int64_t y = target_at(c->target, row);
        if (y != c->attrs->ignore_index) NAME(cross_entropy_row_backward)
        (c, gx, add, row, y, NAME(row_gradient)(c, g, total, row), all, lse[row]);
        else if (!add) NAME(clear_row)(c, gx, row);
    }
}

static void NAME(nll_backward)(const class_rows *c, const light_tensor *g, REAL total, light_tensor *gx,
                               bool add)
{
    const REAL *w = c->weight;
    int64_t size = light_element_size(gx->dtype);
#pragma omp parallel for schedule(static) if (c->rows * c->classes >= LIGHT_PARALLEL_MIN)
    for (int64_t row = 0; row < c->rows; row++) {
        int64_t y = target_at(c->target, row);
        if (!add) NAME(clear_row)(c, gx, row);
        if (y == c->attrs->ignore_index) continue;
        REAL value = (REAL)(-(w ? (double)w[y] : 1) * NAME(row_gradient)(c, g, total, row));
        NAME(store)(gx->dtype, gx->data + (row * gx->strides[0] + y) * size, 1, &value, add);
    }
}

static int64_t NAME(count_hits)(const class_rows *c)
{
    int64_t hits = 0;
#pragma omp parallel for schedule(static) reduction(+ : hits) if (c->rows * c->classes >= LIGHT_PARALLEL_MIN)
    for (int64_t row = 0; row < c->rows; row++) {
        REAL room[BLOCK], best = -INFINITY;
        int64_t at = 0;
        for (int64_t i = 0; i < c->classes; i += BLOCK) {
            int64_t n = block_length(c->classes - i);
            const REAL *x = NAME(load)(c->x->dtype, scores_at(c, row, i), n, room);
            REAL max = NAME(block_max)(x, n, best);
            if (!(max > best)) continue;
            for (int64_t j = n - 1; j >= 0; j--)
                if (x[j] == max) at = i + j;
            best = max;
        }
        hits += at == target_at(c->target, row);
    }
    return hits;
}
