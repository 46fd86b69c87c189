/* SPDX-License-Identifier: Apache-2.0 */
/* Checking the bytes of a checkpoint. Each file is cut at the ends of its tensors and into pieces; the checksums of the
 * pieces are found side by side and joined to those of tensors and files. */
#include "checkpoint/read.h"

#include "checkpoint/io.h"

#include "base/hash.h"
#include "base/memory.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE       ((uint64_t)4 << 20)
#define BUFFER      ((size_t)256 << 10) /* stays in the cache between reading and summing */
#define MAX_THREADS 4

/* Something with a checksum of its own. */
typedef struct part {
    const light_extent *extent;
    const light_manifest_tensor *tensor; /* or */
    const light_manifest_value *value;
} part;

typedef struct piece {
    size_t file;
    uint64_t offset, bytes;
    size_t part; /* SIZE_MAX: between the parts */
    uint32_t crc;
} piece;

typedef struct check {
    const light_checkpoint *checkpoint;
    bool *wanted; /* by file */
    part *parts;
    size_t part_count;
    piece *pieces;
    size_t piece_count, capacity;
    atomic_size_t next;
    atomic_bool failed;
} check;

/* ---- choosing --------------------------------------------------------------- */

static light_status choose_files(check *c, bool all)
{
    const light_manifest *m = &c->checkpoint->manifest;
    c->wanted = light_calloc(m->file_count + 1, sizeof *c->wanted);
    if (!c->wanted) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < m->file_count; i++) c->wanted[i] = true;
    for (size_t i = 0; i < m->tensor_count && !all; i++)
        for (size_t k = 0; k < m->tensors[i].chunk_count; k++)
            c->wanted[m->tensors[i].chunks[k].extent.file] = false;
    for (size_t i = 0; i < m->value_count; i++) c->wanted[m->values[i].extent.file] = true;
    return LIGHT_OK;
}

/* ---- cutting --------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const light_extent *x = ((const part *)a)->extent, *y = ((const part *)b)->extent;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static light_status collect_parts(check *c)
{
    const light_manifest *m = &c->checkpoint->manifest;
    size_t count = m->value_count;
    for (size_t i = 0; i < m->tensor_count; i++) count += m->tensors[i].chunk_count;
    c->parts = light_calloc(count + 1, sizeof *c->parts);
    if (!c->parts) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < m->tensor_count; i++) {
        for (size_t k = 0; k < m->tensors[i].chunk_count; k++) {
            const light_extent *extent = &m->tensors[i].chunks[k].extent;
            if (extent->bytes) c->parts[c->part_count++] = (part){.extent = extent, .tensor = &m->tensors[i]};
        }
    }
    for (size_t i = 0; i < m->value_count; i++) {
        const light_extent *extent = &m->values[i].extent;
        if (extent->bytes) c->parts[c->part_count++] = (part){.extent = extent, .value = &m->values[i]};
    }
    if (c->part_count) qsort(c->parts, c->part_count, sizeof *c->parts, by_place);
    return LIGHT_OK;
}

/* Files that are not wanted have no pieces. */
static light_status cut(check *c, size_t file, uint64_t from, uint64_t to, size_t which)
{
    while (from < to && c->wanted[file]) {
        if (c->piece_count == c->capacity) {
            size_t capacity = c->capacity ? c->capacity * 2 : 64;
            piece *larger = light_realloc(c->pieces, capacity * sizeof *larger);
            if (!larger) return LIGHT_ERR_MEMORY;
            c->pieces = larger;
            c->capacity = capacity;
        }
        uint64_t bytes = to - from < PIECE ? to - from : PIECE;
        c->pieces[c->piece_count++] = (piece){.file = file, .offset = from, .bytes = bytes, .part = which};
        from += bytes;
    }
    return LIGHT_OK;
}

static light_status cut_all(check *c)
{
    const light_manifest *m = &c->checkpoint->manifest;
    size_t next = 0;
    for (size_t file = 0; file < m->file_count; file++) {
        uint64_t at = 0;
        for (; next < c->part_count && c->parts[next].extent->file == file; next++) {
            const light_extent *extent = c->parts[next].extent;
            if (extent->offset < at)
                return light_fail(LIGHT_ERR_FORMAT, "%s/" LIGHT_MANIFEST_NAME ": parts of %s overlap",
                                  c->checkpoint->path, m->files[file].name);
            LIGHT_TRY(cut(c, file, at, extent->offset, SIZE_MAX));
            LIGHT_TRY(cut(c, file, extent->offset, extent->offset + extent->bytes, next));
            at = extent->offset + extent->bytes;
        }
        LIGHT_TRY(cut(c, file, at, m->files[file].bytes, SIZE_MAX));
    }
    return LIGHT_OK;
}

/* ---- summing --------------------------------------------------------------- */

static light_status sum_piece(const light_checkpoint *checkpoint, piece *p, char *buffer)
{
    char path[1024];
    light_checkpoint_file_path(checkpoint, p->file, path, sizeof path);
    for (uint64_t done = 0; done < p->bytes;) {
        size_t bytes = p->bytes - done < BUFFER ? (size_t)(p->bytes - done) : BUFFER;
        LIGHT_TRY(light_io_read(checkpoint->files[p->file], path, buffer, bytes, p->offset + done));
        p->crc = light_crc32c(p->crc, buffer, bytes);
        done += bytes;
    }
    return LIGHT_OK;
}

/* Takes pieces until there are none. */
static light_status sum_pieces(void *argument)
{
    check *c = argument;
    char *buffer = light_alloc(BUFFER);
    light_status status = buffer ? LIGHT_OK : LIGHT_ERR_MEMORY;
    while (status == LIGHT_OK && !atomic_load(&c->failed)) {
        size_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->piece_count) break;
        status = sum_piece(c->checkpoint, &c->pieces[i], buffer);
    }
    if (status != LIGHT_OK) atomic_store(&c->failed, true);
    light_free(buffer);
    return status;
}

static light_status sum_all(check *c)
{
    size_t threads = light_core_count();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads > c->piece_count / 2) threads = c->piece_count / 2;
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->piece_count; i++) bytes += c->pieces[i].bytes;
    if (threads < 2 || bytes < 4 * PIECE) return sum_pieces(c);

    light_workers *workers;
    LIGHT_TRY(light_workers_new(&workers, "light-verify", threads, threads));
    for (size_t i = 0; i < threads; i++) light_workers_submit(workers, sum_pieces, c);
    light_status status = light_workers_wait(workers);
    light_workers_free(workers);
    return status;
}

/* ---- comparing ------------------------------------------------------------- */

static light_status fail_part(const check *c, const part *p)
{
    return light_checkpoint_fail_damaged(c->checkpoint, p->extent->file, p->tensor ? "tensor" : "state value",
                                         p->tensor ? p->tensor->name : p->value->path);
}

static light_status compare(const check *c)
{
    const light_manifest *m = &c->checkpoint->manifest;
    size_t i = 0;
    for (size_t file = 0; file < m->file_count; file++) {
        uint32_t whole = 0, sum = 0;
        if (!c->wanted[file]) continue;
        for (; i < c->piece_count && c->pieces[i].file == file; i++) {
            const piece *p = &c->pieces[i];
            whole = light_crc32c_combine(whole, p->crc, p->bytes);
            if (p->part == SIZE_MAX) continue;
            bool first = i == 0 || c->pieces[i - 1].part != p->part;
            bool last = i + 1 == c->piece_count || c->pieces[i + 1].part != p->part;
            sum = light_crc32c_combine(first ? 0 : sum, p->crc, p->bytes);
            if (last && sum != c->parts[p->part].extent->crc) return fail_part(c, &c->parts[p->part]);
        }
        if (whole == m->files[file].crc) continue;
        char path[1024];
        light_checkpoint_file_path(c->checkpoint, file, path, sizeof path);
        return light_fail(
            LIGHT_ERR_FORMAT,
            "%s is damaged, or of another checkpoint: the structure around the tensors does not agree with "
            "its checksum",
            path);
    }
    return LIGHT_OK;
}

light_status light_checkpoint_verify(const light_checkpoint *checkpoint, bool all)
{
    check c = {.checkpoint = checkpoint};
    light_status status = choose_files(&c, all);
    if (status == LIGHT_OK) status = collect_parts(&c);
    if (status == LIGHT_OK) status = cut_all(&c);
    if (status == LIGHT_OK) status = sum_all(&c);
    if (status == LIGHT_OK) status = compare(&c);
    light_free(c.wanted);
    light_free(c.parts);
    light_free(c.pieces);
    return status;
}
