/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm over the batches of several processes: every one computes what its own batch contributes to the statistics of
 * each channel, and a few numbers a channel go around. Those that have a batch in this turn take part.
 *
 * The kernels are those of batch norm alone: with momentum 1 its running statistics are those of the batch, and in
 * evaluation it normalises with given ones. That is a pass more over the input than a kernel of its own would need. */
#include "ops/norm_ranks.h"

#include "base/memory.h"
#include "ops/common.h"

#include <math.h>
#include <string.h>

enum { X, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR }; /* inputs */
enum { MEAN, RSTD };                                 /* extra */

/* ---- numbers that go around ---------------------------------------------------- */

/* n numbers of each rank, of all of them in their order. */
typedef struct table {
    double *numbers;
    int64_t n;
    int rank, ranks;
} table;

static light_status table_new(table *t, const light_batch_norm_ranks *attrs, int64_t n)
{
    *t = (table){light_alloc((size_t)(n * attrs->ranks) * sizeof(double)), n, attrs->group->rank,
                 attrs->ranks};
    return t->numbers ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static double *row(const table *t, int rank)
{
    return t->numbers + rank * t->n;
}

static light_status transfer(light_communicator *group, bool send, double *numbers, int64_t n, int peer)
{
    return light_communicate(group, &(light_collective){.kind = send ? LIGHT_SEND : LIGHT_RECEIVE,
                                                        .in = send ? numbers : NULL,
                                                        .out = send ? NULL : numbers,
                                                        .count = n,
                                                        .dtype = LIGHT_F64,
                                                        .peer = peer,
                                                        .what = "batch norm"});
}

/* Where not all have a batch, rank 0, which always has one, gathers the table and hands it out. */
static light_status go_around_some(light_communicator *group, const table *t)
{
    if (t->rank > 0) {
        LIGHT_TRY(transfer(group, true, row(t, t->rank), t->n, 0));
        return transfer(group, false, t->numbers, t->n * t->ranks, 0);
    }
    for (int r = 1; r < t->ranks; r++) LIGHT_TRY(transfer(group, false, row(t, r), t->n, r));
    for (int r = 1; r < t->ranks; r++) LIGHT_TRY(transfer(group, true, t->numbers, t->n * t->ranks, r));
    return LIGHT_OK;
}

/* Each rank has filled its row; then all rows are there. */
static light_status go_around(light_communicator *group, const table *t)
{
    if (t->ranks == 1) return LIGHT_OK;
    if (t->ranks < group->size) return go_around_some(group, t);
    return light_communicate(group, &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                        .in = row(t, t->rank),
                                                        .out = t->numbers,
                                                        .count = t->n,
                                                        .dtype = LIGHT_F64,
                                                        .what = "batch norm"});
}

/* ---- tensors of a number a channel ------------------------------------------------ */

static int64_t channels_of(const light_node *node)
{
    return light_dim(node->in[X], 1);
}

static light_status read_channels(const light_tensor *t, double *to)
{
    return light_tensor_read(t, LIGHT_F64, to, (size_t)t->numel * sizeof *to);
}

static light_status write_channels(light_tensor *t, const double *from)
{
    return light_tensor_write(t, LIGHT_F64, from, (size_t)t->numel * sizeof *from);
}

/* New ones, of the dtype of the statistics. */
static light_status make_channels(light_step *s, const light_node *node, light_tensor **out, int n)
{
    const light_spec spec = {.dtype = (light_dtype)node->extra[MEAN]->dtype,
                             .shape = LIGHT_SHAPE(channels_of(node))};
    for (int i = 0; i < n; i++)
        if (!(out[i] = light_step_tensor(s, spec))) return light_step_status(s);
    return LIGHT_OK;
}

static void release_all(light_step *s, light_tensor **tensors, int n)
{
    for (int i = 0; i < n; i++) light_step_release(s, tensors[i]);
}

/* ---- forward --------------------------------------------------------------------- */

/* This rank's row: how many values a channel has, their means, their sums of squared distances from these. */
static light_status own_moments(light_step *s, light_node *node, double *to)
{
    const light_batch_norm_attrs once = {.training = true, .momentum = 1, .eps = 1};
    const light_fill_attrs zero = {0};
    int64_t channels = channels_of(node), count = light_numel(node->in[X]) / channels;
    light_tensor *own[2];
    LIGHT_TRY(make_channels(s, node, own, 2));
    for (int i = 0; i < 2; i++) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {own[i]}, .attrs = &zero));
    LIGHT_TRY(LIGHT_RUN(s, BATCH_NORM, .in = {node->in[X], NULL, NULL, own[0], own[1]},
                        .out = {node->out[0], node->extra[MEAN], node->extra[RSTD]}, .attrs = &once));
    to[0] = (double)count;
    LIGHT_TRY(read_channels(own[0], to + 1));
    LIGHT_TRY(read_channels(own[1], to + 1 + channels));
    /* The running variance is divided by one less. */
    for (int64_t c = 0; c < channels; c++)
        to[1 + channels + c] = count > 1 ? to[1 + channels + c] * (double)(count - 1) : 0;
    release_all(s, own, 2);
    return LIGHT_OK;
}

/* The moments of all rows into the first one, joined in their order (Chan, Golub, LeVeque). */
static void join_moments(const table *t, int64_t channels)
{
    double *all = row(t, 0);
    for (int r = 1; r < t->ranks; r++) {
        const double *one = row(t, r);
        double total = all[0] + one[0];
        for (int64_t c = 1; c <= channels; c++) {
            double apart = one[c] - all[c];
            all[c] += apart * one[0] / total;
            all[c + channels] += one[c + channels] + apart * apart * all[0] * one[0] / total;
        }
        all[0] = total;
    }
}

static light_status mix_running(light_tensor *running, const double *values, double *scratch, double momentum)
{
    if (!running) return LIGHT_OK;
    LIGHT_TRY(read_channels(running, scratch));
    for (int64_t c = 0; c < running->numel; c++)
        scratch[c] = (1 - momentum) * scratch[c] + momentum * values[c];
    return write_channels(running, scratch);
}

/* What follows from the moments: `all` is their row, `scratch` has as many numbers. */
static light_status normalise(light_step *s, light_node *node, double *all, double *scratch)
{
    light_batch_norm_ranks *attrs = node->attrs;
    light_tensor **in = node->in, *given[2];
    int64_t channels = channels_of(node);
    double *means = all + 1, *squares = all + 1 + channels;
    light_batch_norm_attrs as_given = {.training = false, .eps = attrs->kernel.eps};
    attrs->count = all[0];
    if (attrs->count < 2)
        return light_op_fail(
            s, node, LIGHT_ERR_SHAPE,
            "training needs more than one value per channel, and all processes have one together");
    LIGHT_TRY(mix_running(in[RUNNING_MEAN], means, scratch, attrs->kernel.momentum));
    for (int64_t c = 0; c < channels; c++) squares[c] /= attrs->count - 1;
    LIGHT_TRY(mix_running(in[RUNNING_VAR], squares, scratch, attrs->kernel.momentum));
    for (int64_t c = 0; c < channels; c++) squares[c] *= (attrs->count - 1) / attrs->count;
    LIGHT_TRY(make_channels(s, node, given, 2));
    LIGHT_TRY(write_channels(given[0], means));
    LIGHT_TRY(write_channels(given[1], squares));
    LIGHT_TRY(LIGHT_RUN(s, BATCH_NORM, .in = {in[X], in[WEIGHT], in[BIAS], given[0], given[1]},
                        .out = {node->out[0], node->extra[MEAN], node->extra[RSTD]}, .attrs = &as_given));
    release_all(s, given, 2);
    return LIGHT_OK;
}

light_status light_batch_norm_together(light_step *s, light_node *node)
{
    const light_batch_norm_ranks *attrs = node->attrs;
    int64_t channels = channels_of(node);
    double *scratch = light_alloc((size_t)channels * sizeof *scratch);
    table t = {0};
    light_status status = scratch ? table_new(&t, attrs, 1 + 2 * channels) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = own_moments(s, node, row(&t, t.rank));
    if (status == LIGHT_OK) status = go_around(attrs->group, &t);
    if (status == LIGHT_OK) join_moments(&t, channels);
    if (status == LIGHT_OK) status = normalise(s, node, row(&t, 0), scratch);
    light_free(t.numbers);
    light_free(scratch);
    return status;
}

/* ---- backward --------------------------------------------------------------------- */

/* The parts of gx that do not depend on other values of the channel, and this rank's sums for the parameters. */
static light_status own_gradients(light_step *s, light_node *node, light_tensor *gy, light_tensor *gx,
                                  light_tensor *const sums[2])
{
    const light_batch_norm_attrs as_given = {.training = false};
    light_kernel_args args = {.in = {gy, node->in[X], node->in[WEIGHT], node->extra[MEAN], node->extra[RSTD]},
                              .out = {gx, sums[0], sums[1]},
                              .attrs = &as_given};
    return light_run(s, LIGHT_KERNEL_BATCH_NORM_BACKWARD, &args);
}

/* gx lacks -w rstd (mean(gy) + xhat mean(gy xhat)), means over all ranks' batches: in each channel a line through x, for which
 * the forward kernel is asked. `sums` has gy xhat, then gy, of all ranks. */
static light_status add_means(light_step *s, light_node *node, light_tensor *gx, double *sums,
                              double *scratch)
{
    const light_batch_norm_ranks *attrs = node->attrs;
    const light_batch_norm_attrs as_given = {.training = false};
    const light_fill_attrs one = {1};
    int64_t channels = channels_of(node);
    double *slopes = sums, *offsets = sums + channels;
    light_tensor *line[5], *correction; /* slope, offset, deviation 1, two that are not needed */
    LIGHT_TRY(make_channels(s, node, line, 5));
    LIGHT_TRY(read_channels(node->extra[RSTD], scratch));
    for (int64_t c = 0; c < channels; c++) {
        slopes[c] *= -scratch[c] * scratch[c] / attrs->count;
        offsets[c] *= -scratch[c] / attrs->count;
    }
    if (node->in[WEIGHT]) {
        LIGHT_TRY(read_channels(node->in[WEIGHT], scratch));
        for (int64_t c = 0; c < channels; c++) slopes[c] *= scratch[c], offsets[c] *= scratch[c];
    }
    LIGHT_TRY(write_channels(line[0], slopes));
    LIGHT_TRY(write_channels(line[1], offsets));
    LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {line[2]}, .attrs = &one));
    correction = light_step_tensor(s, light_spec_like(node->in[X]));
    if (!correction) return light_step_status(s);
    LIGHT_TRY(LIGHT_RUN(s, BATCH_NORM, .in = {node->in[X], line[0], line[1], node->extra[MEAN], line[2]},
                        .out = {correction, line[3], line[4]}, .attrs = &as_given));
    LIGHT_TRY(light_run_binary(s, LIGHT_BINARY_ADD, gx, correction, gx, 0));
    light_step_release(s, correction);
    release_all(s, line, 5);
    return LIGHT_OK;
}

/* The sums of all ranks into the first row, in their order. */
static light_status sum_around(light_node *node, const table *t, light_tensor *const sums[2])
{
    const light_batch_norm_ranks *attrs = node->attrs;
    int64_t channels = channels_of(node);
    LIGHT_TRY(read_channels(sums[0], row(t, t->rank)));
    LIGHT_TRY(read_channels(sums[1], row(t, t->rank) + channels));
    LIGHT_TRY(go_around(attrs->group, t));
    for (int r = 1; r < t->ranks; r++)
        for (int64_t i = 0; i < t->n; i++) row(t, 0)[i] += row(t, r)[i];
    return LIGHT_OK;
}

light_status light_batch_norm_together_backward(light_step *s, light_node *node, light_tensor *gy)
{
    const light_batch_norm_ranks *attrs = node->attrs;
    int64_t channels = channels_of(node);
    light_tensor *sums[2], *gx = light_step_tensor(s, light_spec_like(node->in[X]));
    double *scratch = light_alloc((size_t)channels * sizeof *scratch);
    table t = {0};
    light_status status = !gx       ? light_step_status(s)
                          : scratch ? table_new(&t, attrs, 2 * channels)
                                    : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = make_channels(s, node, sums, 2);
    if (status == LIGHT_OK) status = own_gradients(s, node, gy, gx, sums);
    if (status == LIGHT_OK) status = sum_around(node, &t, sums);
    if (status == LIGHT_OK) status = add_means(s, node, gx, row(&t, 0), scratch);
    light_free(t.numbers);
    light_free(scratch);
    LIGHT_TRY(status);
    light_tensor *const grads[3] = {gx, sums[0], sums[1]};
    for (int i = 0; i < 3; i++)
        if (light_grad_needed(node, i)) LIGHT_TRY(light_grad_give(s, node, i, grads[i]));
    light_step_release(s, gx);
    release_all(s, sums, 2);
    return LIGHT_OK;
}
