/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: folders that hold tensors and a state tree, complete and checksummed or not there at all.
 *
 * The Trainer writes and reads them by itself. These calls are for programs that want the weights alone:
 *
 *     LIGHT_TRY(light_checkpoint_load_module(&model->base, "runs/7/best", true));
 *
 * or want to look inside. The format is described in docs/checkpoint-format.md; h5py reads the files. */
#ifndef LIGHT_CHECKPOINT_H
#define LIGHT_CHECKPOINT_H

#include <light/module.h>
#include <light/state.h>
#include <light/tensor.h>

typedef struct light_checkpoint light_checkpoint;

/* One tensor of a checkpoint. The shape is the global one, however many processes wrote it. */
typedef struct light_checkpoint_tensor {
    const char *name; /* "model/conv1.weight"; belongs to the checkpoint */
    light_dtype dtype;
    light_shape shape;
} light_checkpoint_tensor;

/* Opens a checkpoint after checking every byte of it against its checksums. The files stay open, so that the
 * checkpoint may be replaced or removed meanwhile. Errors name the file and what is wrong with it:
 * LIGHT_ERR_NOT_FOUND there is none at `path`, LIGHT_ERR_FORMAT incomplete, damaged or of a newer version,
 * LIGHT_ERR_IO it cannot be read. Free with light_checkpoint_close. */
LIGHT_API light_status light_checkpoint_open(const char *path, light_checkpoint **out);
/* The same without reading all of it: the manifest, the state, and that all files are there in their sizes. What is read
 * of tensors is compared with the checksums of its pieces (1 MiB) then, and no more is read. For who needs a part of a
 * large one, such as one of several processes. */
LIGHT_API light_status light_checkpoint_open_lazily(const char *path, light_checkpoint **out);
LIGHT_API void light_checkpoint_close(light_checkpoint *checkpoint); /* NULL is fine */

LIGHT_API const char *light_checkpoint_path(const light_checkpoint *checkpoint);
/* Optimizer steps and epochs of training before it was written. */
LIGHT_API int64_t light_checkpoint_step(const light_checkpoint *checkpoint);
LIGHT_API int64_t light_checkpoint_epoch(const light_checkpoint *checkpoint);
/* The state tree, which belongs to the checkpoint. Never NULL. */
LIGHT_API const light_state *light_checkpoint_state(const light_checkpoint *checkpoint);

/* Tensors by index below light_checkpoint_tensor_count, in the order in which they were saved, and by name.
 * False when there is none. */
LIGHT_API size_t light_checkpoint_tensor_count(const light_checkpoint *checkpoint);
LIGHT_API bool light_checkpoint_tensor_at(const light_checkpoint *checkpoint, size_t index,
                                          light_checkpoint_tensor *out);
LIGHT_API bool light_checkpoint_find(const light_checkpoint *checkpoint, const char *name,
                                     light_checkpoint_tensor *out);

/* Fills `to` with the slice of tensor `name` that begins at `start`, one index per dim, and has the shape of `to`.
 * NULL: the whole tensor, whose shape `to` must have. Values are converted to the dtype of `to`. */
LIGHT_API light_status light_checkpoint_read(const light_checkpoint *checkpoint, const char *name,
                                             light_tensor *to, const int64_t *start);

/* Fills `to`, a gapless tensor that is 1-d or has the shape of the whole, with the elements from `begin` on, in row-major
 * order, of tensor `name`. */
LIGHT_API light_status light_checkpoint_read_part(const light_checkpoint *checkpoint, const char *name,
                                                  light_tensor *to, int64_t begin);

/* Compares the tensors below `prefix` ("model") with the parameters and persistent buffers of `module`, a built one:
 * names, global shapes, dtypes. LIGHT_ERR_FORMAT lists what is missing, unexpected and different. */
LIGHT_API light_status light_checkpoint_match(const light_checkpoint *checkpoint, light_module *module,
                                              const char *prefix);
/* Reads those tensors into the module. strict: light_checkpoint_match first, so that no weight is touched unless all
 * fit. Not strict: names on one side only are left alone; shapes have to agree still. */
LIGHT_API light_status light_checkpoint_read_module(const light_checkpoint *checkpoint, light_module *module,
                                                    const char *prefix, bool strict);

/* Weights only, in one call: open, read below "model", close. */
LIGHT_API light_status light_checkpoint_load_module(light_module *module, const char *path, bool strict);
/* A checkpoint of the parameters and persistent buffers, on disk when this returns. A checkpoint that stands at `path`
 * is replaced; it stays as it was on failure. */
LIGHT_API light_status light_checkpoint_save_module(light_module *module, const char *path);

/* The newest undamaged checkpoint right inside `folder` into *path (light_free_text). Damaged ones are passed over
 * with a warning. LIGHT_ERR_NOT_FOUND when there is none. */
LIGHT_API light_status light_checkpoint_newest(const char *folder, char **path);
/* What the manifest says of the checkpoint at `path`, without reading the rest. */
typedef struct light_checkpoint_about {
    int64_t created_ns; /* since 1970, by the writer's clock */
    int64_t step, epoch;
    int64_t writers; /* processes that wrote it */
    uint64_t bytes;
} light_checkpoint_about;
LIGHT_API light_status light_checkpoint_peek(const char *path, light_checkpoint_about *out);
/* One HDF5 file with all tensors of a checkpoint, each whole, under its name; the state stays behind. `file` is there in
 * the end or as it was before. Takes little memory, however large the tensors are. */
LIGHT_API light_status light_checkpoint_merge(const char *path, const char *file);
/* Removes the checkpoint at `path`. It disappears at once; nothing that is not a checkpoint is removed. */
LIGHT_API light_status light_checkpoint_remove(const char *path);

/* Frees a text that one of these calls handed over. NULL is fine. */
LIGHT_API void light_free_text(char *text);

#endif
