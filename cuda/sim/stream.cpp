/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: queues of commands that run when somebody waits for them, those of different streams in any order that
 * events allow. A host that does not wait finds the work undone, a stream that does not wait may come too early. */
#include "cuda/sim/runtime.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <unistd.h>
#include <vector>

/* Recorded `wanted` times, of which `done` have happened. */
struct sim_event {
    uint64_t wanted = 0, done = 0;
    int device = 0;
};

namespace sim
{

struct command {
    std::function<void()> work;
    std::shared_ptr<sim_event> event; /* to wait for, or to record when there is no work */
    uint64_t count;                   /* how often it must have been recorded by then */
    bool waits;
    std::function<bool()> ready; /* set: not before this is true */
};

} // namespace sim

/* Commands that were recorded. */
struct sim_graph {
    std::vector<sim::command> commands;
};

struct sim_stream {
    std::deque<sim::command> queue;
    int device;
    bool destroyed;
    sim_graph *capture; /* what is asked of the stream goes there */
};

namespace sim
{

static const size_t QUEUE_LIMIT = 256; /* commands, then the oldest run */

static unsigned first_seed()
{
    const char *text = getenv("LIGHT_SIM_SEED");
    return text ? (unsigned)strtoul(text, nullptr, 10) : 0;
}

unsigned seed = first_seed();
static unsigned random_state = seed;
static std::vector<sim_stream *> &streams = *new std::vector<sim_stream *>;
/* Events live as long as the program or a command knows them. */
static std::vector<std::shared_ptr<sim_event>> &events = *new std::vector<std::shared_ptr<sim_event>>;

/* ---- running --------------------------------------------------------------------- */

static bool can_run(const sim_stream *s)
{
    if (s->queue.empty()) return false;
    const command &c = s->queue.front();
    return (!c.waits || c.event->done >= c.count) && (!c.ready || c.ready());
}

/* Whether a stream stands still for what others have to do. */
static bool others_are_awaited()
{
    for (const sim_stream *s : streams)
        if (!s->queue.empty() && s->queue.front().ready) return true;
    return false;
}

static void forget_stream(sim_stream *s)
{
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (ptrdiff_t)i);
    delete s;
}

/* Runs the first command of a stream. After an error of the device nothing happens any more, but waiting ends. */
static void run_first(sim_stream *s)
{
    command c = std::move(s->queue.front());
    s->queue.pop_front();
    if (c.work && device_error() == cudaSuccess) c.work();
    if (c.event && !c.waits) c.event->done = c.count;
    if (s->destroyed && s->queue.empty()) forget_stream(s);
}

/* One command of some stream that can go on. */
static bool step()
{
    size_t able = 0;
    for (const sim_stream *s : streams) able += can_run(s);
    if (!able) return false;
    size_t which = able > 1 ? next_random(&random_state) % able : 0;
    for (sim_stream *s : streams) {
        if (!can_run(s) || which--) continue;
        run_first(s);
        break;
    }
    return true;
}

/* Others get the mutex for a moment. */
static void let_others()
{
    mutex.unlock();
    usleep(20);
    mutex.lock();
}

/* Runs commands until `reached`; where others have to do something first, waits for them, or leaves the rest. */
template <class F> static cudaError_t run_until(F reached, bool patient = true)
{
    if (reached()) return device_error();
    access open;
    while (!reached()) {
        if (step()) continue;
        if (!others_are_awaited()) return device_failed(cudaErrorUnknown, "streams wait for each other");
        if (!patient) break;
        let_others();
    }
    return device_error();
}

static size_t queued()
{
    size_t n = 0;
    for (const sim_stream *s : streams) n += s->queue.size();
    return n;
}

cudaError_t finish_all()
{
    return run_until([] { return queued() == 0; });
}

static bool known(const sim_stream *stream)
{
    for (const sim_stream *s : streams)
        if (s == stream && !s->destroyed) return true;
    return false;
}

static cudaError_t check_stream(const sim_stream *stream)
{
    if (known(stream)) return device_error();
    return fail(cudaErrorInvalidResourceHandle, stream ? "no such stream" : "work on the default stream");
}

static cudaError_t push(sim_stream *stream, command &&c)
{
    if (stream->capture) {
        stream->capture->commands.push_back(std::move(c));
        return cudaSuccess;
    }
    stream->queue.push_back(std::move(c));
    if (!seed) return run_until([] { return queued() == 0; }, false);
    /* Now and then the device is faster than the host. */
    size_t goal = next_random(&random_state) % 8 ? QUEUE_LIMIT : next_random(&random_state) % QUEUE_LIMIT;
    return run_until([goal] { return queued() <= goal; }, false);
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work)
{
    lock held(mutex);
    if (cudaError_t error = check_stream(stream)) return error;
    return push(stream, {std::move(work), nullptr, 0, false, nullptr});
}

cudaError_t enqueue_when(cudaStream_t stream, std::function<bool()> ready, std::function<void()> work)
{
    lock held(mutex);
    if (cudaError_t error = check_stream(stream)) return error;
    return push(stream, {std::move(work), nullptr, 0, false, std::move(ready)});
}

int device_of(cudaStream_t stream)
{
    return known(stream) ? stream->device : -1;
}

/* ---- events ------------------------------------------------------------------------ */

static std::shared_ptr<sim_event> find_event(cudaEvent_t event)
{
    for (const std::shared_ptr<sim_event> &e : events)
        if (e.get() == event) return e;
    fail(cudaErrorInvalidResourceHandle, "no such event");
    return nullptr;
}

static cudaError_t record(cudaEvent_t event, cudaStream_t stream)
{
    std::shared_ptr<sim_event> e = find_event(event);
    if (!e) return cudaErrorInvalidResourceHandle;
    if (cudaError_t error = check_stream(stream)) return error;
    if (e->device != stream->device)
        return fail(cudaErrorInvalidResourceHandle, "an event of device %d is recorded on device %d",
                    e->device, stream->device);
    uint64_t count = ++e->wanted;
    return push(stream, {nullptr, e, count, false, nullptr});
}

/* ---- copies ------------------------------------------------------------------------- */

static const char *kind_name(memory_kind kind)
{
    return kind == MEMORY_DEVICE ? "device" : kind == MEMORY_PINNED ? "pinned host" : "host";
}

/* `there` bytes of memory of the kind that the copy wants. */
static cudaError_t check_end(const void *data, size_t bytes, bool device, const char *which)
{
    size_t there;
    memory_kind kind = kind_of(data, &there);
    if ((kind == MEMORY_DEVICE) != device)
        return fail(cudaErrorInvalidValue, "the %s of a copy, %p, is %s memory", which, data,
                    kind_name(kind));
    if (kind != MEMORY_PAGEABLE && there < bytes)
        return fail(cudaErrorInvalidValue, "the %s of a copy of %zu bytes, %p, has %zu", which, bytes, data,
                    there);
    return cudaSuccess;
}

static bool is_pageable(const void *data)
{
    size_t there;
    return kind_of(data, &there) == MEMORY_PAGEABLE;
}

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind < 0 || kind >= cudaMemcpyDefault)
        return fail(cudaErrorInvalidValue, "%d is no direction", (int)kind);
    if (cudaError_t error = check_end(to, bytes, to_device, "target")) return error;
    if (cudaError_t error = check_end(from, bytes, from_device, "source")) return error;
    if (!from_device && is_pageable(from)) { /* may be used again when the call returns */
        std::vector<char> staged((const char *)from, (const char *)from + bytes);
        return enqueue(stream, [to, staged] { memcpy(to, staged.data(), staged.size()); });
    }
    cudaError_t error = enqueue(stream, [=] { memmove(to, from, bytes); });
    if (error == cudaSuccess && !to_device && is_pageable(to)) return cudaStreamSynchronize(stream);
    return error;
}

} // namespace sim

/* ---- the runtime's calls --------------------------------------------------------------- */

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    if (cudaError_t error = sim::check_stream(stream)) return error;
    return bytes ? sim::copy(to, from, bytes, kind, stream) : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    if (cudaError_t error = sim::check_stream(stream)) return error;
    if (!bytes) return cudaSuccess;
    if (cudaError_t error = sim::check_end(to, bytes, true, "target")) return error;
    return sim::enqueue(stream, [=] { memset(to, value, bytes); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    sim::lock held(sim::mutex);
    *stream = nullptr;
    if (cudaError_t error = sim::device_error()) return error;
    *stream = new sim_stream{{}, sim::chosen_device(), false, nullptr};
    sim::streams.push_back(*stream);
    return cudaSuccess;
}

/* What was asked of it is still done. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    if (!sim::known(stream)) return sim::check_stream(stream);
    stream->destroyed = true;
    if (stream->queue.empty()) sim::forget_stream(stream);
    return sim::device_error();
}

/* Whoever asks again and again lets time pass. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    if (cudaError_t error = sim::check_stream(stream)) return error;
    if (stream->queue.empty()) return cudaSuccess;
    sim::access open;
    sim::step();
    return stream->queue.empty() ? sim::device_error() : cudaErrorNotReady;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    sim::counted.synchronizations++;
    if (cudaError_t error = sim::check_stream(stream)) return error;
    if (stream->capture)
        return sim::fail(cudaErrorStreamCaptureUnsupported, "waiting for a stream that is being captured");
    return sim::run_until([stream] { return stream->queue.empty(); });
}

cudaError_t cudaDeviceSynchronize()
{
    sim::lock held(sim::mutex);
    sim::counted.synchronizations++;
    return sim::finish_all();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    sim::lock held(sim::mutex);
    std::shared_ptr<sim_event> e = sim::find_event(event);
    if (!e) return cudaErrorInvalidResourceHandle;
    if (cudaError_t error = sim::check_stream(stream)) return error;
    return sim::push(stream, {nullptr, e, e->wanted, true, nullptr});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    sim::lock held(sim::mutex);
    *event = nullptr;
    if (cudaError_t error = sim::device_error()) return error;
    std::shared_ptr<sim_event> e = std::make_shared<sim_event>();
    e->device = sim::chosen_device();
    sim::events.push_back(e);
    *event = e.get();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    sim::lock held(sim::mutex);
    for (size_t i = 0; i < sim::events.size(); i++) {
        if (sim::events[i].get() != event) continue;
        sim::events.erase(sim::events.begin() + (ptrdiff_t)i);
        return sim::device_error();
    }
    return sim::fail(cudaErrorInvalidResourceHandle, "no such event");
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    return sim::record(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    sim::lock held(sim::mutex);
    std::shared_ptr<sim_event> e = sim::find_event(event);
    if (!e) return cudaErrorInvalidResourceHandle;
    if (e->done < e->wanted) {
        sim::access open;
        sim::step();
    }
    return e->done < e->wanted ? cudaErrorNotReady : sim::device_error();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    sim::lock held(sim::mutex);
    std::shared_ptr<sim_event> e = sim::find_event(event);
    if (!e) return cudaErrorInvalidResourceHandle;
    sim::counted.synchronizations += e->done < e->wanted;
    uint64_t count = e->wanted;
    return sim::run_until([&] { return e->done >= count; });
}

/* ---- graphs ------------------------------------------------------------------------------ */

/* The threads that capture streams. Not thread_local, which is shared memory here (shared.h). */
static std::multiset<std::thread::id> capturing;

cudaError_t sim::unless_capturing(const char *doing)
{
    if (!capturing.count(std::this_thread::get_id())) return cudaSuccess;
    return fail(cudaErrorStreamCaptureUnsupported, "%s while a stream is being captured", doing);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    sim::lock held(sim::mutex);
    if (cudaError_t error = sim::check_stream(stream)) return error;
    if (stream->capture) return sim::fail(cudaErrorIllegalState, "the stream is being captured already");
    stream->capture = new sim_graph;
    capturing.insert(std::this_thread::get_id());
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    sim::lock held(sim::mutex);
    *graph = nullptr;
    if (cudaError_t error = sim::check_stream(stream)) return error;
    if (!stream->capture) return sim::fail(cudaErrorIllegalState, "the stream is not being captured");
    auto me = capturing.find(std::this_thread::get_id());
    if (me == capturing.end()) return sim::fail(cudaErrorIllegalState, "another thread captures the stream");
    capturing.erase(me);
    *graph = stream->capture;
    stream->capture = nullptr;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long)
{
    *ready = new sim_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    sim::lock held(sim::mutex);
    if (cudaError_t error = sim::check_stream(stream)) return error;
    for (const sim::command &c : graph->commands)
        if (cudaError_t error = sim::push(stream, sim::command(c))) return error;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

/* Launches have copied what it holds. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete graph;
    return cudaSuccess;
}
