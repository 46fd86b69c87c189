/* SPDX-License-Identifier: Apache-2.0 */
/* The list of tensors to save. */
#include "checkpoint/checkpoint.h"

#include "checkpoint/boxes.h"

#include "base/memory.h"

#include <string.h>

static light_status check_slice(const char *name, light_shape shape, light_shape global, const int64_t *start)
{
    char a[256], b[256];

    if (shape.ndim != global.ndim)
        return light_fail(LIGHT_ERR_SHAPE, "checkpoint: '%s' has shape %s, which is no slice of %s", name,
                          light_shape_format(shape, a, sizeof a), light_shape_format(global, b, sizeof b));
    for (int i = 0; i < shape.ndim; i++) {
        if (start[i] < 0 || start[i] > global.dims[i] || shape.dims[i] > global.dims[i] - start[i])
            return light_fail(LIGHT_ERR_SHAPE, "checkpoint: '%s' of shape %s sticks out of %s in dim %d",
                              name, light_shape_format(shape, a, sizeof a),
                              light_shape_format(global, b, sizeof b), i);
    }
    return LIGHT_OK;
}

light_status light_checkpoint_list_add(light_checkpoint_list *list, const char *name,
                                       const light_tensor *tensor, const light_shape *global_shape,
                                       const int64_t *start)
{
    light_checkpoint_item item = {0};

    if (!name || !tensor) return light_fail(LIGHT_ERR_ARGUMENT, "checkpoint: a tensor to save needs a name");
    item.tensor = *tensor;
    item.global_shape = global_shape ? *global_shape : light_shape_of(tensor);
    if (start) memcpy(item.start, start, (size_t)item.global_shape.ndim * sizeof *start);
    LIGHT_TRY(check_slice(name, light_shape_of(tensor), item.global_shape, item.start));
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        light_checkpoint_item *larger = light_realloc(list->items, capacity * sizeof *larger);
        if (!larger) return LIGHT_ERR_MEMORY;
        list->items = larger;
        list->capacity = capacity;
    }
    item.name = light_strdup(name);
    if (!item.name) return LIGHT_ERR_MEMORY;
    list->items[list->count++] = item;
    return LIGHT_OK;
}

static light_status check_part(const char *name, const light_tensor *part, light_shape global, int64_t begin)
{
    char a[256], b[256];
    const light_shape shape = light_shape_of(part);
    const int64_t numel = light_shape_numel(global);

    bool good = part->contiguous && (shape.ndim == 1 || light_shape_equal(shape, global)) && begin >= 0 &&
                begin <= numel && part->numel <= numel - begin;
    if (good) return LIGHT_OK;
    return light_fail(LIGHT_ERR_SHAPE, "checkpoint: '%s' of shape %s from element %lld on is no part of %s",
                      name, light_shape_format(shape, a, sizeof a), (long long)begin,
                      light_shape_format(global, b, sizeof b));
}

light_status light_checkpoint_list_add_part(light_checkpoint_list *list, const char *name,
                                            const light_tensor *part, const light_shape *global_shape,
                                            int64_t begin)
{
    light_box boxes[LIGHT_MAX_BOXES];
    light_tensor window = *part;

    LIGHT_TRY(check_part(name, part, *global_shape, begin));
    /* A tensor without elements is there too, once for each that names it. */
    if (light_shape_numel(*global_shape) == 0) {
        light_tensor_set_shape(&window, *global_shape);
        return light_checkpoint_list_add(list, name, &window, NULL, NULL);
    }
    int count = light_boxes_of_range(*global_shape, begin, begin + part->numel, boxes);
    for (int i = 0; i < count; i++) {
        light_tensor_set_shape(&window, boxes[i].shape);
        LIGHT_TRY(light_checkpoint_list_add(list, name, &window, global_shape, boxes[i].start));
        window.data += (size_t)window.numel * light_dtype_size((light_dtype)window.dtype);
    }
    return LIGHT_OK;
}

void light_checkpoint_list_free(light_checkpoint_list *list)
{
    for (size_t i = 0; i < list->count; i++) light_free(list->items[i].name);
    light_free(list->items);
    *list = (light_checkpoint_list){0};
}

void light_free_text(char *text)
{
    light_free(text);
}
