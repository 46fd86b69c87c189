/* SPDX-License-Identifier: Apache-2.0 */
/* What the mpi communicator takes beside plain calls of MPI in the same processes, in turns, and the bytes it counts beside
 * the formulas:
 *
 *     mpirun -np 2 build/bench/communicators
 *
 * Each figure is the middle of some rounds, of the slowest rank in each. Plain MPI runs with MPI_THREAD_MULTIPLE, since two
 * threads use it here. */
#include "common/bench.h"

#include "strategies/communicators.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 15 };

static const int64_t sizes[] = {8, 1 << 12, 1 << 16, 1 << 20, 25 << 20, 100 << 20}; /* bytes of the whole */
static const light_collective_kind kinds[] = {LIGHT_ALL_REDUCE, LIGHT_REDUCE_SCATTER, LIGHT_ALL_GATHER,
                                              LIGHT_BROADCAST};

typedef struct side {
    light_communicator *c;
    light_collective call;
} side;

static light_status ours(const side *s)
{
    return light_communicate(s->c, &s->call);
}

static light_status plain(const side *s)
{
    int n = (int)s->call.count;
    const void *in = s->call.in;
    void *out = s->call.out;
    switch (s->call.kind) {
    case LIGHT_ALL_REDUCE: MPI_Allreduce(in, out, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); break;
    case LIGHT_REDUCE_SCATTER:
        MPI_Reduce_scatter_block(in, out, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        break;
    case LIGHT_ALL_GATHER: MPI_Allgather(in, n, MPI_FLOAT, out, n, MPI_FLOAT, MPI_COMM_WORLD); break;
    default: MPI_Bcast(out, n, MPI_FLOAT, 0, MPI_COMM_WORLD); break;
    }
    return LIGHT_OK;
}

/* Seconds of one call, of the slowest rank. */
static light_status time_call(const side *s, light_status (*run)(const side *), int repeats, double *seconds)
{
    LIGHT_TRY(light_barrier(s->c, "a round"));
    *seconds = bench_now();
    for (int i = 0; i < repeats; i++) LIGHT_TRY(run(s));
    *seconds = (bench_now() - *seconds) / repeats;
    return light_reduce_doubles(s->c, seconds, 1, LIGHT_COMBINE_MAX, "the slowest");
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static light_status compare(const side *s, int64_t bytes)
{
    double mine[ROUNDS], theirs[ROUNDS], warm;
    int repeats = bytes < 1 << 20 ? 20 : 1;
    LIGHT_TRY(time_call(s, ours, repeats, &warm));
    LIGHT_TRY(time_call(s, plain, repeats, &warm));
    for (int i = 0; i < ROUNDS; i++) {
        LIGHT_TRY(time_call(s, ours, repeats, &mine[i]));
        LIGHT_TRY(time_call(s, plain, repeats, &theirs[i]));
    }
    qsort(mine, ROUNDS, sizeof *mine, ascending);
    qsort(theirs, ROUNDS, sizeof *theirs, ascending);
    double a = mine[ROUNDS / 2], b = theirs[ROUNDS / 2];
    if (s->c->rank == 0)
        printf("%-15s %10lld  %10.1f us %8.2f GB/s  %10.1f us %8.2f GB/s  %6.2f\n",
               light_collective_names[s->call.kind], (long long)bytes, 1e6 * a, 1e-9 * (double)bytes / a,
               1e6 * b, 1e-9 * (double)bytes / b, b / a);
    return LIGHT_OK;
}

static light_status compare_all(light_communicator *c, float *in, float *out)
{
    if (c->rank == 0)
        printf("%-15s %10s  %13s %13s  %13s %13s  %6s\n", "f32", "bytes", "liblight", "", "plain MPI", "",
               "ratio");
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            bool parts = kinds[k] == LIGHT_REDUCE_SCATTER || kinds[k] == LIGHT_ALL_GATHER;
            int64_t count = sizes[i] / 4 / (parts ? c->size : 1);
            side s = {c, {.kind = kinds[k], .in = in, .out = out, .count = count, .dtype = LIGHT_F32}};
            if (kinds[k] == LIGHT_BROADCAST) s.call.in = s.call.out;
            if (count) LIGHT_TRY(compare(&s, sizes[i]));
        }
    return LIGHT_OK;
}

/* Bytes that one rank sends in a call of `whole` bytes, as a part of them. */
static light_status count_bytes(light_communicator *c, float *in, float *out)
{
    static const double rounds[] = {2, 1, 1, 1};
    double n = c->size;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        bool parts = kinds[k] == LIGHT_REDUCE_SCATTER || kinds[k] == LIGHT_ALL_GATHER;
        int64_t whole = 840 * 4 * c->size; /* divides evenly */
        light_collective call = {.kind = kinds[k], .in = in, .out = out, .dtype = LIGHT_F32};
        call.count = whole / 4 / (parts ? c->size : 1);
        uint64_t before = c->bytes;
        LIGHT_TRY(light_communicate(c, &call));
        double formula = rounds[k] * (n - 1) / n * (double)whole;
        if (c->rank == 0)
            printf("%-15s %10lld bytes: %10llu counted, %10.0f by the formula%s\n",
                   light_collective_names[kinds[k]], (long long)whole,
                   (unsigned long long)(c->bytes - before), formula,
                   (double)(c->bytes - before) == formula ? "" : "  DIFFERENT");
    }
    return LIGHT_OK;
}

static light_status run(void)
{
    light_communicator *c;
    size_t bytes = (size_t)sizes[sizeof sizes / sizeof *sizes - 1];
    float *in = calloc(1, bytes), *out = calloc(1, bytes);
    if (!in || !out) return light_fail(LIGHT_ERR_MEMORY, "no memory for the arrays");
    LIGHT_TRY(light_mpi_communicator_new(&c));
    light_status status = count_bytes(c, in, out);
    if (status == LIGHT_OK && c->size > 1) status = compare_all(c, in, out);
    light_communicator_free(c);
    free(in);
    free(out);
    return status;
}

int main(int argc, char **argv)
{
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    light_status status = run();
    if (status != LIGHT_OK) MPI_Abort(MPI_COMM_WORLD, bench_exit(status));
    MPI_Finalize();
    return 0;
}
