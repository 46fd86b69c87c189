/* SPDX-License-Identifier: Apache-2.0 */
/* Modules and checkpoints: which tensors a module saves, whether a checkpoint fits, reading and writing. */
#include "checkpoint/checkpoint.h"
#include "checkpoint/read.h"

#include "base/memory.h"
#include "base/string.h"
#include "nn/parameter.h"

#include <stdio.h>
#include <string.h>

#define LISTED 8 /* names of each kind in an error */

/* ---- walking --------------------------------------------------------------- */

static bool is_saved(const light_parameter *p)
{
    return !p->is_buffer || p->persistent;
}

static light_parameter *next_saved(light_module *root, light_parameter *after)
{
    light_parameter *p = light_next_parameter(root, after);
    while (p && !is_saved(p)) p = light_next_parameter(root, p);
    return p;
}

/* Calls `fn` with each saved tensor of the module and its name in a checkpoint. */
typedef light_status (*visitor)(void *user, light_parameter *p, const char *name);

static light_status each_saved(light_module *root, const char *prefix, visitor fn, void *user)
{
    light_string name = {0};
    light_status status = LIGHT_OK;
    if (!root || !root->built)
        return light_fail(LIGHT_ERR_STATE,
                          "checkpoint: the module has to be built first (light_module_build)");
    for (light_parameter *p = next_saved(root, NULL); p && status == LIGHT_OK; p = next_saved(root, p)) {
        light_string_clear(&name);
        light_string_printf(&name, "%s/%s", prefix, p->path);
        status =
            name.failed ? light_fail(LIGHT_ERR_MEMORY, "checkpoint: out of memory") : fn(user, p, name.text);
    }
    light_string_free(&name);
    return status;
}

static light_status add_one(void *list, light_parameter *p, const char *name)
{
    const light_part own = light_part_to_save(p, light_parameter_own(p));
    const light_shape shape = light_shape_of(p->tensor);
    return light_checkpoint_list_add_part(list, name, &own.tensor, &shape, own.begin);
}

light_status light_checkpoint_list_add_module(light_checkpoint_list *list, light_module *root,
                                              const char *prefix)
{
    return each_saved(root, prefix, add_one, list);
}

/* ---- matching -------------------------------------------------------------- */

/* Names of one kind of trouble; after LISTED of them only their number. */
typedef struct troubles {
    light_string text;
    size_t count;
} troubles;

static void add_trouble(troubles *t, const char *name, const char *details)
{
    if (t->count++ < LISTED) light_string_printf(&t->text, "%s%s%s", t->count > 1 ? ", " : "", name, details);
}

static void append_troubles(light_string *out, const char *kind, const troubles *t)
{
    if (t->count == 0) return;
    light_string_printf(out, "; %zu %s: %s", t->count, kind, light_string_text(&t->text));
    if (t->count > LISTED) light_string_printf(out, " and %zu more", t->count - LISTED);
}

typedef struct match {
    const light_checkpoint *checkpoint;
    bool strict;
    bool *matched; /* by tensor of the manifest */
    troubles missing, unexpected, different;
} match;

static light_status match_one(void *user, light_parameter *p, const char *name)
{
    match *m = user;
    char here[256], there[256], details[600];
    const light_manifest_tensor *tensor = light_checkpoint_find_tensor(m->checkpoint, name);
    if (!tensor) {
        if (m->strict) add_trouble(&m->missing, name, "");
        return LIGHT_OK;
    }
    m->matched[tensor - m->checkpoint->manifest.tensors] = true;
    light_dtype dtype = light_dtype_of(p->tensor);
    if (light_shape_equal(tensor->shape, light_shape_of(p->tensor)) && (dtype == tensor->dtype || !m->strict))
        return LIGHT_OK;
    snprintf(details, sizeof details, " (%s %s in the checkpoint, %s %s in the module)",
             light_dtype_name(tensor->dtype), light_shape_format(tensor->shape, there, sizeof there),
             light_dtype_name(dtype), light_shape_format(light_shape_of(p->tensor), here, sizeof here));
    add_trouble(&m->different, name, details);
    return LIGHT_OK;
}

static void find_unexpected(match *m, const char *prefix)
{
    const light_manifest *manifest = &m->checkpoint->manifest;
    size_t length = strlen(prefix);
    for (size_t i = 0; i < manifest->tensor_count; i++) {
        const char *name = manifest->tensors[i].name;
        if (!m->matched[i] && strncmp(name, prefix, length) == 0 && name[length] == '/')
            add_trouble(&m->unexpected, name, "");
    }
}

static light_status report(const match *m)
{
    if (m->missing.count + m->unexpected.count + m->different.count == 0) return LIGHT_OK;
    light_string text = {0};
    append_troubles(&text, "missing", &m->missing);
    append_troubles(&text, "unexpected", &m->unexpected);
    append_troubles(&text, "different", &m->different);
    light_status status = light_fail(LIGHT_ERR_FORMAT, "checkpoint %s is of another model%s",
                                     m->checkpoint->path, light_string_text(&text));
    light_string_free(&text);
    return status;
}

static light_status compare(const light_checkpoint *checkpoint, light_module *module, const char *prefix,
                            bool strict)
{
    match m = {.checkpoint = checkpoint, .strict = strict};
    m.matched = light_calloc(checkpoint->manifest.tensor_count + 1, sizeof *m.matched);
    if (!m.matched) return LIGHT_ERR_MEMORY;
    light_status status = each_saved(module, prefix, match_one, &m);
    if (status == LIGHT_OK && strict) find_unexpected(&m, prefix);
    if (status == LIGHT_OK) status = report(&m);
    light_string_free(&m.missing.text);
    light_string_free(&m.unexpected.text);
    light_string_free(&m.different.text);
    light_free(m.matched);
    return status;
}

light_status light_checkpoint_match(const light_checkpoint *checkpoint, light_module *module,
                                    const char *prefix)
{
    return compare(checkpoint, module, prefix, true);
}

/* ---- reading and writing --------------------------------------------------- */

static light_status read_one(void *user, light_parameter *p, const char *name)
{
    const light_checkpoint *checkpoint = user;
    if (!light_checkpoint_find_tensor(checkpoint, name)) return LIGHT_OK;
    light_part held = light_parameter_held(p);
    return light_checkpoint_read_part(checkpoint, name, &held.tensor, held.begin);
}

light_status light_checkpoint_read_module(const light_checkpoint *checkpoint, light_module *module,
                                          const char *prefix, bool strict)
{
    LIGHT_TRY(compare(checkpoint, module, prefix, strict));
    return each_saved(module, prefix, read_one, (void *)checkpoint);
}

light_status light_checkpoint_load_module(light_module *module, const char *path, bool strict)
{
    light_checkpoint *checkpoint;
    LIGHT_TRY(light_checkpoint_open(path, &checkpoint));
    light_status status = light_checkpoint_read_module(checkpoint, module, "model", strict);
    light_checkpoint_close(checkpoint);
    return status;
}

light_status light_checkpoint_save_module(light_module *module, const char *path)
{
    light_checkpoint_writer *writer;
    light_checkpoint_list list = {0};
    LIGHT_TRY(light_checkpoint_writer_new(&writer));
    light_status status = light_checkpoint_list_add_module(&list, module, "model");
    if (status == LIGHT_OK)
        status = light_checkpoint_save(writer, &(light_checkpoint_request){.path = path, .tensors = &list});
    light_checkpoint_list_free(&list);
    light_checkpoint_writer_free(writer);
    return status;
}
