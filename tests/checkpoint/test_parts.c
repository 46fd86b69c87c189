/* SPDX-License-Identifier: Apache-2.0 */
/* Parts: ranges of elements become boxes that cover each element once, and come back from them; and what of a checkpoint
 * is read for a part. */
#include "common.h"

#include "base/hash.h"
#include "base/string.h"
#include "checkpoint/boxes.h"
#include "checkpoint/io.h"
#include "checkpoint/manifest.h"
#include "checkpoint/manifest_tail.h"
#include "nn/parameter.h"
#include "tensor/device.h"

static const light_shape shapes[] = {
    {0, {0}},
    {1, {1}},
    {1, {7}},
    {2, {3, 4}},
    {2, {1, 5}},
    {2, {5, 1}},
    {3, {3, 3, 4}},
    {3, {2, 1, 3}},
    {3, {1, 1, 1}},
    {4, {3, 2, 2, 2}},
    {5, {2, 2, 2, 2, 2}},
    {4, {2, 3, 1, 3}},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

/* ---- boxes ------------------------------------------------------------------ */

/* Calls off the elements of a box in row-major order; they have to be `next` and those that follow. */
static int64_t walk_box(light_shape shape, const light_box *box, int64_t next)
{
    int64_t numel = light_shape_numel(box->shape);
    for (int64_t i = 0; i < numel; i++, next++) {
        int64_t rest = i, element = 0, stride = 1;
        for (int d = shape.ndim - 1; d >= 0; d--) {
            int64_t index = box->start[d] + rest % box->shape.dims[d];
            assert_in_range(index, 0, shape.dims[d] - 1);
            element += index * stride;
            rest /= box->shape.dims[d];
            stride *= shape.dims[d];
        }
        assert_int_equal(element, next);
    }
    return next;
}

static void boxes_are_the_range(void **unused)
{
    (void)unused;
    for (size_t s = 0; s < SHAPES; s++) {
        int64_t numel = light_shape_numel(shapes[s]);
        int most = 0;
        for (int64_t begin = 0; begin <= numel; begin++)
            for (int64_t end = begin; end <= numel; end++) {
                light_box boxes[LIGHT_MAX_BOXES];
                int count = light_boxes_of_range(shapes[s], begin, end, boxes);
                int64_t next = begin;
                for (int i = 0; i < count; i++) next = walk_box(shapes[s], &boxes[i], next);
                assert_int_equal(next, end);
                most = count > most ? count : most;
            }
        assert_in_range(most, 1, shapes[s].ndim ? 2 * shapes[s].ndim - 1 : 1);
        if (s == 6) assert_int_equal(most, 5); /* 3 x 3 x 4 needs all of them */
    }
    light_box boxes[LIGHT_MAX_BOXES];
    assert_int_equal(light_boxes_of_range(LIGHT_SHAPE(3, 0), 0, 0, boxes), 0);
}

static void add_chunks(light_manifest_tensor *tensor, int64_t begin, int64_t end)
{
    light_box boxes[LIGHT_MAX_BOXES];
    int count = light_boxes_of_range(tensor->shape, begin, end, boxes);
    for (int i = 0; i < count; i++) {
        light_manifest_chunk *chunk = &tensor->chunks[tensor->chunk_count++];
        memcpy(chunk->start, boxes[i].start, sizeof chunk->start);
        chunk->shape = boxes[i].shape;
    }
}

/* The manifest's check takes three parts that two cuts make, and no set that lacks or repeats one. */
static void parts_cover_once(void **unused)
{
    (void)unused;
    for (size_t s = 0; s < SHAPES; s++) {
        int64_t n = light_shape_numel(shapes[s]);
        for (int64_t a = 0; a <= n; a++)
            for (int64_t b = a; b <= n; b++) {
                const int64_t cuts[] = {0, a, b, n};
                for (int missing = -1; missing < 3; missing++)
                    for (int twice = -1; twice < 3; twice++) {
                        light_manifest_chunk chunks[4 * LIGHT_MAX_BOXES] = {{0}};
                        light_manifest_tensor tensor = {.name = "w", .shape = shapes[s], .chunks = chunks};
                        bool good = true;
                        for (int i = 0; i < 3; i++) {
                            bool any = cuts[i] < cuts[i + 1];
                            if (i != missing) add_chunks(&tensor, cuts[i], cuts[i + 1]);
                            if (i == twice) add_chunks(&tensor, cuts[i], cuts[i + 1]);
                            if (any && (i == missing) != (i == twice)) good = false;
                        }
                        light_status status = light_manifest_check_chunks("x", &tensor);
                        assert_int_equal(status, good ? LIGHT_OK : LIGHT_ERR_FORMAT);
                    }
            }
    }
}

/* ---- saving and reading ------------------------------------------------------- */

static light_status save_list(const char *path, const light_checkpoint_list *list)
{
    light_checkpoint_writer *writer;
    LIGHT_TRY(light_checkpoint_writer_new(&writer));
    light_status status =
        light_checkpoint_save(writer, &(light_checkpoint_request){.path = path, .tensors = list});
    light_checkpoint_writer_free(writer);
    return status;
}

/* `all` is 1-d. */
static void add_range(light_checkpoint_list *list, light_shape shape, const light_tensor *all, int64_t begin,
                      int64_t end)
{
    light_tensor part = *all;
    part.data += begin * 8;
    light_tensor_set_shape(&part, LIGHT_SHAPE(end - begin));
    assert_ok(light_checkpoint_list_add_part(list, "group/w", &part, &shape, begin));
}

static void read_all_ranges(light_shape shape, bool lazily)
{
    light_checkpoint *checkpoint;
    int64_t back[64], n = light_shape_numel(shape);
    assert_ok(lazily ? light_checkpoint_open_lazily(at("ranges"), &checkpoint)
                     : light_checkpoint_open(at("ranges"), &checkpoint));
    for (int64_t begin = 0; begin <= n; begin++)
        for (int64_t end = begin; end <= n; end++) {
            light_tensor *to;
            memset(back, 0, sizeof back);
            assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(end - begin), LIGHT_I64, back));
            assert_ok(light_checkpoint_read_part(checkpoint, "group/w", to, begin));
            for (int64_t i = begin; i < end; i++) assert_int_equal(back[i - begin], 100 + i);
            for (int64_t i = end - begin; i < 64; i++) assert_int_equal(back[i], 0);
            light_tensor_free(to);
        }
    light_checkpoint_close(checkpoint);
}

static void ranges_come_back(void **unused)
{
    (void)unused;
    int64_t values[64];
    light_tensor *all;
    for (int i = 0; i < 64; i++) values[i] = 100 + i;
    assert_ok(light_tensor_wrap(&all, LIGHT_SHAPE(64), LIGHT_I64, values));
    for (size_t s = 0; s < SHAPES; s++) {
        int64_t n = light_shape_numel(shapes[s]);
        const int64_t cuts[][2] = {{0, n}, {n / 3, n / 3}, {n / 2, n - 1}, {1, n / 2 > 1 ? n / 2 : 1}};
        for (int c = 0; c < 4; c++) {
            light_checkpoint_list list = {0};
            /* The order in which parts are named does not matter. */
            add_range(&list, shapes[s], all, cuts[c][1], n);
            add_range(&list, shapes[s], all, 0, cuts[c][0]);
            add_range(&list, shapes[s], all, cuts[c][0], cuts[c][1]);
            assert_ok(save_list(at("ranges"), &list));
            light_checkpoint_list_free(&list);
            read_all_ranges(shapes[s], c % 2);
        }
    }
    light_tensor_free(all);
}

static void wrong_parts(void **unused)
{
    (void)unused;
    float values[12] = {0};
    light_shape global = LIGHT_SHAPE(3, 4);
    light_checkpoint_list list = {0};
    light_checkpoint *checkpoint;
    light_tensor *part, *square, *whole;
    assert_ok(light_tensor_wrap(&part, LIGHT_SHAPE(5), LIGHT_F32, values));
    assert_ok(light_tensor_wrap(&square, LIGHT_SHAPE(2, 2), LIGHT_F32, values));
    assert_ok(light_tensor_wrap(&whole, global, LIGHT_F32, values));
    light_tensor gaps = *part;
    gaps.shape[0] = 3, gaps.strides[0] = 2;
    light_tensor_refresh(&gaps);
    light_tensor *const tensors[] = {part, part, part, square, whole, &gaps};
    const int64_t begins[] = {-1, 8, INT64_MAX, 0, 1, 0};
    assert_ok(light_checkpoint_list_add_part(&list, "w", whole, &global, 0));
    assert_int_equal(list.count, 1);
    assert_ok(save_list(at("wrong"), &list));
    assert_ok(light_checkpoint_open(at("wrong"), &checkpoint));
    for (int i = 0; i < 6; i++) {
        assert_int_equal(light_checkpoint_list_add_part(&list, "w", tensors[i], &global, begins[i]),
                         LIGHT_ERR_SHAPE);
        assert_message("[3, 4]");
        assert_int_equal(light_checkpoint_read_part(checkpoint, "w", tensors[i], begins[i]), LIGHT_ERR_SHAPE);
        assert_message("[3, 4]");
    }
    assert_int_equal(list.count, 1);
    assert_int_equal(light_checkpoint_read_part(checkpoint, "v", part, 0), LIGHT_ERR_NOT_FOUND);
    light_checkpoint_close(checkpoint);
    light_checkpoint_list_free(&list);
    light_tensor_free(part);
    light_tensor_free(square);
    light_tensor_free(whole);
}

/* ---- modules -------------------------------------------------------------------- */

typedef struct model {
    light_module base;
    light_tensor *weight, *count;
} model;

static light_status model_init(light_module *self)
{
    model *m = (model *)self;
    LIGHT_TRY(
        light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(3, 5, 2), LIGHT_INIT_UNIFORM(-1, 1)));
    return light_add_buffer(self, &m->count, "count", LIGHT_SHAPE(2), LIGHT_I64, LIGHT_INIT_ONES, true);
}

static const light_module_vtable model_vtable = {LIGHT_MODULE(model), .init = model_init};

static light_module *new_model(uint64_t seed)
{
    light_module *module = light_module_new(&model_vtable);
    assert_non_null(module);
    assert_ok(light_module_build(module, seed));
    return module;
}

/* What three processes save of a module, each its own part, is loaded by one that holds elements 7 to 19 only. */
static void own_parts_of_modules(void **unused)
{
    (void)unused;
    light_module *module = new_model(1), *other = new_model(2);
    light_parameter *weight = light_find_parameter(module, "weight"),
                    *count = light_find_parameter(module, "count");
    const int64_t cuts[] = {0, 11, 12, 30};
    light_checkpoint_list list = {0};
    for (int i = 0; i < 3; i++) {
        weight->own_begin = cuts[i];
        weight->own_end = cuts[i + 1];
        count->own_end = i == 1 ? 2 : 0;
        assert_ok(light_checkpoint_list_add_module(&list, module, "model"));
    }
    assert_ok(save_list(at("module"), &list));
    light_checkpoint_list_free(&list);

    light_shard shard = {.offset = 4};
    light_parameter *to = light_find_parameter(other, "weight");
    assert_ok(light_storage_new(&shard.values, 4 * 20, to->tensor->storage->device));
    to->shard = &shard;
    to->own_begin = 7;
    to->own_end = 20;
    assert_ok(light_checkpoint_load_module(other, at("module"), true));
    float got[13], expected[30];
    light_part held = light_parameter_held(to);
    assert_ok(light_tensor_read(&held.tensor, LIGHT_F32, got, sizeof got));
    assert_ok(light_tensor_read(weight->tensor, LIGHT_F32, expected, sizeof expected));
    assert_memory_equal(got, expected + 7, sizeof got);
    to->shard = NULL;
    light_storage_free(shard.values);
    light_module_free(module);
    light_module_free(other);
}

/* ---- how much is read -------------------------------------------------------------- */

enum { ROWS = 3, COLS = (5 << 20) / 3, BYTES = ROWS * COLS };
static uint8_t large[BYTES];

static void save_large(void)
{
    light_checkpoint_list list = {0};
    light_tensor *t;
    for (int i = 0; i < BYTES; i++) large[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(ROWS, COLS), LIGHT_U8, large));
    assert_ok(light_checkpoint_list_add(&list, "w", t, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "v", t, NULL, NULL));
    assert_ok(save_list(at("large"), &list));
    light_checkpoint_list_free(&list);
    light_tensor_free(t);
}

/* Reads elements of `w` lazily: how many bytes that took, beside those of opening. */
static uint64_t cost_of(int64_t begin, int64_t end, uint64_t *opening)
{
    light_checkpoint *checkpoint;
    light_tensor *to;
    static uint8_t back[BYTES];
    uint64_t before = light_io_bytes_read();
    assert_ok(light_checkpoint_open_lazily(at("large"), &checkpoint));
    *opening = light_io_bytes_read() - before;
    assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(end - begin), LIGHT_U8, back));
    assert_ok(light_checkpoint_read_part(checkpoint, "w", to, begin));
    assert_memory_equal(back, large + begin, (size_t)(end - begin));
    light_tensor_free(to);
    light_checkpoint_close(checkpoint);
    return light_io_bytes_read() - before - *opening;
}

static void only_what_is_needed_is_read(void **unused)
{
    (void)unused;
    const int64_t piece = LIGHT_PIECE_BYTES;
    uint64_t opening;
    light_checkpoint *checkpoint;
    save_large();
    assert_int_equal(cost_of(0, 0, &opening), 0);
    assert_in_range(opening, 1, 8192); /* the manifest and common.h5 */
    assert_int_equal(cost_of(5, 6, &opening), piece);
    assert_int_equal(cost_of(0, BYTES, &opening), BYTES);
    assert_int_equal(cost_of(piece - 1, piece + 1, &opening), 2 * piece);
    assert_int_equal(cost_of(piece, 2 * piece, &opening), piece);
    /* Three boxes, which meet inside of pieces: none is read twice. */
    assert_int_equal(cost_of(100, BYTES - 100, &opening), BYTES);
    assert_int_equal(cost_of(COLS - 10, COLS + 10, &opening), piece);
    /* Opened in full, all of it. */
    uint64_t before = light_io_bytes_read();
    assert_ok(light_checkpoint_open(at("large"), &checkpoint));
    light_checkpoint_close(checkpoint);
    assert_in_range(light_io_bytes_read() - before, 2 * BYTES, 2 * BYTES + 40000);
}

static light_status read_lazily(int64_t begin, int64_t end)
{
    light_checkpoint *checkpoint;
    light_tensor *to;
    static uint8_t back[BYTES];
    assert_ok(light_checkpoint_open_lazily(at("large"), &checkpoint));
    assert_ok(light_tensor_wrap(&to, LIGHT_SHAPE(end - begin), LIGHT_U8, back));
    light_status status = light_checkpoint_read_part(checkpoint, "w", to, begin);
    light_tensor_free(to);
    light_checkpoint_close(checkpoint);
    return status;
}

static void flip_byte_of_w(int64_t element)
{
    unsigned long long offset;
    char *text, *place;
    size_t bytes;
    unsigned char byte;
    assert_ok(light_file_read(at("large/manifest.json"), &text, &bytes));
    place = strstr(strstr(text, "\"w\""), "\"offset\": ");
    assert_int_equal(sscanf(place, "\"offset\": %llu", &offset), 1);
    light_free(text);
    int file = open(at("large/model-00000-of-00001.h5"), O_RDWR);
    assert_int_equal(pread(file, &byte, 1, (off_t)offset + element), 1);
    byte ^= 4;
    assert_int_equal(pwrite(file, &byte, 1, (off_t)offset + element), 1);
    close(file);
}

/* A changed byte is found by whoever reads its piece, and by nobody else. */
static void damage_is_found_when_read(void **unused)
{
    (void)unused;
    const int64_t piece = LIGHT_PIECE_BYTES, bad = 2 * piece + 77;
    save_large();
    flip_byte_of_w(bad);
    assert_ok(read_lazily(0, 2 * piece));
    assert_ok(read_lazily(3 * piece, BYTES));
    const int64_t ranges[][2] = {{bad, bad + 1}, {2 * piece, 2 * piece + 1}, {3 * piece - 1, 3 * piece},
                                 {0, BYTES},     {2 * piece, 3 * piece},     {piece, bad}};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(read_lazily(ranges[i][0], ranges[i][1]), LIGHT_ERR_FORMAT);
        assert_message("model-00000-of-00001.h5");
        assert_message("'w'");
    }
    assert_int_equal(light_checkpoint_open(at("large"), &(light_checkpoint *){0}), LIGHT_ERR_FORMAT);
}

/* Takes the checksums of pieces out of the manifest: what a checkpoint of an older version looks like. */
static void forget_pieces(void)
{
    char *text, *place;
    size_t bytes;
    light_string older = {0};
    assert_ok(light_file_read(at("large/manifest.json"), &text, &bytes));
    text[bytes - LIGHT_MANIFEST_TAIL_BYTES] = '\0';
    const char *from = text;
    int count = 0;
    for (; (place = strstr(from, ", \"pieces\": \"")) != NULL; count++) {
        light_string_append_bytes(&older, from, (size_t)(place - from));
        from = strchr(place + strlen(", \"pieces\": \""), '"') + 1;
    }
    assert_int_equal(count, 2);
    light_string_append(&older, from);
    light_string_printf(&older, LIGHT_MANIFEST_TAIL, light_crc32c(0, older.text, older.length));
    assert_ok(light_file_write_atomic(at("large/manifest.json"), older.text, older.length));
    light_string_free(&older);
    light_free(text);
}

static void older_ones_without_pieces(void **unused)
{
    (void)unused;
    uint64_t opening;
    light_checkpoint *checkpoint;
    save_large();
    forget_pieces();
    assert_ok(light_checkpoint_open(at("large"), &checkpoint));
    light_checkpoint_close(checkpoint);
    /* A little of a chunk means all of it, once, and then again what is wanted of it. */
    assert_int_equal(cost_of(5, 6, &opening), BYTES + 1);
    assert_int_equal(cost_of(100, BYTES - 100, &opening), 2 * BYTES - 200);
    flip_byte_of_w(BYTES - 1);
    assert_int_equal(read_lazily(5, 6), LIGHT_ERR_FORMAT);
    assert_message("'w'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_are_the_range),       cmocka_unit_test(parts_cover_once),
        cmocka_unit_test(ranges_come_back),          cmocka_unit_test(wrong_parts),
        cmocka_unit_test(own_parts_of_modules),      cmocka_unit_test(only_what_is_needed_is_read),
        cmocka_unit_test(damage_is_found_when_read), cmocka_unit_test(older_ones_without_pieces),
    };
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
