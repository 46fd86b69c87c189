/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/sim/block.h"

#include "cuda/sim/fiber.h"

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sim
{

thread *current;
unsigned char *shared_memory;

struct late_copy {
    int group; /* how many groups the thread had committed before */
    void *to;
    const void *from;
    size_t bytes;
    bool valid;
};

/* The block that runs. Never destroyed, as a kernel may run until the process ends. */
struct running_block {
    const std::function<void()> *body;
    std::vector<thread> threads;
    std::vector<thread *> begin; /* in the order in which they begin */
    std::vector<thread *> ready; /* in the order in which they became so, from `next` on */
    size_t begun, next;
    int live, arrived, brought, result;
    const thread *first;  /* to come to the barrier */
    unsigned waiting[32]; /* by warp: the lanes in a warp operation */
    int in_warps;
    std::vector<std::vector<late_copy>> copies; /* by thread */
    bool copied, failed;
    unsigned random;
    std::vector<fiber *> idle;
    fiber scheduler;
};
static running_block &b = *new running_block();

static unsigned first_order()
{
    const char *text = getenv("LIGHT_SIM_ORDER");
    if (!text || !strcmp(text, "forward")) return 0;
    return !strcmp(text, "reverse") ? 1 : (unsigned)strtoul(text, nullptr, 10);
}

unsigned order = first_order();

unsigned next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- errors --------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* "block (3,0,0), thread 17: " and the text become the device's error. */
static void note_failure(const char *text)
{
    char line[640], where[32] = "";
    if (current) snprintf(where, sizeof where, ", thread %d", current->number);
    snprintf(line, sizeof line, "block (%u,%u,%u)%s: %s", blockIdx.x, blockIdx.y, blockIdx.z, where, text);
    device_failed(cudaErrorLaunchFailure, line);
    b.failed = true;
}

void fail_kernel(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    note_failure(text);
    switch_fiber(current->on, &b.scheduler);
    __builtin_unreachable(); /* the fiber is restarted */
}

/* Nobody can go on: who waits where, for the first few. */
static void note_deadlock()
{
    char text[512];
    int length = snprintf(text, sizeof text, "%d of %zu threads wait for ever", b.live, b.threads.size()),
        told = 0;
    site last = {"", 0};
    for (const thread &t : b.threads) {
        bool waits = t.state == THREAD_AT_BARRIER || t.state == THREAD_IN_WARP;
        if (!waits || (t.at.line == last.line && t.at.file == last.file) || told == 4) continue;
        last = t.at;
        length += snprintf(text + length, sizeof text - (size_t)length, "%s thread %d at %s:%d",
                           told++ ? "," : ":", t.number, base_name(t.at.file), t.at.line);
        if (t.state == THREAD_IN_WARP)
            length += snprintf(text + length, sizeof text - (size_t)length, " for lanes %08x", t.mask);
    }
    current = nullptr;
    note_failure(text);
}

/* ---- running -------------------------------------------------------------------- */

static void run(thread *t)
{
    t->state = THREAD_RUNS;
    current = t;
    threadIdx = t->index;
}

static void make_ready(thread *t)
{
    t->state = THREAD_READY;
    b.ready.push_back(t);
}

static void release_barrier(const thread *but)
{
    for (thread *t : b.begin)
        if (t != but && t->state == THREAD_AT_BARRIER) make_ready(t);
    b.result = b.brought;
    b.arrived = b.brought = 0;
    b.first = nullptr;
}

/* Lanes that wait for this one will wait for ever. */
static void check_exit(const thread *t)
{
    for (int lane = 0; lane < 32; lane++) {
        if (!(b.waiting[t->warp] >> lane & 1)) continue;
        const thread *other = &b.threads[(size_t)t->warp * 32 + (size_t)lane];
        if (other->mask >> t->lane & 1)
            fail_kernel("exits, while lane %d waits for it in a warp operation at %s:%d", lane,
                        base_name(other->at.file), other->at.line);
    }
}

/* Exited threads count as having come to the barrier. */
static void exit_thread(thread *t)
{
    if (b.in_warps) check_exit(t);
    t->state = THREAD_EXITED;
    b.live--;
    if (b.live && b.arrived == b.live) release_barrier(nullptr);
}

/* A fiber runs one thread after another, so that kernels in which nobody waits never switch. */
static void run_threads()
{
    entered_fiber();
    fiber *f = current->on;
    for (;;) {
        (*b.body)();
        exit_thread(current);
        if (b.begun < b.begin.size()) {
            b.begin[b.begun]->on = f;
            run(b.begin[b.begun++]);
            continue;
        }
        b.idle.push_back(f);
        switch_fiber(f, &b.scheduler);
        f = current->on;
    }
}

static void wait_as(thread *t, thread_state state)
{
    t->state = state;
    switch_fiber(t->on, &b.scheduler);
}

static void shuffle_threads()
{
    for (size_t i = b.begin.size() - 1; i > 0; i--)
        std::swap(b.begin[i], b.begin[next_random(&b.random) % (i + 1)]);
}

void prepare_block(dim3 size, unsigned seed)
{
    size_t n = (size_t)size.x * size.y * size.z;
    b.threads.resize(n);
    b.begin.resize(n);
    b.random = seed;
    for (size_t i = 0; i < n; i++) {
        int number = (int)i;
        b.threads[i] = thread();
        b.threads[i].index = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
        b.threads[i].number = number;
        b.threads[i].lane = number % 32;
        b.threads[i].warp = number / 32;
        b.begin[i] = &b.threads[order == 1 ? n - 1 - i : i];
    }
}

static thread *begin_next()
{
    if (b.idle.empty()) {
        fiber *f = new_fiber(run_threads);
        if (!f) return nullptr;
        b.idle.push_back(f);
    }
    thread *t = b.begin[b.begun++];
    t->on = b.idle.back();
    b.idle.pop_back();
    return t;
}

static thread *resume_next()
{
    if (order > 1)
        std::swap(b.ready[b.next], b.ready[b.next + next_random(&b.random) % (b.ready.size() - b.next)]);
    thread *t = b.ready[b.next++];
    if (b.next == b.ready.size()) {
        b.ready.clear();
        b.next = 0;
    }
    return t;
}

/* Threads that an error has left in the middle. */
static void give_up_threads()
{
    for (thread &t : b.threads) {
        if (t.state == THREAD_NEW || t.state == THREAD_EXITED) continue;
        restart_fiber(t.on, run_threads);
        b.idle.push_back(t.on);
    }
}

static void forget_copies()
{
    for (std::vector<late_copy> &copies : b.copies) copies.clear();
    for (thread &t : b.threads) t.commits = 0;
    b.copied = false;
}

static void reset_block(const std::function<void()> &body)
{
    b.body = &body;
    b.begun = b.next = 0;
    b.live = (int)b.threads.size();
    b.arrived = b.brought = b.in_warps = 0;
    b.first = nullptr;
    b.failed = false;
    b.ready.clear();
    memset(b.waiting, 0, sizeof b.waiting);
    for (thread &t : b.threads) t.state = THREAD_NEW;
    if (b.copied) forget_copies();
    if (order > 1) shuffle_threads();
}

bool run_block(const std::function<void()> &body)
{
    reset_block(body);
    while (b.live && !b.failed) {
        thread *t = nullptr;
        if (b.begun < b.begin.size())
            t = begin_next();
        else if (!b.ready.empty())
            t = resume_next();
        if (!t && b.begun < b.begin.size()) {
            current = nullptr;
            note_failure("no memory for the stack of a thread");
        } else if (!t) {
            note_deadlock();
        } else {
            run(t);
            switch_fiber(&b.scheduler, t->on);
        }
    }
    if (b.failed) give_up_threads();
    current = nullptr;
    return !b.failed;
}

/* ---- waiting for each other ------------------------------------------------------- */

int barrier(bool brought, site at)
{
    thread *t = current;
    t->at = at;
    if (b.first && (b.first->at.line != at.line || strcmp(b.first->at.file, at.file)))
        fail_kernel("is at the barrier of %s:%d, while thread %d is at that of line %d", base_name(at.file),
                    at.line, b.first->number, b.first->at.line);
    if (!b.first) b.first = t;
    b.brought += brought;
    if (++b.arrived == b.live) {
        release_barrier(t);
        return b.result;
    }
    wait_as(t, THREAD_AT_BARRIER);
    return b.result;
}

/* All lanes of the mask that exist wait in the same operation. */
static bool all_have_come(const thread *t, unsigned lanes, const thread *warp)
{
    if ((b.waiting[t->warp] & lanes) != lanes) return false;
    for (int lane = 0; lane < 32; lane++)
        if (lanes >> lane & 1 && (warp[lane].mask != t->mask || warp[lane].work != t->work)) return false;
    return true;
}

static void check_lanes(const thread *t, unsigned lanes, const thread *warp)
{
    if (!(t->mask >> t->lane & 1))
        fail_kernel("calls a warp operation at %s:%d for lanes %08x, which leaves it out",
                    base_name(t->at.file), t->at.line, t->mask);
    for (int lane = 0; lane < 32; lane++)
        if (lanes >> lane & 1 && warp[lane].state == THREAD_EXITED)
            fail_kernel("calls a warp operation at %s:%d for lanes %08x, of which lane %d has exited",
                        base_name(t->at.file), t->at.line, t->mask, lane);
}

void warp_gather(unsigned mask, void *mine, warp_work work, site at)
{
    thread *t = current, *warp = &b.threads[(size_t)t->warp * 32];
    size_t size = std::min<size_t>(32, b.threads.size() - (size_t)t->warp * 32);
    unsigned lanes = mask & (size == 32 ? ~0u : (1u << size) - 1);
    t->mask = mask;
    t->work = work;
    t->mine = mine;
    t->at = at;
    check_lanes(t, lanes, warp);
    b.waiting[t->warp] |= 1u << t->lane;
    b.in_warps++;
    if (!all_have_come(t, lanes, warp)) {
        wait_as(t, THREAD_IN_WARP);
        return;
    }
    void *brought[32] = {};
    for (int lane = 0; lane < 32; lane++)
        if (lanes >> lane & 1) brought[lane] = warp[lane].mine;
    work(brought);
    b.waiting[t->warp] &= ~lanes;
    b.in_warps -= __builtin_popcount(lanes);
    for (int lane = 0; lane < 32; lane++)
        if (lanes >> lane & 1 && &warp[lane] != t) make_ready(&warp[lane]);
}

void count_votes(void *const (&lanes)[32])
{
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if (lanes[lane] && ((vote_lane *)lanes[lane])->vote) votes |= 1u << lane;
    for (void *lane : lanes)
        if (lane) ((vote_lane *)lane)->votes = votes;
}

void nothing(void *const (&)[32])
{
}

/* ---- copies that arrive late -------------------------------------------------------- */

void copy_later(void *to, const void *from, size_t bytes, bool valid)
{
    if (((uintptr_t)to | (uintptr_t)from) % bytes)
        fail_kernel("copies %zu bytes from %p to %p, which are not aligned to that", bytes, from, to);
    memset(to, 0xff, bytes);
    if (b.copies.size() < b.threads.size()) b.copies.resize(b.threads.size());
    b.copies[(size_t)current->number].push_back({current->commits, to, from, bytes, valid});
    b.copied = true;
}

void copies_commit()
{
    current->commits++;
    b.copied = true;
}

void copies_wait(int groups)
{
    if ((size_t)current->number >= b.copies.size()) return;
    std::vector<late_copy> &copies = b.copies[(size_t)current->number];
    size_t kept = 0;
    for (const late_copy &c : copies) {
        if (groups >= 0 && c.group >= current->commits - groups)
            copies[kept++] = c;
        else if (c.valid)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    copies.resize(kept);
}

} // namespace sim
