/* SPDX-License-Identifier: Apache-2.0 */
/* A whole run gives the same bits for any number of threads and of loader workers. The number of threads is a matter
 * of the process, so every run is one: this program, started with the name of the file for the weights. */
#include "base/file.h"

#include <light/light.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the program: convolutions, batch norm, dropout, pooling; 5 steps ---- */

enum { SAMPLES = 160, SIDE = 20, CLASSES = 10 };

typedef struct {
    light_module base;
    light_conv2d conv1, conv2;
    light_batch_norm norm1, norm2;
    light_linear fc1, fc2;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv1, self, "conv1", .in_channels = 3, .out_channels = 16, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_batch_norm_init(&m->norm1, self, "norm1", .features = 16));
    LIGHT_TRY(light_conv2d_init(&m->conv2, self, "conv2", .in_channels = 16, .out_channels = 20, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_batch_norm_init(&m->norm2, self, "norm2", .features = 20));
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = 20 * 25, .out_features = 70));
    return light_linear_init(&m->fc2, self, "fc2", .in_features = 70, .out_features = CLASSES);
}

static light_tensor *net_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    net *m = (net *)self;
    light_tensor *x = light_forward(s, &m->conv1.base, batch->fields[0]);
    x = light_max_pool2d(s, light_relu(s, light_forward(s, &m->norm1.base, x)), 2);
    x = light_forward(s, &m->norm2.base, light_forward(s, &m->conv2.base, x));
    x = light_dropout(s, light_flatten(s, light_avg_pool2d(s, light_gelu(s, x), 2), 1), 0.3);
    x = light_dropout(s, light_relu(s, light_forward(s, &m->fc1.base, x)), 0.5);
    return light_cross_entropy(s, light_forward(s, &m->fc2.base, x), batch->fields[1]);
}

static light_status net_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adamw(light_parameters(self), .lr = 0.01), NULL);
}

static const light_module_vtable net_vtable = {
    LIGHT_MODULE(net),
    .init = net_init,
    .training_step = net_training_step,
    .configure_optimizers = net_optimizers,
};

typedef struct {
    light_datamodule base;
    light_dataset *all;
    int workers;
} images;

static uint8_t pixels[SAMPLES][3][SIDE][SIDE];
static int64_t labels[SAMPLES];

static light_status images_setup(light_datamodule *self, light_stage stage)
{
    static const light_field fields[] = {{"x", LIGHT_U8, LIGHT_SHAPE(3, SIDE, SIDE)},
                                         {"y", LIGHT_I64, LIGHT_SCALAR}};
    uint32_t random = 1;
    (void)stage;
    for (int i = 0; i < SAMPLES; i++) {
        for (int j = 0; j < 3 * SIDE * SIDE; j++) {
            random = random * 1664525u + 1013904223u;
            (&pixels[i][0][0][0])[j] = (uint8_t)(random >> 24);
        }
        labels[i] = i % CLASSES;
    }
    return light_memory_dataset_open(&((images *)self)->all, fields, 2, SAMPLES,
                                     (const void *const[]){pixels, labels});
}

static light_loader *images_train(light_datamodule *self)
{
    images *d = (images *)self;
    return light_loader_new(d->all, .batch_size = 32, .shuffle = true, .num_workers = d->workers,
                            .transform = light_compose(light_random_crop(0, 0, 0, 2),
                                                       light_random_horizontal_flip(0, 0.5),
                                                       light_normalize(0, .mean = 0.5F, .std = 0.3F)));
}

static const light_datamodule_vtable images_vtable = {
    LIGHT_DATAMODULE(images),
    .setup = images_setup,
    .train_dataloader = images_train,
};

/* Parameters and buffers, one behind the other. */
static light_status write_weights(light_module *m, const char *path)
{
    static char bytes[1 << 20];
    FILE *file = fopen(path, "wb");
    light_status status = file ? LIGHT_OK : LIGHT_ERR_IO;
    for (light_parameter *p = light_next_parameter(m, NULL); p && status == LIGHT_OK;
         p = light_next_parameter(m, p)) {
        size_t n = (size_t)light_numel(p->tensor) * light_dtype_size(light_dtype_of(p->tensor));
        status = light_tensor_read(p->tensor, light_dtype_of(p->tensor), bytes, n);
        if (status == LIGHT_OK && fwrite(bytes, 1, n, file) != n) status = LIGHT_ERR_IO;
    }
    if (file) fclose(file);
    return status;
}

static int program(const char *path, int workers, int64_t seed)
{
    light_module *m = light_module_new(&net_vtable);
    light_datamodule *d = light_datamodule_new(&images_vtable);
    light_trainer *t = light_trainer_new(.max_epochs = 1, .barebones = true, .gradient_clip_val = 0.5,
                                         .accumulate_grad_batches = 1, .seed = seed);
    light_status status = m && d && t ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) {
        ((images *)d)->workers = workers;
        status = light_trainer_fit(t, m, d);
    }
    if (status == LIGHT_OK && light_trainer_global_step(t) != SAMPLES / 32) status = LIGHT_ERR_INTERNAL;
    if (status == LIGHT_OK) status = write_weights(m, path);
    if (status != LIGHT_OK) fprintf(stderr, "%s\n", light_error_message());
    light_trainer_free(t);
    light_datamodule_free(d);
    light_module_free(m);
    return status != LIGHT_OK;
}

/* ---- the test ------------------------------------------------------------ */

static char folder[256];

static int make_folder(void **state)
{
    (void)state;
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/light-threads-XXXXXX", temporary ? temporary : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return light_remove_tree(folder) == LIGHT_OK ? 0 : -1;
}

/* The weights after such a run, to be freed; how many bytes into *n. */
static char *weights(const char *threads, const char *workers, const char *seed, size_t *n)
{
    char path[300];
    int status;
    snprintf(path, sizeof path, "%s/weights", folder);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("OMP_NUM_THREADS", threads, 1);
        setenv("OMP_DYNAMIC", "false", 1);
        execl("/proc/self/exe", "test_threads", path, workers, seed, (char *)NULL);
        _exit(98);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    *n = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void test_same_bits(void **state)
{
    (void)state;
    size_t n, m;
    char *first = weights("1", "0", "1", &n);
    assert_true(n > 100000);
    for (int i = 0; i < 4; i++) {
        static const char *const threads[] = {"2", "3", "1", "3"}, *const workers[] = {"0", "0", "2", "2"};
        char *other = weights(threads[i], workers[i], "1", &m);
        assert_int_equal(m, n);
        if (memcmp(first, other, n))
            fail_msg("%s threads, %s workers: other weights", threads[i], workers[i]);
        free(other);
    }
    /* The comparison sees a difference where there is one. */
    char *other = weights("1", "0", "2", &m);
    assert_int_equal(m, n);
    assert_true(memcmp(first, other, n) != 0);
    free(other);
    free(first);
}

int main(int argc, char **argv)
{
    if (argc == 4) return program(argv[1], atoi(argv[2]), atoi(argv[3]));
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits)};
    return cmocka_run_group_tests_name("threads", tests, make_folder, remove_folder);
}
