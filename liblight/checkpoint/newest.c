/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the newest checkpoint of a folder. The writer's clock in the manifest decides, not the times of the files,
 * which a copy changes. */
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder.h"
#include "checkpoint/io.h"
#include "checkpoint/manifest.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <light/message.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

light_status light_checkpoint_peek(const char *path, light_checkpoint_about *out)
{
    light_manifest manifest;
    char *text, *name = light_path_join(path, LIGHT_MANIFEST_NAME);
    size_t bytes;
    if (!name) return LIGHT_ERR_MEMORY;
    light_status status = light_file_read(name, &text, &bytes);
    if (status == LIGHT_OK) {
        status = light_manifest_parse(&manifest, name, text, bytes);
        light_free(text);
    }
    light_free(name);
    LIGHT_TRY(status);
    *out = (light_checkpoint_about){
        .created_ns = manifest.created_ns, .step = manifest.step, .epoch = manifest.epoch};
    for (size_t i = 0; i < manifest.file_count; i++) {
        out->bytes += manifest.files[i].bytes;
        out->writers += light_starts_with(manifest.files[i].name, "model-");
    }
    light_manifest_free(&manifest);
    return LIGHT_OK;
}

typedef struct candidate {
    char *path;
    light_checkpoint_about about;
} candidate;

typedef struct candidates {
    candidate *items;
    size_t count, capacity;
} candidates;

static int newest_first(const void *a, const void *b)
{
    const light_checkpoint_about *x = &((const candidate *)a)->about, *y = &((const candidate *)b)->about;
    if (x->created_ns != y->created_ns) return x->created_ns < y->created_ns ? 1 : -1;
    return x->step < y->step ? 1 : x->step > y->step ? -1 : 0;
}

/* Adds folder/name when its manifest is good; takes no offence at anything else. */
static light_status consider(candidates *all, const char *folder, const char *name)
{
    if (name[0] == '.' || light_folder_is_temporary(name)) return LIGHT_OK;
    if (all->count == all->capacity) {
        size_t capacity = all->capacity ? all->capacity * 2 : 16;
        candidate *larger = light_realloc(all->items, capacity * sizeof *larger);
        if (!larger) return LIGHT_ERR_MEMORY;
        all->items = larger;
        all->capacity = capacity;
    }
    candidate *next = &all->items[all->count];
    next->path = light_path_join(folder, name);
    if (!next->path) return LIGHT_ERR_MEMORY;
    if (light_folder_is_checkpoint(next->path)) {
        light_status status = light_checkpoint_peek(next->path, &next->about);
        if (status == LIGHT_OK) {
            all->count++;
            return LIGHT_OK;
        }
        if (status != LIGHT_ERR_MEMORY)
            light_message(LIGHT_MESSAGE_WARNING, "passing over a checkpoint: %s", light_error_message());
    }
    light_free(next->path);
    return LIGHT_OK;
}

static light_status list_candidates(candidates *all, const char *folder)
{
    DIR *open_folder = opendir(folder);
    if (!open_folder) return light_io_fail("look for checkpoints in", folder);
    light_status status = LIGHT_OK;
    for (struct dirent *entry; status == LIGHT_OK && (entry = readdir(open_folder)) != NULL;)
        status = consider(all, folder, entry->d_name);
    closedir(open_folder);
    return status;
}

light_status light_checkpoint_open_newest(const char *folder, light_checkpoint **out)
{
    candidates all = {0};
    *out = NULL;
    light_status status = list_candidates(&all, folder);
    if (all.count) qsort(all.items, all.count, sizeof *all.items, newest_first);
    for (size_t i = 0; i < all.count && status == LIGHT_OK && !*out; i++) {
        light_status opened = light_checkpoint_open(all.items[i].path, out);
        if (opened == LIGHT_ERR_MEMORY)
            status = opened;
        else if (opened != LIGHT_OK)
            light_message(LIGHT_MESSAGE_WARNING, "passing over a checkpoint: %s", light_error_message());
    }
    for (size_t i = 0; i < all.count; i++) light_free(all.items[i].path);
    light_free(all.items);
    if (status == LIGHT_OK && !*out)
        status = light_fail(LIGHT_ERR_NOT_FOUND, "there is no checkpoint that can be read in %s", folder);
    return status;
}

light_status light_checkpoint_newest(const char *folder, char **path)
{
    light_checkpoint *checkpoint;
    *path = NULL;
    LIGHT_TRY(light_checkpoint_open_newest(folder, &checkpoint));
    *path = light_strdup(light_checkpoint_path(checkpoint));
    light_checkpoint_close(checkpoint);
    return *path ? LIGHT_OK : LIGHT_ERR_MEMORY;
}
