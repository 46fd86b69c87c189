/* SPDX-License-Identifier: Apache-2.0 */
/* A user's program for the install test: it has nothing but the installed headers and library. */
#include <light/light.h>

#include <stdio.h>
#include <string.h>

static void sink(void *user, light_message_level level, const char *text)
{
    *(int *)user = level == LIGHT_MESSAGE_WARNING && strcmp(text, "weights: 3") == 0;
}

int main(void)
{
    int heard = 0;

    light_message_set_sink(sink, &heard);
    light_message(LIGHT_MESSAGE_WARNING, "weights: %d", 3);
    if (!heard) {
        fprintf(stderr, "the message did not arrive\n");
        return 1;
    }
    if (light_fail(LIGHT_ERR_USER, "expected") != LIGHT_ERR_USER ||
        strcmp(light_error_message(), "expected") != 0) {
        fprintf(stderr, "the failure was not recorded\n");
        return 1;
    }
    puts("ok");
    return 0;
}
