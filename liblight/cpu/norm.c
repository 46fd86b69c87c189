/* SPDX-License-Identifier: Apache-2.0 */
/* Normalisation: of rows (layer norm, RMS norm) and by channels (batch norm, group norm). */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/once/scratch.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

enum { BLOCK = 512, WIDTH = 64, ROWS = 32 };

static inline int64_t block_length(int64_t left)
{
    return left < BLOCK ? left : BLOCK;
}

static inline int64_t size_of(const light_tensor *t)
{
    return light_element_size(t->dtype);
}

/* Element i of memory. */
static inline char *at(const light_tensor *t, int64_t i)
{
    return t->data + i * size_of(t);
}

static double load_at(const light_tensor *t, int64_t i)
{
    return light_load_one(at(t, i), (light_dtype)t->dtype);
}

typedef struct row_norm {
    const light_norm_attrs *attrs;
    int64_t rows;
    const light_tensor *x, *w, *b, *gy, *mean, *rstd; /* RMS norm has no mean */
    light_tensor *y, *gx, *gw, *gb;
    bool add[3];
} row_norm;

/* Count, mean and sum of squared differences from it. */
typedef struct moments {
    double n, mean, squares;
} moments;

/* T. F. Chan, G. H. Golub, R. J. LeVeque: Updating formulae and a pairwise algorithm for computing sample variances. 1979. */
static inline void join_moments(moments *m, int64_t n, double mean, double squares)
{
    double all = m->n + (double)n, apart = mean - m->mean;

    m->mean += apart * ((double)n / all);
    m->squares += squares + apart * apart * (m->n * (double)n / all);
    m->n = all;
}

/* running = (1 - momentum) running + momentum value */
static void mix_running(light_tensor *running, int64_t c, double value, double momentum)
{
    light_store_one(at(running, c), (light_dtype)running->dtype,
                    (1 - momentum) * load_at(running, c) + momentum * value);
}

typedef struct channel_norm {
    const light_tensor *x, *w, *b, *gy, *mean, *rstd;
    light_tensor *y, *gx;
    int64_t channels, pixels; /* pixels of one image */
    int64_t groups;           /* 0: batch norm */
    bool side_by_side;    /* the channels of a pixel are neighbours in memory, else the pixels of a channel */
    int64_t strip;        /* channels that are worked on together */
    int64_t spots, units; /* pixels (side by side) or images, cut into units */
    double count;         /* elements that share statistics */
    bool fixed;           /* statistics that do not depend on x */
    bool add[3];
    moments *moments;      /* [units, channels] */
    double *sums, *totals; /* pairs: [units, channels]; of what shares statistics */
} channel_norm;

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/norm_rows.inc.h"
#include "cpu/norm_channels.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/norm_rows.inc.h"
#include "cpu/norm_channels.inc.h"

/* ---- rows ----------------------------------------------------------------- */

static light_status run_rows(row_norm *job, const light_kernel_args *args)
{
    job->attrs = args->attrs;
    job->rows = job->x->numel / job->attrs->n;
    for (int i = 0; i < 3; i++) job->add[i] = args->accumulate >> i & 1;
    if (job->gy) return job->x->dtype == LIGHT_F64 ? row_norm_backward_f64(job) : row_norm_backward_f32(job);
    if (job->x->dtype == LIGHT_F64)
        row_norm_f64(job);
    else
        row_norm_f32(job);
    return LIGHT_OK;
}

static light_status layer_norm(const light_kernel_args *args)
{
    return run_rows(&(row_norm){.x = args->in[0],
                                .w = args->in[1],
                                .b = args->in[2],
                                .y = args->out[0],
                                .mean = args->out[1],
                                .rstd = args->out[2]},
                    args);
}

static light_status rms_norm(const light_kernel_args *args)
{
    return run_rows(&(row_norm){.x = args->in[0], .w = args->in[1], .y = args->out[0], .rstd = args->out[1]},
                    args);
}

static light_status layer_norm_backward(const light_kernel_args *args)
{
    return run_rows(&(row_norm){.gy = args->in[0],
                                .x = args->in[1],
                                .w = args->in[2],
                                .mean = args->in[3],
                                .rstd = args->in[4],
                                .gx = args->out[0],
                                .gw = args->out[1],
                                .gb = args->out[2]},
                    args);
}

static light_status rms_norm_backward(const light_kernel_args *args)
{
    return run_rows(&(row_norm){.gy = args->in[0],
                                .x = args->in[1],
                                .w = args->in[2],
                                .rstd = args->in[3],
                                .gx = args->out[0],
                                .gw = args->out[1]},
                    args);
}

/* ---- channels ------------------------------------------------------------- */

static channel_norm channels_of(const light_tensor *x, const light_tensor *w, int64_t groups)
{
    channel_norm job = {.x = x, .w = w, .groups = groups, .channels = x->shape[1]};
    int64_t images = x->shape[0];

    job.pixels = x->numel / images / job.channels;
    job.side_by_side = job.channels > 1 && (job.pixels == 1 || !x->contiguous);
    job.strip = job.side_by_side ? WIDTH : 1;
    job.spots = job.side_by_side ? images * job.pixels : images;
    job.units = groups ? images : light_part_count(job.spots, job.side_by_side ? 256 : 4, 32);
    job.count = (double)(groups ? job.pixels * (job.channels / groups) : images * job.pixels);
    return job;
}

static light_status batch_norm(const light_kernel_args *args)
{
    channel_norm job = channels_of(args->in[0], args->in[1], 0);

    job.b = args->in[2];
    job.y = args->out[0];
    job.mean = args->out[1];
    job.rstd = args->out[2];
    return job.x->dtype == LIGHT_F64 ? batch_norm_f64(&job, args) : batch_norm_f32(&job, args);
}

static light_status group_norm(const light_kernel_args *args)
{
    const light_group_norm_attrs *attrs = args->attrs;
    channel_norm job = channels_of(args->in[0], args->in[1], attrs->groups);

    job.b = args->in[2];
    job.y = args->out[0];
    job.mean = args->out[1];
    job.rstd = args->out[2];
    return job.x->dtype == LIGHT_F64 ? group_norm_f64(&job, attrs, args->out[1], args->out[2])
                                     : group_norm_f32(&job, attrs, args->out[1], args->out[2]);
}

static light_status run_channels_backward(channel_norm *job, const light_kernel_args *args)
{
    job->gy = args->in[0];
    job->mean = args->in[3];
    job->rstd = args->in[4];
    job->gx = args->out[0];
    for (int i = 0; i < 3; i++) job->add[i] = args->accumulate >> i & 1;
    return job->x->dtype == LIGHT_F64 ? channel_norm_backward_f64(job, args->out)
                                      : channel_norm_backward_f32(job, args->out);
}

static light_status batch_norm_backward(const light_kernel_args *args)
{
    const light_batch_norm_attrs *attrs = args->attrs;
    channel_norm job = channels_of(args->in[1], args->in[2], 0);

    job.fixed = !attrs->training;
    return run_channels_backward(&job, args);
}

static light_status group_norm_backward(const light_kernel_args *args)
{
    const light_group_norm_attrs *attrs = args->attrs;
    channel_norm job = channels_of(args->in[1], args->in[2], attrs->groups);

    return run_channels_backward(&job, args);
}

const light_cpu_kernel LIGHT_ISA(light_norm_kernels)[] = {
    {LIGHT_KERNEL_BATCH_NORM, batch_norm},
    {LIGHT_KERNEL_BATCH_NORM_BACKWARD, batch_norm_backward},
    {LIGHT_KERNEL_LAYER_NORM, layer_norm},
    {LIGHT_KERNEL_LAYER_NORM_BACKWARD, layer_norm_backward},
    {LIGHT_KERNEL_RMS_NORM, rms_norm},
    {LIGHT_KERNEL_RMS_NORM_BACKWARD, rms_norm_backward},
    {LIGHT_KERNEL_GROUP_NORM, group_norm},
    {LIGHT_KERNEL_GROUP_NORM_BACKWARD, group_norm_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};
