/* SPDX-License-Identifier: Apache-2.0 */
/* Validation, test and prediction: all loaders of a stage, one after the other, without a tape. */
#include "trainer/trainer.h"

#include <light/ops.h>

/* Random operations of evaluation have counters of their own, which training never reaches. */
#define EVALUATION_COUNTER (1ull << 38)

typedef struct stage_hooks {
    light_status (*start)(light_trainer *), (*end)(light_trainer *);
    light_status (*epoch_start)(light_trainer *), (*epoch_end)(light_trainer *);
    light_status (*batch_start)(light_trainer *, const light_batch *);
    light_status (*batch_end)(light_trainer *,
                              const light_batch *); /* NULL: predict, which passes on its result */
    const char *what, *loader, *flag;
} stage_hooks;

static const stage_hooks hooks_of[] = {
    [LIGHT_STAGE_VALIDATE] = {light_call_on_validation_start, light_call_on_validation_end,
                              light_call_on_validation_epoch_start, light_call_on_validation_epoch_end,
                              light_call_on_validation_batch_start, light_call_on_validation_batch_end,
                              "validation", "val_dataloader", "limit_val_batches"},
    [LIGHT_STAGE_TEST] = {light_call_on_test_start, light_call_on_test_end, light_call_on_test_epoch_start,
                          light_call_on_test_epoch_end, light_call_on_test_batch_start,
                          light_call_on_test_batch_end, "testing", "test_dataloader", "limit_test_batches"},
    [LIGHT_STAGE_PREDICT] = {light_call_on_predict_start, light_call_on_predict_end,
                             light_call_on_predict_epoch_start, light_call_on_predict_epoch_end,
                             light_call_on_predict_batch_start, NULL, "prediction", "predict_dataloader",
                             "limit_predict_batches"},
};

light_status light_transfer_batch(light_trainer *t, light_batch *batch)
{
    light_dtype dtype = light_precision_data(t->precision);
    LIGHT_TRY(light_datamodule_transfer(t->data, t->step, batch));
    for (int i = 0; i < batch->num_fields; i++) {
        light_tensor *field = batch->fields[i];
        if (dtype != LIGHT_F32 && light_dtype_is_floating(light_dtype_of(field)))
            field = light_to_dtype(t->step, field, dtype);
        if (!field) return light_step_status(t->step);
        /* Hooks after backward may still look at the batch. */
        light_storage_ref(field->storage);
        batch->fields[i] = field;
    }
    return light_step_status(t->step);
}

light_status light_make_eval_loader(light_trainer *t, light_stage stage)
{
    if (t->eval_loader && t->eval_loader_stage == stage) return LIGHT_OK;
    light_loader_free(t->eval_loader);
    t->eval_loader = NULL;
    LIGHT_TRY(light_datamodule_loader(t->data, stage, &t->eval_loader));
    t->eval_loader_stage = stage;
    for (light_loader *l = t->eval_loader; l; l = light_loader_following(l)) {
        light_loader_set_seed(l, (uint64_t)t->options.seed);
        LIGHT_TRY(light_share_loader(t, l, 1));
        if (light_loader_num_batches(l) == 0)
            return light_fail(LIGHT_ERR_ARGUMENT, "%s: the dataset (%s) gives no batch",
                              hooks_of[stage].loader, light_loader_dataset_name(l));
    }
    return light_agree_on_loaders(t, hooks_of[stage].loader, t->eval_loader);
}

/* ---- modes -------------------------------------------------------------- */

/* Eval mode for all modules; what they were is kept, since a user may hold some in eval mode while training. */
static void enter_eval(light_trainer *t)
{
    int64_t i = 0;
    for (light_module *m = t->module; m; m = light_next_module(t->module, m))
        t->saved_modes[i++] = m->training;
    light_eval(t->module);
}

static void leave_eval(light_trainer *t)
{
    int64_t i = 0;
    for (light_module *m = t->module; m; m = light_next_module(t->module, m))
        m->training = t->saved_modes[i++];
}

static light_limit limit_of(const light_trainer *t, light_stage stage)
{
    return stage == LIGHT_STAGE_VALIDATE ? t->limit_val
           : stage == LIGHT_STAGE_TEST   ? t->limit_test
                                         : t->limit_predict;
}

/* ---- the loop ----------------------------------------------------------- */

static light_status evaluate_batch(light_trainer *t, const stage_hooks *hooks, light_batch *batch)
{
    light_tensor *prediction = NULL;
    const light_module_vtable *m = &t->module_hooks;
    t->running_batch = batch;
    t->moment = t->stage == LIGHT_STAGE_PREDICT ? LIGHT_LOG_FORBIDDEN : LIGHT_LOG_EVALUATION_STEP;
    LIGHT_TRY(hooks->batch_start(t, batch));
    if (t->stage == LIGHT_STAGE_VALIDATE)
        m->validation_step(t->module, t->step, batch);
    else if (t->stage == LIGHT_STAGE_TEST)
        m->test_step(t->module, t->step, batch);
    else
        prediction = m->predict_step ? m->predict_step(t->module, t->step, batch)
                                     : light_forward(t->step, t->module, batch->fields[0]);
    LIGHT_TRY(light_step_status(t->step));
    t->current_batch = t->eval_turn.after;
    LIGHT_TRY(hooks->batch_end ? hooks->batch_end(t, batch)
                               : light_call_on_predict_batch_end(t, batch, prediction));
    if (!t->sanity_checking && t->stage != LIGHT_STAGE_PREDICT) LIGHT_TRY(light_metrics_write(t));
    return LIGHT_OK;
}

/* The batch of a turn, where this rank has one; else its size is 0. */
static light_status next_batch(light_trainer *t, light_loader *loader, light_batch *batch)
{
    *batch = (light_batch){.index = -1};
    if (t->eval_turn.batch < 0) return LIGHT_OK;
    if (t->strategy)
        light_step_set_counter(
            t->step, EVALUATION_COUNTER +
                         (uint64_t)(t->eval_batch.ready - t->eval_turn.before + t->eval_turn.batch + 1));
    return light_loader_next(loader, t->step, batch);
}

/* *more is false at the end of a stream. */
static light_status evaluate_turn(light_trainer *t, const stage_hooks *hooks, light_loader *loader,
                                  bool *more)
{
    light_batch batch;
    int64_t n = t->eval_turn.after - t->eval_turn.before;
    LIGHT_TRY(light_step_begin(t->step));
    LIGHT_TRY(next_batch(t, loader, &batch));
    LIGHT_TRY(light_begin_turn(t, false, batch.size > 0, more));
    *more |= !t->eval_streams;
    if (!*more) return LIGHT_OK;
    if (batch.size > 0) {
        LIGHT_TRY(light_transfer_batch(t, &batch));
        LIGHT_TRY(evaluate_batch(t, hooks, &batch));
        LIGHT_TRY(light_end_turn(t));
    }
    t->current_batch = t->eval_turn.after;
    t->eval_batch.ready = t->eval_batch.started = t->eval_batch.processed = t->eval_batch.completed += n;
    return LIGHT_OK;
}

/* The most batches of the loader, over all ranks. */
static light_status limit_loader(light_trainer *t, const stage_hooks *hooks, light_loader *loader,
                                 int64_t limit)
{
    int64_t ranks = light_trainer_world_size(t), *n = &t->num_eval_batches;
    light_limit of_stage = limit_of(t, t->stage);
    /* A trial is one for each rank. */
    if (t->options.fast_dev_run > 0) of_stage.batches *= ranks;
    if (limit > 0) limit *= ranks;
    LIGHT_TRY(light_limit_batches(hooks->flag, of_stage, light_shared_batches(t, loader), n));
    if (limit >= 0 && (*n < 0 || *n > limit)) *n = limit;
    return LIGHT_OK;
}

static light_status evaluate_loader(light_trainer *t, const stage_hooks *hooks, light_loader *loader,
                                    int64_t limit)
{
    LIGHT_TRY(limit_loader(t, hooks, loader, limit));
    const light_share share = light_share_of(t, 1, 0, t->num_eval_batches);
    bool more = true, stop = false, together;
    t->eval_streams = light_loader_num_batches(loader) < 0;
    together = !t->strategy || !t->eval_streams;
    LIGHT_TRY(light_begin_share(loader, 0, &share));
    t->current_batch = 0;
    for (int64_t turn = 0; share.total < 0 || turn < light_share_turns(&share); turn++) {
        t->eval_turn = light_share_turn(&share, turn);
        LIGHT_TRY(evaluate_turn(t, hooks, loader, &more));
        if (!more) break;
        /* The ranks' parts of a stream have lengths of their own. */
        if (together) LIGHT_TRY(light_ask_to_stop(t, &stop));
        if (stop)
            return light_fail(LIGHT_ERR_INTERRUPTED, "interrupted after %lld batches of %s",
                              (long long)t->current_batch, hooks->what);
    }
    return LIGHT_OK;
}

static light_status run_loaders(light_trainer *t, const stage_hooks *hooks, int64_t limit)
{
    LIGHT_TRY(hooks->start(t));
    LIGHT_TRY(hooks->epoch_start(t));
    for (light_loader *loader = t->eval_loader; loader; loader = light_loader_following(loader))
        LIGHT_TRY(evaluate_loader(t, hooks, loader, limit));
    t->running_batch = NULL;
    t->moment = t->stage == LIGHT_STAGE_PREDICT ? LIGHT_LOG_FORBIDDEN : LIGHT_LOG_EPOCH;
    LIGHT_TRY(hooks->epoch_end(t));
    t->moment = LIGHT_LOG_FORBIDDEN;
    LIGHT_TRY(light_metrics_end_epoch(t, 1));
    if (t->sanity_checking)
        light_metrics_clear(t);
    else
        LIGHT_TRY(light_metrics_write(t));
    return hooks->end(t);
}

light_status light_evaluation_loop(light_trainer *t, light_stage stage, int64_t limit)
{
    light_step *s = t->step;
    light_stage outer_stage = t->stage;
    int64_t outer_batch = t->current_batch;
    light_log_moment outer_moment = t->moment;
    uint64_t counter = light_step_counter(s);
    light_progress outer_progress = t->eval_batch;

    light_limit none = limit_of(t, stage);
    if (none.is_fraction ? none.fraction == 0 : none.batches == 0) return LIGHT_OK;
    LIGHT_TRY(light_make_eval_loader(t, stage));
    t->running_batch = NULL;
    t->moment = stage == LIGHT_STAGE_PREDICT ? LIGHT_LOG_FORBIDDEN : LIGHT_LOG_EPOCH;
    t->stage = stage;
    s->inference = true;
    light_step_set_counter(s, EVALUATION_COUNTER + (uint64_t)t->eval_batch.ready);
    enter_eval(t);
    light_status status = light_metrics_reset(t, 1);
    if (status == LIGHT_OK && t->run_stage == LIGHT_STAGE_FIT) status = light_follow_buffers(t);
    if (status == LIGHT_OK) status = run_loaders(t, &hooks_of[stage], limit);
    leave_eval(t);
    light_step_set_counter(s, counter);
    s->inference = false;
    t->stage = outer_stage;
    t->current_batch = outer_batch;
    t->running_batch = NULL;
    t->moment = outer_moment;
    /* An interrupted validation begins anew in the run that goes on. */
    t->at_rest = status == LIGHT_ERR_INTERRUPTED && !t->sanity_checking && t->signalled;
    if (t->sanity_checking || t->at_rest) t->eval_batch = outer_progress;
    return status;
}

light_status light_sanity_check(light_trainer *t)
{
    int64_t steps = t->options.num_sanity_val_steps;
    if (steps == 0 || !light_trainer_has_validation(t)) return LIGHT_OK;
    t->sanity_checking = true;
    light_status status = light_call_on_sanity_check(t, true);
    if (status == LIGHT_OK) status = light_evaluation_loop(t, LIGHT_STAGE_VALIDATE, steps);
    if (status == LIGHT_OK) status = light_call_on_sanity_check(t, false);
    t->sanity_checking = false;
    return status;
}
