/* SPDX-License-Identifier: Apache-2.0 */
/* A folder with one folder of images for each class. Names are sorted byte by byte, so the numbers of classes and
 * samples are the same on every machine. */
#include "data/formats/image.h"

#include "data/dataset.h"

#include "base/file.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Names of a folder's entries, or paths. */
typedef struct {
    char **items;
    size_t count, capacity;
} name_list;

typedef struct {
    light_dataset base;
    name_list classes, paths;
    int64_t *labels;
    int height, width;
    bool keep_aspect, scale;
} image_folder;

static void list_free(name_list *list)
{
    for (size_t i = 0; i < list->count; i++) light_free(list->items[i]);
    light_free(list->items);
    *list = (name_list){0};
}

/* Takes `name` over, also when it fails; NULL is a failure. */
static light_status list_add(name_list *list, char *name)
{
    if (!name) return LIGHT_ERR_MEMORY;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        char **items = light_realloc(list->items, capacity * sizeof *items);
        if (!items) {
            light_free(name);
            return LIGHT_ERR_MEMORY;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = name;
    return LIGHT_OK;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The folder's entries, sorted, without hidden ones. */
static light_status list_folder(const char *path, name_list *list)
{
    DIR *folder = opendir(path);
    light_status status = LIGHT_OK;

    if (!folder) {
        return light_fail(errno == ENOENT ? LIGHT_ERR_NOT_FOUND : LIGHT_ERR_IO,
                          "%s: the folder cannot be opened: %s", path, strerror(errno));
    }
    for (struct dirent *entry; status == LIGHT_OK && (entry = readdir(folder));) {
        if (entry->d_name[0] != '.') status = list_add(list, light_strdup(entry->d_name));
    }
    closedir(folder);
    if (status == LIGHT_OK && list->count > 0)
        qsort(list->items, list->count, sizeof list->items[0], compare);
    return status;
}

static light_status describe(light_dataset *self, light_field *fields, int *num_fields)
{
    image_folder *d = (image_folder *)self;

    fields[0] =
        (light_field){.name = "image", .dtype = LIGHT_U8, .shape = LIGHT_SHAPE(3, d->height, d->width)};
    fields[1] = (light_field){.name = "label", .dtype = LIGHT_I64};
    *num_fields = 2;
    return LIGHT_OK;
}

static int64_t length(light_dataset *self)
{
    return (int64_t)((image_folder *)self)->paths.count;
}

static light_status get(light_dataset *self, int64_t index, void *const *to)
{
    image_folder *d = (image_folder *)self;
    const char *path = d->paths.items[index];
    light_image image;
    light_status status = LIGHT_OK;

    LIGHT_TRY(light_image_read(path, &image));
    if (!d->scale && (image.height != d->height || image.width != d->width)) {
        status = light_fail(
            LIGHT_ERR_SHAPE,
            "%s: the image is %d x %d, the first one %d x %d (height x width); set .height and .width "
            "to scale all to one size",
            path, image.height, image.width, d->height, d->width);
    }
    if (status == LIGHT_OK)
        status = light_image_to_planes(&image, d->keep_aspect, d->height, d->width, to[0]);
    light_free(image.rgb);
    memcpy(to[1], &d->labels[index], sizeof d->labels[index]);
    return status;
}

static void free_folder(light_dataset *self)
{
    image_folder *d = (image_folder *)self;

    list_free(&d->classes);
    list_free(&d->paths);
    light_free(d->labels);
}

static const light_dataset_vtable image_folder_vtable = {
    LIGHT_DATASET(image_folder), .describe = describe, .free = free_folder, .length = length, .get = get,
};

/* Adds the images of one class. */
static light_status add_class(image_folder *d, const char *path)
{
    name_list files = {0};
    size_t before = d->paths.count;
    light_status status = list_folder(path, &files);

    for (size_t i = 0; i < files.count && status == LIGHT_OK; i++) {
        if (light_image_is_known(files.items[i])) {
            status = list_add(&d->paths, light_path_join(path, files.items[i]));
        }
    }
    list_free(&files);
    if (status == LIGHT_OK && d->paths.count == before) {
        status = light_fail(LIGHT_ERR_FORMAT, "%s: there is no PNG or JPEG image in the folder of this class",
                            path);
    }
    if (status != LIGHT_OK) return status;
    int64_t *labels = light_realloc(d->labels, d->paths.count * sizeof *labels);
    if (!labels) return LIGHT_ERR_MEMORY;
    d->labels = labels;
    for (size_t i = before; i < d->paths.count; i++) labels[i] = (int64_t)d->classes.count - 1;
    return LIGHT_OK;
}

static light_status scan(image_folder *d, const char *root)
{
    name_list entries = {0};
    light_status status = list_folder(root, &entries);

    for (size_t i = 0; i < entries.count && status == LIGHT_OK; i++) {
        char *path = light_path_join(root, entries.items[i]);
        if (!path) {
            status = LIGHT_ERR_MEMORY;
        } else if (light_directory_exists(path)) {
            status = list_add(&d->classes, light_strdup(entries.items[i]));
            if (status == LIGHT_OK) status = add_class(d, path);
        }
        light_free(path);
    }
    list_free(&entries);
    if (status == LIGHT_OK && d->classes.count == 0) {
        status = light_fail(LIGHT_ERR_FORMAT, "%s: there is no folder in it; each class needs one", root);
    }
    return status;
}

static light_status open_folder(image_folder *d, const char *root, const light_image_folder_options *options)
{
    light_image first;

    if (options->height < 0 || options->width < 0 || !options->height != !options->width) {
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s: images cannot be scaled to %d x %d; set height and width, or neither", root,
                          options->height, options->width);
    }
    LIGHT_TRY(scan(d, root));
    d->height = options->height;
    d->width = options->width;
    d->keep_aspect = options->keep_aspect;
    d->scale = options->height > 0;
    if (d->scale) return LIGHT_OK;
    LIGHT_TRY(light_image_read(d->paths.items[0], &first));
    d->height = first.height;
    d->width = first.width;
    light_free(first.rgb);
    return LIGHT_OK;
}

light_status light_image_folder_open_with(light_dataset **out, const char *root,
                                          const light_image_folder_options *options)
{
    light_dataset *base;

    *out = NULL;
    LIGHT_TRY(light_dataset_new(&base, &image_folder_vtable));
    light_status status = open_folder((image_folder *)base, root, options);
    if (status != LIGHT_OK) {
        light_dataset_free(base);
        return status;
    }
    *out = base;
    return LIGHT_OK;
}

int light_image_folder_classes(light_dataset *dataset, const char *const **names)
{
    if (dataset->vtable != &image_folder_vtable) {
        light_fail(LIGHT_ERR_ARGUMENT, "the dataset %s is no image folder", dataset->vtable->name);
        return 0;
    }
    *names = (const char *const *)((image_folder *)dataset)->classes.items;
    return (int)((image_folder *)dataset)->classes.count;
}
