/* SPDX-License-Identifier: Apache-2.0 */
/* The binary counter of branches. */
#include "strategies/tree.h"

#include "base/memory.h"
#include "strategies/job.h"

/* to = from + to: the earlier leaves stand left. */
static light_status join(light_step *s, light_storage *from, light_storage *to, light_dtype dtype,
                         size_t first, size_t last)
{
    light_tensor a = light_window_on(from, dtype, first, last), b = light_window_on(to, dtype, first, last);
    light_binary_attrs attrs = {LIGHT_BINARY_ADD};
    return LIGHT_RUN(s, BINARY, .in = {&a, &b}, .out = {&b}, .attrs = &attrs);
}

static light_status branch_of(light_tree *tree, int level, int b, light_storage **out)
{
    const light_flat *flat = tree->flat;
    if (!tree->levels[level]) {
        tree->levels[level] = light_calloc((size_t)flat->n, sizeof **tree->levels);
        if (!tree->levels[level]) return LIGHT_ERR_MEMORY;
    }
    light_storage **branch = &tree->levels[level][b];
    const light_flat_buffer *buffer = &flat->buffers[b];
    if (!*branch) LIGHT_TRY(light_storage_new(branch, buffer->bytes, buffer->values->device));
    *out = *branch;
    return LIGHT_OK;
}

light_status light_tree_add(light_tree *tree, light_step *s, int b, int64_t leaf)
{
    const light_flat_buffer *buffer = &tree->flat->buffers[b];
    light_storage *branch;
    int level = 0;
    for (; leaf >> level & 1; level++) {
        LIGHT_TRY(branch_of(tree, level, b, &branch));
        LIGHT_TRY(join(s, branch, buffer->grads, buffer->dtype, 0, buffer->bytes));
    }
    LIGHT_TRY(branch_of(tree, level, b, &branch));
    light_tensor from = light_window_on(buffer->grads, buffer->dtype, 0, buffer->bytes),
                 to = light_window_on(branch, buffer->dtype, 0, buffer->bytes);
    return LIGHT_RUN(s, COPY, .in = {&from}, .out = {&to});
}

light_status light_tree_finish(light_tree *tree, light_step *s, int b, size_t from, size_t to, int64_t leaf)
{
    const light_flat_buffer *buffer = &tree->flat->buffers[b];
    light_storage *branch;
    for (int level = 0; leaf >> level; level++) {
        if (!(leaf >> level & 1)) continue;
        LIGHT_TRY(branch_of(tree, level, b, &branch));
        LIGHT_TRY(join(s, branch, buffer->grads, buffer->dtype, from, to));
    }
    return LIGHT_OK;
}

void light_tree_free(light_tree *tree)
{
    for (int level = 0; level < LIGHT_TREE_LEVELS; level++) {
        for (int b = 0; tree->levels[level] && b < tree->flat->n; b++)
            light_storage_free(tree->levels[level][b]);
        light_free(tree->levels[level]);
    }
    *tree = (light_tree){0};
}
