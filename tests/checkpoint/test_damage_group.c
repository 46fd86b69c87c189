/* SPDX-License-Identifier: Apache-2.0 */
/* Damage to checkpoints of several writers: files that are missing, of another step, in the wrong place, changed or cut
 * off. Opened in full, everything is found before anything is used; opened lazily, nobody ever gets a wrong value. */
#include "group.h"

enum { WRITERS = 3 };

static const char *const files[] = {"manifest.json", "common.h5", "model-00000-of-00003.h5",
                                    "model-00001-of-00003.h5", "model-00002-of-00003.h5"};
enum { FILES = sizeof files / sizeof *files };

/* ---- looking ------------------------------------------------------------------ */

static void assert_one_line(void)
{
    const char *text = light_error_message();
    if (!text[0] || strchr(text, '\n')) fail_msg("no clear line: '%s'", text);
}

/* Reads everything as two ranks do. LIGHT_OK: all values are those of `mark`. */
static light_status read_shared(const light_checkpoint *checkpoint, int mark, int rank)
{
    static float values[MOST_ELEMENTS];
    for (int t = 0; t < TENSORS; t++) {
        int64_t n = light_shape_numel(shared_tensors[t].shape);
        int64_t begin = cut_of(n, rank, 2, 1), end = cut_of(n, rank + 1, 2, 1);
        light_tensor *to;
        assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(end - begin), LIGHT_F32, values));
        light_status status = light_checkpoint_read_part(checkpoint, shared_tensors[t].name, to, begin);
        light_tensor_free(to);
        LIGHT_TRY(status);
        for (int64_t i = begin; i < end; i++)
            if (values[i - begin] != shared_value(t, mark, i)) fail_msg("a wrong value, and nobody noticed");
    }
    return LIGHT_OK;
}

static light_status read_lazily(const char *path, int mark)
{
    light_checkpoint *checkpoint;
    LIGHT_TRY(light_checkpoint_open_lazily(path, &checkpoint));
    int step = -1;
    assert_ok(
        light_state_get(light_state_find_group(light_checkpoint_state(checkpoint), "loops"), "step", &step));
    assert_int_equal(step, mark);
    light_status status = read_shared(checkpoint, mark, 0);
    if (status == LIGHT_OK) status = read_shared(checkpoint, mark, 1);
    light_checkpoint_close(checkpoint);
    return status;
}

/* Opened in full it is refused, with this in one line. */
static void assert_refused(const char *path, const char *message)
{
    light_checkpoint *checkpoint = NULL;
    assert_int_equal(light_checkpoint_open(path, &checkpoint), LIGHT_ERR_FORMAT);
    assert_null(checkpoint);
    assert_one_line();
    assert_message(message);
}

/* And the other way too. */
static void assert_refused_twice(const char *path, int mark, const char *message)
{
    assert_refused(path, message);
    assert_int_equal(read_lazily(path, mark), LIGHT_ERR_FORMAT);
    assert_one_line();
    assert_message(message);
}

static const char *in(const char *checkpoint, const char *file)
{
    char name[200];
    snprintf(name, sizeof name, "%s/%s", checkpoint, file);
    return at(name);
}

static void move(const char *from, const char *to)
{
    assert_int_equal(rename(from, to), 0);
}

/* ---- files in the wrong place ---------------------------------------------------- */

static void missing_and_swapped_files(void **unused)
{
    (void)unused;
    save_shared(at("one"), WRITERS, 1, 1);
    save_shared(at("two"), WRITERS, 1, 2);
    for (int f = 0; f < FILES; f++) {
        const char *one = in("one", files[f]), *two = in("two", files[f]), *aside = at("aside");
        move(one, aside);
        assert_refused_twice(at("one"), 1, f ? "is missing, the checkpoint is incomplete" : "no complete");
        assert_message(f ? files[f] : "one");
        /* The same file of another step: same name, same size. */
        move(two, one);
        if (f == 0) {
            assert_refused(at("one"), "of another checkpoint");
            assert_int_equal(read_lazily(at("one"), 2), LIGHT_ERR_FORMAT);
            assert_message("of another checkpoint");
        } else {
            assert_refused_twice(at("one"), 1, "of another checkpoint");
            assert_message(files[f]);
        }
        move(one, two);
        move(aside, one);
    }
    assert_ok(read_lazily(at("one"), 1));
    assert_int_equal(shared_mark(at("two"), 1, 0), 2);
}

static void shards_in_each_others_place(void **unused)
{
    (void)unused;
    save_shared(at("mixed"), WRITERS, 0, 3);
    for (int a = 2; a < FILES; a++)
        for (int b = a + 1; b < FILES; b++) {
            const char *first = in("mixed", files[a]), *second = in("mixed", files[b]), *aside = at("aside");
            move(first, aside);
            assert_int_equal(link(second, first), 0); /* one is there twice */
            assert_refused_twice(at("mixed"), 3, files[a]);
            assert_int_equal(unlink(second), 0);
            move(aside, second); /* and now they have changed places */
            assert_refused(at("mixed"), "model-0000");
            assert_int_equal(read_lazily(at("mixed"), 3), LIGHT_ERR_FORMAT);
            assert_one_line();
            move(second, aside);
            move(first, second);
            move(aside, first);
        }
    assert_ok(read_lazily(at("mixed"), 3));
}

/* A checkpoint of more writers is none of fewer, and files that nobody names do no harm. */
static void other_numbers_of_writers(void **unused)
{
    (void)unused;
    save_shared(at("three"), 3, 1, 5);
    save_shared(at("four"), 4, 1, 5);
    move(in("four", "manifest.json"), at("aside"));
    assert_int_equal(link(in("three", "manifest.json"), in("four", "manifest.json")), 0);
    assert_refused_twice(at("four"), 5, "model-00000-of-00003.h5 is missing");
    move(at("aside"), in("four", "manifest.json"));
    assert_int_equal(link(in("three", files[2]), in("four", files[2])), 0);
    assert_int_equal(shared_mark(at("four"), 4, 2), 5);
}

/* ---- changed bytes ----------------------------------------------------------------- */

/* Small enough to try every byte. */
static int small_tensors(void **unused)
{
    (void)unused;
    shared_tensors[MOMENT].shape = LIGHT_SHAPE(3, 20);
    return 0;
}

static int usual_tensors(void **unused)
{
    (void)unused;
    shared_tensors[MOMENT].shape = LIGHT_SHAPE(3, 7001);
    return 0;
}

/* Large enough for chunks of several pieces. */
static int large_tensors(void **unused)
{
    (void)unused;
    shared_tensors[MOMENT].shape = LIGHT_SHAPE(3, 200001);
    return 0;
}

static void one_bit_in_every_byte(void **unused)
{
    (void)unused;
    int unread = 0, found = 0;
    save_shared(at("bits"), WRITERS, 1, 1);
    for (int f = 0; f < FILES; f++) {
        char *data;
        size_t bytes;
        assert_ok(light_file_read(in("bits", files[f]), &data, &bytes));
        int file = open(in("bits", files[f]), O_WRONLY);
        assert_true(file >= 0);
        for (size_t i = 0; i < bytes; i++) {
            char flipped = (char)(data[i] ^ (1 << (i * 7 + i / 8) % 8));
            assert_int_equal(pwrite(file, &flipped, 1, (off_t)i), 1);
            assert_refused(at("bits"), files[f]);
            if (read_lazily(at("bits"), 1) == LIGHT_OK) {
                assert_true(f >= 2); /* around the tensors, where nobody looks */
                unread++;
            } else {
                assert_one_line();
                assert_message(files[f]);
                found++;
            }
            assert_int_equal(pwrite(file, &data[i], 1, (off_t)i), 1);
        }
        close(file);
        light_free(data);
    }
    assert_true(unread > 0 && found > (105 + 60 + 1) * 4);
    assert_ok(read_lazily(at("bits"), 1));
}

static void every_length(void **unused)
{
    (void)unused;
    save_shared(at("lengths"), WRITERS, 1, 1);
    for (int f = 0; f < FILES; f++) {
        char *data;
        size_t bytes;
        assert_ok(light_file_read(in("lengths", files[f]), &data, &bytes));
        for (size_t length = bytes - 1; length > 0; length -= length < 40 || length + 60 > bytes ? 1 : 31) {
            assert_int_equal(truncate(in("lengths", files[f]), (off_t)length), 0);
            assert_refused_twice(at("lengths"), 1, files[f]);
        }
        FILE *file = fopen(in("lengths", files[f]), "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(data, 1, bytes, file), bytes);
        assert_int_equal(fclose(file), 0);
        light_free(data);
    }
    assert_ok(read_lazily(at("lengths"), 1));
}

/* Random bits of a larger one: LIGHT_TEST_FLIPS of them. */
static void random_bits(void **unused)
{
    (void)unused;
    const char *text = getenv("LIGHT_TEST_FLIPS");
    const int flips = text ? atoi(text) : 300;
    unsigned seed = 2024;
    save_shared(at("random"), WRITERS, 1, 7);
    for (int i = 0; i < flips; i++) {
        struct stat about;
        char byte, flipped;
        int f = rand_r(&seed) % FILES;
        int file = open(in("random", files[f]), O_RDWR);
        assert_true(file >= 0);
        assert_int_equal(fstat(file, &about), 0);
        off_t place = rand_r(&seed) % about.st_size;
        assert_int_equal(pread(file, &byte, 1, place), 1);
        flipped = (char)(byte ^ 1 << rand_r(&seed) % 8);
        assert_int_equal(pwrite(file, &flipped, 1, place), 1);
        assert_refused(at("random"), files[f]);
        if (read_lazily(at("random"), 7) != LIGHT_OK) assert_message(files[f]);
        assert_int_equal(pwrite(file, &byte, 1, place), 1);
        close(file);
    }
    assert_ok(read_lazily(at("random"), 7));
    if (text) print_message("%d of %d changed bits were found\n", flips, flips);
}

/* With an argument, the test of that name only. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_and_swapped_files),
        cmocka_unit_test(shards_in_each_others_place),
        cmocka_unit_test(other_numbers_of_writers),
        cmocka_unit_test_setup_teardown(one_bit_in_every_byte, small_tensors, usual_tensors),
        cmocka_unit_test_setup_teardown(every_length, small_tensors, usual_tensors),
        cmocka_unit_test_setup_teardown(random_bits, large_tensors, usual_tensors),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
