/* SPDX-License-Identifier: Apache-2.0 */
/* Template of embedding.c in one arithmetic (real.inc.h). */

/* Columns [from, from + n) of one row of the table: the sum of what its places in `index` send back. */
static void NAME(gather_row)(const uses *u, const light_tensor *gy, light_tensor *gw, int64_t row,
                             int64_t from, int64_t n, bool add)
{
    int64_t width = gw->shape[1], size = light_element_size(gy->dtype);
    REAL sum[BLOCK], room[BLOCK];

    if (u->first[row] < 0 && add) return;
    memset(sum, 0, sizeof sum);
    for (int32_t i = u->first[row]; i >= 0; i = u->next[i]) {
        const REAL *g = NAME(load)(gy->dtype, gy->data + (i * width + from) * size, n, room);
        for (int64_t j = 0; j < n; j++) sum[j] += g[j];
    }
    NAME(store)(gw->dtype, gw->data + (row * width + from) * light_element_size(gw->dtype), n, sum, add);
}

typedef struct NAME(gradient_rows) {
    const uses *u;
    const light_tensor *gy;
    light_tensor *gw;
    int64_t blocks; /* of columns */
    bool add;
} NAME(gradient_rows);

static void NAME(each_block)(void *context, int64_t i, int rank)
{
    const NAME(gradient_rows) *r = context;
    int64_t from = i % r->blocks * BLOCK, left = r->gw->shape[1] - from;

    (void)rank;
    NAME(gather_row)(r->u, r->gy, r->gw, i / r->blocks, from, left < BLOCK ? left : BLOCK, r->add);
}

static void NAME(embedding_backward)(const uses *u, const light_tensor *gy, light_tensor *gw, bool add)
{
    NAME(gradient_rows) r = {u, gy, gw, (gw->shape[1] + BLOCK - 1) / BLOCK, add};

    light_team_each(gy->numel + (add ? 0 : gw->numel) >= LIGHT_PARALLEL_MIN, gw->shape[0] * r.blocks,
                    NAME(each_block), &r);
}
