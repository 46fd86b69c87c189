/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between processes on the simulated device, as work of the stream: what is sent is copied to host memory, the
 * process that tests the call exchanges it there with the other processes, then what came is copied to the device. So a
 * stream that does not wait for what it sends, or for what has come, finds the wrong numbers. */
#include "cuda/collectives.h"

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace light
{

/* Transfers that go at once. */
struct exchange {
    enum { ASKED, STAGED, DONE };
    std::atomic<int> state{ASKED};
    light_ticket ticket;
    std::vector<light_transfer> there;    /* on the device */
    std::vector<light_transfer> here;     /* on the host */
    std::vector<std::vector<char>> rooms; /* where that is */
};

struct library_group {
    std::mutex mutex;
    std::deque<std::shared_ptr<exchange>> under_way;
    std::shared_ptr<std::atomic<bool>> aborted =
        std::make_shared<std::atomic<bool>>(false); /* the stream's too */
};

light_status library_available(light_device *)
{
    const char *wish = getenv("LIGHT_NCCL");
    return wish && !strcmp(wish, "0") ? light_fail(LIGHT_ERR_UNSUPPORTED, "LIGHT_NCCL is 0") : LIGHT_OK;
}

light_status library_make_id(light_device *, char id[LIGHT_GROUP_ID_BYTES])
{
    memset(id, 0, LIGHT_GROUP_ID_BYTES);
    return LIGHT_OK;
}

light_status library_open(group *g)
{
    g->library = new library_group;
    return LIGHT_OK;
}

void library_abort(group *g)
{
    *g->library->aborted = true;
}

void library_close(group *g)
{
    delete g->library;
}

static void move_rooms(exchange *e, bool received)
{
    for (size_t i = 0; i < e->there.size(); i++) {
        light_transfer *t = &e->there[i];
        if (t->receive != received) continue;
        if (received)
            memcpy(t->data, e->rooms[i].data(), t->bytes);
        else
            memcpy(e->rooms[i].data(), t->data, t->bytes);
    }
}

light_status library_transfer(group *g, const light_transfer *transfers, int n)
{
    library_group *l = g->library;
    std::shared_ptr<std::atomic<bool>> aborted = l->aborted;
    std::shared_ptr<exchange> e = std::make_shared<exchange>();
    e->ticket = g->started + 1;
    e->there.assign(transfers, transfers + n);
    e->here = e->there;
    e->rooms.resize((size_t)n);
    for (size_t i = 0; i < (size_t)n; i++) {
        e->rooms[i].resize(e->there[i].bytes);
        e->here[i].data = e->rooms[i].data();
    }
    {
        std::lock_guard<std::mutex> held(l->mutex);
        l->under_way.push_back(e);
    }
    cudaError_t error = sim::enqueue(stream_of(g), [e] {
        move_rooms(e.get(), false);
        e->state = exchange::STAGED;
    });
    if (error == cudaSuccess)
        error = sim::enqueue_when(
            stream_of(g), [e, aborted] { return e->state == exchange::DONE || *aborted; },
            [e, aborted] {
                if (*aborted)
                    sim::device_failed(cudaErrorUnknown, "a collective was given up");
                else
                    move_rooms(e.get(), true);
            });
    return cuda_status(g->device, error, "sending");
}

/* There is none: all are made of messages, so that those are tested. */
light_status library_collective(group *, const light_collective *, bool *done)
{
    *done = false;
    return LIGHT_OK;
}

/* The next exchange of the call that is tested, once the device has come to it. */
light_status library_test(group *g, light_ticket ticket)
{
    library_group *l = g->library;
    std::shared_ptr<exchange> e;
    {
        std::lock_guard<std::mutex> held(l->mutex);
        if (l->under_way.empty()) return LIGHT_OK;
        e = l->under_way.front();
        if (e->ticket > ticket || e->state != exchange::STAGED) return LIGHT_OK;
        l->under_way.pop_front();
    }
    LIGHT_TRY(g->setup.exchange(g->setup.user, e->here.data(), (int)e->here.size()));
    e->state = exchange::DONE;
    return LIGHT_OK;
}

} // namespace light
