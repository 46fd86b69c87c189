/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets made of others: parts and concatenations. They hold what they read and copy no samples. */
#include "data/dataset.h"

#include "base/memory.h"
#include "base/permutation.h"

#include <inttypes.h>
#include <string.h>

#define CHUNK 256 /* indices translated at a time, on the stack */

/* An index of the view to one of the parent, in one of three ways. */
typedef struct {
    light_dataset base;
    light_dataset *parent;
    int64_t start, n;
    int64_t *indices; /* index i is indices[i]; NULL: start + i */
    bool permuted;    /* or the permutation at start + i */
    light_permutation permutation;
} view;

static light_status view_describe(light_dataset *self, light_field *fields, int *num_fields)
{
    return light_dataset_describe(((view *)self)->parent, fields, num_fields);
}

static int64_t view_length(light_dataset *self)
{
    return ((view *)self)->n;
}

static int64_t view_at(const view *v, int64_t i)
{
    if (v->indices) return v->indices[i];
    return v->permuted ? (int64_t)light_permutation_at(&v->permutation, (uint64_t)(v->start + i))
                       : v->start + i;
}

static light_status view_get_batch(light_dataset *self, const int64_t *indices, int64_t n, void *const *to)
{
    view *v = (view *)self;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    void *at[LIGHT_MAX_FIELDS];
    int64_t translated[CHUNK];

    LIGHT_TRY(light_dataset_describe(v->parent, fields, &num_fields));
    for (int64_t done = 0; done < n; done += CHUNK) {
        int64_t count = n - done < CHUNK ? n - done : CHUNK;
        for (int64_t i = 0; i < count; i++) translated[i] = view_at(v, indices[done + i]);
        for (int f = 0; f < num_fields; f++) {
            at[f] = (char *)to[f] + (size_t)done * light_field_bytes(&fields[f]);
        }
        LIGHT_TRY(light_dataset_fetch(v->parent, translated, count, at));
    }
    return LIGHT_OK;
}

static void view_free(light_dataset *self)
{
    view *v = (view *)self;

    light_dataset_free(v->parent);
    light_free(v->indices);
}

static const light_dataset_vtable view_vtable = {
    LIGHT_DATASET(view),   .describe = view_describe,   .free = view_free,
    .length = view_length, .get_batch = view_get_batch,
};

static light_status view_new(view **out, light_dataset *parent, int64_t start, int64_t n)
{
    light_dataset *base;

    LIGHT_TRY(light_dataset_new(&base, &view_vtable));
    *out = (view *)base;
    (*out)->parent = light_dataset_retain(parent);
    (*out)->start = start;
    (*out)->n = n;
    return LIGHT_OK;
}

static light_status check_parent(light_dataset *all, const char *what)
{
    if (!all) return light_fail(LIGHT_ERR_ARGUMENT, "%s: the dataset is NULL", what);
    if (light_dataset_is_stream(all)) {
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: %s is a stream, which has no indices to choose from", what,
                          all->vtable->name);
    }
    return LIGHT_OK;
}

static light_status split(light_dataset *all, int64_t first, view **a, view **b)
{
    LIGHT_TRY(check_parent(all, "split"));
    int64_t n = light_dataset_length(all);
    if (first < 0 || first > n) {
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "split: %" PRId64 " samples were asked for the first part, the dataset has %" PRId64, first, n);
    }
    LIGHT_TRY(view_new(a, all, 0, first));
    light_status status = view_new(b, all, first, n - first);
    if (status != LIGHT_OK) light_dataset_free(&(*a)->base);
    return status;
}

light_status light_dataset_split(light_dataset *all, int64_t first, light_dataset **a, light_dataset **b)
{
    view *parts[2] = {NULL, NULL};

    *a = *b = NULL;
    LIGHT_TRY(split(all, first, &parts[0], &parts[1]));
    *a = &parts[0]->base;
    *b = &parts[1]->base;
    return LIGHT_OK;
}

light_status light_dataset_random_split(light_dataset *all, int64_t first, uint64_t seed, light_dataset **a,
                                        light_dataset **b)
{
    view *parts[2] = {NULL, NULL};

    *a = *b = NULL;
    LIGHT_TRY(split(all, first, &parts[0], &parts[1]));
    for (int i = 0; i < 2; i++) {
        parts[i]->permuted = true;
        /* No epoch has this number, so a split is not the order of one. */
        parts[i]->permutation = light_permutation_new((uint64_t)light_dataset_length(all), seed, UINT64_MAX);
    }
    *a = &parts[0]->base;
    *b = &parts[1]->base;
    return LIGHT_OK;
}

light_status light_dataset_subset(light_dataset **out, light_dataset *all, const int64_t *indices, int64_t n)
{
    view *v;

    *out = NULL;
    LIGHT_TRY(check_parent(all, "subset"));
    int64_t length = light_dataset_length(all);
    if (n < 0) return light_fail(LIGHT_ERR_ARGUMENT, "subset: %" PRId64 " indices", n);
    for (int64_t i = 0; i < n; i++) {
        if (indices[i] < 0 || indices[i] >= length) {
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "subset: index %" PRId64 " at place %" PRId64 " is not in 0..%" PRId64,
                              indices[i], i, length - 1);
        }
    }
    int64_t *copy = light_alloc((size_t)n * sizeof *copy);
    if (!copy) return LIGHT_ERR_MEMORY;
    if (n > 0) memcpy(copy, indices, (size_t)n * sizeof *copy);
    light_status status = view_new(&v, all, 0, n);
    if (status != LIGHT_OK) {
        light_free(copy);
        return status;
    }
    v->indices = copy;
    *out = &v->base;
    return LIGHT_OK;
}

typedef struct {
    light_dataset base;
    int n;
    light_dataset **parts;
    int64_t *ends; /* of part i in the whole */
} concatenation;

static light_status concat_describe(light_dataset *self, light_field *fields, int *num_fields)
{
    return light_dataset_describe(((concatenation *)self)->parts[0], fields, num_fields);
}

static int64_t concat_length(light_dataset *self)
{
    concatenation *c = (concatenation *)self;

    return c->ends[c->n - 1];
}

static light_status concat_get(light_dataset *self, int64_t index, void *const *to)
{
    concatenation *c = (concatenation *)self;
    int low = 0, high = c->n - 1;

    while (low < high) {
        int middle = (low + high) / 2;
        if (index < c->ends[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return light_dataset_get(c->parts[low], index - (low ? c->ends[low - 1] : 0), to);
}

static void concat_free(light_dataset *self)
{
    concatenation *c = (concatenation *)self;

    for (int i = 0; i < c->n; i++) light_dataset_free(c->parts[i]);
    light_free(c->parts);
    light_free(c->ends);
}

static const light_dataset_vtable concat_vtable = {
    LIGHT_DATASET(concatenation), .describe = concat_describe, .free = concat_free,
    .length = concat_length,      .get = concat_get,
};

static light_status check_parts(light_dataset *const *parts, int n)
{
    light_field first[LIGHT_MAX_FIELDS], fields[LIGHT_MAX_FIELDS];
    int num_first = 0, num_fields;
    char a[512], b[512];

    if (n < 1) return light_fail(LIGHT_ERR_ARGUMENT, "concat: there must be at least one dataset, not %d", n);
    for (int i = 0; i < n; i++) {
        LIGHT_TRY(check_parent(parts[i], "concat"));
        LIGHT_TRY(light_dataset_describe(parts[i], fields, &num_fields));
        if (i == 0) {
            memcpy(first, fields, sizeof first);
            num_first = num_fields;
        }
        if (!light_fields_equal(first, num_first, fields, num_fields)) {
            return light_fail(LIGHT_ERR_SHAPE,
                              "concat: samples of dataset %d are %s, those of the first are %s", i,
                              light_fields_format(fields, num_fields, a, sizeof a),
                              light_fields_format(first, num_first, b, sizeof b));
        }
    }
    return LIGHT_OK;
}

light_status light_dataset_concat(light_dataset **out, light_dataset *const *parts, int n)
{
    light_dataset *base;

    *out = NULL;
    LIGHT_TRY(check_parts(parts, n));
    LIGHT_TRY(light_dataset_new(&base, &concat_vtable));
    concatenation *c = (concatenation *)base;
    c->parts = light_calloc((size_t)n, sizeof *c->parts);
    c->ends = light_calloc((size_t)n, sizeof *c->ends);
    if (!c->parts || !c->ends) {
        light_dataset_free(base);
        return LIGHT_ERR_MEMORY;
    }
    for (int i = 0; i < n; i++) {
        c->parts[i] = light_dataset_retain(parts[i]);
        c->ends[i] = (i ? c->ends[i - 1] : 0) + light_dataset_length(parts[i]);
    }
    c->n = n;
    *out = base;
    return LIGHT_OK;
}
