/* SPDX-License-Identifier: Apache-2.0 */
/* Once it is warm a training step asks nobody for memory: no allocation of ours, none of any library below us, and no
 * page is touched for the first time. The program's malloc counts. */
#include "trainer/lab.h"

#include <limits.h>
#include <stdatomic.h>
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- malloc that counts ------------------------------------------------- */

static atomic_long allocations;

#ifndef SANITIZED
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(block, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    *out = __libc_memalign(alignment, bytes);
    return *out ? 0 : 12; /* ENOMEM */
}
#endif

/* ---- a callback that measures windows of steps -------------------------- */

enum { WARM_UP = 30, WINDOW = 8, WINDOWS = 4 };

typedef struct counts {
    long heap;
    uint64_t ours;
    long faults;
} counts;

typedef struct meter {
    light_callback base;
    counts at[WINDOWS + 1];
    int n, batches;
} meter;

static counts count_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (counts){atomic_load(&allocations), light_memory_count().calls, usage.ru_minflt};
}

static void meter_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    meter *m = (meter *)self;
    (void)t, (void)batch;
    m->batches++;
    if (m->batches < WARM_UP || m->n > WINDOWS || (m->batches - WARM_UP) % WINDOW) return;
    m->at[m->n++] = count_now();
}

static const light_callback_vtable meter_vtable = {
    LIGHT_CALLBACK(meter),
    .on_train_batch_end = meter_batch_end,
};

static void check_meter(const meter *m)
{
    long fewest = LONG_MAX;
    assert_int_equal(m->n, WINDOWS + 1);
    for (int i = 0; i < WINDOWS; i++) {
        assert_int_equal(m->at[i + 1].ours - m->at[i].ours, 0);
        assert_int_equal(m->at[i + 1].heap - m->at[i].heap, 0);
        long faults = m->at[i + 1].faults - m->at[i].faults;
        if (faults < fewest) fewest = faults;
    }
    /* The kernel may take a page away and bring it back; a step that needs new pages does so in every window. */
#ifndef SANITIZED
    assert_int_equal(fewest, 0);
#endif
}

/* ---- models ------------------------------------------------------------- */

typedef struct mlp {
    light_module base;
    light_linear fc1, fc2, fc3;
} mlp;

static light_status mlp_init(light_module *self)
{
    mlp *m = (mlp *)self;
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = LAB_FEATURES, .out_features = 256));
    LIGHT_TRY(light_linear_init(&m->fc2, self, "fc2", .in_features = 256, .out_features = 64));
    return light_linear_init(&m->fc3, self, "fc3", .in_features = 64, .out_features = LAB_CLASSES);
}

static light_tensor *mlp_forward(light_module *self, light_step *s, light_tensor *x)
{
    mlp *m = (mlp *)self;
    x = light_relu(s, light_forward(s, &m->fc1.base, x));
    x = light_dropout(s, light_relu(s, light_forward(s, &m->fc2.base, x)), 0.1);
    return light_forward(s, &m->fc3.base, x);
}

typedef struct convnet {
    light_module base;
    light_conv2d conv1, conv2;
    light_batch_norm norm1, norm2;
    light_linear fc;
} convnet;

static light_status convnet_init(light_module *self)
{
    convnet *m = (convnet *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv1, self, "conv1", .in_channels = 1, .out_channels = 8, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_batch_norm_init(&m->norm1, self, "norm1", .features = 8));
    LIGHT_TRY(light_conv2d_init(&m->conv2, self, "conv2", .in_channels = 8, .out_channels = 16, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_batch_norm_init(&m->norm2, self, "norm2", .features = 16));
    return light_linear_init(&m->fc, self, "fc", .in_features = 16 * 2, .out_features = LAB_CLASSES);
}

static light_tensor *convnet_forward(light_module *self, light_step *s, light_tensor *x)
{
    convnet *m = (convnet *)self;
    x = light_reshape(s, x, LIGHT_SHAPE(-1, 1, 4, 8));
    x = light_relu(s, light_forward(s, &m->norm1.base, light_forward(s, &m->conv1.base, x)));
    x = light_max_pool2d(s, x, 2);
    x = light_relu(s, light_forward(s, &m->norm2.base, light_forward(s, &m->conv2.base, x)));
    x = light_avg_pool2d(s, x, 2);
    return light_forward(s, &m->fc.base, light_flatten(s, x, 1));
}

/* A residual block with a stride, its 1x1 shortcut, a depthwise and a grouped convolution. */
typedef struct resnet {
    light_module base;
    light_conv2d stem, strided, depthwise, grouped, shortcut;
    light_batch_norm norm1, norm2, norm3;
    light_linear fc;
} resnet;

static light_status resnet_init(light_module *self)
{
    resnet *m = (resnet *)self;
    LIGHT_TRY(light_conv2d_init(&m->stem, self, "stem", .in_channels = 1, .out_channels = 32, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_batch_norm_init(&m->norm1, self, "norm1", .features = 32));
    LIGHT_TRY(light_conv2d_init(&m->strided, self, "strided", .in_channels = 32, .out_channels = 64,
                                .kernel = 3, .stride = 2, .padding = 1, .bias = LIGHT_OFF));
    LIGHT_TRY(light_conv2d_init(&m->depthwise, self, "depthwise", .in_channels = 64, .out_channels = 64,
                                .kernel = 3, .padding = 1, .groups = 64));
    LIGHT_TRY(light_batch_norm_init(&m->norm2, self, "norm2", .features = 64));
    LIGHT_TRY(light_conv2d_init(&m->grouped, self, "grouped", .in_channels = 64, .out_channels = 64,
                                .kernel = 3, .padding = 1, .groups = 4));
    LIGHT_TRY(light_conv2d_init(&m->shortcut, self, "shortcut", .in_channels = 32, .out_channels = 64,
                                .kernel = 1, .stride = 2));
    LIGHT_TRY(light_batch_norm_init(&m->norm3, self, "norm3", .features = 64));
    return light_linear_init(&m->fc, self, "fc", .in_features = 64 * 2, .out_features = LAB_CLASSES);
}

static light_tensor *resnet_forward(light_module *self, light_step *s, light_tensor *x)
{
    resnet *m = (resnet *)self;
    x = light_reshape(s, x, LIGHT_SHAPE(-1, 1, 4, 8));
    x = light_relu(s, light_forward(s, &m->norm1.base, light_forward(s, &m->stem.base, x)));
    light_tensor *y = light_forward(s, &m->depthwise.base, light_forward(s, &m->strided.base, x));
    y = light_forward(s, &m->grouped.base, light_relu(s, light_forward(s, &m->norm2.base, y)));
    x = light_forward(s, &m->norm3.base, light_forward(s, &m->shortcut.base, x));
    x = light_avg_pool2d(s, light_relu_(s, light_add_(s, x, y)), 2);
    return light_forward(s, &m->fc.base, light_flatten(s, x, 1));
}

static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    light_tensor *loss = light_cross_entropy(s, logits, batch->fields[1]);
    light_log(s, "train_loss", loss, .on_step = true, .on_epoch = true, .prog_bar = true);
    light_log(s, "train_acc", light_accuracy(s, logits, batch->fields[1]));
    return loss;
}

static light_status optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adamw(light_parameters(self), .lr = 1e-3),
                                light_cosine_schedule(.warmup_steps = 5));
}

static const light_module_vtable mlp_vtable = {LIGHT_MODULE(mlp), .init = mlp_init, .forward = mlp_forward,
                                               .training_step = training_step,
                                               .configure_optimizers = optimizers};
static const light_module_vtable convnet_vtable = {LIGHT_MODULE(convnet), .init = convnet_init,
                                                   .forward = convnet_forward, .training_step = training_step,
                                                   .configure_optimizers = optimizers};
static const light_module_vtable resnet_vtable = {LIGHT_MODULE(resnet), .init = resnet_init,
                                                  .forward = resnet_forward, .training_step = training_step,
                                                  .configure_optimizers = optimizers};

/* ---- tests -------------------------------------------------------------- */

static void measure(const light_module_vtable *module, int workers, int64_t accumulate, const char *precision)
{
    meter m = {.base.vtable = &meter_vtable};
    light_trainer *trainer =
        light_trainer_new(.default_root_dir = folder, .max_epochs = 1, .log_every_n_steps = 1000,
                          .gradient_clip_val = 1, .accumulate_grad_batches = accumulate,
                          .precision = precision,
                          .callbacks = {light_learning_rate_monitor(.log_momentum = true), &m.base});
    lab l = lab_new(module, trainer);
    l.data->workers = workers;
    l.data->shuffle = true;
    assert_ok(lab_fit(&l));
    check_meter(&m);
    lab_free(&l);
}

static void an_mlp_steps_without_new_memory(void **state)
{
    (void)state;
    measure(&mlp_vtable, 0, 1, "32-true");
}

static void an_mlp_with_loader_workers_steps_without_new_memory(void **state)
{
    (void)state;
    measure(&mlp_vtable, 2, 1, "32-true");
}

static void an_mlp_that_accumulates_steps_without_new_memory(void **state)
{
    (void)state;
    measure(&mlp_vtable, 0, 3, "32-true");
}

static void a_convnet_steps_without_new_memory(void **state)
{
    (void)state;
    measure(&convnet_vtable, 0, 1, "32-true");
}

static void a_convnet_with_loader_workers_steps_without_new_memory(void **state)
{
    (void)state;
    measure(&convnet_vtable, 2, 1, "32-true");
}

static void mixed_and_16_bit_precision_step_without_new_memory(void **state)
{
    (void)state;
    measure(&mlp_vtable, 0, 1, "bf16-mixed");
    measure(&mlp_vtable, 0, 3, "16-mixed");
    measure(&mlp_vtable, 2, 1, "bf16-true");
    measure(&convnet_vtable, 0, 1, "bf16-mixed");
    measure(&convnet_vtable, 0, 1, "16-mixed");
}

static void a_resnet_steps_without_new_memory(void **state)
{
    (void)state;
    measure(&resnet_vtable, 0, 1, "32-true");
}

static void the_counters_count(void **state)
{
    counts before = count_now();
    (void)state;
    void *volatile block = malloc(1 << 22);
    assert_non_null(block);
    memset(block, 1, 1 << 22);
    free(block);
    light_free(light_alloc(8));
    counts after = count_now();
    assert_true(after.ours > before.ours);
#ifndef SANITIZED
    assert_true(after.heap >= before.heap + 2);
    assert_true(after.faults > before.faults);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(the_counters_count),
        lab_test(an_mlp_steps_without_new_memory),
        lab_test(an_mlp_with_loader_workers_steps_without_new_memory),
        lab_test(an_mlp_that_accumulates_steps_without_new_memory),
        lab_test(a_convnet_steps_without_new_memory),
        lab_test(a_convnet_with_loader_workers_steps_without_new_memory),
        lab_test(mixed_and_16_bit_precision_step_without_new_memory),
        lab_test(a_resnet_steps_without_new_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
