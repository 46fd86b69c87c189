/* SPDX-License-Identifier: Apache-2.0 */
/* Several ranks without a launcher: processes that a test forks, which meet in shared memory; a communicator and a
 * strategy over it. The strategy sums the gradients of single micro-batches in the order of their numbers, so the sums are
 * the same bits for any number of ranks. */
#ifndef TESTS_STRATEGIES_FAKE_H
#define TESTS_STRATEGIES_FAKE_H

#include "strategies/nets.h"

#include "base/memory.h"
#include "nn/flat.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define FAKE_RANKS 8
#define FAKE_BYTES (1 << 20) /* of one rank in one collective */
#define FAKE_RUN   16        /* micro-batches of one rank in a window */

typedef struct fake_world {
    pthread_barrier_t barrier;
    char slots[FAKE_RANKS][FAKE_BYTES];
    char results[FAKE_RANKS][1 << 16];        /* what ranks tell the test */
    _Atomic int mail[FAKE_RANKS][FAKE_RANKS]; /* bytes on the way from one rank to another; 0: none */
    char letters[FAKE_RANKS][FAKE_RANKS][1 << 14];
    int stop_at[FAKE_RANKS]; /* the boundary at which the rank is asked to stop by a signal; -1: none */
    int ends, failures;
} fake_world;

static fake_world *fake; /* shared */
static int fake_rank, fake_size;
static light_communicator *fake_host; /* another one instead of that in shared memory */

/* ---- processes ----------------------------------------------------------- */

/* Runs `rank` in `size` processes; fails when one of them does. */
MAYBE_UNUSED static void fake_run(int size, void (*rank)(void *), void *argument)
{
    pid_t pids[FAKE_RANKS];
    pthread_barrierattr_t shared;
    memset(fake, 0, sizeof *fake);
    for (int r = 0; r < FAKE_RANKS; r++) fake->stop_at[r] = -1;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&fake->barrier, &shared, (unsigned)size);
    fflush(NULL);
    for (int r = 0; r < size; r++) {
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r]) continue;
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* an assertion ends this process */
        signal(SIGABRT, SIG_DFL);
        alarm(60); /* and so does a rank that waits for ever */
        fake_rank = r;
        fake_size = size;
        rank(argument);
        fflush(NULL);
        _exit(0);
    }
    int failed = 0;
    for (int r = 0, status; r < size; r++) {
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        if (status != 0) {
            fprintf(stderr, "rank %d of %d: status %x\n", r, size, (unsigned)status);
            failed++;
            for (int other = r + 1; other < size; other++) kill(pids[other], SIGKILL);
        }
    }
    assert_int_equal(failed, 0);
}

MAYBE_UNUSED static int fake_begin(void **state)
{
    fake = mmap(NULL, sizeof *fake, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return fake == MAP_FAILED ? -1 : lab_begin(state);
}

MAYBE_UNUSED static int fake_end(void **state)
{
    munmap(fake, sizeof *fake);
    return lab_end(state);
}

#define fake_test(name) cmocka_unit_test_setup_teardown(name, fake_begin, fake_end)

/* ---- the communicator ------------------------------------------------------ */

static double fake_combined(const light_collective *call, const double *values, int size)
{
    double all = values[0];
    for (int r = 1; r < size; r++)
        all = call->combine == LIGHT_COMBINE_SUM   ? all + values[r]
              : call->combine == LIGHT_COMBINE_MIN ? fmin(all, values[r])
                                                   : fmax(all, values[r]);
    return all;
}

static void fake_send(const light_communicator *c, const light_collective *call, size_t bytes)
{
    assert_true(bytes > 0 && bytes <= sizeof fake->letters[0][0]);
    while (fake->mail[c->rank][call->peer]) sched_yield();
    memcpy(fake->letters[c->rank][call->peer], call->in, bytes);
    fake->mail[c->rank][call->peer] = (int)bytes;
}

static void fake_receive(const light_communicator *c, const light_collective *call, size_t bytes)
{
    while (!fake->mail[call->peer][c->rank]) sched_yield();
    assert_int_equal(fake->mail[call->peer][c->rank], bytes);
    memcpy(call->out, fake->letters[call->peer][c->rank], bytes);
    fake->mail[call->peer][c->rank] = 0;
}

static light_status fake_start(light_communicator *c, const light_collective *call, light_ticket *ticket)
{
    size_t bytes = (size_t)call->count * light_dtype_size(call->dtype);
    *ticket = 1;
    if (call->kind == LIGHT_SEND || call->kind == LIGHT_RECEIVE) {
        (call->kind == LIGHT_SEND ? fake_send : fake_receive)(c, call, bytes);
        return LIGHT_OK;
    }
    if (bytes > FAKE_BYTES) return light_fail(LIGHT_ERR_ARGUMENT, "%s: %zu bytes", call->what, bytes);
    if (call->in) memcpy(fake->slots[c->rank], call->in, bytes);
    pthread_barrier_wait(&fake->barrier);
    switch (call->kind) {
    case LIGHT_BARRIER: break;
    case LIGHT_BROADCAST: memcpy(call->out, fake->slots[call->peer], bytes); break;
    case LIGHT_ALL_GATHER:
        for (int r = 0; r < c->size; r++)
            memcpy((char *)call->out + (size_t)r * bytes, fake->slots[r], bytes);
        break;
    case LIGHT_ALL_REDUCE:
        assert_int_equal(call->dtype, LIGHT_F64);
        for (int64_t i = 0; i < call->count; i++) {
            double values[FAKE_RANKS] = {0};
            for (int r = 0; r < c->size; r++) values[r] = ((double *)(void *)fake->slots[r])[i];
            ((double *)call->out)[i] = fake_combined(call, values, c->size);
        }
        break;
    default: fail_msg("collective %d", call->kind);
    }
    pthread_barrier_wait(&fake->barrier);
    return LIGHT_OK;
}

static light_status fake_wait(light_communicator *c, light_ticket ticket)
{
    (void)c, (void)ticket;
    return LIGHT_OK;
}

static const light_communicator_vtable fake_communicator = {
    .size = sizeof fake_communicator, .name = "fake", .start = fake_start, .wait = fake_wait};

/* ---- messages of checkpoints: files in the test's folder ------------------------ */

static void fake_path(char *path, size_t bytes, int from, int to, uint64_t number)
{
    snprintf(path, bytes, "%s/message-%d-%d-%llu", folder, from, to, (unsigned long long)number);
}

static light_status fake_post(int to, uint64_t number, const void *bytes, size_t n)
{
    char path[256];
    fake_path(path, sizeof path, fake_rank, to, number);
    return light_file_write_atomic(path, bytes, n);
}

static light_status fake_take(int from, uint64_t number, void **bytes, size_t *n)
{
    char path[256];
    fake_path(path, sizeof path, from, fake_rank, number);
    while (access(path, R_OK)) usleep(1000);
    LIGHT_TRY(light_file_read(path, (char **)bytes, n));
    return unlink(path) == 0 ? LIGHT_OK : LIGHT_ERR_IO;
}

static light_status fake_part(void *user, uint64_t number, const void *bytes, size_t n)
{
    (void)user;
    return fake_post(0, number, bytes, n);
}

static light_status fake_part_of(void *user, int rank, uint64_t number, void **bytes, size_t *n)
{
    (void)user;
    return fake_take(rank, number, bytes, n);
}

static light_status fake_announce(void *user, uint64_t number, const void *bytes, size_t n)
{
    (void)user;
    for (int r = 1; r < fake_size; r++) LIGHT_TRY(fake_post(r, number, bytes, n));
    return LIGHT_OK;
}

static light_status fake_await(void *user, uint64_t number, void **bytes, size_t *n)
{
    (void)user;
    return fake_take(0, number, bytes, n);
}

/* ---- the strategy ------------------------------------------------------------ */

typedef struct fake_strategy {
    light_strategy base;
    light_communicator host;
    light_module *module;
    light_sharing sharing;      /* every rank has everything */
    float *gradients[FAKE_RUN]; /* of each micro-batch of this rank in the window */
    int n;
    int64_t boundaries, evaluations;
} fake_strategy;

static light_status fake_launch(const light_trainer_options *options)
{
    (void)options;
    return LIGHT_OK;
}

static light_status fake_device(const light_trainer_options *options, light_device **device)
{
    (void)options;
    *device = light_default_device();
    return LIGHT_OK;
}

static const light_strategy_vtable fake_vtable;

static light_status fake_open(const light_trainer_options *options, light_device *device,
                              light_strategy **out)
{
    fake_strategy *f = light_calloc(1, sizeof *f);
    (void)options;
    f->host = (light_communicator){
        .vtable = &fake_communicator, .rank = fake_rank, .size = fake_size, .device = device};
    f->base = (light_strategy){.vtable = &fake_vtable,
                               .rank = fake_rank,
                               .size = fake_size,
                               .ordered = true,
                               .host = fake_host ? fake_host : &f->host,
                               .tensors = fake_host ? fake_host : &f->host,
                               .checkpoint_group = {.rank = fake_rank,
                                                    .size = fake_size,
                                                    .send = fake_part,
                                                    .receive = fake_part_of,
                                                    .announce = fake_announce,
                                                    .await = fake_await}};
    *out = &f->base;
    return LIGHT_OK;
}

static bool fake_fail(light_strategy *self, light_status status, const char *text)
{
    (void)self, (void)status, (void)text;
    if (fake) fake->failures++;
    return true;
}

/* Stops at the boundary that the test has set for any rank. */
static light_status fake_boundary(light_strategy *self, int64_t boundary, int signal_number, bool *stop)
{
    fake_strategy *f = (fake_strategy *)self;
    (void)signal_number;
    assert_true(boundary == f->boundaries);
    f->boundaries++;
    *stop = false;
    for (int r = 0; fake && r < self->size; r++) *stop |= fake->stop_at[r] == boundary;
    return LIGHT_OK;
}

static void fake_close(light_strategy *self)
{
    light_free(self);
}

static int64_t fake_count(light_module *module)
{
    int64_t n = 0;
    for (light_parameter *p = light_next_parameter(module, NULL); p; p = light_next_parameter(module, p))
        if (!p->is_buffer) n += p->tensor->numel;
    return n;
}

static light_status fake_attach(light_strategy *self, light_module *module, light_step *s)
{
    fake_strategy *f = (fake_strategy *)self;
    (void)s;
    f->module = module;
    f->sharing = (light_sharing){.copies = self->size, .copy = self->rank, .first = self->rank == 0};
    module->flat->sharing = &f->sharing;
    for (int i = 0; i < FAKE_RUN; i++)
        f->gradients[i] = light_calloc((size_t)fake_count(module), sizeof(float));
    return LIGHT_OK;
}

static void fake_detach(light_strategy *self)
{
    fake_strategy *f = (fake_strategy *)self;
    f->module->flat->sharing = NULL;
    for (int i = 0; i < FAKE_RUN; i++) light_free(f->gradients[i]);
}

/* So that a backward leaves the gradient of one micro-batch. */
static light_status fake_before(light_strategy *self, light_step *s, const light_window *window)
{
    fake_strategy *f = (fake_strategy *)self;
    (void)s, (void)window;
    for (light_parameter *p = light_next_parameter(f->module, NULL); p;
         p = light_next_parameter(f->module, p))
        if (!p->is_buffer) light_grad_zero(p->tensor);
    return LIGHT_OK;
}

static void fake_read(fake_strategy *f, float *to)
{
    for (light_parameter *p = light_next_parameter(f->module, NULL); p;
         p = light_next_parameter(f->module, p)) {
        if (p->is_buffer) continue;
        size_t bytes = (size_t)p->tensor->numel * sizeof(float);
        if (light_grad(p->tensor))
            assert_ok(light_tensor_read(light_grad(p->tensor), LIGHT_F32, to, bytes));
        else
            memset(to, 0, bytes);
        to += p->tensor->numel;
    }
}

static void fake_write(fake_strategy *f, const float *from)
{
    for (light_parameter *p = light_next_parameter(f->module, NULL); p;
         p = light_next_parameter(f->module, p)) {
        if (p->is_buffer) continue;
        p->tensor->grad_fresh = false;
        assert_ok(
            light_tensor_write(p->tensor->grad, LIGHT_F32, from, (size_t)p->tensor->numel * sizeof(float)));
        from += p->tensor->numel;
    }
}

static light_status fake_after(light_strategy *self, light_step *s, const light_window *window, bool backward)
{
    fake_strategy *f = (fake_strategy *)self;
    int64_t count = fake_count(f->module);
    size_t bytes = (size_t)count * sizeof(float);
    (void)s;
    assert_true(!backward || (window->done == f->n && f->n < window->mine));
    assert_true(window->contributors >= 1 && window->contributors <= self->size);
    if (backward) fake_read(f, f->gradients[f->n++]);
    if (!window->last) return LIGHT_OK;
    float *sum = calloc((size_t)count, sizeof *sum), *one = malloc(bytes);
    int ns[FAKE_RANKS], n = f->n;
    assert_ok(light_communicate(self->host, &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                                .in = &n,
                                                                .out = ns,
                                                                .count = 1,
                                                                .dtype = LIGHT_I32,
                                                                .what = "counts"}));
    bool first = true;
    for (int r = 0; r < self->size; r++)
        for (int i = 0; i < ns[r]; i++) {
            if (r == self->rank) memcpy(one, f->gradients[i], bytes);
            assert_ok(light_broadcast_bytes(self->host, one, bytes, r, "gradients"));
            for (int64_t k = 0; k < count; k++) sum[k] = first ? one[k] : sum[k] + one[k];
            first = false;
        }
    fake_write(f, sum);
    free(sum);
    free(one);
    f->n = 0;
    return LIGHT_OK;
}

static light_status fake_after_step(light_strategy *self, light_step *s)
{
    (void)self, (void)s;
    return LIGHT_OK;
}

static const light_strategy_vtable fake_vtable = {
    .size = sizeof fake_vtable,
    .name = "fake",
    .launch = fake_launch,
    .device = fake_device,
    .open = fake_open,
    .fail = fake_fail,
    .boundary = fake_boundary,
    .close = fake_close,
    .attach = fake_attach,
    .before_backward = fake_before,
    .after_backward = fake_after,
    .after_step = fake_after_step,
    .detach = fake_detach,
};

/* A trainer of this rank. */
MAYBE_UNUSED static light_trainer *fake_trainer(light_trainer_options options)
{
    light_trainer *t = quiet_trainer(options);
    t->strategy_table = &fake_vtable;
    return t;
}

#endif
