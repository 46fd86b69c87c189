/* SPDX-License-Identifier: Apache-2.0 */
/* A balanced Feistel network over the least even power of two that holds n, with cycle walking: a value that falls
 * outside 0..n-1 goes through the network again until it is inside. The network is a bijection, so walking along its
 * cycles is one too, and since the domain is below 4n this takes fewer than four turns on average.
 * M. Luby, C. Rackoff: How to construct pseudorandom permutations. SIAM J. Comput. 17, 1988;
 * J. Black, P. Rogaway: Ciphers with arbitrary finite domains. CT-RSA 2002. */
#include "base/permutation.h"

#include "base/philox.h"

light_permutation light_permutation_new(uint64_t n, uint64_t seed, uint64_t epoch)
{
    light_permutation p = {.n = n, .half_bits = 1};
    uint32_t key[2];

    while (p.half_bits < 31 && ((uint64_t)1 << (2 * p.half_bits)) < n) p.half_bits++;
    light_rng_key(seed, LIGHT_RNG_SHUFFLE, epoch, key);
    for (unsigned i = 0; i < LIGHT_PERMUTATION_ROUNDS / 2; i++) {
        uint32_t block[4];
        light_philox_at(key, i, 0, block);
        p.keys[2 * i] = (uint64_t)block[0] << 32 | block[1];
        p.keys[2 * i + 1] = (uint64_t)block[2] << 32 | block[3];
    }
    return p;
}

/* A hash of one half: two multiplications spread every bit of key and value over the upper bits. */
static uint64_t round_function(uint64_t half, uint64_t key)
{
    uint64_t x = (half ^ key) * 0x9E3779B97F4A7C15u;

    x ^= x >> 32;
    x = (x + key) * 0xD6E8FEB86659FD93u;
    return x >> 33;
}

static uint64_t network(const light_permutation *p, uint64_t value)
{
    uint64_t mask = ((uint64_t)1 << p->half_bits) - 1;
    uint64_t left = value >> p->half_bits, right = value & mask;

    for (int i = 0; i < LIGHT_PERMUTATION_ROUNDS; i++) {
        uint64_t mixed = left ^ (round_function(right, p->keys[i]) & mask);
        left = right;
        right = mixed;
    }
    return left << p->half_bits | right;
}

uint64_t light_permutation_at(const light_permutation *p, uint64_t position)
{
    uint64_t value = position;

    do {
        value = network(p, value);
    } while (value >= p->n);
    return value;
}
