/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of damage is noticed before anything is used, and nothing crashes on it. */
#include "common.h"

#include "base/hash.h"
#include "base/string.h"
#include "checkpoint/manifest.h"
#include "checkpoint/manifest_tail.h"

static const char *const files[] = {"manifest.json", "common.h5", "model-00000-of-00001.h5"};

static void read_file(const char *name, char **data, size_t *bytes)
{
    assert_ok(light_file_read(name, data, bytes));
}

/* The text of a file is replaced in place, without a flush. */
static void put_file(const char *name, const char *data, size_t bytes)
{
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Opening fails as damaged, with a message about this file. */
static void assert_damaged(const char *path, const char *file)
{
    light_checkpoint *checkpoint = NULL;
    assert_int_equal(light_checkpoint_open(path, &checkpoint), LIGHT_ERR_FORMAT);
    assert_null(checkpoint);
    assert_message(file);
}

static void one_bit_in_every_byte(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("bits"), 1));
    for (int f = 0; f < 3; f++) {
        char name[600], *data;
        size_t bytes;
        snprintf(name, sizeof name, "%s/%s", at("bits"), files[f]);
        read_file(name, &data, &bytes);
        int file = open(name, O_WRONLY);
        assert_true(file >= 0);
        for (size_t i = 0; i < bytes; i++) {
            char flipped = (char)(data[i] ^ (1 << (i * 7 + i / 8) % 8));
            assert_int_equal(pwrite(file, &flipped, 1, (off_t)i), 1);
            assert_damaged(at("bits"), files[f]);
            assert_int_equal(pwrite(file, &data[i], 1, (off_t)i), 1);
        }
        close(file);
        light_free(data);
    }
    assert_int_equal(small_mark(at("bits")), 1);
}

static void the_message_names_the_tensor(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("named"), 1));
    char *data;
    size_t bytes;
    read_file(at("named/model-00000-of-00001.h5"), &data, &bytes);
    const float value = 1007;
    char *place = memmem(data, bytes, &value, sizeof value);
    assert_non_null(place);
    *place ^= 1;
    put_file(at("named/model-00000-of-00001.h5"), data, bytes);
    assert_damaged(at("named"), "'model/weight'");
    *place ^= 1;
    data[0] ^= 1;
    put_file(at("named/model-00000-of-00001.h5"), data, bytes);
    assert_damaged(at("named"), "structure");
    light_free(data);
    read_file(at("named/common.h5"), &data, &bytes);
    place = memmem(data, bytes, "a note", 6);
    assert_non_null(place);
    *place ^= 1;
    put_file(at("named/common.h5"), data, bytes);
    assert_int_equal(light_checkpoint_open(at("named"), &(light_checkpoint *){0}), LIGHT_ERR_FORMAT);
    light_free(data);
}

static void every_length(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("lengths"), 1));
    for (int f = 0; f < 3; f++) {
        char name[600], *data;
        size_t bytes;
        snprintf(name, sizeof name, "%s/%s", at("lengths"), files[f]);
        read_file(name, &data, &bytes);
        for (size_t length = 0; length < bytes; length += length < 40 || length + 60 > bytes ? 1 : 31) {
            put_file(name, data, length);
            assert_damaged(at("lengths"), files[f]);
        }
        char *longer = light_calloc(1, bytes + 7);
        memcpy(longer, data, bytes);
        put_file(name, longer, bytes + 7);
        assert_damaged(at("lengths"), files[f]);
        light_free(longer);
        put_file(name, data, bytes);
        light_free(data);
    }
    assert_int_equal(small_mark(at("lengths")), 1);
}

static void files_missing_or_of_another(void **unused)
{
    (void)unused;
    light_checkpoint *checkpoint;
    assert_ok(small_save_now(at("one"), 1));
    assert_ok(small_save_now(at("two"), 2));
    for (int f = 0; f < 3; f++) {
        char one[600], two[600], aside[600];
        snprintf(one, sizeof one, "%s/%s", at("one"), files[f]);
        snprintf(two, sizeof two, "%s/%s", at("two"), files[f]);
        snprintf(aside, sizeof aside, "%s/aside", folder);
        assert_int_equal(rename(one, aside), 0);
        assert_damaged(at("one"), f == 0 ? "is no complete checkpoint" : files[f]);
        assert_int_equal(link(two, one), 0); /* the file of another step */
        assert_int_equal(light_checkpoint_open(at("one"), &checkpoint), LIGHT_ERR_FORMAT);
        assert_int_equal(unlink(one), 0);
        assert_int_equal(rename(aside, one), 0);
    }
    assert_int_equal(small_mark(at("one")), 1);

    assert_int_equal(light_checkpoint_open(at("nothing"), &checkpoint), LIGHT_ERR_NOT_FOUND);
    assert_message("nothing");
    assert_int_equal(light_checkpoint_open(at("one/common.h5"), &checkpoint), LIGHT_ERR_FORMAT);
    assert_message("folder");
    assert_int_equal(light_checkpoint_open("", &checkpoint), LIGHT_ERR_NOT_FOUND);
    assert_ok(light_make_directories(at("hollow")));
    assert_damaged(at("hollow"), "manifest.json");
    assert_ok(light_make_directories(at("hollow/manifest.json")));
    assert_int_not_equal(light_checkpoint_open(at("hollow"), &checkpoint), LIGHT_OK);
}

/* ---- forged manifests: the checksums are right, the contents are not --------- */

/* Replaces the first `from` in the manifest, puts a fitting checksum behind it, and opens. */
static void forge(const char *from, const char *to, const char *message)
{
    char *text;
    size_t bytes;
    light_string forged = {0};
    light_checkpoint *checkpoint = NULL;
    read_file(at("forged/manifest.json"), &text, &bytes);
    char *place = strstr(text, from);
    if (!place) fail_msg("'%s' is not in the manifest", from);
    light_string_append_bytes(&forged, text, (size_t)(place - text));
    light_string_append(&forged, to);
    place += strlen(from);
    light_string_append_bytes(&forged, place, (size_t)(text + bytes - LIGHT_MANIFEST_TAIL_BYTES - place));
    light_string_printf(&forged, LIGHT_MANIFEST_TAIL, light_crc32c(0, forged.text, forged.length));
    put_file(at("forged/manifest.json"), forged.text, forged.length);
    light_status status = light_checkpoint_open(at("forged"), &checkpoint);
    if (status != LIGHT_ERR_FORMAT) fail_msg("with %s for %s: status %d", to, from, status);
    assert_message(message);
    put_file(at("forged/manifest.json"), text, bytes);
    light_string_free(&forged);
    light_free(text);
}

static void forged_manifests(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("forged"), 1));
    forge("\"version\": 1", "\"version\": 2", "version 2");
    forge("\"version\": 1", "\"version\": 0", "version 0");
    forge("\"version\": 1", "\"version\": \"1\"", "\"version\"");
    forge("liblight-ckpt", "liblight-chpt", "no manifest");
    forge("{", "", "manifest.json");
    forge("{", "[", "manifest.json:");
    forge("\"step\": 1", "\"step\": 1, \"step\": 2", "manifest.json:");
    forge("\"step\": 1", "\"stop\": 1", "\"step\"");
    forge("\"step\": 1", "\"step\": 1e400", "manifest.json");
    forge("\"step\": 1", "\"step\": 99999999999999999999", "manifest.json");
    forge("\"files\": [", "\"files\": [3, ", "\"files\"");
    forge("\"files\": [", "\"files\": {}, \"fails\": [", "\"files\"");
    forge("\"name\": \"common.h5\"", "\"name\": \"../x\"", "\"files\"");
    forge("\"name\": \"common.h5\"", "\"name\": \"\"", "\"name\"");
    forge("\"name\": \"common.h5\"", "\"name\": \"none.h5\"", "none.h5 is missing");
    forge("\"bytes\": ", "\"bytes\": -", "\"bytes\"");
    forge("\"bytes\": ", "\"bytes\": 1", "bytes instead of");
    forge("\"crc32c\": \"", "\"crc32c\": \"0", "\"crc32c\"");
    forge("\"crc32c\": \"", "\"crc32c\": \"X", "\"crc32c\"");
    forge("\"dtype\": \"f32\"", "\"dtype\": \"f33\"", "\"dtype\"");
    forge("\"dtype\": \"f32\"", "\"dtype\": \"f64\"", "'model/weight'");
    forge("\"dtype\": \"f32\", \"shape\": [4, 6]", "\"dtype\": \"f32\", \"shape\": [4, 7]", "missing");
    forge("\"dtype\": \"f32\", \"shape\": [4, 6]", "\"dtype\": \"f32\", \"shape\": [4, 5]", "does not fit");
    forge("\"dtype\": \"f32\", \"shape\": [4, 6]", "\"dtype\": \"f32\", \"shape\": [24]", "does not fit");
    forge("\"shape\": [4, 6]", "\"shape\": [-4, 6]", "\"shape\"");
    forge("\"shape\": [4, 6]", "\"shape\": [1,1,1,1,1,1,1,4,6]", "\"shape\"");
    forge("\"shape\": [4, 6]", "\"shape\": [4611686018427387904, 4611686018427387904]", "\"shape\"");
    forge("\"shape\": [4, 6]", "\"shape\": [0, 4611686018427387904, 4611686018427387904]", "\"shape\"");
    forge("\"start\": [0, 0]", "\"start\": [1, 0]", "does not fit");
    forge("\"start\": [0, 0]", "\"start\": [9223372036854775807, 0]", "does not fit");
    forge("\"file\": 0", "\"file\": 2", "bytes that no file has");
    forge("\"file\": 0", "\"file\": 1", "manifest.json");
    forge("\"file\": 0, \"offset\": ", "\"file\": 0, \"offset\": 9", "bytes that no file has");
    forge("\"file\": 0, \"offset\": ", "\"file\": 0, \"offset\": 9223372036854775807, \"x\": ",
          "bytes that no file has");
    forge("optimizer/0/steps", "model/weight", "twice");
    forge("optimizer/0/steps", "optimizer/%00/steps", "\"name\"");
    forge("optimizer/0/steps", "optimizer/%zz/steps", "\"name\"");
    forge("optimizer/0/steps", "optimizer/steps%", "\"name\"");
    forge("\"chunks\": [", "\"chunks\": [], \"chunk\": [", "missing");
    forge("\"chunks\": [", "\"chunks\": [null, ", "\"dataset\"");
    forge("\"type\": \"i64\"", "\"type\": \"f65\"", "\"type\"");
    forge("\"type\": \"i64\"", "\"type\": \"group\"", "\"count\"");
    forge("\"type\": \"i64\", \"count\": 1", "\"type\": \"i64\", \"count\": 2", "\"count\"");
    forge("\"type\": \"string\", \"count\": 6", "\"type\": \"string\", \"count\": 7", "\"count\"");
    forge("\"path\": \"loops/step\"", "\"path\": \"note\"", "'note'");
    forge("\"path\": \"note\"", "\"path\": \"loops\"", "'loops'");
    forge("\"path\": \"note\"", "\"path\": \"loops/step/x\"", "'loops/step/x'");
    forge("\"path\": \"note\"", "\"path\": \"loops//x\"", "'loops//x'");
    forge("\"path\": \"note\"", "\"path\": \"%\"", "'%'");
    assert_int_equal(small_mark(at("forged")), 1);
}

/* Two extents over the same bytes. */
static void overlapping_extents(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("forged"), 1));
    char *text, other[100];
    size_t bytes;
    read_file(at("forged/manifest.json"), &text, &bytes);
    unsigned long long weight, steps;
    char *at_weight = strstr(text, "\"file\": 0, \"offset\": ");
    char *at_steps = strstr(at_weight + 1, "\"file\": 0, \"offset\": ");
    assert_int_equal(sscanf(at_weight, "\"file\": 0, \"offset\": %llu", &weight), 1);
    assert_int_equal(sscanf(at_steps, "\"file\": 0, \"offset\": %llu", &steps), 1);
    char from[100];
    snprintf(from, sizeof from, "\"offset\": %llu", steps);
    snprintf(other, sizeof other, "\"offset\": %llu", weight + 1);
    light_free(text);
    forge(from, other, "overlap");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_bit_in_every_byte), cmocka_unit_test(the_message_names_the_tensor),
        cmocka_unit_test(every_length),          cmocka_unit_test(files_missing_or_of_another),
        cmocka_unit_test(forged_manifests),      cmocka_unit_test(overlapping_extents),
    };
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
