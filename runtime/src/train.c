/* The training loop. One turn: a calibration if due, batch in, entry "train" runs, loss and gradients are checked, the line
 * is logged, the epoch is evaluated, the state is saved, in this order: whatever a saved step has logged is on record before
 * the save, so that a resumed run neither repeats nor misses a line. */
#include "train.h"
#include "calibrate.h"
#include "file.h"
#include "track.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct run {
  const trt_model *model;
  const trt_dataset *data;
  const trt_settings *settings;
  const trt_train_options *options;
  trt_binding step;
  trt_position at;
  int64_t per_epoch, last; /* steps of an epoch; the step to stop at */
  int64_t *order, order_epoch;
  trt_metrics metrics;
  trt_tracker tracker;
  trt_profile profile;
  trt_progress progress;
  trt_evaluation evaluation; /* the latest */
  double started, pace;      /* seconds a step, smoothed */
  double window_seconds;     /* of the steps since the last logged line */
  double step_seconds, track_seconds; /* of all steps; of what tracking did between them */
  int64_t window_steps, saved_step;
  char state[4096];
  int lock;
} run;

/* ---- signals: the first one asks, the second one kills ---- */

static volatile sig_atomic_t stop_signal;

static void on_signal(int number) { stop_signal = number; }

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
  sigemptyset(&action.sa_mask);
  stop_signal = 0;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  struct sigaction hangup;
  bool ignored = sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN; /* under nohup */
  if (!ignored) sigaction(SIGHUP, &action, NULL);
}

/* ---- the output folder ---- */

static bool make_folder(const char *path, trt_error *err) {
  char copy[4096];
  if (strlen(path) >= sizeof copy) return trt_fail(err, "--out: the path is too long; choose a shorter one");
  strcpy(copy, path);
  for (char *p = copy + 1; *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    (void)mkdir(copy, 0777); /* a failure shows at the last one */
    *p = '/';
  }
  if (mkdir(copy, 0777) == 0) return true;
  int code = errno;
  struct stat st;
  if (stat(copy, &st) == 0 && S_ISDIR(st.st_mode)) return true;
  return trt_fail(err, "%s: cannot make the folder: %s; choose another --out", path, strerror(code));
}

/* Two trainers in one folder would mix their files. */
static bool lock_folder(run *r, trt_error *err) {
  r->lock = open(r->options->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (r->lock < 0) return trt_fail(err, "%s: cannot open: %s; choose another --out", r->options->out, strerror(errno));
  if (flock(r->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return true;
  return trt_fail(err, "%s: another trainer is writing here; wait for it or choose another --out", r->options->out);
}

/* A new run in a used folder keeps the old state under another name: forgetting --resume must not cost a training. */
static bool set_aside(const run *r, trt_error *err) {
  if (r->options->resume || !trt_file_exists(r->state)) return true;
  char old[4096];
  if (!trt_join(old, sizeof old, r->options->out, "state.previous.safetensors", err)) return false;
  if (rename(r->state, old) != 0)
    return trt_fail(err, "%s: cannot rename: %s; choose another --out", r->state, strerror(errno));
  trt_note("%s of an earlier run is now %s", r->state, old);
  return true;
}

/* ---- one step ---- */

static bool check_step(const run *r, trt_error *err) {
  const trt_program *p = r->model->program;
  float loss = trt_model_scalar(r->model, r->step.loss);
  const char *first = NULL;
  int64_t bad = 0, n = 0;
  for (uint64_t i = 0; r->step.grad_sumsq && i < p->n_vars; i++) {
    if (p->vars[i].role != TRT_PARAM) continue;
    float sum;
    memcpy(&sum, r->model->arena + r->step.grad_sumsq->offset + 4 * n++, 4);
    if (isfinite(sum)) continue;
    if (!first) first = p->vars[i].name;
    bad++;
  }
  if (!bad && (!r->step.loss || isfinite(loss))) return true;
  char kept[4200];
  if (r->saved_step > 0)
    snprintf(kept, sizeof kept, "%s is whole, of step %" PRId64, r->state, r->saved_step);
  else
    snprintf(kept, sizeof kept, "nothing was saved yet");
  if (!bad)
    return trt_fail(err, "step %" PRId64 ": the loss is %g; lower --lr or raise --warmup; %s", r->at.step + 1, (double)loss,
                    kept);
  return trt_fail(err,
                  "step %" PRId64 ": the gradient of '%s' is not finite (%" PRId64 " of %" PRId64
                  " gradients, loss %g); lower --lr "
                  "or raise --warmup; %s",
                  r->at.step + 1, first, bad, n, (double)loss, kept);
}

static bool run_step(run *r, trt_error *err) {
  const trt_settings *s = r->settings;
  double before = trt_now();
  int64_t epoch = r->at.step / r->per_epoch, k = r->at.step % r->per_epoch;
  if (epoch != r->order_epoch) trt_data_shuffle(s->seed, epoch, r->data->split[TRT_TRAIN].count, r->order);
  r->order_epoch = epoch;
  trt_fill fill = {.data = r->data,
                   .split = TRT_TRAIN,
                   .index = r->order + k * s->batch,
                   .augment = s->augment,
                   .seed = s->seed,
                   .epoch = epoch};
  trt_scalars scalars = trt_step_scalars(s, &r->model->program->defaults, r->at.step);
  trt_profile_begin(&r->profile, r->at.step);
  trt_load_batch(r->model, &r->step, &fill);
  trt_model_set_scalars(r->model, &r->step, &scalars);
  trt_profile_run(&r->profile);
  trt_model_run(r->model, &r->step);
  if (!trt_profile_end(&r->profile, err) || !check_step(r, err)) return false;
  double seconds = trt_now() - before;
  r->pace = r->pace > 0 ? 0.95 * r->pace + 0.05 * seconds : seconds;
  r->window_seconds += seconds;
  r->step_seconds += seconds;
  r->window_steps++;
  r->at.step++;
  r->at.loss_sum += (double)trt_model_scalar(r->model, r->step.loss);
  r->at.loss_count++;
  r->at.grad_norm = (double)trt_model_scalar(r->model, r->step.grad_norm);
  return true;
}

/* ---- saying and saving ---- */

static double mean_loss(const run *r) { return r->at.loss_count ? r->at.loss_sum / (double)r->at.loss_count : NAN; }

static void show_bar(run *r) {
  if (!trt_progress_due(&r->progress)) return;
  char label[48], text[128], eta[16];
  int64_t epoch = (r->at.step - 1) / r->per_epoch;
  snprintf(label, sizeof label, "epoch %" PRId64 "/%" PRId64, epoch + 1, r->settings->epochs);
  snprintf(text, sizeof text, "loss %.4f  %.0f images/s  ETA %s", mean_loss(r), (double)r->settings->batch / r->pace,
           trt_progress_time((double)(r->last - r->at.step) * r->pace, eta));
  trt_progress_bar(&r->progress, label, r->at.step - epoch * r->per_epoch, r->per_epoch, text);
}

/* One line to the metrics, and to stderr in a pipe or at an epoch's end. Starts a new window. */
static bool log_line(run *r, bool epoch_end, bool evaluated, trt_error *err) {
  const trt_evaluation *e = &r->evaluation;
  double seen = (double)(r->window_steps * r->settings->batch);
  double rate = r->window_seconds > 0 ? seen / r->window_seconds : NAN;
  trt_metrics_line line = {.step = r->at.step,
                           .epoch = (double)r->at.step / (double)r->per_epoch,
                           .loss = mean_loss(r),
                           .lr = trt_learning_rate(r->settings, r->at.step - 1),
                           .grad_norm = r->at.grad_norm,
                           .images_per_s = rate,
                           .test_loss = evaluated ? e->loss : NAN,
                           .test_acc = evaluated ? (double)e->correct / (double)e->samples : NAN};
  if (!trt_metrics_log(&r->metrics, &line, err)) return false;
  if (!r->progress.terminal || epoch_end) {
    char eta[16], test[80] = "";
    if (evaluated)
      snprintf(test, sizeof test, "  test accuracy %.2f %%  test loss %.4f", 100 * line.test_acc, line.test_loss);
    trt_progress_time((double)(r->last - r->at.step) * r->pace, eta);
    trt_progress_line(
        &r->progress,
        "epoch %" PRId64 "/%" PRId64 "  step %" PRId64 "/%" PRId64 "  loss %.4f  lr %.3g%s  %.0f images/s  ETA %s",
        (r->at.step - 1) / r->per_epoch + 1, r->settings->epochs, r->at.step, r->last, line.loss, line.lr, test, rate, eta);
  }
  r->at.loss_sum = r->window_seconds = 0;
  r->at.loss_count = r->window_steps = 0;
  return true;
}

/* Evaluates if due, then logs if due. An interrupted evaluation stays pending and its line unwritten. */
static bool report_step(run *r, trt_error *err) {
  bool epoch_end = r->at.step % r->per_epoch == 0 || r->at.step == r->last, evaluated = false;
  if (r->at.eval_pending) {
    if (!trt_evaluate(r->model, r->data, TRT_TEST, r->at.step, &stop_signal, &r->progress, &r->evaluation, err)) return false;
    if (r->evaluation.interrupted) return true;
    r->at.eval_pending = false;
    evaluated = true;
  }
  bool first = r->at.step == 1; /* a sign of life, long before the first full interval */
  if (!epoch_end && !first && r->at.step % r->options->log_every != 0) return true;
  return log_line(r, epoch_end, evaluated, err);
}

/* The gradients were finite, the update may still have overflowed: a checkpoint with a NaN in it is worse than none. */
static bool check_vars(const run *r, trt_error *err) {
  const trt_program *p = r->model->program;
  for (uint64_t i = 0; i < trt_model_state_vars(p); i++) {
    if (p->vars[i].dtype != TRT_F32) continue;
    const float *v = (const float *)(const void *)(r->model->vars + p->vars[i].offset);
    uint64_t n = p->vars[i].bytes / 4;
    for (uint64_t k = 0; k < n; k++) {
      if (isfinite(v[k])) continue;
      return trt_fail(err, "step %" PRId64 ": '%s' is no longer finite, so it is not saved; lower --lr or raise --warmup",
                      r->at.step, p->vars[i].name);
    }
  }
  return true;
}

static bool save(run *r, trt_error *err) {
  if (r->saved_step == r->at.step) return true;
  if (!check_vars(r, err) || !trt_checkpoint_save(r->state, r->model, r->settings, &r->at, err)) return false;
  r->saved_step = r->at.step;
  return true;
}

/* ---- the loop ---- */

/* No state is saved between a calibration and its step: a resumed run repeats it, to the same bits. */
static bool calibrate(run *r, trt_error *err) {
  if (!trt_calibration_due(r->model->program, r->settings, r->at.step)) return true;
  return trt_calibrate(r->model, r->data, r->settings, r->at.step, &stop_signal, &r->progress, err);
}

static bool track(run *r, trt_error *err) {
  double before = trt_now();
  bool ok = !r->tracker.ready || trt_track_step(&r->tracker, r->at.step, (double)r->at.step / (double)r->per_epoch, err);
  r->track_seconds += trt_now() - before;
  return ok;
}

static bool turn(run *r, trt_error *err) {
  if (!calibrate(r, err)) return false;
  if (stop_signal) return true; /* it was abandoned; the loop saves */
  if (!run_step(r, err)) return false;
  if (trt_profile_complete(&r->profile) && !trt_profile_report(&r->profile, r->options->out, &r->progress, err)) return false;
  bool epoch_end = r->at.step % r->per_epoch == 0, end = r->at.step == r->last;
  if (!track(r, err)) return false;
  r->at.eval_pending = (epoch_end || end) && r->options->evaluate;
  show_bar(r);
  if (!report_step(r, err)) return false;
  bool due = r->options->save_every ? r->at.step % r->options->save_every == 0 : epoch_end;
  return (!due && !end && !stop_signal) || save(r, err);
}

/* What the run is, for reports. */
static bool describe(const run *r, trt_error *err) {
  const trt_program *p = r->model->program;
  const trt_settings *s = r->settings;
  char path[4096];
  trt_writer w;
  trt_text text = {0};
  const char *const names[] = {"model", "recipe", "target", "data"}, *const values[] = {p->model, p->recipe, p->target,
                                                                                        s->data};
  for (int i = 0; i < 4; i++) {
    trt_text_add(&text, "%s\"%s\":", i ? ",\n" : "{", names[i]);
    trt_text_add_json(&text, values[i]);
  }
  trt_text_add(&text, ",\n\"seed\":%" PRId64 ",\"epochs\":%" PRId64 ",\"batch\":%" PRId64 ",\"lr\":%.9g}\n", s->seed, s->epochs,
               s->batch, s->lr);
  bool ok = trt_join(path, sizeof path, r->options->out, "run.json", err) && trt_writer_open(&w, path, err) &&
            trt_writer_put(&w, text.data, text.size, err) && trt_writer_commit(&w, err);
  free(text.data);
  return ok;
}

/* Without tracking, what an earlier run has left of it must not look like this run's. */
static bool begin_tracking(run *r, trt_error *err) {
  const trt_train_options *o = r->options;
  const trt_position *resume = r->at.step > 0 ? &r->at : NULL;
  if (o->track_every)
    return trt_track_open(&r->tracker, r->model, r->data, o->out, o->track_every, o->track_window, r->settings->seed,
                          r->at.step, r->last, resume, err);
  char path[4096];
  trt_lines stale;
  if (!trt_join(path, sizeof path, o->out, "track.jsonl", err)) return false;
  if (!trt_file_exists(path)) return true;
  if (!trt_lines_open(&stale, o->out, "track.jsonl", NULL, resume, err)) return false;
  trt_lines_close(&stale);
  return true;
}

/* The first steps touch memory for the first time. A run too short for all is watched as far as it goes. */
static bool begin_profile(run *r, trt_error *err) {
  enum { WARM_UP = 3 };
  int64_t left = r->last - r->at.step, skip = left > WARM_UP ? WARM_UP : left - 1, steps = r->options->profile;
  if (!steps || left < 1) return true;
  if (steps > left - skip) steps = left - skip;
  return trt_profile_open(&r->profile, r->model->program, r->step.entry, r->options->profile_by, skip, steps, err);
}

static bool begin(run *r, trt_error *err) {
  const trt_train_options *o = r->options;
  int64_t total = trt_total_steps(r->settings);
  r->per_epoch = trt_steps_per_epoch(r->settings);
  r->last = o->max_steps && o->max_steps < total ? o->max_steps : total;
  r->saved_step = r->at.step > 0 ? r->at.step : -1;
  r->order_epoch = -1;
  r->order = trt_alloc((size_t)r->data->split[TRT_TRAIN].count * sizeof *r->order);
  trt_progress_start(&r->progress);
  return trt_model_bind(r->model, "train", &r->step, err) && make_folder(o->out, err) && lock_folder(r, err) &&
         trt_join(r->state, sizeof r->state, o->out, TRT_STATE_FILE, err) && set_aside(r, err) &&
         trt_metrics_open(&r->metrics, o->out, r->at.step > 0 ? &r->at : NULL, err) && describe(r, err) &&
         begin_tracking(r, err) && begin_profile(r, err);
}

static bool loop(run *r, trt_error *err) {
  if (r->at.step > 0 && r->at.eval_pending && !report_step(r, err)) return false;
  while (r->at.step < r->last && !stop_signal) {
    if (!turn(r, err)) return false;
  }
  if (stop_signal) return save(r, err);                     /* the signal may have come after the turn's own look */
  if (r->options->evaluate && r->evaluation.samples == 0) { /* resumed at the end: nothing was left to train */
    if (!trt_evaluate(r->model, r->data, TRT_TEST, r->at.step, &stop_signal, &r->progress, &r->evaluation, err)) return false;
  }
  return true;
}

static int finish(run *r, bool ok, const trt_error *err) {
  trt_progress_clear(&r->progress);
  int code = 0;
  if (!ok) {
    code = trt_report(err);
  } else if (stop_signal) {
    trt_note("stopped by signal %d after step %" PRId64 "; the state is saved, go on with --resume", (int)stop_signal,
             r->at.step);
    code = 128 + (int)stop_signal;
  } else {
    char time[16];
    trt_progress_line(&r->progress, "trained %" PRId64 " steps in %s; state in %s", r->at.step,
                      trt_progress_time(trt_now() - r->started, time), r->state);
    if (r->tracker.ready && r->step_seconds > 0)
      trt_progress_line(&r->progress, "tracking took %.1f %% as long as the steps", 100 * r->track_seconds / r->step_seconds);
    if (r->options->evaluate) trt_evaluation_print(&r->evaluation, "test", false);
  }
  trt_metrics_close(&r->metrics);
  trt_track_close(&r->tracker);
  trt_profile_close(&r->profile);
  if (r->lock >= 0) close(r->lock);
  free(r->order);
  return code;
}

int trt_train(const trt_model *model, const trt_dataset *data, const trt_settings *settings,
              const trt_train_options *options, const trt_position *start) {
  run r = {.model = model, .data = data, .settings = settings, .options = options, .at = *start, .lock = -1};
  r.metrics.json.fd = r.metrics.csv.fd = r.tracker.lines.fd = -1;
  trt_error err;
  catch_signals();
  r.started = trt_now();
  bool ok = begin(&r, &err) && loop(&r, &err);
  return finish(&r, ok, &err);
}
