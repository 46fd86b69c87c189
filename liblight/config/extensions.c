/* SPDX-License-Identifier: Apache-2.0 */
/* The callbacks and loggers that ship, by the names that flags and configuration files use. */
#include "callbacks/builtin.h"
#include "loggers/builtin.h"
#include "strategies/builtin.h"

#include "trainer/trainer.h"

const light_extension light_extensions[] = {
    {.name = "model_checkpoint", .callback = &light_model_checkpoint_vtable},
    {.name = "early_stopping", .callback = &light_early_stopping_vtable},
    {.name = "learning_rate_monitor", .callback = &light_learning_rate_monitor_vtable},
    {.name = "model_summary", .callback = &light_model_summary_vtable},
    {.name = "progress_bar", .callback = &light_progress_bar_vtable},
    {.name = "learning_curve", .callback = &light_learning_curve_vtable},
    {.name = "prediction_writer", .callback = &light_prediction_writer_vtable},
    {.name = "csv", .logger = &light_csv_logger_vtable},
    {.name = "ddp", .strategy = &light_ddp_vtable},
    {.name = "fsdp", .strategy = &light_fsdp_vtable},
    {.name = "zero1", .strategy = &light_zero1_vtable},
    {.name = "zero2", .strategy = &light_zero2_vtable},
    {.name = "zero3", .strategy = &light_zero3_vtable},
    {.name = NULL},
};
