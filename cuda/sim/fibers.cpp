/* SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime.h>
#include <cstdarg>
#include <vector>
#include <algorithm>
#include <sys/mman.h>
#ifdef LIGHT_SIM_UCONTEXT
#include <ucontext.h>
#endif
thread_local SimThread *sim_cur;
thread_local SimBlk sim_blk;
int sim_order;

void sim_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("light_sim: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(70);
}

// ---- fibers ------------------------------------------------------------------------------------
struct SimFiber {
#ifdef LIGHT_SIM_UCONTEXT
    ucontext_t uc;
#else
    void *sp;
#endif
    char *stack;
    SimThread *t;
};
enum { STACK = 256 << 10 };
struct Block {
    const std::function<void()> *body;
    std::vector<SimThread> th;
    std::vector<int> order, ready;
    std::vector<SimFiber *> idle;
    struct LateCopy {
        int thread, group; // group: how many commits the thread had done
        void *to;
        const void *from;
        size_t bytes;
        bool valid;
    };
    std::vector<LateCopy> copies;
    std::vector<int> commits; // by thread
    int next, live, arrived, npred;
    int pop;
    SimFiber sched;
    unsigned long switches;
};
static thread_local Block B;
unsigned long sim_switches()
{
    return B.switches;
}

#ifdef LIGHT_SIM_UCONTEXT
static void fswitch(SimFiber *from, SimFiber *to)
{
    B.switches++;
    swapcontext(&from->uc, &to->uc);
}
#else
extern "C" void light_sim_swap(void **save, void *load);
asm(R"(
    .text
    .globl light_sim_swap
light_sim_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static void fswitch(SimFiber *from, SimFiber *to)
{
    B.switches++;
    light_sim_swap(&from->sp, to->sp);
}
#endif

static void release_block()
{
    for (SimThread &t : B.th)
        if (t.state == SIM_AT_BLOCK) {
            t.pred_out = B.pop == 0 ? B.npred : B.pop == 1 ? B.npred == B.live : B.npred > 0;
            t.state = SIM_READY;
            B.ready.push_back(t.lin);
        }
    B.arrived = B.npred = 0;
}
static void fiber_main()
{ // runs one CUDA thread after another
    for (;;) {
        SimFiber *f = sim_cur->fiber;
        (*B.body)();
        SimThread *t = sim_cur;
        t->state = SIM_DONE;
        B.live--;
        if (B.live && B.arrived == B.live) release_block(); // exited threads count as arrived (sm_70+)
        if (B.next < (int)B.th.size()) {                    // barrier-free kernels never switch
            SimThread *n = &B.th[B.order[B.next++]];
            n->fiber = f;
            n->state = SIM_RUN;
            f->t = n;
            sim_cur = n;
            continue;
        }
        B.idle.push_back(f);
        fswitch(f, &B.sched);
    }
}
static SimFiber *new_fiber()
{
    SimFiber *f = new SimFiber();
    f->stack =
        (char *)mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(f->stack, 4096, PROT_NONE); // guard page
#ifdef LIGHT_SIM_UCONTEXT
    getcontext(&f->uc);
    f->uc.uc_stack.ss_sp = f->stack;
    f->uc.uc_stack.ss_size = STACK;
    f->uc.uc_link = 0;
    makecontext(&f->uc, fiber_main, 0);
#else
    void **sp = (void **)(f->stack + STACK);
    *--sp = 0;
    *--sp = (void *)fiber_main; // return address; keeps 16-byte alignment at entry
    for (int i = 0; i < 6; i++) *--sp = 0;
    f->sp = sp;
#endif
    return f;
}
static void wait_here(int state)
{
    SimThread *t = sim_cur;
    SimFiber *f = t->fiber;
    t->state = state;
    fswitch(f, &B.sched);
    sim_cur = t;
}
static const char *names[] = {"not started",   "running",          "ready",
                              "__syncthreads", "a warp operation", "exited"};

void sim_run_block(const std::function<void()> &body, int n)
{
    B.body = &body;
    B.next = B.arrived = B.npred = 0;
    B.live = n;
    B.ready.clear();
    B.copies.clear();
    B.commits.assign(n, 0);
    B.th.resize(n);
    B.order.resize(n);
    dim3 d = sim_blk.bdim;
    for (int i = 0; i < n; i++) {
        SimThread &t = B.th[i];
        t = SimThread();
        t.lin = i;
        t.lane = i & 31;
        t.warp = i >> 5;
        t.state = SIM_NEW;
        t.tid = {i % d.x, i / d.x % d.y, i / (d.x * d.y)};
        B.order[i] = sim_order == 1 ? n - 1 - i : i;
    }
    if (sim_order > 1) {
        unsigned s = sim_order;
        for (int i = n - 1; i > 0; i--) {
            s = s * 1664525u + 1013904223u;
            std::swap(B.order[i], B.order[(s >> 8) % (i + 1)]);
        }
    }
    while (B.live) {
        SimThread *t;
        if (B.next < n) {
            t = &B.th[B.order[B.next++]];
            if (B.idle.empty()) B.idle.push_back(new_fiber());
            t->fiber = B.idle.back();
            B.idle.pop_back();
            t->fiber->t = t;
        } else if (!B.ready.empty()) {
            t = &B.th[B.ready.back()];
            B.ready.pop_back();
        } else {
            fprintf(stderr, "light_sim: deadlock in block (%u,%u,%u): %d live of %d\n", blockIdx.x,
                    blockIdx.y, blockIdx.z, B.live, n);
            for (SimThread &w : B.th)
                if (w.lane == 0 || w.state == SIM_AT_WARP)
                    fprintf(stderr, "  thread %d in %s at %p mask %08x\n", w.lin, names[w.state], w.site,
                            w.mask);
            sim_die("deadlock");
        }
        t->state = SIM_RUN;
        sim_cur = t;
        fswitch(&B.sched, t->fiber);
    }
}
int sim_block_sync_pred(const void *site, int pred, int op)
{
    SimThread *t = sim_cur;
    t->site = site;
    for (SimThread &w : B.th)
        if (w.state == SIM_AT_BLOCK) { // synccheck
            if (w.site != site)
                sim_die("divergent __syncthreads: thread %d at %p, thread %d at %p", w.lin, w.site, t->lin,
                        site);
            break;
        }
    B.npred += pred != 0;
    B.pop = op;
    if (++B.arrived == B.live) {
        t->state = SIM_AT_BLOCK;
        release_block();
        B.ready.erase(std::remove_if(B.ready.begin(), B.ready.end(), [&](int i) { return i == t->lin; }),
                      B.ready.end());
        t->state = SIM_RUN;
        return t->pred_out;
    }
    wait_here(SIM_AT_BLOCK);
    return t->pred_out;
}
void sim_block_sync(const void *site)
{
    sim_block_sync_pred(site, 0, 0);
}

void sim_warp_collective(unsigned mask, int op, const void *site)
{
    SimThread *t = sim_cur, *w = &B.th[t->warp * 32];
    int nl = std::min<int>(32, (int)B.th.size() - t->warp * 32);
    unsigned exist = nl == 32 ? ~0u : (1u << nl) - 1;
    if (!(mask >> t->lane & 1))
        sim_die("thread %d calls a warp operation with mask %08x that leaves it out", t->lin, mask);
    t->mask = mask;
    t->op = op;
    t->site = site;
    t->state = SIM_AT_WARP;
    bool all = true;
    for (int l = 0; l < nl; l++)
        if (mask >> l & 1) {
            if (w[l].state == SIM_DONE)
                sim_die("warp operation names lane %d, which has exited (thread %d)", l, t->lin);
            if (w[l].state != SIM_AT_WARP || w[l].mask != mask || w[l].op != op) all = false;
        }
    if (mask & ~exist & ~0u && nl == 32) {
    }
    if (!all) {
        wait_here(SIM_AT_WARP);
        return;
    }
    unsigned ballot = 0;
    if (op == SIM_OP_TOGETHER) {
        void *lanes[32];
        if (nl != 32) sim_die("an operation of a whole warp in a warp of %d threads", nl);
        for (int l = 0; l < 32; l++) lanes[l] = w[l].mine;
        t->work(lanes);
    }
    for (int l = 0; l < nl; l++)
        if (mask >> l & 1 && w[l].pred) ballot |= 1u << l;
    for (int l = 0; l < nl; l++)
        if (mask >> l & 1) {
            if (op == SIM_OP_SHFL) {
                int s = w[l].src;
                if (s >= nl || !(mask >> s & 1))
                    memset(w[l].out, 0xff, 16); // inactive source: poison
                else
                    memcpy(w[l].out, w[s].in, 16);
            }
            w[l].pred_out = (int)ballot;
        }
    for (int l = 0; l < nl; l++)
        if (mask >> l & 1 && &w[l] != t) {
            w[l].state = SIM_READY;
            B.ready.push_back(w[l].lin);
        }
    t->state = SIM_RUN;
}

namespace sim
{
void copy_later(void *to, const void *from, size_t bytes, bool valid)
{
    if (((uintptr_t)to | (uintptr_t)from) % bytes)
        sim_die("cp.async of %zu bytes that are not aligned", bytes);
    memset(to, 0xff, bytes);
    B.copies.push_back({sim_cur->lin, B.commits[sim_cur->lin], to, from, bytes, valid});
}
void copies_commit()
{
    B.commits[sim_cur->lin]++;
}
/* The thread's copies arrive but for those of its last `groups` groups; negative: all of them, committed or not. */
void copies_wait(int groups)
{
    int me = sim_cur->lin;
    size_t kept = 0;
    for (const auto &c : B.copies) {
        if (c.thread != me || (groups >= 0 && c.group >= B.commits[me] - groups))
            B.copies[kept++] = c;
        else if (c.valid)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    B.copies.resize(kept);
}
static void run(dim3 g, dim3 b, size_t smem, const std::function<void()> &body)
{
    unsigned n = b.x * b.y * b.z;
    std::vector<unsigned char> dyn(smem + 16);
    for (unsigned z = 0; z < g.z; z++)
        for (unsigned y = 0; y < g.y; y++)
            for (unsigned x = 0; x < g.x; x++) {
                memset(dyn.data(), 0xff, dyn.size());
                sim_blk.bid = {x, y, z};
                sim_blk.bdim = b;
                sim_blk.gdim = g;
                sim_blk.dyn = (unsigned char *)(((uintptr_t)dyn.data() + 15) & ~(uintptr_t)15);
                sim_blk.ndyn = smem;
                sim_run_block(body, (int)n);
            }
}
cudaError_t launch(dim3 g, dim3 b, size_t smem, cudaStream_t stream, std::function<void()> body)
{
    unsigned n = b.x * b.y * b.z;
    if (n == 0 || n > 1024 || b.z > 64 || smem > 227 * 1024) return cudaErrorInvalidValue;
    enqueue(stream, [=] { run(g, b, smem, body); });
    return cudaSuccess;
}
} // namespace sim
