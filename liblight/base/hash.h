/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli), the checksum of RFC 3720: reflected polynomial 0x82F63B78. */
#ifndef LIGHT_BASE_HASH_H
#define LIGHT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `data`, going on from `crc`, which is 0 at the start:
 * light_crc32c(light_crc32c(0, a, n), b, m) is the checksum of a followed by b. */
uint32_t light_crc32c(uint32_t crc, const void *data, size_t bytes);

/* The checksum of A followed by B from those of A and B, for parts that were summed side by side. */
uint32_t light_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t bytes_of_b);

/* The same as light_crc32c without the processor's instruction; tests compare the two. */
uint32_t light_crc32c_portable(uint32_t crc, const void *data, size_t bytes);

#endif
