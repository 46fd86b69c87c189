/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are there whole or not at all, folders, and failures on demand. */
#ifndef LIGHT_BASE_FILE_H
#define LIGHT_BASE_FILE_H

#include <light/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All functions name the path in what light_fail records. */

/* The whole file in new memory (light_free), with a NUL behind it. LIGHT_ERR_NOT_FOUND when there is none. */
light_status light_file_read(const char *path, char **data, size_t *bytes);

/* Puts a file in place: readers see the old content or the new, also after a crash. Written to a temporary file
 * beside it, flushed to disk, renamed, and the folder flushed. The temporary file is removed on failure. */
light_status light_file_write_atomic(const char *path, const void *data, size_t bytes);

/* The last two steps for a file or folder that someone else has written under `temporary`: flush it (the files
 * right inside, for a folder), rename it to `path`, flush the folder. `temporary` stays on failure. */
light_status light_file_publish(const char *temporary, const char *path);

/* A name beside `path` that no other process or call uses: "path.tmp-PID-N" (light_free). NULL after light_fail. */
char *light_file_temporary_name(const char *path);

/* Flushes a file, or a folder's list of names, to disk. */
light_status light_file_sync(const char *path);

/* The folder and those above it; fine when it exists. */
light_status light_make_directories(const char *path);

/* A file or a folder with everything in it; fine when there is none. Links are removed, not followed. */
light_status light_remove_tree(const char *path);

bool light_file_exists(const char *path);
bool light_directory_exists(const char *path);

/* "folder/name" (light_free); `name` alone when it is absolute or `folder` is empty. NULL after light_fail. */
char *light_path_join(const char *folder, const char *name);

/* The part before the last slash (light_free): "." when there is none. NULL after light_fail. */
char *light_path_parent(const char *path);

/* For tests: the nth call from now on that changes something on disk fails with errno `error`, once: opening for
 * writing, writing, flushing, renaming, making a folder. 0 calls it off. */
void light_file_fail_nth(int64_t n, int error);

/* Whoever writes files in another way (through HDF5, say) asks this before each such call. False sets errno: the
 * call has to be reported as failed. */
bool light_file_may_write(void);

#endif
