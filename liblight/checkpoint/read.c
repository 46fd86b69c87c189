/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a checkpoint. HDF5 takes no part in it: places and checksums are in the manifest, so damaged or hostile
 * files never reach its parser. */
#include "checkpoint/read.h"

#include "checkpoint/io.h"
#include "checkpoint/name.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *light_checkpoint_file_path(const light_checkpoint *checkpoint, size_t file, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s/%s", checkpoint->path, checkpoint->manifest.files[file].name);
    return text;
}

light_status light_checkpoint_fail_damaged(const light_checkpoint *checkpoint, size_t file, const char *what,
                                           const char *name)
{
    char path[1024];
    light_checkpoint_file_path(checkpoint, file, path, sizeof path);
    return light_fail(LIGHT_ERR_FORMAT,
                      "%s is damaged, or of another checkpoint: %s '%s' does not agree with its checksum",
                      path, what, name);
}

/* ---- files ------------------------------------------------------------------ */

static light_status open_folder(const char *path, int *folder)
{
    *folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*folder >= 0) return LIGHT_OK;
    if (errno == ENOENT) return light_fail(LIGHT_ERR_NOT_FOUND, "there is no checkpoint %s", path);
    if (errno == ENOTDIR)
        return light_fail(LIGHT_ERR_FORMAT, "%s is no checkpoint, which would be a folder", path);
    return light_io_fail("open", path);
}

/* Reads a file of a folder that somebody may replace meanwhile. */
static light_status read_manifest(light_checkpoint *c, int folder)
{
    struct stat about;
    char path[1024];
    snprintf(path, sizeof path, "%s/" LIGHT_MANIFEST_NAME, c->path);
    int file = openat(folder, LIGHT_MANIFEST_NAME, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s is no complete checkpoint: it has no " LIGHT_MANIFEST_NAME
                          ", which is written last",
                          c->path);
    if (file < 0) return light_io_fail("open", path);
    light_status status = fstat(file, &about) == 0 ? LIGHT_OK : light_io_fail("look at", path);
    size_t bytes = status == LIGHT_OK ? (size_t)about.st_size : 0;
    char *text = status == LIGHT_OK ? light_alloc(bytes) : NULL;
    if (status == LIGHT_OK && !text) status = LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = light_io_read(file, path, text, bytes, 0);
    if (status == LIGHT_OK) status = light_manifest_parse(&c->manifest, path, text, bytes);
    light_free(text);
    close(file);
    return status;
}

static light_status open_file(light_checkpoint *c, int folder, size_t i)
{
    struct stat about;
    char path[1024];
    light_checkpoint_file_path(c, i, path, sizeof path);
    c->files[i] = openat(folder, c->manifest.files[i].name, O_RDONLY | O_CLOEXEC);
    if (c->files[i] < 0 && errno == ENOENT)
        return light_fail(LIGHT_ERR_FORMAT, "%s is missing, the checkpoint is incomplete", path);
    if (c->files[i] < 0) return light_io_fail("open", path);
    if (fstat(c->files[i], &about) != 0) return light_io_fail("look at", path);
    if ((uint64_t)about.st_size == c->manifest.files[i].bytes) return LIGHT_OK;
    return light_fail(LIGHT_ERR_FORMAT, "%s is damaged: it has %lld bytes instead of %llu", path,
                      (long long)about.st_size, (unsigned long long)c->manifest.files[i].bytes);
}

static light_status open_files(light_checkpoint *c, int folder)
{
    c->files = light_alloc((c->manifest.file_count + 1) * sizeof *c->files);
    if (!c->files) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < c->manifest.file_count; i++) c->files[i] = -1;
    for (size_t i = 0; i < c->manifest.file_count; i++) LIGHT_TRY(open_file(c, folder, i));
    return LIGHT_OK;
}

/* ---- names ------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const light_manifest_tensor *const *)a)->name,
                  (*(const light_manifest_tensor *const *)b)->name);
}

static light_status sort_names(light_checkpoint *c)
{
    size_t count = c->manifest.tensor_count;
    c->by_name = light_calloc(count + 1, sizeof *c->by_name);
    if (!c->by_name) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) c->by_name[i] = &c->manifest.tensors[i];
    qsort(c->by_name, count, sizeof *c->by_name, by_name);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(c->by_name[i - 1]->name, c->by_name[i]->name) == 0)
            return light_fail(LIGHT_ERR_FORMAT, "%s/" LIGHT_MANIFEST_NAME ": tensor '%s' is there twice",
                              c->path, c->by_name[i]->name);
    }
    return LIGHT_OK;
}

const light_manifest_tensor *light_checkpoint_find_tensor(const light_checkpoint *c, const char *name)
{
    light_manifest_tensor wanted = {.name = (char *)name};
    const light_manifest_tensor *key = &wanted;
    const light_manifest_tensor **found =
        bsearch(&key, c->by_name, c->manifest.tensor_count, sizeof *c->by_name, by_name);
    return found ? *found : NULL;
}

/* ---- state ------------------------------------------------------------------ */

static light_status put_value(light_state *group, const char *name, const light_manifest_value *value,
                              const char *data)
{
    size_t count = (size_t)value->count;
    int64_t i = 0;
    double d = 0;

    if (light_state_has(group, name)) return LIGHT_ERR_FORMAT;
    switch (value->type) {
    case LIGHT_STATE_GROUP: return light_state_group(group, name) ? LIGHT_OK : LIGHT_ERR_MEMORY;
    case LIGHT_STATE_INT64: memcpy(&i, data, sizeof i); return light_state_put_int64(group, name, i);
    case LIGHT_STATE_DOUBLE: memcpy(&d, data, sizeof d); return light_state_put_double(group, name, d);
    case LIGHT_STATE_STRING: return light_state_put_string(group, name, data);
    case LIGHT_STATE_INT64S: return light_state_put_int64s(group, name, (const int64_t *)data, count);
    case LIGHT_STATE_DOUBLES: return light_state_put_doubles(group, name, (const double *)data, count);
    case LIGHT_STATE_BYTES: return light_state_put_bytes(group, name, data, count);
    }
    return LIGHT_ERR_FORMAT;
}

/* Puts a value where its path says. The path is changed on the way. */
static light_status put_at(light_state *root, char *path, const light_manifest_value *value, const char *data)
{
    light_state *group = root;
    char *slash;

    for (; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        *slash = '\0';
        if (!light_name_decode(path) || !path[0]) return LIGHT_ERR_FORMAT;
        if (light_state_has(group, path) && !light_state_find_group(group, path)) return LIGHT_ERR_FORMAT;
        group = light_state_group(group, path);
        if (!group) return LIGHT_ERR_MEMORY;
    }
    if (!light_name_decode(path) || !path[0]) return LIGHT_ERR_FORMAT;
    return put_value(group, path, value, data);
}

static light_status read_value(light_checkpoint *c, const light_manifest_value *value)
{
    char file[1024];
    size_t bytes = (size_t)value->extent.bytes;
    light_checkpoint_file_path(c, value->extent.file, file, sizeof file);
    char *path = light_strdup(value->path);
    char *data = light_alloc(bytes + 1);
    light_status status = path && data ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK)
        status = light_io_read(c->files[value->extent.file], file, data, bytes, value->extent.offset);
    if (status == LIGHT_OK) {
        data[bytes] = '\0';
        status = put_at(c->state, path, value, data);
        if (status == LIGHT_ERR_FORMAT)
            light_fail(status, "%s/" LIGHT_MANIFEST_NAME ": state value '%s' cannot be where it is", c->path,
                       value->path);
    }
    light_free(path);
    light_free(data);
    return status;
}

static light_status read_state(light_checkpoint *c)
{
    c->state = light_state_new();
    if (!c->state) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < c->manifest.value_count; i++) LIGHT_TRY(read_value(c, &c->manifest.values[i]));
    return LIGHT_OK;
}

/* ---- the checkpoint ---------------------------------------------------------- */

static light_status open_parts(light_checkpoint *c, bool verify)
{
    int folder;
    LIGHT_TRY(open_folder(c->path, &folder));
    light_status status = read_manifest(c, folder);
    if (status == LIGHT_OK) status = open_files(c, folder);
    close(folder);
    if (status == LIGHT_OK) status = sort_names(c);
    if (status == LIGHT_OK) status = light_checkpoint_verify(c, verify);
    c->verified = verify;
    return status == LIGHT_OK ? read_state(c) : status;
}

static light_status open_checkpoint(const char *path, bool verify, light_checkpoint **out)
{
    *out = NULL;
    light_checkpoint *c = light_calloc(1, sizeof *c);
    if (!c) return LIGHT_ERR_MEMORY;
    c->path = light_strdup(path);
    light_status status = c->path ? open_parts(c, verify) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK)
        *out = c;
    else
        light_checkpoint_close(c);
    return status;
}

/* Reading all tensors would find damage as well, and would spare a second pass over the files, which comes from the
 * page cache mostly. But it would find it when half of a module is overwritten, and an older checkpoint can be taken
 * instead only as long as nothing was used. */
light_status light_checkpoint_open(const char *path, light_checkpoint **out)
{
    return open_checkpoint(path, true, out);
}

light_status light_checkpoint_open_lazily(const char *path, light_checkpoint **out)
{
    return open_checkpoint(path, false, out);
}

void light_checkpoint_close(light_checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; c->files && i < c->manifest.file_count; i++) {
        if (c->files[i] >= 0) close(c->files[i]);
    }
    light_free(c->files);
    light_free(c->by_name);
    light_manifest_free(&c->manifest);
    light_state_free(c->state);
    light_free(c->path);
    light_free(c);
}

const char *light_checkpoint_path(const light_checkpoint *c)
{
    return c->path;
}

int64_t light_checkpoint_step(const light_checkpoint *c)
{
    return c->manifest.step;
}

int64_t light_checkpoint_epoch(const light_checkpoint *c)
{
    return c->manifest.epoch;
}

const light_state *light_checkpoint_state(const light_checkpoint *c)
{
    return c->state;
}

size_t light_checkpoint_tensor_count(const light_checkpoint *c)
{
    return c->manifest.tensor_count;
}

static void tell(const light_manifest_tensor *tensor, light_checkpoint_tensor *out)
{
    *out = (light_checkpoint_tensor){.name = tensor->name, .dtype = tensor->dtype, .shape = tensor->shape};
}

bool light_checkpoint_tensor_at(const light_checkpoint *c, size_t index, light_checkpoint_tensor *out)
{
    if (index >= c->manifest.tensor_count) return false;
    tell(&c->manifest.tensors[index], out);
    return true;
}

bool light_checkpoint_find(const light_checkpoint *c, const char *name, light_checkpoint_tensor *out)
{
    const light_manifest_tensor *tensor = light_checkpoint_find_tensor(c, name);
    if (tensor) tell(tensor, out);
    return tensor != NULL;
}
