/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint folders under their own names and under temporary ones.
 *
 * A save under way, and a checkpoint being removed, is called NAME.tmp.RUN.N: RUN are 16 hexadecimal digits that no
 * other writer has, N counts. The writer holds a lock on the folder, so others can tell whether it still lives. */
#ifndef LIGHT_CHECKPOINT_FOLDER_H
#define LIGHT_CHECKPOINT_FOLDER_H

#include <light/status.h>

#include <stdbool.h>

#define LIGHT_RUN_BYTES 17

/* 16 random hexadecimal digits. */
light_status light_run_new(char run[LIGHT_RUN_BYTES]);

typedef struct light_temporary_folder {
    char *path;
    int lock; /* descriptor of the folder, locked where the file system can do that */
} light_temporary_folder;

/* Makes NAME.tmp.RUN.N for the first N that is free, and the folders above it. */
light_status light_temporary_folder_new(light_temporary_folder *out, const char *path, const char *run);
/* Removes the folder if it is still there. */
void light_temporary_folder_free(light_temporary_folder *folder);

/* May a checkpoint be put at `path`: nothing is there, or a checkpoint, or an empty folder? */
light_status light_folder_check_replaceable(const char *path);

/* Gives the finished temporary folder its name, in one go where the file system can, and flushes that to disk. What
 * stood there is removed. On failure both are as before. The fence (fence.h) may forbid it. */
light_status light_temporary_folder_publish(light_temporary_folder *folder, const char *path);

/* Is there a manifest? */
bool light_folder_is_checkpoint(const char *path);

/* Is this a name that light_temporary_folder_new makes? */
bool light_folder_is_temporary(const char *name);

#endif
