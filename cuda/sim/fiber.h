/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: stacks of their own that are switched between by hand. A fiber never returns. */
#ifndef LIGHT_CUDA_SIM_FIBER_H
#define LIGHT_CUDA_SIM_FIBER_H

#include <cstddef>

namespace sim
{

struct fiber {
    void *at = nullptr; /* where it goes on: a stack pointer, or a ucontext_t */
    char *stack = nullptr;
    /* What the sanitizers want to know of it. */
    void *fake_stack = nullptr, *tsan = nullptr;
    const void *bottom = nullptr;
    size_t size = 0;
};

/* NULL: no memory. */
fiber *new_fiber(void (*entry)());
/* Forgets what it was doing; it will start anew. */
void restart_fiber(fiber *f, void (*entry)());
/* `from` is the one that runs; an empty one stands for the caller's own stack. */
void switch_fiber(fiber *from, fiber *to);
/* To be called first by an entry. */
void entered_fiber();

} // namespace sim

#endif
