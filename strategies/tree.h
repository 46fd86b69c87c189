/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of gradients that do not depend on how batches are spread over processes (trainer.deterministic elastic).
 *
 * The gradients of a window's micro-batches are the leaves of a binary tree: neighbours are joined first, like the digits
 * of a counter that carry. A process that has 2^k neighbouring leaves sums a whole branch of it by itself; the
 * communicators join branches in the same order (light_collective.ordered). So the same additions are done in the same
 * order for any number of processes. Where the last window has fewer leaves, what is left is joined from the right. */
#ifndef LIGHT_STRATEGIES_TREE_H
#define LIGHT_STRATEGIES_TREE_H

#include "autograd/step.h"
#include "nn/flat.h"

enum { LIGHT_TREE_LEVELS = 32 };

/* Starts as {0}. */
typedef struct light_tree {
    const light_flat *flat;
    /* Finished branches of 2^level leaves, laid out like the gradients of all buffers one after the other. */
    light_storage **levels[LIGHT_TREE_LEVELS]; /* by buffer; NULL: not needed so far */
} light_tree;

/* Takes the gradients in buffer `b` as leaf number `leaf` (from 0) of this process, after which they may be
 * overwritten. */
light_status light_tree_add(light_tree *tree, light_step *s, int b, int64_t leaf);
/* For the last leaf: bytes [from, to) of the gradients in buffer `b` become the sum of all leaves. */
light_status light_tree_finish(light_tree *tree, light_step *s, int b, size_t from, size_t to, int64_t leaf);
void light_tree_free(light_tree *tree);

#endif
