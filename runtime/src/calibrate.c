#include "calibrate.h"
#include "evaluate.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool trt_calibration_due(const trt_program *program, const trt_settings *s, int64_t step) {
  const trt_defaults *d = &program->defaults;
  int64_t every = d->calibration_every ? d->calibration_every : trt_steps_per_epoch(s);
  return d->calibration_steps > 0 && step % every == 0;
}

typedef struct calibration {
  const trt_model *model;
  const trt_dataset *data;
  const trt_settings *settings;
  int64_t at;   /* step of the run */
  int64_t seed; /* its own: batches, augmentation and rounding are not those of the steps to come */
  int64_t *order;
  trt_binding step;
} calibration;

/* Bias corrections go on with the steps, the learning rate stays: it is the one of step `at` that is to be judged. */
static trt_scalars scalars_of(const calibration *c, int64_t i) {
  trt_scalars s = trt_step_scalars(c->settings, &c->model->program->defaults, c->at + i);
  s.lr = trt_learning_rate(c->settings, c->at);
  s.seed = c->seed;
  s.step = i;
  return s;
}

static bool run_step(const calibration *c, int64_t i, trt_error *err) {
  const trt_settings *s = c->settings;
  int64_t per_epoch = trt_steps_per_epoch(s);
  trt_fill fill = {.data = c->data,
                   .split = TRT_TRAIN,
                   .index = c->order + i % per_epoch * s->batch,
                   .augment = s->augment,
                   .seed = c->seed,
                   .epoch = i / per_epoch};
  trt_scalars scalars = scalars_of(c, i);
  trt_load_batch(c->model, &c->step, &fill);
  trt_model_set_scalars(c->model, &c->step, &scalars);
  trt_model_run(c->model, &c->step);
  float loss = trt_model_scalar(c->model, c->step.loss), norm = trt_model_scalar(c->model, c->step.grad_norm);
  if ((!c->step.loss || isfinite(loss)) && (!c->step.grad_norm || isfinite(norm))) return true;
  return trt_fail(err,
                  "calibration before step %" PRId64 ": in its step %" PRId64
                  " the loss is %g and the gradient's norm %g; lower --lr or raise --warmup",
                  c->at + 1, i + 1, (double)loss, (double)norm);
}

/* Outputs of "ramp" and the vars of those names. */
static bool check_outputs(const trt_model *model, const trt_entry *ramp, trt_error *err) {
  const trt_program *p = model->program;
  for (uint64_t i = 0; i < ramp->n_outputs; i++) {
    const trt_tensor *var = trt_tensor_find(p->vars, p->n_vars, ramp->outputs[i].name);
    if (!var || var->bytes != ramp->outputs[i].bytes)
      return trt_fail(err, "this trainer is damaged: no var fits output '%s' of its entry '%s'; compile it again",
                      ramp->outputs[i].name, ramp->name);
  }
  return true;
}

static void conclude(const calibration *c, const trt_entry *ramp, const uint8_t *before) {
  const trt_model *model = c->model;
  const trt_program *p = model->program;
  const trt_tensor *most = trt_tensor_find(ramp->inputs, ramp->n_inputs, "period_max");
  float epoch = (float)trt_steps_per_epoch(c->settings);
  if (most) memcpy(model->arena + most->offset, &epoch, sizeof epoch);
  trt_step step = {model->vars, model->arena};
  ramp->fn(&step);
  memcpy(model->vars, before, model->vars_bytes);
  for (uint64_t i = 0; i < ramp->n_outputs; i++) {
    const trt_tensor *from = &ramp->outputs[i], *to = trt_tensor_find(p->vars, p->n_vars, from->name);
    memcpy(model->vars + to->offset, model->arena + from->offset, from->bytes);
  }
}

static bool run_all(const calibration *c, const trt_entry *ramp, const uint8_t *before, const volatile sig_atomic_t *stop,
                    trt_progress *progress, trt_error *err) {
  int64_t n = c->model->program->defaults.calibration_steps;
  bool ok = true;
  for (int64_t i = 0; ok && i < n && !*stop; i++) {
    ok = run_step(c, i, err);
    if (trt_progress_due(progress)) trt_progress_bar(progress, "calibrating", i + 1, n, "");
  }
  if (ok && !*stop)
    conclude(c, ramp, before);
  else
    memcpy(c->model->vars, before, c->model->vars_bytes);
  return ok;
}

bool trt_calibrate(const trt_model *model, const trt_dataset *data, const trt_settings *settings, int64_t step,
                   const volatile sig_atomic_t *stop, trt_progress *progress, trt_error *err) {
  calibration c = {.model = model, .data = data, .settings = settings, .at = step};
  const trt_entry *ramp = trt_model_entry(model, "ramp", err);
  if (!ramp || !check_outputs(model, ramp, err) || !trt_model_bind(model, "calibrate", &c.step, err)) return false;
  if (ramp->n_outputs == 0) return true; /* no layer is quantized */
  uint64_t bytes = model->vars_bytes;
  uint8_t *before = trt_alloc_tensors(bytes);
  if (!before) return trt_fail(err, "no memory to set %" PRIu64 " MiB of state aside for a calibration", bytes >> 20);
  memcpy(before, model->vars, bytes);
  c.seed = (int64_t)(trt_random((uint64_t)settings->seed, TRT_STREAM_CALIBRATE, (uint64_t)step) >> 11);
  c.order = trt_alloc((size_t)data->split[TRT_TRAIN].count * sizeof *c.order);
  trt_data_shuffle(c.seed, 0, data->split[TRT_TRAIN].count, c.order);
  bool ok = run_all(&c, ramp, before, stop, progress, err);
  free(c.order);
  free(before);
  return ok;
}
