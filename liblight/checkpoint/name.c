/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/name.h"

#include <string.h>

static bool plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '%' && c != '"' && c != '\\' && c != '/';
}

static void encode(light_string *out, const char *text, size_t length)
{
    bool dot = length == 1 && text[0] == '.';

    for (size_t i = 0; i < length; i++) {
        if (plain((unsigned char)text[i]) && !dot)
            light_string_append_bytes(out, text + i, 1);
        else
            light_string_printf(out, "%%%02X", (unsigned char)text[i]);
    }
}

void light_name_encode(light_string *out, const char *component)
{
    encode(out, component, strlen(component));
}

bool light_name_encode_path(light_string *out, const char *path)
{
    for (;;) {
        size_t length = strcspn(path, "/");
        if (length == 0) return false;
        encode(out, path, length);
        if (path[length] == '\0') return true;
        light_string_append(out, "/");
        path += length + 1;
    }
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool light_name_decode(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = hex(from[1]), low = high < 0 ? -1 : hex(from[2]);
        if (low < 0 || high * 16 + low == 0) return false;
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}
