/* SPDX-License-Identifier: Apache-2.0 */
/* The values of the flag `precision`, and what they make of each operation. */
#include "trainer/trainer.h"

#include "base/log.h"
#include "base/string.h"
#include "ops/table.h"

#include <string.h>

static const light_precision precisions[] = {
    {"32-true", LIGHT_F32, LIGHT_DTYPE_DEFAULT, false, false},
    {"64-true", LIGHT_F64, LIGHT_DTYPE_DEFAULT, false, false},
    {"bf16-mixed", LIGHT_F32, LIGHT_BF16, false, false},
    {"16-mixed", LIGHT_F32, LIGHT_F16, false, true},
    {"bf16-true", LIGHT_F32, LIGHT_BF16, true, false},
    {"16-true", LIGHT_F32, LIGHT_F16, true, false},
};
enum { COUNT = sizeof precisions / sizeof *precisions };

const light_precision *light_precision_find(const char *name)
{
    int i = 0;
    while (i < COUNT - 1 && strcmp(precisions[i].name, name)) i++;
    return &precisions[i];
}

/* ---- the table ----------------------------------------------------------- */

/* Where all data are of one dtype, so are the operations that take them as they come. */
static const char *cell(const light_precision *p, light_op_class class)
{
    if (!p->lower) return light_dtype_name(p->dtype);
    if (p->all || class == LIGHT_OP_LOWER) return light_dtype_name(p->lower);
    return class == LIGHT_OP_FULL ? light_dtype_name(p->dtype) : "as it comes";
}

static void add_row(light_string *out, const char *name, const char *cells[COUNT])
{
    light_string_printf(out, "%-28s", name);
    for (int p = 0; p < COUNT; p++) light_string_printf(out, "  %-*s", p < COUNT - 1 ? 11 : 0, cells[p]);
    light_string_append(out, "\n");
}

static void add_class(light_string *out, light_op_class class)
{
    const light_op *op;
    const char *cells[COUNT];
    for (int p = 0; p < COUNT; p++) cells[p] = cell(&precisions[p], class);
    for (int i = 0; (op = light_op_at(i)); i++)
        if (op->precision == class) add_row(out, op->name, cells);
}

void light_print_precision(void)
{
    light_string out = {0};
    const char *names[COUNT];
    for (int p = 0; p < COUNT; p++) names[p] = precisions[p].name;
    add_row(&out, "operation", names);
    add_class(&out, LIGHT_OP_LOWER);
    add_class(&out, LIGHT_OP_FULL);
    add_class(&out, LIGHT_OP_PROMOTE);
    light_output(light_string_text(&out));
    light_string_free(&out);
}
