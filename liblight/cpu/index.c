/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that find elements by index. Work is shared so that no two threads write to one place, and what goes to one
 * place is added in order: the result never depends on the number of threads. */
#include "cpu/convert.h"
#include "tensor/iterate.h"
#include "cpu/map.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"

static char *element(const light_tensor *t, int64_t offset)
{
    return t->data + offset * (int64_t)light_dtype_size((light_dtype)t->dtype);
}

static int64_t read_index(const light_tensor *index, int64_t offset)
{
    const char *p = element(index, offset);
    switch ((light_dtype)index->dtype) {
    case LIGHT_I64: return *(const int64_t *)(const void *)p;
    case LIGHT_I32: return *(const int32_t *)(const void *)p;
    default: return *(const uint8_t *)p;
    }
}

/* Element number `linear`, row-major. */
static int64_t offset_of(const light_tensor *t, int64_t linear)
{
    int64_t offset = 0;
    for (int d = t->ndim - 1; d >= 0; d--) {
        offset += linear % t->shape[d] * t->strides[d];
        linear /= t->shape[d];
    }
    return offset;
}

/* All indices are in [0, limit), or an error that names the first that is not. */
static light_status check_range(const light_tensor *index, int64_t limit)
{
    for (int64_t i = 0; i < index->numel; i++) {
        int64_t value = read_index(index, index->contiguous ? i : offset_of(index, i));
        if (value >= 0 && value < limit) continue;
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "index %lld at position %lld is out of range: there are %lld elements",
                          (long long)value, (long long)i, (long long)limit);
    }
    return LIGHT_OK;
}

/* ---- gather, scatter ---------------------------------------------------- */

typedef struct line_work {
    light_iter lines; /* all dims but one of the index: index, its partner of equal shape, the other tensor */
    const light_tensor *index, *partner, *other;
    int64_t n, stride[3];
    size_t size;
} line_work;

static void set_lines(line_work *w, const light_tensor *index, const light_tensor *partner,
                      const light_tensor *other, int dim)
{
    const light_tensor *tensors[] = {index, partner, other};
    w->index = index;
    w->partner = partner;
    w->other = other;
    w->size = light_dtype_size((light_dtype)partner->dtype);
    w->n = index->ndim ? index->shape[dim] : 1;
    for (int k = 0; k < 3; k++) w->stride[k] = index->ndim ? tensors[k]->strides[dim] : 1;
    w->lines.operands = 3;
    for (int d = 0; d < index->ndim; d++)
        if (d != dim) light_iter_add(&w->lines, tensors, d);
    light_iter_close(&w->lines);
    light_iter_coalesce(&w->lines);
}

static void gather_lines(void *context, int64_t from, int64_t to)
{
    const line_work *w = context;
    light_cursor at;
    light_cursor_at(&w->lines, &at, from);
    for (; from < to; from++) {
        for (int64_t i = 0; i < w->n; i++) {
            int64_t k = read_index(w->index, at.offset[0] + i * w->stride[0]);
            memcpy(element(w->partner, at.offset[1] + i * w->stride[1]),
                   element(w->other, at.offset[2] + k * w->stride[2]), w->size);
        }
        light_cursor_advance(&w->lines, &at, 1);
    }
}

static int64_t limit_of(const light_tensor *t, int dim)
{
    return t->ndim ? t->shape[dim] : 1;
}

static light_status gather(const light_kernel_args *args)
{
    const light_gather_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[0], *index = args->in[1];
    line_work w = {0};
    if (index->numel == 0) return LIGHT_OK;
    LIGHT_TRY(check_range(index, limit_of(x, attrs->dim)));
    set_lines(&w, index, args->out[0], x, attrs->dim);
    light_parallel(w.lines.numel, 4 * w.n, gather_lines, &w);
    return LIGHT_OK;
}

#define ADD(T)                                                                                               \
    *(T *)(void *)to += *(const T *)(const void *)from;                                                      \
    break
static void add_one(char *to, const char *from, light_dtype dtype)
{
    switch (dtype) {
    case LIGHT_F64: ADD(double);
    case LIGHT_F32: ADD(float);
    case LIGHT_I64: ADD(uint64_t);
    case LIGHT_I32: ADD(uint32_t);
    default: light_store_one(to, dtype, light_load_one(to, dtype) + light_load_one(from, dtype));
    }
}
#undef ADD

static void scatter_lines(void *context, int64_t from, int64_t to)
{
    const line_work *w = context;
    light_dtype dtype = (light_dtype)w->partner->dtype;
    light_cursor at;
    light_cursor_at(&w->lines, &at, from);
    for (; from < to; from++) {
        for (int64_t i = 0; i < w->n; i++) {
            int64_t k = read_index(w->index, at.offset[0] + i * w->stride[0]);
            add_one(element(w->other, at.offset[2] + k * w->stride[2]),
                    element(w->partner, at.offset[1] + i * w->stride[1]), dtype);
        }
        light_cursor_advance(&w->lines, &at, 1);
    }
}

static light_status scatter_add(const light_kernel_args *args)
{
    const light_gather_attrs *attrs = args->attrs;
    const light_tensor *src = args->in[0], *index = args->in[1];
    line_work w = {0};
    if (index->numel == 0) return LIGHT_OK;
    LIGHT_TRY(check_range(index, limit_of(args->out[0], attrs->dim)));
    set_lines(&w, index, src, args->out[0], attrs->dim);
    light_parallel(w.lines.numel, 4 * w.n, scatter_lines, &w);
    return LIGHT_OK;
}

/* ---- index_select, index_add -------------------------------------------- */

typedef struct slab_work {
    light_iter rest; /* all dims but one: the tensor that is indexed, its partner */
    const light_tensor *index, *whole, *partner;
    int64_t stride[2]; /* along the dim */
    size_t size;
} slab_work;

static void set_slabs(slab_work *w, const light_tensor *index, const light_tensor *whole,
                      const light_tensor *partner, int dim)
{
    const light_tensor *tensors[] = {whole, partner};
    w->index = index;
    w->whole = whole;
    w->partner = partner;
    w->size = light_dtype_size((light_dtype)whole->dtype);
    w->rest.operands = 2;
    for (int k = 0; k < 2; k++) w->stride[k] = whole->ndim ? tensors[k]->strides[dim] : 1;
    for (int d = 0; d < whole->ndim; d++)
        if (d != dim) light_iter_add(&w->rest, tensors, d);
    light_iter_close(&w->rest);
    light_iter_sort(&w->rest);
    light_iter_coalesce(&w->rest);
}

/* Rows [from, to) of the result. */
static void select_rows(void *context, int64_t from, int64_t to)
{
    const slab_work *w = context;
    int last = w->rest.ndim - 1;
    for (; from < to; from++) {
        int64_t k = read_index(w->index, from * (w->index->ndim ? w->index->strides[0] : 1));
        light_cursor at;
        light_cursor_at(&w->rest, &at, 0);
        for (int64_t done = 0; done < w->rest.numel;) {
            int64_t n = light_cursor_run(&w->rest, &at);
            const char *x = element(w->whole, at.offset[0] + k * w->stride[0]);
            char *y = element(w->partner, at.offset[1] + from * w->stride[1]);
            int64_t in_step = w->rest.strides[0][last], out_step = w->rest.strides[1][last];
            if (out_step == 1)
                LIGHT_ISA(light_gather)(y, x, in_step, n, w->size);
            else
                for (int64_t i = 0; i < n; i++)
                    memcpy(y + i * out_step * (int64_t)w->size, x + i * in_step * (int64_t)w->size, w->size);
            light_cursor_advance(&w->rest, &at, n);
            done += n;
        }
    }
}

static light_status index_select(const light_kernel_args *args)
{
    const light_gather_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[0], *index = args->in[1];
    slab_work w = {0};
    LIGHT_TRY(check_range(index, limit_of(x, attrs->dim)));
    if (args->out[0]->numel == 0) return LIGHT_OK;
    set_slabs(&w, index, x, args->out[0], attrs->dim);
    light_parallel(index->numel, w.rest.numel, select_rows, &w);
    return LIGHT_OK;
}

#define ADD(T)                                                                                               \
    {                                                                                                        \
        T *y = (T *)(void *)to;                                                                              \
        const T *x = (const T *)(const void *)from;                                                          \
        for (int64_t i = 0; i < n; i++) y[i * to_step] += x[i * from_step];                                  \
        return;                                                                                              \
    }
static void add_run(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                    light_dtype dtype)
{
    int64_t size = (int64_t)light_dtype_size(dtype);
    if (dtype == LIGHT_F32 && to_step == 1 && from_step == 1) {
        float *y = (float *)(void *)to;
        const float *x = (const float *)(const void *)from;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] += x[i];
        return;
    }
    if (dtype == LIGHT_F32) ADD(float)
    if (dtype == LIGHT_F64) ADD(double)
    for (int64_t i = 0; i < n; i++) add_one(to + i * to_step * size, from + i * from_step * size, dtype);
}
#undef ADD

/* Elements [from, to) of every slab, one slab after the other. */
static void add_slabs(void *context, int64_t from, int64_t to)
{
    const slab_work *w = context;
    int last = w->rest.ndim - 1;
    for (int64_t row = 0; row < w->index->numel; row++) {
        int64_t k = read_index(w->index, row * (w->index->ndim ? w->index->strides[0] : 1));
        light_cursor at;
        light_cursor_at(&w->rest, &at, from);
        for (int64_t done = from; done < to;) {
            int64_t n = light_cursor_run(&w->rest, &at);
            if (n > to - done) n = to - done;
            add_run(element(w->whole, at.offset[0] + k * w->stride[0]), w->rest.strides[0][last],
                    element(w->partner, at.offset[1] + row * w->stride[1]), w->rest.strides[1][last], n,
                    (light_dtype)w->whole->dtype);
            light_cursor_advance(&w->rest, &at, n);
            done += n;
        }
    }
}

static light_status index_add(const light_kernel_args *args)
{
    const light_gather_attrs *attrs = args->attrs;
    const light_tensor *src = args->in[0], *index = args->in[1];
    slab_work w = {0};
    LIGHT_TRY(check_range(index, limit_of(args->out[0], attrs->dim)));
    if (src->numel == 0) return LIGHT_OK;
    set_slabs(&w, index, args->out[0], src, attrs->dim);
    light_parallel(w.rest.numel, index->numel, add_slabs, &w);
    return LIGHT_OK;
}

/* ---- one_hot ------------------------------------------------------------ */

static light_status one_hot(const light_kernel_args *args)
{
    int64_t classes = ((const light_one_hot_attrs *)args->attrs)->classes;
    const light_tensor *index = args->in[0];
    int64_t *y = (int64_t *)(void *)args->out[0]->data;
    LIGHT_TRY(check_range(index, classes));
    memset(y, 0, (size_t)args->out[0]->numel * sizeof *y);
    for (int64_t i = 0; i < index->numel; i++)
        y[i * classes + read_index(index, index->contiguous ? i : offset_of(index, i))] = 1;
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_index_kernels)[] = {
    {LIGHT_KERNEL_GATHER, gather},
    {LIGHT_KERNEL_SCATTER_ADD, scatter_add},
    {LIGHT_KERNEL_INDEX_SELECT, index_select},
    {LIGHT_KERNEL_INDEX_ADD, index_add},
    {LIGHT_KERNEL_ONE_HOT, one_hot},
    {LIGHT_KERNEL_COUNT, NULL},
};
