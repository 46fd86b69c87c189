/* SPDX-License-Identifier: Apache-2.0 */
/* A thread block on the host: its threads are fibers, which run until they wait for each other. One block runs at a
 * time. What threads do wrong together ends the kernel with an error that stays, as on a GPU. */
#ifndef LIGHT_CUDA_SIM_BLOCK_H
#define LIGHT_CUDA_SIM_BLOCK_H

#include "cuda/sim/error.h"
#include "cuda/sim/vector.h"

#include <cstring>
#include <functional>

/* Of the thread that runs. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace sim
{

/* A place in a kernel, for messages and to tell barriers apart. */
struct site {
    const char *file;
    int line;
};
/* As a default argument: where the caller stands. */
inline site here(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return {file, line};
}

/* What the last lane of a warp operation does for all: lanes[i] is what lane i brought, NULL if it takes no part. */
using warp_work = void (*)(void *const (&lanes)[32]);

enum thread_state { THREAD_NEW, THREAD_RUNS, THREAD_READY, THREAD_AT_BARRIER, THREAD_IN_WARP, THREAD_EXITED };

struct thread {
    uint3 index;
    int number, lane, warp; /* the lane in the warp */
    thread_state state;
    site at; /* where it waits */
    unsigned mask;
    warp_work work;
    void *mine;
    int commits; /* groups of copies (mma.h) */
    struct fiber *on;
};

extern thread *current;              /* NULL outside of kernels */
extern unsigned char *shared_memory; /* the dynamic part */

/* In which order the threads of a block, and the blocks of a grid, run: 0 as they are numbered, 1 backwards, else at
 * random with this seed. LIGHT_SIM_ORDER=forward|reverse|N. A kernel without races gives the same bits in all. */
extern unsigned order;
unsigned next_random(unsigned *state);

/* Threads of a size for the blocks that follow. */
void prepare_block(dim3 size, unsigned seed);
/* Runs a block. False: an error, see fail. */
bool run_block(const std::function<void()> &body);
/* Ends the kernel with cudaErrorLaunchFailure and a text. */
[[noreturn]] void fail_kernel(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Waits for all threads that have not exited; how many of them brought true. */
int barrier(bool brought, site at);
/* Waits for the lanes of the mask, of which the last does the work. */
void warp_gather(unsigned mask, void *mine, warp_work work, site at);

/* Copies that a thread has asked for and not waited for: see mma.h. */
void copy_later(void *to, const void *from, size_t bytes, bool valid);
void copies_commit();
/* Those of the thread's last `groups` groups may be missing; -1: none, committed or not. */
void copies_wait(int groups);

/* ---- shuffles --------------------------------------------------------------------- */

template <class T> struct shuffle_lane {
    T value, result;
    int source;
};

/* A lane that takes no part gives NaN. */
template <class T> void shuffle(void *const (&lanes)[32])
{
    for (void *lane : lanes) {
        if (!lane) continue;
        shuffle_lane<T> *to = (shuffle_lane<T> *)lane;
        if (to->source < 32 && lanes[to->source])
            memcpy(&to->result, &((shuffle_lane<T> *)lanes[to->source])->value, sizeof(T));
        else
            memset((void *)&to->result, 0xff, sizeof(T));
    }
}

template <class T> T shuffled(unsigned mask, T value, int source, site at)
{
    shuffle_lane<T> mine = {value, value, source};
    warp_gather(mask, &mine, shuffle<T>, at);
    return mine.result;
}

struct vote_lane {
    bool vote;
    unsigned votes;
};
void count_votes(void *const (&lanes)[32]);
void nothing(void *const (&lanes)[32]);

} // namespace sim

/* ---- what kernels call ---------------------------------------------------------------- */

inline void __syncthreads(sim::site at = sim::here())
{
    sim::barrier(false, at);
}
inline int __syncthreads_count(int p, sim::site at = sim::here())
{
    return sim::barrier(p, at);
}
inline int __syncthreads_and(int p, sim::site at = sim::here())
{
    return sim::barrier(!p, at) == 0;
}
inline int __syncthreads_or(int p, sim::site at = sim::here())
{
    return sim::barrier(p, at) != 0;
}
inline void __syncwarp(unsigned mask = ~0u, sim::site at = sim::here())
{
    sim::warp_gather(mask, &mask, sim::nothing, at);
}
template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32, sim::site at = sim::here())
{
    int first = sim::current->lane & ~(width - 1);
    return sim::shuffled(mask, value, first + (from & (width - 1)), at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, sim::site at = sim::here())
{
    int lane = sim::current->lane, from = lane ^ bits;
    return sim::shuffled(mask, value, (from & ~(width - 1)) > (lane & ~(width - 1)) ? lane : from, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, sim::site at = sim::here())
{
    int lane = sim::current->lane, from = lane + (int)by;
    return sim::shuffled(mask, value, from >= (lane & ~(width - 1)) + width ? lane : from, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, sim::site at = sim::here())
{
    int lane = sim::current->lane, from = lane - (int)by;
    return sim::shuffled(mask, value, from < (lane & ~(width - 1)) ? lane : from, at);
}
inline unsigned __ballot_sync(unsigned mask, int p, sim::site at = sim::here())
{
    sim::vote_lane mine = {p != 0, 0};
    sim::warp_gather(mask, &mine, sim::count_votes, at);
    return mine.votes;
}
inline int __any_sync(unsigned mask, int p, sim::site at = sim::here())
{
    return __ballot_sync(mask, p, at) != 0;
}
inline int __all_sync(unsigned mask, int p, sim::site at = sim::here())
{
    return __ballot_sync(mask, !p, at) == 0;
}

#endif
