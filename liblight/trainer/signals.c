/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C and SIGTERM: the handler sets a flag, the loop looks at it between batches. A second signal kills. */
#include "trainer/trainer.h"

#include <signal.h>

static volatile sig_atomic_t pending;
static struct sigaction old_interrupt, old_terminate;

static void note(int signal_number)
{
    pending = signal_number;
}

void light_signals_install(void)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    pending = 0;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &old_interrupt);
    sigaction(SIGTERM, &action, &old_terminate);
}

void light_signals_restore(void)
{
    sigaction(SIGINT, &old_interrupt, NULL);
    sigaction(SIGTERM, &old_terminate, NULL);
}

int light_signals_pending(void)
{
    return pending;
}
