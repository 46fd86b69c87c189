/* SPDX-License-Identifier: Apache-2.0 */
/* An open checkpoint. */
#ifndef LIGHT_CHECKPOINT_READ_H
#define LIGHT_CHECKPOINT_READ_H

#include "checkpoint/manifest.h"

#include <light/checkpoint.h>

struct light_checkpoint {
    char *path;
    light_manifest manifest;
    int *files; /* descriptors, as in the manifest; -1 where none is open */
    const light_manifest_tensor **by_name;
    light_state *state;
};

/* Reads all files and compares them with their checksums; several threads do that when it is much. */
light_status light_checkpoint_verify(const light_checkpoint *checkpoint);

const light_manifest_tensor *light_checkpoint_find_tensor(const light_checkpoint *checkpoint,
                                                          const char *name);

/* "PATH/NAME" of a file for an error, into `text`, which it returns. */
char *light_checkpoint_file_path(const light_checkpoint *checkpoint, size_t file, char *text, size_t bytes);

#endif
