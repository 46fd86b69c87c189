/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives as messages between two processes.
 *
 * A sum goes in two rounds: each rank gets one segment of everybody's array and adds them up, then the sums go to all.
 * That is as many bytes as a ring, in two rounds instead of 2 (n - 1), and the order of the sum is a matter of one loop in
 * one place: the binary tree of the COMBINE kernel, always. What is short goes to everybody at once. Long arrays go through in
 * blocks, so that what is kept beside them is small. */
#include "strategies/collectives.h"

enum { SHORT_BYTES = 4096 }; /* less to send to all than two rounds are worth */

/* A call as it is worked on. */
typedef struct work {
    light_transport *t;
    const light_collective *call;
    const char *in;
    char *out;
    int64_t bytes; /* of an element */
    int rank, size, contributors;
} work;

/* One segment of an array for each rank: `each` elements, less where the array ends. */
typedef struct segments {
    int64_t first, apart, each, end;
} segments;

static int64_t begin_of(const segments *s, int rank)
{
    return s->first + rank * s->apart;
}

static int64_t length_of(const segments *s, int rank)
{
    int64_t left = s->end - begin_of(s, rank);
    return left < 0 ? 0 : left < s->each ? left : s->each;
}

/* [first, first + n) among all ranks. */
static segments divide(const work *w, int64_t first, int64_t n)
{
    int64_t each = (n + w->size - 1) / w->size;
    return (segments){first, each, each, first + n};
}

/* n elements from `first` on of each rank's part. */
static segments parts_of(const work *w, int64_t first, int64_t n)
{
    return (segments){first, w->call->count, n, INT64_MAX};
}

static light_status send_elements(const work *w, const char *array, int64_t first, int64_t n, int to)
{
    if (n == 0 || to == w->rank) return LIGHT_OK;
    return w->t->send(w->t, array + first * w->bytes, (size_t)(n * w->bytes), to);
}

static light_status receive_elements(const work *w, char *array, int64_t first, int64_t n, int from)
{
    if (n == 0 || from == w->rank) return LIGHT_OK;
    return w->t->receive(w->t, array + first * w->bytes, (size_t)(n * w->bytes), from);
}

static light_status copy_elements(const work *w, char *to, const char *from, int64_t n)
{
    return to != from && n ? w->t->copy(w->t, to, from, (size_t)(n * w->bytes)) : LIGHT_OK;
}

/* ---- sums ------------------------------------------------------------------------- */

/* Combines what contributors have sent with this rank's own. */
static light_status combine(const work *w, const char *rows, const char *own, char *to, int64_t n)
{
    bool contributes = w->rank < w->contributors;
    light_tensor x = {.data = (char *)(uintptr_t)rows, .dtype = (uint8_t)w->call->dtype};
    light_tensor mine = {.data = (char *)(uintptr_t)own, .dtype = x.dtype};
    light_tensor y = {.data = to, .dtype = x.dtype};
    light_combine_attrs attrs = {(int)w->call->combine, contributes ? w->rank : -1};
    light_tensor_set_shape(&x, LIGHT_SHAPE(w->contributors, n));
    light_tensor_set_shape(&mine, LIGHT_SHAPE(n));
    light_tensor_set_shape(&y, LIGHT_SHAPE(n));
    light_kernel_args args = {.in = {&x, contributes ? &mine : NULL}, .out = {&y}, .attrs = &attrs};
    return n ? w->t->combine(w->t, &args) : LIGHT_OK;
}

/* Segment r of everybody's `in` goes to rank r, which combines them into `to`. */
static light_status combine_segments(const work *w, const segments *s, char *to)
{
    int64_t n = length_of(s, w->rank);
    char *stage;
    LIGHT_TRY(w->t->stage(w->t, (size_t)(w->contributors * n * w->bytes), &stage));
    for (int r = 0; r < w->contributors; r++) LIGHT_TRY(receive_elements(w, stage, r * n, n, r));
    for (int r = 0; r < w->size && w->rank < w->contributors; r++)
        LIGHT_TRY(send_elements(w, w->in, begin_of(s, r), length_of(s, r), r));
    LIGHT_TRY(w->t->finish(w->t));
    return combine(w, stage, w->in + begin_of(s, w->rank) * w->bytes, to, n);
}

/* `own` becomes this rank's segment of everybody's out; rank `except` has it all already. */
static light_status gather_segments(const work *w, const segments *s, const char *own, int except)
{
    for (int r = 0; r < w->size && w->rank != except; r++)
        LIGHT_TRY(receive_elements(w, w->out, begin_of(s, r), length_of(s, r), r));
    for (int r = 0; r < w->size; r++)
        if (r != except) LIGHT_TRY(send_elements(w, own, 0, length_of(s, w->rank), r));
    return w->t->finish(w->t);
}

/* Everything to everybody, who combine it for themselves. */
static light_status all_reduce_short(const work *w)
{
    segments same = {0, 0, w->call->count, w->call->count};
    return combine_segments(w, &same, w->out);
}

static light_status all_reduce(const work *w)
{
    int64_t count = w->call->count, block = w->t->block_bytes / w->bytes;
    if (count * w->bytes <= SHORT_BYTES) return all_reduce_short(w);
    for (int64_t at = 0; at < count; at += block) {
        segments s = divide(w, at, count - at < block ? count - at : block);
        char *own = w->out + begin_of(&s, w->rank) * w->bytes;
        LIGHT_TRY(combine_segments(w, &s, own));
        LIGHT_TRY(gather_segments(w, &s, own, -1));
    }
    return LIGHT_OK;
}

static light_status reduce_scatter(const work *w)
{
    int64_t count = w->call->count, block = w->t->block_bytes / w->bytes / w->size + 1;
    for (int64_t at = 0; at < count; at += block) {
        segments s = parts_of(w, at, count - at < block ? count - at : block);
        LIGHT_TRY(combine_segments(w, &s, w->out + at * w->bytes));
    }
    return LIGHT_OK;
}

/* ---- without sums -------------------------------------------------------------------- */

static light_status all_gather(const work *w)
{
    segments s = parts_of(w, 0, w->call->count);
    LIGHT_TRY(copy_elements(w, w->out + begin_of(&s, w->rank) * w->bytes, w->in, w->call->count));
    return gather_segments(w, &s, w->in, -1);
}

/* From the root to everybody, or segments from the root that go on from there. */
static light_status broadcast(const work *w)
{
    int64_t count = w->call->count;
    int root = w->call->peer;
    bool once = count * w->bytes <= SHORT_BYTES || w->size == 2;
    segments s = once ? (segments){0, 0, count, count} : divide(w, 0, count);
    for (int r = 0; r < w->size && w->rank == root; r++)
        LIGHT_TRY(send_elements(w, w->in, begin_of(&s, r), length_of(&s, r), r));
    if (w->rank != root)
        LIGHT_TRY(receive_elements(w, w->out, begin_of(&s, w->rank), length_of(&s, w->rank), root));
    LIGHT_TRY(w->t->finish(w->t));
    if (w->rank == root) LIGHT_TRY(copy_elements(w, w->out, w->in, count));
    return once ? LIGHT_OK : gather_segments(w, &s, w->out + begin_of(&s, w->rank) * w->bytes, root);
}

static light_status all_to_all(const work *w)
{
    int64_t count = w->call->count, own = w->rank * count * w->bytes;
    for (int r = 0; r < w->size; r++) LIGHT_TRY(receive_elements(w, w->out, r * count, count, r));
    for (int r = 0; r < w->size; r++) LIGHT_TRY(send_elements(w, w->in, r * count, count, r));
    LIGHT_TRY(copy_elements(w, w->out + own, w->in + own, count));
    return w->t->finish(w->t);
}

static light_status send_one(const work *w)
{
    LIGHT_TRY(send_elements(w, w->in, 0, w->call->count, w->call->peer));
    return w->t->finish(w->t);
}

static light_status receive_one(const work *w)
{
    LIGHT_TRY(receive_elements(w, w->out, 0, w->call->count, w->call->peer));
    return w->t->finish(w->t);
}

/* A byte from everybody to everybody. */
static light_status barrier(const work *w)
{
    char *room;
    LIGHT_TRY(w->t->stage(w->t, (size_t)w->size, &room));
    for (int r = 0; r < w->size; r++) {
        if (r == w->rank) continue;
        LIGHT_TRY(w->t->receive(w->t, room + r, 1, r));
        LIGHT_TRY(w->t->send(w->t, room + w->rank, 1, r));
    }
    return w->t->finish(w->t);
}

light_status light_run_collective(light_transport *t, const light_collective *call)
{
    static light_status (*const run[LIGHT_COLLECTIVE_COUNT])(const work *) = {
        all_reduce, reduce_scatter, all_gather, broadcast, all_to_all, send_one, receive_one, barrier,
    };
    work w = {t,
              call,
              call->in,
              call->out,
              call->kind == LIGHT_BARRIER ? 1 : (int64_t)light_dtype_size(call->dtype),
              t->rank,
              t->size,
              call->contributors ? call->contributors : t->size};
    return run[call->kind](&w);
}
