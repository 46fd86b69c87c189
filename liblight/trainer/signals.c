/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C, SIGTERM and SIGUSR1: the handler sets a flag, the loop looks at it between steps. A second Ctrl-C or SIGTERM
 * kills; a second SIGUSR1 does not, for schedulers send it to whole groups of processes, some of them twice. */
#include "trainer/trainer.h"

#include <signal.h>

static const struct {
    int number, flags;
} watched[] = {{SIGINT, (int)SA_RESETHAND}, {SIGTERM, (int)SA_RESETHAND}, {SIGUSR1, 0}};
enum { WATCHED = sizeof watched / sizeof *watched };

static volatile sig_atomic_t pending;
static struct sigaction before[WATCHED];

static void note(int signal_number)
{
    pending = signal_number;
}

void light_signals_install(void)
{
    pending = 0;
    for (int i = 0; i < WATCHED; i++) {
        struct sigaction action = {.sa_handler = note, .sa_flags = watched[i].flags | SA_RESTART};
        sigemptyset(&action.sa_mask);
        sigaction(watched[i].number, &action, &before[i]);
    }
}

void light_signals_restore(void)
{
    for (int i = 0; i < WATCHED; i++) sigaction(watched[i].number, &before[i], NULL);
}

int light_signals_pending(void)
{
    return pending;
}
