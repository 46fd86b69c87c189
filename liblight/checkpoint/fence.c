/* SPDX-License-Identifier: Apache-2.0 */
/* The file LOCK of a run's folder. */
#include "checkpoint/fence.h"

#include "checkpoint/folder.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the file holds, in one line. */
typedef struct owner {
    char job[81], host[65];
    int attempt, pid;
} owner;

#define OWNER_READ  "job %80s attempt %d on %64s pid %d"
#define OWNER_WRITE "job %s attempt %d on %s pid %d\n"

struct light_fence {
    light_fence *next;
    char *folder, *path;
    int file; /* locked; the file that was put at `path` */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static light_fence *taken; /* under lock */

/* ---- the job ------------------------------------------------------------------ */

/* A job without a name gets one that nobody else has. */
static light_status who_we_are(owner *o)
{
    char run[LIGHT_RUN_BYTES];
    const char *job = getenv("LIGHT_JOB"), *slurm = getenv("SLURM_JOB_ID");
    LIGHT_TRY(light_run_new(run));
    *o = (owner){.attempt = light_world_get()->attempt, .pid = getpid()};
    snprintf(o->host, sizeof o->host, "%.63s", light_world_get()->host);
    if (job)
        snprintf(o->job, sizeof o->job, "%.80s", job);
    else
        snprintf(o->job, sizeof o->job, slurm ? "slurm-%.60s" : "%s", slurm ? slurm : run);
    return LIGHT_OK;
}

bool light_fence_is_restart(void)
{
    return light_world_get()->attempt > 0;
}

/* ---- the file ------------------------------------------------------------------- */

static bool read_owner(int file, owner *o)
{
    char text[320] = "";
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    return n > 0 && sscanf(text, OWNER_READ, o->job, &o->attempt, o->host, &o->pid) == 4;
}

/* Whether somebody holds the lock. On file systems without locks nobody seems to; light_fence_check still works there. */
static bool is_held(int file)
{
    return flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

static light_status check_owner(const light_fence *f, int file, const owner *self)
{
    owner other;
    if (!read_owner(file, &other)) return LIGHT_OK;
    bool same = !strcmp(other.job, self->job);
    if (same && other.attempt > self->attempt)
        return light_fail(LIGHT_ERR_STATE,
                          "%s: attempt %d of this job is at work there (%s, pid %d), this is %d", f->folder,
                          other.attempt, other.host, other.pid, self->attempt);
    if (!same && is_held(file))
        return light_fail(LIGHT_ERR_STATE,
                          "%s: another run is writing there (%s, pid %d); wait for its end, or give this one "
                          "another folder (trainer.name)",
                          f->folder, other.host, other.pid);
    return LIGHT_OK;
}

static light_status look_for_others(const light_fence *f, const owner *self)
{
    int file = open(f->path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return LIGHT_OK;
    light_status status = check_owner(f, file, self);
    close(file);
    return status;
}

static light_status put_file(light_fence *f, const char *temporary, const owner *self)
{
    f->file = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->file >= 0 && dprintf(f->file, OWNER_WRITE, self->job, self->attempt, self->host, self->pid) > 0) {
        flock(f->file, LOCK_EX | LOCK_NB);
        if (rename(temporary, f->path) == 0) return LIGHT_OK;
    }
    light_fail(LIGHT_ERR_IO, "cannot write %s: %s", f->path, strerror(errno));
    unlink(temporary);
    return LIGHT_ERR_IO;
}

/* ---- taking and holding ----------------------------------------------------------- */

static void free_fence(light_fence *f)
{
    if (f->file >= 0) close(f->file);
    light_free(f->folder);
    light_free(f->path);
    light_free(f);
}

static light_status take(light_fence *f, const char *folder)
{
    owner self;
    f->folder = light_strdup(folder);
    f->path = light_path_join(folder, LIGHT_FENCE_NAME);
    char *temporary = f->path ? light_file_temporary_name(f->path) : NULL;
    light_status status = f->folder && temporary ? who_we_are(&self) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = look_for_others(f, &self);
    if (status == LIGHT_OK) status = put_file(f, temporary, &self);
    light_free(temporary);
    return status;
}

light_status light_fence_take(light_fence **out, const char *folder)
{
    *out = NULL;
    light_fence *f = light_calloc(1, sizeof *f);
    if (!f) return LIGHT_ERR_MEMORY;
    f->file = -1;
    light_status status = take(f, folder);
    if (status != LIGHT_OK) {
        free_fence(f);
        return status;
    }
    pthread_mutex_lock(&lock);
    f->next = taken;
    taken = f;
    pthread_mutex_unlock(&lock);
    *out = f;
    return LIGHT_OK;
}

void light_fence_release(light_fence *fence)
{
    if (!fence) return;
    pthread_mutex_lock(&lock);
    light_fence **f = &taken;
    while (*f != fence) f = &(*f)->next;
    *f = fence->next;
    pthread_mutex_unlock(&lock);
    free_fence(fence);
}

/* Opened anew: a network file system then asks its server. */
static light_status check_one(const light_fence *f)
{
    struct stat own, there;
    owner other;
    int file = open(f->path, O_RDONLY | O_CLOEXEC);
    bool opened = file >= 0 && fstat(file, &there) == 0;
    bool same =
        opened && fstat(f->file, &own) == 0 && own.st_ino == there.st_ino && own.st_dev == there.st_dev;
    bool known = opened && !same && read_owner(file, &other);
    if (file >= 0) close(file);
    if (same) return LIGHT_OK;
    return known ? light_fail(LIGHT_ERR_STATE, "%s was taken over by job %s, attempt %d (%s, pid %d)",
                              f->folder, other.job, other.attempt, other.host, other.pid)
                 : light_fail(LIGHT_ERR_STATE,
                              "%s is gone: this run does not know whether the folder is still its", f->path);
}

light_status light_fence_check(void)
{
    light_status status = LIGHT_OK;
    pthread_mutex_lock(&lock);
    for (const light_fence *f = taken; f && status == LIGHT_OK; f = f->next) status = check_one(f);
    pthread_mutex_unlock(&lock);
    return status;
}

bool light_fence_is_ours(const char *folder)
{
    owner self, other;
    char *path = light_path_join(folder, LIGHT_FENCE_NAME);
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool known = file >= 0 && read_owner(file, &other) && who_we_are(&self) == LIGHT_OK;
    if (file >= 0) close(file);
    light_free(path);
    return known && !strcmp(self.job, other.job);
}
