/* SPDX-License-Identifier: Apache-2.0 */
/* Making and moving contents: fill, arange, copy. */
#include "cpu/convert.h"
#include "tensor/iterate.h"
#include "cpu/map.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"

/* ---- fill --------------------------------------------------------------- */

#define FILL(name, T)                                                                                        \
    static void name(const void *element, const void *const *in, void *out, int64_t n)                       \
    {                                                                                                        \
        T value, *y = out;                                                                                   \
        (void)in;                                                                                            \
        memcpy(&value, element, sizeof value);                                                               \
        for (int64_t i = 0; i < n; i++) y[i] = value;                                                        \
    }
FILL(fill_1, uint8_t)
FILL(fill_2, uint16_t)
FILL(fill_4, uint32_t)
FILL(fill_8, uint64_t)

static light_status fill(const light_kernel_args *args)
{
    light_dtype dtype = (light_dtype)args->out[0]->dtype;
    size_t size = light_dtype_size(dtype);
    uint64_t element = 0;
    light_store_one(&element, dtype, ((const light_fill_attrs *)args->attrs)->value);
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = size == 1   ? fill_1
                        : size == 2 ? fill_2
                        : size == 4 ? fill_4
                                    : fill_8,
                  .context = &element,
                  .out = args->out[0],
                  .out_as = dtype});
    return LIGHT_OK;
}

/* ---- arange ------------------------------------------------------------- */

typedef struct arange_work {
    const light_arange_attrs *attrs;
    light_tensor *out;
} arange_work;

static void arange_part(void *context, int64_t from, int64_t to)
{
    const arange_work *w = context;
    light_dtype dtype = (light_dtype)w->out->dtype;
    double values[256];
    for (int64_t at = from; at < to; at += 256) {
        int64_t n = to - at < 256 ? to - at : 256;
        for (int64_t i = 0; i < n; i++) values[i] = w->attrs->start + (double)(at + i) * w->attrs->step;
        LIGHT_ISA(light_convert)
        (w->out->data + (size_t)at * light_dtype_size(dtype), dtype, values, LIGHT_F64, n);
    }
}

static light_status arange(const light_kernel_args *args)
{
    arange_work w = {args->attrs, args->out[0]};
    light_parallel(args->out[0]->numel, 1, arange_part, &w);
    return LIGHT_OK;
}

/* ---- copy --------------------------------------------------------------- */

typedef struct copy_work {
    light_iter it; /* the output first */
    char *to;
    const char *from;
    size_t size;
    int across; /* transposing: the dim in which the input's elements are neighbours */
} copy_work;

static void copy_part(void *context, int64_t from, int64_t to)
{
    const copy_work *w = context;
    int64_t size = (int64_t)w->size, last = w->it.ndim - 1;
    int64_t to_stride = w->it.strides[0][last], from_stride = w->it.strides[1][last];
    light_cursor c;
    light_cursor_at(&w->it, &c, from);
    while (from < to) {
        int64_t n = light_cursor_run(&w->it, &c);
        if (n > to - from) n = to - from;
        char *y = w->to + c.offset[0] * size;
        const char *x = w->from + c.offset[1] * size;
        if (to_stride == 1)
            LIGHT_ISA(light_gather)(y, x, from_stride, n, w->size);
        else if (from_stride == 1)
            LIGHT_ISA(light_scatter)(y, x, to_stride, n, w->size);
        else
            for (int64_t i = 0; i < n; i++)
                memcpy(y + i * to_stride * size, x + i * from_stride * size, w->size);
        light_cursor_advance(&w->it, &c, n);
        from += n;
    }
}

enum { BLOCK = 16 };

/* A block whose rows are neighbours in the input and whose columns are neighbours in the output. It goes through a small
 * array, because rows of a power of two bytes would push each other out of the cache. */
#define TRANSPOSE(T)                                                                                         \
    {                                                                                                        \
        T block[BLOCK][BLOCK];                                                                               \
        if (rows == BLOCK && columns == BLOCK) {                                                             \
            for (int c = 0; c < BLOCK; c++)                                                                  \
                memcpy(block[c], (const T *)from + c * from_step, sizeof block[c]);                          \
            for (int r = 0; r < BLOCK; r++) {                                                                \
                T line[BLOCK];                                                                               \
                for (int c = 0; c < BLOCK; c++) line[c] = block[c][r];                                       \
                memcpy((T *)to + r * to_step, line, sizeof line);                                            \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int64_t r = 0; r < rows; r++)                                                                   \
            for (int64_t c = 0; c < columns; c++)                                                            \
                ((T *)to)[r * to_step + c] = ((const T *)from)[c * from_step + r];                           \
        return;                                                                                              \
    }
static void transpose_block(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t rows,
                            int64_t columns, size_t size)
{
    switch (size) {
    case 1: TRANSPOSE(uint8_t)
    case 2: TRANSPOSE(uint16_t)
    case 4: TRANSPOSE(uint32_t)
    default: TRANSPOSE(uint64_t)
    }
}

/* Planes of the two dims are cut into blocks that fit the first cache; an item is a strip of BLOCK rows. */
static void transpose_part(void *context, int64_t from, int64_t to)
{
    const copy_work *w = context;
    const light_iter *it = &w->it; /* the two dims stand last: across, then the output's fastest */
    int last = it->ndim - 1, across = w->across;
    int64_t rows = it->shape[across], columns = it->shape[last], size = (int64_t)w->size;
    int64_t strips = (rows + BLOCK - 1) / BLOCK;
    light_iter outer = *it;
    outer.ndim = it->ndim - 2;
    light_iter_close(&outer);
    for (int64_t item = from; item < to; item++) {
        light_cursor c;
        light_cursor_at(&outer, &c, item / strips);
        int64_t row = item % strips * BLOCK, count = rows - row < BLOCK ? rows - row : BLOCK;
        char *y = w->to + (c.offset[0] + row * it->strides[0][across]) * size;
        const char *x = w->from + (c.offset[1] + row) * size;
        for (int64_t column = 0; column < columns; column += BLOCK) {
            int64_t width = columns - column < BLOCK ? columns - column : BLOCK;
            transpose_block(y + column * size, it->strides[0][across],
                            x + column * it->strides[1][last] * size, it->strides[1][last], count, width,
                            w->size);
        }
    }
}

/* Whether input and output have different fastest dims; then puts the input's next to the output's. */
static bool is_transpose(copy_work *w)
{
    light_iter *it = &w->it;
    int last = it->ndim - 1;
    if (it->strides[0][last] != 1 || it->strides[1][last] == 1 || it->shape[last] < 4) return false;
    for (int d = 0; d < last; d++) {
        if (it->strides[1][d] != 1 || it->shape[d] < 4) continue;
        for (int e = d; e + 1 < last; e++) light_iter_swap(it, e, e + 1);
        w->across = last - 1;
        return true;
    }
    return false;
}

static void copy_same_dtype(light_tensor *to, const light_tensor *from)
{
    copy_work w = {.to = to->data, .from = from->data, .size = light_dtype_size((light_dtype)to->dtype)};
    light_iter_init(&w.it, (const light_tensor *[]){to, from}, 2);
    if (is_transpose(&w)) {
        int64_t rows = w.it.shape[w.across], strips = (rows + BLOCK - 1) / BLOCK;
        int64_t planes = w.it.numel / (rows * w.it.shape[w.it.ndim - 1]);
        light_parallel(planes * strips, BLOCK * w.it.shape[w.it.ndim - 1], transpose_part, &w);
    } else {
        light_parallel(w.it.numel, 1, copy_part, &w);
    }
}

typedef struct conversion {
    light_dtype to, from;
} conversion;

static void convert(const void *context, const void *const *in, void *out, int64_t n)
{
    const conversion *c = context;
    LIGHT_ISA(light_convert)(out, c->to, in[0], c->from, n);
}

static light_status copy(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0];
    light_tensor *out = args->out[0];
    bool accumulate = args->accumulate & 1;
    if (out->numel == 0) return LIGHT_OK;
    if (!accumulate && x->dtype == out->dtype) {
        if (x->contiguous && out->contiguous && out->numel < LIGHT_PARALLEL_MIN)
            memcpy(out->data, x->data, (size_t)out->numel * light_dtype_size((light_dtype)x->dtype));
        else
            copy_same_dtype(out, x);
        return LIGHT_OK;
    }
    light_dtype as = (light_dtype)out->dtype;
    conversion c = {accumulate ? light_compute_dtype(as) : as, (light_dtype)x->dtype};
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = convert,
                  .context = &c,
                  .out = out,
                  .in = {x},
                  .n_in = 1,
                  .out_as = c.to,
                  .in_as = {c.from},
                  .accumulate = accumulate});
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_copy_kernels)[] = {
    {LIGHT_KERNEL_FILL, fill},
    {LIGHT_KERNEL_COPY, copy},
    {LIGHT_KERNEL_ARANGE, arange},
    {LIGHT_KERNEL_COUNT, NULL},
};
