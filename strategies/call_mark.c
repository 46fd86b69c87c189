/* SPDX-License-Identifier: Apache-2.0 */
/* Marks of calls: made, compared, named. */
#include "strategies/call_mark.h"

#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(light_call_mark) == 2 * 8 + 6 * 4 + LIGHT_MARK_WHAT, "a mark has no padding");

bool light_call_is_single(int kind)
{
    return kind == LIGHT_SEND || kind == LIGHT_RECEIVE;
}

void light_call_mark_set(light_call_mark *mark, const light_collective *call, int64_t number)
{
    *mark = (light_call_mark){.number = number,
                              .count = call->count,
                              .kind = (int32_t)call->kind,
                              .dtype = (int32_t)call->dtype,
                              .combine = (int32_t)call->combine,
                              .ordered = call->ordered,
                              .peer = call->peer,
                              .contributors = call->contributors};
    if (call->what) strncpy(mark->what, call->what, sizeof mark->what - 1);
}

bool light_call_marks_meet(const light_call_mark *a, const light_call_mark *b)
{
    if (!light_call_is_single(a->kind) || !light_call_is_single(b->kind)) return !memcmp(a, b, sizeof *a);
    return a->kind != b->kind && a->count == b->count && a->dtype == b->dtype;
}

static void format_bytes(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    int unit = 0;
    for (; bytes >= 1024 && unit < 3; unit++) bytes /= 1024;
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

char *light_call_mark_name(const light_call_mark *mark, char *text, size_t bytes)
{
    char volume[32] = "";
    bool known = mark->kind >= 0 && mark->kind < LIGHT_COLLECTIVE_COUNT;
    if (mark->count > 0)
        format_bytes((double)mark->count * (double)light_dtype_size((light_dtype)mark->dtype), volume,
                     sizeof volume);
    int used = snprintf(text, bytes, "%s #%lld", known ? light_collective_names[mark->kind] : "call",
                        (long long)mark->number);
    if (mark->what[0] || volume[0])
        snprintf(text + used, bytes - (size_t)used, " (%.*s%s%s)", LIGHT_MARK_WHAT - 1, mark->what,
                 mark->what[0] && volume[0] ? ", " : "", volume);
    return text;
}
