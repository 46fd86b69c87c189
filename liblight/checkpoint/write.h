/* SPDX-License-Identifier: Apache-2.0 */
/* Putting a prepared checkpoint on disk. Runs in any thread. */
#ifndef LIGHT_CHECKPOINT_WRITE_H
#define LIGHT_CHECKPOINT_WRITE_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"
#include "checkpoint/manifest.h"

/* One of the checkpoint's HDF5 files. */
typedef struct light_file_plan {
    light_dataset *datasets;
    light_extent **extents; /* of each dataset: where in the manifest its place and checksum go */
    size_t count;
    light_layout_about about;
    /* Puts `bytes` bytes of a dataset from byte `at` on into `to`; for datasets whose data is not in memory. */
    light_status (*fetch)(void *user, const light_dataset *dataset, uint64_t at, size_t bytes, void *to);
    void *user;
} light_file_plan;

/* Writes one file as planned, and flushes it; its size and checksum go to `about`. */
light_status light_write_file(const char *path, light_file_plan *plan, light_manifest_file *about);

/* Writes the manifest's files to a folder, by the plan of each, and completes the manifest by sizes, places and
 * checksums. */
light_status light_write_files(const char *folder, light_manifest *manifest, light_file_plan *plans);
light_status light_write_manifest(const char *folder, const light_manifest *manifest);

/* Both in a temporary folder, which is published as `path`. Nothing is left behind on failure. `bytes` is the size of all
 * files. */
light_status light_write_checkpoint(const char *path, const char *run, light_manifest *manifest,
                                    light_file_plan *plans, uint64_t *bytes);

/* The same files under another path: hard links, or copies where links are not possible. */
light_status light_link_checkpoint(const char *from, const char *path, const char *run,
                                   const light_manifest *manifest);

#endif
