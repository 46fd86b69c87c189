/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors from nothing: constants, ranges, random numbers, host memory. */
#include "ops/common.h"

#include "autograd/step.h"

#include <light/ops.h>

#include <math.h>

typedef struct create_attrs {
    light_shape shape;
    light_dtype dtype;
    light_fill_attrs fill;
    light_arange_attrs arange;
    light_random_attrs random;
    const void *host;
} create_attrs;

static light_status infer(light_step *s, light_node *node, light_spec *specs)
{
    const create_attrs *attrs = node->attrs;
    int64_t numel = 1;
    char text[256];
    if (!light_dtype_size(attrs->dtype))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "%d is no dtype", (int)attrs->dtype);
    if (attrs->shape.ndim < 0 || attrs->shape.ndim > LIGHT_MAX_DIMS)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%d dims, at most %d are possible", attrs->shape.ndim,
                             LIGHT_MAX_DIMS);
    for (int i = 0; i < attrs->shape.ndim; i++)
        if (attrs->shape.dims[i] < 0 || __builtin_mul_overflow(numel, attrs->shape.dims[i], &numel) ||
            numel > INT64_MAX / 16)
            return light_op_fail(s, node, LIGHT_ERR_SHAPE, "shape %s is negative or too large",
                                 light_shape_format(attrs->shape, text, sizeof text));
    specs[0] = (light_spec){.dtype = attrs->dtype, .shape = attrs->shape};
    return LIGHT_OK;
}

/* What the precision computes in. Whole numbers up to 2^24 and the host's memory are f32 all the same. */
static light_dtype usual_dtype(const light_step *s)
{
    return s && s->dtype ? s->dtype : LIGHT_F32;
}

static light_tensor *create(light_step *s, const light_op *op, create_attrs *attrs, light_dtype usual)
{
    light_tensor *none[1] = {NULL};
    if (attrs->dtype == LIGHT_DTYPE_DEFAULT) attrs->dtype = usual;
    return light_apply(s, op, none, 0, 0, attrs, sizeof *attrs, NULL, 1);
}

/* ---- constants ---------------------------------------------------------- */

static light_status full_forward(light_step *s, light_node *node)
{
    const create_attrs *attrs = node->attrs;
    return LIGHT_RUN(s, FILL, .out = {node->out[0]}, .attrs = &attrs->fill);
}

static const light_op full_op = {.name = "full", .infer = infer, .forward = full_forward};

light_tensor *light_full(light_step *s, light_shape shape, double value, light_dtype dtype)
{
    create_attrs attrs = {.shape = shape, .dtype = dtype, .fill = {value}};
    return create(s, &full_op, &attrs, usual_dtype(s));
}

light_tensor *light_zeros(light_step *s, light_shape shape, light_dtype dtype)
{
    return light_full(s, shape, 0, dtype);
}

light_tensor *light_ones(light_step *s, light_shape shape, light_dtype dtype)
{
    return light_full(s, shape, 1, dtype);
}

static light_status arange_forward(light_step *s, light_node *node)
{
    const create_attrs *attrs = node->attrs;
    return LIGHT_RUN(s, ARANGE, .out = {node->out[0]}, .attrs = &attrs->arange);
}

static const light_op arange_op = {.name = "arange", .infer = infer, .forward = arange_forward};

light_tensor *light_arange(light_step *s, double start, double end, double step, light_dtype dtype)
{
    double count = ceil((end - start) / step);
    if (!(count >= 0) || count > 0x1p48)
        return s ? light_step_fail(s, LIGHT_ERR_ARGUMENT, "arange: no way from %g to %g by steps of %g",
                                   start, end, step)
                 : NULL;
    create_attrs attrs = {.shape = LIGHT_SHAPE((int64_t)count), .dtype = dtype, .arange = {start, step}};
    return create(s, &arange_op, &attrs, LIGHT_F32);
}

/* ---- random numbers ----------------------------------------------------- */

static light_status random_infer(light_step *s, light_node *node, light_spec *specs)
{
    const create_attrs *attrs = node->attrs;
    LIGHT_TRY(infer(s, node, specs));
    if (attrs->random.kind != LIGHT_RANDOM_INTEGER && !light_dtype_is_floating(attrs->dtype))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "%s was asked for, a floating dtype is needed",
                             light_dtype_name(attrs->dtype));
    return LIGHT_OK;
}

static light_status random_forward(light_step *s, light_node *node)
{
    const create_attrs *attrs = node->attrs;
    return LIGHT_RUN(s, RANDOM, .out = {node->out[0]}, .attrs = &attrs->random, .rng = node->rng);
}

#define RANDOM(text)                                                                                         \
    {                                                                                                        \
        .name = text, .infer = random_infer, .forward = random_forward, .random = true                       \
    }
static const light_op rand_op = RANDOM("rand"), randn_op = RANDOM("randn"), randint_op = RANDOM("randint");

light_tensor *light_rand(light_step *s, light_shape shape, light_dtype dtype)
{
    create_attrs attrs = {.shape = shape, .dtype = dtype, .random = {LIGHT_RANDOM_UNIFORM, 0, 1}};
    return create(s, &rand_op, &attrs, usual_dtype(s));
}

light_tensor *light_randn(light_step *s, light_shape shape, light_dtype dtype)
{
    create_attrs attrs = {.shape = shape, .dtype = dtype, .random = {LIGHT_RANDOM_NORMAL, 0, 1}};
    return create(s, &randn_op, &attrs, usual_dtype(s));
}

light_tensor *light_randint(light_step *s, int64_t low, int64_t high, light_shape shape, light_dtype dtype)
{
    const int64_t most = (int64_t)1 << 53; /* the bounds travel as doubles */
    if (low >= high || low < -most || high > most)
        return s ? light_step_fail(s, LIGHT_ERR_ARGUMENT,
                                   "randint: no numbers in [%lld, %lld); bounds go up to 2^53",
                                   (long long)low, (long long)high)
                 : NULL;
    create_attrs attrs = {
        .shape = shape, .dtype = dtype, .random = {LIGHT_RANDOM_INTEGER, (double)low, (double)high}};
    return create(s, &randint_op, &attrs, LIGHT_I64);
}

/* ---- host memory -------------------------------------------------------- */

static light_status from_host_forward(light_step *s, light_node *node)
{
    const create_attrs *attrs = node->attrs;
    light_tensor *y = node->out[0];
    (void)s;
    return light_tensor_write(y, attrs->dtype, attrs->host,
                              (size_t)y->numel * light_dtype_size(attrs->dtype));
}

static const light_op from_host_op = {.name = "from_host", .infer = infer, .forward = from_host_forward};

light_tensor *light_from_host(light_step *s, light_shape shape, light_dtype dtype, const void *data)
{
    create_attrs attrs = {.shape = shape, .dtype = dtype, .host = data};
    return create(s, &from_host_op, &attrs, LIGHT_F32);
}
