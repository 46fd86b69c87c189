/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of a library by what they were made for: a hash table with open addressing.
 *
 * A Plan has a `key` that is compared as bytes, so nothing may be left between its fields, and `used`. Zeros are an
 * unused plan; a table of zeros is empty. */
#ifndef LIGHT_CUDA_TABLE_H
#define LIGHT_CUDA_TABLE_H

#include "cuda/device.h"

#include <stdlib.h>

namespace light
{

template <class Plan> struct plan_table {
    enum { FIRST_SLOTS = 64 };
    Plan *slots;
    size_t count; /* of slots, a power of two */
    size_t used;
};

/* The slot of a key, or the free one where it belongs. There is room. */
template <class Plan, class Key> Plan *find_plan(const plan_table<Plan> *table, const Key &key)
{
    static_assert(sizeof key % 8 == 0, "keys are read in words");
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof key; i += 8) {
        uint64_t word;
        memcpy(&word, (const char *)&key + i, 8);
        hash = (hash ^ word ^ hash >> 29) * 0x9E3779B97F4A7C15u;
    }
    for (size_t i = hash >> 32;; i++) {
        Plan *plan = &table->slots[i & (table->count - 1)];
        if (!plan->used || !memcmp(&plan->key, &key, sizeof key)) return plan;
    }
}

/* Room for one more plan: at most half of the slots are used. Moves the plans. */
template <class Plan> light_status make_room(plan_table<Plan> *table)
{
    if (2 * table->used < table->count) return LIGHT_OK;
    plan_table<Plan> grown = *table;
    grown.count = table->count ? 2 * table->count : (size_t)plan_table<Plan>::FIRST_SLOTS;
    grown.slots = (Plan *)calloc(grown.count, sizeof *grown.slots);
    if (!grown.slots) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    for (size_t i = 0; i < table->count; i++)
        if (table->slots[i].used) *find_plan(&grown, table->slots[i].key) = table->slots[i];
    free(table->slots);
    *table = grown;
    return LIGHT_OK;
}

} // namespace light

#endif
