/* SPDX-License-Identifier: Apache-2.0 */
/* Template of norm.c in one arithmetic (real.inc.h): batch norm and group norm.
 *
 * Both begin with sums for each channel over units of pixels: for batch norm a unit is a part of all pixels of the
 * batch, for group norm an image. A unit's sums are made of blocks that fit into the cache and are read twice there, so
 * the variance loses nothing to cancellation, and memory is read once. */

/* The pixels of one channel in neighbouring memory: mean and sum of squared differences. */
static void NAME(run_moments)(const light_tensor *x, int64_t first, int64_t count, moments *m)
{
    REAL room[BLOCK];

    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t n = block_length(count - i);
        const REAL *p = NAME(load)(x->dtype, at(x, first + i), n, room);
        REAL mean = NAME(sum)(p, n) / (REAL)n;
        join_moments(m, n, mean, NAME(square_sum)(p, n, mean));
    }
}

/* The same for up to WIDTH channels side by side, in `count` pixels that are `stride` elements apart. */
static void NAME(strip_moments)(const light_tensor *x, int64_t first, int64_t stride, int64_t count,
                                int64_t width, moments *m)
{
    REAL room[ROWS][WIDTH], sum[WIDTH], squares[WIDTH];
    const REAL *row[ROWS];

    for (int64_t r = 0; r < count; r += ROWS) {
        int64_t rows = count - r < ROWS ? count - r : ROWS;
        memset(sum, 0, sizeof sum);
        memset(squares, 0, sizeof squares);
        for (int64_t i = 0; i < rows; i++) {
            row[i] = NAME(load)(x->dtype, at(x, first + (r + i) * stride), width, room[i]);
#pragma omp simd
            for (int64_t c = 0; c < width; c++) sum[c] += row[i][c];
        }
        for (int64_t c = 0; c < width; c++) sum[c] /= (REAL)rows;
        for (int64_t i = 0; i < rows; i++) {
#pragma omp simd
            for (int64_t c = 0; c < width; c++) squares[c] += (row[i][c] - sum[c]) * (row[i][c] - sum[c]);
        }
        for (int64_t c = 0; c < width; c++) join_moments(&m[c], rows, sum[c], squares[c]);
    }
}

/* Sums of gy and gy xhat, likewise. */
static KEEP_APART void NAME(run_sums)(const channel_norm *job, int64_t first, int64_t count, REAL mean,
                                      REAL rstd, double *sums)
{
    REAL room[2][BLOCK];

    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t n = block_length(count - i);
        const REAL *x = NAME(load)(job->x->dtype, at(job->x, first + i), n, room[0]);
        const REAL *gy = NAME(load)(job->gy->dtype, at(job->gy, first + i), n, room[1]);
        REAL plain = 0, scaled = 0;
#pragma omp simd reduction(+ : plain, scaled)
        for (int64_t j = 0; j < n; j++) {
            plain += gy[j];
            scaled += gy[j] * (x[j] - mean);
        }
        sums[0] += plain;
        sums[1] += scaled * rstd;
    }
}

static void NAME(strip_sums)(const channel_norm *job, int64_t first, int64_t stride, int64_t count,
                             int64_t width, const REAL *mean, const REAL *rstd, double *sums)
{
    REAL room[2][WIDTH], plain[WIDTH], scaled[WIDTH];

    for (int64_t r = 0; r < count; r += ROWS) {
        int64_t rows = count - r < ROWS ? count - r : ROWS;
        memset(plain, 0, sizeof plain);
        memset(scaled, 0, sizeof scaled);
        for (int64_t i = r; i < r + rows; i++) {
            const REAL *x = NAME(load)(job->x->dtype, at(job->x, first + i * stride), width, room[0]);
            const REAL *gy = NAME(load)(job->gy->dtype, at(job->gy, first + i * stride), width, room[1]);
#pragma omp simd
            for (int64_t c = 0; c < width; c++) {
                plain[c] += gy[c];
                scaled[c] += gy[c] * (x[c] - mean[c]);
            }
        }
        for (int64_t c = 0; c < width; c++) {
            sums[2 * c] += plain[c];
            sums[2 * c + 1] += scaled[c] * rstd[c];
        }
    }
}

/* Mean and rstd of channel c in image n. */
static inline int64_t NAME(statistic)(const channel_norm *job, int64_t n, int64_t c, REAL *mean, REAL *rstd)
{
    int64_t i = job->groups ? n * job->groups + c / (job->channels / job->groups) : c;

    *mean = ((const REAL *)job->mean->data)[i];
    *rstd = ((const REAL *)job->rstd->data)[i];
    return i;
}

/* One unit of one strip of channels: moments in the forward pass, sums in the backward pass. */
static void NAME(unit)(const channel_norm *job, int64_t unit, int64_t strip)
{
    int64_t c = strip * job->strip, width = job->channels - c < job->strip ? job->channels - c : job->strip;
    int64_t from = light_part_at(job->spots, job->units, unit),
            to = light_part_at(job->spots, job->units, unit + 1);
    moments *m = job->moments ? job->moments + unit * job->channels + c : NULL;
    double *sums = job->sums ? job->sums + 2 * (unit * job->channels + c) : NULL;
    REAL mean[WIDTH], rstd[WIDTH];

    if (m) memset(m, 0, (size_t)width * sizeof *m);
    if (sums) memset(sums, 0, (size_t)width * 2 * sizeof *sums);
    for (int64_t i = 0; sums && i < width; i++)
        NAME(statistic)(job, job->strip > 1 ? from / job->pixels : from, c + i, &mean[i], &rstd[i]);
    if (job->side_by_side && m) {
        NAME(strip_moments)(job->x, from * job->channels + c, job->channels, to - from, width, m);
    } else if (job->side_by_side) {
        NAME(strip_sums)(job, from * job->channels + c, job->channels, to - from, width, mean, rstd, sums);
    } else {
        for (int64_t n = from; n < to; n++) {
            int64_t first = (n * job->channels + c) * job->pixels;
            if (m)
                NAME(run_moments)(job->x, first, job->pixels, m);
            else
                NAME(run_sums)(job, first, job->pixels, mean[0], rstd[0], sums);
        }
    }
}

static int64_t NAME(unit_strips)(const channel_norm *job)
{
    return (job->channels + job->strip - 1) / job->strip;
}

static void NAME(each_unit)(void *context, int64_t i, int rank)
{
    int64_t strips = NAME(unit_strips)(context);

    (void)rank;
    NAME(unit)(context, i / strips, i % strips);
}

static void NAME(all_units)(const channel_norm *job)
{
    light_team_each(job->x->numel >= LIGHT_PARALLEL_MIN, job->units * NAME(unit_strips)(job), NAME(each_unit),
                    (void *)job);
}

/* ---- the pass that writes: result = first a + (x - mean) b + c ------------ */

/* The three factors of channel c in image n. Forward: a is not used, b = rstd w, c = bias. Backward: first is gy, and
 * gx = rstd (w gy - mean(w gy) - xhat mean(w gy xhat)), the means being over what shares its statistics. */
static void NAME(factors)(const channel_norm *job, int64_t n, int64_t c, REAL *mean, REAL *a, REAL *b,
                          REAL *shift)
{
    REAL rstd, w;
    int64_t i = NAME(statistic)(job, n, c, mean, &rstd);

    w = job->w ? (REAL)light_load_one(at(job->w, c), (light_dtype)job->w->dtype) : 1;
    if (!job->gx) {
        *b = rstd * w;
        *shift = job->b ? (REAL)light_load_one(at(job->b, c), (light_dtype)job->b->dtype) : 0;
        return;
    }
    *a = rstd * w;
    *b = *shift = 0;
    if (!job->fixed) {
        double scale = job->groups ? rstd : rstd * (double)w; /* the groups' sums hold w already */
        *shift = (REAL)(-scale * job->totals[2 * i] / job->count);
        *b = (REAL)(-scale * job->totals[2 * i + 1] / job->count * rstd);
    }
}

static void NAME(write_run)(const channel_norm *job, int64_t n, int64_t c)
{
    REAL room[3][BLOCK], mean, a = 0, b, shift;
    int64_t first = (n * job->channels + c) * job->pixels;
    light_tensor *out = job->gx ? job->gx : job->y;

    NAME(factors)(job, n, c, &mean, &a, &b, &shift);
    for (int64_t i = 0; i < job->pixels; i += BLOCK) {
        int64_t count = block_length(job->pixels - i);
        const REAL *x = NAME(load)(job->x->dtype, at(job->x, first + i), count, room[0]);
        REAL *result = NAME(target)(out->dtype, at(out, first + i), room[2], job->add[0]);
        if (job->gx) {
            const REAL *gy = NAME(load)(job->gy->dtype, at(job->gy, first + i), count, room[1]);
            for (int64_t j = 0; j < count; j++) result[j] = gy[j] * a + ((x[j] - mean) * b + shift);
        } else {
            for (int64_t j = 0; j < count; j++) result[j] = (x[j] - mean) * b + shift;
        }
        NAME(store)(out->dtype, at(out, first + i), count, result, job->add[0]);
    }
}

/* Pixels [from, to) of image n, channels side by side. */
static void NAME(write_strip)(const channel_norm *job, int64_t n, int64_t from, int64_t to, int64_t c)
{
    REAL room[3][WIDTH], mean[WIDTH], a[WIDTH], b[WIDTH], shift[WIDTH];
    int64_t width = job->channels - c < WIDTH ? job->channels - c : WIDTH;
    light_tensor *out = job->gx ? job->gx : job->y;

    for (int64_t i = 0; i < width; i++) NAME(factors)(job, n, c + i, &mean[i], &a[i], &b[i], &shift[i]);
    for (int64_t p = from; p < to; p++) {
        int64_t first = p * job->channels + c;
        const REAL *x = NAME(load)(job->x->dtype, at(job->x, first), width, room[0]);
        REAL *result = NAME(target)(out->dtype, at(out, first), room[2], job->add[0]);
        if (job->gx) {
            const REAL *gy = NAME(load)(job->gy->dtype, at(job->gy, first), width, room[1]);
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                result[i] = gy[i] * a[i] + ((x[i] - mean[i]) * b[i] + shift[i]);
        } else {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) result[i] = (x[i] - mean[i]) * b[i] + shift[i];
        }
        NAME(store)(out->dtype, at(out, first), width, result, job->add[0]);
    }
}

static void NAME(each_run)(void *context, int64_t i, int rank)
{
    const channel_norm *job = context;

    (void)rank;
    NAME(write_run)(job, i / job->channels, i % job->channels);
}

/* How strips of channels are written: parts within an image for group norm; batch norm cares for no borders between
 * images. */
typedef struct NAME(strip_parts) {
    const channel_norm *job;
    int64_t strips, spots, parts;
} NAME(strip_parts);

static void NAME(each_strip)(void *context, int64_t i, int rank)
{
    const NAME(strip_parts) *p = context;
    int64_t body = i / p->strips / p->parts, part = i / p->strips % p->parts;

    (void)rank;
    NAME(write_strip)
    (p->job, body, body * p->spots + light_part_at(p->spots, p->parts, part),
     body * p->spots + light_part_at(p->spots, p->parts, part + 1), i % p->strips * WIDTH);
}

static void NAME(write_all)(const channel_norm *job)
{
    bool pays = job->x->numel >= LIGHT_PARALLEL_MIN;
    int64_t images = job->x->shape[0], bodies = job->groups ? images : 1;
    NAME(strip_parts)
    p = {job, (job->channels + WIDTH - 1) / WIDTH, images * job->pixels / bodies, 0};

    p.parts = light_part_count(p.spots, 64, 256);
    if (job->side_by_side)
        light_team_each(pays, bodies * p.parts * p.strips, NAME(each_strip), &p);
    else
        light_team_each(pays, images * job->channels, NAME(each_run), (void *)job);
}

/* ---- batch norm ----------------------------------------------------------- */

/* Channel c's moments over all units, and what follows from them. */
static void NAME(batch_statistic)(const channel_norm *job, const light_batch_norm_attrs *attrs,
                                  light_tensor *mean, light_tensor *rstd, light_tensor *running_mean,
                                  light_tensor *running_var, int64_t c)
{
    moments all = {0};

    for (int64_t u = 0; u < job->units; u++) {
        const moments *m = &job->moments[u * job->channels + c];
        if (m->n) join_moments(&all, (int64_t)m->n, m->mean, m->squares);
    }
    ((REAL *)mean->data)[c] = (REAL)all.mean;
    ((REAL *)rstd->data)[c] = (REAL)(1 / sqrt(all.squares / all.n + attrs->eps));
    if (!running_mean) return;
    mix_running(running_mean, c, all.mean, attrs->momentum);
    mix_running(running_var, c, all.squares / (all.n - 1), attrs->momentum);
}

static light_status NAME(batch_norm)(channel_norm *job, const light_kernel_args *args)
{
    const light_batch_norm_attrs *attrs = args->attrs;
    light_tensor *running_mean = (light_tensor *)args->in[3], *running_var = (light_tensor *)args->in[4];
    light_tensor *mean = args->out[1], *rstd = args->out[2];

    if (attrs->training) {
        job->moments = light_cpu_scratch(LIGHT_SCRATCH_KERNEL,
                                         (size_t)(job->units * job->channels) * sizeof *job->moments);
        if (!job->moments) return LIGHT_ERR_MEMORY;
        NAME(all_units)(job);
        for (int64_t c = 0; c < job->channels; c++)
            NAME(batch_statistic)(job, attrs, mean, rstd, running_mean, running_var, c);
    } else {
        for (int64_t c = 0; c < job->channels; c++) {
            ((REAL *)mean->data)[c] = (REAL)load_at(running_mean, c);
            ((REAL *)rstd->data)[c] = (REAL)(1 / sqrt(load_at(running_var, c) + attrs->eps));
        }
    }
    NAME(write_all)(job);
    return LIGHT_OK;
}

/* gw and gb from the sums of all units, which for batch norm are the totals of a channel too. */
static void NAME(parameter_gradients)(channel_norm *job, light_tensor *gw, light_tensor *gb)
{
    for (int64_t c = 0; c < job->channels; c++) {
        double plain = 0, scaled = 0;
        for (int64_t u = 0; u < job->units; u++) {
            plain += job->sums[2 * (u * job->channels + c)];
            scaled += job->sums[2 * (u * job->channels + c) + 1];
        }
        if (!job->groups) {
            job->totals[2 * c] = plain;
            job->totals[2 * c + 1] = scaled;
        }
        REAL value[2] = {(REAL)scaled, (REAL)plain};
        if (gw) NAME(store)(gw->dtype, at(gw, c), 1, &value[0], job->add[1]);
        if (gb) NAME(store)(gb->dtype, at(gb, c), 1, &value[1], job->add[2]);
    }
}

/* Sums of w gy and w gy xhat over each group of each image. */
static void NAME(group_totals)(channel_norm *job)
{
    int64_t width = job->channels / job->groups;

    for (int64_t i = 0; i < job->x->shape[0] * job->groups; i++) {
        double plain = 0, scaled = 0;
        for (int64_t c = i % job->groups * width; c < (i % job->groups + 1) * width; c++) {
            double w = job->w ? load_at(job->w, c) : 1;
            plain += w * job->sums[2 * (i / job->groups * job->channels + c)];
            scaled += w * job->sums[2 * (i / job->groups * job->channels + c) + 1];
        }
        job->totals[2 * i] = plain;
        job->totals[2 * i + 1] = scaled;
    }
}

/* Both norms; out: gx, gw, gb. */
static light_status NAME(channel_norm_backward)(channel_norm *job, light_tensor *const *out)
{
    int64_t totals = job->groups ? job->x->shape[0] * job->groups : job->channels;

    job->sums = light_cpu_scratch(LIGHT_SCRATCH_KERNEL,
                                  (size_t)(job->units * job->channels + totals) * 2 * sizeof *job->sums);
    if (!job->sums) return LIGHT_ERR_MEMORY;
    job->totals = job->sums + 2 * job->units * job->channels;
    NAME(all_units)(job);
    NAME(parameter_gradients)(job, out[1], out[2]);
    if (!job->gx) return LIGHT_OK;
    if (job->groups) NAME(group_totals)(job);
    NAME(write_all)(job);
    return LIGHT_OK;
}

/* ---- group norm ----------------------------------------------------------- */

static light_status NAME(group_norm)(channel_norm *job, const light_group_norm_attrs *attrs,
                                     light_tensor *mean, light_tensor *rstd)
{
    int64_t width = job->channels / attrs->groups;

    job->moments =
        light_cpu_scratch(LIGHT_SCRATCH_KERNEL, (size_t)(job->units * job->channels) * sizeof *job->moments);
    if (!job->moments) return LIGHT_ERR_MEMORY;
    NAME(all_units)(job);
    for (int64_t i = 0; i < job->units * attrs->groups; i++) {
        moments all = {0};
        for (int64_t c = 0; c < width; c++) {
            const moments *m = &job->moments[i * width + c];
            join_moments(&all, (int64_t)m->n, m->mean, m->squares);
        }
        ((REAL *)mean->data)[i] = (REAL)all.mean;
        ((REAL *)rstd->data)[i] = (REAL)(1 / sqrt(all.squares / all.n + attrs->eps));
    }
    NAME(write_all)(job);
    return LIGHT_OK;
}
