/* SPDX-License-Identifier: Apache-2.0 */
/* The threads of the CPU backend; see team.h.
 *
 * A job is announced by a new ticket. A worker that sees it enters through the door, which holds the ticket, how many
 * have entered, and whether it is closed; a worker that comes late finds it closed or with another ticket, and waits on.
 * The caller closes the door, then waits for those who entered. */
#include "cpu/once/team.h"

#include "base/thread.h"

#include <linux/futex.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SPIN = 100000, /* ns that a thread spins before it sleeps */
    CHUNKS = 8,    /* pieces that a thread's share of the items is taken in */
    CLOSED = 1 << 30,
};

/* A number that threads wait on. */
typedef struct {
    _Alignas(64) atomic_uint value;
    atomic_int asleep;
} word;

/* A member's share of the items; others help when they are done with theirs. */
typedef struct {
    _Alignas(64) atomic_llong next;
    int64_t end;
} share;

static struct {
    word ticket, start, left, phase; /* phase: of the barrier */
    _Alignas(64) atomic_ullong door; /* ticket << 32 | CLOSED | number entered */
    _Alignas(64) atomic_int arrived; /* at the barrier */
    atomic_flag busy;
    int workers, size; /* workers that run; members wanted */
    atomic_int spin;   /* ns */
    /* the job */
    atomic_int most; /* members */
    int crew_size;
    light_task_each each;
    light_crew_fn crew;
    void *context;
    int64_t chunk;
    share shares[LIGHT_TEAM_MOST];
} team = {.busy = ATOMIC_FLAG_INIT};

static _Thread_local bool inside;

/* ---- waiting ------------------------------------------------------------ */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pause_core(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits until the word no longer holds `old`. */
static void wait_while(word *w, unsigned old)
{
    int64_t until = 0;
    for (int i = 1; atomic_load_explicit(&w->value, memory_order_acquire) == old; i++) {
        pause_core();
        if (i % 32) continue;
        const int64_t time = now();
        if (!until) until = time + team.spin;
        if (time < until) continue;
        atomic_fetch_add(&w->asleep, 1);
        syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_fetch_sub(&w->asleep, 1);
    }
}

static void wake(word *w)
{
    if (atomic_load(&w->asleep) > 0)
        syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, LIGHT_TEAM_MOST, NULL, NULL, 0);
}

/* ---- work --------------------------------------------------------------- */

/* The own share first, which is the same part of the items in every job, then what others have left. */
static void take_items(int rank)
{
    const int most = team.most;
    for (int k = 0; k < most; k++) {
        share *s = &team.shares[(rank + k) % most];
        for (;;) {
            if (atomic_load_explicit(&s->next, memory_order_relaxed) >= s->end) break;
            int64_t i = atomic_fetch_add_explicit(&s->next, team.chunk, memory_order_relaxed);
            const int64_t end = i + team.chunk < s->end ? i + team.chunk : s->end;
            for (; i < end; i++) team.each(team.context, i, rank);
        }
    }
}

static void work(int id, int place, unsigned ticket)
{
    if (team.each) {
        take_items(id);
        return;
    }
    for (unsigned old; (old = atomic_load(&team.start.value)) != ticket;) wait_while(&team.start, old);
    team.crew(team.context, team.crew_size == team.most ? id : place, team.crew_size);
}

/* The place in line, from 1; 0: too late, or there are enough. */
static int enter(int id, unsigned ticket)
{
    unsigned long long door = atomic_load(&team.door);
    do {
        if (door >> 32 != ticket || door & CLOSED || id >= team.most) return 0;
    } while (!atomic_compare_exchange_weak(&team.door, &door, door + 1));
    return (int)(door & (CLOSED - 1)) + 1;
}

/* Where OpenMP has bound the first thread to a core, this one would share that core: it goes to the next. */
static void take_core(int id)
{
    const int places = omp_get_num_places();
    if (places < 1) return;
    const int place = id % places, n = omp_get_place_num_procs(place);
    int numbers[1024];
    cpu_set_t set;
    if (n < 1 || n > 1024) return;
    omp_get_place_proc_ids(place, numbers);
    CPU_ZERO(&set);
    for (int i = 0; i < n; i++)
        if (numbers[i] < CPU_SETSIZE) CPU_SET(numbers[i], &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *run_worker(void *argument)
{
    const int id = (int)(intptr_t)argument;
    unsigned seen = 0;
    inside = true;
    take_core(id);
    for (;;) {
        wait_while(&team.ticket, seen);
        seen = atomic_load(&team.ticket.value);
        const int place = enter(id, seen);
        if (!place) continue;
        work(id, place, seen);
        atomic_fetch_add(&team.left.value, 1);
        wake(&team.left);
    }
    return NULL;
}

/* ---- the caller --------------------------------------------------------- */

/* A forked child has none of the threads. */
static void forget_workers(void)
{
    word *words[] = {&team.ticket, &team.start, &team.left, &team.phase};
    for (int i = 0; i < 4; i++) atomic_store(&words[i]->asleep, 0);
    atomic_fetch_or(&team.door, CLOSED);
    team.workers = 0;
    if (!inside) atomic_flag_clear(&team.busy);
}

static void set_up(void)
{
    if (!team.size) {
        const int threads = omp_get_max_threads();
        team.size = threads < LIGHT_TEAM_MOST ? threads : LIGHT_TEAM_MOST;
        pthread_atfork(NULL, NULL, forget_workers);
    }
    team.spin = team.size <= omp_get_num_procs() ? SPIN : 0;
}

int light_team_size(void)
{
    if (inside) return 1;
    if (!team.size) set_up();
    return team.size;
}

void light_set_num_threads(int threads)
{
    light_team_size();
    team.size = threads < 1 ? 1 : threads < LIGHT_TEAM_MOST ? threads : LIGHT_TEAM_MOST;
    set_up();
}

static void start_workers(void)
{
    while (team.workers + 1 < team.size) {
        pthread_t thread;
        if (light_thread_start(&thread, "light-cpu", run_worker, (void *)(intptr_t)(team.workers + 1)) !=
            LIGHT_OK) {
            team.size = team.workers + 1; /* then with those there are */
            return;
        }
        pthread_detach(thread);
        team.workers++;
    }
}

/* False: to be done alone. */
static bool begin(void)
{
    if (light_team_size() == 1 || atomic_flag_test_and_set(&team.busy)) return false;
    start_workers();
    team.most = team.size;
    inside = true;
    return true;
}

static unsigned announce(void)
{
    const unsigned ticket = atomic_load(&team.ticket.value) + 1;
    atomic_store(&team.left.value, 0);
    atomic_store(&team.door, (unsigned long long)ticket << 32);
    atomic_store(&team.ticket.value, ticket);
    wake(&team.ticket);
    return ticket;
}

static int close_door(void)
{
    return (int)(atomic_fetch_or(&team.door, CLOSED) & (CLOSED - 1));
}

static void finish(int entered)
{
    for (unsigned left; (left = atomic_load(&team.left.value)) != (unsigned)entered;)
        wait_while(&team.left, left);
    inside = false;
    atomic_flag_clear(&team.busy);
}

void light_team_each(bool pays, int64_t n, light_task_each fn, void *context)
{
    if (!pays || n < 2 || !begin()) {
        for (int64_t i = 0; i < n; i++) fn(context, i, 0);
        return;
    }
    team.each = fn;
    team.context = context;
    team.chunk = n / ((int64_t)team.most * CHUNKS) + 1;
    for (int i = 0; i < team.most; i++) {
        atomic_store_explicit(&team.shares[i].next, n * i / team.most, memory_order_relaxed);
        team.shares[i].end = n * (i + 1) / team.most;
    }
    announce();
    take_items(0);
    finish(close_door());
}

void light_team_crew(int64_t patience, light_crew_fn fn, void *context)
{
    if (!begin()) {
        fn(context, 0, 1);
        return;
    }
    team.each = NULL;
    team.crew = fn;
    team.context = context;
    atomic_store(&team.arrived, 0);
    const unsigned ticket = announce();
    const int64_t until = now() + patience;
    for (int i = 1; (int)(atomic_load(&team.door) & (CLOSED - 1)) < team.most - 1; i++) {
        pause_core();
        if (i % 32 == 0 && now() > until) break;
    }
    const int entered = close_door();
    team.crew_size = entered + 1;
    atomic_store(&team.start.value, ticket);
    wake(&team.start);
    fn(context, 0, entered + 1);
    finish(entered);
}

void light_crew_barrier(int size)
{
    if (size == 1) return;
    const unsigned phase = atomic_load(&team.phase.value);
    if (atomic_fetch_add(&team.arrived, 1) + 1 < size) {
        wait_while(&team.phase, phase);
        return;
    }
    atomic_store(&team.arrived, 0);
    atomic_store(&team.phase.value, phase + 1);
    wake(&team.phase);
}
