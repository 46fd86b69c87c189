/* SPDX-License-Identifier: Apache-2.0 */
/* How a kernel says what it found wrong: the host looks at it later, without waiting. */
#ifndef LIGHT_CUDA_FAULT_CUH
#define LIGHT_CUDA_FAULT_CUH

#include "cuda/device.h"

namespace light
{

/* Notes a fault unless there is one already. Threads that meet here are of one launch, so they differ in `value` alone,
 * and each of their values is a right answer. The kind comes last: with it the fault is there for the host. */
__device__ inline void note_fault(fault *to, int kind, int kernel, int64_t value, int64_t limit)
{
    volatile fault *f = to;
    if (f->kind != FAULT_NONE) return;
    f->kernel = kernel;
    f->value = value;
    f->limit = limit;
    __threadfence_system();
    f->kind = kind;
}

/* Whether an index is in [0, limit); if not, it is noted. */
__device__ inline bool check_index(fault *to, int kernel, int64_t index, int64_t limit)
{
    if (index >= 0 && index < limit) return true;
    note_fault(to, FAULT_INDEX, kernel, index, limit);
    return false;
}

} // namespace light

#endif
