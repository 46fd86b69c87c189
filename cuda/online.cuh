/* SPDX-License-Identifier: Apache-2.0 */
/* The largest of some numbers and the sum of exp(x - largest), in one pass: what is summed so far is scaled when a larger
 * number comes. (M. Milakov, N. Gimelshein: Online normalizer calculation for softmax. 2018.) */
#ifndef LIGHT_CUDA_ONLINE_CUH
#define LIGHT_CUDA_ONLINE_CUH

#include "cuda/block.cuh"
#include "cuda/math.cuh"

namespace light
{

/* Terms are relative to `most`, or to 0 where that is infinite: inf - inf would be NaN. NaN is not taken for the largest,
 * it comes with the sum. A few neighbours are added in R, all others in double. */
template <class R> struct online_sum {
    R most;
    double sum;

    __device__ static online_sum empty()
    {
        return online_sum{(R)-INFINITY, 0};
    }

    __device__ static R center(R most)
    {
        return most - most == 0 ? most : 0;
    }

    __device__ void move(R largest)
    {
        if (largest == most) return;
        if (sum != 0) sum *= exp(center(most) - center(largest));
        most = largest;
    }

    template <int N> __device__ void add(const R (&x)[N])
    {
        R largest = most, part = 0;
#pragma unroll
        for (int k = 0; k < N; k++) largest = x[k] > largest ? x[k] : largest;
#pragma unroll
        for (int k = 0; k < N; k++) part += exp(x[k] - center(largest));
        move(largest);
        sum += part;
    }

    __device__ void join(online_sum other)
    {
        R largest = other.most > most ? other.most : most;
        move(largest);
        other.move(largest);
        sum += other.sum;
    }

    __device__ R logarithm() const
    {
        return center(most) + (R)log(sum);
    }
};

/* Of a row that has a warp or the whole block (see lanes_reduce); each of its threads gets it. The rooms have 32 places. */
template <class R>
__device__ inline online_sum<R> lanes_join(online_sum<R> mine, int lanes, R *room, double *sums)
{
    R most = lanes_reduce(mine.most, max_of{}, (R)-INFINITY, lanes, room);
    mine.move(most);
    return online_sum<R>{most, lanes_reduce(mine.sum, sum_of{}, 0.0, lanes, sums)};
}

} // namespace light

#endif
