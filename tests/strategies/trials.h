/* SPDX-License-Identifier: Apache-2.0 */
/* One collective on made-up numbers, compared with what it should give: every rank knows the numbers of all. */
#ifndef LIGHT_TESTS_STRATEGIES_TRIALS_H
#define LIGHT_TESTS_STRATEGIES_TRIALS_H

#include "support/tensors.h"

#include "base/memory.h"
#include "strategies/communicators.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, MOST_RANKS = 8 };

/* Fails the test with the message. */
static inline void assert_ok(light_status status)
{
    if (status != LIGHT_OK) fail_msg("%s", light_error_message());
}

static inline void convert(void *to, light_dtype to_dtype, const void *from, light_dtype from_dtype,
                           int64_t n)
{
    light_tensor x = {.data = (char *)(uintptr_t)from, .dtype = (uint8_t)from_dtype};
    light_tensor y = {.data = to, .dtype = (uint8_t)to_dtype};
    light_tensor_set_shape(&x, LIGHT_SHAPE(n));
    light_tensor_set_shape(&y, LIGHT_SHAPE(n));
    light_kernel_args args = {.device = light_device_cpu(), .in = {&x}, .out = {&y}};
    assert_ok(args.device->backend->kernels[LIGHT_KERNEL_COPY](&args));
}

/* Element i of what rank r has: as many bits as the dtype has, so that sums are rounded. */
static double number(light_dtype dtype, int r, int64_t i)
{
    uint64_t hash = ((uint64_t)i * 8191 + (uint64_t)r + 1) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 32;
    if (dtype == LIGHT_BOOL) return (double)(hash & 1);
    if (dtype == LIGHT_U8) return (double)(hash & 255);
    if (!light_dtype_is_floating(dtype)) return (double)(hash & 0xFFFFF) - 0x80000;
    int bits = dtype == LIGHT_BF16 ? 8 : dtype == LIGHT_F16 ? 11 : dtype == LIGHT_F32 ? 24 : 31;
    double half = (double)(1 << (bits - 1));
    return (double)(hash & ((1u << bits) - 1)) / half * 2 - 2;
}

/* ---- what should come out -------------------------------------------------------- */

/* Sums as they are kept: f32 for f32 and less. */
static double kept(light_dtype dtype, double x)
{
    return light_dtype_is_floating(dtype) && dtype != LIGHT_F64 ? (double)(float)x : x;
}

static double join(light_dtype dtype, light_combine combine, double a, double b)
{
    if (combine == LIGHT_COMBINE_SUM) return kept(dtype, a + b);
    return (combine == LIGHT_COMBINE_MIN) == (a < b) ? a : b;
}

/* The tree by the book: leaves are put on a stack, two trees of one size at its top become one, the rest joins from the
 * right. */
static double by_tree(light_dtype dtype, light_combine combine, const double *leaves, int n)
{
    double trees[MOST_RANKS + 1];
    int sizes[MOST_RANKS + 1], top = 0;
    for (int i = 0; i < n; i++) {
        trees[top] = leaves[i];
        sizes[top++] = 1;
        for (; top > 1 && sizes[top - 1] == sizes[top - 2]; top--) {
            trees[top - 2] = join(dtype, combine, trees[top - 2], trees[top - 1]);
            sizes[top - 2] *= 2;
        }
    }
    for (; top > 1; top--) trees[top - 2] = join(dtype, combine, trees[top - 2], trees[top - 1]);
    return trees[0];
}

static double expected_combination(const light_collective *call, int ranks, int64_t i)
{
    double leaves[MOST_RANKS];
    int n = call->contributors ? call->contributors : ranks;
    for (int r = 0; r < n; r++) leaves[r] = number(call->dtype, r, i);
    double sum = by_tree(call->dtype, call->combine, leaves, n);
    return call->dtype == LIGHT_U8 ? (double)((int64_t)sum & 255) : sum;
}

/* Element i of the output of rank `me`. */
static double expected(const light_collective *call, int ranks, int me, int64_t i)
{
    int64_t count = call->count;
    switch (call->kind) {
    case LIGHT_ALL_REDUCE: return expected_combination(call, ranks, i);
    case LIGHT_REDUCE_SCATTER: return expected_combination(call, ranks, me * count + i);
    case LIGHT_ALL_GATHER: return number(call->dtype, (int)(i / count), i % count);
    case LIGHT_ALL_TO_ALL: return number(call->dtype, (int)(i / count), me * count + i % count);
    default: return number(call->dtype, call->peer, i);
    }
}

/* How far from the tree a sum in another order may be. */
static double allowed(const light_collective *call, int ranks)
{
    bool sum = call->kind == LIGHT_ALL_REDUCE || call->kind == LIGHT_REDUCE_SCATTER;
    if (!sum || call->ordered || call->combine != LIGHT_COMBINE_SUM || !light_dtype_is_floating(call->dtype))
        return 0;
    double most = 2.0 * ranks, inside = call->dtype == LIGHT_F64 ? 0x1p-52 : 0x1p-23;
    return most * (ranks * inside + dtype_epsilon(call->dtype));
}

/* ---- a trial ------------------------------------------------------------------------ */

/* Arrays on the communicator's device, with guards around, for one call. */
typedef struct trial {
    light_communicator *c;
    light_collective call;
    bool in_place;
    size_t each, in_bytes, out_bytes; /* of an element; of the arrays */
    char *in, *out, *memory;
    size_t memory_bytes;
    light_ticket ticket;
} trial;

static int64_t whole_if(bool whole, const light_communicator *c, int64_t count)
{
    return whole ? count * c->size : count;
}

static void fill_in(const trial *t)
{
    int64_t n = (int64_t)(t->in_bytes / t->each);
    double *values = malloc((size_t)(n + 1) * sizeof *values);
    char *narrow = malloc(t->in_bytes + 1);
    for (int64_t i = 0; i < n; i++) values[i] = number(t->call.dtype, t->c->rank, i);
    convert(narrow, t->call.dtype, values, LIGHT_F64, n);
    device_write(t->c->device, t->in, narrow, t->in_bytes);
    free(values);
    free(narrow);
}

/* Memory: guard, in, guard, out, guard; in place `in` lies within `out` or the other way round. */
static void begin_trial(trial *t, light_communicator *c, light_collective call, bool in_place)
{
    size_t each = light_dtype_size(call.dtype);
    *t = (trial){.c = c, .call = call, .in_place = in_place, .each = each};
    t->in_bytes = each * (size_t)whole_if(call.kind == LIGHT_REDUCE_SCATTER || call.kind == LIGHT_ALL_TO_ALL,
                                          c, call.count);
    t->out_bytes = each * (size_t)whole_if(call.kind == LIGHT_ALL_GATHER || call.kind == LIGHT_ALL_TO_ALL, c,
                                           call.count);
    size_t own = (size_t)c->rank * (size_t)call.count * each;
    size_t room = (t->in_bytes + 63) / 64 * 64;
    t->memory_bytes = room + t->out_bytes + 3 * GUARD;
    void *memory;
    assert_ok(c->device->backend->allocate(c->device, t->memory_bytes, &memory));
    t->memory = memory;
    char *guards = malloc(t->memory_bytes);
    memset(guards, 0xA5, t->memory_bytes);
    device_write(c->device, memory, guards, t->memory_bytes);
    free(guards);
    t->in = t->memory + GUARD;
    t->out = t->in + room + GUARD;
    if (in_place && call.kind == LIGHT_REDUCE_SCATTER)
        t->out = t->in + own;
    else if (in_place)
        t->in = t->out + (call.kind == LIGHT_ALL_GATHER ? own : 0);
    fill_in(t);
    t->call.in = t->in;
    t->call.out = t->out;
}

static void fail_at(const trial *t, int64_t i, double value, double wanted)
{
    fail_msg(
        "%s %s of %lld, combine %d, ordered %d, contributors %d, in place %d: element %lld is %.17g, not %.17g",
        light_collective_names[t->call.kind], light_dtype_name(t->call.dtype), (long long)t->call.count,
        t->call.combine, t->call.ordered, t->call.contributors, t->in_place, (long long)i, value, wanted);
}

/* What is expected is rounded as the output is. */
static void check_output(const trial *t, const char *out)
{
    int64_t n = (int64_t)(t->out_bytes / t->each);
    double *values = malloc((size_t)(2 * n + 1) * sizeof *values), *wanted = values + n;
    double bound = allowed(&t->call, t->c->size);
    char *narrow = malloc(t->out_bytes + 1);
    for (int64_t i = 0; i < n; i++) wanted[i] = expected(&t->call, t->c->size, t->c->rank, i);
    convert(narrow, t->call.dtype, wanted, LIGHT_F64, n);
    convert(wanted, LIGHT_F64, narrow, t->call.dtype, n);
    convert(values, LIGHT_F64, out, t->call.dtype, n);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(values[i] - wanted[i]) <= bound)) fail_at(t, i, values[i], wanted[i]);
    free(values);
    free(narrow);
}

/* What lies beside the arrays is as it was. */
static void check_guards(const trial *t, const char *memory)
{
    const char *in = memory + (t->in - t->memory), *out = memory + (t->out - t->memory);
    for (const char *at = memory; at < memory + t->memory_bytes; at++) {
        if (at >= in && at < in + t->in_bytes) continue;
        if (at >= out && at < out + t->out_bytes) continue;
        if ((unsigned char)*at != 0xA5 && !t->in_place) fail_msg("byte %td beside the arrays", at - memory);
    }
}

/* The same on all ranks, to the bit. */
static void check_agreement(const trial *t, light_communicator *host, const char *out)
{
    size_t sizes[MOST_RANKS];
    char *all;
    assert_ok(light_gather_bytes(host, out, t->out_bytes, &all, sizes, "outputs"));
    for (int r = 0; r < host->size; r++)
        assert_memory_equal(all + (size_t)r * t->out_bytes, out, t->out_bytes);
    light_free(all);
}

/* The call has been waited for. `host`: the same ranks, or NULL. */
static void end_trial(trial *t, light_communicator *host)
{
    char *memory = malloc(t->memory_bytes);
    device_read(t->c->device, t->memory, memory, t->memory_bytes);
    const char *out = memory + (t->out - t->memory);
    check_output(t, out);
    check_guards(t, memory);
    if (host && (t->call.kind == LIGHT_ALL_REDUCE || t->call.kind == LIGHT_ALL_GATHER))
        check_agreement(t, host, out);
    t->c->device->backend->release(t->c->device, t->memory, t->memory_bytes);
    free(memory);
}

static inline void run_trial(light_communicator *c, light_communicator *host, light_collective call,
                             bool in_place)
{
    trial t;
    begin_trial(&t, c, call, in_place);
    assert_ok(light_communicate(c, &t.call));
    end_trial(&t, host);
}

#endif
