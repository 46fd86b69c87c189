/* SPDX-License-Identifier: Apache-2.0 */
/* A small program with a command line, and how to run it: a test that includes this is that program too, when it is
 * started with TEST_AS_PROGRAM in its environment. */
#ifndef TESTS_CONFIG_PROGRAM_H
#define TESTS_CONFIG_PROGRAM_H

#include "base/file.h"
#include "base/memory.h"
#include "config/config.h"

#include <light/light.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the module: logits of 3 classes from 4 numbers --------------------- */

typedef struct tiny {
    light_module base;
    light_linear fc1, fc2;
    int hidden;
    int64_t seen; /* never set by the program, an option of a type of its own */
    float lr;
    double decay;
    bool fancy;
    light_switch bias;
    const char *name, *kind, *nothing;
} tiny;

static const light_option tiny_options[] = {
    LIGHT_OPTION_RANGE(tiny, hidden, 8, 1, 64, "width of the hidden layer"),
    LIGHT_OPTION(tiny, seen, 0, "a whole number"),
    LIGHT_OPTION_RANGE(tiny, lr, 0.05, 1e-12, INFINITY, "learning rate"),
    LIGHT_OPTION(tiny, decay, 0.0, "weight decay"),
    LIGHT_OPTION(tiny, fancy, false, "be fancy"),
    LIGHT_OPTION(tiny, bias, LIGHT_ON, "use a bias"),
    LIGHT_OPTION(tiny, name, "plain", "any text"),
    LIGHT_OPTION_CHOICE(tiny, kind, "relu", "relu|tanh", "nonlinearity"),
    LIGHT_OPTION(tiny, nothing, (const char *)NULL, "text that has no default"),
    LIGHT_OPTIONS_END,
};

static light_status tiny_init(light_module *self)
{
    tiny *m = (tiny *)self;
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = 4, .out_features = m->hidden,
                                .bias = m->bias));
    return light_linear_init(&m->fc2, self, "fc2", .in_features = m->hidden, .out_features = 3);
}

static light_tensor *tiny_forward(light_module *self, light_step *s, light_tensor *x)
{
    tiny *m = (tiny *)self;
    x = light_forward(s, &m->fc1.base, x);
    return light_forward(s, &m->fc2.base, strcmp(m->kind, "tanh") ? light_relu(s, x) : light_tanh(s, x));
}

static light_tensor *tiny_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
    light_log(s, "train_loss", loss, .on_step = true, .prog_bar = true);
    return loss;
}

static void tiny_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    light_log(s, "val_loss", light_cross_entropy(s, logits, batch->fields[1]));
}

static void tiny_test_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    light_log(s, "test_loss", light_cross_entropy(s, logits, batch->fields[1]));
    light_log(s, "test_acc", light_accuracy(s, logits, batch->fields[1]));
}

static light_tensor *tiny_predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    return light_argmax(s, light_forward(s, self, batch->fields[0]), 1);
}

static light_status tiny_configure_optimizers(light_module *self, light_optimizers *out)
{
    tiny *m = (tiny *)self;
    light_optimizer *adamw =
        light_adamw(light_parameters(self), .lr = m->lr, .weight_decay = light_exactly(m->decay));
    return light_optimizers_add(out, adamw, NULL);
}

static const light_module_vtable tiny_vtable = {
    LIGHT_MODULE(tiny),
    .options = tiny_options,
    .init = tiny_init,
    .forward = tiny_forward,
    .training_step = tiny_training_step,
    .validation_step = tiny_validation_step,
    .test_step = tiny_test_step,
    .predict_step = tiny_predict_step,
    .configure_optimizers = tiny_configure_optimizers,
};

/* ---- the datamodule: 60 points, the class is where the largest of the first three numbers is ---- */

enum { POINTS = 60 };
static float point_x[POINTS][4];
static int64_t point_y[POINTS];

typedef struct points {
    light_datamodule base;
    light_dataset *all;
    int64_t batch_size;
    int num_workers;
} points;

static const light_option points_options[] = {
    LIGHT_OPTION_RANGE(points, batch_size, 10, 1, INFINITY, "samples in a batch"),
    LIGHT_OPTION_RANGE(points, num_workers, 0, 0, 8, "loader threads"),
    LIGHT_OPTIONS_END,
};

static light_status points_setup(light_datamodule *self, light_stage stage)
{
    static const light_field fields[] = {{"x", LIGHT_F32, LIGHT_SHAPE(4)}, {"y", LIGHT_I64, LIGHT_SCALAR}};
    points *d = (points *)self;
    (void)stage;
    uint32_t random = 1;
    for (int i = 0; i < POINTS; i++) {
        for (int j = 0; j < 4; j++) {
            random = random * 1664525u + 1013904223u;
            point_x[i][j] = (float)(random >> 8) / (float)(1 << 24) * 2 - 1;
        }
        point_y[i] = 0;
        for (int j = 1; j < 3; j++)
            if (point_x[i][j] > point_x[i][point_y[i]]) point_y[i] = j;
    }
    return light_memory_dataset_open(&d->all, fields, 2, POINTS, (const void *const[]){point_x, point_y});
}

static light_loader *points_loader(light_datamodule *self)
{
    points *d = (points *)self;
    return light_loader_new(d->all, .batch_size = d->batch_size, .num_workers = d->num_workers);
}

static light_loader *points_train(light_datamodule *self)
{
    points *d = (points *)self;
    return light_loader_new(d->all, .batch_size = d->batch_size, .num_workers = d->num_workers,
                            .shuffle = true);
}

static const light_datamodule_vtable points_vtable = {
    LIGHT_DATAMODULE(points),
    .options = points_options,
    .setup = points_setup,
    .train_dataloader = points_train,
    .val_dataloader = points_loader,
    .test_dataloader = points_loader,
    .predict_dataloader = points_loader,
};

/* ---- running it --------------------------------------------------------- */

__attribute__((unused)) static char folder[256]; /* of this test; programs run in it */

__attribute__((unused)) static int make_folder(void **state)
{
    (void)state;
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/light-config-XXXXXX", temporary ? temporary : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

__attribute__((unused)) static int remove_folder(void **state)
{
    (void)state;
    return light_remove_tree(folder) == LIGHT_OK ? 0 : -1;
}

/* folder/name, in one of a few buffers that are used in turn. */
__attribute__((unused)) static const char *at(const char *name)
{
    static char paths[16][600];
    static int next;
    next = (next + 1) % 16;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

__attribute__((unused)) static void put(const char *name, const char *text)
{
    FILE *file = fopen(at(name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* What the last program said. */
__attribute__((unused)) static char out[1 << 17], err[1 << 17];
static volatile pid_t running;
static bool as_nobody;     /* run as a user who may not write what root may */
enum { NOT_STARTED = 98 }; /* the exit code when that user may not run the program either */

static void read_all(const char *name, char *text, size_t bytes)
{
    FILE *file = fopen(at(name), "r");
    assert_non_null(file);
    size_t n = fread(text, 1, bytes - 1, file);
    assert_true(feof(file));
    text[n] = '\0';
    fclose(file);
}

/* Starts `executable` (NULL: this program) in the test's folder; environment: "NAME=VALUE", or NULL. */
__attribute__((unused)) static void start(const char *executable, const char *environment,
                                          const char *const *arguments)
{
    const char *argv[64] = {executable ? executable : "tiny"};
    for (int i = 0; arguments[i]; i++) argv[i + 1] = arguments[i];
    fflush(NULL);
    running = fork();
    assert_true(running >= 0);
    if (running > 0) return;
    int to_out = open(at("stdout"), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0666);
    int to_err = open(at("stderr"), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0666);
    if (to_out < 0 || to_err < 0 || dup2(to_out, 1) < 0 || dup2(to_err, 2) < 0 || chdir(folder)) _exit(99);
    if (as_nobody && geteuid() == 0 && (setgid(65534) || setuid(65534))) _exit(97);
    setenv("TEST_AS_PROGRAM", "1", 1);
    if (environment) putenv((char *)environment);
    execv(executable ? executable : "/proc/self/exe", (char *const *)argv);
    _exit(NOT_STARTED);
}

__attribute__((unused)) static int finish(void)
{
    int status;
    assert_int_equal(waitpid(running, &status, 0), running);
    read_all("stdout", out, sizeof out);
    read_all("stderr", err, sizeof err);
    if (!WIFEXITED(status)) fail_msg("killed by signal %d:\n%s", WTERMSIG(status), err);
    return WEXITSTATUS(status);
}

/* The exit code of the program with these arguments. */
#define run_program(...) run_program_with(NULL, __VA_ARGS__)
#define run_program_with(environment, ...)                                                                   \
    (start(NULL, environment, (const char *const[]){__VA_ARGS__, NULL}), finish())

#define assert_says(text, part)                                                                              \
    do {                                                                                                     \
        if (!strstr(text, part)) fail_msg("not said: %s\nbut:\n%s", part, text);                             \
    } while (0)
#define assert_says_not(text, part)                                                                          \
    do {                                                                                                     \
        if (strstr(text, part)) fail_msg("said: %s\nin:\n%s", part, text);                                   \
    } while (0)
/* Fails with `code`, and its last words are exactly this line. */
#define assert_fails(code, line, ...)                                                                        \
    do {                                                                                                     \
        assert_int_equal(run_program(__VA_ARGS__), code);                                                    \
        assert_string_equal(err, "error: tiny: " line "\n");                                                 \
    } while (0)

#define PROGRAM_MAIN(...)                                                                                    \
    int main(int argc, char **argv)                                                                          \
    {                                                                                                        \
        if (getenv("TEST_AS_PROGRAM"))                                                                       \
            return light_cli(argc, argv, &tiny_vtable, &points_vtable, __VA_ARGS__);                         \
        return all_tests();                                                                                  \
    }

#endif
