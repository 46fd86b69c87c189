/* SPDX-License-Identifier: Apache-2.0 */
/* What a process says of the call that it is in: before its first message to another one, and in heartbeats. */
#ifndef LIGHT_STRATEGIES_CALL_MARK_H
#define LIGHT_STRATEGIES_CALL_MARK_H

#include "tensor/communicator.h"

#define LIGHT_MARK_WHAT 64 /* bytes of a call's text that are kept */

/* Without padding: it is compared and copied as bytes. */
typedef struct light_call_mark {
    int64_t
        number; /* in the order of calls, which is the same on all ranks; see light_call_is_single. -1: none */
    int64_t count;
    int32_t kind, dtype, combine, ordered, peer, contributors;
    char what[LIGHT_MARK_WHAT];
} light_call_mark;

/* Between two ranks: the others do not take part, so it does not count in the order of calls. */
bool light_call_is_single(int kind);

void light_call_mark_set(light_call_mark *mark, const light_collective *call, int64_t number);
/* Whether two ranks are in the same call, or at the two ends of one. */
bool light_call_marks_meet(const light_call_mark *a, const light_call_mark *b);
/* "all_reduce #1234 (gradients 5 of 12, 25.0 MiB)" into `text`, which it returns. */
char *light_call_mark_name(const light_call_mark *mark, char *text, size_t bytes);

#endif
