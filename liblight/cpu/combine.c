/* SPDX-License-Identifier: Apache-2.0 */
/* Combining what several processes have: rows into one, in the order of a binary tree. By the calling thread alone, since
 * that is a communicator's, beside a step that has the others. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/real.h"

enum { BLOCK = 512 };

typedef struct rows {
    const char *x, *own;
    int64_t own_row, row_bytes;
    int dtype, combine;
} rows;

/* Where elements of a row lie. */
static const void *row_at(const rows *r, int64_t row, int64_t first)
{
    const char *data = row == r->own_row ? r->own : r->x + row * r->row_bytes;
    return data + first * light_element_size(r->dtype);
}

/* Of n > 1 rows those that are combined first: the largest power of two below n. */
static int64_t left_rows(int64_t n)
{
    int64_t left = 1;
    while (2 * left < n) left *= 2;
    return left;
}

/* The type that is computed in, its sum, and how a row becomes one of it. */
#define PLAIN_SUM(a, b) ((a) + (b))
/* Integers wrap around, without the compiler knowing better. */
#define I64_SUM(a, b)  ((int64_t)((uint64_t)(a) + (uint64_t)(b)))
#define I32_SUM(a, b)  ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define U8_SUM(a, b)   ((uint8_t)((a) + (b)))
#define LEAST(a, b)    (b < a || b != b ? b : a)
#define GREATEST(a, b) (b > a || b != b ? b : a)

#define COMBINE(T, name, SUM, LOAD)                                                                          \
    static void join_##name(int combine, T *to, const T *from, int64_t n)                                    \
    {                                                                                                        \
        if (combine == LIGHT_COMBINE_SUM)                                                                    \
            for (int64_t i = 0; i < n; i++) to[i] = SUM(to[i], from[i]);                                     \
        else if (combine == LIGHT_COMBINE_MIN)                                                               \
            for (int64_t i = 0; i < n; i++) to[i] = LEAST(to[i], from[i]);                                   \
        else                                                                                                 \
            for (int64_t i = 0; i < n; i++) to[i] = GREATEST(to[i], from[i]);                                \
    }                                                                                                        \
                                                                                                             \
    static void tree_##name(const rows *r, int64_t from, int64_t to, int64_t first, int64_t n, T *sums)      \
    {                                                                                                        \
        T room[BLOCK];                                                                                       \
        if (to - from == 1) {                                                                                \
            LOAD(r->dtype, row_at(r, from, first), n, sums);                                                 \
            return;                                                                                          \
        }                                                                                                    \
        int64_t middle = from + left_rows(to - from);                                                        \
        tree_##name(r, from, middle, first, n, sums);                                                        \
        tree_##name(r, middle, to, first, n, room);                                                          \
        join_##name(r->combine, sums, room, n);                                                              \
    }

#define LOAD_PLAIN(dtype, data, n, to) memcpy(to, data, (size_t)(n) * sizeof *(to))

COMBINE(double, f64, PLAIN_SUM, LOAD_PLAIN)
COMBINE(float, f32, PLAIN_SUM, LOAD_PLAIN)
COMBINE(float, half, PLAIN_SUM, light_to_f32)
COMBINE(int64_t, i64, I64_SUM, LOAD_PLAIN)
COMBINE(int32_t, i32, I32_SUM, LOAD_PLAIN)
COMBINE(uint8_t, u8, U8_SUM, LOAD_PLAIN)

static void combine_block(const rows *r, int64_t count, int64_t first, int64_t n, char *y)
{
    union {
        double f64[BLOCK];
        float f32[BLOCK];
        int64_t i64[BLOCK];
        int32_t i32[BLOCK];
        uint8_t u8[BLOCK];
    } sums;
    switch (r->dtype) {
    case LIGHT_F64: tree_f64(r, 0, count, first, n, sums.f64); break;
    case LIGHT_F32: tree_f32(r, 0, count, first, n, sums.f32); break;
    case LIGHT_I64: tree_i64(r, 0, count, first, n, sums.i64); break;
    case LIGHT_I32: tree_i32(r, 0, count, first, n, sums.i32); break;
    case LIGHT_BF16:
    case LIGHT_F16:
        tree_half(r, 0, count, first, n, sums.f32);
        LIGHT_ISA(light_from_f32)(r->dtype, y, n, sums.f32, false);
        return;
    default: tree_u8(r, 0, count, first, n, sums.u8); break;
    }
    memcpy(y, &sums, (size_t)(n * light_element_size(r->dtype)));
}

static light_status combine(const light_kernel_args *args)
{
    const light_combine_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[0], *own = args->in[1];
    light_tensor *y = args->out[0];
    int64_t size = light_element_size(x->dtype);
    rows r = {x->data, own ? own->data : NULL, attrs->own, y->numel * size, x->dtype, attrs->combine};
    for (int64_t first = 0; first < y->numel; first += BLOCK) {
        int64_t n = y->numel - first < BLOCK ? y->numel - first : BLOCK;
        combine_block(&r, x->shape[0], first, n, y->data + first * size);
    }
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_combine_kernels)[] = {{LIGHT_KERNEL_COMBINE, combine},
                                                             {LIGHT_KERNEL_COUNT, NULL}};
