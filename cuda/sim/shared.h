/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory, which holds NaN when a block begins. */
#ifndef LIGHT_CUDA_SIM_SHARED_H
#define LIGHT_CUDA_SIM_SHARED_H

#include <cstddef>

namespace sim
{

/* For the blocks of a launch. */
void begin_shared(const void *kernel, size_t bytes);
/* Before each block: the dynamic part, fresh; the static part is too. */
unsigned char *fresh_shared();
void end_shared();

} // namespace sim

#endif
