/* SPDX-License-Identifier: Apache-2.0 */
/* Everything a program written against liblight needs. */
#ifndef LIGHT_LIGHT_H
#define LIGHT_LIGHT_H

#include <light/callback.h>
#include <light/checkpoint.h>
#include <light/cli.h>
#include <light/data.h>
#include <light/logger.h>
#include <light/message.h>
#include <light/module.h>
#include <light/nn.h>
#include <light/ops.h>
#include <light/optim.h>
#include <light/option.h>
#include <light/state.h>
#include <light/status.h>
#include <light/step.h>
#include <light/tensor.h>
#include <light/trainer.h>

#endif
