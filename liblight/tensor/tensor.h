/* SPDX-License-Identifier: Apache-2.0 */
/* The structs behind light_tensor: storage (memory on a device) and tensor (a strided window on it). */
#ifndef LIGHT_TENSOR_TENSOR_H
#define LIGHT_TENSOR_TENSOR_H

#include <light/tensor.h>

typedef struct light_node light_node;

/* Looks after the memory of parameters for a strategy: values that are elsewhere until somebody reads them, gradients
 * that go on to other processes once they are complete. */
typedef struct light_keeper light_keeper;
struct light_keeper {
    bool here;       /* the values are in memory */
    bool grads_here; /* so is room for the gradients */
    /* Brings the values, or the room. Called before an operation reads (`s` NULL: the user does, outside of one), and before a
     * backward pass first writes. */
    light_status (*fetch)(light_keeper *keeper, light_step *s);
    light_status (*fetch_grads)(light_keeper *keeper, light_step *s);
    /* The backward pass has passed the last use of `leaf`; its gradient may be there or not. */
    void (*ready)(light_keeper *keeper, light_step *s, light_tensor *leaf);
};

/* The 16-bit copy of all elements of a storage, for mixed precision. Optimizers write both, so that it is made anew only
 * after somebody else has written the values: see light_step_lowered. */
typedef struct light_lowered {
    struct light_storage *storage;
    light_dtype dtype;
    uint32_t version; /* of the values when it was made */
    uint64_t serial;  /* of the step when it was made */
    bool made;
} light_lowered;

/* Memory on one device. In a step it is counted: one for the user, one for each node and gradient that needs it, and at
 * zero it goes back to the step's arena. An owned tensor's storage belongs to that tensor alone. */
typedef struct light_storage {
    void *data;
    size_t bytes;
    light_device *device;
    int32_t refs;
    int32_t block;          /* arena block, or -1: not from the arena */
    uint32_t version;       /* counts writes in place, so that a saved tensor that was changed is noticed */
    bool borrowed;          /* the memory is somebody else's */
    bool released;          /* gone back to the arena: reading it is an error */
    bool user_holds;        /* one of refs is the user's, dropped when backward begins */
    bool exposed;           /* light_data gave the address away: it may be written at any time */
    light_lowered *lowered; /* of a buffer of parameters, or NULL */
    light_keeper *keeper;   /* of one too; its lowered copy may have another */
    struct light_storage *next; /* all storages of the step */
} light_storage;

struct light_tensor {
    light_storage *storage;
    char *data;       /* storage->data + offset in bytes */
    light_step *step; /* NULL: owned */
    int64_t numel;
    uint8_t dtype; /* light_dtype */
    uint8_t ndim;
    bool requires_grad;
    bool contiguous;   /* row-major without gaps */
    uint8_t out_index; /* which output of `node` */
    bool owns_storage; /* an owned tensor frees its storage with it */
    bool consumed;     /* an operation in place took its memory: not to be used again */
    bool grad_fresh;   /* leaf: the gradient holds nothing, the next contribution overwrites */
    int32_t uses;      /* leaf: nodes on the tape that will contribute to the gradient */
    int64_t shape[LIGHT_MAX_DIMS];
    int64_t strides[LIGHT_MAX_DIMS]; /* in elements */
    light_node *node;                /* made it, on the tape; NULL: a leaf */
    light_tensor *grad;              /* leaf: its gradient, owned; else while backward runs */
    light_grad_hook hook;
    void *hook_user;
    light_tensor *lowered;     /* leaf: its part of storage->lowered, owned; NULL: there is none */
    light_tensor *master;      /* the leaf whose lowered part this is; it has the gradient */
    light_tensor *narrow_grad; /* of a lowered part, while one node's backward runs */
    light_tensor *cast;        /* of data: its copy in the step `cast_step` */
    uint64_t cast_step;
    uint32_t cast_version; /* of the storage then */
};

/* What an operation's output looks like. strides NULL: row-major. */
typedef struct light_spec {
    light_dtype dtype;
    light_shape shape;
    bool channels_last; /* [N, C, H, W] in N, H, W, C memory order */
} light_spec;

void light_tensor_set_shape(light_tensor *t, light_shape shape);         /* row-major strides */
void light_tensor_set_channels_last(light_tensor *t, light_shape shape); /* 4-d */
bool light_tensor_is_channels_last(const light_tensor *t);               /* 4-d and dense in NHWC order */
bool light_tensor_is_dense(
    const light_tensor *t); /* its elements fill one gapless range in some order of dims */
bool light_tensor_same_layout(const light_tensor *a, const light_tensor *b); /* equal shapes and strides */
void light_tensor_refresh(light_tensor *t); /* after a change of shape or strides: numel, contiguous */

/* The device's lasting memory for `bytes`, zeroed. */
light_status light_storage_new(light_storage **out, size_t bytes, light_device *device);
void light_storage_free(light_storage *storage);
/* Copies contents, of any strides and dtypes, between tensors of one device and shape. */
light_status light_device_copy(light_device *device, light_tensor *to, const light_tensor *from);
/* An owned tensor over part of a storage that somebody else owns (flat parameter buffers). */
light_status light_tensor_new_view(light_tensor **out, light_storage *storage, size_t byte_offset,
                                   light_shape shape, light_dtype dtype);
/* Makes t's part of t->storage->lowered, at the same elements. */
light_status light_tensor_lower(light_tensor *t);
/* Moves an owned tensor, with its contents, to other memory. The old storage is freed. */
light_status light_tensor_rebase(light_tensor *t, light_storage *storage, size_t byte_offset);

/* The leaf that stands for t: itself, or the parameter that it is the 16-bit copy of. */
static inline light_tensor *light_leaf(light_tensor *t)
{
    return t->master ? t->master : t;
}

/* Normalises a dim, negative from the end. False when out of range. */
static inline bool light_normalize_dim(int *dim, int ndim)
{
    if (*dim < 0) *dim += ndim;
    return *dim >= 0 && *dim < ndim;
}

#endif
