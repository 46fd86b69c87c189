/* SPDX-License-Identifier: Apache-2.0 */
/* The examples with a command line run: fit, go on, test, predict. */
#include "config/program.h"
#include "images.h"

#define RUN(example, ...)                                                                                    \
    run_example(LIGHT_TEST_BINARY_DIR "/examples/" example, (const char *const[]){__VA_ARGS__, NULL})

/* Its standard output and error are in out and err. */
static void run_example(const char *example, const char *const *arguments)
{
    const char *all[32] = {arguments[0], "--data.root", "data", "--data.batch_size", "16"};
    int n = 5;
    for (int i = 1; arguments[i]; i++) all[n++] = arguments[i];
    if (access(example, X_OK)) skip(); /* built without examples */
    start(example, "OMP_NUM_THREADS=2", all);
    int code = finish();
    if (code) fail_msg("%s %s: exit code %d:\n%s", example, arguments[0], code, err);
}

static bool is_there(const char *name)
{
    return access(at(name), F_OK) == 0;
}

static void test_fast_dev_run(void **state)
{
    (void)state;
    RUN("fashion_mnist", "fit", "--trainer.fast_dev_run", "2");
    assert_says(err, "val_acc");
    RUN("gan", "fit", "--trainer.fast_dev_run", "2");
    assert_says(err, "d_loss");
    assert_false(is_there("runs"));
}

static void test_fashion_mnist(void **state)
{
    (void)state;
    RUN("fashion_mnist", "fit", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3",
        "--trainer.limit_val_batches", "2");
    assert_true(is_there("runs/convnet/version_0/checkpoints/best/manifest.json"));
    RUN("fashion_mnist", "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2",
        "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2");
    RUN("fashion_mnist", "test", "--ckpt_path", "best");
    assert_says(err, "test_acc");
    RUN("fashion_mnist", "predict", "--ckpt_path", "last");
    assert_true(is_there("runs/convnet/version_0/predictions.csv"));
}

static void test_gan(void **state)
{
    (void)state;
    RUN("gan", "fit", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3",
        "--trainer.log_every_n_steps", "1");
    assert_true(is_there("runs/gan/version_0/checkpoints/last/manifest.json"));
    read_all("runs/gan/version_0/metrics.csv", out, sizeof out);
    assert_says(out, "g_loss,d_loss");
    RUN("gan", "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", "--trainer.limit_train_batches",
        "3");
    RUN("gan", "predict", "--ckpt_path", "last");
    assert_true(is_there("runs/gan/version_0/predictions.csv"));
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fast_dev_run), /* first: it leaves nothing */
        cmocka_unit_test(test_fashion_mnist),
        cmocka_unit_test(test_gan),
    };
    return cmocka_run_group_tests_name("examples", tests, make_images, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.")
