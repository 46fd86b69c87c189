/* SPDX-License-Identifier: Apache-2.0 */
/* What is saved comes back to the bit: dtypes, layouts, slices, names, the state tree; and what h5dump sees. */
#include "common.h"

#include "base/string.h"
#include "checkpoint/read.h"

#include <math.h>

static light_status save(const char *path, const light_checkpoint_list *list, light_state *state)
{
    light_checkpoint_writer *writer;
    LIGHT_TRY(light_checkpoint_writer_new(&writer));
    light_status status = light_checkpoint_save(
        writer,
        &(light_checkpoint_request){.path = path, .tensors = list, .state = state, .step = 7, .epoch = 2});
    light_checkpoint_writer_free(writer);
    return status;
}

/* ---- tensors ---------------------------------------------------------------- */

static void every_dtype_to_the_bit(void **unused)
{
    (void)unused;
    enum { N = 256 };
    unsigned char bits[LIGHT_DTYPE_COUNT][N * 8], back[N * 8];
    light_checkpoint_list list = {0};
    light_tensor *tensors[LIGHT_DTYPE_COUNT];
    for (int d = LIGHT_F64; d < LIGHT_DTYPE_COUNT; d++) {
        char name[64];
        /* All bit patterns: NaNs, subnormals, infinities. Bools are 0 and 1. */
        for (int i = 0; i < N * 8; i++)
            bits[d][i] = (unsigned char)(d == LIGHT_BOOL ? i % 2 : i * 37 + d + i / N * 101);
        snprintf(name, sizeof name, "model/of_%s", light_dtype_name((light_dtype)d));
        assert_ok(light_tensor_wrap(&tensors[d], LIGHT_SHAPE(2, N / 2), (light_dtype)d, bits[d]));
        assert_ok(light_checkpoint_list_add(&list, name, tensors[d], NULL, NULL));
    }
    assert_ok(save(at("dtypes"), &list, NULL));
    for (int d = LIGHT_F64; d < LIGHT_DTYPE_COUNT; d++) light_tensor_free(tensors[d]);
    light_checkpoint_list_free(&list);

    light_checkpoint *checkpoint;
    assert_ok(light_checkpoint_open(at("dtypes"), &checkpoint));
    assert_int_equal(light_checkpoint_tensor_count(checkpoint), LIGHT_DTYPE_COUNT - 1);
    assert_int_equal(light_checkpoint_step(checkpoint), 7);
    assert_int_equal(light_checkpoint_epoch(checkpoint), 2);
    assert_string_equal(light_checkpoint_path(checkpoint), at("dtypes"));
    assert_true(light_state_empty(light_checkpoint_state(checkpoint)));
    for (int d = LIGHT_F64; d < LIGHT_DTYPE_COUNT; d++) {
        light_checkpoint_tensor about;
        light_tensor *t;
        assert_true(light_checkpoint_tensor_at(checkpoint, (size_t)d - 1, &about));
        assert_int_equal(about.dtype, d);
        assert_true(light_shape_equal(about.shape, LIGHT_SHAPE(2, N / 2)));
        assert_true(light_checkpoint_find(checkpoint, about.name, &about));
        memset(back, 0xAA, sizeof back);
        assert_ok(light_tensor_wrap(&t, about.shape, about.dtype, back));
        assert_ok(light_checkpoint_read(checkpoint, about.name, t, NULL));
        assert_memory_equal(back, bits[d], N * light_dtype_size(about.dtype));
        light_tensor_free(t);
    }
    assert_false(light_checkpoint_find(checkpoint, "model/of_", &(light_checkpoint_tensor){0}));
    assert_false(light_checkpoint_tensor_at(checkpoint, LIGHT_DTYPE_COUNT, &(light_checkpoint_tensor){0}));
    light_checkpoint_close(checkpoint);
}

static void odd_shapes(void **unused)
{
    (void)unused;
    float scalar = 3.5f, eight[1] = {9}, back = 0, back8 = 0;
    light_tensor *s, *empty, *dims8;
    light_shape none = LIGHT_SHAPE(3, 0, 5), ones = LIGHT_SHAPE(1, 1, 1, 1, 1, 1, 1, 1);
    light_checkpoint_list list = {0};
    assert_ok(light_tensor_wrap(&s, LIGHT_SCALAR, LIGHT_F32, &scalar));
    assert_ok(light_tensor_wrap(&empty, none, LIGHT_F32, &scalar));
    assert_ok(light_tensor_wrap(&dims8, ones, LIGHT_F32, eight));
    assert_ok(light_checkpoint_list_add(&list, "scalar", s, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "a/b/c/empty", empty, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "na\xC3\xAFve \"name\" 100%\\/./x", dims8, NULL, NULL));
    assert_ok(save(at("shapes"), &list, NULL));
    light_checkpoint_list_free(&list);
    light_tensor_free(s);
    light_tensor_free(dims8);

    light_checkpoint *checkpoint;
    light_checkpoint_tensor about;
    assert_ok(light_checkpoint_open(at("shapes"), &checkpoint));
    assert_true(light_checkpoint_find(checkpoint, "a/b/c/empty", &about));
    assert_true(light_shape_equal(about.shape, none));
    assert_ok(light_checkpoint_read(checkpoint, "a/b/c/empty", empty, NULL));
    assert_ok(light_tensor_wrap(&s, LIGHT_SCALAR, LIGHT_F32, &back));
    assert_ok(light_checkpoint_read(checkpoint, "scalar", s, NULL));
    assert_true(back == 3.5f);
    assert_ok(light_tensor_wrap(&dims8, ones, LIGHT_F32, &back8));
    assert_ok(light_checkpoint_read(checkpoint, "na\xC3\xAFve \"name\" 100%\\/./x", dims8, NULL));
    assert_true(back8 == 9);
    light_tensor_free(s);
    light_tensor_free(empty);
    light_tensor_free(dims8);
    light_checkpoint_close(checkpoint);
}

/* A transposed window is saved in its own order of elements, and conversions happen when reading. */
static void strides_and_conversions(void **unused)
{
    (void)unused;
    float values[6] = {0, 1, 2, 3, 4, 5};
    double back[6];
    light_tensor *t, *to;
    light_checkpoint_list list = {0};
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(2, 3), LIGHT_F32, values));
    light_tensor window = *t;
    window.shape[0] = 3, window.shape[1] = 2, window.strides[0] = 1, window.strides[1] = 3;
    light_tensor_refresh(&window);
    assert_false(window.contiguous);
    assert_ok(light_checkpoint_list_add(&list, "transposed", &window, NULL, NULL));
    assert_ok(save(at("strides"), &list, NULL));
    light_checkpoint_list_free(&list);
    light_tensor_free(t);

    light_checkpoint *checkpoint;
    assert_ok(light_checkpoint_open(at("strides"), &checkpoint));
    assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(3, 2), LIGHT_F64, back));
    assert_ok(light_checkpoint_read(checkpoint, "transposed", to, NULL));
    const double expected[6] = {0, 3, 1, 4, 2, 5};
    assert_memory_equal(back, expected, sizeof back);
    light_tensor_free(to);
    light_checkpoint_close(checkpoint);
}

/* ---- slices ----------------------------------------------------------------- */

#define ROWS 5
#define COLS 7
#define DEEP 3

static int64_t value_at(int64_t r, int64_t c, int64_t d)
{
    return (r * COLS + c) * DEEP + d;
}

/* Writes the tensor in parts that two cuts make, and reads every slice of it. */
static void slices_of_parts(void **unused)
{
    (void)unused;
    const light_shape global = LIGHT_SHAPE(ROWS, COLS, DEEP);
    const int64_t rows[] = {0, 2, ROWS}, cols[] = {0, 3, COLS};
    int64_t parts[4][ROWS * COLS * DEEP], back[ROWS * COLS * DEEP];
    light_tensor *tensors[4], *to;
    light_checkpoint_list list = {0};
    for (int k = 0; k < 4; k++) {
        int64_t r0 = rows[k / 2], r1 = rows[k / 2 + 1], c0 = cols[k % 2], c1 = cols[k % 2 + 1], n = 0;
        for (int64_t r = r0; r < r1; r++)
            for (int64_t c = c0; c < c1; c++)
                for (int64_t d = 0; d < DEEP; d++) parts[k][n++] = value_at(r, c, d);
        assert_ok(light_tensor_wrap(&tensors[k], LIGHT_SHAPE(r1 - r0, c1 - c0, DEEP), LIGHT_I64, parts[k]));
        assert_ok(light_checkpoint_list_add(&list, "model/w", tensors[k], &global, (int64_t[]){r0, c0, 0}));
    }
    assert_ok(save(at("parts"), &list, NULL));

    light_checkpoint *checkpoint;
    light_checkpoint_tensor about;
    assert_ok(light_checkpoint_open(at("parts"), &checkpoint));
    assert_int_equal(light_checkpoint_tensor_count(checkpoint), 1);
    assert_true(light_checkpoint_tensor_at(checkpoint, 0, &about));
    assert_true(light_shape_equal(about.shape, global));
    for (int64_t r0 = 0; r0 < ROWS; r0++)
        for (int64_t r1 = r0; r1 <= ROWS; r1++)
            for (int64_t c0 = 0; c0 < COLS; c0++)
                for (int64_t c1 = c0; c1 <= COLS; c1++)
                    for (int64_t d1 = 1; d1 <= DEEP; d1++) {
                        assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(r1 - r0, c1 - c0, d1), LIGHT_I64, back));
                        assert_ok(
                            light_checkpoint_read(checkpoint, "model/w", to, (int64_t[]){r0, c0, DEEP - d1}));
                        light_tensor_free(to);
                        int64_t n = 0;
                        for (int64_t r = r0; r < r1; r++)
                            for (int64_t c = c0; c < c1; c++)
                                for (int64_t d = DEEP - d1; d < DEEP; d++)
                                    if (back[n++] != value_at(r, c, d)) fail_msg("%d %d", (int)r, (int)c);
                    }
    /* Out of bounds, another shape, no such tensor. */
    assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(2, 2, 3), LIGHT_I64, back));
    assert_int_equal(light_checkpoint_read(checkpoint, "model/w", to, (int64_t[]){4, 0, 0}), LIGHT_ERR_SHAPE);
    assert_int_equal(light_checkpoint_read(checkpoint, "model/w", to, (int64_t[]){-1, 0, 0}),
                     LIGHT_ERR_SHAPE);
    assert_int_equal(light_checkpoint_read(checkpoint, "model/w", to, NULL), LIGHT_ERR_SHAPE);
    assert_message("[5, 7, 3]");
    assert_int_equal(light_checkpoint_read(checkpoint, "model/v", to, NULL), LIGHT_ERR_NOT_FOUND);
    assert_message("'model/v'");
    light_tensor_free(to);
    light_checkpoint_close(checkpoint);

    /* A part that is missing, one that is there twice. */
    light_checkpoint_list few = {list.items, 3, 0};
    assert_int_equal(save(at("few"), &few, NULL), LIGHT_ERR_FORMAT);
    assert_message("'model/w'");
    assert_ok(light_checkpoint_list_add(&list, "model/w", tensors[0], &global, (int64_t[]){0, 0, 0}));
    assert_int_equal(save(at("few"), &list, NULL), LIGHT_ERR_FORMAT);
    assert_message("twice");
    assert_false(light_directory_exists(at("few")));
    for (int k = 0; k < 4; k++) light_tensor_free(tensors[k]);
    light_checkpoint_list_free(&list);
}

static void wrong_lists(void **unused)
{
    (void)unused;
    float values[4] = {0};
    light_tensor *t;
    light_shape global = LIGHT_SHAPE(3);
    light_checkpoint_list list = {0};
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(2), LIGHT_F32, values));
    assert_int_equal(light_checkpoint_list_add(&list, "x", t, &global, (int64_t[]){2}), LIGHT_ERR_SHAPE);
    assert_int_equal(light_checkpoint_list_add(&list, "x", NULL, NULL, NULL), LIGHT_ERR_ARGUMENT);
    assert_int_equal(list.count, 0);
    const char *const bad[] = {"", "/x", "x/", "x//y"};
    for (size_t i = 0; i < 4; i++) {
        assert_ok(light_checkpoint_list_add(&list, bad[i], t, NULL, NULL));
        assert_int_equal(save(at("wrong"), &list, NULL), LIGHT_ERR_ARGUMENT);
        light_checkpoint_list_free(&list);
    }
    /* A name that is a tensor and a group. */
    assert_ok(light_checkpoint_list_add(&list, "a", t, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "a/b", t, NULL, NULL));
    assert_int_equal(save(at("wrong"), &list, NULL), LIGHT_ERR_ARGUMENT);
    assert_message("'a/b'");
    light_checkpoint_list_free(&list);
    assert_false(light_directory_exists(at("wrong")));
    light_tensor_free(t);
}

/* ---- state ------------------------------------------------------------------ */

static void state_comes_back(void **unused)
{
    (void)unused;
    light_state *state = light_state_new();
    const double d[] = {1.5, NAN, -0.0, INFINITY};
    const int64_t i[] = {INT64_MIN, -1, INT64_MAX};
    unsigned char bytes[256];
    for (int k = 0; k < 256; k++) bytes[k] = (unsigned char)k;
    light_state *deep = state;
    for (int k = 0; k < 20; k++) deep = light_state_group(deep, "down");
    assert_ok(light_state_put(deep, "here", "deep"));
    light_state *group = light_state_group(state, "val/loss 100% \"quoted\" \\ \xE2\x82\xAC");
    assert_ok(light_state_put_doubles(group, "d", d, 4));
    assert_ok(light_state_put_int64s(group, ".", i, 3));
    assert_ok(light_state_put_bytes(group, "..", bytes, 256));
    assert_ok(light_state_put_doubles(group, "no doubles", NULL, 0));
    assert_ok(light_state_put(group, "empty text", ""));
    assert_ok(light_state_put(group, "text", "two\nlines \xE2\x82\xAC"));
    assert_ok(light_state_put(group, "third", 1.0 / 3.0));
    assert_ok(light_state_put(group, "seed", UINT64_MAX));
    assert_non_null(light_state_group(group, "an empty group"));
    for (int k = 0; k < 300; k++) {
        char name[32];
        snprintf(name, sizeof name, "value %d", k);
        assert_ok(light_state_put(light_state_group(state, "many"), name, k));
    }
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    light_state *copy = NULL;
    /* The writer takes the state: the first checkpoint is what the second is compared with. */
    light_checkpoint *first, *second;
    assert_ok(
        light_checkpoint_save(writer, &(light_checkpoint_request){.path = at("state"), .state = state}));
    assert_ok(light_checkpoint_open(at("state"), &first));
    const light_state *read = light_checkpoint_state(first);
    const light_state *back = light_state_find_group(read, "val/loss 100% \"quoted\" \\ \xE2\x82\xAC");
    assert_non_null(back);
    const double *dp;
    const int64_t *ip;
    const void *bp;
    const char *text;
    size_t n;
    uint64_t seed;
    double third;
    assert_ok(light_state_get_doubles(back, "d", &dp, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(dp, d, sizeof d);
    assert_ok(light_state_get_int64s(back, ".", &ip, &n));
    assert_memory_equal(ip, i, sizeof i);
    assert_ok(light_state_get_bytes(back, "..", &bp, &n));
    assert_int_equal(n, 256);
    assert_memory_equal(bp, bytes, 256);
    assert_ok(light_state_get_doubles(back, "no doubles", &dp, &n));
    assert_int_equal(n, 0);
    assert_ok(light_state_get(back, "empty text", &text));
    assert_string_equal(text, "");
    assert_ok(light_state_get(back, "text", &text));
    assert_string_equal(text, "two\nlines \xE2\x82\xAC");
    assert_ok(light_state_get(back, "seed", &seed));
    assert_true(seed == UINT64_MAX);
    assert_ok(light_state_get(back, "third", &third));
    assert_true(third == 1.0 / 3.0);
    assert_non_null(light_state_find_group(back, "an empty group"));
    assert_true(light_state_empty(light_state_find_group(back, "an empty group")));
    assert_int_equal(light_state_count(light_state_find_group(read, "many")), 300);
    const light_state *down = read;
    for (int k = 0; k < 20; k++) down = light_state_find_group(down, "down");
    assert_ok(light_state_get(down, "here", &text));
    assert_string_equal(text, "deep");

    /* Saved again from what was read, it is the same again. */
    copy = first->state;
    first->state = NULL;
    assert_ok(
        light_checkpoint_save(writer, &(light_checkpoint_request){.path = at("state2"), .state = copy}));
    light_checkpoint_close(first);
    assert_ok(light_checkpoint_open(at("state"), &first));
    assert_ok(light_checkpoint_open(at("state2"), &second));
    assert_true(light_state_equal(light_checkpoint_state(first), light_checkpoint_state(second)));
    light_checkpoint_close(first);
    light_checkpoint_close(second);
    light_checkpoint_writer_free(writer);
}

/* ---- other readers ---------------------------------------------------------- */

static const char *output_of(const char *command)
{
    static char text[65536];
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t length = fread(text, 1, sizeof text - 1, pipe);
    text[length] = '\0';
    assert_int_equal(pclose(pipe), 0);
    return text;
}

static void h5dump_reads_it(void **unused)
{
    (void)unused;
    if (system("h5dump --version >/dev/null 2>&1") != 0) {
        print_message("h5dump is not installed (Debian: hdf5-tools), so what it reads is not tested\n");
        skip();
    }
    assert_ok(small_save_now(at("dump"), 3));
    uint16_t halves[2][2] = {{0x3C00, 0xC500}, {0x3F80, 0xC0A0}}; /* 1 and -5 */
    bool flags[3] = {true, false, true};
    light_tensor *half, *brain, *flag;
    light_checkpoint_list list = {0};
    assert_ok(light_tensor_wrap(&half, LIGHT_SHAPE(2), LIGHT_F16, halves[0]));
    assert_ok(light_tensor_wrap(&brain, LIGHT_SHAPE(2), LIGHT_BF16, halves[1]));
    assert_ok(light_tensor_wrap(&flag, LIGHT_SHAPE(3), LIGHT_BOOL, flags));
    assert_ok(light_checkpoint_list_add(&list, "half", half, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "brain", brain, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "flag", flag, NULL, NULL));
    assert_ok(save(at("dump2"), &list, NULL));
    light_checkpoint_list_free(&list);
    light_tensor_free(half);
    light_tensor_free(brain);
    light_tensor_free(flag);

    char command[1000];
    const char *files[] = {"dump/model-00000-of-00001.h5", "dump/common.h5", "dump2/model-00000-of-00001.h5"};
    const char *expected[3][4] = {
        {"3000, 3001, 3002, 3003, 3004, 3005,", "30, 31, 32", "liblight-ckpt", NULL},
        {"\"a note\"", "GROUP \"loops\"", NULL, NULL},
        {"1, -5", "TRUE, FALSE, TRUE", "DATASET \"brain\"", NULL}};
    for (int i = 0; i < 3; i++) {
        snprintf(command, sizeof command, "h5dump -y -w 200 '%s'", at(files[i]));
        const char *text = output_of(command);
        for (int k = 0; expected[i][k]; k++) {
            if (!strstr(text, expected[i][k])) fail_msg("'%s' is not in:\n%s", expected[i][k], text);
        }
        /* In both 16-bit formats. */
        if (i == 2) assert_non_null(strstr(strstr(text, "1, -5") + 1, "1, -5"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype_to_the_bit),
        cmocka_unit_test(odd_shapes),
        cmocka_unit_test(strides_and_conversions),
        cmocka_unit_test(slices_of_parts),
        cmocka_unit_test(wrong_lists),
        cmocka_unit_test(state_comes_back),
        cmocka_unit_test(h5dump_reads_it),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
