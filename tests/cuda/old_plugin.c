/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in that finds the library to be of another version than its own. */
#include <stddef.h>

const void *light_plugin(const void *host);

__attribute__((visibility("default"))) const void *light_plugin(const void *host)
{
    (void)host;
    return NULL;
}
