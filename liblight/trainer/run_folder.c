/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run's files are: DEFAULT_ROOT_DIR/NAME/version_N, its checkpoints in checkpoints/ there. */
#include "trainer/trainer.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"
#include "base/world.h"

#include <light/message.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The version numbers in a folder, rising. NULL and 0 when there is none. */
static int compare(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static light_status list_versions(const char *folder, long **out, size_t *n)
{
    *out = NULL;
    *n = 0;
    DIR *dir = opendir(folder);
    size_t capacity = 0;
    if (!dir) return LIGHT_OK;
    for (struct dirent *e; (e = readdir(dir));) {
        char *end;
        if (strncmp(e->d_name, "version_", 8)) continue;
        long version = strtol(e->d_name + 8, &end, 10);
        if (end == e->d_name + 8 || *end || version < 0) continue;
        if (*n == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            long *grown = light_realloc(*out, capacity * sizeof **out);
            if (!grown) {
                closedir(dir);
                light_free(*out);
                return LIGHT_ERR_MEMORY;
            }
            *out = grown;
        }
        (*out)[(*n)++] = version;
    }
    closedir(dir);
    if (*n) qsort(*out, *n, sizeof **out, compare);
    return LIGHT_OK;
}

static char *runs_folder(const light_trainer *t)
{
    return light_path_join(t->options.default_root_dir,
                           t->options.name && t->options.name[0] ? t->options.name : t->module_hooks.name);
}

/* Makes the next free version_N; another process may be doing the same. */
static light_status make_version(const char *folder, char **out)
{
    long *versions;
    size_t n;
    LIGHT_TRY(light_make_directories(folder));
    LIGHT_TRY(list_versions(folder, &versions, &n));
    long next = n ? versions[n - 1] + 1 : 0;
    light_free(versions);
    for (;; next++) {
        char *path = light_format("%s/version_%ld", folder, next);
        if (!path) return LIGHT_ERR_MEMORY;
        if (mkdir(path, 0777) == 0) {
            *out = path;
            return LIGHT_OK;
        }
        int error = errno;
        if (error != EEXIST)
            light_fail(LIGHT_ERR_IO, "cannot make the run's folder %s: %s", path, strerror(error));
        light_free(path);
        if (error != EEXIST) return LIGHT_ERR_IO;
    }
}

/* RUN of RUN/checkpoints/NAME, or NULL. */
static char *run_of_checkpoint(const char *path)
{
    char *folder = light_path_parent(path), *run = NULL;
    size_t length = folder ? strlen(folder) : 0;
    if (length > 12 && !strcmp(folder + length - 12, "/checkpoints"))
        run = light_strndup(folder, length - 12);
    light_free(folder);
    return run;
}

/* Fit writes there; of a job the first process does. */
static light_status take_folder(light_trainer *t)
{
    if (t->run_stage != LIGHT_STAGE_FIT || light_world_get()->rank > 0) return LIGHT_OK;
    return light_fence_take(&t->fence, t->log_dir);
}

static light_status open_folder(light_trainer *t, const char *resumed_from)
{
    if (resumed_from && (t->log_dir = run_of_checkpoint(resumed_from))) return take_folder(t);
    if (t->run_stage != LIGHT_STAGE_FIT || t->options.barebones || t->options.fast_dev_run) return LIGHT_OK;
    char *folder = runs_folder(t);
    if (!folder) return LIGHT_ERR_MEMORY;
    light_status status = make_version(folder, &t->log_dir);
    light_free(folder);
    t->new_folder = status == LIGHT_OK;
    if (status == LIGHT_OK) status = take_folder(t);
    if (status != LIGHT_OK || !t->config) return status;
    char *path = light_path_join(t->log_dir, "config.yaml");
    if (!path) return LIGHT_ERR_MEMORY;
    status = light_file_write_atomic(path, t->config, strlen(t->config));
    light_free(path);
    return status;
}

light_status light_run_folder_open(light_trainer *t, const char *resumed_from)
{
    light_run_folder_leave(t);
    light_free(t->log_dir);
    t->log_dir = NULL;
    t->new_folder = false;
    light_status status = light_trainer_global_rank(t) == 0 ? open_folder(t, resumed_from) : LIGHT_OK;
    return light_follow_first(t, status, &t->log_dir);
}

void light_run_folder_leave(light_trainer *t)
{
    light_fence_release(t->fence);
    t->fence = NULL;
}

/* Nothing but config.yaml, LOCK and checkpoints/ in it. */
static bool is_untouched(const char *folder)
{
    DIR *dir = opendir(folder);
    bool untouched = dir != NULL;
    if (!dir) return false;
    for (struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && strcmp(e->d_name, "config.yaml") &&
            strcmp(e->d_name, LIGHT_FENCE_NAME) && strcmp(e->d_name, "checkpoints"))
            untouched = false;
    closedir(dir);
    return untouched;
}

void light_run_folder_drop(light_trainer *t)
{
    if (!t->new_folder || !t->log_dir || !is_untouched(t->log_dir)) return;
    char *checkpoints = light_path_join(t->log_dir, "checkpoints");
    char *config = light_path_join(t->log_dir, "config.yaml");
    char *fence = light_path_join(t->log_dir, LIGHT_FENCE_NAME);
    if (checkpoints && config && fence &&
        (rmdir(checkpoints) == 0 || errno == ENOENT)) { /* only when it is empty */
        remove(config);
        remove(fence);
        rmdir(t->log_dir);
        light_free(t->log_dir);
        t->log_dir = NULL;
        t->new_folder = false;
    }
    light_free(checkpoints);
    light_free(config);
    light_free(fence);
}

/* ---- finding checkpoints ------------------------------------------------ */

/* `path` with its links followed, which may point elsewhere before the run is over. */
static char *resolved(char *path)
{
    char real[PATH_MAX];
    char *copy = realpath(path, real) ? light_strdup(real) : path;
    if (copy != path) light_free(path);
    return copy;
}

/* FOLDER/NAME where it is a checkpoint, with the link resolved; NULL when it is not. */
static char *checkpoint_in(const char *folder, const char *name)
{
    char real[PATH_MAX];
    char *link = light_path_join(folder, name);
    char *manifest = link && realpath(link, real) ? light_path_join(real, "manifest.json") : NULL,
         *found = NULL;
    if (manifest && light_file_exists(manifest)) found = light_strdup(real);
    light_free(manifest);
    light_free(link);
    return found;
}

/* "last" is the newest that is whole, not what the link says: a crash may have come between a checkpoint and its
 * link, or the last one may be damaged. */
static char *search_folder(const char *folder, const char *wanted)
{
    char *newest;
    if (strcmp(wanted, "last")) return checkpoint_in(folder, wanted);
    if (!light_directory_exists(folder) || light_checkpoint_newest(folder, &newest) != LIGHT_OK) return NULL;
    return resolved(newest);
}

static light_status search_versions(light_trainer *t, const char *wanted, char **path)
{
    long *versions;
    size_t n;
    char *folder = runs_folder(t);
    if (!folder) return LIGHT_ERR_MEMORY;
    light_status status = list_versions(folder, &versions, &n);
    while (status == LIGHT_OK && !*path && n-- > 0) {
        char *checkpoints = light_format("%s/version_%ld/checkpoints", folder, versions[n]);
        if (!checkpoints) status = LIGHT_ERR_MEMORY;
        if (checkpoints) *path = search_folder(checkpoints, wanted);
        light_free(checkpoints);
    }
    light_free(versions);
    light_free(folder);
    return status;
}

static light_status search_everywhere(light_trainer *t, const char *wanted, char **path)
{
    for (int i = 0; i < t->n_callbacks && !*path; i++) {
        const light_callback_entry *e = &t->callbacks[i];
        const char *folder = e->hooks.checkpoint_folder ? e->hooks.checkpoint_folder(e->callback, t) : NULL;
        if (folder && folder[0]) *path = search_folder(folder, wanted);
    }
    if (*path) return LIGHT_OK;
    if (t->log_dir) {
        char *folder = light_path_join(t->log_dir, "checkpoints");
        if (!folder) return LIGHT_ERR_MEMORY;
        *path = search_folder(folder, wanted);
        light_free(folder);
    }
    return *path ? LIGHT_OK : search_versions(t, wanted, path);
}

/* The newest checkpoint of the folder that this job has made before it was started again. */
static light_status search_own(light_trainer *t, char **path)
{
    long *versions;
    size_t n;
    char *folder = runs_folder(t);
    if (!folder) return LIGHT_ERR_MEMORY;
    light_status status = list_versions(folder, &versions, &n);
    while (status == LIGHT_OK && !*path && n-- > 0) {
        char *run = light_format("%s/version_%ld", folder, versions[n]);
        char *checkpoints = run ? light_path_join(run, "checkpoints") : NULL;
        if (!checkpoints) status = LIGHT_ERR_MEMORY;
        if (checkpoints && light_fence_is_ours(run)) *path = search_folder(checkpoints, "last");
        light_free(checkpoints);
        light_free(run);
    }
    light_free(versions);
    light_free(folder);
    return status;
}

light_status light_find_checkpoint(light_trainer *t, const char *wanted, char **path)
{
    *path = NULL;
    /* A job that is started again goes on where it was, whatever it began from. */
    if (t->run_stage == LIGHT_STAGE_FIT && light_fence_is_restart()) LIGHT_TRY(search_own(t, path));
    if (*path) return LIGHT_OK;
    if (!wanted || !*wanted) return LIGHT_OK;
    bool if_any = !strcmp(wanted, "last-if-any"),
         by_name = if_any || !strcmp(wanted, "last") || !strcmp(wanted, "best");
    if (!by_name) {
        *path = light_strdup(wanted);
        if (*path) *path = resolved(*path);
        return *path ? LIGHT_OK : LIGHT_ERR_MEMORY;
    }
    LIGHT_TRY(search_everywhere(t, if_any ? "last" : wanted, path));
    if (*path || if_any) return LIGHT_OK;
    char *folder = runs_folder(t);
    light_fail(LIGHT_ERR_NOT_FOUND,
               "ckpt_path \"%s\": no checkpoint found below %s; run fit first, or give a path", wanted,
               folder ? folder : t->options.default_root_dir);
    light_free(folder);
    return LIGHT_ERR_NOT_FOUND;
}
