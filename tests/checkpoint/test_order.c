/* SPDX-License-Identifier: Apache-2.0 */
/* What a loss of power would leave. The system calls that change the disk go through functions of this program, which
 * keep a model of what is surely on disk and check at each change of names that nothing can be lost by it. They also
 * play file systems that cannot swap names or make links. */
#include "common.h"

#include <linux/falloc.h>
#include <sys/syscall.h>

/* ---- the model ------------------------------------------------------------------ */

enum { MOST = 64 };

typedef struct seen_path {
    char path[600];
    bool dirty; /* changed since its last flush; of a folder: its names */
} seen_path;

static struct {
    bool watching;
    seen_path paths[MOST];
    int count;
    int published, flushes, removals;
    int skip_flush; /* the how-manieth flush is left out, to see that this is noticed */
    int troubles;
    char trouble[700];
    bool no_exchange, no_links;
} model;

static void reset_model(void)
{
    memset(&model, 0, sizeof model);
}

static seen_path *find_path(const char *path)
{
    for (int i = 0; i < model.count; i++)
        if (strcmp(model.paths[i].path, path) == 0) return &model.paths[i];
    if (model.count == MOST) abort();
    seen_path *p = &model.paths[model.count++];
    snprintf(p->path, sizeof p->path, "%s", path);
    p->dirty = false;
    return p;
}

static void find_parent(const char *path, char parent[600])
{
    snprintf(parent, 600, "%s", path);
    *strrchr(parent, '/') = '\0';
}

static void touch(const char *path)
{
    if (model.watching && path[0] == '/') find_path(path)->dirty = true;
}

static void touch_parent(const char *path)
{
    char parent[600];
    find_parent(path, parent);
    touch(parent);
}

/* False for files in memory. */
static bool path_of(int file, char path[600])
{
    char link_name[64];
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link_name, path, 599);
    path[length > 0 ? length : 0] = '\0';
    return length > 0 && strncmp(path, folder, strlen(folder)) == 0;
}

static void complain(const char *what, const char *path)
{
    if (model.troubles++ == 0) snprintf(model.trouble, sizeof model.trouble, "%s: %s", what, path);
}

/* A folder gets its name: it and all in it have to be on disk. */
static void check_published(const char *from)
{
    size_t length = strlen(from);
    for (int i = 0; i < model.count; i++) {
        const seen_path *p = &model.paths[i];
        if (strncmp(p->path, from, length) == 0 && (p->path[length] == '/' || p->path[length] == '\0') &&
            p->dirty)
            complain("published before it was flushed", p->path);
    }
    model.published++;
}

/* Something goes: the names above have to be on disk, or it may be what a loss of power brings back. */
static void check_removed(const char *path)
{
    char parent[600], above[600];
    find_parent(path, parent);
    find_parent(parent, above);
    for (int i = 0; i < model.count; i++) {
        const seen_path *p = &model.paths[i];
        if (strcmp(p->path, above) == 0 && p->dirty)
            complain("removed before the new name was flushed", path);
    }
    model.removals++;
}

static void move_names(const char *from, const char *to, bool both)
{
    for (int i = 0; i < model.count; i++) {
        seen_path *p = &model.paths[i];
        const char *ends[2] = {from, to};
        for (int k = 0; k < 1 + both; k++) {
            size_t length = strlen(ends[k]);
            if (strncmp(p->path, ends[k], length) != 0 || (p->path[length] != '/' && p->path[length] != '\0'))
                continue;
            char moved[600];
            snprintf(moved, sizeof moved, "%.290s%.300s", ends[1 - k], p->path + length);
            memcpy(p->path, moved, sizeof moved);
            break;
        }
    }
}

/* ---- the system calls ------------------------------------------------------------ */

ssize_t pwrite(int file, const void *data, size_t bytes, off_t offset)
{
    char path[600];
    if (model.watching && path_of(file, path)) touch(path);
    return syscall(SYS_pwrite64, file, data, bytes, offset);
}

int fsync(int file)
{
    char path[600];
    if (model.watching && path_of(file, path)) {
        if (++model.flushes == model.skip_flush) return 0;
        find_path(path)->dirty = false;
    }
    return (int)syscall(SYS_fsync, file);
}

int fallocate(int file, int mode, off_t offset, off_t bytes)
{
    char path[600];
    if (model.watching && path_of(file, path)) {
        touch(path);
        touch_parent(path); /* the first call for a new file */
    }
    return (int)syscall(SYS_fallocate, file, mode, offset, bytes);
}

int mkdir(const char *path, mode_t mode)
{
    if (model.watching) touch(path);
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int link(const char *from, const char *to)
{
    if (model.no_links) {
        errno = EPERM;
        return -1;
    }
    if (model.watching) touch_parent(to);
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static bool is_temporary(const char *path)
{
    return strstr(path, ".tmp.") != NULL;
}

int rename(const char *from, const char *to)
{
    if (model.watching) {
        if (!is_temporary(to)) check_published(from);
        move_names(from, to, false);
        touch_parent(to);
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    if (model.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    if (model.watching) {
        check_published(from);
        move_names(from, to, true);
        touch_parent(to);
    }
    return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

int unlink(const char *path)
{
    if (model.watching) check_removed(path);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* ---- tests ------------------------------------------------------------------------ */

static light_status save_watched(light_checkpoint_writer *writer, int mark)
{
    light_state *state = NULL;
    LIGHT_TRY(small_state(mark, &state));
    model.watching = true;
    light_status status = light_checkpoint_save(
        writer, &(light_checkpoint_request){.path = at("order/new"),
                                            .also = (const char *const[]){at("order/last"), NULL},
                                            .remove = (const char *const[]){at("order/old"), NULL},
                                            .state = state,
                                            .step = mark});
    model.watching = false;
    return status;
}

static void prepare(void)
{
    assert_ok(light_remove_tree(at("order")));
    assert_ok(small_save_now(at("order/new"), 1));
    assert_ok(small_save_now(at("order/last"), 1));
    assert_ok(small_save_now(at("order/old"), 1));
}

static void names_follow_flushes(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    for (int plain = 0; plain < 4; plain++) {
        prepare();
        reset_model();
        model.no_exchange = plain & 1;
        model.no_links = plain & 2;
        assert_ok(save_watched(writer, 2));
        if (model.troubles) fail_msg("%s", model.trouble);
        assert_int_equal(model.published, 2);
        assert_true(model.flushes >= 8);
        assert_int_equal(model.removals, 3 * 3);
        assert_int_equal(count_entries(at("order")), 2);
    }
    reset_model();
    light_checkpoint_writer_free(writer);
}

/* Each flush is needed: without it the model complains, so the test above can fail. */
static void each_flush_is_missed(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    prepare();
    reset_model();
    assert_ok(save_watched(writer, 2));
    int flushes = model.flushes;
    for (int n = 1; n <= flushes; n++) {
        prepare();
        reset_model();
        model.skip_flush = n;
        assert_ok(save_watched(writer, 2));
        if (!model.troubles) fail_msg("nobody misses flush %d of %d", n, flushes);
    }
    reset_model();
    light_checkpoint_writer_free(writer);
}

/* Every failure on file systems that can do less. */
static void failures_without_exchange_or_links(void **unused)
{
    (void)unused;
    for (int plain = 1; plain < 4; plain++) {
        int failures = 0;
        for (int64_t n = 1; n <= 70; n++) {
            light_checkpoint_writer *writer;
            prepare();
            reset_model();
            model.no_exchange = plain & 1;
            model.no_links = plain & 2;
            assert_ok(light_checkpoint_writer_new(&writer));
            light_file_fail_nth(n, EIO);
            light_message_set_level(LIGHT_MESSAGE_OFF);
            light_status status = save_watched(writer, 2);
            light_message_set_level(LIGHT_MESSAGE_ERROR);
            light_file_fail_nth(0, 0);
            light_checkpoint_writer_free(writer);
            failures += status != LIGHT_OK;
            light_checkpoint *checkpoint;
            assert_ok(light_checkpoint_open(at("order/new"), &checkpoint));
            light_checkpoint_close(checkpoint);
            assert_ok(light_checkpoint_open(at("order/last"), &checkpoint));
            light_checkpoint_close(checkpoint);
            assert_in_range(count_entries(at("order")), 2, 3);
            if (status != LIGHT_OK) assert_int_equal(small_mark(at("order/old")), 1);
        }
        assert_in_range(failures, 30, 65);
    }
    reset_model();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_follow_flushes),
        cmocka_unit_test(each_flush_is_missed),
        cmocka_unit_test(failures_without_exchange_or_links),
    };
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
