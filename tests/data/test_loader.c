/* SPDX-License-Identifier: Apache-2.0 */
/* Loaders over map-style datasets: which samples come in which order, whoever loads them. */
#include "data/fixture.h"

#include <light/state.h>

#define N 103

/* Sample i is {i, 2 i, 3 i} as i32 and i as i64. `bad` fails. */
typedef struct {
    light_dataset base;
    int64_t n, bad;
} numbers;

static light_status numbers_describe(light_dataset *self, light_field *fields, int *num_fields)
{
    (void)self;
    fields[0] = (light_field){.name = "x", .dtype = LIGHT_I32, .shape = LIGHT_SHAPE(1, 1, 3)};
    fields[1] = (light_field){.name = "y", .dtype = LIGHT_I64};
    *num_fields = 2;
    return LIGHT_OK;
}

static int64_t numbers_length(light_dataset *self)
{
    return ((numbers *)self)->n;
}

static light_status numbers_get(light_dataset *self, int64_t index, void *const *to)
{
    int32_t *x = to[0];

    if (index == ((numbers *)self)->bad) return light_fail(LIGHT_ERR_USER, "the disk is gone");
    for (int i = 0; i < 3; i++) x[i] = (int32_t)(index * (i + 1));
    memcpy(to[1], &index, sizeof index);
    return LIGHT_OK;
}

static const light_dataset_vtable numbers_vtable = {
    LIGHT_DATASET(numbers),
    .describe = numbers_describe,
    .length = numbers_length,
    .get = numbers_get,
};

static light_dataset *make_numbers(int64_t n)
{
    light_dataset *dataset;

    assert_ok(light_dataset_new(&dataset, &numbers_vtable));
    ((numbers *)dataset)->n = n;
    ((numbers *)dataset)->bad = -1;
    return dataset;
}

/* A loader that alone holds its dataset. */
static light_loader *make_loader(int64_t n, const light_loader_options *options)
{
    light_dataset *dataset = make_numbers(n);
    light_loader *loader = light_loader_new_with(dataset, options);

    light_dataset_free(dataset);
    return loader;
}

/* Reads the rest of an epoch: the labels in order. Checks the other field and the numbering. */
static int64_t read_labels(light_loader *loader, int64_t first_batch, int64_t *labels)
{
    int64_t n = 0, batches = first_batch;
    bool last = first_batch == light_loader_num_batches(loader);

    for (;;) {
        light_host_batch batch;
        light_batch about;
        assert_ok(light_loader_next_host(loader, &batch, &about));
        assert_int_equal(about.size, batch.size);
        if (batch.size == 0) break;
        assert_false(last);
        assert_int_equal(about.index, batches++);
        assert_int_equal(batch.fields[0].shape.ndim, 4);
        assert_int_equal(batch.fields[0].shape.dims[0], batch.size);
        for (int64_t i = 0; i < batch.size; i++) {
            int64_t label = ((int64_t *)batch.data[1])[i];
            assert_int_equal(((int32_t *)batch.data[0])[3 * i + 2], 3 * label);
            assert_int_equal(about.indices[i], label);
            labels[n++] = label;
        }
        last = about.is_last;
    }
    assert_true(last);
    assert_int_equal(batches, light_loader_num_batches(loader));
    return n;
}

static void shuffled_order_is_the_same_for_any_number_of_workers(void **state)
{
    int64_t expected[N], labels[N];

    (void)state;
    for (int workers = 0; workers <= 4; workers++) {
        light_loader *loader = make_loader(
            N, &(light_loader_options){.batch_size = 8, .shuffle = true, .num_workers = workers, .seed = 5});
        assert_non_null(loader);
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            assert_ok(light_loader_begin(loader, epoch, 0));
            assert_int_equal(read_labels(loader, 0, labels), N);
        }
        if (workers == 0) memcpy(expected, labels, sizeof labels);
        assert_memory_equal(labels, expected, sizeof labels);
        light_loader_free(loader);
    }
}

static void each_epoch_has_every_sample_once_in_an_order_of_its_own(void **state)
{
    int64_t labels[3][N];
    light_loader *loader =
        make_loader(N, &(light_loader_options){.batch_size = 10, .shuffle = true, .num_workers = 2});

    (void)state;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        bool seen[N] = {false};
        assert_ok(light_loader_begin(loader, epoch, 0));
        assert_int_equal(read_labels(loader, 0, labels[epoch]), N);
        for (int i = 0; i < N; i++) {
            assert_false(seen[labels[epoch][i]]);
            seen[labels[epoch][i]] = true;
        }
    }
    assert_memory_not_equal(labels[0], labels[1], sizeof labels[0]);
    assert_memory_not_equal(labels[1], labels[2], sizeof labels[0]);

    int64_t again[N];
    assert_ok(light_loader_begin(loader, 1, 0));
    read_labels(loader, 0, again);
    assert_memory_equal(again, labels[1], sizeof again);

    /* Another seed, another order. */
    light_loader_set_seed(loader, 77);
    assert_ok(light_loader_begin(loader, 1, 0));
    read_labels(loader, 0, again);
    assert_memory_not_equal(again, labels[1], sizeof again);
    light_loader_free(loader);
}

static void without_shuffle_the_order_is_that_of_the_dataset(void **state)
{
    int64_t labels[N];
    light_loader *loader = make_loader(N, &(light_loader_options){.batch_size = 10, .num_workers = 1});

    (void)state;
    assert_ok(light_loader_begin(loader, 7, 0));
    assert_int_equal(read_labels(loader, 0, labels), N);
    for (int i = 0; i < N; i++) assert_int_equal(labels[i], i);
    light_loader_free(loader);
}

static void the_last_batch_is_short_or_dropped(void **state)
{
    int64_t labels[N];
    light_loader *loader = make_loader(N, &(light_loader_options){.batch_size = 10});

    (void)state;
    assert_int_equal(light_loader_num_batches(loader), 11);
    assert_ok(light_loader_begin(loader, 0, 10));
    assert_int_equal(read_labels(loader, 10, labels), 3);
    light_loader_free(loader);

    loader = make_loader(N, &(light_loader_options){.batch_size = 10, .drop_last = true, .num_workers = 2});
    assert_int_equal(light_loader_num_batches(loader), 10);
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_int_equal(read_labels(loader, 0, labels), 100);
    light_loader_free(loader);

    /* As many as fit: no batch is short. */
    loader = make_loader(20, &(light_loader_options){.batch_size = 10});
    assert_int_equal(light_loader_num_batches(loader), 2);
    light_loader_free(loader);

    /* All in one. */
    loader = make_loader(20, &(light_loader_options){.batch_size = INT64_C(1) << 40, .num_workers = 2});
    assert_int_equal(light_loader_num_batches(loader), 1);
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_int_equal(read_labels(loader, 0, labels), 20);
    light_loader_free(loader);
}

/* Stops behind every batch with workers far ahead, and goes on in a new loader from what the state holds. */
static void a_saved_position_counts_what_was_taken(void **state)
{
    int64_t expected[N], labels[N];
    light_loader_options options = {
        .batch_size = 7, .shuffle = true, .num_workers = 2, .prefetch = 20, .seed = 3};
    light_loader *loader = make_loader(N, &options);

    (void)state;
    assert_ok(light_loader_begin(loader, 4, 0));
    read_labels(loader, 0, expected);
    for (int64_t stop = 0; stop <= light_loader_num_batches(loader); stop++) {
        int64_t epoch, batch;
        light_state *saved = light_state_new();
        light_loader *resumed = make_loader(N, &options);
        assert_ok(light_loader_begin(loader, 4, 0));
        for (int64_t i = 0; i < stop; i++) {
            light_host_batch taken;
            light_batch about;
            assert_ok(light_loader_next_host(loader, &taken, &about));
        }
        assert_ok(light_loader_save_state(loader, NULL, saved));
        assert_ok(light_loader_load_state(resumed, saved));
        light_loader_position(resumed, &epoch, &batch);
        assert_int_equal(epoch, 4);
        assert_int_equal(batch, stop);
        assert_ok(light_loader_begin(resumed, epoch, batch));
        int64_t n = read_labels(resumed, batch, labels);
        assert_int_equal(n, stop * 7 < N ? N - stop * 7 : 0);
        assert_memory_equal(labels, expected + (N - n), (size_t)n * sizeof labels[0]);
        light_loader_free(resumed);
        light_state_free(saved);
    }
    light_loader_free(loader);
}

static void a_position_moves_to_another_batch_size_where_it_can_and_to_any_world(void **state)
{
    light_state *saved = light_state_new();
    light_loader *loader = make_loader(96, &(light_loader_options){.batch_size = 8, .shuffle = true});
    int64_t epoch, batch;
    light_host_batch taken;
    light_batch about;

    (void)state;
    assert_ok(light_loader_begin(loader, 2, 0));
    for (int i = 0; i < 4; i++) assert_ok(light_loader_next_host(loader, &taken, &about));
    assert_ok(light_loader_save_state(loader, NULL, saved));
    light_loader_free(loader);

    loader = make_loader(96, &(light_loader_options){.batch_size = 4, .shuffle = true});
    assert_ok(light_loader_set_share(loader, 1, 2, 2));
    assert_ok(light_loader_load_state(loader, saved));
    light_loader_position(loader, &epoch, &batch);
    assert_int_equal(batch, 8);
    light_loader_free(loader);

    loader = make_loader(96, &(light_loader_options){.batch_size = 16, .shuffle = true});
    assert_ok(light_loader_load_state(loader, saved));
    light_loader_position(loader, &epoch, &batch);
    assert_int_equal(batch, 2);
    light_loader_free(loader);

    loader = make_loader(96, &(light_loader_options){.batch_size = 12, .shuffle = true});
    assert_fails(light_loader_load_state(loader, saved), LIGHT_ERR_STATE, "32 samples", "batch_size 12");
    light_loader_free(loader);

    loader = make_loader(95, &(light_loader_options){.batch_size = 8, .shuffle = true});
    assert_fails(light_loader_load_state(loader, saved), LIGHT_ERR_STATE, "96 samples", "95");
    light_loader_free(loader);
    light_state_free(saved);
}

/* Every rank's loader from `origin` on against that of a process alone: the same samples under the same number, each batch
 * at one rank. Returns how many batches there were. */
static int64_t compare_ranks(int64_t origin, int size, int64_t run, bool drop_last)
{
    int64_t expected[N], seen = 0;
    light_loader_options options = {.batch_size = 7, .shuffle = true, .drop_last = drop_last, .seed = 9};
    light_loader *alone = make_loader(N, &options);

    assert_ok(light_loader_begin(alone, 3, 0));
    read_labels(alone, 0, expected);
    options.num_workers = (int)(origin % 3);
    for (int rank = 0; rank < size; rank++) {
        light_loader *loader = make_loader(N, &options);
        light_host_batch batch;
        light_batch about;
        bool last = false;
        assert_ok(light_loader_set_share(loader, rank, size, run));
        assert_int_equal(light_loader_num_batches(loader), light_loader_num_batches(alone));
        assert_ok(light_loader_begin(loader, 3, origin));
        for (;;) {
            assert_ok(light_loader_next_host(loader, &batch, &about));
            if (batch.size == 0) break;
            assert_false(last);
            assert_int_equal((about.index - origin) % (size * run) / run, rank);
            for (int64_t i = 0; i < batch.size; i++) {
                assert_int_equal(about.indices[i], expected[about.index * 7 + i]);
                assert_int_equal(((int64_t *)batch.data[1])[i], about.indices[i]);
            }
            last = about.is_last;
            seen++;
        }
        light_loader_free(loader);
    }
    light_loader_free(alone);
    return seen;
}

static void ranks_have_each_batch_once_with_the_samples_of_a_run_alone(void **state)
{
    (void)state;
    for (int size = 1; size <= 4; size++)
        for (int64_t run = 1; run <= 3; run++)
            for (int64_t origin = 0; origin <= 15; origin += 5) {
                assert_int_equal(compare_ranks(origin, size, run, false), 15 - origin);
                if (origin < 15) assert_int_equal(compare_ranks(origin, size, run, true), 14 - origin);
            }
}

static void a_rank_may_have_no_batch(void **state)
{
    light_loader *loader = make_loader(3, &(light_loader_options){.batch_size = 5, .num_workers = 2});
    light_host_batch batch;
    light_batch about;

    (void)state;
    assert_ok(light_loader_set_share(loader, 3, 4, 1));
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_ok(light_loader_next_host(loader, &batch, &about));
    assert_int_equal(batch.size, 0);
    assert_fails(light_loader_set_share(loader, 4, 4, 1), LIGHT_ERR_ARGUMENT, "part 4 of 4");
    assert_fails(light_loader_set_share(loader, 0, 4, 0), LIGHT_ERR_ARGUMENT, "runs of 0");
    light_loader_free(loader);
}

/* Stops where windows end, on rank 0, and goes on with any other number of processes: what was not seen yet. */
static void a_run_goes_on_with_another_number_of_processes(void **state)
{
    (void)state;
    for (int64_t windows = 0; windows <= 4; windows++) {
        light_loader_options options = {.batch_size = 7, .shuffle = true};
        light_state *saved = light_state_new();
        light_loader *first = make_loader(N, &options), *next = make_loader(N, &options);
        int64_t epoch, position;
        assert_ok(light_loader_set_share(first, 0, 2, 2));
        assert_ok(light_loader_begin(first, 3, 0));
        for (int64_t i = 0; i < 2 * windows; i++) {
            light_host_batch batch;
            light_batch about;
            assert_ok(light_loader_next_host(first, &batch, &about));
        }
        assert_ok(light_loader_save_state(first, NULL, saved));
        assert_ok(light_loader_set_share(next, 2, 3, 1));
        assert_ok(light_loader_load_state(next, saved));
        light_loader_position(next, &epoch, &position);
        assert_int_equal(epoch, 3);
        assert_int_equal(position, windows < 4 ? 4 * windows : 15);
        assert_int_equal(compare_ranks(position, 3, 1, false), 15 - position);
        light_loader_free(first);
        light_loader_free(next);
        light_state_free(saved);
    }
}

static void stopping_early_is_clean(void **state)
{
    light_host_batch batch;
    light_batch about;

    (void)state;
    for (int taken = 0; taken < 4; taken++) {
        light_loader *loader =
            make_loader(N, &(light_loader_options){.batch_size = 2, .num_workers = 3, .prefetch = 9});
        assert_ok(light_loader_begin(loader, 0, 0));
        for (int i = 0; i < taken; i++) assert_ok(light_loader_next_host(loader, &batch, &about));
        light_loader_free(loader);
    }
    light_loader_free(make_loader(N, &(light_loader_options){.batch_size = 2, .num_workers = 3}));
    light_loader_free(NULL);
}

static void begin_moves_to_any_batch_at_any_time(void **state)
{
    light_host_batch batch;
    light_batch about;
    int64_t labels[N], rest[N];
    light_loader *loader =
        make_loader(N, &(light_loader_options){.batch_size = 4, .shuffle = true, .num_workers = 2});

    (void)state;
    assert_ok(light_loader_begin(loader, 3, 0));
    read_labels(loader, 0, labels);
    for (int64_t at = 25; at >= 0; at -= 5) {
        assert_ok(light_loader_begin(loader, 9, 0));
        assert_ok(light_loader_next_host(loader, &batch, &about));
        assert_ok(light_loader_begin(loader, 3, at));
        int64_t n = read_labels(loader, at, rest);
        assert_memory_equal(rest, labels + at * 4, (size_t)n * sizeof rest[0]);
    }
    assert_fails(light_loader_begin(loader, 0, 27), LIGHT_ERR_ARGUMENT, "batch 27", "has 26");
    assert_fails(light_loader_begin(loader, -1, 0), LIGHT_ERR_ARGUMENT, "epoch -1");
    light_loader_free(loader);

    loader = make_loader(N, &(light_loader_options){.batch_size = 4});
    assert_fails(light_loader_next_host(loader, &batch, &about), LIGHT_ERR_STATE, "light_loader_begin");
    light_loader_free(loader);
}

static void a_failure_comes_out_at_its_batch(void **state)
{
    (void)state;
    for (int workers = 0; workers <= 2; workers++) {
        light_dataset *dataset = make_numbers(N);
        light_host_batch batch;
        light_batch about;
        ((numbers *)dataset)->bad = 33;
        light_loader *loader =
            light_loader_new(dataset, .batch_size = 8, .num_workers = workers, .prefetch = 16);
        assert_ok(light_loader_begin(loader, 2, 0));
        for (int i = 0; i < 4; i++) assert_ok(light_loader_next_host(loader, &batch, &about));
        for (int twice = 0; twice < 2; twice++) {
            assert_fails(light_loader_next_host(loader, &batch, &about), LIGHT_ERR_USER, "batch 4 of epoch 2",
                         "sample 33", "the disk is gone");
            assert_int_equal(batch.size, 0);
        }
        /* The other batches are still there. */
        assert_ok(light_loader_begin(loader, 2, 5));
        assert_ok(light_loader_next_host(loader, &batch, &about));
        assert_int_equal(batch.size, 8);
        light_loader_free(loader);
        light_dataset_free(dataset);
    }
}

static int64_t backwards(void *user, int64_t epoch, int64_t position)
{
    return *(int64_t *)user - 1 - position + epoch;
}

static void a_sampler_says_the_order(void **state)
{
    int64_t n = N, labels[N];
    light_loader *loader = make_loader(
        N, &(light_loader_options){.batch_size = 9, .num_workers = 2, .sampler = {backwards, 50, &n}});

    (void)state;
    assert_int_equal(light_loader_num_batches(loader), 6);
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_int_equal(read_labels(loader, 0, labels), 50);
    for (int i = 0; i < 50; i++) assert_int_equal(labels[i], N - 1 - i);

    light_host_batch batch;
    light_batch about;
    assert_ok(light_loader_begin(loader, 1, 0));
    assert_fails(light_loader_next_host(loader, &batch, &about), LIGHT_ERR_ARGUMENT, "index 103",
                 "position 0", "0..102");
    light_loader_free(loader);
}

/* Keeps from each sample as many of its three numbers as the longest of the batch needs: label % 3 + 1. */
static light_status plan_cut(void *user, int64_t batch_size, const light_field *sample, int num_sample,
                             light_field *batch, int *num_batch)
{
    (void)user;
    (void)sample;
    (void)num_sample;
    batch[0] = (light_field){.dtype = LIGHT_I32, .shape = LIGHT_SHAPE(batch_size, 3)};
    *num_batch = 1;
    return LIGHT_OK;
}

static light_status cut(void *user, const light_host_batch *samples, light_host_batch *out)
{
    int64_t width = 0;

    (void)user;
    for (int64_t i = 0; i < samples->size; i++) {
        int64_t wanted = ((int64_t *)samples->data[1])[i] % 3 + 1;
        if (wanted > width) width = wanted;
    }
    out->fields[0].shape.dims[1] = width;
    for (int64_t i = 0; i < samples->size; i++) {
        for (int64_t j = 0; j < width; j++) {
            ((int32_t *)out->data[0])[i * width + j] = ((int32_t *)samples->data[0])[i * 3 + j];
        }
    }
    return LIGHT_OK;
}

static void a_custom_collate_makes_the_batch(void **state)
{
    light_host_batch batch;
    light_batch about;

    (void)state;
    for (int workers = 0; workers <= 2; workers += 2) {
        light_loader *loader =
            make_loader(4, &(light_loader_options){.batch_size = 2,
                                                   .num_workers = workers,
                                                   .collate = {plan_cut, cut, NULL},
                                                   .transform = light_convert_field(0, LIGHT_F32)});
        assert_non_null(loader);
        assert_ok(light_loader_begin(loader, 0, 0));
        assert_ok(light_loader_next_host(loader, &batch, &about));
        assert_int_equal(batch.num_fields, 1);
        assert_int_equal(batch.fields[0].dtype, LIGHT_F32);
        assert_int_equal(batch.fields[0].shape.dims[1], 2);
        assert_memory_equal(batch.data[0], ((float[]){0, 0, 1, 2}), 4 * sizeof(float));
        assert_ok(light_loader_next_host(loader, &batch, &about));
        assert_int_equal(batch.fields[0].shape.dims[1], 3);
        assert_memory_equal(batch.data[0], ((float[]){2, 4, 6, 3, 6, 9}), 6 * sizeof(float));
        light_loader_free(loader);
    }
}

static void a_batch_allocates_nothing(void **state)
{
    light_host_batch batch;
    light_batch about;

    (void)state;
    for (int workers = 0; workers <= 2; workers++) {
        light_loader *loader =
            make_loader(N, &(light_loader_options){.batch_size = 4,
                                                   .shuffle = true,
                                                   .num_workers = workers,
                                                   .transform = light_normalize(0, .std = 2)});
        assert_ok(light_loader_begin(loader, 0, 0));
        assert_ok(light_loader_next_host(loader, &batch, &about));
        uint64_t before = light_memory_count().calls;
        for (int64_t epoch = 1; epoch < 4; epoch++) {
            assert_ok(light_loader_begin(loader, epoch, 0));
            do {
                assert_ok(light_loader_next_host(loader, &batch, &about));
            } while (batch.size > 0);
        }
        assert_int_equal(light_memory_count().calls, before);
        light_loader_free(loader);
    }
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void **state)
{
    bool succeeded = false;

    (void)state;
    for (int nth = 1; !succeeded; nth++) {
        light_dataset *dataset = make_numbers(N);
        light_memory_fail_nth(nth);
        light_loader *loader =
            light_loader_new(dataset, .batch_size = 4, .num_workers = 2, .transform = light_normalize(0));
        light_status status = loader ? light_loader_begin(loader, 0, 0) : LIGHT_ERR_MEMORY;
        light_memory_fail_nth(0);
        succeeded = status == LIGHT_OK;
        if (!succeeded) {
            assert_int_equal(status, LIGHT_ERR_MEMORY);
            assert_message((const char *[]){"out of memory", NULL});
            /* A second attempt works. */
            if (loader) assert_ok(light_loader_begin(loader, 0, 0));
        }
        light_loader_free(loader);
        light_dataset_free(dataset);
    }
}

static void several_loaders_are_numbered(void **state)
{
    light_loader *a = make_loader(4, &(light_loader_options){.batch_size = 2});
    light_loader *b = make_loader(6, &(light_loader_options){.batch_size = 2});
    light_loader *c = make_loader(8, &(light_loader_options){.batch_size = 2});
    light_host_batch batch;
    light_batch about;

    (void)state;
    assert_ptr_equal(light_loader_chain(light_loader_chain(a, b), c), a);
    assert_ptr_equal(light_loader_following(light_loader_following(a)), c);
    assert_null(light_loader_following(c));
    assert_ok(light_loader_begin(c, 0, 0));
    assert_ok(light_loader_next_host(c, &batch, &about));
    assert_int_equal(about.dataloader_idx, 2);
    light_loader_free(a);

    a = make_loader(4, &(light_loader_options){.batch_size = 2});
    assert_null(light_loader_chain(a, NULL));
}

/* A loader that must not come to be, and why. */
static void assert_refused(int64_t n, const light_loader_options *options, const char *why)
{
    assert_null(make_loader(n, options));
    assert_message((const char *[]){why, NULL});
}

static light_transform eight_flips(void)
{
    light_transform t = light_random_horizontal_flip(0, 0.5);

    return light_compose(t, t, t, t, t, t, t, t);
}

static void wrong_options_are_told(void **state)
{
    (void)state;
    assert_refused(N, &(light_loader_options){0}, "batch_size is 0; it must be at least 1");
    assert_refused(N, &(light_loader_options){.batch_size = -3}, "batch_size is -3");
    assert_refused(0, &(light_loader_options){.batch_size = 1}, "the dataset numbers is empty");
    assert_refused(N, &(light_loader_options){.batch_size = 1, .num_workers = -1}, "num_workers is -1");
    assert_refused(N, &(light_loader_options){.batch_size = 1, .prefetch = -1}, "prefetch is -1");
    assert_refused(N, &(light_loader_options){.batch_size = 1, .shards = 2}, "shards is 2");
    assert_refused(5, &(light_loader_options){.batch_size = 8, .drop_last = true},
                   "drop_last leaves no batch");
    assert_refused(5, &(light_loader_options){.batch_size = 8, .shuffle = true, .sampler.at = backwards},
                   "exclude each other");
    assert_refused(5, &(light_loader_options){.batch_size = 8, .collate.plan = plan_cut}, "both functions");
    assert_refused(5, &(light_loader_options){.batch_size = 8, .transform = light_normalize(2)},
                   "transform 0 (normalize): there is no field 2; the samples have 2");
    assert_refused(5, &(light_loader_options){.batch_size = 8, .transform = light_normalize(0, .std = -1)},
                   "standard deviation");
    assert_refused(5, &(light_loader_options){.batch_size = 8, .transform = light_random_crop(0, 9, 9, 2)},
                   "height 9 cannot be cut out of 1 with a padding of 2");
    assert_refused(5,
                   &(light_loader_options){.batch_size = 8,
                                           .transform = light_compose(eight_flips(), light_normalize(0))},
                   "more than 8 transforms");
    assert_null(light_loader_new(NULL, .batch_size = 1));
    assert_message((const char *[]){"without a dataset", "setup", NULL});
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, count_memory, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(shuffled_order_is_the_same_for_any_number_of_workers),
        TEST(each_epoch_has_every_sample_once_in_an_order_of_its_own),
        TEST(without_shuffle_the_order_is_that_of_the_dataset),
        TEST(the_last_batch_is_short_or_dropped),
        TEST(a_saved_position_counts_what_was_taken),
        TEST(a_position_moves_to_another_batch_size_where_it_can_and_to_any_world),
        TEST(ranks_have_each_batch_once_with_the_samples_of_a_run_alone),
        TEST(a_rank_may_have_no_batch),
        TEST(a_run_goes_on_with_another_number_of_processes),
        TEST(stopping_early_is_clean),
        TEST(begin_moves_to_any_batch_at_any_time),
        TEST(a_failure_comes_out_at_its_batch),
        TEST(a_sampler_says_the_order),
        TEST(a_custom_collate_makes_the_batch),
        TEST(a_batch_allocates_nothing),
        TEST(each_failing_allocation_is_reported_and_leaks_nothing),
        TEST(several_loaders_are_numbered),
        TEST(wrong_options_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
