/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, atomic writing, and folders. */
#include "base/file.h"

#include "base/memory.h"
#include "base/string.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST_WRITE ((size_t)1 << 30) /* Linux writes a little less than 2 GiB at once */

static atomic_int_fast64_t fail_countdown;
static atomic_int fail_errno;

void light_file_fail_nth(int64_t n, int error)
{
    atomic_store(&fail_errno, error);
    atomic_store(&fail_countdown, n);
}

bool light_file_may_write(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return true;
    if (atomic_fetch_sub(&fail_countdown, 1) != 1) return true;
    errno = atomic_load(&fail_errno);
    return false;
}

/* What errno says about doing something with a path. */
static light_status fail_errno_at(const char *doing, const char *path)
{
    int error = errno;

    return light_fail(error == ENOENT ? LIGHT_ERR_NOT_FOUND : LIGHT_ERR_IO, "cannot %s %s: %s", doing, path,
                      strerror(error));
}

static light_status read_all(int file, const char *path, char **data, size_t *bytes)
{
    struct stat about;

    if (fstat(file, &about) != 0) return fail_errno_at("read", path);
    if (S_ISDIR(about.st_mode)) {
        errno = EISDIR;
        return fail_errno_at("read", path);
    }
    /* The size is a hint: pipes have none, and files grow. One byte more lets the end show without growing. */
    size_t capacity = (about.st_size > 0 ? (size_t)about.st_size : 4096) + 2, length = 0;
    char *buffer = light_alloc(capacity);
    if (!buffer) return LIGHT_ERR_MEMORY;
    for (;;) {
        if (length + 1 == capacity) {
            char *larger = light_realloc(buffer, capacity * 2);
            if (!larger) {
                light_free(buffer);
                return LIGHT_ERR_MEMORY;
            }
            buffer = larger;
            capacity *= 2;
        }
        size_t room = capacity - length - 1;
        ssize_t count = read(file, buffer + length, room < LARGEST_WRITE ? room : LARGEST_WRITE);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            light_status status = fail_errno_at("read", path);
            light_free(buffer);
            return status;
        }
        if (count == 0) break;
        length += (size_t)count;
    }
    buffer[length] = '\0';
    *data = buffer;
    *bytes = length;
    return LIGHT_OK;
}

light_status light_file_read(const char *path, char **data, size_t *bytes)
{
    *data = NULL;
    *bytes = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail_errno_at("open", path);
    light_status status = read_all(file, path, data, bytes);
    close(file);
    return status;
}

static light_status sync_descriptor(int file, const char *path)
{
    int result;

    if (!light_file_may_write()) return fail_errno_at("flush", path);
    do {
        result = fsync(file);
    } while (result != 0 && errno == EINTR);
    /* Some file systems cannot flush folders, which is no failure of ours. */
    if (result != 0 && errno != EINVAL && errno != EROFS) return fail_errno_at("flush", path);
    return LIGHT_OK;
}

light_status light_file_sync(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail_errno_at("open", path);
    light_status status = sync_descriptor(file, path);
    close(file);
    return status;
}

static light_status write_all(int file, const char *path, const char *data, size_t bytes)
{
    while (bytes) {
        if (!light_file_may_write()) return fail_errno_at("write", path);
        ssize_t count = write(file, data, bytes < LARGEST_WRITE ? bytes : LARGEST_WRITE);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno_at("write", path);
        data += count;
        bytes -= (size_t)count;
    }
    return LIGHT_OK;
}

static light_status write_new_file(const char *path, const void *data, size_t bytes)
{
    int file = light_file_may_write() ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
    if (file < 0) return fail_errno_at("write", path);
    light_status status = write_all(file, path, data, bytes);
    if (status == LIGHT_OK) status = sync_descriptor(file, path);
    if (close(file) != 0 && status == LIGHT_OK) status = fail_errno_at("write", path);
    return status;
}

static light_status rename_and_sync(const char *temporary, const char *path)
{
    char *parent = light_path_parent(path); /* first: a file in place is no failure for want of memory */
    if (!parent) return LIGHT_ERR_MEMORY;
    bool renamed = light_file_may_write() && rename(temporary, path) == 0;
    light_status status = renamed ? light_file_sync(parent) : fail_errno_at("rename a file to", path);
    light_free(parent);
    return status;
}

light_status light_file_write_atomic(const char *path, const void *data, size_t bytes)
{
    char *temporary = light_file_temporary_name(path);
    if (!temporary) return LIGHT_ERR_MEMORY;
    light_status status = write_new_file(temporary, data, bytes);
    if (status == LIGHT_OK) status = rename_and_sync(temporary, path);
    if (status != LIGHT_OK) unlink(temporary);
    light_free(temporary);
    return status;
}

/* Calls `fn` for each entry of a folder until one fails. */
static light_status each_entry(const char *path, light_status (*fn)(const char *entry))
{
    light_status status = LIGHT_OK;
    struct dirent *entry;
    DIR *folder = opendir(path);

    if (!folder) return fail_errno_at("open", path);
    while (status == LIGHT_OK && (errno = 0, entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *full = light_path_join(path, entry->d_name);
        status = full ? fn(full) : LIGHT_ERR_MEMORY;
        light_free(full);
    }
    if (status == LIGHT_OK && errno != 0) status = fail_errno_at("read", path);
    closedir(folder);
    return status;
}

light_status light_file_publish(const char *temporary, const char *path)
{
    if (light_directory_exists(temporary)) LIGHT_TRY(each_entry(temporary, light_file_sync));
    LIGHT_TRY(light_file_sync(temporary));
    return rename_and_sync(temporary, path);
}

char *light_file_temporary_name(const char *path)
{
    static atomic_uint counter;

    return light_format("%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&counter, 1));
}

static light_status make_directory(const char *path)
{
    if (light_file_may_write() && mkdir(path, 0777) == 0) return LIGHT_OK;
    if (errno == EEXIST && light_directory_exists(path)) return LIGHT_OK;
    return fail_errno_at("make the folder", path);
}

light_status light_make_directories(const char *path)
{
    light_status status = LIGHT_OK;

    if (path[0] == '\0') return LIGHT_OK;
    if (light_directory_exists(path)) return LIGHT_OK;
    char *partial = light_strdup(path);
    if (!partial) return LIGHT_ERR_MEMORY;
    for (char *at = partial + 1; *at && status == LIGHT_OK; at++) {
        if (*at != '/') continue;
        *at = '\0';
        if (!light_directory_exists(partial)) status = make_directory(partial);
        *at = '/';
    }
    if (status == LIGHT_OK) status = make_directory(partial);
    light_free(partial);
    return status;
}

light_status light_remove_tree(const char *path)
{
    struct stat about;

    if (lstat(path, &about) != 0) return errno == ENOENT ? LIGHT_OK : fail_errno_at("remove", path);
    if (S_ISDIR(about.st_mode)) {
        LIGHT_TRY(each_entry(path, light_remove_tree));
        if (rmdir(path) != 0 && errno != ENOENT) return fail_errno_at("remove", path);
        return LIGHT_OK;
    }
    if (unlink(path) != 0 && errno != ENOENT) return fail_errno_at("remove", path);
    return LIGHT_OK;
}

bool light_file_exists(const char *path)
{
    struct stat about;

    return stat(path, &about) == 0;
}

bool light_directory_exists(const char *path)
{
    struct stat about;

    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

char *light_path_join(const char *folder, const char *name)
{
    if (folder[0] == '\0' || name[0] == '/') return light_strdup(name);
    return light_format("%s%s%s", folder, light_ends_with(folder, "/") ? "" : "/", name);
}

char *light_path_parent(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) return light_strdup(".");
    return slash == path ? light_strdup("/") : light_strndup(path, (size_t)(slash - path));
}
