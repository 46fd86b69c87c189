/* SPDX-License-Identifier: Apache-2.0 */
/* What goes along the lines of one dim: argmax, topk, cumulative sums. */
#include "cpu/convert.h"
#include "tensor/iterate.h"
#include "cpu/map.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

#define PIECE LIGHT_MAP_TILE

typedef struct scan_work {
    light_iter lines;  /* all dims but the one: x, then the outputs */
    int64_t n;         /* elements of a line of x */
    int64_t stride[3]; /* along the dim: x, outputs */
    const light_tensor *x;
    light_tensor *out[2];
    bool flag; /* arg_reduce: min; cumsum: reverse */
    bool accumulate;
    int64_t k;           /* topk */
    struct entry *table; /* topk with large k: room for one heap */
} scan_work;

static void set_lines(scan_work *w, const light_tensor *x, light_tensor *const *out, int outs, int dim)
{
    const light_tensor *tensors[3] = {x};
    w->x = x;
    w->n = x->ndim ? x->shape[dim] : 1;
    w->stride[0] = x->ndim ? x->strides[dim] : 1;
    for (int i = 0; i < outs; i++) {
        tensors[i + 1] = w->out[i] = out[i];
        w->stride[i + 1] = x->ndim ? out[i]->strides[dim] : 1;
    }
    w->lines.operands = outs + 1;
    for (int d = 0; d < x->ndim; d++)
        if (d != dim) light_iter_add(&w->lines, tensors, d);
    light_iter_close(&w->lines);
    light_iter_coalesce(&w->lines);
}

static char *element(const light_tensor *t, int64_t offset)
{
    return t->data + offset * (int64_t)light_dtype_size((light_dtype)t->dtype);
}

/* n elements of a line from `first` on, converted. */
static void read_piece(const scan_work *w, int64_t offset, int64_t first, int64_t n, light_dtype as, void *to)
{
    uint64_t raw[PIECE];
    light_dtype dtype = (light_dtype)w->x->dtype;
    LIGHT_ISA(light_gather)
    (raw, element(w->x, offset + first * w->stride[0]), w->stride[0], n, light_dtype_size(dtype));
    LIGHT_ISA(light_convert)(to, as, raw, dtype, n);
}

/* Whole numbers that stand in the order of the elements; NaN is the largest. */
static void read_keys(const scan_work *w, int64_t offset, int64_t first, int64_t n, int64_t *keys)
{
    if (!light_dtype_is_floating((light_dtype)w->x->dtype)) {
        read_piece(w, offset, first, n, LIGHT_I64, keys);
        return;
    }
    double values[PIECE];
    read_piece(w, offset, first, n, LIGHT_F64, values);
    for (int64_t i = 0; i < n; i++) {
        int64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits = bits == INT64_MIN ? 0 : bits; /* -0 is 0 */
        bits = bits < 0 ? bits ^ INT64_MAX : bits;
        keys[i] = values[i] == values[i] ? bits : INT64_MAX;
    }
}

static int64_t largest_key(const int64_t *keys, int64_t n)
{
    int64_t most = INT64_MIN;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = keys[i] > most ? keys[i] : most;
    return most;
}

/* ---- argmax, argmin ----------------------------------------------------- */

static int64_t find_extremum(const scan_work *w, int64_t offset)
{
    int64_t keys[PIECE], best = 0, at = -1;
    bool floating = light_dtype_is_floating((light_dtype)w->x->dtype);
    for (int64_t first = 0; first < w->n; first += PIECE) {
        int64_t n = w->n - first < PIECE ? w->n - first : PIECE;
        read_keys(w, offset, first, n, keys);
        if (w->flag) /* NaN wins here, too */
            for (int64_t i = 0; i < n; i++) keys[i] = floating && keys[i] == INT64_MAX ? INT64_MAX : ~keys[i];
        int64_t most = largest_key(keys, n);
        if (at >= 0 && most <= best) continue;
        best = most;
        for (at = first; keys[at - first] != most;) at++;
    }
    return at;
}

static void arg_reduce_lines(void *context, int64_t from, int64_t to)
{
    const scan_work *w = context;
    light_cursor at;
    light_cursor_at(&w->lines, &at, from);
    for (; from < to; from++) {
        *(int64_t *)(void *)element(w->out[0], at.offset[1]) = find_extremum(w, at.offset[0]);
        light_cursor_advance(&w->lines, &at, 1);
    }
}

static light_status arg_reduce(const light_kernel_args *args)
{
    const light_arg_reduce_attrs *attrs = args->attrs;
    scan_work w = {.flag = attrs->min};
    if (args->out[0]->numel == 0) return LIGHT_OK;
    set_lines(&w, args->in[0], args->out, 1, attrs->dim);
    light_parallel(w.lines.numel, w.n, arg_reduce_lines, &w);
    return LIGHT_OK;
}

/* ---- topk --------------------------------------------------------------- */

typedef struct entry {
    int64_t key, index;
} entry;

/* Whether a stands before b in the result. */
static bool ahead(entry a, entry b)
{
    return a.key != b.key ? a.key > b.key : a.index < b.index;
}

/* A heap whose root is the entry that stands last. */
static void sink(entry *heap, int64_t n, int64_t i)
{
    entry moving = heap[i];
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && ahead(heap[child], heap[child + 1])) child++;
        if (!ahead(moving, heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static void topk_line(const scan_work *w, const light_cursor *at, entry *heap)
{
    int64_t keys[PIECE], size = 0, bytes = (int64_t)light_dtype_size((light_dtype)w->x->dtype);
    for (int64_t first = 0; first < w->n; first += PIECE) {
        int64_t n = w->n - first < PIECE ? w->n - first : PIECE;
        read_keys(w, at->offset[0], first, n, keys);
        if (size == w->k && largest_key(keys, n) <= heap[0].key) continue;
        for (int64_t i = 0; i < n; i++) {
            entry e = {keys[i], first + i};
            if (size < w->k) {
                heap[size++] = e;
                if (size == w->k)
                    for (int64_t j = size / 2 - 1; j >= 0; j--) sink(heap, size, j);
            } else if (ahead(e, heap[0])) {
                heap[0] = e;
                sink(heap, size, 0);
            }
        }
    }
    for (int64_t i = size - 1; i >= 0; i--) {
        entry last = heap[0];
        memcpy(element(w->out[0], at->offset[1] + i * w->stride[1]),
               element(w->x, at->offset[0] + last.index * w->stride[0]), (size_t)bytes);
        *(int64_t *)(void *)element(w->out[1], at->offset[2] + i * w->stride[2]) = last.index;
        heap[0] = heap[i];
        sink(heap, i, 0);
    }
}

enum { SMALL_K = 64 };

static void topk_lines(void *context, int64_t from, int64_t to)
{
    const scan_work *w = context;
    entry small[SMALL_K];
    light_cursor at;
    light_cursor_at(&w->lines, &at, from);
    for (; from < to; from++) {
        topk_line(w, &at, w->table ? w->table : small);
        light_cursor_advance(&w->lines, &at, 1);
    }
}

static light_status topk(const light_kernel_args *args)
{
    const light_topk_attrs *attrs = args->attrs;
    scan_work w = {.k = attrs->k};
    if (args->out[0]->numel == 0) return LIGHT_OK;
    set_lines(&w, args->in[0], args->out, 2, attrs->dim);
    if (w.k <= SMALL_K) {
        light_parallel(w.lines.numel, 2 * w.n, topk_lines, &w);
        return LIGHT_OK;
    }
    if (!(w.table = light_alloc((size_t)w.k * sizeof *w.table))) return LIGHT_ERR_MEMORY;
    topk_lines(&w, 0, w.lines.numel);
    light_free(w.table);
    return LIGHT_OK;
}

/* ---- cumsum ------------------------------------------------------------- */

/* The opposite for the first output, where `values` are f64 or i64. */
static void write_piece(const scan_work *w, int64_t offset, int64_t n, light_dtype as, void *values)
{
    uint64_t raw[PIECE];
    light_dtype dtype = (light_dtype)w->out[0]->dtype;
    size_t size = light_dtype_size(dtype);
    char *y = element(w->out[0], offset);
    if (w->accumulate) { /* gradients are floating */
        double old[PIECE], *sums = values;
        LIGHT_ISA(light_gather)(raw, y, w->stride[1], n, size);
        LIGHT_ISA(light_convert)(old, LIGHT_F64, raw, dtype, n);
        for (int64_t i = 0; i < n; i++) sums[i] += old[i];
    }
    LIGHT_ISA(light_convert)(raw, dtype, values, as, n);
    LIGHT_ISA(light_scatter)(y, raw, w->stride[1], n, size);
}

#define CUMSUM(name, T, AS)                                                                                  \
    static void name(const scan_work *w, const light_cursor *at)                                             \
    {                                                                                                        \
        T values[PIECE], sum = 0;                                                                            \
        for (int64_t done = 0; done < w->n;) {                                                               \
            int64_t n = w->n - done < PIECE ? w->n - done : PIECE;                                           \
            int64_t first = w->flag ? w->n - done - n : done;                                                \
            read_piece(w, at->offset[0], first, n, AS, values);                                              \
            for (int64_t i = 0; i < n; i++) {                                                                \
                int64_t k = w->flag ? n - 1 - i : i;                                                         \
                values[k] = sum += values[k];                                                                \
            }                                                                                                \
            write_piece(w, at->offset[1] + first * w->stride[1], n, AS, values);                             \
            done += n;                                                                                       \
        }                                                                                                    \
    }
CUMSUM(cumsum_f64, double, LIGHT_F64)
CUMSUM(cumsum_i64, int64_t, LIGHT_I64)

static void cumsum_lines(void *context, int64_t from, int64_t to)
{
    const scan_work *w = context;
    light_cursor at;
    light_cursor_at(&w->lines, &at, from);
    for (; from < to; from++) {
        if (light_dtype_is_floating((light_dtype)w->x->dtype))
            cumsum_f64(w, &at);
        else
            cumsum_i64(w, &at);
        light_cursor_advance(&w->lines, &at, 1);
    }
}

static light_status cumsum(const light_kernel_args *args)
{
    const light_cumsum_attrs *attrs = args->attrs;
    scan_work w = {.flag = attrs->reverse, .accumulate = args->accumulate & 1};
    if (args->out[0]->numel == 0) return LIGHT_OK;
    set_lines(&w, args->in[0], args->out, 1, attrs->dim);
    light_parallel(w.lines.numel, 2 * w.n, cumsum_lines, &w);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_scan_kernels)[] = {
    {LIGHT_KERNEL_ARG_REDUCE, arg_reduce},
    {LIGHT_KERNEL_TOPK, topk},
    {LIGHT_KERNEL_CUMSUM, cumsum},
    {LIGHT_KERNEL_COUNT, NULL},
};
