/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: the vtable that a model is written against, and the tree of modules, parameters and buffers.
 *
 * A user's struct has a light_module as its first member and a vtable made with LIGHT_MODULE; a hook left out means
 * the default that stands at it. Hooks, their names and their order are Lightning's. */
#ifndef LIGHT_MODULE_H
#define LIGHT_MODULE_H

#include <light/option.h>
#include <light/step.h>

typedef struct light_module light_module;
typedef struct light_module_vtable light_module_vtable;
typedef struct light_trainer light_trainer;
typedef struct light_optimizers light_optimizers;
typedef struct light_batch light_batch;
typedef struct light_state light_state;

typedef enum light_stage {
    LIGHT_STAGE_FIT = 1,
    LIGHT_STAGE_VALIDATE,
    LIGHT_STAGE_TEST,
    LIGHT_STAGE_PREDICT
} light_stage;

/* How a new parameter is filled. */
typedef struct light_init {
    enum { LIGHT_INIT_ZEROS_, LIGHT_INIT_CONSTANT_, LIGHT_INIT_UNIFORM_, LIGHT_INIT_NORMAL_ } kind;
    double a, b; /* constant; bounds; mean and standard deviation */
} light_init;
#define LIGHT_INIT_ZEROS              ((light_init){LIGHT_INIT_ZEROS_, 0, 0})
#define LIGHT_INIT_ONES               ((light_init){LIGHT_INIT_CONSTANT_, 1, 0})
#define LIGHT_INIT_CONSTANT(value)    ((light_init){LIGHT_INIT_CONSTANT_, (value), 0})
#define LIGHT_INIT_UNIFORM(low, high) ((light_init){LIGHT_INIT_UNIFORM_, (low), (high)})
#define LIGHT_INIT_NORMAL(mean, std)  ((light_init){LIGHT_INIT_NORMAL_, (mean), (std)})

/* A parameter or a buffer of a module. */
typedef struct light_parameter {
    const char *name;     /* "weight" */
    const char *path;     /* "blocks.3.attn.qkv.weight", set when the tree is built */
    light_tensor *tensor; /* belongs to the module */
    light_module *module;
    bool is_buffer;  /* no gradient; saved with the weights when persistent */
    bool persistent; /* parameters always are */
    /* The elements, in row-major order, that this process updates and saves: [own_begin, own_end). Alone: all. */
    int64_t own_begin, own_end;
    struct light_shard *shard;       /* where they lie when no more of it is kept here; NULL: in the tensor */
    light_init init;                 /* its first values */
    struct light_parameter *tied_to; /* another name of that one; walks pass it by */
    struct light_parameter *next;    /* of the same module */
} light_parameter;

struct light_module {
    const light_module_vtable *vtable;
    const char *name; /* in its parent: "conv1"; the root's is "" */
    const char *path; /* "blocks.3.attn"; "" for the root */
    light_module *parent, *first_child, *last_child, *next;
    light_parameter *first_parameter, *last_parameter;
    bool training;                       /* train mode, light_train / light_eval */
    bool built;                          /* init has run */
    bool owned;                          /* allocated by light_module_new */
    bool shard_unit;                     /* light_module_shard_unit */
    light_dtype dtype;                   /* of new parameters; children take their parent's. Default f32 */
    uint64_t seed;                       /* of the initialisation, while init runs */
    void *user;                          /* for the user; the library leaves it alone */
    struct light_flat *flat;             /* of the root: where the parameters lie */
    struct light_module_block *blocks;   /* light_module_calloc */
    struct light_module_vtable *widened; /* full-size copy of an older program's smaller vtable */
};

struct light_module_vtable {
    size_t size; /* sizeof(light_module_vtable) of the program's build; the first four by LIGHT_MODULE */
    const char *name;
    size_t instance_size;
    const light_option *options; /* hyperparameters; NULL: none */
    bool manual_optimization;    /* training_step calls backward and the optimizers itself */

    /* Makes children and parameters (light_linear_init, light_add_parameter, ...). Runs once, after options are set. */
    light_status (*init)(light_module *self);
    /* Frees what the struct holds beside children and parameters. */
    void (*free)(light_module *self);

    light_tensor *(*forward)(light_module *self, light_step *s, light_tensor *x);
    /* The loss, a scalar. NULL skips the batch (or, with manual_optimization, is the rule). */
    light_tensor *(*training_step)(light_module *self, light_step *s, const light_batch *batch);
    void (*validation_step)(light_module *self, light_step *s, const light_batch *batch);
    void (*test_step)(light_module *self, light_step *s, const light_batch *batch);
    light_tensor *(*predict_step)(light_module *self, light_step *s,
                                  const light_batch *batch); /* forward(fields[0]) */
    light_status (*configure_optimizers)(light_module *self, light_optimizers *out);

    /* Moments. The trainer may be asked and stopped in all of them. */
    void (*setup)(light_module *self, light_trainer *t, light_stage stage);
    void (*teardown)(light_module *self, light_trainer *t, light_stage stage);
    void (*on_fit_start)(light_module *self, light_trainer *t);
    void (*on_fit_end)(light_module *self, light_trainer *t);
    void (*on_train_start)(light_module *self, light_trainer *t);
    void (*on_train_end)(light_module *self, light_trainer *t);
    void (*on_train_epoch_start)(light_module *self, light_trainer *t);
    void (*on_train_epoch_end)(light_module *self, light_trainer *t);
    /* false skips the rest of the epoch (Lightning: return -1) */
    bool (*on_train_batch_start)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_train_batch_end)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_validation_start)(light_module *self, light_trainer *t);
    void (*on_validation_end)(light_module *self, light_trainer *t);
    void (*on_validation_epoch_start)(light_module *self, light_trainer *t);
    void (*on_validation_epoch_end)(light_module *self, light_trainer *t);
    void (*on_validation_batch_start)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_validation_batch_end)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_test_start)(light_module *self, light_trainer *t);
    void (*on_test_end)(light_module *self, light_trainer *t);
    void (*on_test_epoch_start)(light_module *self, light_trainer *t);
    void (*on_test_epoch_end)(light_module *self, light_trainer *t);
    void (*on_test_batch_start)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_test_batch_end)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_predict_start)(light_module *self, light_trainer *t);
    void (*on_predict_end)(light_module *self, light_trainer *t);
    void (*on_predict_epoch_start)(light_module *self, light_trainer *t);
    void (*on_predict_epoch_end)(light_module *self, light_trainer *t);
    void (*on_predict_batch_start)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_predict_batch_end)(light_module *self, light_trainer *t, const light_batch *batch);
    void (*on_before_zero_grad)(light_module *self, light_trainer *t);
    void (*on_before_backward)(light_module *self, light_trainer *t, light_tensor *loss);
    void (*on_after_backward)(light_module *self, light_trainer *t);
    void (*on_before_optimizer_step)(light_module *self, light_trainer *t);
    /* Changes the accumulated gradients before the optimizer; default: the trainer's gradient_clip_val. */
    light_status (*configure_gradient_clipping)(light_module *self, light_trainer *t);

    /* What the module wants in a checkpoint beside parameters, buffers and options. */
    light_status (*save_state)(light_module *self, light_state *state);
    light_status (*load_state)(light_module *self, const light_state *state);
};

#define LIGHT_MODULE(type) .size = sizeof(light_module_vtable), .name = #type, .instance_size = sizeof(type)

/* ---- the tree ----------------------------------------------------------- */

/* An instance with default options, its init not yet run. NULL when out of memory or with a broken vtable. */
LIGHT_API light_module *light_module_new(const light_module_vtable *vtable);
LIGHT_API void light_module_free(light_module *module); /* with children and parameters; NULL is fine */

/* Runs init unless it has run, sets all paths and lays the parameters into flat memory. `seed` decides the initial
 * values, each by its own path: adding a layer does not change the others. The trainer does this itself. */
LIGHT_API light_status light_module_build(light_module *module, uint64_t seed);

/* Moves a built root's parameters and buffers, with their gradients, to `device` (NULL: the default device); what points to
 * their tensors stays right. All of them move, or after an error none. The trainer does this itself. Not inside a step that
 * has used them. An optimizer that was made before keeps its state where it was, so its next step is refused. */
LIGHT_API light_status light_module_to(light_module *module, light_device *device);

/* Makes `child`, a zeroed struct with a light_module first, a child called `name` (NULL: its index in the parent), sets
 * default options and runs its init. What the light_*_init of the shipped modules call. Without a parent it becomes a
 * root, whose init runs in light_module_build. */
LIGHT_API light_status light_module_add(light_module *child, const light_module_vtable *vtable,
                                        light_module *parent, const char *name);

/* A new parameter of `self`; *slot stays valid and belongs to the module. Call it in init. */
LIGHT_API light_status light_add_parameter(light_module *self, light_tensor **slot, const char *name,
                                           light_shape shape, light_init init);
/* A new buffer: no gradient. Saved with the weights when persistent. */
LIGHT_API light_status light_add_buffer(light_module *self, light_tensor **slot, const char *name,
                                        light_shape shape, light_dtype dtype, light_init init,
                                        bool persistent);
/* Makes `name` of `self` the same parameter as `of` (tied weights); a parameter that had this name goes. It is saved
 * once, under its first path. */
LIGHT_API light_status light_tie_parameter(light_module *self, light_tensor **slot, const char *name,
                                           light_tensor *of);

/* Fills the parameter or buffer called `name` of `module` anew, say with another distribution than a shipped module's. */
LIGHT_API light_status light_init_parameter(light_module *module, const char *name, light_init init);
/* Zeroed memory that goes with the module, after its children: for arrays of children, say. NULL when out of memory. */
LIGHT_API void *light_module_calloc(light_module *self, size_t count, size_t size);

/* Runs the module's forward; errors inside carry its path. */
LIGHT_API light_tensor *light_forward(light_step *s, light_module *module, light_tensor *x);

/* Train and eval mode of a module and all below it. */
LIGHT_API void light_train(light_module *module);
LIGHT_API void light_eval(light_module *module);
/* Stops and starts gradients of all parameters below. */
LIGHT_API void light_freeze(light_module *module);
LIGHT_API void light_unfreeze(light_module *module);

/* Marks a module, such as a block of a transformer, as a unit of sharding: strategies fsdp, zero1, zero2 and zero3 gather
 * and reduce its parameters together, apart from others. Without marks they go by size. Call it in init. */
LIGHT_API void light_module_shard_unit(light_module *module);

/* Walks modules (the root first) and parameters and buffers, depth first, in the order of creation.
 *     for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) ... */
LIGHT_API light_module *light_next_module(light_module *root, light_module *after);
LIGHT_API light_parameter *light_next_parameter(light_module *root, light_parameter *after);
/* By path: "blocks.3.attn.qkv.weight", "blocks.3". NULL when there is none. */
LIGHT_API light_parameter *light_find_parameter(light_module *root, const char *path);
LIGHT_API light_module *light_find_module(light_module *root, const char *path);
/* Elements in all parameters below, buffers not counted. */
LIGHT_API int64_t light_count_parameters(light_module *root, bool trainable_only);

/* A set of parameters, for an optimizer's group. A value: it holds the root and a filter, no memory. */
typedef struct light_parameter_set {
    light_module *root;
    bool (*accepts)(const light_parameter *p, void *user); /* NULL: all */
    void *user;
} light_parameter_set;
LIGHT_API light_parameter_set light_parameters(light_module *root);
LIGHT_API light_parameter_set light_parameters_where(light_module *root,
                                                     bool (*accepts)(const light_parameter *, void *),
                                                     void *user);

#endif
