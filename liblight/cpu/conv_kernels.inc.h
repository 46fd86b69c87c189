/* SPDX-License-Identifier: Apache-2.0 */
/* Template of conv_kernels.c, included once for f32 and once for f64 (see cpu/real.inc.h). */

#if LIGHT_REAL == 64 || !defined(__AVX512F__)
static void NAME(copy)(const light_conv_pixels *p, const REAL *restrict from, REAL *restrict to)
{
    for (int64_t i = 0; i < p->pixels; i++, from += p->from_step, to += p->to_step)
        for (int64_t c = 0; c < p->channels; c++) to[c] = from[c];
}

static void NAME(give)(const light_conv_pixels *p, const REAL *restrict from, const REAL *restrict bias,
                       bool add, REAL *restrict to)
{
    for (int64_t i = 0; i < p->pixels; i++, from += p->from_step, to += p->to_step) {
        if (add && bias)
            for (int64_t c = 0; c < p->channels; c++) to[c] += from[c] + bias[c];
        else if (add)
            for (int64_t c = 0; c < p->channels; c++) to[c] += from[c];
        else if (bias)
            for (int64_t c = 0; c < p->channels; c++) to[c] = from[c] + bias[c];
        else
            for (int64_t c = 0; c < p->channels; c++) to[c] = from[c];
    }
}
#endif

static void NAME(sum_pieces)(int64_t taps, int64_t channels, int64_t pieces, int64_t step,
                             const REAL *restrict in, REAL *restrict room, light_dtype out_dtype, bool add,
                             void *out)
{
    const int64_t n = taps * channels;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < channels; c++) {
            REAL sum = in[t * channels + c];
            for (int64_t q = 1; q < pieces; q++) sum += in[q * step + t * channels + c];
            room[c * taps + t] = sum;
        }
    NAME(store)(out_dtype, out, n, room, add);
}

/* The taps that output i has within the row. */
static void NAME(reach)(const light_conv_depth_row *r, int64_t i, int64_t *from, int64_t *to)
{
    const int64_t at = i * r->stride + r->offset;
    *from = 0, *to = r->taps;
    while (*from < *to && at + *from * r->spread < 0) ++*from;
    while (*from < *to && at + (*to - 1) * r->spread >= r->inputs) --*to;
}

static void NAME(depth_row)(const light_conv_depth_row *r, const REAL *restrict x, const REAL *restrict w,
                            REAL *restrict y)
{
    for (int64_t i = 0; i < r->outputs; i++) {
        const REAL *in = x + (i * r->stride + r->offset) * r->input_step;
        REAL *out = y + i * r->output_step;
        const int64_t step = r->spread * r->input_step;
        int64_t from, to;
        NAME(reach)(r, i, &from, &to);
        for (int64_t t = from; t < to; t++) {
            const REAL *a = in + t * step, *b = w + t * r->tap_step;
            for (int64_t c = 0; c < r->channels; c++) out[c] += a[c] * b[c];
        }
    }
}

static void NAME(depth_weights)(const light_conv_depth_row *r, const REAL *restrict x,
                                const REAL *restrict gy, REAL *restrict w)
{
    for (int64_t i = 0; i < r->outputs; i++) {
        const REAL *in = x + (i * r->stride + r->offset) * r->input_step, *g = gy + i * r->output_step;
        int64_t from, to;
        NAME(reach)(r, i, &from, &to);
        for (int64_t t = from; t < to; t++) {
            const REAL *a = in + t * r->spread * r->input_step;
            REAL *sum = w + t * r->tap_step;
            for (int64_t c = 0; c < r->channels; c++) sum[c] += a[c] * g[c];
        }
    }
}
