/* SPDX-License-Identifier: Apache-2.0 */
/* Template of loss.c: losses element by element, in one arithmetic (real.inc.h). */

/* log(1 + exp(-|x|)) */
static inline REAL NAME(softplus_tail)(REAL x)
{
    return LOG1P(EXP(-ABS(x)));
}

static void NAME(loss_values)(const light_loss_attrs *attrs, int64_t n, const REAL *x, const REAL *t,
                              const REAL *w, REAL *y)
{
    REAL delta = (REAL)attrs->delta;

    switch ((light_loss_kind)attrs->kind) {
    case LIGHT_LOSS_MSE:
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - t[i]) * (x[i] - t[i]);
        break;
    case LIGHT_LOSS_L1:
        for (int64_t i = 0; i < n; i++) y[i] = ABS(x[i] - t[i]);
        break;
    case LIGHT_LOSS_HUBER:
        for (int64_t i = 0; i < n; i++) {
            REAL d = ABS(x[i] - t[i]);
            y[i] = d < delta ? (REAL)0.5 * d * d : delta * (d - (REAL)0.5 * delta);
        }
        break;
    case LIGHT_LOSS_BCE_WITH_LOGITS:
        for (int64_t i = 0; i < n; i++) {
            REAL hit = (w[i] - 1) * t[i] + 1;
            y[i] = (1 - t[i]) * x[i] + hit * (NAME(softplus_tail)(x[i]) + (x[i] < 0 ? -x[i] : 0));
        }
        break;
    case LIGHT_LOSS_KL_DIV:
        if (attrs->log_target)
            for (int64_t i = 0; i < n; i++) y[i] = EXP(t[i]) * (t[i] - x[i]);
        else
            for (int64_t i = 0; i < n; i++) y[i] = t[i] > 0 ? t[i] * (LOG(t[i]) - x[i]) : -t[i] * x[i];
        break;
    }
}

/* d loss / d x into gx, d loss / d target into gt, d loss / d weight, where the loss has one, into gw. */
static void NAME(loss_slopes)(const light_loss_attrs *attrs, int64_t n, const REAL *x, const REAL *t,
                              const REAL *w, REAL *gx, REAL *gt, REAL *gw)
{
    REAL delta = (REAL)attrs->delta;

    switch ((light_loss_kind)attrs->kind) {
    case LIGHT_LOSS_MSE:
        for (int64_t i = 0; i < n; i++) gx[i] = 2 * (x[i] - t[i]);
        break;
    case LIGHT_LOSS_L1:
        for (int64_t i = 0; i < n; i++) gx[i] = (REAL)((x[i] > t[i]) - (x[i] < t[i]));
        break;
    case LIGHT_LOSS_HUBER:
        for (int64_t i = 0; i < n; i++) {
            REAL d = x[i] - t[i];
            gx[i] = d < -delta ? -delta : d > delta ? delta : d;
        }
        break;
    case LIGHT_LOSS_BCE_WITH_LOGITS:
        for (int64_t i = 0; i < n; i++) {
            REAL e = EXP(-ABS(x[i])), p = (x[i] < 0 ? e : 1) / (1 + e);
            REAL miss = LOG1P(e) + (x[i] < 0 ? -x[i] : 0); /* -log p */
            gx[i] = ((w[i] - 1) * t[i] + 1) * p - w[i] * t[i];
            gt[i] = (w[i] - 1) * miss - x[i];
            gw[i] = t[i] * miss;
        }
        return;
    case LIGHT_LOSS_KL_DIV:
        for (int64_t i = 0; i < n; i++) {
            REAL p = attrs->log_target ? EXP(t[i]) : t[i];
            gx[i] = -p;
            gt[i] = attrs->log_target ? p * (t[i] - x[i] + 1) : t[i] > 0 ? LOG(t[i]) + 1 - x[i] : 0;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) gt[i] = -gx[i];
}

static const REAL *NAME(weights)(const light_tensor *weight, int64_t first, int64_t n, REAL *room)
{
    if (weight) return NAME(gather)(weight, first, n, room);
    for (int64_t i = 0; i < n; i++) room[i] = 1;
    return room;
}

typedef struct NAME(loss_job) {
    const light_kernel_args *args;
    int64_t blocks, chunks;
    double sums[CHUNKS];
} NAME(loss_job);

static void NAME(loss_chunk)(void *context, int64_t chunk, int rank)
{
    NAME(loss_job) *job = context;
    const light_loss_attrs *attrs = job->args->attrs;
    const light_tensor *x = job->args->in[0], *target = job->args->in[1], *weight = job->args->in[2];
    REAL rooms[4][BLOCK];

    (void)rank;
    job->sums[chunk] = 0;
    for (int64_t b = job->blocks * chunk / job->chunks; b < job->blocks * (chunk + 1) / job->chunks; b++) {
        int64_t i = b * BLOCK, n = block_length(x->numel - i);
        REAL part = 0, *y = rooms[3];
        NAME(loss_values)
        (attrs, n, NAME(gather)(x, i, n, rooms[0]), NAME(gather)(target, i, n, rooms[1]),
         NAME(weights)(weight, i, n, rooms[2]), y);
        if (attrs->reduction == LIGHT_NONE) {
            NAME(scatter)(job->args->out[0], i, n, y, false);
            continue;
        }
#pragma omp simd reduction(+ : part)
        for (int64_t j = 0; j < n; j++) part += y[j];
        job->sums[chunk] += part;
    }
}

static void NAME(loss)(const light_kernel_args *args)
{
    const light_loss_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[0];
    light_tensor *out = args->out[0];
    NAME(loss_job) job = {.args = args, .blocks = (x->numel + BLOCK - 1) / BLOCK};
    double sum = 0;

    job.chunks = job.blocks < CHUNKS ? job.blocks : CHUNKS;
    light_team_each(x->numel >= LIGHT_PARALLEL_MIN, job.chunks, NAME(loss_chunk), &job);
    if (attrs->reduction == LIGHT_NONE) return;
    for (int64_t i = 0; i < job.chunks; i++) sum += job.sums[i];
    REAL value = (REAL)(attrs->reduction == LIGHT_MEAN ? sum / (double)x->numel : sum);
    NAME(store)(out->dtype, out->data, 1, &value, false);
}

static void NAME(loss_backward_block)(void *context, int64_t b, int rank)
{
    const light_kernel_args *args = context;
    const light_loss_attrs *attrs = args->attrs;
    const light_tensor *g = args->in[0], *x = args->in[1], *target = args->in[2], *weight = args->in[3];
    REAL scale = attrs->reduction == LIGHT_MEAN ? (REAL)(1 / (double)x->numel) : 1;
    REAL rooms[4][BLOCK], slopes[3][BLOCK];
    int64_t i = b * BLOCK, n = block_length(x->numel - i);
    const REAL *gy = NAME(gather)(g, i, n, rooms[0]);

    (void)rank;
    NAME(loss_slopes)
    (attrs, n, NAME(gather)(x, i, n, rooms[1]), NAME(gather)(target, i, n, rooms[2]),
     NAME(weights)(weight, i, n, rooms[3]), slopes[0], slopes[1], slopes[2]);
    for (int k = 0; k < 3; k++) {
        if (!args->out[k]) continue;
        for (int64_t j = 0; j < n; j++) slopes[k][j] *= gy[j] * scale;
        NAME(scatter)(args->out[k], i, n, slopes[k], args->accumulate >> k & 1);
    }
}

static void NAME(loss_backward)(const light_kernel_args *args)
{
    int64_t n = args->in[1]->numel;

    light_team_each(n >= LIGHT_PARALLEL_MIN, (n + BLOCK - 1) / BLOCK, NAME(loss_backward_block),
                    (void *)args);
}
