/* SPDX-License-Identifier: Apache-2.0 */
/* Sums over rows, for the gradients of biases. Rows are cut into at most 16 parts by their number alone, each summed in
 * runs of 64, so that the bits do not depend on the threads and rounding errors stay small. */
#include "cpu/once/conv.h"
#include "cpu/once/gemm.h"
#include "cpu/once/scratch.h"
#include "cpu/once/team.h"

enum { PARTS = 16, RUN = 64, LEAST = 16384 };

#define DEFINE_SUM(T)                                                                                        \
    static void sum_##T(int64_t rows, int64_t n, const T *x, T *run, T *out)                                 \
    {                                                                                                        \
        for (int64_t j = 0; j < n; j++) out[j] = 0;                                                          \
        for (int64_t first = 0; first < rows; first += RUN) {                                                \
            const int64_t last = first + RUN < rows ? first + RUN : rows;                                    \
            for (int64_t j = 0; j < n; j++) run[j] = x[first * n + j];                                       \
            for (int64_t i = first + 1; i < last; i++)                                                       \
                for (int64_t j = 0; j < n; j++) run[j] += x[i * n + j];                                      \
            for (int64_t j = 0; j < n; j++) out[j] += run[j];                                                \
        }                                                                                                    \
    }
DEFINE_SUM(float)
DEFINE_SUM(double)

static void sum_16_bit(int64_t rows, int64_t n, light_dtype dtype, const uint16_t *x, float *run, float *wide,
                       float *out)
{
    for (int64_t j = 0; j < n; j++) out[j] = 0;
    for (int64_t first = 0; first < rows; first += RUN) {
        const int64_t last = first + RUN < rows ? first + RUN : rows;
        for (int64_t j = 0; j < n; j++) run[j] = 0;
        for (int64_t i = first; i < last; i++) {
            light_cpu_widen(dtype, n, x + i * n, wide);
            for (int64_t j = 0; j < n; j++) run[j] += wide[j];
        }
        for (int64_t j = 0; j < n; j++) out[j] += run[j];
    }
}

typedef struct {
    int64_t m, n, parts, row; /* row: bytes of a row in the work memory */
    light_dtype dtype;
    const char *x;
    char *work;
} partial_sums;

static void sum_part(void *context, int64_t p, int rank)
{
    const partial_sums *s = context;
    const int64_t n = s->n, first = s->m * p / s->parts, rows = s->m * (p + 1) / s->parts - first;
    char *sum = s->work + p * s->row, *run = sum + s->parts * s->row, *wide = run + s->parts * s->row;
    const char *from = s->x + first * n * (int64_t)light_dtype_size(s->dtype);
    (void)rank;
    if (s->dtype == LIGHT_F64)
        sum_double(rows, n, (const double *)from, (double *)run, (double *)sum);
    else if (s->dtype == LIGHT_F32)
        sum_float(rows, n, (const float *)from, (float *)run, (float *)sum);
    else
        sum_16_bit(rows, n, s->dtype, (const uint16_t *)from, (float *)run, (float *)wide, (float *)sum);
}

light_status light_cpu_column_sums(int64_t m, int64_t n, light_dtype dtype, const void *x, void *out,
                                   light_dtype out_dtype, bool accumulate)
{
    const int64_t size = dtype == LIGHT_F64 ? 8 : 4, row = (n * size + 63) / 64 * 64;
    int64_t parts = m * n / LEAST;
    parts = parts < 1 ? 1 : parts > PARTS ? PARTS : parts;
    if (parts > m) parts = m > 0 ? m : 1;
    char *work = light_cpu_scratch(LIGHT_SCRATCH_SUMS, (size_t)(3 * parts * row));
    if (!work) return LIGHT_ERR_MEMORY;
    partial_sums sums = {m, n, parts, row, dtype, x, work};
    light_team_each(true, parts, sum_part, &sums);
    for (int64_t j = 0; j < n; j++) {
        double total = 0;
        for (int64_t p = 0; p < parts; p++)
            total += size == 8 ? ((double *)(work + p * row))[j] : (double)((float *)(work + p * row))[j];
        if (out_dtype == LIGHT_F64)
            ((double *)out)[j] = accumulate ? ((double *)out)[j] + total : total;
        else if (out_dtype == LIGHT_F32)
            ((float *)out)[j] = (float)(accumulate ? (double)((float *)out)[j] + total : total);
        else
            ((float *)work)[j] = (float)total; /* part 0's own element, just read */
    }
    if (light_dtype_size(out_dtype) == 2)
        light_cpu_narrow(out_dtype, n, (const float *)work, out, accumulate);
    return LIGHT_OK;
}
