/* SPDX-License-Identifier: Apache-2.0 */
/* Template of embedding.c in one arithmetic (real.inc.h). */

/* Columns [from, from + n) of one row of the table: the sum of what its places in `index` send back. */
static void NAME(gather_row)(const uses *u, const light_tensor *gy, light_tensor *gw, int64_t row,
                             int64_t from, int64_t n, bool add)
{
    int64_t width = gw->shape[1], size = light_element_size(gw->dtype);
    REAL sum[BLOCK], room[BLOCK];

    if (u->first[row] < 0 && add) return;
    memset(sum, 0, sizeof sum);
    for (int32_t i = u->first[row]; i >= 0; i = u->next[i]) {
        const REAL *g = NAME(load)(gy->dtype, gy->data + (i * width + from) * size, n, room);
        for (int64_t j = 0; j < n; j++) sum[j] += g[j];
    }
    NAME(store)(gw->dtype, gw->data + (row * width + from) * size, n, sum, add);
}

static void NAME(embedding_backward)(const uses *u, const light_tensor *gy, light_tensor *gw, bool add)
{
    int64_t rows = gw->shape[0], width = gw->shape[1], blocks = (width + BLOCK - 1) / BLOCK;

#pragma omp parallel for schedule(static, 64) if (gy->numel + (add ? 0 : gw->numel) >= LIGHT_PARALLEL_MIN)
    for (int64_t i = 0; i < rows * blocks; i++) {
        int64_t from = i % blocks * BLOCK;
        NAME(gather_row)(u, gy, gw, i / blocks, from, width - from < BLOCK ? width - from : BLOCK, add);
    }
}
