#include "schedule.h"
#include <math.h>

int64_t trt_steps_per_epoch(const trt_settings *s) { return s->train_images / s->batch; }

int64_t trt_total_steps(const trt_settings *s) { return s->epochs * trt_steps_per_epoch(s); }

double trt_learning_rate(const trt_settings *s, int64_t step) {
  double total = (double)trt_total_steps(s), t = (double)step;
  double warmup = floor(s->warmup_epochs * (double)trt_steps_per_epoch(s));
  if (warmup > total) warmup = total;
  if (t < warmup) return s->lr * (t + 1) / warmup;
  if (!s->cosine || total <= warmup) return s->lr;
  const double pi = 3.14159265358979323846;
  double x = (t - warmup) / (total - warmup);
  return s->min_lr + 0.5 * (s->lr - s->min_lr) * (1 + cos(pi * x));
}

/* 1 - beta^t without cancellation for betas near 1. */
static double correction(double beta, double t) { return beta > 0 ? -expm1(t * log(beta)) : 1; }

trt_scalars trt_step_scalars(const trt_settings *s, const trt_defaults *d, int64_t step) {
  double t = (double)step + 1;
  return (trt_scalars){.seed = s->seed,
                       .step = step,
                       .lr = trt_learning_rate(s, step),
                       .bc1 = correction(d->beta1, t),
                       .bc2 = correction(d->beta2, t)};
}
