/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the manifest. All names are encoded to plain ASCII without quotes, so nothing needs escaping. */
#include "checkpoint/manifest.h"

#include "checkpoint/manifest_tail.h"
#include "checkpoint/name.h"

#include "base/hash.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void light_manifest_free(light_manifest *m)
{
    for (size_t i = 0; i < m->file_count; i++) light_free(m->files[i].name);
    for (size_t i = 0; i < m->tensor_count; i++) {
        for (size_t k = 0; k < m->tensors[i].chunk_count; k++) {
            light_free(m->tensors[i].chunks[k].dataset);
            light_free(m->tensors[i].chunks[k].extent.pieces);
        }
        light_free(m->tensors[i].chunks);
        light_free(m->tensors[i].name);
    }
    for (size_t i = 0; i < m->value_count; i++) {
        light_free(m->values[i].path);
        light_free(m->values[i].extent.pieces);
    }
    light_free(m->files);
    light_free(m->tensors);
    light_free(m->values);
    light_free(m->run);
    *m = (light_manifest){0};
}

const char *light_manifest_type_name(light_state_type type)
{
    switch (type) {
    case LIGHT_STATE_GROUP: return "group";
    case LIGHT_STATE_INT64: return "i64";
    case LIGHT_STATE_DOUBLE: return "f64";
    case LIGHT_STATE_STRING: return "string";
    case LIGHT_STATE_INT64S: return "i64s";
    case LIGHT_STATE_DOUBLES: return "f64s";
    case LIGHT_STATE_BYTES: return "bytes";
    }
    return "unknown";
}

static void format_numbers(light_string *out, const char *key, const int64_t *numbers, int n)
{
    light_string_printf(out, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) light_string_printf(out, "%s%" PRId64, i ? ", " : "", numbers[i]);
    light_string_append(out, "]");
}

static void format_extent(light_string *out, const light_extent *extent)
{
    light_string_printf(out,
                        ", \"file\": %zu, \"offset\": %" PRIu64 ", \"bytes\": %" PRIu64
                        ", \"crc32c\": \"%08" PRIx32 "\"",
                        extent->file, extent->offset, extent->bytes, extent->crc);
    if (!extent->pieces) return;
    light_string_append(out, ", \"pieces\": \"");
    for (size_t i = 0; i < light_extent_pieces(extent->bytes); i++)
        light_string_printf(out, "%08" PRIx32, extent->pieces[i]);
    light_string_append(out, "\"");
}

static void format_tensor(light_string *out, const light_manifest_tensor *tensor)
{
    light_string_append(out, "{\"name\": \"");
    light_name_encode_path(out, tensor->name);
    light_string_printf(out, "\", \"dtype\": \"%s\"", light_dtype_name(tensor->dtype));
    format_numbers(out, "shape", tensor->shape.dims, tensor->shape.ndim);
    light_string_append(out, ", \"chunks\": [");
    for (size_t i = 0; i < tensor->chunk_count; i++) {
        const light_manifest_chunk *chunk = &tensor->chunks[i];
        light_string_printf(out, "%s{\"dataset\": \"%s\"", i ? ", " : "", chunk->dataset);
        format_numbers(out, "start", chunk->start, chunk->shape.ndim);
        format_numbers(out, "shape", chunk->shape.dims, chunk->shape.ndim);
        format_extent(out, &chunk->extent);
        light_string_append(out, "}");
    }
    light_string_append(out, "]}");
}

light_status light_manifest_format(const light_manifest *m, light_string *out)
{
    light_string_printf(out,
                        "{\n  \"format\": \"" LIGHT_MANIFEST_FORMAT
                        "\",\n  \"version\": %d,\n  \"writer\": \"" LIGHT_MANIFEST_WRITER
                        "\",\n  \"run\": \"%s\",\n  \"created_ns\": %" PRId64 ",\n  \"step\": %" PRId64
                        ",\n  \"epoch\": %" PRId64,
                        LIGHT_MANIFEST_VERSION, m->run, m->created_ns, m->step, m->epoch);
    light_string_append(out, ",\n  \"files\": [");
    for (size_t i = 0; i < m->file_count; i++)
        light_string_printf(
            out, "%s\n    {\"name\": \"%s\", \"bytes\": %" PRIu64 ", \"crc32c\": \"%08" PRIx32 "\"}",
            i ? "," : "", m->files[i].name, m->files[i].bytes, m->files[i].crc);
    light_string_append(out, "],\n  \"tensors\": [");
    for (size_t i = 0; i < m->tensor_count; i++) {
        light_string_append(out, i ? ",\n    " : "\n    ");
        format_tensor(out, &m->tensors[i]);
    }
    light_string_append(out, "],\n  \"state\": [");
    for (size_t i = 0; i < m->value_count; i++) {
        const light_manifest_value *value = &m->values[i];
        light_string_printf(out, "%s\n    {\"path\": \"%s\", \"type\": \"%s\", \"count\": %" PRIu64,
                            i ? "," : "", value->path, light_manifest_type_name(value->type), value->count);
        format_extent(out, &value->extent);
        light_string_append(out, "}");
    }
    light_string_append(out, "]");
    if (out->failed) return light_fail(LIGHT_ERR_MEMORY, "out of memory for a checkpoint's manifest");
    light_string_printf(out, LIGHT_MANIFEST_TAIL, light_crc32c(0, out->text, out->length));
    return out->failed ? light_fail(LIGHT_ERR_MEMORY, "out of memory for a checkpoint's manifest") : LIGHT_OK;
}
