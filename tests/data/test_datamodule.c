/* SPDX-License-Identifier: Apache-2.0 */
/* Datamodules: who owns what their hooks open, which failures come out, batches as tensors. The datamodule is written
 * as a user's program does it: without a free hook. */
#include "data/fixture.h"

#include "data/datamodule.h"

#include <light/step.h>

enum { SAMPLES = 30, CLASSES = 3 };

typedef struct {
    light_datamodule base;
    light_dataset *train, *val, *test;
    const char *root;
    int64_t batch_size;
    int num_workers;
    int teardowns, befores, afters;
} fashion;

static const light_option fashion_options[] = {
    LIGHT_OPTION(fashion, root, "", "folder with the IDX files (.gz or plain)"),
    LIGHT_OPTION(fashion, batch_size, 8, "samples a rank takes in one step"),
    LIGHT_OPTION(fashion, num_workers, 2, "loader threads; 0 loads in the training thread"),
    LIGHT_OPTIONS_END};

static light_status fashion_setup(light_datamodule *self, light_stage stage)
{
    fashion *d = (fashion *)self;

    if (stage == LIGHT_STAGE_FIT) {
        light_dataset *all;
        LIGHT_TRY(light_idx_dataset_open(&all, d->root, "train-images", "train-labels"));
        LIGHT_TRY(light_dataset_split(all, 20, &d->train, &d->val));
    }
    if (stage == LIGHT_STAGE_TEST || stage == LIGHT_STAGE_PREDICT) {
        LIGHT_TRY(light_idx_dataset_open(&d->test, d->root, "train-images", "train-labels"));
    }
    return LIGHT_OK;
}

static light_loader *fashion_loader(fashion *d, light_dataset *from, bool shuffle)
{
    return light_loader_new(from, .batch_size = d->batch_size, .shuffle = shuffle,
                            .num_workers = d->num_workers,
                            .transform = light_normalize(0, .mean = 0.2860f, .std = 0.3530f));
}

static light_loader *fashion_train(light_datamodule *self)
{
    fashion *d = (fashion *)self;
    return fashion_loader(d, d->train, true);
}

static light_loader *fashion_val(light_datamodule *self)
{
    fashion *d = (fashion *)self;
    return light_loader_chain(fashion_loader(d, d->val, false), fashion_loader(d, d->train, false));
}

static light_loader *fashion_test(light_datamodule *self)
{
    fashion *d = (fashion *)self;
    return fashion_loader(d, d->test, false);
}

static void fashion_teardown(light_datamodule *self, light_stage stage)
{
    (void)stage;
    ((fashion *)self)->teardowns++;
}

static light_status fashion_before(light_datamodule *self, light_step *s, light_batch *batch)
{
    fashion *d = (fashion *)self;

    assert_int_equal(d->befores++, d->afters);
    if (batch->index == 2) light_step_fail(s, LIGHT_ERR_USER, "not the third one");
    return LIGHT_OK;
}

static light_status fashion_after(light_datamodule *self, light_step *s, light_batch *batch)
{
    (void)s;
    (void)batch;
    ((fashion *)self)->afters++;
    return LIGHT_OK;
}

static const light_datamodule_vtable fashion_vtable = {
    LIGHT_DATAMODULE(fashion),
    .options = fashion_options,
    .setup = fashion_setup,
    .teardown = fashion_teardown,
    .train_dataloader = fashion_train,
    .val_dataloader = fashion_val,
    .test_dataloader = fashion_test,
    .on_before_batch_transfer = fashion_before,
    .on_after_batch_transfer = fashion_after,
};

static void put_files(void)
{
    uint8_t images[16 + SAMPLES * 4] = {0, 0, 8, 3, 0, 0, 0, SAMPLES, 0, 0, 0, 2, 0, 0, 0, 2};
    uint8_t labels[8 + SAMPLES] = {0, 0, 8, 1, 0, 0, 0, SAMPLES};

    for (int i = 0; i < SAMPLES; i++) {
        memset(images + 16 + 4 * i, 8 * i, 4);
        labels[8 + i] = (uint8_t)(i % CLASSES);
    }
    put_file("train-images", images, sizeof images);
    put_file("train-labels", labels, sizeof labels);
}

static light_datamodule *make_data(void)
{
    light_datamodule *data = light_datamodule_new(&fashion_vtable);

    assert_non_null(data);
    assert_int_equal(((fashion *)data)->batch_size, 8);
    ((fashion *)data)->root = folder;
    return data;
}

static void datasets_go_with_the_datamodule(void **state)
{
    light_loader *train, *val, *test, *predict;

    (void)state;
    put_files();
    for (int setups = 0; setups <= 3; setups++) {
        light_datamodule *data = make_data();
        assert_ok(light_datamodule_prepare_data(data));
        for (int i = 0; i < setups; i++) {
            assert_ok(light_datamodule_setup(data, LIGHT_STAGE_FIT));
            assert_ok(light_datamodule_loader(data, LIGHT_STAGE_FIT, &train));
            assert_ok(light_datamodule_loader(data, LIGHT_STAGE_VALIDATE, &val));
            assert_int_equal(light_loader_num_batches(train), 3);
            assert_int_equal(light_loader_num_batches(light_loader_following(val)), 3);
            assert_ok(light_loader_begin(train, 0, 0));
            light_loader_free(train);
            light_loader_free(val);
            light_datamodule_teardown(data, LIGHT_STAGE_FIT);
            assert_ok(light_datamodule_setup(data, LIGHT_STAGE_TEST));
            assert_ok(light_datamodule_loader(data, LIGHT_STAGE_TEST, &test));
            light_loader_free(test);
            assert_ok(light_datamodule_loader(data, LIGHT_STAGE_PREDICT, &predict));
            assert_null(predict);
        }
        assert_int_equal(((fashion *)data)->teardowns, setups);
        light_datamodule_free(data);
    }
    light_datamodule_free(NULL);
}

/* Setting a stage up many times holds the datasets of the last time only. */
static void a_new_setup_replaces_the_old_one(void **state)
{
    light_datamodule *data = make_data();
    int64_t live = 0;

    (void)state;
    put_files();
    for (int i = 0; i < 5; i++) {
        assert_ok(light_datamodule_setup(data, LIGHT_STAGE_FIT));
        if (i > 0) assert_int_equal(light_memory_count().live, live);
        live = light_memory_count().live;
    }
    /* A stage that opens nothing leaves everything. */
    assert_ok(light_datamodule_setup(data, LIGHT_STAGE_VALIDATE));
    assert_int_equal(light_memory_count().live, live);
    light_datamodule_free(data);
}

static void a_loader_outlives_its_datamodule(void **state)
{
    light_datamodule *data = make_data();
    light_loader *loader;
    light_host_batch batch;
    light_batch about;

    (void)state;
    put_files();
    assert_ok(light_datamodule_setup(data, LIGHT_STAGE_FIT));
    assert_ok(light_datamodule_loader(data, LIGHT_STAGE_FIT, &loader));
    light_datamodule_free(data);
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_ok(light_loader_next_host(loader, &batch, &about));
    assert_int_equal(batch.size, 8);
    light_loader_free(loader);
}

static void failures_of_hooks_come_out(void **state)
{
    light_datamodule *data = make_data();
    light_loader *loader;

    (void)state;
    assert_fails(light_datamodule_setup(data, LIGHT_STAGE_FIT), LIGHT_ERR_NOT_FOUND, "fashion: setup",
                 "train-labels");
    assert_fails(light_datamodule_loader(data, LIGHT_STAGE_FIT, &loader), LIGHT_ERR_ARGUMENT,
                 "fashion: train_dataloader", "setup");
    assert_null(loader);
    put_files();
    assert_ok(light_datamodule_setup(data, LIGHT_STAGE_FIT));
    ((fashion *)data)->batch_size = 0;
    assert_fails(light_datamodule_loader(data, LIGHT_STAGE_VALIDATE, &loader), LIGHT_ERR_ARGUMENT,
                 "fashion: val_dataloader", "batch_size is 0");
    /* None is no failure, whatever failed before. */
    assert_true(light_datamodule_has_loader(data, LIGHT_STAGE_TEST));
    assert_false(light_datamodule_has_loader(data, LIGHT_STAGE_PREDICT));
    assert_ok(light_datamodule_loader(data, LIGHT_STAGE_PREDICT, &loader));
    assert_null(loader);
    light_datamodule_free(data);

    assert_null(light_datamodule_new(NULL));
    assert_message((const char *[]){"LIGHT_DATAMODULE", NULL});
    assert_null(light_datamodule_new(&(light_datamodule_vtable){.size = sizeof(light_datamodule_vtable)}));
}

static void batches_are_tensors_of_the_step_without_a_copy(void **state)
{
    light_datamodule *data = make_data();
    light_loader *loader;
    light_step *s;
    light_batch batch;
    int64_t seen = 0;

    (void)state;
    put_files();
    assert_ok(light_step_new(&s, .seed = 1));
    assert_ok(light_datamodule_setup(data, LIGHT_STAGE_FIT));
    assert_ok(light_datamodule_loader(data, LIGHT_STAGE_FIT, &loader));
    assert_ok(light_loader_begin(loader, 0, 0));
    for (;;) {
        float pixels[8 * 4];
        int64_t labels[8];
        assert_ok(light_step_begin(s));
        assert_ok(light_loader_next(loader, s, &batch));
        if (batch.size == 0) break;
        assert_int_equal(batch.num_fields, 2);
        assert_int_equal(light_step_bytes(s), 0);
        assert_true(light_shape_equal(light_shape_of(batch.fields[0]), LIGHT_SHAPE(batch.size, 1, 2, 2)));
        assert_int_equal(light_dtype_of(batch.fields[0]), LIGHT_F32);
        memcpy(pixels, light_data(batch.fields[0]), (size_t)batch.size * 4 * sizeof(float));
        memcpy(labels, light_data(batch.fields[1]), (size_t)batch.size * sizeof(int64_t));
        for (int64_t i = 0; i < batch.size; i++) {
            assert_int_equal(labels[i], batch.indices[i] % CLASSES);
            double expected = ((double)(8 * batch.indices[i]) / 255 - (double)0.2860f) / (double)0.3530f;
            assert_float_equal(pixels[4 * i], expected, 1e-5);
        }
        seen += batch.size;
        if (batch.index == 2) {
            assert_fails(light_datamodule_transfer(data, s, &batch), LIGHT_ERR_USER, "not the third one");
        } else {
            assert_ok(light_datamodule_transfer(data, s, &batch));
        }
    }
    assert_int_equal(seen, 20);
    assert_int_equal(((fashion *)data)->afters, 3);
    light_loader_free(loader);
    light_datamodule_free(data);
    light_step_free(s);
}

static void tensors_are_a_dataset(void **state)
{
    float x[6] = {0, 1, 2, 3, 4, 5}, row[2];
    int64_t y[3] = {7, 8, 9}, label;
    light_tensor *tx, *ty;
    light_dataset *dataset;

    (void)state;
    assert_ok(light_tensor_wrap(&tx, LIGHT_SHAPE(3, 2), LIGHT_F32, x));
    assert_ok(light_tensor_wrap(&ty, LIGHT_SHAPE(3), LIGHT_I64, y));
    assert_ok(light_tensor_dataset_open(&dataset, (light_tensor *[]){tx, ty}, 2));
    assert_int_equal(light_dataset_length(dataset), 3);
    assert_ok(light_dataset_get(dataset, 2, (void *[]){row, &label}));
    assert_true(row[0] == 4 && row[1] == 5);
    assert_int_equal(label, 9);
    light_dataset_free(dataset);
    light_tensor_free(ty);
    assert_ok(light_tensor_wrap(&ty, LIGHT_SHAPE(2), LIGHT_I64, y));
    assert_fails(light_tensor_dataset_open(&dataset, (light_tensor *[]){tx, ty}, 2), LIGHT_ERR_SHAPE,
                 "tensor 1 has 2 samples", "3");
    assert_fails(light_tensor_dataset_open(&dataset, (light_tensor *[]){NULL}, 1), LIGHT_ERR_SHAPE,
                 "tensor 0");
    light_tensor_free(tx);
    light_tensor_free(ty);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(datasets_go_with_the_datamodule),
        TEST(a_new_setup_replaces_the_old_one),
        TEST(a_loader_outlives_its_datamodule),
        TEST(failures_of_hooks_come_out),
        TEST(batches_are_tensors_of_the_step_without_a_copy),
        TEST(tensors_are_a_dataset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
