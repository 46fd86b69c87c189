/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between host and device: copies, batches, numbers. What is checked here must hold for every order in which the
 * streams may work (LIGHT_SIM_SEED). */
#include "cuda/backend.h"

#include <pthread.h>

static light_device *cuda;

static void test_copies_of_all_sizes(void **state)
{
    static const size_t sizes[] = {
        1, 3, 255, 4095, 65537, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (8 << 20) + 5, (9 << 20) + 7};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        unsigned char *host = new_pattern(n, (unsigned)i), *back = calloc(1, n + 1);
        char *a = allocate(cuda, n + 3), *b = allocate(cuda, n);
        assert_non_null(back);
        assert_light_ok(cuda->backend->copy(cuda, a + 3, host, n, LIGHT_COPY_HOST_TO_DEVICE));
        memset(host, 0, n); /* it may be used again */
        copy_within(cuda, b, a + 3, n);
        assert_light_ok(cuda->backend->copy(cuda, back, b, n, LIGHT_COPY_DEVICE_TO_HOST));
        assert_pattern(back, n, (unsigned)i);
        assert_int_equal(back[n], 0);
        cuda->backend->release(cuda, a, n + 3);
        cuda->backend->release(cuda, b, n);
        free(host);
        free(back);
    }
    assert_light_ok(cuda->backend->copy(cuda, NULL, NULL, 0, LIGHT_COPY_HOST_TO_DEVICE));
}

static void test_copies_in_the_wrong_direction(void **state)
{
    char host[16] = "", *data = allocate(cuda, 512);
    (void)state;
    assert_int_equal(cuda->backend->copy(cuda, host, host, 16, LIGHT_COPY_HOST_TO_DEVICE),
                     LIGHT_ERR_INTERNAL);
    assert_non_null(
        strstr(light_error_message(), "copying to the device: invalid argument: the target of a copy"));
    assert_int_equal(cuda->backend->copy(cuda, host, host, 16, LIGHT_COPY_DEVICE_TO_HOST),
                     LIGHT_ERR_INTERNAL);
    assert_non_null(
        strstr(light_error_message(), "copying to the host: invalid argument: the source of a copy"));
    assert_int_equal(cuda->backend->copy(cuda, data + 500, host, 16, LIGHT_COPY_HOST_TO_DEVICE),
                     LIGHT_ERR_INTERNAL);
    assert_non_null(strstr(light_error_message(), "of 16 bytes"));
    cuda->backend->release(cuda, data, 512);
}

/* ---- batches ------------------------------------------------------------------------ */

enum { FIELDS = 3 };

/* Field f of batch n: its size changes from batch to batch, beyond what a piece of pinned memory holds. */
static size_t field_bytes(unsigned n, unsigned f)
{
    static const size_t sizes[] = {1, 700, 33000, (4 << 20) + 100, 260, 256 << 10, 640 << 10};
    return sizes[(n * 3 + f) % 7] + n;
}

static void send_batch(unsigned n, void **fields)
{
    assert_light_ok(cuda->backend->upload_begin(cuda));
    for (unsigned f = 0; f < FIELDS; f++) {
        size_t bytes = field_bytes(n, f);
        unsigned char *host = new_pattern(bytes, n * FIELDS + f);
        assert_light_ok(cuda->backend->upload(cuda, host, bytes, &fields[f]));
        memset(host, 0xee, bytes);
        free(host);
    }
}

/* What the device sees of a batch, to be looked at later. */
static void use_batch(unsigned n, void **fields, void **results)
{
    for (unsigned f = 0; f < FIELDS; f++) {
        results[f] = allocate(cuda, field_bytes(n, f));
        copy_within(cuda, results[f], fields[f], field_bytes(n, f));
    }
}

static void check_batch(unsigned n, void **results)
{
    for (unsigned f = 0; f < FIELDS; f++) {
        size_t bytes = field_bytes(n, f);
        unsigned char *back = malloc(bytes);
        assert_non_null(back);
        device_read(cuda, results[f], back, bytes);
        assert_pattern(back, bytes, n * FIELDS + f);
        cuda->backend->release(cuda, results[f], bytes);
        free(back);
    }
}

static void test_batches(void **state)
{
    enum { BATCHES = 9 };
    void *fields[FIELDS], *results[BATCHES][FIELDS];
    (void)state;
    for (unsigned n = 0; n < BATCHES; n++) {
        send_batch(n, fields);
        use_batch(n, fields, results[n]);
    }
    for (unsigned n = 0; n < BATCHES; n++) check_batch(n, results[n]);
}

/* The next batch is on its way before the device works on this one. */
static void test_batches_one_ahead(void **state)
{
    enum { BATCHES = 9 };
    void *fields[2][FIELDS], *results[BATCHES][FIELDS];
    (void)state;
    send_batch(0, fields[0]);
    for (unsigned n = 0; n < BATCHES; n++) {
        if (n + 1 < BATCHES) send_batch(n + 1, fields[(n + 1) % 2]);
        use_batch(n, fields[n % 2], results[n]);
    }
    for (unsigned n = 0; n < BATCHES; n++) check_batch(n, results[n]);
}

static void test_batches_that_grow(void **state)
{
    unsigned char *host = new_pattern(4 << 20, 1), *back = malloc(4 << 20);
    (void)state;
    assert_non_null(back);
    for (size_t bytes = 100; bytes < 4 << 20; bytes += 100 << 10) {
        void *field;
        assert_light_ok(cuda->backend->upload_begin(cuda));
        assert_light_ok(cuda->backend->upload(cuda, host, bytes, &field));
        device_read(cuda, field, back, bytes);
        assert_pattern(back, bytes, 1);
    }
    free(host);
    free(back);
}

/* Batches of one size: no memory is asked for and nobody waits, once there have been a few. */
static void test_steady_batches(void **state)
{
    unsigned char *host = new_pattern(3000, 1);
    char *data = allocate(cuda, 3000);
    sim_counts before = {0, 0, 0};
    (void)state;
    for (int i = 0; i < 12; i++) {
        void *field;
        if (i == 6) before = counts_now();
        assert_light_ok(cuda->backend->upload_begin(cuda));
        for (int f = 0; f < 3; f++) {
            assert_light_ok(cuda->backend->upload(cuda, host + 1000 * f, 1000, &field));
            copy_within(cuda, data + 1000 * f, field, 1000);
        }
    }
    sim_counts after = counts_now();
    assert_int_equal(after.launches - before.launches, 18);
    assert_int_equal(after.allocations, before.allocations);
    assert_in_range(after.synchronizations - before.synchronizations, 0,
                    18); /* a piece of pinned memory in use */
    unsigned char back[3000];
    device_read(cuda, data, back, sizeof back);
    assert_pattern(back, sizeof back, 1);
    cuda->backend->release(cuda, data, 3000);
    free(host);
}

/* ---- numbers --------------------------------------------------------------------------- */

static void fill(void *data, light_dtype dtype, double value)
{
    light_tensor t = {.data = data, .dtype = (uint8_t)dtype};
    light_fill_attrs attrs = {value};
    light_kernel_args args = {.device = cuda, .out = {&t}, .attrs = &attrs};
    light_tensor_set_shape(&t, LIGHT_SHAPE(1));
    assert_light_ok(cuda->backend->kernels[LIGHT_KERNEL_FILL](&args));
}

/* A number is what it was when it was asked for, whatever comes later, and in whatever order they are taken. */
static void test_numbers(void **state)
{
    int tickets[LIGHT_FETCHES], one_more;
    double value;
    void *data = allocate(cuda, 8);
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < LIGHT_FETCHES; i++) {
            light_dtype dtype = i % 2 ? LIGHT_F64 : LIGHT_F32;
            fill(data, dtype, i + 0.5);
            assert_light_ok(cuda->backend->fetch(cuda, data, dtype, &tickets[i]));
        }
        assert_int_equal(cuda->backend->fetch(cuda, data, LIGHT_F32, &one_more), LIGHT_ERR_STATE);
        assert_non_null(strstr(light_error_message(), "256 numbers are on their way"));
        for (int i = 0; i < LIGHT_FETCHES; i++) {
            int which = (i * 77 + round) % LIGHT_FETCHES;
            assert_light_ok(cuda->backend->fetched(cuda, tickets[which], true, &value));
            assert_true(value == which + 0.5);
        }
    }
    cuda->backend->release(cuda, data, 8);
}

/* One that nobody takes yet does not stop the others. */
static void test_numbers_that_stay(void **state)
{
    int first, ticket;
    double value;
    void *data = allocate(cuda, 8);
    (void)state;
    fill(data, LIGHT_F32, -1);
    assert_light_ok(cuda->backend->fetch(cuda, data, LIGHT_F32, &first));
    for (int i = 0; i < 2 * LIGHT_FETCHES; i++) {
        fill(data, LIGHT_F32, i);
        assert_light_ok(cuda->backend->fetch(cuda, data, LIGHT_F32, &ticket));
        while (cuda->backend->fetched(cuda, ticket, false, &value) == LIGHT_ERR_STATE) {
        }
        assert_true(value == i);
    }
    assert_light_ok(cuda->backend->fetched(cuda, first, true, &value));
    assert_true(value == -1);
    cuda->backend->release(cuda, data, 8);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void test_what_waits(void **state)
{
    unsigned char byte = 1;
    void *field, *data = allocate(cuda, 1);
    int ticket;
    double value;
    (void)state;
    uint64_t before = cuda->synchronizations;
    assert_light_ok(cuda->backend->copy(cuda, data, &byte, 1, LIGHT_COPY_HOST_TO_DEVICE));
    assert_light_ok(cuda->backend->upload_begin(cuda));
    assert_light_ok(cuda->backend->upload(cuda, &byte, 1, &field));
    copy_within(cuda, data, field, 1);
    assert_light_ok(cuda->backend->fetch(cuda, data, LIGHT_F32, &ticket));
    while (cuda->backend->fetched(cuda, ticket, false, &value) == LIGHT_ERR_STATE) {
    }
    cuda->backend->release(cuda, allocate(cuda, 1), 1);
    assert_int_equal(cuda->synchronizations, before);
    assert_light_ok(cuda->backend->copy(cuda, &byte, data, 1, LIGHT_COPY_DEVICE_TO_HOST));
    assert_int_equal(cuda->synchronizations, before + 1);
    assert_light_ok(cuda->backend->synchronize(cuda));
    assert_int_equal(cuda->synchronizations, before + 2);
    cuda->backend->release(cuda, data, 1);
}

/* ---- other threads --------------------------------------------------------------------------- */

static void *copy_back_and_forth(void *user)
{
    unsigned p = (unsigned)(uintptr_t)user;
    size_t n = 100000 + 5000 * p;
    unsigned char *host = new_pattern(n, p), *back = malloc(n);
    void *data = NULL;
    const char *wrong = back ? NULL : "no memory";
    for (int round = 0; round < 10 && !wrong; round++) {
        if (cuda->backend->allocate(cuda, n, &data) != LIGHT_OK ||
            cuda->backend->copy(cuda, data, host, n, LIGHT_COPY_HOST_TO_DEVICE) != LIGHT_OK ||
            cuda->backend->copy(cuda, back, data, n, LIGHT_COPY_DEVICE_TO_HOST) != LIGHT_OK)
            return "a call failed";
        if (memcmp(host, back, n)) wrong = "other bytes came back";
        cuda->backend->release(cuda, data, n);
    }
    free(host);
    free(back);
    return (void *)(uintptr_t)wrong;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, copy_back_and_forth, (void *)(uintptr_t)i), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        if (wrong) fail_msg("thread %d: %s", i, (const char *)wrong);
    }
}

int main(void)
{
    cuda = open_cuda("cuda");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_of_all_sizes),
        cmocka_unit_test(test_copies_in_the_wrong_direction),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_batches_one_ahead),
        cmocka_unit_test(test_batches_that_grow),
        cmocka_unit_test(test_steady_batches),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_numbers_that_stay),
        cmocka_unit_test(test_what_waits),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
