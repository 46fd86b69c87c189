/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer steps: one pass over gradient, parameter and state, which also writes the parameter's 16-bit copy.
 * optim/kinds.c has the formulas. AdamW with 16-bit gradients and copies moves 28 bytes a parameter. */
#include "cuda/floats.cuh"
#include "cuda/walk.cuh"

#include <math.h>

namespace light
{

enum { THREADS = 256, MOST_STATES = 3, COPY = 4 /* among the outputs */ };

/* What the formulas need of the attributes, worked out in double and rounded once. */
template <class R> struct numbers {
    R factor; /* of the gradient; its sign is turned to maximize */
    R decay;  /* weight decay added to the gradient */
    R keep;   /* the parameter is multiplied by this: 1 - lr wd */
    R lr;     /* with the corrections that go with it */
    R eps, momentum, damp, beta1, beta2, rest1, rest2, scale;
    bool nesterov, first;
};

template <class R>
__host__ __device__ static numbers<R> numbers_of(const light_optimizer_attrs &a, int64_t step)
{
    bool decoupled = a.kind == LIGHT_OPTIMIZER_ADAMW || a.kind == LIGHT_OPTIMIZER_LION;
    bool adam = a.kind == LIGHT_OPTIMIZER_ADAM || a.kind == LIGHT_OPTIMIZER_ADAMW;
    double beta2 = a.kind == LIGHT_OPTIMIZER_RMSPROP ? a.alpha : a.beta2, lr = a.lr, scale = 1;
    numbers<R> c;

    if (adam) {
        lr /= 1 - pow(a.beta1, (double)step);
        scale = 1 / sqrt(1 - pow(a.beta2, (double)step));
    }
    if (a.kind == LIGHT_OPTIMIZER_ADAGRAD) lr /= 1 + (double)(step - 1) * a.lr_decay;
    c.factor = (R)(a.maximize ? -1 : 1);
    c.decay = (R)(decoupled ? 0 : a.weight_decay);
    c.keep = (R)(decoupled ? 1 - a.lr * a.weight_decay : 1);
    c.lr = (R)lr;
    c.eps = (R)a.eps;
    c.momentum = (R)a.momentum;
    c.damp = (R)(1 - a.dampening);
    c.beta1 = (R)a.beta1;
    c.beta2 = (R)beta2;
    c.rest1 = (R)(1 - a.beta1);
    c.rest2 = (R)(1 - beta2);
    c.scale = (R)scale;
    c.nesterov = a.nesterov;
    c.first = step == 1;
    return c;
}

/* ---- one element: g gradient, p parameter, s states; has[i]: state i is there ------------------------------- */

template <int KIND> struct update;

template <> struct update<LIGHT_OPTIMIZER_SGD> {
    template <class R>
    __device__ static void run(const numbers<R> &c, R g, R &p, R (&s)[MOST_STATES],
                               const bool (&has)[MOST_STATES])
    {
        R d = g * c.factor + c.decay * p;
        if (has[0]) {
            s[0] = c.first ? d : c.momentum * s[0] + c.damp * d;
            d = c.nesterov ? d + c.momentum * s[0] : s[0];
        }
        p -= c.lr * d;
    }
};

template <> struct update<LIGHT_OPTIMIZER_ADAM> {
    template <class R>
    __device__ static void run(const numbers<R> &c, R g, R &p, R (&s)[MOST_STATES],
                               const bool (&has)[MOST_STATES])
    {
        R w = p * c.keep, d = g * c.factor + c.decay * w;
        s[0] = c.beta1 * s[0] + c.rest1 * d;
        s[1] = c.beta2 * s[1] + c.rest2 * d * d;
        if (has[2]) s[2] = s[1] > s[2] ? s[1] : s[2];
        p = w - c.lr * s[0] / (sqrt(has[2] ? s[2] : s[1]) * c.scale + c.eps);
    }
};

template <> struct update<LIGHT_OPTIMIZER_RMSPROP> {
    template <class R>
    __device__ static void run(const numbers<R> &c, R g, R &p, R (&s)[MOST_STATES],
                               const bool (&has)[MOST_STATES])
    {
        R d = g * c.factor + c.decay * p, centre = 0;
        s[0] = c.beta2 * s[0] + c.rest2 * d * d;
        if (has[2]) centre = s[2] = c.beta2 * s[2] + c.rest2 * d;
        R step = d / (sqrt(s[0] - centre * centre) + c.eps);
        if (has[1]) step = s[1] = c.momentum * s[1] + step;
        p -= c.lr * step;
    }
};

template <> struct update<LIGHT_OPTIMIZER_ADAGRAD> {
    template <class R>
    __device__ static void run(const numbers<R> &c, R g, R &p, R (&s)[MOST_STATES],
                               const bool (&)[MOST_STATES])
    {
        R d = g * c.factor + c.decay * p;
        s[0] += d * d;
        p -= c.lr * d / (sqrt(s[0]) + c.eps);
    }
};

template <> struct update<LIGHT_OPTIMIZER_LION> {
    template <class R>
    __device__ static void run(const numbers<R> &c, R g, R &p, R (&s)[MOST_STATES],
                               const bool (&)[MOST_STATES])
    {
        R d = g * c.factor, u = c.beta1 * s[0] + c.rest1 * d;
        p = p * c.keep - c.lr * ((R)(u > 0) - (R)(u < 0));
        s[0] = c.beta2 * s[0] + c.rest2 * d;
    }
};

/* ---- the pass ------------------------------------------------------------------ */

struct step_arrays {
    int64_t n;
    floats gradient, parameter, state[MOST_STATES], copy;
    const float *factor, *scaling; /* NULL: 1; losses are not scaled */
    const double *recorded; /* lr and step of a launch that is recorded; NULL: those of the attributes */
};

/* Elements i .. i + N - 1. */
template <int KIND, int N, class R>
__device__ inline void update_some(const step_arrays &a, const numbers<R> &c, int64_t i)
{
    bool has[MOST_STATES];
    R g[N], p[N], s[MOST_STATES][N];

    load_floats(a.gradient, i, g);
    load_floats(a.parameter, i, p);
#pragma unroll
    for (int k = 0; k < MOST_STATES; k++) {
        has[k] = a.state[k].data;
        load_or(a.state[k], i, R(0), s[k]);
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        R states[MOST_STATES] = {s[0][j], s[1][j], s[2][j]};
        update<KIND>::run(c, g[j], p[j], states, has);
#pragma unroll
        for (int k = 0; k < MOST_STATES; k++) s[k][j] = states[k];
    }
    store_floats(a.parameter, i, p);
#pragma unroll
    for (int k = 0; k < MOST_STATES; k++)
        if (has[k]) store_floats(a.state[k], i, s[k]);
    if (a.copy.data) store_floats(a.copy, i, p);
}

/* The host knows all numbers but the factor, unless steps were left out, which only the device knows, or the launch is one
 * of many of a record: then one thread works them out again. The elements that fill no N are the last threads'. */
template <int KIND, int N, class R>
__global__ void __launch_bounds__(THREADS, 2)
    optimizer_kernel(step_arrays a, numbers<R> given, light_optimizer_attrs attrs)
{
    __shared__ numbers<R> shared;
    const float *scaling = a.scaling;

    if (scaling && scaling[LIGHT_LOSS_SCALE_FOUND] != 0) return;
    int64_t skipped = scaling ? (int64_t)scaling[LIGHT_LOSS_SCALE_SKIPPED] : 0;
    if (skipped || a.recorded) {
        if (a.recorded) {
            attrs.lr = a.recorded[0];
            attrs.step = (int64_t)a.recorded[1];
        }
        if (threadIdx.x == 0) shared = numbers_of<R>(attrs, attrs.step - skipped);
        __syncthreads();
        given = shared;
    }
    if (a.factor) given.factor *= (R)*a.factor;
    int64_t whole = a.n / N;
    for (int64_t i = first_element(); i < whole; i += grid_stride()) update_some<KIND, N>(a, given, i * N);
    for (int64_t i = whole * N + first_element(); i < a.n; i += grid_stride())
        update_some<KIND, 1>(a, given, i);
}

template <int KIND, class R>
static light_status run_kind(const light_kernel_args *args, const step_arrays &a, bool packed)
{
    constexpr int N = sizeof(R) == 8 ? 4 : 8;
    light_optimizer_attrs attrs = *(const light_optimizer_attrs *)args->attrs;
    auto kernel = packed ? optimizer_kernel<KIND, N, R> : optimizer_kernel<KIND, 1, R>;
    return launch(args->device, kernel, blocks_for(args->device, a.n, THREADS * (packed ? N : 1)), THREADS, 0,
                  a, numbers_of<R>(attrs, attrs.step), attrs);
}

template <class R>
static light_status run_step(const light_kernel_args *args, const step_arrays &a, bool packed)
{
    int kind = ((const light_optimizer_attrs *)args->attrs)->kind;
    switch (kind) {
    case LIGHT_OPTIMIZER_SGD: return run_kind<LIGHT_OPTIMIZER_SGD, R>(args, a, packed);
    case LIGHT_OPTIMIZER_ADAM:
    case LIGHT_OPTIMIZER_ADAMW: return run_kind<LIGHT_OPTIMIZER_ADAM, R>(args, a, packed);
    case LIGHT_OPTIMIZER_RMSPROP: return run_kind<LIGHT_OPTIMIZER_RMSPROP, R>(args, a, packed);
    case LIGHT_OPTIMIZER_ADAGRAD: return run_kind<LIGHT_OPTIMIZER_ADAGRAD, R>(args, a, packed);
    case LIGHT_OPTIMIZER_LION: return run_kind<LIGHT_OPTIMIZER_LION, R>(args, a, packed);
    default: return light_fail(LIGHT_ERR_INTERNAL, "%d is no kind of optimizer", kind);
    }
}

static const float *number_of(const light_tensor *t)
{
    return t ? (const float *)t->data : NULL;
}

static light_status optimizer(const light_kernel_args *args)
{
    light_tensor *const *out = args->out;
    step_arrays a = {};
    a.n = out[0]->numel;
    a.gradient = floats_of(args->in[0]);
    a.parameter = floats_of(out[0]);
    a.copy = floats_of(out[COPY]);
    a.factor = number_of(args->in[1]);
    a.scaling = number_of(args->in[2]);
    LIGHT_TRY(recorded_numbers(args->device, &a.recorded));
    bool packed = packs_fit(a.gradient) && packs_fit(a.parameter) && packs_fit(a.copy);
    for (int i = 0; i < MOST_STATES; i++) {
        a.state[i] = floats_of(out[1 + i]);
        packed = packed && packs_fit(a.state[i]);
    }
    return out[0]->dtype == LIGHT_F64 ? run_step<double>(args, a, packed) : run_step<float>(args, a, packed);
}

extern const kernel_entry optimizer_kernels[] = {
    {LIGHT_KERNEL_OPTIMIZER, optimizer},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
