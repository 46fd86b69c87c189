/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a table by index. The gradient is gathered, not scattered: each row of the table walks a list of its uses in
 * their order, so no two threads meet, and the table's gradient is written once. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/once/scratch.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

enum { BLOCK = 256 };

/* The uses of each row: `first` of the row, then `next` of the use before; -1 ends. */
typedef struct uses {
    int32_t *first, *next;
} uses;

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/embedding.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/embedding.inc.h"

static inline int64_t index_at(const light_tensor *index, int64_t i)
{
    return index->dtype == LIGHT_I64 ? ((const int64_t *)index->data)[i] : ((const int32_t *)index->data)[i];
}

static light_status check_indices(const light_tensor *index, int64_t rows)
{
    for (int64_t i = 0; i < index->numel; i++) {
        int64_t row = index_at(index, i);
        if (row < 0 || row >= rows)
            return light_fail(LIGHT_ERR_ARGUMENT, "index %lld is %lld; the table has %lld rows, 0 to %lld",
                              (long long)i, (long long)row, (long long)rows, (long long)rows - 1);
    }
    return LIGHT_OK;
}

static void copy_row(void *context, int64_t i, int rank)
{
    const light_kernel_args *args = context;
    const light_tensor *w = args->in[0];
    size_t bytes = (size_t)w->shape[1] * (size_t)light_element_size(w->dtype);

    (void)rank;
    memcpy(args->out[0]->data + (size_t)i * bytes, w->data + (size_t)index_at(args->in[1], i) * bytes, bytes);
}

static light_status embedding(const light_kernel_args *args)
{
    const light_tensor *index = args->in[1];

    LIGHT_TRY(check_indices(index, args->in[0]->shape[0]));
    light_team_each(args->out[0]->numel >= LIGHT_PARALLEL_MIN, index->numel, copy_row, (void *)args);
    return LIGHT_OK;
}

/* The lists, made from the last use to the first so that they rise. */
static light_status list_uses(uses *u, const light_tensor *index, int64_t rows, int64_t padding)
{
    u->first = light_cpu_scratch(LIGHT_SCRATCH_KERNEL, (size_t)(rows + index->numel) * sizeof *u->first);
    if (!u->first) return LIGHT_ERR_MEMORY;
    u->next = u->first + rows;
    memset(u->first, 0xff, (size_t)rows * sizeof *u->first);
    for (int64_t i = index->numel - 1; i >= 0; i--) {
        int64_t row = index_at(index, i);
        if (row == padding) continue;
        u->next[i] = u->first[row];
        u->first[row] = (int32_t)i;
    }
    return LIGHT_OK;
}

static light_status embedding_backward(const light_kernel_args *args)
{
    const light_embedding_attrs *attrs = args->attrs;
    const light_tensor *gy = args->in[0], *index = args->in[1];
    light_tensor *gw = args->out[0];
    uses u;

    LIGHT_TRY(list_uses(&u, index, gw->shape[0], attrs->padding_idx));
    if (gw->dtype == LIGHT_F64)
        embedding_backward_f64(&u, gy, gw, args->accumulate);
    else
        embedding_backward_f32(&u, gy, gw, args->accumulate);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_embedding_kernels)[] = {
    {LIGHT_KERNEL_EMBEDDING, embedding},
    {LIGHT_KERNEL_EMBEDDING_BACKWARD, embedding_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};
