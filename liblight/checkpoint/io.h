/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that change something on disk, each with a path for its error, retried where that is right, and each
 * asking light_file_may_write first so that tests can make it fail. An injected errno of 0 makes a write short. */
#ifndef LIGHT_CHECKPOINT_IO_H
#define LIGHT_CHECKPOINT_IO_H

#include <light/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new file, opened for writing, for the caller to close with light_io_close. */
light_status light_io_create(const char *path, int *file);
/* Asks the file system for the room now, so that a full disk is told before anything is written. */
light_status light_io_allocate(int file, const char *path, uint64_t bytes);
light_status light_io_write(int file, const char *path, const void *data, size_t bytes, uint64_t offset);
light_status light_io_sync(int file, const char *path);
light_status light_io_close(int file, const char *path);

/* *exists tells that something of that name is there already, which is no failure. */
light_status light_io_make_directory(const char *path, bool *exists);
light_status light_io_rename(const char *from, const char *to);
/* Swaps two names in one go. LIGHT_ERR_UNSUPPORTED where the file system cannot. */
light_status light_io_exchange(const char *a, const char *b);
/* A second name for a file. LIGHT_ERR_UNSUPPORTED where that is not possible. */
light_status light_io_link(const char *from, const char *to);

/* Reads exactly `bytes` bytes; a file that ends before is LIGHT_ERR_FORMAT. */
light_status light_io_read(int file, const char *path, void *to, size_t bytes, uint64_t offset);
/* All that light_io_read has read in this process, for tests of how much that is. */
uint64_t light_io_bytes_read(void);

/* "cannot DOING PATH: errno's text", LIGHT_ERR_NOT_FOUND for ENOENT and LIGHT_ERR_IO else. */
light_status light_io_fail(const char *doing, const char *path);

#endif
