/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that run late and interleave at random (seeded), events, memory that is not the host's. */
#include <cuda_runtime.h>

#include <deque>
#include <map>
#include <vector>

struct sim_event {
    unsigned long want = 0, done = 0;
};
struct command {
    std::function<void()> run;
    sim_event *wait = nullptr;
    unsigned long upto = 0;
    sim_event *record = nullptr;
};
struct sim_stream {
    std::deque<command> queue;
};
static std::vector<sim_stream *> streams;
static std::map<char *, size_t> memory;
static unsigned rng = 1;
static bool eager = true;
static bool ready(sim_stream *s)
{
    return !s->queue.empty() &&
           (!s->queue.front().wait || s->queue.front().wait->done >= s->queue.front().upto);
}
static bool step()
{
    std::vector<sim_stream *> can;
    for (sim_stream *s : streams)
        if (ready(s)) can.push_back(s);
    if (can.empty()) return false;
    rng = rng * 1664525u + 1013904223u;
    sim_stream *s = can[(rng >> 10) % can.size()];
    command c = s->queue.front();
    s->queue.pop_front();
    if (c.run) c.run();
    if (c.record) c.record->done++;
    return true;
}
static void push(sim_stream *s, command c)
{
    s->queue.push_back(c);
    if (eager)
        while (step()) {
        }
}
void sim::enqueue(cudaStream_t s, std::function<void()> f)
{
    push(s, command{f});
}
static size_t span(const void *p)
{
    auto i = memory.upper_bound((char *)p);
    if (i == memory.begin()) return 0;
    --i;
    return (char *)p < i->first + i->second ? (size_t)(i->first + i->second - (char *)p) : 0;
}
const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess                 ? "no error"
           : e == cudaErrorMemoryAllocation ? "out of memory"
                                            : "invalid argument";
}
const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaSuccess                 ? "cudaSuccess"
           : e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
                                            : "cudaErrorInvalidValue";
}
cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    strcpy(p->name, "simulated");
    p->major = 9;
    p->multiProcessorCount = 4;
    p->sharedMemPerBlockOptin = 227 * 1024;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *f, size_t *t)
{
    *f = *t = (size_t)8 << 30;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **p, size_t n)
{
    *p = aligned_alloc(256, (n + 255) / 256 * 256);
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, 0xff, n);
    memory[(char *)*p] = n;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    cudaDeviceSynchronize();
    if (!memory.count((char *)p)) return cudaErrorInvalidValue;
    memory.erase((char *)p);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n)
{
    *p = malloc(n);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    return cudaMallocHost(p, n);
}
cudaError_t cudaHostGetDevicePointer(void **d, void *h, unsigned)
{
    *d = h;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    cudaDeviceSynchronize();
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t st)
{
    bool dd = k != cudaMemcpyDeviceToHost, sd = k != cudaMemcpyHostToDevice;
    if (dd != (span(d) > 0) || sd != (span(s) > 0) || (dd && span(d) < n) || (sd && span(s) < n))
        return cudaErrorInvalidValue;
    push(st, command{[=] { memmove(d, s, n); }});
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t st)
{
    if (span(d) < n) return cudaErrorInvalidValue;
    push(st, command{[=] { memset(d, v, n); }});
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    streams.push_back(*s = new sim_stream());
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaDeviceSynchronize();
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    while (!s->queue.empty())
        if (!step()) sim_die("stream deadlock");
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize()
{
    while (step()) {
    }
    for (sim_stream *s : streams)
        if (!s->queue.empty()) sim_die("stream deadlock");
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new sim_event();
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    cudaDeviceSynchronize();
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    e->want++;
    command c;
    c.record = e;
    push(s, c);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    return e->done >= e->want ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    while (e->done < e->want)
        if (!step()) sim_die("stream deadlock");
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    command c;
    c.wait = e;
    c.upto = e->want;
    push(s, c);
    return cudaSuccess;
}
void sim::note_memory(void *p, size_t bytes)
{
    memory[(char *)p] = bytes;
}
void sim::forget_memory(void *p)
{
    memory.erase((char *)p);
}
