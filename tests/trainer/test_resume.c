/* SPDX-License-Identifier: Apache-2.0 */
/* A run that goes on from a checkpoint does what the run did that never stopped, bit for bit: weights, optimizer,
 * metrics, order of data, metrics.csv. The model has all that could differ: dropout, batch norm, Adam, a schedule,
 * shuffling with workers, random transforms, accumulation, validation inside of epochs. */
#include "trainer/lab.h"

#include "optim/optimizer.h"
#include "trainer/trainer.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- the model ---------------------------------------------------------- */

typedef struct net {
    light_module base;
    light_linear fc1, fc2;
    light_batch_norm norm;
} net;

static double loss_factor = 1; /* large: f16 gradients overflow until the loss scale has fallen */

/* What happened, in order: what a resumed run does must be the end of this. */
typedef struct event {
    int64_t stage, epoch, batch, first_sample, step;
    double loss;
} event;

static event trace[4096];
static int events;
static int signal_at, signal_number; /* raised at this event, unless 0 */

static void note(light_trainer *t, const light_batch *batch, light_tensor *loss)
{
    event e = {.stage = light_trainer_stage(t),
               .epoch = batch->epoch,
               .batch = batch->index,
               .first_sample = batch->indices[0],
               .step = light_trainer_global_step(t)};
    if (!loss || light_item(loss, &e.loss) != LIGHT_OK) return;
    assert_true(events < (int)(sizeof trace / sizeof *trace));
    trace[events++] = e;
    if (events == signal_at) raise(signal_number);
}

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = LAB_FEATURES, .out_features = 12));
    LIGHT_TRY(light_batch_norm_init(&m->norm, self, "norm", .features = 12));
    return light_linear_init(&m->fc2, self, "fc2", .in_features = 12, .out_features = LAB_CLASSES);
}

static light_tensor *net_forward(light_module *self, light_step *s, light_tensor *x)
{
    net *m = (net *)self;
    x = light_forward(s, &m->norm.base, light_forward(s, &m->fc1.base, x));
    x = light_dropout(s, light_relu(s, x), 0.3);
    return light_forward(s, &m->fc2.base, x);
}

static light_tensor *net_loss(light_module *self, light_step *s, const light_batch *batch)
{
    return light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
}

static light_tensor *net_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = net_loss(self, s, batch);
    light_log(s, "train_loss", loss, .on_step = true, .on_epoch = true, .prog_bar = true);
    light_log(s, "largest", loss, .on_epoch = true, .on_step = LIGHT_OFF, .reduce_fx = LIGHT_FX_MAX);
    note(light_step_trainer(s), batch, loss);
    return light_mul_scalar(s, loss, loss_factor);
}

static void net_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = net_loss(self, s, batch);
    light_log(s, "val_loss", loss);
    note(light_step_trainer(s), batch, loss);
}

static light_status net_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adam(light_parameters(self), .lr = 0.01),
                                light_cosine_schedule(.warmup_steps = 2));
}

static const light_module_vtable net_vtable = {
    LIGHT_MODULE(net),
    .init = net_init,
    .forward = net_forward,
    .training_step = net_training_step,
    .validation_step = net_validation_step,
    .test_step = net_validation_step,
    .configure_optimizers = net_optimizers,
};

/* The learning rate follows a metric of each step. */
static light_status plateau_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.1, .momentum = 0.9),
                                light_reduce_on_plateau(.monitor = "train_loss_step", .factor = 0.9,
                                                        .patience = LIGHT_NO_PATIENCE,
                                                        .interval = LIGHT_INTERVAL_STEP));
}

static const light_module_vtable plateau_vtable = {
    LIGHT_MODULE(net),
    .init = net_init,
    .forward = net_forward,
    .training_step = net_training_step,
    .validation_step = net_validation_step,
    .configure_optimizers = plateau_optimizers,
};

/* Two optimizers, each stepped every other batch: gradients stay from one batch to the next. */
static bool in_fc2(const light_parameter *p, void *user)
{
    return (p->path[0] == 'f' && p->path[2] == '2') == (user != NULL);
}

static light_status manual_optimizers(light_module *self, light_optimizers *out)
{
    static int yes;
    LIGHT_TRY(
        light_optimizers_add(out, light_adam(light_parameters_where(self, in_fc2, NULL), .lr = 0.01), NULL));
    return light_optimizers_add(
        out, light_rmsprop(light_parameters_where(self, in_fc2, &yes), .lr = 0.01, .momentum = 0.5), NULL);
}

static light_tensor *manual_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = net_loss(self, s, batch);
    note(light_step_trainer(s), batch, loss);
    for (int i = 0; i < 2 && batch->index % 2 == 0; i++) light_zero_grad(s, light_optimizer_at(s, i));
    light_manual_backward(s, light_mul_scalar(s, loss, loss_factor));
    for (int i = 0; i < 2 && batch->index % 2 == 1; i++) light_optimizer_step(s, light_optimizer_at(s, i));
    light_log(s, "train_loss", loss, .on_step = true, .on_epoch = true);
    return NULL;
}

static const light_module_vtable manual_vtable = {
    LIGHT_MODULE(net),
    .manual_optimization = true,
    .init = net_init,
    .forward = net_forward,
    .training_step = manual_training_step,
    .validation_step = net_validation_step,
    .configure_optimizers = manual_optimizers,
};

/* ---- data: random transforms too ---------------------------------------- */

static light_loader *augmented_train(light_datamodule *self)
{
    lab_data *d = (lab_data *)self;
    const light_field fields[] = {{"x", LIGHT_F32, LIGHT_SHAPE(LAB_FEATURES)},
                                  {"y", LIGHT_I64, LIGHT_SCALAR}};
    const void *const arrays[] = {lab_x, lab_y};
    light_dataset *dataset;
    lab_fill();
    if (light_memory_dataset_open(&dataset, fields, 2, d->train_samples, arrays) != LIGHT_OK) return NULL;
    return light_loader_new(dataset, .batch_size = d->batch_size, .shuffle = true, .num_workers = d->workers,
                            .transform = light_random_horizontal_flip(0, 0.5));
}

static const light_datamodule_vtable augmented_vtable = {
    LIGHT_DATAMODULE(lab_data), .options = lab_data_options,        .train_dataloader = augmented_train,
    .val_dataloader = lab_val,  .test_dataloader = lab_test_loader,
};

/* ---- a callback that saves at every moment ------------------------------ */

enum { MAX_POINTS = 256 };
typedef struct save_point {
    char path[512];
    int events; /* that came before */
} save_point;

typedef struct saver {
    light_callback base;
    save_point points[MAX_POINTS];
    int n;
    int stop_after; /* training batches; 0: never */
    int batches;
} saver;

static void save_here(light_callback *self, light_trainer *t, const char *moment)
{
    saver *s = (saver *)self;
    assert_true(s->n < MAX_POINTS);
    save_point *p = &s->points[s->n];
    snprintf(p->path, sizeof p->path, "%s/checkpoints/%s%d", light_trainer_log_dir(t), moment, s->n);
    p->events = events;
    assert_ok(light_trainer_save_checkpoint(t, p->path));
    s->n++;
}

static void saver_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    (void)batch;
    save_here(self, t, "batch");
}

static void saver_validation_end(light_callback *self, light_trainer *t)
{
    if (!light_trainer_sanity_checking(t)) save_here(self, t, "validation");
}

static void saver_epoch_end(light_callback *self, light_trainer *t)
{
    save_here(self, t, "epoch");
}

static const light_callback_vtable saver_vtable = {
    LIGHT_CALLBACK(saver),
    .watches_metrics = true,
    .on_train_batch_end = saver_batch_end,
    .on_validation_end = saver_validation_end,
    .on_train_epoch_end = saver_epoch_end,
};

/* ---- everything that a run leaves --------------------------------------- */

typedef struct remains {
    unsigned char *bytes;
    size_t n;
} remains;

static void keep(remains *r, const void *data, size_t bytes)
{
    r->bytes = realloc(r->bytes, r->n + bytes);
    assert_non_null(r->bytes);
    memcpy(r->bytes + r->n, data, bytes);
    r->n += bytes;
}

static void keep_tensor(remains *r, const char *name, const light_tensor *t)
{
    char values[1 << 14];
    size_t bytes = (size_t)light_numel(t) * light_dtype_size(light_dtype_of(t));
    assert_true(bytes <= sizeof values);
    assert_ok(light_tensor_read(t, light_dtype_of(t), values, bytes));
    keep(r, name, strlen(name));
    keep(r, values, bytes);
}

static remains gather(lab *l)
{
    remains r = {0};
    light_metric metric;
    light_optimizer_state state;
    light_optimizer *optimizer;
    for (light_parameter *p = light_next_parameter(l->module, NULL); p;
         p = light_next_parameter(l->module, p))
        keep_tensor(&r, p->path, p->tensor);
    for (int o = 0; (optimizer = light_trainer_optimizer(l->trainer, o)); o++) {
        assert_ok(light_optimizer_settle(optimizer));
        keep(&r, &optimizer->groups[0].entries[0].steps, sizeof(int64_t));
        for (int64_t i = 0; light_optimizer_state_at(optimizer, i, &state); i++)
            keep_tensor(&r, state.name, &state.tensor);
        double lr = light_optimizer_lr(optimizer, 0);
        keep(&r, &lr, sizeof lr);
    }
    float scaling[LIGHT_LOSS_SCALE_SIZE] = {0};
    if (l->trainer->scaler)
        assert_ok(light_tensor_read(&l->trainer->scaler->common, LIGHT_F32, scaling, sizeof scaling));
    keep(&r, scaling, 2 * sizeof *scaling); /* how many steps were skipped is in the optimizers by now */
    for (int i = 0; light_trainer_metric_at(l->trainer, i, &metric, NULL); i++) {
        keep(&r, metric.name, strlen(metric.name));
        keep(&r, &metric.value, sizeof metric.value);
    }
    int64_t numbers[] = {light_trainer_global_step(l->trainer), light_trainer_current_epoch(l->trainer)};
    keep(&r, numbers, sizeof numbers);
    const light_progress counters[] = {l->trainer->epoch, l->trainer->batch, l->trainer->batch_current,
                                       l->trainer->eval_batch};
    keep(&r, counters, sizeof counters);
    return r;
}

typedef struct setting {
    int accumulate, workers;
    const char *interval;
    int epochs;
    int64_t seed, max_steps;
    const light_module_vtable *module; /* default: net_vtable */
    const char *precision;
    bool stream;
} setting;

static const setting usual = {.accumulate = 3, .workers = 2, .interval = "4", .epochs = 2, .seed = 7};

static lab new_run(const setting *s, light_callback *callback, bool checkpoints)
{
    const light_switch on = checkpoints ? LIGHT_ON : LIGHT_OFF;
    lab l = {.module = light_module_new(s->module ? s->module : &net_vtable),
             .data = (lab_data *)light_datamodule_new(s->stream ? &lab_stream_vtable : &augmented_vtable)};
    double clip = s->module == &manual_vtable ? 0 : 0.5;
    l.trainer =
        light_trainer_new(.default_root_dir = folder, .max_epochs = s->epochs,
                          .accumulate_grad_batches = s->accumulate, .val_check_interval = s->interval,
                          .log_every_n_steps = 2, .seed = s->seed, .gradient_clip_val = clip,
                          .max_steps = s->max_steps, .enable_checkpointing = on, .precision = s->precision,
                          .callbacks = {light_early_stopping(.monitor = "val_loss", .patience = 1000),
                                        light_learning_rate_monitor(.log_momentum = true), callback});
    assert_non_null(l.trainer);
    l.data->train_samples = 39; /* the last batch is short */
    l.data->val_samples = 10;
    l.data->batch_size = 4;
    l.data->workers = s->workers;
    events = 0;
    return l;
}

static char *csv_of(const lab *l)
{
    char path[600];
    snprintf(path, sizeof path, "%s/metrics.csv", light_trainer_log_dir(l->trainer));
    return read_text(path);
}

/* ---- every step --------------------------------------------------------- */

static void compare(lab *l, const char *from, const event *tail, int n_tail, const remains *expected,
                    const char *csv)
{
    if (events != n_tail) fail_msg("%s: %d batches, %d expected", from, events, n_tail);
    for (int i = 0; i < n_tail; i++)
        if (memcmp(&trace[i], &tail[i], sizeof *trace))
            fail_msg(
                "%s: event %d: stage %d, epoch %d, batch %d, sample %d, step %d, loss %.17g, not %d %d %d %d "
                "%d %.17g",
                from, i, (int)trace[i].stage, (int)trace[i].epoch, (int)trace[i].batch,
                (int)trace[i].first_sample, (int)trace[i].step, trace[i].loss, (int)tail[i].stage,
                (int)tail[i].epoch, (int)tail[i].batch, (int)tail[i].first_sample, (int)tail[i].step,
                tail[i].loss);
    remains r = gather(l);
    if (r.n != expected->n || memcmp(r.bytes, expected->bytes, r.n))
        fail_msg("%s: weights, optimizer or metrics differ", from);
    free(r.bytes);
    char *now = csv_of(l);
    if (strcmp(now, csv)) fail_msg("%s: metrics.csv differs:\n%s\nnot\n%s", from, now, csv);
    light_free(now);
}

static void resume_everywhere(const setting *s)
{
    saver *callback = calloc(1, sizeof *callback);
    callback->base.vtable = &saver_vtable;
    lab whole = new_run(s, &callback->base, false);
    assert_ok(lab_fit(&whole));
    remains expected = gather(&whole);
    char *csv = csv_of(&whole);
    event *all = malloc((size_t)events * sizeof *all);
    int n_all = events;
    memcpy(all, trace, (size_t)events * sizeof *all);
    lab_free(&whole);
    assert_true(callback->n > 20);

    for (int i = 0; i < callback->n; i++) {
        const save_point *p = &callback->points[i];
        lab resumed = new_run(s, NULL, false);
        assert_ok(lab_fit(&resumed, .ckpt_path = p->path));
        compare(&resumed, strrchr(p->path, '/') + 1, all + p->events, n_all - p->events, &expected, csv);
        lab_free(&resumed);
    }
    free(all);
    free(expected.bytes);
    light_free(csv);
    free(callback);
}

static void resuming_anywhere_gives_the_same_bits_with_accumulation(void **state)
{
    (void)state;
    resume_everywhere(&usual);
}

static void resuming_anywhere_gives_the_same_bits_without_accumulation(void **state)
{
    (void)state;
    resume_everywhere(&(setting){.accumulate = 1, .workers = 0, .interval = "1.0", .epochs = 3, .seed = 8});
}

static void resuming_in_a_stream_gives_the_same_bits(void **state)
{
    (void)state;
    resume_everywhere(&(setting){.accumulate = 3,
                                 .workers = 2,
                                 .interval = "4",
                                 .epochs = 2,
                                 .seed = 9,
                                 .max_steps = 50,
                                 .stream = true});
}

static void resuming_with_a_schedule_that_watches_a_metric_gives_the_same_bits(void **state)
{
    (void)state;
    resume_everywhere(&(setting){.accumulate = 2,
                                 .workers = 1,
                                 .interval = "0.3",
                                 .epochs = 2,
                                 .seed = 10,
                                 .module = &plateau_vtable});
}

static void resuming_manual_optimization_gives_the_same_bits(void **state)
{
    (void)state;
    resume_everywhere(&(setting){
        .accumulate = 1, .workers = 2, .interval = "3", .epochs = 2, .seed = 11, .module = &manual_vtable});
}

static void resuming_in_16_bits_gives_the_same_bits(void **state)
{
    static const char *const precisions[] = {"bf16-mixed", "16-mixed", "bf16-true", "16-true"};
    (void)state;
    for (int i = 0; i < 4; i++) {
        setting s = usual;
        s.precision = precisions[i];
        s.workers = 0;
        resume_everywhere(&s);
    }
}

static void resuming_while_the_loss_scale_falls_gives_the_same_bits(void **state)
{
    (void)state;
    setting s = usual;
    s.precision = "16-mixed";
    s.workers = 0;
    loss_factor = 1 << 10;
    resume_everywhere(&s);
    s.module = &manual_vtable;
    s.accumulate = 1;
    resume_everywhere(&s);
    loss_factor = 1;
}

/* ---- Ctrl-C, and kill --------------------------------------------------- */

static void finish(const setting *s, remains *result, char **csv)
{
    lab l = new_run(s, NULL, true);
    assert_ok(lab_fit(&l, .ckpt_path = "last-if-any"));
    *result = gather(&l);
    *csv = csv_of(&l);
    lab_free(&l);
}

static void ctrl_c_at_any_batch_leaves_a_checkpoint_to_go_on_from(void **state)
{
    remains expected, result;
    char *csv, *now;
    (void)state;
    finish(&usual, &expected, &csv);
    int last = events;
    for (int n = 1; n <= last; n++) {
        assert_ok(light_remove_tree(at("net")));
        lab l = new_run(&usual, NULL, true);
        signal_at = n;
        signal_number = n % 2 ? SIGINT : SIGTERM;
        assert_fails(lab_fit(&l), LIGHT_ERR_INTERRUPTED, "interrupted");
        assert_int_equal(events, n); /* also inside of validation */
        signal_at = 0;
        lab_free(&l);
        finish(&usual, &result, &now);
        if (result.n != expected.n || memcmp(result.bytes, expected.bytes, result.n))
            fail_msg("weights, optimizer or metrics differ after a signal at event %d", n);
        if (strcmp(now, csv)) fail_msg("signal at event %d:\n%s\nnot\n%s", n, now, csv);
        free(result.bytes);
        light_free(now);
    }
    free(expected.bytes);
    light_free(csv);
}

/* In a process of its own: `test_trainer_resume FOLDER EVENT` goes on from the last checkpoint, and is killed at that
 * event or leaves its remains in a file. */
static int run_as_child(const char *where, const char *kill_at)
{
    const setting s = {.accumulate = 2, .workers = 1, .interval = "3", .epochs = 3, .seed = 3};
    snprintf(folder, sizeof folder, "%s", where);
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    light_callback *checkpoints = light_model_checkpoint(.every_n_train_steps = 1, .monitor = "");
    lab l = new_run(&s, checkpoints, true);
    signal_at = atoi(kill_at);
    signal_number = SIGKILL;
    assert_ok(lab_fit(&l, .ckpt_path = "last-if-any"));
    remains r = gather(&l);
    char *csv = csv_of(&l);
    keep(&r, csv, strlen(csv));
    assert_ok(light_file_write_atomic(at("remains"), r.bytes, r.n));
    light_free(csv);
    free(r.bytes);
    lab_free(&l);
    return 0;
}

static bool child_survives(const char *where, int kill_at)
{
    char number[16];
    int status;
    snprintf(number, sizeof number, "%d", kill_at);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/proc/self/exe", "test_trainer_resume", where, number, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return false;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

static void a_killed_run_goes_on_from_its_last_checkpoint(void **state)
{
    char whole[100], killed[100];
    uint32_t random = 1;
    int runs = 0;
    (void)state;
    snprintf(whole, sizeof whole, "%s/whole", folder);
    snprintf(killed, sizeof killed, "%s/killed", folder);
    assert_ok(light_make_directories(whole));
    assert_ok(light_make_directories(killed));
    assert_true(child_survives(whole, 0));
    do {
        random = random * 1664525u + 1013904223u;
        assert_true(++runs < 200);
    } while (!child_survives(killed, 3 + (int)(random >> 28)));
    assert_true(runs > 5);
    char *a = read_text(at("whole/remains")), *b = read_text(at("killed/remains"));
    size_t n_a, n_b;
    light_free(a);
    light_free(b);
    assert_ok(light_file_read(at("whole/remains"), &a, &n_a));
    assert_ok(light_file_read(at("killed/remains"), &b, &n_b));
    assert_int_equal(n_a, n_b);
    assert_memory_equal(a, b, n_a);
    light_free(a);
    light_free(b);
}

/* ---- ckpt_path ---------------------------------------------------------- */

static void last_if_any_starts_anew_where_there_is_none(void **state)
{
    (void)state;
    lab l = new_run(&usual, NULL, true);
    assert_fails(lab_fit(&l, .ckpt_path = "last"), LIGHT_ERR_NOT_FOUND, "last", folder);
    assert_fails(lab_fit(&l, .ckpt_path = at("nothing")), LIGHT_ERR_NOT_FOUND, "nothing");
    assert_ok(lab_fit(&l, .ckpt_path = "last-if-any"));
    assert_string_equal(light_trainer_ckpt_path(l.trainer), "");
    assert_int_equal(light_trainer_current_epoch(l.trainer), 2);
    /* A run that is over has nothing to go on with. */
    events = 0;
    assert_ok(lab_fit(&l, .ckpt_path = "last-if-any"));
    assert_non_null(strstr(light_trainer_ckpt_path(l.trainer), "checkpoints/"));
    assert_int_equal(events, 0);
    lab_free(&l);
}

static void the_checkpoint_decides_the_seed(void **state)
{
    remains expected, result;
    char *csv, *now;
    setting other = usual;
    (void)state;
    finish(&usual, &expected, &csv);
    assert_ok(light_remove_tree(at("net")));
    lab l = new_run(&usual, NULL, true);
    signal_at = 10;
    signal_number = SIGINT;
    assert_fails(lab_fit(&l), LIGHT_ERR_INTERRUPTED, "interrupted at step");
    signal_at = 0;
    lab_free(&l);
    other.seed = 99;
    lab_listen(LIGHT_MESSAGE_INFO);
    finish(&other, &result, &now);
    lab_stop_listening();
    assert_int_equal(occurrences(lab_messages, "seed 7 of the checkpoint is used instead of 99"), 1);
    assert_int_equal(result.n, expected.n);
    assert_memory_equal(result.bytes, expected.bytes, result.n);
    assert_string_equal(now, csv);
    free(result.bytes);
    free(expected.bytes);
    light_free(now);
    light_free(csv);
}

static void more_epochs_continue_the_numbering(void **state)
{
    setting more = usual;
    (void)state;
    lab l = new_run(&usual, NULL, true);
    assert_ok(lab_fit(&l));
    int64_t step = light_trainer_global_step(l.trainer);
    lab_free(&l);
    more.epochs = 4;
    l = new_run(&more, NULL, true);
    assert_ok(lab_fit(&l, .ckpt_path = "last"));
    assert_int_equal(light_trainer_global_step(l.trainer), 2 * step);
    assert_int_equal(light_trainer_current_epoch(l.trainer), 4);
    assert_int_equal(trace[0].epoch, 2);
    assert_int_equal(trace[0].batch, 0);
    lab_free(&l);
}

static void training_cannot_go_on_from_weights_alone(void **state)
{
    (void)state;
    lab l = new_run(&usual, NULL, false);
    assert_ok(lab_fit(&l));
    assert_ok(light_trainer_save_weights(l.trainer, at("weights")));
    assert_ok(light_trainer_save_checkpoint(l.trainer, at("whole")));
    lab_free(&l);
    l = new_run(&usual, NULL, false);
    assert_fails(lab_fit(&l, .ckpt_path = at("weights")), LIGHT_ERR_FORMAT, "weights", "weights only");
    assert_ok(lab_run_test(&l, .ckpt_path = at("weights"), .quiet = true));
    assert_ok(lab_fit(&l, .ckpt_path = at("whole"))); /* saved after the run: nothing is left to do */
    assert_int_equal(light_trainer_current_epoch(l.trainer), 2);
    lab_free(&l);
}

static void test_and_validate_take_the_best_weights(void **state)
{
    (void)state;
    lab l = new_run(&usual, light_model_checkpoint(.monitor = "val_loss"), true);
    assert_ok(lab_fit(&l));
    const char *best = light_model_checkpoint_best_path(light_trainer_get_options(l.trainer)->callbacks[2]);
    char expected[600];
    snprintf(expected, sizeof expected, "%s", strrchr(best, '/'));
    double test, direct;
    assert_ok(lab_run_test(&l, .ckpt_path = "best", .quiet = true));
    test = metric_of(l.trainer, "val_loss");
    assert_non_null(strstr(light_trainer_ckpt_path(l.trainer), expected));
    lab_free(&l);

    /* The same from another process's point of view: a new trainer finds it below the folder of runs. */
    l = new_run(&usual, NULL, true);
    assert_ok(lab_run_test(&l, .ckpt_path = "best", .quiet = true));
    direct = metric_of(l.trainer, "val_loss");
    assert_non_null(strstr(light_trainer_ckpt_path(l.trainer), expected));
    assert_true(test == direct);
    assert_ok(lab_validate(&l, .ckpt_path = "best", .quiet = true));
    lab_free(&l);
}

/* Precision is no property of the model, so the line does not speak of another one. */
static void the_precision_of_a_checkpoint_is_named(void **state)
{
    static const char *const precisions[] = {"32-true", "64-true", "bf16-mixed"};
    (void)state;
    for (int saved = 0; saved < 3; saved++) {
        for (int run = 0; run < 3; run++) {
            bool fits = (saved == 1) == (run == 1); /* mixed has parameters in f32 */
            lab l =
                lab_new(&boring_vtable, light_trainer_new(.default_root_dir = at("%d%d", saved, run),
                                                          .max_steps = 1, .precision = precisions[saved]));
            assert_ok(lab_fit(&l));
            char *path = light_strdup(at("%d%d/boring/version_0/checkpoints/last", saved, run));
            assert_ok(light_checkpoint_save_module(l.module, at("weights")));
            lab_free(&l);
            l = lab_new(&boring_vtable, light_trainer_new(.barebones = true, .precision = precisions[run]));
            char advice[64];
            snprintf(advice, sizeof advice, ": give --trainer.precision %s", precisions[saved]);
            if (fits)
                assert_ok(lab_run_test(&l, .ckpt_path = path, .quiet = true));
            else
                assert_fails(lab_run_test(&l, .ckpt_path = path, .quiet = true), LIGHT_ERR_FORMAT,
                             saved == 1 ? "has parameters in f64" : "has parameters in f32", precisions[run],
                             advice);
            if (!fits) /* weights alone do not say what run they are from */
                assert_fails(lab_run_test(&l, .ckpt_path = at("weights"), .quiet = true), LIGHT_ERR_FORMAT,
                             saved == 1 ? ": give --trainer.precision 64-true"
                                        : ": give --trainer.precision 32-true");
            lab_free(&l);
            light_free(path);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3) return run_as_child(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        lab_test(resuming_anywhere_gives_the_same_bits_with_accumulation),
        lab_test(resuming_anywhere_gives_the_same_bits_without_accumulation),
        lab_test(resuming_in_a_stream_gives_the_same_bits),
        lab_test(resuming_with_a_schedule_that_watches_a_metric_gives_the_same_bits),
        lab_test(resuming_manual_optimization_gives_the_same_bits),
        lab_test(resuming_in_16_bits_gives_the_same_bits),
        lab_test(resuming_while_the_loss_scale_falls_gives_the_same_bits),
        lab_test(ctrl_c_at_any_batch_leaves_a_checkpoint_to_go_on_from),
        lab_test(a_killed_run_goes_on_from_its_last_checkpoint),
        lab_test(last_if_any_starts_anew_where_there_is_none),
        lab_test(the_checkpoint_decides_the_seed),
        lab_test(more_epochs_continue_the_numbering),
        lab_test(training_cannot_go_on_from_weights_alone),
        lab_test(test_and_validate_take_the_best_weights),
        lab_test(the_precision_of_a_checkpoint_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
