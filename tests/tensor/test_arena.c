/* SPDX-License-Identifier: Apache-2.0 */
/* The arena: blocks never overlap, the same calls give the same addresses, everything comes back together. */
#include "tensor/arena.h"

#include "base/memory.h"
#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LIVE  64
#define CALLS 4000

typedef struct held {
    int32_t block;
    size_t bytes;
    unsigned char *data;
} held;

static uint32_t draw(uint64_t i)
{
    const uint32_t key[2] = {1, 2};
    uint32_t out[4];
    light_philox_at(key, i, 0, out);
    return out[0];
}

/* Takes and gives at random; every block is filled with its own mark and must still hold it when it goes. */
static uint64_t churn(light_arena *arena, size_t most)
{
    static held live[LIVE];
    uint64_t trail = 0;
    memset(live, 0, sizeof live);
    for (uint64_t i = 0; i < CALLS; i++) {
        held *h = &live[draw(2 * i) % LIVE];
        if (h->data) {
            for (size_t b = 0; b < h->bytes; b += 61) assert_int_equal(h->data[b], (unsigned char)(h - live));
            light_arena_give(arena, h->block);
            h->data = NULL;
            continue;
        }
        void *data;
        h->bytes = 1 + draw(2 * i + 1) % most;
        h->block = light_arena_take(arena, h->bytes, &data);
        assert_true(h->block >= 0);
        assert_int_equal((uintptr_t)data % 64, 0);
        h->data = data;
        memset(h->data, (int)(h - live), h->bytes);
        trail = trail * 31 + (uintptr_t)data;
    }
    for (held *h = live; h < live + LIVE; h++)
        if (h->data) light_arena_give(arena, h->block);
    return trail;
}

static void blocks_keep_their_contents(void **state)
{
    light_arena *arena;
    (void)state;
    assert_int_equal(light_arena_new(&arena, light_device_cpu()), LIGHT_OK);
    churn(arena, 300);
    churn(arena, 200000);
    assert_int_equal(light_arena_used(arena), 0);
    light_arena_free(arena);
}

static void the_same_calls_give_the_same_addresses(void **state)
{
    light_arena *arena;
    (void)state;
    assert_int_equal(light_arena_new(&arena, light_device_cpu()), LIGHT_OK);
    uint64_t first = churn(arena, 5000);
    light_arena_reset(arena);
    light_memory_counters before = light_memory_count();
    assert_true(churn(arena, 5000) == first);
    assert_int_equal(light_memory_count().calls, before.calls);
    light_arena_free(arena);
}

static void neighbours_join(void **state)
{
    enum { N = 16, BYTES = 1 << 20 };
    light_arena *arena;
    int32_t blocks[N];
    void *data[N], *whole;
    (void)state;
    assert_int_equal(light_arena_new(&arena, light_device_cpu()), LIGHT_OK);
    for (int i = 0; i < N; i++) blocks[i] = light_arena_take(arena, BYTES, &data[i]);
    for (int i = 0; i < N; i += 2) light_arena_give(arena, blocks[i]);
    for (int i = 1; i < N; i += 2) light_arena_give(arena, blocks[i]);
    assert_true(light_arena_take(arena, (size_t)N * BYTES, &whole) >= 0);
    assert_ptr_equal(whole, data[0]);
    assert_int_equal(light_arena_used(arena), (size_t)N * BYTES);
    assert_int_equal(light_arena_peak(arena), (size_t)N * BYTES);
    light_arena_free(arena);
}

static void too_much_is_an_error(void **state)
{
    light_arena *arena;
    void *data;
    (void)state;
    assert_int_equal(light_arena_new(&arena, light_device_cpu()), LIGHT_OK);
    assert_int_equal(light_arena_take(arena, (size_t)1 << 62, &data), -1);
    assert_non_null(strstr(light_error_message(), "out of memory"));
    assert_int_equal(light_arena_take(arena, SIZE_MAX, &data), -1);
    assert_true(light_arena_take(arena, 100, &data) >= 0);
    light_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_keep_their_contents),
        cmocka_unit_test(the_same_calls_give_the_same_addresses),
        cmocka_unit_test(neighbours_join),
        cmocka_unit_test(too_much_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
