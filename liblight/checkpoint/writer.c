/* SPDX-License-Identifier: Apache-2.0 */
/* Saves one after another, each in a thread of its own or at once. */
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder.h"
#include "checkpoint/group.h"
#include "checkpoint/job.h"

#include "base/memory.h"
#include "base/thread.h"
#include "base/time.h"

#include <light/message.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 2048

struct light_checkpoint_writer {
    char run[LIGHT_RUN_BYTES];
    light_staging staging;

    bool busy;            /* a save is under way, or ended and not told yet */
    bool threaded;        /* in `thread` */
    atomic_bool finished; /* what follows may be read */
    pthread_t thread;
    light_save_job job;
    light_checkpoint_group group; /* size 0: there is none */
    uint64_t group_saves;         /* begun */
    char *path;
    char **also, **remove; /* NULL-terminated */
    light_checkpoint_done done;
    void *user;
    light_status status;
    char message[MESSAGE_BYTES];
    uint64_t bytes;
    double started, blocked_seconds, total_seconds;
};

light_status light_checkpoint_writer_new(light_checkpoint_writer **out)
{
    light_checkpoint_writer *writer = light_calloc(1, sizeof *writer);
    if (!writer) return LIGHT_ERR_MEMORY;
    light_status status = light_run_new(writer->run);
    if (status != LIGHT_OK) {
        light_free(writer);
        return status;
    }
    *out = writer;
    return LIGHT_OK;
}

void light_checkpoint_writer_free(light_checkpoint_writer *writer)
{
    if (!writer) return;
    light_checkpoint_wait(writer);
    light_staging_free(&writer->staging);
    light_free(writer);
}

/* ---- the save itself ------------------------------------------------------- */

static light_status link_others(const light_checkpoint_writer *writer)
{
    for (char **path = writer->also; path && *path; path++) {
        if (strcmp(*path, writer->path) == 0) continue;
        light_status status = light_link_checkpoint(writer->path, *path, writer->run, &writer->job.manifest);
        if (status != LIGHT_OK) return light_fail_in(status, "%s is saved, %s is not", writer->path, *path);
    }
    return LIGHT_OK;
}

/* The new one is safe, so a removal that fails is no failure of the save. */
static void remove_others(const light_checkpoint_writer *writer)
{
    for (char **path = writer->remove; path && *path; path++) {
        if (strcmp(*path, writer->path) == 0) continue;
        light_status status = light_checkpoint_remove(*path);
        if (status != LIGHT_OK && status != LIGHT_ERR_NOT_FOUND)
            light_message(LIGHT_MESSAGE_WARNING, "an old checkpoint stays: %s", light_error_message());
    }
}

/* The other names of a checkpoint that has its first one. */
static light_status change_names(void *argument)
{
    const light_checkpoint_writer *writer = argument;
    LIGHT_TRY(link_others(writer));
    remove_others(writer);
    return LIGHT_OK;
}

static bool together(const light_checkpoint_writer *writer)
{
    return writer->group.size > 1;
}

static light_status save_together(light_checkpoint_writer *writer)
{
    char why[MESSAGE_BYTES];
    memcpy(why, writer->message, sizeof why);
    light_group_save save = {.group = &writer->group,
                             .number = writer->group_saves++,
                             .path = writer->path,
                             .run = writer->run,
                             .job = &writer->job,
                             .prepared = writer->status,
                             .why = why,
                             .after = change_names,
                             .user = writer};
    light_status status = light_group_save_run(&save);
    writer->bytes = save.bytes;
    return status;
}

static light_status save_alone(light_checkpoint_writer *writer)
{
    light_save_job *job = &writer->job;
    LIGHT_TRY(light_write_checkpoint(writer->path, writer->run, &job->manifest, job->plans, &writer->bytes));
    return change_names(writer);
}

static void note_status(light_checkpoint_writer *writer, light_status status)
{
    writer->status = status;
    snprintf(writer->message, sizeof writer->message, "%s", status == LIGHT_OK ? "" : light_error_message());
}

static void *run_save(void *argument)
{
    light_checkpoint_writer *writer = argument;
    note_status(writer, together(writer) ? save_together(writer) : save_alone(writer));
    writer->total_seconds = light_now() - writer->started;
    atomic_store_explicit(&writer->finished, true, memory_order_release);
    return NULL;
}

/* ---- starting -------------------------------------------------------------- */

static void free_list(char **list)
{
    for (char **text = list; text && *text; text++) light_free(*text);
    light_free(list);
}

static light_status copy_list(char ***out, const char *const *list)
{
    size_t count = 0;
    while (list && list[count]) count++;
    *out = light_calloc(count + 1, sizeof **out);
    if (!*out) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        (*out)[i] = light_strdup(list[i]);
        if (!(*out)[i]) return LIGHT_ERR_MEMORY;
    }
    return LIGHT_OK;
}

static void clear(light_checkpoint_writer *writer)
{
    light_save_job_free(&writer->job);
    light_free(writer->path);
    free_list(writer->also);
    free_list(writer->remove);
    writer->path = NULL;
    writer->also = writer->remove = NULL;
    writer->busy = false;
}

static light_status take_request(light_checkpoint_writer *writer, const light_checkpoint_request *request)
{
    light_status status = light_save_job_init(&writer->job, request, writer->run, &writer->staging);
    writer->group = request->group ? *request->group : (light_checkpoint_group){0};
    if (status == LIGHT_OK && !(writer->path = light_strdup(request->path))) status = LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = copy_list(&writer->also, request->also);
    if (status == LIGHT_OK) status = copy_list(&writer->remove, request->remove);
    writer->done = request->done;
    writer->user = request->user;
    writer->threaded = request->background;
    return status;
}

light_status light_checkpoint_save(light_checkpoint_writer *writer, const light_checkpoint_request *request)
{
    double started = light_now();
    if (!request->path || !request->path[0]) {
        light_state_free(request->state);
        return light_fail(LIGHT_ERR_ARGUMENT, "a checkpoint needs a path to be saved under");
    }
    light_checkpoint_wait(writer);
    light_status status = take_request(writer, request);
    note_status(writer, status);
    writer->started = started;
    writer->bytes = 0;
    atomic_store(&writer->finished, false);
    /* A group waits for this process: the save itself tells it, in this thread if there is no other. */
    if (together(writer)) status = LIGHT_OK;
    if (status == LIGHT_OK && writer->threaded) {
        status = light_thread_start(&writer->thread, "light-ckpt", run_save, writer);
        if (status != LIGHT_OK && together(writer)) {
            writer->threaded = false;
            status = LIGHT_OK;
        }
    }
    if (status != LIGHT_OK) {
        clear(writer);
        return status;
    }
    writer->busy = true;
    writer->blocked_seconds = light_now() - started;
    if (writer->threaded) return LIGHT_OK;
    run_save(writer);
    writer->blocked_seconds = writer->total_seconds;
    return light_checkpoint_wait(writer);
}

/* ---- ending ---------------------------------------------------------------- */

light_status light_checkpoint_wait(light_checkpoint_writer *writer)
{
    if (!writer->busy) return LIGHT_OK;
    if (writer->threaded) pthread_join(writer->thread, NULL);
    /* A small save can end while the call that started it has not returned yet. */
    if (writer->total_seconds < writer->blocked_seconds) writer->total_seconds = writer->blocked_seconds;
    light_checkpoint_result result = {.path = writer->path ? writer->path : "",
                                      .status = writer->status,
                                      .message = writer->message,
                                      .bytes = writer->bytes,
                                      .blocked_seconds = writer->blocked_seconds,
                                      .total_seconds = writer->total_seconds};
    if (writer->done)
        writer->done(writer->user, &result);
    else if (writer->status != LIGHT_OK && writer->threaded)
        light_message(LIGHT_MESSAGE_WARNING, "checkpoint %s is not saved: %s", writer->path, writer->message);
    clear(writer);
    return writer->status == LIGHT_OK ? LIGHT_OK : light_fail(writer->status, "%s", writer->message);
}

light_status light_checkpoint_poll(light_checkpoint_writer *writer)
{
    if (!writer->busy || !atomic_load_explicit(&writer->finished, memory_order_acquire)) return LIGHT_OK;
    return light_checkpoint_wait(writer);
}
