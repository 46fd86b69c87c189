/* SPDX-License-Identifier: Apache-2.0 */
/* The text of the last failure, one per thread, in fixed memory so that running out of memory can be told too. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 2048

static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local light_status last_status;

const char *light_status_text(light_status status)
{
    switch (status) {
#define X(code, text)                                                                                        \
    case LIGHT_##code: return text;
        LIGHT_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

const char *light_error_message(void)
{
    return message;
}

light_status light_error_status(void)
{
    return last_status;
}

light_status light_failv(light_status status, const char *format, va_list arguments)
{
    /* The arguments may point into the old message: format elsewhere first. */
    char text[MESSAGE_BYTES];
    vsnprintf(text, sizeof text, format, arguments);
    memcpy(message, text, strlen(text) + 1);
    return last_status = status;
}

light_status light_fail(light_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    light_failv(status, format, arguments);
    va_end(arguments);
    return status;
}

light_status light_fail_in(light_status status, const char *format, ...)
{
    char text[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (used < 0 || used >= MESSAGE_BYTES - 3) used = 0;
    snprintf(text + used, sizeof text - (size_t)used, "%s%.*s", used ? ": " : "", MESSAGE_BYTES - used - 3,
             message);
    memcpy(message, text, strlen(text) + 1);
    return last_status = status;
}
