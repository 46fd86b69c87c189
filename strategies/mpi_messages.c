/* SPDX-License-Identifier: Apache-2.0 */
/* See mpi_messages.h. */
#include "strategies/mpi_messages.h"

#include "base/memory.h"
#include "base/time.h"
#include "strategies/call_mark.h"
#include "strategies/collectives.h"

#include <math.h>
#include <sched.h>
#include <string.h>
#include <time.h>

enum { SPINS = 200 };
static const long SLEEP_NS = 10000;
static const double STRAGGLER_SECONDS = 0.5; /* for the marks of the others, after one that differs */

size_t light_mpi_piece = (size_t)1 << 30;
int64_t light_mpi_block = (int64_t)32 << 20; /* ranks wait for each other in each, so there should be few */

/* Messages under way. */
typedef struct requests {
    char *first;
    int n, room;
} requests;

/* The other end of a call's messages. */
typedef struct other_end {
    light_call_mark mark; /* what has come from there; number -1: nothing yet */
    bool told, asked;     /* a mark is on its way there, and from there */
} other_end;

/* The thread's own, kept from call to call. */
static struct {
    const light_mpi *mpi;
    requests messages, marks; /* marks: those that are to come */
    other_end *ends;          /* of the call that is being made, by rank */
    int end_room;
    char *stage;
    size_t stage_bytes;
} now;

/* ---- requests ------------------------------------------------------------------------ */

/* Carries the messages of one call. */
typedef struct mpi_transport {
    light_transport base;
    const light_mpi_group *group;
    light_control *control;
    light_call_mark mark; /* of the call; number -1: messages that belong to none */
    bool differs;         /* another rank is in another call */
} mpi_transport;

static light_status new_request(requests *list, void **request)
{
    if (list->n == list->room) {
        int room = list->room ? 2 * list->room : 64;
        char *grown = light_realloc(list->first, (size_t)room * now.mpi->request_bytes);
        if (!grown) return LIGHT_ERR_MEMORY;
        list->first = grown;
        list->room = room;
    }
    *request = list->first + (size_t)list->n++ * now.mpi->request_bytes;
    return LIGHT_OK;
}

static light_status all_done(const requests *list, bool *done)
{
    *done = list->n == 0;
    return *done ? LIGHT_OK : now.mpi->test(list->first, list->n, done);
}

static size_t piece_at(size_t bytes, size_t at)
{
    return bytes - at < light_mpi_piece ? bytes - at : light_mpi_piece;
}

/* Between two looks at something that is not there yet. */
static light_status rest(light_control *control, int looks)
{
    const struct timespec pause = {.tv_nsec = SLEEP_NS};
    LIGHT_TRY(light_control_status(control));
    if (looks < SPINS)
        sched_yield();
    else /* it may take long: the cores are for those who compute */
        nanosleep(&pause, NULL);
    return LIGHT_OK;
}

/* ---- marks ------------------------------------------------------------------------------ */

/* Each rank's first message of a call to another one is the call's mark, and no message is taken for good before that has
 * been compared: ranks that are in different calls, or in one of different data, get an error instead of numbers. */

static light_status tell(mpi_transport *t, int peer)
{
    void *request;
    if (t->mark.number < 0 || now.ends[peer].told) return LIGHT_OK;
    now.ends[peer].told = true;
    LIGHT_TRY(new_request(&now.messages, &request));
    return now.mpi->send(&t->mark, sizeof t->mark, t->group->members[peer], t->group->tag, request);
}

static light_status ask(mpi_transport *t, int peer)
{
    void *request;
    other_end *end = &now.ends[peer];
    if (t->mark.number < 0 || end->asked) return LIGHT_OK;
    end->asked = true;
    LIGHT_TRY(new_request(&now.marks, &request));
    return now.mpi->receive(&end->mark, sizeof end->mark, t->group->members[peer], t->group->tag, request);
}

/* Before the first message of a call. */
static light_status forget_ends(const light_mpi_group *group)
{
    int size = group->base.size;
    if (now.end_room < size) {
        light_free(now.ends);
        now.ends = light_calloc((size_t)size, sizeof *now.ends);
        now.end_room = now.ends ? size : 0;
        if (!now.ends) return LIGHT_ERR_MEMORY;
    }
    for (int r = 0; r < size; r++) now.ends[r] = (other_end){.mark.number = -1};
    return LIGHT_OK;
}

/* What is known of a rank's call; NULL: nothing. */
static const light_call_mark *mark_of(const mpi_transport *t, int rank)
{
    if (rank == t->base.rank) return &t->mark;
    return now.ends[rank].mark.number >= 0 ? &now.ends[rank].mark : NULL;
}

/* Two ranks, the first of those that are known and one that differs; false: all are in one call. */
static bool find_different(const mpi_transport *t, int *first, int *other)
{
    const light_call_mark *expected = NULL;
    for (int r = 0; r < t->base.size; r++) {
        const light_call_mark *mark = mark_of(t, r);
        if (!mark) continue;
        if (expected && !light_call_marks_meet(expected, mark)) {
            *other = r;
            return true;
        }
        if (!expected) *first = r;
        if (!expected) expected = mark;
    }
    return false;
}

static light_status refuse(mpi_transport *t, int first, int other)
{
    char expected[160], name[160];
    t->differs = true;
    return light_fail(
        LIGHT_ERR_STATE, "rank %d is in %s, where rank %d is in %s; all ranks must make the same calls",
        t->group->members[other], light_call_mark_name(mark_of(t, other), name, sizeof name),
        t->group->members[first], light_call_mark_name(mark_of(t, first), expected, sizeof expected));
}

/* Waits for the marks that are to come. After one that differs it waits a little longer, so that it is the first rank whose
 * call the others are compared with. */
static light_status compare_marks(mpi_transport *t)
{
    bool done = now.marks.n == 0, differ = false;
    double end = INFINITY;
    int first, other;
    if (done) return LIGHT_OK;
    for (int looks = 0; !done && light_now() < end; looks++) {
        LIGHT_TRY(all_done(&now.marks, &done));
        if (!done) LIGHT_TRY(rest(t->control, looks));
        if (done || differ || looks < SPINS) continue;
        differ = find_different(t, &first, &other);
        if (differ) end = light_now() + STRAGGLER_SECONDS;
    }
    now.marks.n = 0;
    return find_different(t, &first, &other) ? refuse(t, first, other) : LIGHT_OK;
}

/* ---- messages ------------------------------------------------------------------------ */

static light_status send(light_transport *t, const void *data, size_t bytes, int peer)
{
    const light_mpi_group *group = ((mpi_transport *)t)->group;
    LIGHT_TRY(tell((mpi_transport *)t, peer));
    for (size_t at = 0, n; at < bytes; at += n) {
        void *request;
        n = piece_at(bytes, at);
        LIGHT_TRY(new_request(&now.messages, &request));
        LIGHT_TRY(now.mpi->send((const char *)data + at, n, group->members[peer], group->tag, request));
    }
    return LIGHT_OK;
}

static light_status receive(light_transport *t, void *data, size_t bytes, int peer)
{
    const light_mpi_group *group = ((mpi_transport *)t)->group;
    LIGHT_TRY(ask((mpi_transport *)t, peer));
    for (size_t at = 0, n; at < bytes; at += n) {
        void *request;
        n = piece_at(bytes, at);
        LIGHT_TRY(new_request(&now.messages, &request));
        LIGHT_TRY(now.mpi->receive((char *)data + at, n, group->members[peer], group->tag, request));
    }
    return LIGHT_OK;
}

static light_status finish(light_transport *t)
{
    bool done = false;
    LIGHT_TRY(compare_marks((mpi_transport *)t));
    for (int looks = 0; !done; looks++) {
        LIGHT_TRY(all_done(&now.messages, &done));
        if (!done) LIGHT_TRY(rest(((mpi_transport *)t)->control, looks));
    }
    now.messages.n = 0;
    return LIGHT_OK;
}

static light_status stage(light_transport *t, size_t bytes, char **data)
{
    (void)t;
    if (bytes > now.stage_bytes) {
        light_free(now.stage);
        now.stage = light_alloc(bytes);
        now.stage_bytes = now.stage ? bytes : 0;
    }
    *data = now.stage;
    return now.stage || bytes == 0 ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status copy(light_transport *t, void *to, const void *from, size_t bytes)
{
    (void)t;
    memcpy(to, from, bytes);
    return LIGHT_OK;
}

static light_status combine(light_transport *t, light_kernel_args *args)
{
    (void)t;
    args->device = light_device_cpu();
    return args->device->backend->kernels[LIGHT_KERNEL_COMBINE](args);
}

static mpi_transport transport_of(const light_mpi_group *group, light_control *control)
{
    return (mpi_transport){.base = {.rank = group->base.rank,
                                    .size = group->base.size,
                                    .block_bytes = light_mpi_block,
                                    .send = send,
                                    .receive = receive,
                                    .finish = finish,
                                    .copy = copy,
                                    .stage = stage,
                                    .combine = combine},
                           .group = group,
                           .control = control,
                           .mark.number = -1};
}

light_status light_mpi_exchange(light_mpi_group *group, const light_transfer *transfers, int n)
{
    mpi_transport t = transport_of(group, group->base.control);
    for (int i = 0; i < n; i++) {
        const light_transfer *one = &transfers[i];
        LIGHT_TRY(one->receive ? receive(&t.base, one->data, one->bytes, one->peer)
                               : send(&t.base, one->data, one->bytes, one->peer));
    }
    return finish(&t.base);
}

/* A device's call has no messages here: ranks tell each other all the same what they wait for. */
static light_status exchange_marks(mpi_transport *t, const light_collective *call)
{
    for (int r = 0; r < t->base.size; r++) {
        if (r == t->base.rank || (light_call_is_single((int)call->kind) && r != call->peer)) continue;
        LIGHT_TRY(ask(t, r));
        LIGHT_TRY(tell(t, r));
    }
    return finish(&t->base);
}

static light_status watch(mpi_transport *t, const light_collective *call, const light_mpi_watched *watched)
{
    bool done = false;
    LIGHT_TRY(exchange_marks(t, call));
    for (int looks = 0; !done; looks++) {
        LIGHT_TRY(watched->test(watched->user, watched->ticket, &done));
        if (!done) LIGHT_TRY(rest(t->control, looks));
    }
    return LIGHT_OK;
}

light_status light_mpi_make_call(const light_mpi_group *group, const light_collective *call, int64_t number,
                                 light_control *control, const light_mpi_watched *watched)
{
    mpi_transport t = transport_of(group, control);
    LIGHT_TRY(forget_ends(group));
    light_call_mark_set(&t.mark, call, number);
    light_status status = watched->test ? watch(&t, call, watched) : light_run_collective(&t.base, call);
    if (status == LIGHT_OK || t.differs) return status;
    return light_fail_in(status, "%s%s%s", light_collective_names[call->kind], call->what ? " of " : "",
                         call->what ? call->what : "");
}

/* ---- opening and closing ----------------------------------------------------------------- */

void light_mpi_messages_begin(const light_mpi *mpi)
{
    now.mpi = mpi;
}

void light_mpi_messages_free(void)
{
    light_free(now.messages.first);
    light_free(now.marks.first);
    light_free(now.ends);
    light_free(now.stage);
}
