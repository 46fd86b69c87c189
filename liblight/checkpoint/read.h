/* SPDX-License-Identifier: Apache-2.0 */
/* An open checkpoint. */
#ifndef LIGHT_CHECKPOINT_READ_H
#define LIGHT_CHECKPOINT_READ_H

#include "checkpoint/manifest.h"

#include <light/checkpoint.h>

struct light_checkpoint {
    char *path;
    light_manifest manifest;
    int *files;    /* descriptors, as in the manifest; -1 where none is open */
    bool verified; /* all bytes were; else what is read is compared with the checksums of its pieces */
    const light_manifest_tensor **by_name;
    light_state *state;
};

/* Reads files and compares them with their checksums; several threads do that when it is much. All files, or those that
 * tensors are not read from: with state, or with nothing that the manifest names. */
light_status light_checkpoint_verify(const light_checkpoint *checkpoint, bool all);

/* Records that a part of a file, `what` called `name`, does not agree with its checksum. */
light_status light_checkpoint_fail_damaged(const light_checkpoint *checkpoint, size_t file, const char *what,
                                           const char *name);

const light_manifest_tensor *light_checkpoint_find_tensor(const light_checkpoint *checkpoint,
                                                          const char *name);

/* "PATH/NAME" of a file for an error, into `text`, which it returns. */
char *light_checkpoint_file_path(const light_checkpoint *checkpoint, size_t file, char *text, size_t bytes);

#endif
