/* SPDX-License-Identifier: Apache-2.0 */
/* Largest and mean elements of image windows, and their gradients. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

#include <string.h>

enum { BLOCK = 256 };

/* One axis of the image. */
typedef struct axis {
    int64_t in, out, kernel, stride, padding, dilation;
    bool adaptive;
} axis;

/* Elements first, first + step, .. below end. */
typedef struct window {
    int64_t first, end, step;
} window;

typedef struct pool {
    axis h, w;
    light_tensor *x;       /* or its gradient */
    const light_tensor *y; /* or its gradient */
    const light_tensor *index;
    bool max, exclude_padding, add;
    bool channels; /* neighbours in memory are channels */
} pool;

static inline int64_t size_of(const light_tensor *t)
{
    return light_element_size(t->dtype);
}

static inline int64_t element(const light_tensor *t, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return n * t->strides[0] + c * t->strides[1] + h * t->strides[2] + w * t->strides[3];
}

static inline char *address(const light_tensor *t, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return t->data + element(t, n, c, h, w) * size_of(t);
}

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The pixels of window `o` inside the image. */
static inline window window_at(const axis *a, int64_t o)
{
    if (a->adaptive) return (window){o * a->in / a->out, ceil_div((o + 1) * a->in, a->out), 1};
    window w = {o * a->stride - a->padding, 0, a->dilation};
    w.end = w.first + (a->kernel - 1) * a->dilation + 1;
    if (w.end > a->in) w.end = a->in;
    if (w.first < 0) w.first += ceil_div(-w.first, a->dilation) * a->dilation;
    return w;
}

/* The windows that may hold pixel `i`; with dilation some of them step over it. */
static inline window windows_over(const axis *a, int64_t i)
{
    if (a->adaptive) return (window){i * a->out / a->in, ceil_div((i + 1) * a->out, a->in), 1};
    int64_t reach = i + a->padding - (a->kernel - 1) * a->dilation;
    window w = {reach <= 0 ? 0 : ceil_div(reach, a->stride), (i + a->padding) / a->stride + 1, 1};
    if (w.end > a->out) w.end = a->out;
    return w;
}

/* How many pixels of window `o` an average counts: all that are not beyond the padding, or those of the image only. */
static inline int64_t counted(const axis *a, int64_t o, bool exclude_padding)
{
    window w = window_at(a, o);
    int64_t first = o * a->stride - a->padding, end = first + a->kernel;
    if (a->adaptive || exclude_padding) return w.end - w.first;
    return (end < a->in + a->padding ? end : a->in + a->padding) - first;
}

static inline double average_scale(const pool *p, int64_t oh, int64_t ow)
{
    return 1.0 / (double)(counted(&p->h, oh, p->exclude_padding) * counted(&p->w, ow, p->exclude_padding));
}

#include "cpu/pool_quads.inc.h"

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/pool.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/pool.inc.h"

static axis axis_of(const pool *p, const light_pool2d_attrs *attrs, int i)
{
    return (axis){.in = p->x->shape[2 + i],
                  .out = p->y->shape[2 + i],
                  .kernel = attrs->kernel[i],
                  .stride = attrs->stride[i],
                  .padding = attrs->padding[i],
                  .dilation = attrs->dilation[i],
                  .adaptive = attrs->adaptive};
}

static pool pool_of(const light_tensor *x, const light_tensor *y, const light_tensor *index,
                    const void *attributes)
{
    const light_pool2d_attrs *attrs = attributes;
    pool p = {.x = (light_tensor *)x, .y = y, .index = index, .exclude_padding = attrs->exclude_padding};

    p.h = axis_of(&p, attrs, 0);
    p.w = axis_of(&p, attrs, 1);
    p.channels =
        x->shape[1] > 1 && x->strides[1] == 1 && y->strides[1] == 1 && (!index || index->strides[1] == 1);
    return p;
}

static light_status run_forward(const light_kernel_args *args, bool max)
{
    pool p = pool_of(args->in[0], args->out[0], max ? args->out[1] : NULL, args->attrs);

    p.max = max;
    if (p.x->dtype == LIGHT_F64)
        pool_forward_f64(&p);
    else if (max && in_quads(&p))
        quads_forward(&p);
    else
        pool_forward_f32(&p);
    return LIGHT_OK;
}

static light_status run_backward(const light_kernel_args *args, bool max)
{
    pool p = pool_of(args->out[0], args->in[0], max ? args->in[1] : NULL, args->attrs);

    p.add = args->accumulate;
    if (p.x->dtype == LIGHT_F64)
        pool_backward_f64(&p);
    else if (max && in_quads(&p))
        quads_backward(&p);
    else
        pool_backward_f32(&p);
    return LIGHT_OK;
}

static light_status max_pool2d(const light_kernel_args *args)
{
    return run_forward(args, true);
}

static light_status max_pool2d_backward(const light_kernel_args *args)
{
    return run_backward(args, true);
}

static light_status avg_pool2d(const light_kernel_args *args)
{
    return run_forward(args, false);
}

static light_status avg_pool2d_backward(const light_kernel_args *args)
{
    return run_backward(args, false);
}

const light_cpu_kernel LIGHT_ISA(light_pool_kernels)[] = {
    {LIGHT_KERNEL_MAX_POOL2D, max_pool2d},
    {LIGHT_KERNEL_MAX_POOL2D_BACKWARD, max_pool2d_backward},
    {LIGHT_KERNEL_AVG_POOL2D, avg_pool2d},
    {LIGHT_KERNEL_AVG_POOL2D_BACKWARD, avg_pool2d_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};
