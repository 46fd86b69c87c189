/* SPDX-License-Identifier: Apache-2.0 */
/* light_embedding: rows of a table by index. */
#include "nn/modules.h"

#include "tensor/tensor.h"

/* -1: none. */
static int64_t padding_row(const light_embedding_options *o)
{
    return o->padding_idx == LIGHT_PADDING_ZERO ? 0 : o->padding_idx == 0 ? -1 : o->padding_idx;
}

static light_status zero_row(light_tensor *weight, int64_t row, int64_t width)
{
    light_tensor *view;
    size_t offset = (size_t)(row * width) * light_dtype_size(light_dtype_of(weight));
    LIGHT_TRY(
        light_tensor_new_view(&view, weight->storage, offset, LIGHT_SHAPE(width), light_dtype_of(weight)));
    light_status status = light_init_fill(view, LIGHT_INIT_ZEROS, 0, "");
    light_tensor_free(view);
    return status;
}

static light_status embedding_init(light_module *self)
{
    light_embedding *m = (light_embedding *)self;
    const light_embedding_options *o = &m->options;
    LIGHT_TRY(light_nn_positive(self, "rows", o->rows));
    LIGHT_TRY(light_nn_positive(self, "width", o->width));
    int64_t padding = padding_row(o);
    if (padding < -1 || padding >= o->rows)
        return light_nn_refuse(self, "padding_idx is %lld; the rows are 0 to %lld", (long long)padding,
                               (long long)o->rows - 1);
    LIGHT_TRY(light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(o->rows, o->width),
                                  LIGHT_INIT_NORMAL(0, 1)));
    return padding < 0 ? LIGHT_OK : zero_row(m->weight, padding, o->width);
}

static light_tensor *embedding_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_embedding *m = (light_embedding *)self;
    return light_embedding_op(s, m->weight, x, padding_row(&m->options));
}

static const light_module_vtable embedding_vtable = {
    LIGHT_NN_VTABLE(light_embedding, "embedding"),
    .init = embedding_init,
    .forward = embedding_forward,
};

light_status light_embedding_init_with(light_embedding *module, light_module *parent, const char *name,
                                       const light_embedding_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &embedding_vtable, parent, name);
}
