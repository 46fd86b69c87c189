/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary folders, publishing, removing, and cleaning up after runs that died. */
#include "checkpoint/folder.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/fence.h"
#include "checkpoint/io.h"
#include "checkpoint/manifest.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <light/message.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK ".tmp."
#define REPLACED                                                                                             \
    ".replaced" /* follows a temporary name: what stood under the name while it is being replaced */
#define ATTEMPTS 1000

light_status light_run_new(char run[LIGHT_RUN_BYTES])
{
    unsigned char random[8];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return light_fail(LIGHT_ERR_IO, "cannot get random bytes: %s", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++) snprintf(run + 2 * i, 3, "%02x", random[i]);
    return LIGHT_OK;
}

bool light_folder_is_checkpoint(const char *path)
{
    char *manifest = light_path_join(path, LIGHT_MANIFEST_NAME);
    bool there = manifest && light_file_exists(manifest);
    light_free(manifest);
    return there;
}

/* Does a folder hold nothing? */
static bool is_empty(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) return false;
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(folder)) != NULL;)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    return empty;
}

light_status light_folder_check_replaceable(const char *path)
{
    struct stat about;
    if (path[0] == '\0' || light_ends_with(path, "/"))
        return light_fail(LIGHT_ERR_ARGUMENT, "'%s' is no name for a checkpoint", path);
    if (lstat(path, &about) != 0) return LIGHT_OK;
    if (S_ISDIR(about.st_mode) && (light_folder_is_checkpoint(path) || is_empty(path))) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT, "%s is there already and is no checkpoint; it is left alone", path);
}

/* ---- temporary folders ---------------------------------------------------- */

/* Opens and locks a folder that was just made. *gone: somebody cleaned it away in between. Where the file system has
 * no locks there is none. */
static light_status lock_folder(const char *path, int *lock, bool *gone)
{
    struct stat about;
    *gone = false;
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) {
        *gone = errno == ENOENT;
        return *gone ? LIGHT_OK : light_io_fail("open", path);
    }
    bool busy = flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (!busy && fstat(*lock, &about) == 0 && about.st_nlink > 0 && light_file_exists(path)) return LIGHT_OK;
    *gone = true;
    close(*lock);
    return LIGHT_OK;
}

light_status light_temporary_folder_new(light_temporary_folder *out, const char *path, const char *run)
{
    *out = (light_temporary_folder){.lock = -1};
    char *parent = light_path_parent(path);
    light_status status = parent ? light_make_directories(parent) : LIGHT_ERR_MEMORY;
    light_free(parent);
    LIGHT_TRY(status);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        bool taken = false;
        char *name = light_format("%s" MARK "%s.%d", path, run, attempt);
        if (!name) return LIGHT_ERR_MEMORY;
        status = light_io_make_directory(name, &taken);
        if (status == LIGHT_OK && !taken) {
            status = lock_folder(name, &out->lock, &taken);
            if (status != LIGHT_OK) rmdir(name);
        }
        if (status == LIGHT_OK && !taken) {
            out->path = name;
            return LIGHT_OK;
        }
        light_free(name);
        LIGHT_TRY(status);
    }
    return light_fail(LIGHT_ERR_IO, "cannot find a free temporary name beside %s", path);
}

void light_temporary_folder_free(light_temporary_folder *folder)
{
    if (folder->path && light_remove_tree(folder->path) != LIGHT_OK)
        light_message(LIGHT_MESSAGE_WARNING, "%s", light_error_message());
    if (folder->lock >= 0) close(folder->lock);
    light_free(folder->path);
    *folder = (light_temporary_folder){.lock = -1};
}

static light_status sync_parent(const char *path)
{
    char *parent = light_path_parent(path);
    if (!parent) return LIGHT_ERR_MEMORY;
    light_status status = light_file_sync(parent);
    light_free(parent);
    return status;
}

/* Undoes a rename after a failure, whose text stays. */
static void rename_back(const char *from, const char *to)
{
    if (rename(from, to) != 0)
        light_message(LIGHT_MESSAGE_WARNING, "cannot rename %s back to %s: %s", from, to, strerror(errno));
}

/* For file systems without an exchange of names: there is a moment without the name. Should the process die just
 * then, light_checkpoint_clean brings the old checkpoint back. */
static light_status replace_in_two_steps(light_temporary_folder *folder, const char *path)
{
    char *aside = light_format("%s" REPLACED, folder->path);
    if (!aside) return LIGHT_ERR_MEMORY;
    light_status status = light_io_rename(path, aside);
    if (status == LIGHT_OK) {
        status = light_io_rename(folder->path, path);
        if (status == LIGHT_OK && (status = sync_parent(path)) != LIGHT_OK) rename_back(path, folder->path);
        if (status != LIGHT_OK) rename_back(aside, path);
    }
    if (status == LIGHT_OK) {
        /* What is left to remove under the temporary name is now the old checkpoint. */
        light_free(folder->path);
        folder->path = aside;
        return LIGHT_OK;
    }
    light_free(aside);
    return status;
}

light_status light_temporary_folder_publish(light_temporary_folder *folder, const char *path)
{
    struct stat about;
    LIGHT_TRY(light_folder_check_replaceable(path));
    LIGHT_TRY(light_file_sync(folder->path));
    LIGHT_TRY(light_fence_check());
    if (lstat(path, &about) != 0 || is_empty(path)) {
        LIGHT_TRY(light_io_rename(folder->path, path));
        light_status status = sync_parent(path);
        if (status != LIGHT_OK) rename_back(path, folder->path);
        return status;
    }
    light_status status = light_io_exchange(folder->path, path);
    if (status == LIGHT_ERR_UNSUPPORTED) return replace_in_two_steps(folder, path);
    LIGHT_TRY(status);
    /* The old one, now under the temporary name, goes with the temporary folder. */
    status = sync_parent(path);
    if (status != LIGHT_OK && renameat2(AT_FDCWD, folder->path, AT_FDCWD, path, RENAME_EXCHANGE) != 0)
        light_message(LIGHT_MESSAGE_WARNING, "cannot bring back %s: %s", path, strerror(errno));
    return status;
}

/* ---- removing ------------------------------------------------------------- */

light_status light_checkpoint_remove(const char *path)
{
    struct stat about;
    char run[LIGHT_RUN_BYTES];
    if (lstat(path, &about) != 0) return light_io_fail("remove", path);
    if (!S_ISDIR(about.st_mode) || !light_folder_is_checkpoint(path))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s is no checkpoint; it is left alone", path);
    LIGHT_TRY(light_fence_check());
    LIGHT_TRY(light_run_new(run));
    char *doomed = light_format("%s" MARK "%s.0", path, run);
    if (!doomed) return LIGHT_ERR_MEMORY;
    light_status status = light_io_rename(path, doomed);
    if (status == LIGHT_OK) {
        /* Or a loss of power could bring back the name without the files. */
        status = sync_parent(path);
        if (status != LIGHT_OK) rename_back(doomed, path);
    }
    if (status == LIGHT_OK) status = light_remove_tree(doomed);
    light_free(doomed);
    return status;
}

/* ---- cleaning -------------------------------------------------------------- */

/* The position of MARK in a name that a writer has made, 0 in others. *replaced: it ends in REPLACED. */
static size_t find_mark(const char *name, bool *replaced)
{
    const char *mark = strstr(name, MARK), *next;
    while (mark && (next = strstr(mark + 1, MARK)) != NULL) mark = next;
    if (!mark) return 0;
    const char *at = mark + strlen(MARK);
    for (int i = 0; i < LIGHT_RUN_BYTES - 1; i++, at++) {
        if (!isxdigit((unsigned char)*at)) return 0;
    }
    if (*at++ != '.' || !isdigit((unsigned char)*at)) return 0;
    while (isdigit((unsigned char)*at)) at++;
    *replaced = strcmp(at, REPLACED) == 0;
    return *at == '\0' || *replaced ? (size_t)(mark - name) : 0;
}

bool light_folder_is_temporary(const char *name)
{
    bool replaced;
    return find_mark(name, &replaced) > 0;
}

static light_status clean_one(const char *folder, const char *name, size_t mark, bool replaced)
{
    char *path = light_path_join(folder, name);
    char *original = path ? light_strndup(path, strlen(path) - strlen(name) + mark) : NULL;
    light_status status = original ? LIGHT_OK : LIGHT_ERR_MEMORY;
    int lock = original ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    /* A lock that can be had means that the writer is gone. */
    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
        if (replaced && !light_file_exists(original)) {
            status = light_io_rename(path, original);
        } else {
            light_message(LIGHT_MESSAGE_INFO, "removing %s, which a save that was cut off has left", path);
            status = light_remove_tree(path);
        }
    }
    if (lock >= 0) close(lock);
    light_free(path);
    light_free(original);
    return status;
}

light_status light_checkpoint_clean(const char *folder)
{
    DIR *open_folder = opendir(folder);
    if (!open_folder) return errno == ENOENT ? LIGHT_OK : light_io_fail("open", folder);
    light_status status = LIGHT_OK;
    for (struct dirent *entry; status == LIGHT_OK && (entry = readdir(open_folder)) != NULL;) {
        bool replaced = false;
        size_t mark = find_mark(entry->d_name, &replaced);
        if (mark > 0) status = clean_one(folder, entry->d_name, mark, replaced);
    }
    closedir(open_folder);
    return status;
}
