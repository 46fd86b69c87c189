/* SPDX-License-Identifier: Apache-2.0 */
/* Names as they stand in HDF5 and in the manifest: every byte that is not printable ASCII, and % " \, as %XX; inside
 * one component a slash too, and a component "." as "%2E". So any name can be a link of HDF5 and a JSON string. */
#ifndef LIGHT_CHECKPOINT_NAME_H
#define LIGHT_CHECKPOINT_NAME_H

#include "base/string.h"

/* Appends one component. */
void light_name_encode(light_string *out, const char *component);
/* Appends a path, whose slashes stay. False when a component is empty. */
bool light_name_encode_path(light_string *out, const char *path);
/* Undoes both in place. False when `text` is nothing that they write. */
bool light_name_decode(char *text);

#endif
