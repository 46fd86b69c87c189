/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/group.h"

#include "checkpoint/folder.h"
#include "checkpoint/manifest.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

#include <light/message.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES 2048 /* as a failure's text */

/* ---- messages -------------------------------------------------------------- */

/* Each rank has at most one of each in a save. */
enum { BEGIN, PART, END, KINDS };

/* All processes run the same program, so a message is a struct and a text: the temporary folder, a manifest, or why
 * there is none. */
typedef struct header {
    uint32_t crc; /* of all that follows */
    int32_t status;
    int64_t created_ns;
    uint64_t bytes;
    char run[24];
} header;

typedef struct message {
    void *memory;
    header head;
    const char *text;
    size_t length;
} message;

static light_status pass_on(const light_group_save *s, int kind, const void *bytes, size_t n)
{
    const light_checkpoint_group *group = s->group;
    uint64_t number = s->number * KINDS + (uint64_t)kind;
    return kind == PART ? group->send(group->user, number, bytes, n)
                        : group->announce(group->user, number, bytes, n);
}

/* LIGHT_OK says that it is on its way; without memory for it, that is what it says, and head->status. */
static light_status send_message(const light_group_save *s, int kind, header *head, const char *text,
                                 size_t length)
{
    char small[sizeof *head + TEXT_BYTES];
    bool fits = length < TEXT_BYTES;
    char *packed = fits ? small : light_alloc(sizeof *head + length + 1);
    if (!packed) {
        char why[64];
        snprintf(why, sizeof why, "rank %d: out of memory", s->group->rank);
        *head = (header){.status = LIGHT_ERR_MEMORY};
        return send_message(s, kind, head, why, strlen(why));
    }
    memcpy(packed, head, sizeof *head);
    memcpy(packed + sizeof *head, text, length);
    packed[sizeof *head + length] = '\0';
    size_t n = sizeof *head + length + 1, skipped = offsetof(header, status);
    uint32_t crc = light_crc32c(0, packed + skipped, n - skipped);
    memcpy(packed, &crc, sizeof crc);
    light_status status = pass_on(s, kind, packed, n);
    if (!fits) light_free(packed);
    return status;
}

/* `rank` is the sender. */
static light_status take_message(const light_group_save *s, int kind, int rank, message *out)
{
    const light_checkpoint_group *group = s->group;
    uint64_t number = s->number * KINDS + (uint64_t)kind;
    size_t n = 0, skipped = offsetof(header, status);
    *out = (message){0};
    LIGHT_TRY(kind == PART ? group->receive(group->user, rank, number, &out->memory, &n)
                           : group->await(group->user, number, &out->memory, &n));
    const char *packed = out->memory;
    if (n > sizeof out->head && packed[n - 1] == '\0') {
        memcpy(&out->head, packed, sizeof out->head);
        out->text = packed + sizeof out->head;
        out->length = n - sizeof out->head - 1;
        if (out->head.crc == light_crc32c(0, packed + skipped, n - skipped)) return LIGHT_OK;
    }
    light_free(out->memory);
    out->memory = NULL;
    return light_fail(LIGHT_ERR_FORMAT, "a message from rank %d about the checkpoint is damaged", rank);
}

/* ---- every rank's files ------------------------------------------------------- */

static light_status fail_prepared(const light_group_save *s)
{
    return light_fail(s->prepared, "%s", s->why);
}

static light_status write_own(light_group_save *s, const char *folder)
{
    const int rank = s->group->rank;
    light_status status = s->prepared == LIGHT_OK ? LIGHT_OK : fail_prepared(s);
    if (status == LIGHT_OK && !light_directory_exists(folder))
        status = light_fail(LIGHT_ERR_NOT_FOUND,
                            "%s, which rank 0 has made, is not there; all processes of a job have to see the "
                            "same files",
                            folder);
    if (status == LIGHT_OK) status = light_write_files(folder, &s->job->manifest, s->job->plans);
    return status == LIGHT_OK ? LIGHT_OK : light_fail_in(status, "rank %d", rank);
}

/* ---- the other ranks --------------------------------------------------------- */

static light_status take_identity(light_manifest *manifest, const header *head)
{
    light_free(manifest->run);
    manifest->run = light_strndup(head->run, sizeof head->run - 1);
    manifest->created_ns = head->created_ns;
    return manifest->run ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

/* Writes this rank's file and tells rank 0 what is in it, or why it is not there. */
static light_status send_part(light_group_save *s, const message *begin)
{
    light_manifest *manifest = &s->job->manifest;
    light_string text = {0};
    light_status status = write_own(s, begin->text);
    if (status == LIGHT_OK) {
        status = take_identity(manifest, &begin->head);
        if (status == LIGHT_OK) status = light_manifest_format(manifest, &text);
        if (status != LIGHT_OK) light_fail_in(status, "rank %d", s->group->rank);
    }
    header head = {.status = (int32_t)status};
    const char *said = status == LIGHT_OK ? text.text : light_error_message();
    status = send_message(s, PART, &head, said, strlen(said));
    light_string_free(&text);
    return status;
}

/* Without memory for the folder's name, say: rank 0 may be waiting for a part. */
static void send_failure(const light_group_save *s, light_status status)
{
    char text[TEXT_BYTES];
    header head = {.status = (int32_t)status};
    light_fail_in(status, "rank %d", s->group->rank);
    snprintf(text, sizeof text, "%s", light_error_message());
    send_message(s, PART, &head, text, strlen(text));
    light_fail(status, "%s", text);
}

static light_status follow(light_group_save *s)
{
    message begin, end;
    light_status status = take_message(s, BEGIN, 0, &begin);
    if (status != LIGHT_OK) {
        send_failure(s, status);
        return status;
    }
    status = (light_status)begin.head.status;
    if (status != LIGHT_OK)
        light_fail(status, "%s", begin.text);
    else
        status = send_part(s, &begin);
    light_free(begin.memory);
    if (status != LIGHT_OK) return status;
    LIGHT_TRY(take_message(s, END, 0, &end));
    status = (light_status)end.head.status;
    s->bytes = end.head.bytes;
    if (status != LIGHT_OK) light_fail(status, "%s", end.text);
    light_free(end.memory);
    return status;
}

/* ---- rank 0 -------------------------------------------------------------------- */

/* The save as rank 0 sees it; the first failure stays. */
typedef struct lead {
    light_group_save *save;
    light_temporary_folder folder;
    light_manifest *parts; /* by rank; that of rank 0 is empty, its part is the job's manifest */
    light_status status;
    char text[TEXT_BYTES];
} lead;

static void note(lead *l, light_status status)
{
    if (status == LIGHT_OK || l->status != LIGHT_OK) return;
    l->status = status;
    snprintf(l->text, sizeof l->text, "%s", light_error_message());
}

static light_status make_folder(lead *l)
{
    const light_group_save *s = l->save;
    if (s->prepared != LIGHT_OK) return fail_prepared(s);
    l->parts = light_calloc((size_t)s->group->size, sizeof *l->parts);
    if (!l->parts) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_folder_check_replaceable(s->path));
    return light_temporary_folder_new(&l->folder, s->path, s->run);
}

/* Whoever cannot be told is gone or has failed, which changes nothing of what is on disk. */
static void announce_end(lead *l)
{
    const light_group_save *s = l->save;
    header head = {.status = (int32_t)l->status, .bytes = s->bytes};
    if (send_message(s, END, &head, l->text, strlen(l->text)) != LIGHT_OK)
        light_message(LIGHT_MESSAGE_WARNING, "checkpoint %s: not all processes were told how it went: %s",
                      s->path, light_error_message());
}

/* Makes the folder and tells all others, or that it cannot be. False: the save ends here. */
static bool begin(lead *l)
{
    const light_group_save *s = l->save;
    light_status status = make_folder(l);
    if (status != LIGHT_OK) note(l, light_fail_in(status, "rank 0"));
    header head = {.status = (int32_t)l->status};
    const char *said = l->status == LIGHT_OK ? l->folder.path : l->text;
    if (l->status == LIGHT_OK) {
        head.created_ns = s->job->manifest.created_ns;
        snprintf(head.run, sizeof head.run, "%s", s->run);
    }
    status = send_message(s, BEGIN, &head, said, strlen(said));
    if (status == LIGHT_OK && head.status != LIGHT_OK)
        note(l, light_fail((light_status)head.status, "rank 0: out of memory"));
    bool some_wait =
        status != LIGHT_OK && l->status == LIGHT_OK; /* for the end, if they were told to begin */
    note(l, status);
    if (some_wait) announce_end(l);
    return l->status == LIGHT_OK;
}

/* Is this the part of the save that rank 0 makes? */
static light_status check_part(const light_group_save *s, int rank, const light_manifest *part)
{
    const light_manifest *own = &s->job->manifest;
    char name[LIGHT_SHARD_NAME_BYTES];
    light_shard_name(name, rank, s->group->size);
    if (part->step != own->step || part->epoch != own->epoch)
        return light_fail(
            LIGHT_ERR_STATE, "it saves step %lld of epoch %lld, rank 0 saves step %lld of epoch %lld",
            (long long)part->step, (long long)part->epoch, (long long)own->step, (long long)own->epoch);
    if (strcmp(part->run, own->run) == 0 && part->created_ns == own->created_ns && part->file_count == 1 &&
        strcmp(part->files[0].name, name) == 0 && part->value_count == 0)
        return LIGHT_OK;
    return light_fail(LIGHT_ERR_STATE, "its part belongs to another save");
}

static light_status receive_part(lead *l, int rank)
{
    const light_group_save *s = l->save;
    char what[32];
    message m;
    LIGHT_TRY(take_message(s, PART, rank, &m));
    light_status status = (light_status)m.head.status;
    snprintf(what, sizeof what, "part of rank %d", rank);
    if (status != LIGHT_OK) {
        light_fail(status, "%s", m.text);
    } else {
        status = light_manifest_parse_part(&l->parts[rank], what, m.text, m.length);
        if (status == LIGHT_OK && (status = check_part(s, rank, &l->parts[rank])) != LIGHT_OK)
            light_fail_in(status, "rank %d", rank);
    }
    light_free(m.memory);
    return status;
}

static light_status publish(lead *l)
{
    const light_group_save *s = l->save;
    light_manifest *manifest = &s->job->manifest;
    LIGHT_TRY(light_manifest_join(manifest, l->parts, (size_t)s->group->size));
    for (size_t i = 0; i < manifest->tensor_count; i++)
        LIGHT_TRY(light_manifest_check_chunks("checkpoint", &manifest->tensors[i]));
    light_status status = light_write_manifest(l->folder.path, manifest);
    if (status == LIGHT_OK) status = light_temporary_folder_publish(&l->folder, s->path);
    return status == LIGHT_OK ? LIGHT_OK : light_fail_in(status, "rank 0");
}

/* The others have written when all parts are here, so nobody is at work in a folder that is removed then. */
static void write_and_publish(lead *l)
{
    light_group_save *s = l->save;
    note(l, write_own(s, l->folder.path));
    for (int rank = 1; rank < s->group->size; rank++) note(l, receive_part(l, rank));
    if (l->status == LIGHT_OK) note(l, publish(l));
    light_temporary_folder_free(&l->folder);
    if (l->status == LIGHT_OK) note(l, s->after(s->user));
    const light_manifest *manifest = &s->job->manifest;
    for (size_t i = 0; i < manifest->file_count && l->status == LIGHT_OK; i++)
        s->bytes += manifest->files[i].bytes;
    announce_end(l);
}

static light_status lead_save(light_group_save *s)
{
    lead l = {.save = s, .folder = {.lock = -1}};
    if (begin(&l)) write_and_publish(&l);
    light_temporary_folder_free(&l.folder);
    for (int i = 0; l.parts && i < s->group->size; i++) light_manifest_free(&l.parts[i]);
    light_free(l.parts);
    return l.status == LIGHT_OK ? LIGHT_OK : light_fail(l.status, "%s", l.text);
}

light_status light_group_save_run(light_group_save *s)
{
    s->bytes = 0;
    return s->group->rank == 0 ? lead_save(s) : follow(s);
}
