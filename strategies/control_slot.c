/* SPDX-License-Identifier: Apache-2.0 */
/* The call that a process waits for, from the thread that waits to the one that tells. The text is copied, because the
 * wait may be over, and its text gone, while the other thread still reads. */
#include "strategies/control_state.h"

#include <string.h>

enum { WORDS = sizeof(light_control_call) / 8, WAITING = offsetof(light_control_call, waiting) / 8 };

_Static_assert(sizeof(light_control_call) % 8 == 0 && offsetof(light_control_call, waiting) % 8 == 0,
               "a call is made of words");

static void write_words(light_control_slot *slot, const light_control_call *call)
{
    uint64_t words[WORDS];
    unsigned version = atomic_load_explicit(&slot->version, memory_order_relaxed);
    memcpy(words, call, sizeof words);
    atomic_store_explicit(&slot->version, version + 1, memory_order_relaxed);
    /* Released: who sees one of these sees the odd version. */
    for (int i = 0; i < WORDS; i++) atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
    atomic_store_explicit(&slot->version, version + 2, memory_order_release);
}

void light_control_slot_init(light_control_slot *slot)
{
    atomic_init(&slot->version, 0);
    write_words(slot, &(light_control_call){.mark.number = -1});
}

void light_control_slot_enter(light_control_slot *slot, const light_collective *call, int64_t sequence)
{
    light_control_call c = {.waiting = 1};
    light_call_mark_set(&c.mark, call, sequence);
    write_words(slot, &c);
}

void light_control_slot_leave(light_control_slot *slot, int64_t sequence)
{
    /* Only the thread that writes gets here, so what it reads is its own. */
    uint64_t newest = atomic_load_explicit(&slot->words[0], memory_order_relaxed);
    if (newest == (uint64_t)sequence) atomic_store_explicit(&slot->words[WAITING], 0, memory_order_release);
}

bool light_control_slot_read(light_control_slot *slot, light_control_call *call)
{
    uint64_t words[WORDS];
    for (int tries = 0; tries < 100; tries++) {
        unsigned before = atomic_load_explicit(&slot->version, memory_order_acquire);
        for (int i = 0; i < WORDS; i++)
            words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
        unsigned after = atomic_load_explicit(&slot->version, memory_order_relaxed);
        if (before != after || before % 2) continue;
        memcpy(call, words, sizeof words);
        return true;
    }
    return false;
}
