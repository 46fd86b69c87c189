/* SPDX-License-Identifier: Apache-2.0 */
/* The table of matrix product kernels that gemm_kernels.c provides once per instruction set. */
#ifndef LIGHT_CPU_GEMM_KERNELS_H
#define LIGHT_CPU_GEMM_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum { LIGHT_GEMM_MAX_MR = 14, LIGHT_GEMM_MAX_NR = 32 };

/* Where a part of the sum begins in A and B, in elements. */
typedef struct {
    int64_t a, b;
} light_gemm_part;

/* What a tile sums over, and what happens to it then, in this order: times alpha, plus C, plus bias. */
typedef struct {
    const light_gemm_part *parts; /* each k deep; without any the sum begins at A and B */
    int64_t part_count;
    void *c;
    int64_t ldc;
    int64_t cols;     /* valid columns of the tile */
    const void *bias; /* at the tile's first column, or NULL */
    double alpha;
    int accumulate; /* read C first */
} light_gemm_tile;

/* C tile (rows x cols) = A (rows x k) times B (k x NR), summed over the parts in one chain. The function knows its
 * number of rows; an element of A is at a[i * rs + p * cs], a row of B at b + p * ldb (in elements, always NR
 * readable). */
typedef void light_gemm_tile_fn(int64_t k, const void *a, int64_t rs, int64_t cs, const void *b, int64_t ldb,
                                const light_gemm_tile *tile);

/* dst[p * panel + j] = src(j, p) for j < width, zero up to panel; see LIGHT_GEMM_SRC_* for the kinds of source. */
typedef void light_gemm_pack_fn(void *dst, int64_t panel, int64_t width, const void *src, int64_t ld,
                                int64_t k);

/* One arithmetic: f32, f64, or pairs of bf16 summed in f32 (there an "element" is a pair along k). */
typedef struct {
    int mr, vl; /* rows of the largest tile; columns of one vector: a tile has vl or 2 * vl */
    light_gemm_tile_fn *row_unit[2][LIGHT_GEMM_MAX_MR]; /* [vectors - 1][rows - 1]; rs is taken as 1 */
    light_gemm_tile_fn *row_any[2][LIGHT_GEMM_MAX_MR];  /* cs is taken as 1; NULL for bf16 pairs */
} light_gemm_family;

/* Kinds of packing source. */
typedef enum {
    LIGHT_GEMM_SRC_F32,
    LIGHT_GEMM_SRC_BF16,
    LIGHT_GEMM_SRC_F16,
    LIGHT_GEMM_SRC_F64,
    LIGHT_GEMM_SRC_BF16_PAIR
} light_gemm_src;

/* Dot products of a few x with many rows of w, all contiguous: y[i ldy + v step_y] (+)= alpha dot(w i, x v) + bias. */
enum { LIGHT_GEMM_MAX_X = 4 };
typedef struct {
    int64_t rows, count, k; /* of w, of x, of their elements */
    const float *x, *w, *bias;
    float *y;
    int64_t ldx, ldw, ldy, step_y, bias_ld, bias_step;
    double alpha;
    bool accumulate;
} light_gemm_dots;

typedef struct light_gemm_kernels {
    light_gemm_family f32, f64, bf16; /* bf16.mr == 0: not on this instruction set */
    light_gemm_pack_fn *pack_cols[5]; /* source element (j, p) at src[p * ld + j] */
    light_gemm_pack_fn *pack_rows[5]; /* source element (j, p) at src[j * ld + p] */
    void (*dots_f32)(const light_gemm_dots *dots, int64_t from, int64_t to); /* for w rows from .. to - 1 */
    /* out[i] = in[i] to bf16 or f16 (round to nearest even), optionally adding what is there */
    void (*store_16)(int64_t n, const float *in, uint16_t *out, int f16, int accumulate);
} light_gemm_kernels;

#endif
