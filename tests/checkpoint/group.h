/* SPDX-License-Identifier: Apache-2.0 */
/* A group of writers without a job around it: each rank has a socket to rank 0. They may be threads or processes. */
#ifndef TESTS_CHECKPOINT_GROUP_H
#define TESTS_CHECKPOINT_GROUP_H

#include "common.h"

#include "checkpoint/boxes.h"

#include <pthread.h>
#include <sys/socket.h>

#define MOST_RANKS 8

typedef struct socket_group {
    light_checkpoint_group base;
    int sockets[MOST_RANKS]; /* on rank 0 by rank; else the one to rank 0 at [0]; -1: none */
    int calls, fail_at;      /* this call fails, as when the process is cut off */
} socket_group;

static void group_cut_off(socket_group *g)
{
    for (int i = 0; i < MOST_RANKS; i++) {
        if (g->sockets[i] >= 0) close(g->sockets[i]);
        g->sockets[i] = -1;
    }
}

static light_status group_call(socket_group *g)
{
    if (++g->calls != g->fail_at) return LIGHT_OK;
    group_cut_off(g);
    return light_fail(LIGHT_ERR_IO, "rank %d is cut off", g->base.rank);
}

static light_status put_bytes(int file, const void *bytes, size_t n)
{
    for (const char *at = bytes; n;) {
        ssize_t count = send(file, at, n, MSG_NOSIGNAL);
        if (count <= 0) return light_fail(LIGHT_ERR_IO, "another rank is gone");
        at += count;
        n -= (size_t)count;
    }
    return LIGHT_OK;
}

static light_status take_bytes(int file, void *bytes, size_t n)
{
    for (char *at = bytes; n;) {
        ssize_t count = recv(file, at, n, 0);
        if (count <= 0) return light_fail(LIGHT_ERR_IO, "another rank is gone");
        at += count;
        n -= (size_t)count;
    }
    return LIGHT_OK;
}

static light_status put_message(int file, uint64_t number, const void *bytes, size_t n)
{
    uint64_t head[2] = {number, n};
    LIGHT_TRY(put_bytes(file, head, sizeof head));
    return put_bytes(file, bytes, n);
}

static light_status take_message(int file, uint64_t number, void **bytes, size_t *n)
{
    uint64_t head[2];
    LIGHT_TRY(take_bytes(file, head, sizeof head));
    if (head[0] != number)
        return light_fail(LIGHT_ERR_INTERNAL, "message %d is number %d", (int)number, (int)head[0]);
    *n = (size_t)head[1];
    *bytes = light_alloc(*n);
    if (!*bytes) return LIGHT_ERR_MEMORY;
    light_status status = take_bytes(file, *bytes, *n);
    if (status != LIGHT_OK) light_free(*bytes);
    return status;
}

static light_status group_send(void *user, uint64_t number, const void *bytes, size_t n)
{
    socket_group *g = user;
    LIGHT_TRY(group_call(g));
    return put_message(g->sockets[0], number, bytes, n);
}

static light_status group_receive(void *user, int rank, uint64_t number, void **bytes, size_t *n)
{
    socket_group *g = user;
    LIGHT_TRY(group_call(g));
    return take_message(g->sockets[rank], number, bytes, n);
}

static light_status group_announce(void *user, uint64_t number, const void *bytes, size_t n)
{
    socket_group *g = user;
    LIGHT_TRY(group_call(g));
    light_status status = LIGHT_OK;
    for (int rank = 1; rank < g->base.size; rank++) {
        light_status one = put_message(g->sockets[rank], number, bytes, n);
        if (status == LIGHT_OK) status = one;
    }
    return status;
}

static light_status group_await(void *user, uint64_t number, void **bytes, size_t *n)
{
    socket_group *g = user;
    LIGHT_TRY(group_call(g));
    return take_message(g->sockets[0], number, bytes, n);
}

static void make_groups(socket_group *groups, int size)
{
    for (int rank = 0; rank < size; rank++) {
        groups[rank] = (socket_group){.base = {.rank = rank,
                                               .size = size,
                                               .user = &groups[rank],
                                               .send = group_send,
                                               .receive = group_receive,
                                               .announce = group_announce,
                                               .await = group_await}};
        for (int i = 0; i < MOST_RANKS; i++) groups[rank].sockets[i] = -1;
    }
    for (int rank = 1; rank < size; rank++) {
        int ends[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        groups[0].sockets[rank] = ends[0];
        groups[rank].sockets[0] = ends[1];
    }
}

static void close_groups(socket_group *groups, int size)
{
    for (int rank = 0; rank < size; rank++) group_cut_off(&groups[rank]);
}

/* ---- what is saved -------------------------------------------------------------- */

/* Tensors that all ranks share, cut at places that depend on `way`. Numbers depend on `mark`. */
enum { WEIGHT, MOMENT, SCALAR, EMPTY, TENSORS };
static struct {
    const char *name;
    light_shape shape;
} shared_tensors[TENSORS] = {{"model/weight", {3, {5, 7, 3}}},
                             {"optimizer/0/state/weight/exp_avg", {2, {3, 7001}}},
                             {"model/scalar", {0, {0}}},
                             {"model/empty", {2, {0, 3}}}};
#define MOST_ELEMENTS (3 * 200001)

static float shared_value(int tensor, int mark, int64_t i)
{
    return (float)(mark * 100000 + tensor * 30000 + i);
}

/* Where the elements of rank `rank` of `size` begin: evenly, at odd places, all with the last one, with empty ranges in
 * the middle. */
enum { WAYS = 4 };
static int64_t cut_of(int64_t n, int rank, int size, int way)
{
    if (rank == 0 || rank == size) return rank ? n : 0;
    int64_t even = n * rank / size, odd = even + 3 - 2 * (rank % 2);
    switch (way) {
    case 0: return even;
    case 1: return odd > n ? n : odd;
    case 2: return 0;
    default: return n / 2;
    }
}

typedef struct shared_part {
    float *values[TENSORS];
    light_tensor *tensors[TENSORS];
    light_checkpoint_list list;
} shared_part;

__attribute__((unused)) static void free_part(shared_part *part)
{
    if (!part) return;
    for (int t = 0; t < TENSORS; t++) {
        light_tensor_free(part->tensors[t]);
        light_free(part->values[t]);
    }
    light_checkpoint_list_free(&part->list);
    light_free(part);
}

static light_status fill_part(shared_part *part, int rank, int size, int way, int mark)
{
    for (int t = 0; t < TENSORS; t++) {
        int64_t n = light_shape_numel(shared_tensors[t].shape);
        int64_t begin = cut_of(n, rank, size, way), end = cut_of(n, rank + 1, size, way);
        part->values[t] = light_alloc((size_t)(end - begin) * sizeof(float));
        if (!part->values[t]) return LIGHT_ERR_MEMORY;
        for (int64_t i = begin; i < end; i++) part->values[t][i - begin] = shared_value(t, mark, i);
        LIGHT_TRY(light_tensor_wrap(&part->tensors[t], LIGHT_SHAPE(end - begin), LIGHT_F32, part->values[t]));
        LIGHT_TRY(light_checkpoint_list_add_part(&part->list, shared_tensors[t].name, part->tensors[t],
                                                 &shared_tensors[t].shape, begin));
    }
    return LIGHT_OK;
}

/* One rank's call. */
__attribute__((unused)) static light_status save_part(light_checkpoint_writer *writer,
                                                      const light_checkpoint_group *group, int way, int mark,
                                                      light_checkpoint_request request)
{
    shared_part *part = light_calloc(1, sizeof *part);
    light_state *state = NULL;
    light_status status = part ? fill_part(part, group->rank, group->size, way, mark) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = small_state(mark, &state);
    if (status == LIGHT_OK) {
        request.group = group;
        request.tensors = &part->list;
        request.state = state;
        request.step = request.step ? request.step : mark;
        status = light_checkpoint_save(writer, &request);
    }
    free_part(part);
    return status;
}

/* The mark of a checkpoint after looking at all in it as `size` ranks do, each at its part; -1 when it does not open. */
__attribute__((unused)) static int shared_mark(const char *path, int size, int way)
{
    int mark = -1;
    static float values[MOST_ELEMENTS];
    for (int rank = 0; rank < size; rank++) {
        light_checkpoint *checkpoint;
        if ((size > 1 ? light_checkpoint_open_lazily : light_checkpoint_open)(path, &checkpoint) != LIGHT_OK)
            return -1;
        const light_state *state = light_checkpoint_state(checkpoint);
        assert_ok(light_state_get(light_state_find_group(state, "loops"), "step", &mark));
        assert_int_equal(light_checkpoint_step(checkpoint), mark);
        assert_int_equal(light_checkpoint_tensor_count(checkpoint), TENSORS);
        for (int t = 0; t < TENSORS; t++) {
            int64_t n = light_shape_numel(shared_tensors[t].shape);
            int64_t begin = cut_of(n, rank, size, way), end = cut_of(n, rank + 1, size, way);
            light_tensor *to;
            light_checkpoint_tensor about;
            assert_true(light_checkpoint_find(checkpoint, shared_tensors[t].name, &about));
            assert_true(light_shape_equal(about.shape, shared_tensors[t].shape));
            assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(end - begin), LIGHT_F32, values));
            assert_ok(light_checkpoint_read_part(checkpoint, shared_tensors[t].name, to, begin));
            for (int64_t i = begin; i < end; i++)
                if (values[i - begin] != shared_value(t, mark, i))
                    fail_msg("%s: element %d", about.name, (int)i);
            light_tensor_free(to);
        }
        light_checkpoint_close(checkpoint);
    }
    return mark;
}

/* ---- ranks as threads ------------------------------------------------------------ */

typedef struct rank_run {
    socket_group *group;
    int way, mark;
    light_checkpoint_request request;
    light_checkpoint_writer *writer; /* NULL: one of its own */
    light_status status;
    char message[2048];
    int done_calls;
    light_status done_status;
    uint64_t done_bytes;
    pthread_t thread;
} rank_run;

static void note_done(void *user, const light_checkpoint_result *result)
{
    rank_run *run = user;
    run->done_calls++;
    run->done_status = result->status;
    run->done_bytes = result->bytes;
    snprintf(run->message, sizeof run->message, "%s", result->message);
}

static void *run_rank(void *argument)
{
    rank_run *run = argument;
    light_checkpoint_writer *writer = run->writer;
    if (!writer && light_checkpoint_writer_new(&writer) != LIGHT_OK) abort();
    run->request.done = note_done;
    run->request.user = run;
    run->status = save_part(writer, &run->group->base, run->way, run->mark, run->request);
    if (run->request.background && run->status == LIGHT_OK) run->status = light_checkpoint_wait(writer);
    if (!run->writer) light_checkpoint_writer_free(writer);
    return NULL;
}

/* All ranks save at once; what they were told is in `runs`. */
__attribute__((unused)) static void save_together(rank_run *runs, int size)
{
    for (int rank = 0; rank < size; rank++)
        assert_int_equal(pthread_create(&runs[rank].thread, NULL, run_rank, &runs[rank]), 0);
    for (int rank = 0; rank < size; rank++) assert_int_equal(pthread_join(runs[rank].thread, NULL), 0);
}

/* A save by `size` ranks that has to succeed. */
__attribute__((unused)) static void save_shared(const char *path, int size, int way, int mark)
{
    socket_group groups[MOST_RANKS];
    rank_run runs[MOST_RANKS] = {{0}};
    make_groups(groups, size);
    for (int rank = 0; rank < size; rank++)
        runs[rank] = (rank_run){.group = &groups[rank],
                                .way = way,
                                .mark = mark,
                                .request = {.path = path, .background = mark % 2}};
    save_together(runs, size);
    close_groups(groups, size);
    for (int rank = 0; rank < size; rank++) {
        if (runs[rank].status != LIGHT_OK) fail_msg("rank %d: %s", rank, runs[rank].message);
        assert_int_equal(runs[rank].done_calls, 1);
        assert_int_equal(runs[rank].done_bytes, runs[0].done_bytes);
    }
}

#endif
