/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise kernels: unary, binary, where. */
#include "cpu/convert.h"
#include "cpu/map.h"
#include "cpu/once/backend.h"
#include "cpu/vec.h"

#define REAL       float
#define NAME(x)    x##_f32
#define CALL(name) name##f
#define VEC(f)     light_vec_##f##_f32
#include "cpu/elementwise_real.inc.h"
#undef REAL
#undef NAME
#undef CALL
#undef VEC

#define REAL       double
#define NAME(x)    x##_f64
#define CALL(name) name
#define VEC(f)     light_vec_##f##_f64
#include "cpu/elementwise_real.inc.h"
#undef REAL
#undef NAME
#undef CALL
#undef VEC

#define INTEGER  int32_t
#define UNSIGNED uint32_t
#define LARGEST  INT32_MAX
#define NAME(x)  x##_i32
#include "cpu/elementwise_integer.inc.h"
#undef INTEGER
#undef UNSIGNED
#undef LARGEST
#undef NAME

#define INTEGER  int64_t
#define UNSIGNED uint64_t
#define LARGEST  INT64_MAX
#define NAME(x)  x##_i64
#include "cpu/elementwise_integer.inc.h"
#undef INTEGER
#undef UNSIGNED
#undef LARGEST
#undef NAME

/* Comparisons and logic of two arrays of one type, to bool. */
#define EACH(expression)                                                                                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) Y[i] = (expression);                                 \
    break
#define COMPARE(T, name)                                                                                     \
    static void name(const void *context, const void *const *in, void *out, int64_t n)                       \
    {                                                                                                        \
        const T *A = in[0], *B = in[1];                                                                      \
        uint8_t *Y = out;                                                                                    \
        switch ((light_binary)((const light_binary_attrs *)context)->code) {                                 \
        case LIGHT_BINARY_EQ: EACH(A[i] == B[i]);                                                            \
        case LIGHT_BINARY_NE: EACH(A[i] != B[i]);                                                            \
        case LIGHT_BINARY_LT: EACH(A[i] < B[i]);                                                             \
        case LIGHT_BINARY_LE: EACH(A[i] <= B[i]);                                                            \
        case LIGHT_BINARY_GT: EACH(A[i] > B[i]);                                                             \
        case LIGHT_BINARY_GE: EACH(A[i] >= B[i]);                                                            \
        case LIGHT_BINARY_AND: EACH((A[i] != 0) & (B[i] != 0));                                              \
        default: EACH((A[i] != 0) | (B[i] != 0));                                                            \
        }                                                                                                    \
    }
COMPARE(float, compare_f32)
COMPARE(double, compare_f64)
COMPARE(int32_t, compare_i32)
COMPARE(int64_t, compare_i64)

typedef struct functions {
    light_map_fn unary, unary_backward, unary_predicate, binary, compare;
} functions;

static const functions *functions_of(light_dtype compute)
{
    static const functions f32 = {unary_f32, unary_backward_f32, unary_predicate_f32, binary_f32,
                                  compare_f32};
    static const functions f64 = {unary_f64, unary_backward_f64, unary_predicate_f64, binary_f64,
                                  compare_f64};
    static const functions i32 = {unary_i32, NULL, unary_predicate_i32, binary_i32, compare_i32};
    static const functions i64 = {unary_i64, NULL, unary_predicate_i64, binary_i64, compare_i64};
    switch (compute) {
    case LIGHT_F64: return &f64;
    case LIGHT_F32: return &f32;
    case LIGHT_I64: return &i64;
    default: return &i32;
    }
}

static light_status unary(const light_kernel_args *args)
{
    int code = ((const light_unary_attrs *)args->attrs)->code;
    bool predicate = code == LIGHT_UNARY_LOGICAL_NOT || code == LIGHT_UNARY_ISFINITE;
    light_dtype as = light_compute_dtype((light_dtype)args->in[0]->dtype);
    const functions *f = functions_of(as);
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = predicate ? f->unary_predicate : f->unary,
                  .context = args->attrs,
                  .out = args->out[0],
                  .in = {args->in[0]},
                  .n_in = 1,
                  .out_as = predicate ? LIGHT_BOOL : as,
                  .in_as = {as},
                  .accumulate = args->accumulate & 1});
    return LIGHT_OK;
}

static light_status unary_backward(const light_kernel_args *args)
{
    light_dtype as = light_compute_dtype((light_dtype)args->in[0]->dtype);
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = functions_of(as)->unary_backward,
                  .context = args->attrs,
                  .out = args->out[0],
                  .in = {args->in[0], args->in[1] ? args->in[1] : args->in[0]},
                  .n_in = 2,
                  .out_as = as,
                  .in_as = {as, as},
                  .accumulate = args->accumulate & 1});
    return LIGHT_OK;
}

static light_status binary(const light_kernel_args *args)
{
    int code = ((const light_binary_attrs *)args->attrs)->code;
    bool compares = code >= LIGHT_BINARY_EQ && code <= LIGHT_BINARY_OR;
    light_dtype as = light_compute_dtype((light_dtype)args->in[0]->dtype);
    const functions *f = functions_of(as);
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = compares ? f->compare : f->binary,
                  .context = args->attrs,
                  .out = args->out[0],
                  .in = {args->in[0], args->in[1]},
                  .n_in = 2,
                  .out_as = compares ? LIGHT_BOOL : as,
                  .in_as = {as, as},
                  .accumulate = args->accumulate & 1});
    return LIGHT_OK;
}

#define WHERE(T, name)                                                                                       \
    static void name(const void *context, const void *const *in, void *out, int64_t n)                       \
    {                                                                                                        \
        const uint8_t *condition = in[0];                                                                    \
        const T *a = in[1], *b = in[2];                                                                      \
        T *y = out;                                                                                          \
        (void)context;                                                                                       \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = condition[i] ? a[i] : b[i];               \
    }
WHERE(uint8_t, where_1)
WHERE(uint16_t, where_2)
WHERE(uint32_t, where_4)
WHERE(uint64_t, where_8)

static light_status where(const light_kernel_args *args)
{
    bool accumulate = args->accumulate & 1;
    light_dtype dtype = (light_dtype)args->out[0]->dtype;
    light_dtype as = accumulate ? light_compute_dtype(dtype) : dtype;
    size_t size = light_dtype_size(as);
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = size == 1   ? where_1
                        : size == 2 ? where_2
                        : size == 4 ? where_4
                                    : where_8,
                  .out = args->out[0],
                  .in = {args->in[0], args->in[1], args->in[2]},
                  .n_in = 3,
                  .out_as = as,
                  .in_as = {LIGHT_BOOL, as, as},
                  .accumulate = accumulate});
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_elementwise_kernels)[] = {
    {LIGHT_KERNEL_UNARY, unary},   {LIGHT_KERNEL_UNARY_BACKWARD, unary_backward},
    {LIGHT_KERNEL_BINARY, binary}, {LIGHT_KERNEL_WHERE, where},
    {LIGHT_KERNEL_COUNT, NULL},
};
