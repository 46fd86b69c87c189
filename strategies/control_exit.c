/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process whose job has failed. The only file of the library that ends the program: a process that waits
 * inside of MPI or a driver for one that is gone has no other way out. */
#include "strategies/control_state.h"

#include "base/memory.h"
#include "base/thread.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Longer than any answer on a network that works; shorter than the program is given. */
#define HEIR_SECONDS 0.7

typedef struct sentence {
    double seconds;
    int code;
} sentence;

static void *execute(void *argument)
{
    sentence s = *(sentence *)argument;
    struct timespec left = {.tv_sec = (time_t)s.seconds,
                            .tv_nsec = (long)(1e9 * (s.seconds - (double)(time_t)s.seconds))};
    light_free(argument);
    while (nanosleep(&left, &left) != 0) continue;
    _exit(s.code);
    return NULL;
}

void light_control_exit_in(double seconds, int code)
{
    pthread_t thread;
    sentence *s = light_alloc(sizeof *s);
    if (s) *s = (sentence){.seconds = seconds, .code = code};
    if (!s || light_thread_start(&thread, "light exit", execute, s) != LIGHT_OK) _exit(code);
    pthread_detach(thread);
}

bool light_control_is_heir(const light_control *c)
{
    int lower = c->rank - 1;
    if (lower <= 0) return true;
    int sockets[lower];
    for (int i = 0; i < lower; i++) sockets[i] = light_wire_connect(&c->peers[i + 1].address);
    bool heir = light_wire_any_connected(sockets, lower, HEIR_SECONDS) < 0;
    for (int i = 0; i < lower; i++)
        if (sockets[i] >= 0) close(sockets[i]);
    return heir;
}
