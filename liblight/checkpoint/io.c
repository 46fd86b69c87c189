/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/io.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

light_status light_io_fail(const char *doing, const char *path)
{
    int error = errno;
    return light_fail(error == ENOENT ? LIGHT_ERR_NOT_FOUND : LIGHT_ERR_IO, "cannot %s %s: %s", doing, path,
                      strerror(error));
}

light_status light_io_create(const char *path, int *file)
{
    *file = light_file_may_write() ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
    return *file < 0 ? light_io_fail("create", path) : LIGHT_OK;
}

light_status light_io_allocate(int file, const char *path, uint64_t bytes)
{
    int result;

    if (bytes == 0) return LIGHT_OK;
    do {
        result = light_file_may_write() ? fallocate(file, 0, 0, (off_t)bytes) : -1;
    } while (result != 0 && errno == EINTR);
    /* Where the file system cannot, the writes will tell. */
    if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS) return light_io_fail("make room for", path);
    return LIGHT_OK;
}

light_status light_io_write(int file, const char *path, const void *data, size_t bytes, uint64_t offset)
{
    const char *at = data;

    while (bytes) {
        size_t part = bytes;
        if (!light_file_may_write()) {
            if (errno == EINTR) continue;
            if (errno != 0) return light_io_fail("write", path);
            part = (part + 1) / 2;
        }
        ssize_t count = pwrite(file, at, part, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return light_io_fail("write", path);
        if (count == 0) return light_fail(LIGHT_ERR_IO, "cannot write %s: it takes no more bytes", path);
        at += count;
        bytes -= (size_t)count;
        offset += (uint64_t)count;
    }
    return LIGHT_OK;
}

/* A failed fsync is never tried again: Linux drops the pages it could not write, and a second call would succeed. */
light_status light_io_sync(int file, const char *path)
{
    int result;

    do {
        result = light_file_may_write() ? fsync(file) : -1;
    } while (result != 0 && errno == EINTR);
    return result == 0 ? LIGHT_OK : light_io_fail("flush", path);
}

light_status light_io_close(int file, const char *path)
{
    bool may = light_file_may_write();
    int error = errno;

    if (close(file) != 0 && errno != EINTR) return light_io_fail("close", path);
    if (may) return LIGHT_OK;
    errno = error;
    return error == EINTR ? LIGHT_OK : light_io_fail("close", path);
}

light_status light_io_make_directory(const char *path, bool *exists)
{
    *exists = false;
    if (light_file_may_write() && mkdir(path, 0777) == 0) return LIGHT_OK;
    *exists = errno == EEXIST;
    return *exists ? LIGHT_OK : light_io_fail("make the folder", path);
}

light_status light_io_rename(const char *from, const char *to)
{
    if (light_file_may_write() && rename(from, to) == 0) return LIGHT_OK;
    return light_io_fail("rename a folder to", to);
}

light_status light_io_exchange(const char *a, const char *b)
{
    if (light_file_may_write() && renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0) return LIGHT_OK;
    bool impossible = errno == EINVAL || errno == ENOSYS;
    light_status status = light_io_fail("replace", b);
    return impossible ? LIGHT_ERR_UNSUPPORTED : status;
}

light_status light_io_link(const char *from, const char *to)
{
    if (light_file_may_write() && link(from, to) == 0) return LIGHT_OK;
    bool impossible =
        errno == EXDEV || errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP || errno == ENOSYS;
    light_status status = light_io_fail("link", to);
    return impossible ? LIGHT_ERR_UNSUPPORTED : status;
}

static atomic_uint_fast64_t bytes_read;

uint64_t light_io_bytes_read(void)
{
    return atomic_load(&bytes_read);
}

light_status light_io_read(int file, const char *path, void *to, size_t bytes, uint64_t offset)
{
    char *at = to;

    while (bytes) {
        ssize_t count = pread(file, at, bytes, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return light_io_fail("read", path);
        if (count == 0) return light_fail(LIGHT_ERR_FORMAT, "%s is shorter than it should be", path);
        atomic_fetch_add_explicit(&bytes_read, (uint64_t)count, memory_order_relaxed);
        at += count;
        bytes -= (size_t)count;
        offset += (uint64_t)count;
    }
    return LIGHT_OK;
}
