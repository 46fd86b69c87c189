/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C. With SSE 4.2 the crc32 instruction works on three parts at once, since one chain of it waits three cycles
 * for every eight bytes; the parts are joined by multiplying with a power of x. Elsewhere eight tables take eight
 * bytes a turn. In the reflected form used here bit 31 is the coefficient of x^0. */
#include "base/hash.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82F63B78u
#define ONE        0x80000000u

/* Lengths of one part in bytes; a longer run of data is cut into rounds of three parts. */
#define LONG_PART  4096
#define SHORT_PART 256

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static uint32_t byte_tables[8][256]; /* [k][b]: byte b followed by k zero bytes */
static uint32_t power_of_two[31];    /* [k]: x^(2^k); k + 31 gives the same again, x has the order 2^31 - 1 */
#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_CRC_INSTRUCTION 1
static bool has_crc_instruction;
static uint32_t long_shift[4][256]; /* [k][b]: byte k of a checksum, moved past LONG_PART bytes */
static uint32_t short_shift[4][256];
#endif

/* a * b modulo the polynomial. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = ONE; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = b & 1 ? (b >> 1) ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

/* x^(8 * bytes) modulo the polynomial. */
static uint32_t shift_by(uint64_t bytes)
{
    uint32_t power = ONE;

    for (unsigned k = 3; bytes; k++, bytes >>= 1) {
        if (bytes & 1) power = multiply(power, power_of_two[k % 31]);
    }
    return power;
}

#ifdef HAVE_CRC_INSTRUCTION
static void make_shift_table(uint32_t table[4][256], uint64_t bytes)
{
    uint32_t power = shift_by(bytes);

    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t b = 0; b < 256; b++) table[k][b] = multiply(power, b << (8 * k));
    }
}
#endif

static void make_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int i = 0; i < 8; i++) crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        byte_tables[0][b] = crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int b = 0; b < 256; b++) {
            uint32_t before = byte_tables[k - 1][b];
            byte_tables[k][b] = byte_tables[0][before & 255] ^ (before >> 8);
        }
    }
    power_of_two[0] = ONE >> 1;
    for (int k = 1; k < 31; k++) power_of_two[k] = multiply(power_of_two[k - 1], power_of_two[k - 1]);
#ifdef HAVE_CRC_INSTRUCTION
    make_shift_table(long_shift, LONG_PART);
    make_shift_table(short_shift, SHORT_PART);
    has_crc_instruction = __builtin_cpu_supports("sse4.2");
#endif
}

static uint32_t update_portable(uint32_t crc, const unsigned char *data, size_t bytes)
{
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                              (uint32_t)data[3] << 24);
        crc = byte_tables[7][low & 255] ^ byte_tables[6][low >> 8 & 255] ^ byte_tables[5][low >> 16 & 255] ^
              byte_tables[4][low >> 24] ^ byte_tables[3][data[4]] ^ byte_tables[2][data[5]] ^
              byte_tables[1][data[6]] ^ byte_tables[0][data[7]];
    }
    for (; bytes; bytes--, data++) crc = byte_tables[0][(crc ^ *data) & 255] ^ (crc >> 8);
    return crc;
}

#ifdef HAVE_CRC_INSTRUCTION
static uint32_t shift(uint32_t table[4][256], uint32_t crc)
{
    return table[0][crc & 255] ^ table[1][crc >> 8 & 255] ^ table[2][crc >> 16 & 255] ^ table[3][crc >> 24];
}

static uint64_t load(const unsigned char *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof word);
    return word;
}

/* Rounds of three parts of `part` bytes each, as many as fit. */
__attribute__((target("sse4.2"))) static uint32_t update_in_parts(uint32_t crc, const unsigned char **data,
                                                                  size_t *bytes, size_t part,
                                                                  uint32_t table[4][256])
{
    const unsigned char *at = *data;
    size_t left = *bytes;

    for (; left >= 3 * part; left -= 3 * part, at += 3 * part) {
        uint64_t a = crc, b = 0, c = 0;
        for (size_t i = 0; i < part; i += 8) {
            a = __builtin_ia32_crc32di(a, load(at + i));
            b = __builtin_ia32_crc32di(b, load(at + part + i));
            c = __builtin_ia32_crc32di(c, load(at + 2 * part + i));
        }
        crc = shift(table, (uint32_t)a) ^ (uint32_t)b;
        crc = shift(table, crc) ^ (uint32_t)c;
    }
    *data = at;
    *bytes = left;
    return crc;
}

__attribute__((target("sse4.2"))) static uint32_t update_fast(uint32_t crc, const unsigned char *data,
                                                              size_t bytes)
{
    crc = update_in_parts(crc, &data, &bytes, LONG_PART, long_shift);
    crc = update_in_parts(crc, &data, &bytes, SHORT_PART, short_shift);
    uint64_t wide = crc;
    for (; bytes >= 8; bytes -= 8, data += 8) wide = __builtin_ia32_crc32di(wide, load(data));
    crc = (uint32_t)wide;
    for (; bytes; bytes--, data++) crc = __builtin_ia32_crc32qi(crc, *data);
    return crc;
}
#endif

uint32_t light_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    pthread_once(&tables_once, make_tables);
#ifdef HAVE_CRC_INSTRUCTION
    if (has_crc_instruction) return ~update_fast(~crc, data, bytes);
#endif
    return ~update_portable(~crc, data, bytes);
}

uint32_t light_crc32c_portable(uint32_t crc, const void *data, size_t bytes)
{
    pthread_once(&tables_once, make_tables);
    return ~update_portable(~crc, data, bytes);
}

uint32_t light_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t bytes_of_b)
{
    pthread_once(&tables_once, make_tables);
    return multiply(shift_by(bytes_of_b), crc_a) ^ crc_b;
}
