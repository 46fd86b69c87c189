/* SPDX-License-Identifier: Apache-2.0 */
/* From how a run has ended to the exit code that a shell or a scheduler understands. */
#include "base/exit.h"

#include <stdatomic.h>

static atomic_int stop_signal;
static atomic_int peer_code = LIGHT_EXIT_PEER;

void light_exit_by_signal(int signal_number)
{
    atomic_store(&stop_signal, signal_number);
}

void light_exit_by_peer(int code)
{
    atomic_store(&peer_code, code);
}

int light_exit_code(light_status status)
{
    switch (status) {
    case LIGHT_OK: return 0;
    case LIGHT_ERR_INTERRUPTED:
        return atomic_load(&stop_signal) ? LIGHT_EXIT_REQUEUE : LIGHT_EXIT_INTERRUPTED;
    case LIGHT_ERR_PEER: return atomic_load(&peer_code);
    default: return LIGHT_EXIT_FAILED;
    }
}
