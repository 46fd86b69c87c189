/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions over any dims: sums, means, extrema, variances, logsumexp, where an extremum is; and their gradients.
 *
 * The dims are sorted by how far apart elements lie. When neighbours are reduced, the threads of a block go along rows,
 * else each has a column, so that memory is read in its order, once. Where there are too few outputs to fill the device
 * the reduced elements are cut into parts, whose states a second kernel joins in order: the same bits in every run. */
#include "cuda/block.cuh"
#include "cuda/map.cuh"
#include "cuda/math.cuh"
#include "cuda/online.cuh"

namespace light
{

/* ---- what is reduced -------------------------------------------------------------- */

/* What elements are computed in, and what totals are: whole numbers are summed exactly. */
template <class T> using element_of = std::conditional_t<std::is_integral<T>::value, int64_t, real_of<T>>;
template <class E> using total_of = std::conditional_t<std::is_integral<E>::value, int64_t, double>;

/* Each reduction has a state, which starts empty, takes N elements at a time (`first` and `step` tell their numbers) and
 * is joined with the state of later elements. `see` shows it the first element of the output that it works for. */
template <class E_> struct reduce_sum {
    using E = E_;
    using state = total_of<E>;
    total_of<E> divisor; /* for the mean */
    __device__ state start() const
    {
        return 0;
    }
    __device__ void see(E)
    {
    }
    /* A few neighbours in E, all others in the wider type. */
    template <int N> __device__ void add(state &s, const E (&x)[N], int64_t, int64_t) const
    {
        E part = x[0];
#pragma unroll
        for (int k = 1; k < N; k++) part += x[k];
        s += part;
    }
    __device__ state join(state a, state b) const
    {
        return a + b;
    }
    __device__ state finish(state s) const
    {
        return s / divisor;
    }
};

/* NaN wins. */
template <class E_> struct reduce_extremum {
    using E = E_;
    using state = E;
    bool min;
    E neutral;
    __device__ state start() const
    {
        return neutral;
    }
    __device__ void see(E)
    {
    }
    template <int N> __device__ void add(state &s, const E (&x)[N], int64_t, int64_t) const
    {
#pragma unroll
        for (int k = 0; k < N; k++) s = join(s, x[k]);
    }
    __device__ state join(state a, state b) const
    {
        return min ? min_of{}(a, b) : max_of{}(a, b);
    }
    __device__ total_of<E> finish(state s) const
    {
        return s;
    }
};

/* Sums of x - c and of its square, where c is some element: what they lose to each other is small then. */
template <class E_> struct reduce_variance {
    using E = E_;
    struct state {
        double sum, squares;
    };
    double n, divisor;
    double center;
    __device__ state start() const
    {
        return state{0, 0};
    }
    __device__ void see(E x)
    {
        center = x;
    }
    template <int N> __device__ void add(state &s, const E (&x)[N], int64_t, int64_t) const
    {
#pragma unroll
        for (int k = 0; k < N; k++) {
            double d = x[k] - center;
            s.sum += d;
            s.squares += d * d;
        }
    }
    __device__ state join(state a, state b) const
    {
        return state{a.sum + b.sum, a.squares + b.squares};
    }
    __device__ double finish(state s) const
    {
        double total = s.squares - s.sum * s.sum / n;
        return (total < 0 ? 0 : total) / divisor;
    }
};

template <class E_> struct reduce_logsumexp {
    using E = E_;
    using state = online_sum<E>;
    __device__ state start() const
    {
        return state::empty();
    }
    __device__ void see(E)
    {
    }
    template <int N> __device__ void add(state &s, const E (&x)[N], int64_t, int64_t) const
    {
        s.add(x);
    }
    __device__ state join(state a, state b) const
    {
        a.join(b);
        return a;
    }
    __device__ double finish(state s) const
    {
        return s.logarithm();
    }
};

/* The first of those that are largest or smallest; NaN wins in both. */
template <class E_> struct reduce_place {
    using E = E_;
    struct state {
        int64_t index; /* below 0: none */
        E value;
    };
    bool min;
    __device__ state start() const
    {
        return state{-1, 0};
    }
    __device__ void see(E)
    {
    }
    template <int N> __device__ void add(state &s, const E (&x)[N], int64_t first, int64_t step) const
    {
#pragma unroll
        for (int k = 0; k < N; k++) s = join(s, state{first + k * step, x[k]});
    }
    __device__ state join(state a, state b) const
    {
        if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
        bool equal = a.value == b.value || (a.value != a.value && b.value != b.value);
        if (equal) return a.index < b.index ? a : b;
        bool a_wins = a.value != a.value || (min ? a.value < b.value : a.value > b.value);
        return a_wins ? a : b;
    }
    __device__ int64_t finish(state s) const
    {
        return s.index;
    }
};

/* ---- the kernels ------------------------------------------------------------------- */

enum {
    REDUCE_THREADS = 256,
    COLUMNS_WIDE = 32, /* threads of a block side by side, along columns */
    AT_ONCE = 4        /* loads of a thread that are on their way at a time */
};

struct reduce_plan {
    walk<2> kept;    /* x, y; along columns counts groups of V outputs */
    walk<1> reduced; /* x; along rows counts groups of V elements, and `tail` single ones follow */
    int tail;
    int64_t y_step;    /* between the outputs of a group */
    int64_t outputs;   /* all of y */
    int lanes, others; /* threads that share an output; outputs (or groups of them) of a block */
    int parts;         /* above 1: states go to memory, [part][output] */
    void *y;
    int y_dtype;
    bool accumulate;
};

/* Joins the states of all lanes, whose threads stand `step` apart; the first lane finds it in its places of the room. */
template <int V, class P>
__device__ inline void join_lanes(const P &p, const typename P::state (&s)[V], typename P::state *room,
                                  int lane, int lanes, int step)
{
    int me = threadIdx.x;
#pragma unroll
    for (int v = 0; v < V; v++) room[v * REDUCE_THREADS + me] = s[v];
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane >= half) continue;
#pragma unroll
        for (int v = 0; v < V; v++) {
            typename P::state *mine = room + v * REDUCE_THREADS + me;
            *mine = p.join(*mine, mine[half * step]);
        }
    }
}

template <class P>
__device__ inline void put_state(const P &p, const reduce_plan &plan, typename P::state *states,
                                 int64_t output, int64_t at, typename P::state s)
{
    if (plan.parts > 1)
        states[blockIdx.y * plan.outputs + output] = s;
    else
        store_number(plan.y, plan.y_dtype, at, p.finish(s), plan.accumulate);
}

/* N groups, `lanes` apart, of V neighbours of a line. */
template <int N, int V, class P, class T>
__device__ inline void add_groups(const P &p, const reduce_plan &plan, const T *line, int64_t i,
                                  typename P::state &s)
{
    group<T, V> x[N];
#pragma unroll
    for (int k = 0; k < N; k++) {
        int64_t at[1];
        walk_offsets(plan.reduced, i + k * plan.lanes, at);
        x[k] = load_group<V>(line + at[0]);
    }
#pragma unroll
    for (int k = 0; k < N; k++) {
        typename P::E values[V];
#pragma unroll
        for (int v = 0; v < V; v++) values[v] = widen(x[k].at[v]);
        p.add(s, values, (i + k * plan.lanes) * V, 1);
    }
}

/* This thread's share of a part of a line. */
template <int V, class P, class T>
__device__ inline void add_row(const P &p, const reduce_plan &plan, const T *line, int lane,
                               typename P::state &s)
{
    int64_t n = plan.reduced.numel, i = n * blockIdx.y / plan.parts + lane;
    int64_t to = n * (blockIdx.y + 1) / plan.parts;
    for (; i + (AT_ONCE - 1) * plan.lanes < to; i += AT_ONCE * plan.lanes)
        add_groups<AT_ONCE, V>(p, plan, line, i, s);
    for (; i < to; i += plan.lanes) add_groups<1, V>(p, plan, line, i, s);
    if ((int)blockIdx.y + 1 < plan.parts) return;
    for (i = n * V + lane; i < n * V + plan.tail; i += plan.lanes) {
        typename P::E value[1] = {widen(line[i])};
        p.add(s, value, i, 1);
    }
}

template <int V, class P, class T>
__global__ void __launch_bounds__(REDUCE_THREADS, 2)
    reduce_rows_kernel(reduce_plan plan, P p, const T *x, typename P::state *states)
{
    __shared__ typename P::state room[REDUCE_THREADS];
    int lane = threadIdx.x % plan.lanes;
    int64_t output = (int64_t)blockIdx.x * plan.others + threadIdx.x / plan.lanes, at[2];
    typename P::state s[1] = {p.start()};
    if (output < plan.outputs) {
        walk_offsets(plan.kept, output, at);
        if (plan.reduced.numel > 0) p.see(widen(x[at[0]]));
        add_row<V>(p, plan, x + at[0], lane, s[0]);
    }
    join_lanes<1>(p, s, room, lane, plan.lanes, 1);
    if (lane == 0 && output < plan.outputs) put_state(p, plan, states, output, at[1], room[threadIdx.x]);
}

/* N rows, `lanes` apart, of V neighbouring columns. */
template <int N, int V, class P, class T>
__device__ inline void add_rows(const P (&p)[V], const reduce_plan &plan, const T *column, int64_t row,
                                typename P::state (&s)[V])
{
    group<T, V> x[N];
#pragma unroll
    for (int k = 0; k < N; k++) {
        int64_t at[1];
        walk_offsets(plan.reduced, row + k * plan.lanes, at);
        x[k] = load_group<V>(column + at[0]);
    }
#pragma unroll
    for (int v = 0; v < V; v++) {
        typename P::E values[N];
#pragma unroll
        for (int k = 0; k < N; k++) values[k] = widen(x[k].at[v]);
        p[v].add(s[v], values, row, plan.lanes);
    }
}

template <int V, class P, class T>
__global__ void __launch_bounds__(REDUCE_THREADS, 2)
    reduce_columns_kernel(reduce_plan plan, P prototype, const T *x, typename P::state *states)
{
    __shared__ typename P::state room[V * REDUCE_THREADS];
    int lane = threadIdx.x / plan.others;
    int64_t set = (int64_t)blockIdx.x * plan.others + threadIdx.x % plan.others, at[2];
    int64_t n = plan.reduced.numel, row = n * blockIdx.y / plan.parts + lane;
    int64_t to = n * (blockIdx.y + 1) / plan.parts;
    typename P::state s[V];
    P p[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
        p[v] = prototype;
        s[v] = p[v].start();
    }
    if (set < plan.kept.numel) {
        walk_offsets(plan.kept, set, at);
#pragma unroll
        for (int v = 0; v < V && n > 0; v++) p[v].see(widen(x[at[0] + v]));
        for (; row + (AT_ONCE - 1) * plan.lanes < to; row += AT_ONCE * plan.lanes)
            add_rows<AT_ONCE>(p, plan, x + at[0], row, s);
        for (; row < to; row += plan.lanes) add_rows<1>(p, plan, x + at[0], row, s);
    }
    join_lanes<V>(prototype, s, room, lane, plan.lanes, plan.others);
    if (lane > 0 || set >= plan.kept.numel) return;
#pragma unroll 1 /* a store knows all dtypes */
    for (int v = 0; v < V; v++)
        put_state(prototype, plan, states, set * V + v, at[1] + v * plan.y_step,
                  room[v * REDUCE_THREADS + threadIdx.x]);
}

/* The states of an output's parts; plan.kept counts single outputs here. */
template <class P>
__global__ void __launch_bounds__(REDUCE_THREADS, 2)
    reduce_parts_kernel(reduce_plan plan, P p, const typename P::state *states)
{
    __shared__ typename P::state room[REDUCE_THREADS];
    int lane = threadIdx.x / plan.others;
    int64_t output = (int64_t)blockIdx.x * plan.others + threadIdx.x % plan.others, at[2];
    typename P::state s[1] = {p.start()};
    if (output < plan.outputs)
        for (int part = lane; part < plan.parts; part += plan.lanes)
            s[0] = p.join(s[0], states[part * plan.outputs + output]);
    join_lanes<1>(p, s, room, lane, plan.lanes, plan.others);
    if (lane > 0 || output >= plan.outputs) return;
    walk_offsets(plan.kept, output, at);
    store_number(plan.y, plan.y_dtype, at[1], p.finish(room[threadIdx.x]), plan.accumulate);
}

/* ---- planning ---------------------------------------------------------------------- */

static int power_of_two(int64_t n, int most)
{
    int power = 1;
    while (power < n && power < most) power *= 2;
    return power;
}

struct reduce_dims {
    light_iter kept, reduced; /* x and y; x */
};

static reduce_dims split_dims(const light_tensor *x, const light_tensor *y, uint32_t dims)
{
    const light_tensor *both[] = {x, y};
    reduce_dims r = {};
    r.kept.operands = 2;
    r.reduced.operands = 1;
    for (int d = 0; d < x->ndim; d++) light_iter_add(dims >> d & 1 ? &r.reduced : &r.kept, both, d);
    for (light_iter *it : {&r.kept, &r.reduced}) {
        light_iter_close(it);
        light_iter_sort(it);
        light_iter_coalesce(it);
    }
    return r;
}

static bool along_columns(const reduce_dims &r)
{
    int64_t kept = r.kept.strides[0][r.kept.ndim - 1], reduced = r.reduced.strides[0][r.reduced.ndim - 1];
    return r.kept.numel > 1 && (r.reduced.numel == 1 || (kept != 0 && kept < reduced) || reduced == 0);
}

/* Whether x's fastest of `fast` dims is without gaps and groups of V can be taken along it. A rest is allowed where it is
 * the only dim and `rest` says so. */
static bool groups_fit(const void *x, size_t size, int V, const light_iter &fast, const light_iter &other,
                       bool rest)
{
    int last = fast.ndim - 1;
    if (V == 1 || fast.strides[0][last] != 1 || fast.shape[last] < V || (uintptr_t)x % (size * (size_t)V))
        return false;
    if (fast.shape[last] % V && !(rest && last == 0)) return false;
    for (int d = 0; d < last; d++)
        if (fast.strides[0][d] % V) return false;
    for (int d = 0; d < other.ndim; d++)
        if (other.strides[0][d] % V && other.shape[d] > 1) return false;
    return true;
}

/* Counts groups of V along the fastest dim. */
static void take_groups(light_iter *it, int V)
{
    int last = it->ndim - 1;
    it->shape[last] /= V;
    for (int k = 0; k < it->operands; k++) it->strides[k][last] *= V;
    light_iter_close(it);
}

/* Parts so that the device is filled, each with work for its threads. */
static int parts_for(const light_device *device, int64_t blocks, int64_t steps)
{
    int64_t wanted = (state_of(device)->sm_count * 6 + blocks - 1) / blocks, most = steps / 8;
    if (wanted > most) wanted = most;
    return wanted < 1 ? 1 : wanted > 1024 ? 1024 : (int)wanted;
}

template <class P>
static light_status join_parts(const light_device *device, reduce_plan &plan, const walk<2> &kept, P p,
                               typename P::state *states)
{
    plan.kept = kept;
    plan.others = power_of_two(plan.outputs, COLUMNS_WIDE);
    plan.lanes = REDUCE_THREADS / plan.others;
    return launch(device, reduce_parts_kernel<P>, (unsigned)((plan.outputs + plan.others - 1) / plan.others),
                  REDUCE_THREADS, 0, plan, p, states);
}

/* V: the size of groups, where they fit. */
template <int V, class T, class P>
static light_status reduce_with(const light_kernel_args *args, const reduce_dims &given, P p, bool columns)
{
    reduce_dims r = given;
    const light_device *device = args->device;
    light_tensor *y = args->out[0];
    light_iter *fast = columns ? &r.kept : &r.reduced;
    reduce_plan plan = {};
    typename P::state *states = NULL;
    int last = fast->ndim - 1;
    plan.y = y->data;
    plan.y_dtype = y->dtype;
    plan.accumulate = args->accumulate & 1;
    plan.outputs = y->numel;
    plan.y_step = r.kept.strides[1][r.kept.ndim - 1];
    if (V > 1) {
        plan.tail = (int)(fast->shape[last] % V);
        take_groups(fast, V);
    }
    plan.kept = walk_over<2>(r.kept);
    plan.reduced = walk_over<1>(r.reduced);
    if (columns) {
        plan.others = power_of_two(r.kept.numel, COLUMNS_WIDE);
        plan.lanes = REDUCE_THREADS / plan.others;
    } else {
        plan.lanes = power_of_two((r.reduced.numel + 3) / 4, REDUCE_THREADS);
        plan.others = REDUCE_THREADS / plan.lanes;
    }
    int64_t blocks = (r.kept.numel + plan.others - 1) / plan.others;
    plan.parts = parts_for(device, blocks, r.reduced.numel / plan.lanes);
    if (plan.parts > 1)
        LIGHT_TRY(scratch(device, sizeof *states * (size_t)(plan.outputs * plan.parts), (void **)&states));
    LIGHT_TRY(launch(device, columns ? reduce_columns_kernel<V, P, T> : reduce_rows_kernel<V, P, T>,
                     dim3((unsigned)blocks, (unsigned)plan.parts), REDUCE_THREADS, 0, plan, p,
                     (const T *)args->in[0]->data, states));
    return plan.parts > 1 ? join_parts(device, plan, walk_over<2>(given.kept), p, states) : LIGHT_OK;
}

/* In groups of 16 bytes where it pays: floats of at most 32 bits. */
template <class T, class P> static light_status reduce_as(const light_kernel_args *args, uint32_t dims, P p)
{
    constexpr int V = std::is_integral<T>::value || sizeof(T) == 8 ? 1 : 16 / sizeof(T);
    const light_tensor *x = args->in[0];
    if (args->out[0]->numel == 0) return LIGHT_OK;
    reduce_dims r = split_dims(x, args->out[0], dims);
    bool columns = along_columns(r);
    if (groups_fit(x->data, sizeof(T), V, columns ? r.kept : r.reduced, columns ? r.reduced : r.kept,
                   !columns))
        return reduce_with<V, T>(args, r, p, columns);
    return reduce_with<1, T>(args, r, p, columns);
}

/* ---- the reductions ---------------------------------------------------------------- */

template <class E> static reduce_extremum<E> extremum(bool min)
{
    if constexpr (std::is_integral<E>::value)
        return reduce_extremum<E>{min, min ? INT64_MAX : INT64_MIN};
    else
        return reduce_extremum<E>{min, min ? (E)INFINITY : (E)-INFINITY};
}

template <class T>
static light_status reduce_integers(const light_kernel_args *args, const light_reduce_attrs *attrs)
{
    if (attrs->code == LIGHT_REDUCE_SUM) return reduce_as<T>(args, attrs->dims, reduce_sum<int64_t>{1});
    return reduce_as<T>(args, attrs->dims, extremum<int64_t>(attrs->code == LIGHT_REDUCE_MIN));
}

static double reduced_count(const light_tensor *x, uint32_t dims)
{
    double count = 1;
    for (int d = 0; d < x->ndim; d++)
        if (dims >> d & 1) count *= (double)x->shape[d];
    return count;
}

template <class T>
static light_status reduce_floats(const light_kernel_args *args, const light_reduce_attrs *attrs)
{
    using E = real_of<T>;
    double n = reduced_count(args->in[0], attrs->dims);
    switch ((light_reduce)attrs->code) {
    case LIGHT_REDUCE_SUM: return reduce_as<T>(args, attrs->dims, reduce_sum<E>{1});
    case LIGHT_REDUCE_MEAN: return reduce_as<T>(args, attrs->dims, reduce_sum<E>{n});
    case LIGHT_REDUCE_VAR:
        return reduce_as<T>(
            args, attrs->dims,
            reduce_variance<E>{n, n > attrs->correction ? n - attrs->correction : (double)NAN, 0});
    case LIGHT_REDUCE_LOGSUMEXP: return reduce_as<T>(args, attrs->dims, reduce_logsumexp<E>{});
    default: return reduce_as<T>(args, attrs->dims, extremum<E>(attrs->code == LIGHT_REDUCE_MIN));
    }
}

static light_status reduce(const light_kernel_args *args)
{
    const light_reduce_attrs *attrs = (const light_reduce_attrs *)args->attrs;
    return by_dtype(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        if constexpr (std::is_integral<T>::value)
            return reduce_integers<T>(args, attrs);
        else
            return reduce_floats<T>(args, attrs);
    });
}

static light_status arg_reduce(const light_kernel_args *args)
{
    const light_arg_reduce_attrs *attrs = (const light_arg_reduce_attrs *)args->attrs;
    return by_dtype(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return reduce_as<T>(args, 1u << attrs->dim, reduce_place<element_of<T>>{attrs->min});
    });
}

/* ---- gradients ---------------------------------------------------------------------- */

/* Y is the type of the result, or of the mean, which is wider. */
template <class T, class Y> struct reduce_slope {
    using R = real_of<T>;
    int code;
    R scale;
    __device__ R operator()(T gradient, T element, Y result) const
    {
        R g = widen(gradient), x = widen(element), y = widen(result);
        switch (code) {
        case LIGHT_REDUCE_VAR: return g * scale * (x - y);
        case LIGHT_REDUCE_LOGSUMEXP: return g * exp(x - y);
        default: return x == y ? g : 0;
        }
    }
};

/* t with the dims that were reduced repeated. */
static light_tensor repeated(const light_tensor *t, const light_tensor *like)
{
    light_tensor wide = *t;
    for (int d = 0; d < like->ndim; d++) {
        if (t->shape[d] == like->shape[d]) continue;
        wide.shape[d] = like->shape[d];
        wide.strides[d] = 0;
    }
    return wide;
}

template <class T, class Y> static light_status reduce_backward_as(const light_kernel_args *args)
{
    const light_reduce_attrs *attrs = (const light_reduce_attrs *)args->attrs;
    const light_tensor *x = args->in[1];
    light_tensor g = repeated(args->in[0], x), y = repeated(args->in[2], x);
    double n = reduced_count(x, attrs->dims);
    reduce_slope<T, Y> f = {attrs->code, (real_of<T>)(2 / (n - attrs->correction))};
    return map<T, T, T, Y>::run(args->device, f, args->accumulate & 1, args->out[0], &g, x, &y);
}

static light_status reduce_backward(const light_kernel_args *args)
{
    return by_float(args->in[1]->dtype, [&](auto type) {
        using T = decltype(type);
        if (args->in[2]->dtype != args->in[1]->dtype) return reduce_backward_as<T, real_of<T>>(args);
        return reduce_backward_as<T, T>(args);
    });
}

extern const kernel_entry reduce_kernels[] = {
    {LIGHT_KERNEL_REDUCE, reduce},
    {LIGHT_KERNEL_REDUCE_BACKWARD, reduce_backward},
    {LIGHT_KERNEL_ARG_REDUCE, arg_reduce},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
