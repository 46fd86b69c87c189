/* SPDX-License-Identifier: Apache-2.0 */
/* Losses element by element, and their gradients. */
#include "cuda/loss.cuh"

#include "cuda/map.cuh"
#include "cuda/math.cuh"

#include <light/ops.h>

namespace light
{

/* ---- scalars ------------------------------------------------------------------------ */

static __global__ void __launch_bounds__(LOSS_THREADS)
    finish_loss_kernel(loss_end end, const loss_sum *sums, unsigned n)
{
    __shared__ double room[32];
    double sum = 0, weight = 0;
    for (unsigned i = threadIdx.x; i < n; i += LOSS_THREADS) {
        sum += sums[i].sum;
        weight += sums[i].weight;
    }
    sum = block_reduce(sum, sum_of{}, 0.0, room);
    weight = block_reduce(weight, sum_of{}, 0.0, room);
    if (threadIdx.x > 0) return;
    if (end.total) store_number(end.total, end.total_dtype, 0, weight, false);
    if (end.y) store_number(end.y, end.y_dtype, 0, end.mean ? sum / weight : sum, false);
}

light_status finish_loss(const light_device *device, const loss_end &end, const loss_sum *sums, unsigned n)
{
    return launch(device, finish_loss_kernel, 1, LOSS_THREADS, 0, end, sums, n);
}

/* ---- values --------------------------------------------------------------------------- */

struct loss_kind {
    int kind;
    bool log_target;
    double delta;
};

static loss_kind kind_of(const light_kernel_args *args)
{
    const light_loss_attrs *attrs = (const light_loss_attrs *)args->attrs;
    return loss_kind{attrs->kind, attrs->log_target, attrs->delta};
}

/* -log(sigmoid(x)) */
template <class R> __device__ static R sigmoid_miss(R x)
{
    return log1p(exp(-fabs(x))) + (x < 0 ? -x : 0);
}

template <class R> __device__ static R huber(R d, R delta)
{
    return d < delta ? R(0.5) * d * d : delta * (d - R(0.5) * delta);
}

template <class T> struct loss_value {
    using R = real_of<T>;
    loss_kind loss;
    __device__ R value(R x, R t, R w) const
    {
        switch (loss.kind) {
        case LIGHT_LOSS_MSE: return (x - t) * (x - t);
        case LIGHT_LOSS_L1: return fabs(x - t);
        case LIGHT_LOSS_HUBER: return huber(fabs(x - t), (R)loss.delta);
        case LIGHT_LOSS_BCE_WITH_LOGITS: return (1 - t) * x + ((w - 1) * t + 1) * sigmoid_miss(x);
        default: /* LIGHT_LOSS_KL_DIV */
            if (loss.log_target) return exp(t) * (t - x);
            return t > 0 ? t * (log(t) - x) : -t * x;
        }
    }
    __device__ R operator()(T x, T t) const
    {
        return value(widen(x), widen(t), 1);
    }
    __device__ R operator()(T x, T t, T w) const
    {
        return value(widen(x), widen(t), widen(w));
    }
};

template <int V, class F, class... X> __device__ inline double group_sum(const F &f, const group<X, V> &...x)
{
    auto part = f(x.at[0]...);
#pragma unroll
    for (int k = 1; k < V; k++) part += f(x.at[k]...);
    return part;
}

template <int V, class F, class... X, size_t... K>
__device__ inline double sum_at(const F &f, const int64_t (&at)[sizeof...(X)], unsigned repeat,
                                std::index_sequence<K...>, const X *...x)
{
    return group_sum<V>(f, load_or_repeat<V>(x + at[K], repeat >> K & 1)...);
}

/* The sum of f(x...), walked as by map_kernel. */
template <int V, class F, class... X>
__global__ void __launch_bounds__(LOSS_THREADS)
    loss_sum_kernel(walk<sizeof...(X)> w, int tail, unsigned repeat, double count, F f, loss_sum *sums,
                    const X *...x)
{
    constexpr auto operands = std::make_index_sequence<sizeof...(X)>{};
    __shared__ double room[32];
    int64_t at[sizeof...(X)];
    double sum = 0;
    for (int64_t i = first_element(); i < w.numel; i += grid_stride()) {
        walk_offsets(w, i, at);
        sum += sum_at<V>(f, at, repeat, operands, x...);
    }
    if (first_element() < tail) {
        for (size_t k = 0; k < sizeof...(X); k++) at[k] = repeat >> k & 1 ? 0 : w.numel * V + first_element();
        sum += sum_at<1>(f, at, 0, operands, x...);
    }
    put_loss_sum(sums, sum, first_element() == 0 ? count : 0, room);
}

template <class T, class> using same = T;

template <class T, class... A> static light_status sum_losses(const light_kernel_args *args, const A *...x)
{
    constexpr int K = sizeof...(A), V = pack<T>::size;
    const light_device *device = args->device;
    const void *data[] = {x->data...};
    size_t sizes[K];
    int tail = 0;
    unsigned repeat = 0;
    loss_sum *sums;
    for (size_t &size : sizes) size = sizeof(T);
    walk<K> w = walk_of<K>({x...});
    double count = (double)w.numel;
    bool groups = group_walk(w, V, data, sizes, &tail, &repeat);
    unsigned blocks = loss_blocks(device, (w.numel + LOSS_THREADS - 1) / LOSS_THREADS);
    auto kernel = groups ? loss_sum_kernel<V, loss_value<T>, same<T, A>...>
                         : loss_sum_kernel<1, loss_value<T>, same<T, A>...>;
    LIGHT_TRY(scratch(device, blocks * sizeof *sums, (void **)&sums));
    LIGHT_TRY(launch(device, kernel, blocks, LOSS_THREADS, 0, w, tail, repeat, count,
                     loss_value<T>{kind_of(args)}, sums, (const T *)x->data...));
    light_tensor *y = args->out[0];
    bool mean = ((const light_loss_attrs *)args->attrs)->reduction == LIGHT_MEAN;
    return finish_loss(device, loss_end{y->data, NULL, y->dtype, 0, mean}, sums, blocks);
}

static light_status loss(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0], *target = args->in[1], *weight = args->in[2];
    bool each = ((const light_loss_attrs *)args->attrs)->reduction == LIGHT_NONE;
    return by_float(x->dtype, [&](auto type) {
        using T = decltype(type);
        loss_value<T> f = {kind_of(args)};
        if (!each) return weight ? sum_losses<T>(args, x, target, weight) : sum_losses<T>(args, x, target);
        if (weight) return map<T, T, T, T>::run(args->device, f, false, args->out[0], x, target, weight);
        return map<T, T, T>::run(args->device, f, false, args->out[0], x, target);
    });
}

/* ---- gradients ------------------------------------------------------------------------- */

enum loss_operand { LOSS_X, LOSS_TARGET, LOSS_WEIGHT };

/* The gradient of one operand. */
template <class T> struct loss_slope {
    using R = real_of<T>;
    loss_kind loss;
    int of;
    R scale;
    __device__ R distance_slope(R d) const
    {
        R delta = (R)loss.delta;
        switch (loss.kind) {
        case LIGHT_LOSS_MSE: return 2 * d;
        case LIGHT_LOSS_L1: return (R)((d > 0) - (d < 0));
        default: return d < -delta ? -delta : d > delta ? delta : d; /* LIGHT_LOSS_HUBER */
        }
    }
    __device__ R bce_slope(R x, R t, R w) const
    {
        if (of == LOSS_X) return ((w - 1) * t + 1) * sigmoid(x) - w * t;
        return of == LOSS_TARGET ? (w - 1) * sigmoid_miss(x) - x : t * sigmoid_miss(x);
    }
    __device__ R kl_slope(R x, R t) const
    {
        R p = loss.log_target ? exp(t) : t;
        if (of == LOSS_X) return -p;
        if (loss.log_target) return p * (t - x + 1);
        return t > 0 ? log(t) + 1 - x : 0;
    }
    __device__ R slope(R x, R t, R w) const
    {
        if (loss.kind == LIGHT_LOSS_BCE_WITH_LOGITS) return bce_slope(x, t, w);
        if (loss.kind == LIGHT_LOSS_KL_DIV) return kl_slope(x, t);
        return of == LOSS_X ? distance_slope(x - t) : -distance_slope(x - t);
    }
    __device__ R operator()(T g, T x, T t) const
    {
        return slope(widen(x), widen(t), 1) * (widen(g) * scale);
    }
    __device__ R operator()(T g, T x, T t, T w) const
    {
        return slope(widen(x), widen(t), widen(w)) * (widen(g) * scale);
    }
};

template <class T> static light_status loss_gradient(const light_kernel_args *args, int of)
{
    const light_tensor *g = args->in[0], *x = args->in[1], *target = args->in[2], *weight = args->in[3];
    light_tensor *out = args->out[of];
    bool mean = ((const light_loss_attrs *)args->attrs)->reduction == LIGHT_MEAN;
    bool accumulate = args->accumulate >> of & 1;
    loss_slope<T> f = {kind_of(args), of, (real_of<T>)(mean ? 1 / (double)x->numel : 1)};
    if (weight) return map<T, T, T, T, T>::run(args->device, f, accumulate, out, g, x, target, weight);
    return map<T, T, T, T>::run(args->device, f, accumulate, out, g, x, target);
}

static light_status loss_backward(const light_kernel_args *args)
{
    return by_float(args->in[1]->dtype, [&](auto type) {
        for (int of = LOSS_X; of <= LOSS_WEIGHT; of++)
            if (args->out[of]) LIGHT_TRY(loss_gradient<decltype(type)>(args, of));
        return LIGHT_OK;
    });
}

extern const kernel_entry loss_kernels[] = {
    {LIGHT_KERNEL_LOSS, loss},
    {LIGHT_KERNEL_LOSS_BACKWARD, loss_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
