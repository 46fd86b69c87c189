/* SPDX-License-Identifier: Apache-2.0 */
/* Data: datasets, transforms, loaders, and the datamodule that brings them together.
 *
 * Who frees what. Datasets are counted: a loader, a split and a concatenation each hold the datasets they read. A
 * dataset opened inside a hook of a datamodule belongs to the datamodule, which frees it: a datamodule needs no free
 * hook for its datasets. One opened anywhere else belongs to the caller, who lets it go with light_dataset_free (at
 * once, when a loader holds it). A loader made by a datamodule's hook is freed by the trainer; any other by whoever
 * made it. */
#ifndef LIGHT_DATA_H
#define LIGHT_DATA_H

#include <light/module.h>
#include <light/option.h>
#include <light/step.h>

#define LIGHT_MAX_FIELDS         8 /* of a sample */
#define LIGHT_MAX_IMAGE_CHANNELS 4 /* with statistics of their own in light_normalize */
#define LIGHT_MAX_TRANSFORMS     8 /* in one light_compose */
#define LIGHT_STREAM_POSITION    4 /* numbers that tell where a stream is */

typedef struct light_dataset light_dataset;
typedef struct light_dataset_vtable light_dataset_vtable;
typedef struct light_stream light_stream;
typedef struct light_loader light_loader;
typedef struct light_datamodule light_datamodule;
typedef struct light_datamodule_vtable light_datamodule_vtable;

/* What training_step and the others get. Valid until the next batch of its loader. */
struct light_batch {
    light_tensor *fields[LIGHT_MAX_FIELDS]; /* [size, ...], on the step's device */
    int num_fields;
    int64_t size; /* samples in it */
    /* Its number in this epoch, from 0. Of several processes each has some of the numbers (docs/distributed.md), and a
     * batch has the same one, with the same samples, for any number of processes. */
    int64_t index;
    int64_t epoch;
    int dataloader_idx;     /* which of several evaluation loaders */
    bool is_last;           /* of this epoch, in this process */
    const int64_t *indices; /* of its samples in the dataset; a stream's samples count from 0 */
    void *user;             /* for transfer hooks; the library leaves it alone */
};

/* ---- datasets ----------------------------------------------------------- */

/* One field of a sample: an image, a label. In a light_host_batch the shape has the batch's size in front. */
typedef struct light_field {
    const char *name; /* for messages; may be NULL */
    light_dtype dtype;
    light_shape shape; /* of one sample; LIGHT_SCALAR for a label */
} light_field;

struct light_dataset {
    const light_dataset_vtable *vtable;
    light_datamodule *owner; /* the rest is the library's */
    int stage;
    int references;
    light_dataset *next_owned;
};

/* A dataset is either map-style (length, get) or a stream (stream_open, stream_next). A user's struct has a
 * light_dataset as its first member. */
struct light_dataset_vtable {
    size_t size; /* the first three by LIGHT_DATASET */
    const char *name;
    size_t instance_size;

    /* Fills fields[0 .. *num_fields) of at most LIGHT_MAX_FIELDS. The same every time. */
    light_status (*describe)(light_dataset *self, light_field *fields, int *num_fields);
    void (*free)(light_dataset *self); /* what the struct holds */

    /* Map-style. get writes sample `index` in [0, length) to to[field], row-major. It and get_batch run in several
     * threads at once. get_batch is the same for n samples, one behind the other; without it get is called n times. */
    int64_t (*length)(light_dataset *self);
    light_status (*get)(light_dataset *self, int64_t index, void *const *to);
    light_status (*get_batch)(light_dataset *self, const int64_t *indices, int64_t n, void *const *to);

    /* Streams: data that comes in an order of its own. The loader opens one stream for each shard of an epoch; the
     * shards together must give every sample once. A stream is used by one thread at a time. */
    size_t stream_size; /* of the user's struct, which has a light_stream as its first member */
    light_status (*stream_open)(light_dataset *self, light_stream *stream);
    light_status (*stream_next)(light_dataset *self, light_stream *stream, void *const *to, bool *end);
    void (*stream_close)(light_dataset *self, light_stream *stream);
    /* Where the stream is, for checkpoints. Without these a resumed stream is read again up to its position. */
    void (*stream_save)(light_dataset *self, light_stream *stream, int64_t position[LIGHT_STREAM_POSITION]);
    light_status (*stream_load)(light_dataset *self, light_stream *stream,
                                const int64_t position[LIGHT_STREAM_POSITION]);
};

#define LIGHT_DATASET(type) .size = sizeof(light_dataset_vtable), .name = #type, .instance_size = sizeof(type)

struct light_stream {
    int shard, num_shards; /* this stream gives the shard-th part of num_shards */
    int64_t epoch;
    uint64_t seed; /* of the run: a stream that shuffles takes its numbers from (seed, epoch) */
};

/* A zeroed instance for the opener of a dataset to fill. */
LIGHT_API light_status light_dataset_new(light_dataset **out, const light_dataset_vtable *vtable);
/* One more holder; returns `dataset`. */
LIGHT_API light_dataset *light_dataset_retain(light_dataset *dataset);
/* One holder less: whoever opened it (outside a datamodule) or retained it. NULL is fine. */
LIGHT_API void light_dataset_free(light_dataset *dataset);

/* Samples; -1 for a stream. */
LIGHT_API int64_t light_dataset_length(light_dataset *dataset);
LIGHT_API light_status light_dataset_describe(light_dataset *dataset, light_field fields[LIGHT_MAX_FIELDS],
                                              int *num_fields);
/* Sample `index` into memory of the caller, one address for each field. */
LIGHT_API light_status light_dataset_get(light_dataset *dataset, int64_t index, void *const *to);

/* The first `first` samples, and the rest, in their order. */
LIGHT_API light_status light_dataset_split(light_dataset *all, int64_t first, light_dataset **a,
                                           light_dataset **b);
/* `first` samples drawn at random by `seed`, and the rest; the same on every machine. */
LIGHT_API light_status light_dataset_random_split(light_dataset *all, int64_t first, uint64_t seed,
                                                  light_dataset **a, light_dataset **b);
/* The samples at n indices (copied), in that order. */
LIGHT_API light_status light_dataset_subset(light_dataset **out, light_dataset *all, const int64_t *indices,
                                            int64_t n);
/* n map-style datasets with the same fields, one behind the other. */
LIGHT_API light_status light_dataset_concat(light_dataset **out, light_dataset *const *parts, int n);

/* Tensors with the same first dimension, on the CPU; sample i is their ith row. They are read, not copied: they must
 * outlive the dataset. */
LIGHT_API light_status light_tensor_dataset_open(light_dataset **out, light_tensor *const *tensors, int n);
/* The same from host memory: arrays[f] holds n samples of fields[f], row-major, and must outlive the dataset. */
LIGHT_API light_status light_memory_dataset_open(light_dataset **out, const light_field *fields,
                                                 int num_fields, int64_t n, const void *const *arrays);

typedef struct light_idx_options {
    char unused_;        /* lets the macro be called without options */
    int64_t num_classes; /* labels must be in [0, num_classes); 0: any */
} light_idx_options;

/* Two IDX files of a folder, each plain or with .gz behind its name: images (u8 [1, H, W]; more dims stay as they
 * are) and labels (i64). Read into memory. LeCun's format: http://yann.lecun.com/exdb/mnist */
#define light_idx_dataset_open(out, root, images, ...)                                                       \
    light_idx_dataset_open_(out, root, images, __VA_ARGS__, )
#define light_idx_dataset_open_(out, root, images, labels, ...)                                              \
    light_idx_dataset_open_with(out, root, images, labels, &(light_idx_options){.unused_ = 0, __VA_ARGS__})
LIGHT_API light_status light_idx_dataset_open_with(light_dataset **out, const char *root, const char *images,
                                                   const char *labels, const light_idx_options *options);

/* n datasets of an HDF5 file, such as "/images" and "/labels", with the same first dimension. Read when asked for:
 * contiguous ones straight from the file, chunked ones through HDF5. Integers of other sizes become i32 or i64. */
LIGHT_API light_status light_hdf5_dataset_open(light_dataset **out, const char *path,
                                               const char *const *names, int n);

typedef struct light_csv_options {
    char unused_;             /* lets the macro be called without options */
    const char *target;       /* the column that becomes field 1; default: the last one */
    bool no_target;           /* all columns are field 0, and there is no field 1 */
    light_dtype target_dtype; /* default f32; LIGHT_I64 for class labels, which must be whole numbers */
    int64_t num_classes;      /* i64 targets must be in [0, num_classes); 0: any */
    char delimiter;           /* default ',' */
    light_switch header;      /* default: there is one when a cell of the first line is no number */
} light_csv_options;

/* A CSV file of numbers: field 0 is f32 [columns], field 1 the target, a scalar. Read into memory. */
#define light_csv_dataset_open(out, ...) light_csv_dataset_open_(out, __VA_ARGS__, )
#define light_csv_dataset_open_(out, path, ...)                                                              \
    light_csv_dataset_open_with(out, path, &(light_csv_options){.unused_ = 0, __VA_ARGS__})
LIGHT_API light_status light_csv_dataset_open_with(light_dataset **out, const char *path,
                                                   const light_csv_options *options);

typedef struct light_text_options {
    int64_t block_size; /* tokens in a sample; must be given */
    int64_t stride;     /* between the starts of samples; default block_size: every token once */
    int token_bytes;    /* 1, 2 or 4, little-endian; default 1: the file's bytes */
    bool characters;    /* with bytes: numbers them 0, 1, .. by value, only those that occur */
    double start,
        end; /* the part of the file to use, 0 .. 1; default all: .end = 0.9 for training, .start = 0.9 */
} light_text_options;

/* Windows of a file of bytes or tokens, for language models: x, i64 [block_size], and y, the same one token on. */
#define light_text_dataset_open(out, path, ...)                                                              \
    light_text_dataset_open_with(out, path, &(light_text_options){__VA_ARGS__})
LIGHT_API light_status light_text_dataset_open_with(light_dataset **out, const char *path,
                                                    const light_text_options *options);
/* With .characters: how many there are (256 without), and in bytes[] which byte each number stands for. */
LIGHT_API int light_text_dataset_vocabulary(light_dataset *dataset, uint8_t bytes[256]);

typedef struct light_image_folder_options {
    char unused_;      /* lets the macro be called without options */
    int height, width; /* every image is scaled to this; default: all have the first one's size */
    bool keep_aspect;  /* scale until the image covers height x width, then cut out the middle */
} light_image_folder_options;

/* A folder with one folder of PNG and JPEG images for each class, classes and files in the order of their names:
 * RGB, u8 [3, H, W], and the class, i64. Decoded when asked for. */
#define light_image_folder_open(out, ...) light_image_folder_open_(out, __VA_ARGS__, )
#define light_image_folder_open_(out, root, ...)                                                             \
    light_image_folder_open_with(out, root, &(light_image_folder_options){.unused_ = 0, __VA_ARGS__})
LIGHT_API light_status light_image_folder_open_with(light_dataset **out, const char *root,
                                                    const light_image_folder_options *options);
/* The classes' names, which belong to the dataset. Returns how many there are. */
LIGHT_API int light_image_folder_classes(light_dataset *dataset, const char *const **names);

/* ---- transforms --------------------------------------------------------- */

/* A batch in host memory, as transforms and collate functions see it. */
typedef struct light_host_batch {
    light_field fields[LIGHT_MAX_FIELDS]; /* shapes [size, ...] */
    void *data[LIGHT_MAX_FIELDS];         /* row-major */
    size_t capacity[LIGHT_MAX_FIELDS];    /* bytes behind data */
    int num_fields;
    int64_t size;
    const int64_t *indices;
    uint64_t seed; /* of the run */
    int64_t epoch;
} light_host_batch;

/* Random number `n` of sample `i` of the batch, in [0, 1). It depends on seed, epoch, the sample's index and n alone:
 * not on workers, order or batch size. The library's own transforms use other numbers. */
LIGHT_API double light_sample_uniform(const light_host_batch *batch, int64_t i, uint32_t n);

/* A chain of transforms: a value, which owns nothing. They run in the loader's threads, on whole batches. */
typedef struct light_transform_kind light_transform_kind;
typedef struct light_transform_step {
    const light_transform_kind *kind;
    int field;
    float means[LIGHT_MAX_IMAGE_CHANNELS], stds[LIGHT_MAX_IMAGE_CHANNELS];
    double number;
    int64_t sizes[4];
    light_dtype dtype;
    light_status (*function)(void *user, light_host_batch *batch);
    void *user;
} light_transform_step;
typedef struct light_transform {
    int count;
    light_transform_step steps[LIGHT_MAX_TRANSFORMS];
} light_transform;

typedef struct light_normalize_options {
    char unused_;    /* lets the macro be called without options */
    float mean, std; /* of the values, where a u8's 0 .. 255 counts as 0 .. 1; default 0 and 1 */
    float means[LIGHT_MAX_IMAGE_CHANNELS], stds[LIGHT_MAX_IMAGE_CHANNELS]; /* of each channel of [C, ..] */
} light_normalize_options;

/* (x - mean) / std as f32; u8 is divided by 255 before. Torchvision: ToTensor and Normalize. */
#define light_normalize(...) light_normalize_(__VA_ARGS__, )
#define light_normalize_(field, ...)                                                                         \
    light_normalize_with(field, &(light_normalize_options){.unused_ = 0, __VA_ARGS__})
LIGHT_API light_transform light_normalize_with(int field, const light_normalize_options *options);
/* Converts; values are not scaled. Floating to integer cuts off. */
LIGHT_API light_transform light_convert_field(int field, light_dtype dtype);
/* Mirrors the last dim of [.., W] with this probability, by sample. */
LIGHT_API light_transform light_random_horizontal_flip(int field, double probability);
/* Puts `padding` zeros around [.., H, W] and cuts height x width out at a random place, by sample. height and width 0:
 * the size that it was. */
LIGHT_API light_transform light_random_crop(int field, int64_t height, int64_t width, int64_t padding);
/* Your own: changes values in place; dtypes and shapes stay. `user` must outlive the loader. */
LIGHT_API light_transform light_transform_with(light_status (*function)(void *user, light_host_batch *batch),
                                               void *user);
/* One after the other: light_compose(light_random_crop(..), light_normalize(..)). */
#define light_compose(...)                                                                                   \
    light_compose_with((const light_transform[]){__VA_ARGS__},                                               \
                       (int)(sizeof((const light_transform[]){__VA_ARGS__}) / sizeof(light_transform)))
LIGHT_API light_transform light_compose_with(const light_transform *transforms, int n);

/* ---- loaders ------------------------------------------------------------ */

/* Your own order. at(user, epoch, position) gives the index of the sample at a position in [0, length): a function,
 * so that any place of an epoch can be resumed. */
typedef struct light_sampler {
    int64_t (*at)(void *user, int64_t epoch, int64_t position);
    int64_t length; /* default: the dataset's */
    void *user;
} light_sampler;

/* Your own way from samples to a batch, for samples of different lengths. `plan` gets the fields of one sample and sets
 * the fields of the largest batch, shapes [batch_size, ...]. `collate` gets the samples as [size, ...] and fills
 * out->data; it may make out->fields[].shape smaller. Without it samples are stacked. */
typedef struct light_collate {
    light_status (*plan)(void *user, int64_t batch_size, const light_field *sample, int num_sample,
                         light_field *batch, int *num_batch);
    light_status (*collate)(void *user, const light_host_batch *samples, light_host_batch *out);
    void *user;
} light_collate;

typedef struct light_loader_options {
    int64_t batch_size; /* samples in a batch; must be given */
    bool shuffle;       /* a new random order in every epoch: a function of (seed, epoch) */
    int num_workers;    /* threads; 0 loads in the calling thread */
    bool drop_last;     /* leaves out a last batch that is not full */
    int prefetch;       /* batches that may be ready ahead; default 2 a worker, small ones more */
    light_transform transform;
    light_collate collate;
    light_sampler sampler; /* instead of shuffle */
    int shards;    /* of a stream: batches come from them in turn; default 1; at least one for each process */
    uint64_t seed; /* default: the trainer's */
} light_loader_options;

/* A loader over `dataset`, which it holds. NULL after a failure. The batches are the same for any number of workers. */
#define light_loader_new(dataset, ...) light_loader_new_with(dataset, &(light_loader_options){__VA_ARGS__})
LIGHT_API light_loader *light_loader_new_with(light_dataset *dataset, const light_loader_options *options);
/* With the loaders chained to it. May be called at any time, also while workers load. NULL is fine. */
LIGHT_API void light_loader_free(light_loader *loader);
/* Several evaluation loaders, for a hook to return: the batches of `second` follow, with the next dataloader_idx.
 * Returns `first`; when one is NULL, frees the other and returns NULL. */
LIGHT_API light_loader *light_loader_chain(light_loader *first, light_loader *second);
/* Batches in an epoch, of all processes; -1 for a stream. */
LIGHT_API int64_t light_loader_num_batches(const light_loader *loader);

/* For a loop of your own (the trainer does this itself):
 *     LIGHT_TRY(light_loader_begin(loader, epoch, 0));
 *     for (;;) {
 *         LIGHT_TRY(light_step_begin(s));
 *         LIGHT_TRY(light_loader_next(loader, s, &batch));
 *         if (batch.size == 0) break;
 *         ...
 *     }
 * Starts an epoch at one of its batches; what was under way is dropped. */
LIGHT_API light_status light_loader_begin(light_loader *loader, int64_t epoch, int64_t first_batch);
/* The next batch, as tensors of the step; size 0 behind the last one. Its memory is used again by the next call. A
 * failure in a worker comes out here, at its own batch. */
LIGHT_API light_status light_loader_next(light_loader *loader, light_step *s, light_batch *out);

/* ---- datamodules -------------------------------------------------------- */

struct light_datamodule {
    const light_datamodule_vtable *vtable;
    light_dataset *datasets; /* opened by its hooks; freed with it, or when their stage is set up anew */
    void *user;              /* for the user; the library leaves it alone */
};

/* All hooks are optional. They are Lightning's. */
struct light_datamodule_vtable {
    size_t size; /* the first three by LIGHT_DATAMODULE */
    const char *name;
    size_t instance_size;
    const light_option *options; /* of the user's struct; NULL: none */

    /* Downloads, unpacks: once per node, before setup; it may not set fields. */
    light_status (*prepare_data)(light_datamodule *self);
    /* Opens datasets. FIT: those of training and validation. When a stage is set up a second time, what its first
     * setup opened is freed after it, if it opened anything. */
    light_status (*setup)(light_datamodule *self, light_stage stage);
    void (*teardown)(light_datamodule *self, light_stage stage);
    void (*free)(light_datamodule *self); /* what the struct holds, datasets excepted */

    /* A new loader, or several as light_loader_chain(a, b). The trainer frees it. NULL without a failure: none. */
    light_loader *(*train_dataloader)(light_datamodule *self);
    light_loader *(*val_dataloader)(light_datamodule *self);
    light_loader *(*test_dataloader)(light_datamodule *self);
    light_loader *(*predict_dataloader)(light_datamodule *self);

    /* Around the way to the device. They may replace batch->fields by tensors of the step. */
    light_status (*on_before_batch_transfer)(light_datamodule *self, light_step *s, light_batch *batch);
    light_status (*transfer_batch_to_device)(light_datamodule *self, light_step *s, light_batch *batch);
    light_status (*on_after_batch_transfer)(light_datamodule *self, light_step *s, light_batch *batch);

    /* A run has failed with `status`; light_error_message says why. */
    void (*on_exception)(light_datamodule *self, light_status status);
    /* What the datamodule wants in a checkpoint beside its options and the loader's position. */
    light_status (*save_state)(light_datamodule *self, light_state *state);
    light_status (*load_state)(light_datamodule *self, const light_state *state);
};

#define LIGHT_DATAMODULE(type)                                                                               \
    .size = sizeof(light_datamodule_vtable), .name = #type, .instance_size = sizeof(type)

/* An instance with default options. NULL when out of memory or with a broken vtable. */
LIGHT_API light_datamodule *light_datamodule_new(const light_datamodule_vtable *vtable);
/* With its datasets; loaders that are still there keep theirs. NULL is fine. */
LIGHT_API void light_datamodule_free(light_datamodule *data);

#endif
