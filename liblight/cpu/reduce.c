/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions over any dims: sums, means, extrema, variances, logsumexp, and their gradients.
 *
 * The dims are sorted by how far apart elements lie. When neighbours are added up, work goes along rows, else along
 * columns, so that memory is always read in its order. Work is cut into parts by its size only and parts are joined in
 * order, so the result does not depend on the number of threads. */
#include "cpu/convert.h"
#include "tensor/iterate.h"
#include "cpu/map.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

#define TILE        512   /* outputs of a strip, elements of a converted piece */
#define PART        16384 /* elements of a part */
#define MOST_PARTS  128
#define STRIP_PARTS 16

/* What is done with all elements once. `c` is a center from the pass before: the mean, the largest. */
typedef enum pass { SUM, MAX, MIN, SQUARES /* of x - c */, EXPS /* of x - c */ } pass;

typedef struct plan {
    const light_reduce_attrs *attrs;
    light_iter kept;    /* operands: x, y */
    light_iter reduced; /* operand: x */
    pass first, last;   /* equal: there is one pass */
    bool columns, accumulate;
    light_dtype x_dtype, y_dtype;
    const char *x;
    char *y;
} plan;

/* n elements of x (at most TILE unless they need no conversion) in the dtype `as`. */
static const void *read_elements(const plan *w, int64_t offset, int64_t stride, int64_t n, light_dtype as,
                                 void *room)
{
    size_t size = light_dtype_size(w->x_dtype);
    const char *x = w->x + offset * (int64_t)size;
    uint64_t raw[TILE];
    if (stride != 1 && n > 1) {
        bool same = w->x_dtype == as;
        LIGHT_ISA(light_gather)(same ? room : (void *)raw, x, stride, n, size);
        if (same) return room;
        x = (const char *)raw;
    }
    if (w->x_dtype == as) return x;
    LIGHT_ISA(light_convert)(room, as, x, w->x_dtype, n);
    return room;
}

static void write_results(const plan *w, int64_t offset, int64_t stride, const void *totals,
                          light_dtype dtype, int64_t n)
{
    int64_t size = (int64_t)light_dtype_size(w->y_dtype);
    char *y = w->y + offset * size;
    if (!w->accumulate && stride == 1) {
        LIGHT_ISA(light_convert)(y, w->y_dtype, totals, dtype, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        char *to = y + i * stride * size;
        double value;
        if (!w->accumulate) {
            LIGHT_ISA(light_convert)(to, w->y_dtype, (const char *)totals + i * 8, dtype, 1);
            continue;
        }
        LIGHT_ISA(light_convert)(&value, LIGHT_F64, (const char *)totals + i * 8, dtype, 1);
        light_store_one(to, w->y_dtype, value + light_load_one(to, w->y_dtype));
    }
}

static double center_of(const plan *w, double total)
{
    if (w->attrs->code == LIGHT_REDUCE_VAR) return total / (double)w->reduced.numel;
    return isinf(total) ? 0 : total; /* inf - inf would be NaN */
}

static double finish(const plan *w, double total, double center)
{
    double n = (double)w->reduced.numel;
    switch ((light_reduce)w->attrs->code) {
    case LIGHT_REDUCE_MEAN: return total / n;
    case LIGHT_REDUCE_VAR: return n > w->attrs->correction ? total / (n - w->attrs->correction) : (double)NAN;
    case LIGHT_REDUCE_LOGSUMEXP: return center + log(total);
    default: return total;
    }
}

#define T                        float
#define TOTAL                    double
#define T_DTYPE                  LIGHT_F32
#define TOTAL_DTYPE              LIGHT_F64
#define NAME(x)                  x##_f32
#define EXP(x)                   light_vec_exp_f32(x)
#define IS_NAN(x)                ((x) != (x))
#define LEAST                    (double)-INFINITY
#define MOST                     (double)INFINITY
#define CENTER(w, total)         center_of(w, total)
#define FINISH(w, total, center) finish(w, total, center)
#include "cpu/reduce_type.inc.h"

#define T                        double
#define TOTAL                    double
#define T_DTYPE                  LIGHT_F64
#define TOTAL_DTYPE              LIGHT_F64
#define NAME(x)                  x##_f64
#define EXP(x)                   exp(x)
#define IS_NAN(x)                ((x) != (x))
#define LEAST                    (double)-INFINITY
#define MOST                     (double)INFINITY
#define CENTER(w, total)         center_of(w, total)
#define FINISH(w, total, center) finish(w, total, center)
#include "cpu/reduce_type.inc.h"

/* Whole numbers are summed exactly. Passes with a center do not occur. */
#define T                        int64_t
#define TOTAL                    int64_t
#define T_DTYPE                  LIGHT_I64
#define TOTAL_DTYPE              LIGHT_I64
#define NAME(x)                  x##_i64
#define EXP(x)                   0
#define IS_NAN(x)                false
#define LEAST                    INT64_MIN
#define MOST                     INT64_MAX
#define CENTER(w, total)         ((void)(w), total)
#define FINISH(w, total, center) ((void)(center), total)
#include "cpu/reduce_type.inc.h"

static void add_dims(plan *w, const light_tensor *x, const light_tensor *y)
{
    const light_tensor *both[] = {x, y};
    w->kept.operands = 2;
    w->reduced.operands = 1;
    for (int d = 0; d < x->ndim; d++)
        light_iter_add(w->attrs->dims >> d & 1 ? &w->reduced : &w->kept, both, d);
    light_iter_close(&w->kept);
    light_iter_close(&w->reduced);
    light_iter_sort(&w->kept);
    light_iter_sort(&w->reduced);
    light_iter_coalesce(&w->kept);
    light_iter_coalesce(&w->reduced);
    int64_t kept = w->kept.strides[0][w->kept.ndim - 1], reduced = w->reduced.strides[0][w->reduced.ndim - 1];
    w->columns =
        w->kept.numel > 1 && (w->reduced.numel == 1 || (kept != 0 && kept < reduced) || reduced == 0);
}

static void choose_passes(plan *w)
{
    switch ((light_reduce)w->attrs->code) {
    case LIGHT_REDUCE_SUM:
    case LIGHT_REDUCE_MEAN: w->first = w->last = SUM; break;
    case LIGHT_REDUCE_MAX: w->first = w->last = MAX; break;
    case LIGHT_REDUCE_MIN: w->first = w->last = MIN; break;
    case LIGHT_REDUCE_VAR:
        w->first = SUM;
        w->last = SQUARES;
        break;
    case LIGHT_REDUCE_LOGSUMEXP:
        w->first = MAX;
        w->last = EXPS;
        break;
    }
}

static light_status reduce(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0];
    light_tensor *y = args->out[0];
    plan w = {.attrs = args->attrs,
              .accumulate = args->accumulate & 1,
              .x_dtype = (light_dtype)x->dtype,
              .y_dtype = (light_dtype)y->dtype,
              .x = x->data,
              .y = y->data};
    if (y->numel == 0) return LIGHT_OK;
    add_dims(&w, x, y);
    choose_passes(&w);
    if (x->dtype == LIGHT_F64)
        reduce_f64(&w);
    else if (light_dtype_is_floating((light_dtype)x->dtype))
        reduce_f32(&w);
    else
        reduce_i64(&w);
    return LIGHT_OK;
}

/* ---- gradients ---------------------------------------------------------- */

typedef struct slope {
    int code;
    double scale;
} slope;

#define SLOPE(name, T, EXP)                                                                                  \
    static void name(const void *context, const void *const *in, void *out, int64_t n)                       \
    {                                                                                                        \
        const slope *k = context;                                                                            \
        const T *g = in[0], *x = in[1], *y = in[2];                                                          \
        const T scale = (T)k->scale;                                                                         \
        T *gx = out;                                                                                         \
        if (k->code == LIGHT_REDUCE_VAR) {                                                                   \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = g[i] * scale * (x[i] - y[i]);        \
        } else if (k->code == LIGHT_REDUCE_LOGSUMEXP) {                                                      \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = g[i] * EXP(x[i] - y[i]);             \
        } else {                                                                                             \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = x[i] == y[i] ? g[i] : 0;             \
        }                                                                                                    \
    }
SLOPE(slope_f32, float, light_vec_exp_f32)
SLOPE(slope_f64, double, exp)

/* t with the dims that were reduced repeated. */
static light_tensor repeated(const light_tensor *t, const light_tensor *like)
{
    light_tensor wide = *t;
    for (int d = 0; d < like->ndim; d++) {
        if (t->shape[d] == like->shape[d]) continue;
        wide.shape[d] = like->shape[d];
        wide.strides[d] = 0;
    }
    light_tensor_refresh(&wide);
    return wide;
}

static light_status reduce_backward(const light_kernel_args *args)
{
    const light_reduce_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[1];
    light_tensor g = repeated(args->in[0], x), y = repeated(args->in[2], x);
    light_dtype as = light_compute_dtype((light_dtype)x->dtype);
    double count = 1;
    for (int d = 0; d < x->ndim; d++)
        if (attrs->dims >> d & 1) count *= (double)x->shape[d];
    slope k = {attrs->code, 2 / (count - attrs->correction)};
    LIGHT_ISA(light_map_run)
    (&(light_map){.fn = as == LIGHT_F64 ? slope_f64 : slope_f32,
                  .context = &k,
                  .out = args->out[0],
                  .in = {&g, x, &y},
                  .n_in = 3,
                  .out_as = as,
                  .in_as = {as, as, as},
                  .accumulate = args->accumulate & 1});
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_reduce_kernels)[] = {
    {LIGHT_KERNEL_REDUCE, reduce},
    {LIGHT_KERNEL_REDUCE_BACKWARD, reduce_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};
