/* SPDX-License-Identifier: Apache-2.0 */
/* Scalar losses: every block adds up its share in double, then one block adds these sums in order. */
#ifndef LIGHT_CUDA_LOSS_CUH
#define LIGHT_CUDA_LOSS_CUH

#include "cuda/block.cuh"
#include "cuda/number.cuh"

namespace light
{

enum { LOSS_THREADS = 256, LOSS_BLOCKS = 8 /* most for each multiprocessor */ };

struct loss_sum {
    double sum, weight;
};

/* A block's sum; every thread brings its own. `room` has 32 places. */
__device__ inline void put_loss_sum(loss_sum *sums, double sum, double weight, double *room)
{
    sum = block_reduce(sum, sum_of{}, 0.0, room);
    weight = block_reduce(weight, sum_of{}, 0.0, room);
    if (threadIdx.x == 0) sums[blockIdx.x] = loss_sum{sum, weight};
}

/* The sum of all into y, divided by all weights for a mean, and the weights into total, where these are. */
struct loss_end {
    void *y, *total;
    int y_dtype, total_dtype;
    bool mean;
};

/* loss.cu */
light_status finish_loss(const light_device *device, const loss_end &end, const loss_sum *sums, unsigned n);

inline unsigned loss_blocks(const light_device *device, int64_t n)
{
    int64_t most = (int64_t)state_of(device)->sm_count * LOSS_BLOCKS;
    return (unsigned)(n < 1 ? 1 : n < most ? n : most);
}

} // namespace light

#endif
