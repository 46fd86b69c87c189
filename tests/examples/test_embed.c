/* SPDX-License-Identifier: Apache-2.0 */
/* examples/embed, which has no options, with a short run and a folder of the test's put under it. */
#include <light/light.h>

static light_trainer *short_trainer(const light_trainer_options *options);
static light_datamodule *black_images(const light_datamodule_vtable *vtable);

#define light_trainer_new_with short_trainer
#define light_datamodule_new   black_images
#define main                   embed_main
#include "examples/embed/embed.c"
#undef light_trainer_new_with
#undef light_datamodule_new
#undef main

#define WITHOUT_MAIN
#include "examples/fashion_mnist/fashion_mnist.c"

#include "config/program.h"
#include "images.h"

static int64_t epochs;

static light_trainer *short_trainer(const light_trainer_options *options)
{
    light_trainer_options o = *options;
    o.max_epochs = epochs;
    o.limit_train_batches = o.limit_val_batches = o.limit_test_batches = "2";
    o.default_root_dir = at("runs");
    return light_trainer_new_with(&o);
}

static light_datamodule *black_images(const light_datamodule_vtable *vtable)
{
    light_datamodule *data = light_datamodule_new(vtable);
    assert_non_null(data);
    ((fashion *)data)->root = at("data");
    ((fashion *)data)->batch_size = 16;
    return data;
}

static void test_runs_and_goes_on(void **state)
{
    (void)state;
    for (epochs = 1; epochs <= 2; epochs++)
        if (embed_main()) fail_msg("embed: %s", light_error_message());
    /* The second went on from the first: it counts steps on, in the same folder. */
    assert_true(light_directory_exists(at("runs/convnet/version_0/checkpoints/epoch=1-step=4")));
    assert_false(light_directory_exists(at("runs/convnet/version_1")));
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs_and_goes_on)};
    return cmocka_run_group_tests_name("embed", tests, make_images, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.")
