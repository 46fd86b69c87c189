/* SPDX-License-Identifier: Apache-2.0 */
/* The threads of the CPU backend: the one that calls, and others that wait for work, spinning for a moment and then
 * asleep. Nobody waits for a thread that has not come: what it would have done is done by those who are there, so work
 * goes on at full speed when other programs hold the cores. Results must not depend on who does what.
 *
 * One caller at a time has the team; another thread that calls meanwhile, and a call from inside, work alone. */
#ifndef LIGHT_CPU_ONCE_TEAM_H
#define LIGHT_CPU_ONCE_TEAM_H

#include <stdbool.h>
#include <stdint.h>

enum { LIGHT_TEAM_MOST = 128 };

/* Threads that a call from here may use, at most LIGHT_TEAM_MOST: OMP_NUM_THREADS or the number of cores; 1 inside. */
int light_team_size(void);
/* For tests. 1 and above; may be more than there are cores. */
void light_set_num_threads(int threads);

/* Calls fn once for each i from 0 to n - 1. No two calls with one rank, below light_team_size(), run at a time. When it
 * does not pay, all run here, in order, with rank 0. */
typedef void (*light_task_each)(void *context, int64_t i, int rank);
void light_team_each(bool pays, int64_t n, light_task_each fn, void *context);

/* Calls fn at once on `size` threads, ranks 0 to size - 1, where size is as many as come in `patience` nanoseconds. */
typedef void (*light_crew_fn)(void *context, int rank, int size);
void light_team_crew(int64_t patience, light_crew_fn fn, void *context);
/* Inside a crew: waits for all its `size` members. */
void light_crew_barrier(int size);

#endif
