/* SPDX-License-Identifier: Apache-2.0 */
/* What light_exit_code has to know besides a status. */
#ifndef LIGHT_BASE_EXIT_H
#define LIGHT_BASE_EXIT_H

#include <light/status.h>

/* The signal that has stopped a run whose state is saved: SIGUSR1 or SIGTERM. 0: that was another run. */
void light_exit_by_signal(int signal_number);
/* Another process of the job has failed: the code with which this one ends too. */
void light_exit_by_peer(int code);

#endif
