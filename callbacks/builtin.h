/* SPDX-License-Identifier: Apache-2.0 */
/* The callbacks that ship; each is defined in the file of its name. */
#ifndef LIGHT_CALLBACKS_BUILTIN_H
#define LIGHT_CALLBACKS_BUILTIN_H

#include <light/callback.h>

extern const light_callback_vtable light_model_checkpoint_vtable;
extern const light_callback_vtable light_early_stopping_vtable;
extern const light_callback_vtable light_learning_rate_monitor_vtable;
extern const light_callback_vtable light_model_summary_vtable;
extern const light_callback_vtable light_progress_bar_vtable;
extern const light_callback_vtable light_learning_curve_vtable;
extern const light_callback_vtable light_prediction_writer_vtable;

#endif
