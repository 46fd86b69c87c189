/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C against RFC 3720 (section B.4), and its three ways of computing against each other. */
#include "base/hash.h"

#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef uint32_t (*crc_fn)(uint32_t crc, const void *data, size_t bytes);

static void check_vectors(crc_fn crc)
{
    unsigned char data[48];
    static const unsigned char iscsi_read[48] = {
        0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2,    0, 0, 0, 0, 0, 0, 0,
    };

    memset(data, 0, 32);
    assert_int_equal(crc(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_int_equal(crc(0, data, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++) data[i] = (unsigned char)i;
    assert_int_equal(crc(0, data, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++) data[i] = (unsigned char)(31 - i);
    assert_int_equal(crc(0, data, 32), 0x113fdb5c);
    assert_int_equal(crc(0, iscsi_read, 48), 0xd9963a56);
    assert_int_equal(crc(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc(0, "", 0), 0);
}

static void known_answers(void **state)
{
    (void)state;
    check_vectors(light_crc32c);
    check_vectors(light_crc32c_portable);
}

static unsigned char data[40000];

static void fill(void)
{
    const uint32_t key[2] = {3, 4};

    for (size_t i = 0; i < sizeof data; i += 16) {
        uint32_t block[4];
        light_philox_at(key, i, 0, block);
        memcpy(data + i, block, 16);
    }
}

/* Lengths on both sides of every inner boundary, from addresses that are not aligned. */
static void instruction_equals_tables(void **state)
{
    static const size_t around[] = {0, 8, 768, 1536, 12288, 24576, 25344, 39000};

    (void)state;
    fill();
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        for (size_t bytes = around[i] < 9 ? 0 : around[i] - 9; bytes <= around[i] + 9; bytes++) {
            const unsigned char *start = data + bytes % 13;
            assert_int_equal(light_crc32c(0, start, bytes), light_crc32c_portable(0, start, bytes));
        }
    }
}

static void in_pieces(void **state)
{
    (void)state;
    fill();
    uint32_t whole = light_crc32c(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut += 617) {
        uint32_t a = light_crc32c(0, data, cut), b = light_crc32c(0, data + cut, sizeof data - cut);
        assert_int_equal(light_crc32c(a, data + cut, sizeof data - cut), whole);
        assert_int_equal(light_crc32c_combine(a, b, sizeof data - cut), whole);
    }
}

/* Lengths that no test could hash: joining three parts does not depend on which two are joined first. */
static void combine_of_huge_lengths(void **state)
{
    const uint64_t b = ((uint64_t)5 << 40) + 3, c = ((uint64_t)1 << 62) + 77;

    (void)state;
    uint32_t left = light_crc32c_combine(light_crc32c_combine(0x12345678, 0x9abcdef0, b), 0x0fedcba9, c);
    uint32_t right = light_crc32c_combine(0x12345678, light_crc32c_combine(0x9abcdef0, 0x0fedcba9, c), b + c);
    assert_int_equal(left, right);
    assert_int_equal(light_crc32c_combine(0x12345678, 0, 0), 0x12345678);
}

static void every_bit_counts(void **state)
{
    (void)state;
    fill();
    uint32_t good = light_crc32c(0, data, 12345);
    for (size_t bit = 0; bit < 8 * 12345; bit += 997) {
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_not_equal(light_crc32c(0, data, 12345), good);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),    cmocka_unit_test(instruction_equals_tables),
        cmocka_unit_test(in_pieces),        cmocka_unit_test(combine_of_huge_lengths),
        cmocka_unit_test(every_bit_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
