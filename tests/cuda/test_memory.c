/* SPDX-License-Identifier: Apache-2.0 */
/* Lasting memory and that of steps, on a device that has 64 MiB. */
#include "cuda/backend.h"

#include "tensor/arena.h"

static light_device *cuda;
static const size_t MIB = (size_t)1 << 20;

/* How many bytes are not zero. */
static size_t dirty(void *data, size_t bytes)
{
    unsigned char *back = malloc(bytes);
    size_t count = 0;
    assert_non_null(back);
    device_read(cuda, data, back, bytes);
    for (size_t i = 0; i < bytes; i++) count += back[i] != 0;
    free(back);
    return count;
}

static void test_memory_is_zeroed(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes < 3 * MIB; bytes = bytes * 3 + 1) {
        void *data = allocate(cuda, bytes);
        assert_int_equal((uintptr_t)data % 64, 0);
        assert_int_equal(dirty(data, bytes), 0);
        unsigned char *host = new_pattern(bytes, 7);
        device_write(cuda, data, host, bytes);
        free(host);
        cuda->backend->release(cuda, data, bytes);
        void *again = allocate(cuda, bytes);
        assert_ptr_equal(again, data); /* from the pool */
        assert_int_equal(dirty(again, bytes), 0);
        cuda->backend->release(cuda, again, bytes);
    }
}

static void assert_told(const char *const *parts)
{
    for (; *parts; parts++)
        if (!strstr(light_error_message(), *parts))
            fail_msg("\"%s\" is not in: %s", *parts, light_error_message());
    assert_null(strchr(light_error_message(), '\n'));
}

static void test_out_of_memory(void **state)
{
    void *a = allocate(cuda, 40 * MIB), *b = NULL;
    (void)state;
    assert_int_equal(cuda->backend->allocate(cuda, 40 * MIB, &b), LIGHT_ERR_MEMORY);
    assert_told((const char *[]){"out of memory on cuda:0 (simulated)", "40960 KiB were asked for",
                                 "MiB are free", "of the device's 64 MiB", "smaller batches", NULL});
    assert_int_equal(cuda->backend->allocate(cuda, (size_t)1 << 60, &b), LIGHT_ERR_MEMORY);
    assert_told((const char *[]){"out of memory", "1099511627776 MiB were asked for", NULL});
    cuda->backend->release(cuda, a, 40 * MIB);
    b = allocate(cuda, 50 * MIB); /* what the pool kept is given back for it */
    assert_int_equal(dirty(b, 50 * MIB), 0);
    cuda->backend->release(cuda, b, 50 * MIB);
}

static void test_a_step_grows(void **state)
{
    light_arena *arena;
    void *data[5];
    int32_t blocks[5];
    (void)state;
    void *lasting = allocate(cuda, 30 * MIB);
    assert_light_ok(light_arena_new(&arena, cuda));
    for (int i = 0; i < 5; i++) {
        blocks[i] = light_arena_take(arena, 5 * MIB, &data[i]);
        assert_true(blocks[i] >= 0);
        unsigned char *host = new_pattern(5 * MIB, (unsigned)i);
        device_write(cuda, data[i], host, 5 * MIB);
        free(host);
    }
    void *more;
    assert_int_equal(light_arena_take(arena, 20 * MIB, &more), -1);
    assert_told((const char *[]){"out of memory on cuda:0 (simulated)", "a step grew to 48 MiB",
                                 "20 MiB more", "MiB of lasting memory are held", "smaller batches", NULL});
    for (int i = 0; i < 5; i++) {
        unsigned char *back = malloc(5 * MIB);
        assert_non_null(back);
        device_read(cuda, data[i], back, 5 * MIB);
        assert_pattern(back, 5 * MIB, (unsigned)i);
        free(back);
        light_arena_give(arena, blocks[i]);
    }
    cuda->backend->release(cuda, lasting, 30 * MIB);
    light_arena_free(arena);
}

/* Steps come and go; their memory is the device's again. */
static void test_steps_give_memory_back(void **state)
{
    (void)state;
    void *a = allocate(cuda, 50 * MIB); /* the pool is small now */
    cuda->backend->release(cuda, a, 50 * MIB);
    for (int i = 0; i < 10; i++) {
        light_arena *arena;
        void *data;
        assert_light_ok(light_arena_new(&arena, cuda));
        assert_true(light_arena_take(arena, 9 * MIB, &data) >= 0);
        copy_within(cuda, (char *)data + 4 * MIB, data, 4 * MIB);
        light_arena_free(arena);
    }
    a = allocate(cuda, 50 * MIB);
    cuda->backend->release(cuda, a, 50 * MIB);
}

int main(void)
{
    setenv("LIGHT_SIM_MEMORY", "64", 1);
    cuda = open_cuda("cuda");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_a_step_grows),
        cmocka_unit_test(test_steps_give_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
