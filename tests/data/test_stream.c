/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: the same batches for any number of workers, every sample once over all shards, exact positions. */
#include "data/fixture.h"

#include <light/state.h>

#define N 53

/* Gives 100 epoch + i for i = shard, shard + num_shards, .. below n. */
typedef struct {
    light_dataset base;
    int64_t n, bad;
    int opened, closed, nexts;
} counting;

typedef struct {
    light_stream base;
    int64_t at;
} counting_stream;

static light_status describe(light_dataset *self, light_field *fields, int *num_fields)
{
    (void)self;
    fields[0] = (light_field){.dtype = LIGHT_I64, .shape = LIGHT_SHAPE(2)};
    *num_fields = 1;
    return LIGHT_OK;
}

static light_status stream_open(light_dataset *self, light_stream *stream)
{
    ((counting *)self)->opened++;
    ((counting_stream *)stream)->at = stream->shard;
    return LIGHT_OK;
}

static light_status stream_next(light_dataset *self, light_stream *stream, void *const *to, bool *end)
{
    counting *d = (counting *)self;
    counting_stream *s = (counting_stream *)stream;

    __atomic_fetch_add(&d->nexts, 1, __ATOMIC_RELAXED);
    if (s->at == d->bad) return light_fail(LIGHT_ERR_USER, "the line is dead");
    *end = s->at >= d->n;
    if (*end) return LIGHT_OK;
    ((int64_t *)to[0])[0] = 100 * stream->epoch + s->at;
    ((int64_t *)to[0])[1] = -s->at;
    s->at += stream->num_shards;
    return LIGHT_OK;
}

static void stream_close(light_dataset *self, light_stream *stream)
{
    (void)stream;
    ((counting *)self)->closed++;
}

static void stream_save(light_dataset *self, light_stream *stream, int64_t position[LIGHT_STREAM_POSITION])
{
    (void)self;
    position[0] = ((counting_stream *)stream)->at;
}

static light_status stream_load(light_dataset *self, light_stream *stream,
                                const int64_t position[LIGHT_STREAM_POSITION])
{
    (void)self;
    ((counting_stream *)stream)->at = position[0];
    return LIGHT_OK;
}

static const light_dataset_vtable counting_vtable = {
    LIGHT_DATASET(counting),    .describe = describe,       .stream_size = sizeof(counting_stream),
    .stream_open = stream_open, .stream_next = stream_next, .stream_close = stream_close,
    .stream_save = stream_save, .stream_load = stream_load,
};

/* The same without a position of its own. */
static const light_dataset_vtable plain_vtable = {
    LIGHT_DATASET(counting),    .describe = describe,       .stream_size = sizeof(counting_stream),
    .stream_open = stream_open, .stream_next = stream_next,
};

static light_dataset *make_counting(int64_t n, const light_dataset_vtable *vtable)
{
    light_dataset *dataset;

    assert_ok(light_dataset_new(&dataset, vtable));
    ((counting *)dataset)->n = n;
    ((counting *)dataset)->bad = -1;
    return dataset;
}

static light_loader *make_loader(int64_t n, const light_dataset_vtable *vtable,
                                 const light_loader_options *options)
{
    light_dataset *dataset = make_counting(n, vtable);
    light_loader *loader = light_loader_new_with(dataset, options);

    light_dataset_free(dataset);
    return loader;
}

/* The rest of the epoch; sizes[] gets the batches' sizes. Returns the number of batches. */
static int read_rest(light_loader *loader, int64_t first_batch, int64_t *values, int64_t *sizes)
{
    int batches = 0;
    bool last = false;

    for (;;) {
        light_host_batch batch;
        light_batch about;
        assert_ok(light_loader_next_host(loader, &batch, &about));
        if (batch.size == 0) break;
        assert_false(last);
        assert_int_equal(about.index, first_batch + batches);
        for (int64_t i = 0; i < batch.size; i++) {
            *values++ = ((int64_t *)batch.data[0])[2 * i];
            assert_int_equal(about.indices[i], -((int64_t *)batch.data[0])[2 * i + 1]);
        }
        sizes[batches++] = batch.size;
        last = about.is_last;
    }
    /* The last one knew that it was. */
    assert_true(last);
    return batches;
}

static void one_shard_gives_the_stream_in_its_order(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 17; n++) {
        for (int workers = 0; workers <= 3; workers++) {
            int64_t values[32], sizes[32];
            light_loader *loader = make_loader(
                n, &counting_vtable, &(light_loader_options){.batch_size = 4, .num_workers = workers});
            assert_int_equal(light_loader_num_batches(loader), -1);
            for (int64_t epoch = 0; epoch < 2; epoch++) {
                assert_ok(light_loader_begin(loader, epoch, 0));
                assert_int_equal(read_rest(loader, 0, values, sizes), (n + 3) / 4);
                for (int64_t i = 0; i < n; i++) assert_int_equal(values[i], 100 * epoch + i);
            }
            light_loader_free(loader);
        }
    }
}

static void shards_take_turns_for_any_number_of_workers(void **state)
{
    (void)state;
    for (int shards = 1; shards <= 5; shards++) {
        int64_t expected[N], expected_sizes[N];
        int expected_batches = 0;
        for (int workers = 0; workers <= 4; workers++) {
            int64_t values[N], sizes[N];
            bool seen[N] = {false};
            light_loader *loader =
                make_loader(N, &counting_vtable,
                            &(light_loader_options){
                                .batch_size = 4, .num_workers = workers, .shards = shards, .prefetch = 3});
            assert_ok(light_loader_begin(loader, 0, 0));
            int batches = read_rest(loader, 0, values, sizes);
            for (int i = 0; i < N; i++) {
                assert_false(seen[values[i]]);
                seen[values[i]] = true;
            }
            assert_int_equal(values[4], shards > 1 ? 1 : 4);
            if (workers == 0) {
                expected_batches = batches;
                memcpy(expected, values, sizeof values);
                memcpy(expected_sizes, sizes, (size_t)batches * sizeof sizes[0]);
            }
            assert_int_equal(batches, expected_batches);
            assert_memory_equal(values, expected, sizeof values);
            assert_memory_equal(sizes, expected_sizes, (size_t)batches * sizeof sizes[0]);
            light_loader_free(loader);
        }
    }
}

static void ranks_share_the_shards_of_a_stream(void **state)
{
    bool seen[N] = {false};
    light_loader_options options = {.batch_size = 4, .num_workers = 2, .shards = 5};

    (void)state;
    for (int rank = 0; rank < 3; rank++) {
        int64_t numbers[N], n = 0;
        light_loader *loader = make_loader(N, &counting_vtable, &options);
        light_host_batch batch;
        light_batch about;
        assert_ok(light_loader_set_share(loader, rank, 3, 2));
        assert_ok(light_loader_begin(loader, 0, 0));
        for (;;) {
            assert_ok(light_loader_next_host(loader, &batch, &about));
            if (batch.size == 0) break;
            numbers[n] = about.index;
            assert_int_equal(about.index, n / 2 * 6 + rank * 2 + n % 2);
            n++;
            for (int64_t i = 0; i < batch.size; i++) {
                int64_t value = ((int64_t *)batch.data[0])[2 * i];
                assert_int_equal(value % 5 % 3, rank);
                assert_false(seen[value]);
                seen[value] = true;
            }
        }
        assert_true(n > 0 && numbers[0] == rank * 2);
        light_loader_free(loader);
    }
    for (int i = 0; i < N; i++) assert_true(seen[i]);

    light_loader *loader = make_loader(N, &counting_vtable, &options);
    assert_fails(light_loader_set_share(loader, 0, 6, 1), LIGHT_ERR_ARGUMENT, "counting has 5 shards",
                 "6 processes", ".shards = 6");
    light_loader_free(loader);
}

static void short_batches_can_be_dropped(void **state)
{
    int64_t values[N], sizes[N];
    light_loader *loader = make_loader(
        N, &counting_vtable,
        &(light_loader_options){.batch_size = 4, .shards = 3, .drop_last = true, .num_workers = 2});

    (void)state;
    assert_ok(light_loader_begin(loader, 0, 0));
    /* 18, 18 and 17 samples: four whole batches each. */
    assert_int_equal(read_rest(loader, 0, values, sizes), 12);
    for (int b = 0; b < 12; b++) assert_int_equal(sizes[b], 4);
    light_loader_free(loader);
}

/* Saves behind every batch, with workers ahead, and goes on in a new loader. */
static void saved_positions_are_exact(void **state)
{
    const light_dataset_vtable *vtables[] = {&counting_vtable, &plain_vtable};

    (void)state;
    for (int shards = 1; shards <= 4; shards += 3) {
        light_loader_options options = {.batch_size = 4, .num_workers = 2, .shards = shards, .prefetch = 9};
        int64_t values[N], sizes[N], rest[N], rest_sizes[N];
        light_loader *loader = make_loader(N, &counting_vtable, &options);
        assert_ok(light_loader_begin(loader, 1, 0));
        int batches = read_rest(loader, 0, values, sizes);
        for (int kind = 0; kind < 2; kind++) {
            for (int stop = 0, taken = 0; stop < batches; taken += (int)sizes[stop++]) {
                light_state *saved = light_state_new();
                light_loader *first = make_loader(N, vtables[kind], &options);
                light_loader *resumed = make_loader(N, vtables[kind], &options);
                int64_t epoch, batch;
                light_host_batch dropped;
                light_batch about;
                assert_ok(light_loader_begin(first, 1, 0));
                for (int i = 0; i < stop; i++) assert_ok(light_loader_next_host(first, &dropped, &about));
                assert_ok(light_loader_save_state(first, NULL, saved));
                assert_ok(light_loader_load_state(resumed, saved));
                light_loader_position(resumed, &epoch, &batch);
                assert_int_equal(epoch, 1);
                assert_int_equal(batch, stop);
                assert_ok(light_loader_begin(resumed, epoch, batch));
                assert_int_equal(read_rest(resumed, batch, rest, rest_sizes), batches - stop);
                assert_memory_equal(rest, values + taken, (size_t)(N - taken) * sizeof rest[0]);
                light_loader_free(first);
                light_loader_free(resumed);
                light_state_free(saved);
            }
        }
        /* And by number alone, which reads what it passes. */
        assert_ok(light_loader_begin(loader, 1, 3));
        assert_int_equal(read_rest(loader, 3, rest, rest_sizes), batches - 3);
        assert_memory_equal(rest, values + 12, (N - 12) * sizeof rest[0]);
        light_loader_free(loader);
    }
}

static void a_position_of_other_shards_is_refused(void **state)
{
    light_state *saved = light_state_new();
    light_loader *a = make_loader(N, &counting_vtable, &(light_loader_options){.batch_size = 4, .shards = 2});
    light_loader *b = make_loader(N, &counting_vtable, &(light_loader_options){.batch_size = 4, .shards = 3});

    (void)state;
    assert_ok(light_loader_begin(a, 0, 0));
    assert_ok(light_loader_save_state(a, NULL, saved));
    assert_fails(light_loader_load_state(b, saved), LIGHT_ERR_STATE, "counting", "2 shards", "3 shards");
    light_loader_free(a);
    light_loader_free(b);
    light_state_free(saved);
}

static void a_resumed_stream_that_is_shorter_is_noticed(void **state)
{
    light_state *saved = light_state_new();
    light_loader *a = make_loader(N, &plain_vtable, &(light_loader_options){.batch_size = 4});
    light_loader *b = make_loader(3, &plain_vtable, &(light_loader_options){.batch_size = 4});
    light_host_batch batch;
    light_batch about;

    (void)state;
    assert_ok(light_loader_begin(a, 0, 0));
    assert_ok(light_loader_next_host(a, &batch, &about));
    assert_ok(light_loader_save_state(a, NULL, saved));
    assert_ok(light_loader_load_state(b, saved));
    assert_fails(light_loader_begin(b, 0, 1), LIGHT_ERR_STATE, "ended after 3 samples", "4 had been read");
    light_loader_free(a);
    light_loader_free(b);
    light_state_free(saved);
}

static void streams_are_closed_and_failures_come_at_their_batch(void **state)
{
    (void)state;
    for (int workers = 0; workers <= 2; workers++) {
        light_dataset *dataset = make_counting(N, &counting_vtable);
        counting *d = (counting *)dataset;
        light_host_batch batch;
        light_batch about;
        d->bad = 9;
        light_loader *loader = light_loader_new(dataset, .batch_size = 4, .num_workers = workers);
        assert_ok(light_loader_begin(loader, 0, 0));
        for (int i = 0; i < 2; i++) {
            assert_ok(light_loader_next_host(loader, &batch, &about));
            assert_false(about.is_last);
        }
        assert_fails(light_loader_next_host(loader, &batch, &about), LIGHT_ERR_USER, "batch 2 of epoch 0",
                     "sample 9", "the line is dead");
        assert_ok(light_loader_begin(loader, 1, 0));
        light_loader_free(loader);
        assert_int_equal(d->opened, 2);
        assert_int_equal(d->closed, 2);
        light_dataset_free(dataset);
    }
}

static void empty_streams_and_wrong_options_are_told(void **state)
{
    light_host_batch batch;
    light_batch about;
    light_dataset *dataset = make_counting(N, &counting_vtable), *a, *b;
    light_loader *loader =
        make_loader(0, &counting_vtable, &(light_loader_options){.batch_size = 4, .num_workers = 1});

    (void)state;
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_fails(light_loader_next_host(loader, &batch, &about), LIGHT_ERR_ARGUMENT, "counting is empty");
    light_loader_free(loader);

    assert_int_equal(light_dataset_length(dataset), -1);
    assert_null(light_loader_new(dataset, .batch_size = 4, .shuffle = true));
    assert_message((const char *[]){"counting is a stream", "no shuffle", NULL});
    assert_null(light_loader_new(dataset, .batch_size = 4, .shards = -1));
    assert_fails(light_dataset_split(dataset, 3, &a, &b), LIGHT_ERR_ARGUMENT, "counting is a stream");
    light_dataset_free(dataset);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, count_memory, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(one_shard_gives_the_stream_in_its_order),
        TEST(shards_take_turns_for_any_number_of_workers),
        TEST(ranks_share_the_shards_of_a_stream),
        TEST(short_batches_can_be_dropped),
        TEST(saved_positions_are_exact),
        TEST(a_position_of_other_shards_is_refused),
        TEST(a_resumed_stream_that_is_shorter_is_noticed),
        TEST(streams_are_closed_and_failures_come_at_their_batch),
        TEST(empty_streams_and_wrong_options_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
