/* SPDX-License-Identifier: Apache-2.0 */
/* Template of optimizer.c in one arithmetic (real.inc.h). */

/* What the formulas need of the attributes, worked out in double and rounded once. */
typedef struct NAME(numbers) {
    REAL factor; /* of the gradient; its sign is turned to maximize */
    REAL decay;  /* weight decay added to the gradient */
    REAL keep;   /* the parameter is multiplied by this: 1 - lr wd */
    REAL lr;     /* with the corrections that go with it */
    REAL eps, momentum, damp, beta1, beta2, rest1, rest2, scale;
    bool nesterov, first;
} NAME(numbers);

static NAME(numbers) NAME(numbers_of)(const light_optimizer_attrs *a, double factor)
{
    bool decoupled = a->kind == LIGHT_OPTIMIZER_ADAMW || a->kind == LIGHT_OPTIMIZER_LION;
    bool adam = a->kind == LIGHT_OPTIMIZER_ADAM || a->kind == LIGHT_OPTIMIZER_ADAMW;
    double beta2 = a->kind == LIGHT_OPTIMIZER_RMSPROP ? a->alpha : a->beta2, lr = a->lr, scale = 1;

    if (adam) {
        lr /= 1 - pow(a->beta1, (double)a->step);
        scale = 1 / sqrt(1 - pow(a->beta2, (double)a->step));
    }
    if (a->kind == LIGHT_OPTIMIZER_ADAGRAD) lr /= 1 + (double)(a->step - 1) * a->lr_decay;
    return (NAME(numbers)){
        .factor = (REAL)(a->maximize ? -factor : factor),
        .decay = (REAL)(decoupled ? 0 : a->weight_decay),
        .keep = (REAL)(decoupled ? 1 - a->lr * a->weight_decay : 1),
        .lr = (REAL)lr,
        .eps = (REAL)a->eps,
        .momentum = (REAL)a->momentum,
        .damp = (REAL)(1 - a->dampening),
        .beta1 = (REAL)a->beta1,
        .beta2 = (REAL)beta2,
        .rest1 = (REAL)(1 - a->beta1),
        .rest2 = (REAL)(1 - beta2),
        .scale = (REAL)scale,
        .nesterov = a->nesterov,
        .first = a->step == 1,
    };
}

/* The pieces of n elements: parameter, gradient, states as in kernels.h; a state that is not used is NULL. */
#define PIECES                                                                                               \
    REAL *restrict p, const REAL *restrict g, REAL *const *state, int64_t n, const NAME(numbers) * k

static void NAME(sgd)(PIECES)
{
    const NAME(numbers) c = *k;
    REAL *restrict m = state[0];

    if (!m) {
        for (int64_t i = 0; i < n; i++) p[i] -= c.lr * (g[i] * c.factor + c.decay * p[i]);
        return;
    }
    const REAL kept = c.first ? 0 : c.momentum, added = c.first ? 1 : c.damp;
    const REAL of_gradient = c.nesterov ? 1 : 0, of_buffer = c.nesterov ? c.momentum : 1;
    for (int64_t i = 0; i < n; i++) {
        REAL d = g[i] * c.factor + c.decay * p[i];
        m[i] = kept * m[i] + added * d;
        p[i] -= c.lr * (of_gradient * d + of_buffer * m[i]);
    }
}

static void NAME(adam)(PIECES)
{
    const NAME(numbers) c = *k;
    REAL *restrict m = state[0], *restrict v = state[1], *restrict most = state[2];

    if (!most) {
        for (int64_t i = 0; i < n; i++) {
            REAL w = p[i] * c.keep, d = g[i] * c.factor + c.decay * w;
            m[i] = c.beta1 * m[i] + c.rest1 * d;
            v[i] = c.beta2 * v[i] + c.rest2 * d * d;
            p[i] = w - c.lr * m[i] / (SQRT(v[i]) * c.scale + c.eps);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        REAL w = p[i] * c.keep, d = g[i] * c.factor + c.decay * w;
        m[i] = c.beta1 * m[i] + c.rest1 * d;
        v[i] = c.beta2 * v[i] + c.rest2 * d * d;
        most[i] = v[i] > most[i] ? v[i] : most[i];
        p[i] = w - c.lr * m[i] / (SQRT(most[i]) * c.scale + c.eps);
    }
}

static void NAME(rmsprop)(PIECES)
{
    const NAME(numbers) c = *k;
    REAL *restrict v = state[0], *restrict m = state[1], *restrict a = state[2];

    for (int64_t i = 0; i < n; i++) {
        REAL d = g[i] * c.factor + c.decay * p[i], centre = 0, step;
        v[i] = c.beta2 * v[i] + c.rest2 * d * d;
        if (a) centre = a[i] = c.beta2 * a[i] + c.rest2 * d;
        step = d / (SQRT(v[i] - centre * centre) + c.eps);
        if (m) step = m[i] = c.momentum * m[i] + step;
        p[i] -= c.lr * step;
    }
}

static void NAME(adagrad)(PIECES)
{
    const NAME(numbers) c = *k;
    REAL *restrict sum = state[0];

    for (int64_t i = 0; i < n; i++) {
        REAL d = g[i] * c.factor + c.decay * p[i];
        sum[i] += d * d;
        p[i] -= c.lr * d / (SQRT(sum[i]) + c.eps);
    }
}

static void NAME(lion)(PIECES)
{
    const NAME(numbers) c = *k;
    REAL *restrict m = state[0];

    for (int64_t i = 0; i < n; i++) {
        REAL d = g[i] * c.factor, u = c.beta1 * m[i] + c.rest1 * d;
        REAL sign = (REAL)(u > 0) - (REAL)(u < 0);
        p[i] = p[i] * c.keep - c.lr * sign;
        m[i] = c.beta2 * m[i] + c.rest2 * d;
    }
}

typedef struct NAME(work) {
    const light_kernel_args *args;
    void (*update)(PIECES);
    NAME(numbers) numbers;
    bool direct; /* every array is of REAL already, and there is no copy to write */
} NAME(work);

static void *NAME(element)(const light_tensor *t, int64_t i)
{
    return t->data + i * light_element_size(t->dtype);
}

/* As `load`, for gradients that are wider than the parameter too. */
static const REAL *NAME(load_gradient)(const light_tensor *g, int64_t first, int64_t n, REAL *room)
{
    const light_dtype real = sizeof(REAL) == 8 ? LIGHT_F64 : LIGHT_F32;
    if (g->dtype == real) return NAME(element)(g, first);
    LIGHT_ISA(light_convert)(room, real, NAME(element)(g, first), (light_dtype)g->dtype, n);
    return room;
}

static void NAME(update_block)(const NAME(work) * w, int64_t first, int64_t n, REAL (*rooms)[BLOCK])
{
    light_tensor *const *out = w->args->out;
    REAL *arrays[1 + MOST_STATES] = {NULL};

    for (int i = 0; i < 1 + MOST_STATES; i++)
        if (out[i]) /* its own memory when it is REAL */
            arrays[i] = (REAL *)NAME(load)(out[i]->dtype, NAME(element)(out[i], first), n, rooms[i]);
    w->update(arrays[0], NAME(load_gradient)(w->args->in[0], first, n, rooms[1 + MOST_STATES]), &arrays[1], n,
              &w->numbers);
    for (int i = 0; i < 1 + MOST_STATES; i++)
        if (out[i]) NAME(store)(out[i]->dtype, NAME(element)(out[i], first), n, arrays[i], false);
    if (out[COPY]) LIGHT_ISA(light_convert)
    (NAME(element)(out[COPY], first), (light_dtype)out[COPY]->dtype, arrays[0],
     sizeof(REAL) == 8 ? LIGHT_F64 : LIGHT_F32, n);
}

static void NAME(update_part)(void *context, int64_t from, int64_t to)
{
    const NAME(work) *w = context;
    REAL rooms[2 + MOST_STATES][BLOCK];
    int64_t block = w->direct ? to - from : BLOCK;

    for (int64_t first = from; first < to; first += block)
        NAME(update_block)(w, first, to - first < block ? to - first : block, rooms);
}

static void NAME(optimizer)(const light_kernel_args *args, const light_optimizer_attrs *attrs)
{
    static void (*const updates[])(PIECES) = {
        [LIGHT_OPTIMIZER_SGD] = NAME(sgd),         [LIGHT_OPTIMIZER_ADAM] = NAME(adam),
        [LIGHT_OPTIMIZER_ADAMW] = NAME(adam),      [LIGHT_OPTIMIZER_RMSPROP] = NAME(rmsprop),
        [LIGHT_OPTIMIZER_ADAGRAD] = NAME(adagrad), [LIGHT_OPTIMIZER_LION] = NAME(lion),
    };
    const light_tensor *factor = args->in[1];
    const int real = LIGHT_REAL == 64 ? LIGHT_F64 : LIGHT_F32;
    NAME(work)
    w = {
        .args = args,
        .update = updates[attrs->kind],
        .numbers = NAME(numbers_of)(attrs, factor ? *(const float *)factor->data : 1),
        .direct = args->in[0]->dtype == real && !args->out[COPY],
    };

    for (int i = 0; i < 1 + MOST_STATES; i++)
        if (args->out[i]) w.direct = w.direct && args->out[i]->dtype == real;
    light_parallel(args->out[0]->numel, 4, NAME(update_part), &w);
}
#undef PIECES
