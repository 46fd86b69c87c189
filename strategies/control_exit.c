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

static void pass(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))};
    while (nanosleep(&left, &left) != 0) continue;
}

static void *execute(void *argument)
{
    sentence s = *(sentence *)argument;
    light_free(argument);
    pass(s.seconds);
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

/* Connected, and not ended by the other side since. */
static bool is_alive(int socket)
{
    struct pollfd look = {.fd = socket, .events = POLLOUT | POLLRDHUP};
    return socket >= 0 && poll(&look, 1, 0) == 1 && look.revents == POLLOUT;
}

/* Asks all lower ones whether they live, and again a little later: several may be dying at the same time. */
bool light_control_is_heir(const light_control *c)
{
    int lower = c->rank - 1;
    bool heir = true;
    if (lower <= 0) return true;
    int sockets[lower];
    for (int i = 0; i < lower; i++) sockets[i] = light_wire_connect(&c->peers[i + 1].address);
    pass(HEIR_SECONDS);
    for (int i = 0; i < lower; i++) {
        heir = heir && !is_alive(sockets[i]);
        if (sockets[i] >= 0) close(sockets[i]);
    }
    return heir;
}
