#include "evaluate.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void trt_load_batch(const trt_model *model, const trt_binding *b, const trt_fill *fill) {
  trt_fill copy = *fill;
  copy.out = (float *)(void *)(model->arena + b->images->offset);
  copy.n = b->batch;
  trt_data_fill(&copy);
  trt_model_set_labels(model, b, fill->data->split[fill->split].labels, fill->index);
}

/* Adds the first n samples of the batch that has just run. */
static void count_batch(const trt_model *model, const trt_binding *b, int64_t n, trt_evaluation *result, double *loss) {
  for (int64_t i = 0; i < n; i++) {
    int32_t hit;
    memcpy(&hit, model->arena + b->correct->offset + 4 * i, 4);
    result->correct += hit != 0;
    float each = NAN;
    if (b->losses) memcpy(&each, model->arena + b->losses->offset + 4 * i, 4);
    *loss += (double)each;
  }
  result->samples += n;
}

bool trt_evaluate(const trt_model *model, const trt_dataset *data, trt_split split, int64_t step,
                  const volatile sig_atomic_t *stop, trt_progress *progress, trt_evaluation *result, trt_error *err) {
  trt_binding b;
  *result = (trt_evaluation){0};
  if (!trt_model_bind(model, "eval", &b, err)) return false;
  if (!b.correct) return trt_fail(err, "this trainer is damaged: entry 'eval' counts nothing; compile the model again");
  int64_t total = data->split[split].count;
  int64_t *index = trt_alloc((size_t)b.batch * sizeof *index);
  double loss = 0;
  for (int64_t first = 0; first < total && !result->interrupted; first += b.batch) {
    for (int64_t i = 0; i < b.batch; i++) index[i] = first + i < total ? first + i : total - 1;
    trt_load_batch(model, &b, &(trt_fill){.data = data, .split = split, .index = index});
    trt_model_set_scalars(model, &b, &(trt_scalars){.step = step, .bc1 = 1, .bc2 = 1});
    trt_model_run(model, &b);
    count_batch(model, &b, total - first < b.batch ? total - first : b.batch, result, &loss);
    if (trt_progress_due(progress)) trt_progress_bar(progress, "testing", result->samples, total, "");
    result->interrupted = stop && *stop && result->samples < total;
  }
  free(index);
  trt_progress_clear(progress);
  result->loss = loss / (double)result->samples;
  return true;
}

void trt_evaluation_print(const trt_evaluation *r, const char *split, bool json) {
  double accuracy = (double)r->correct / (double)r->samples;
  if (json) {
    printf("{\"split\":\"%s\",\"samples\":%" PRId64 ",\"correct\":%" PRId64 ",\"accuracy\":%.9g,\"loss\":", split,
           r->samples, r->correct, accuracy);
    if (isfinite(r->loss))
      printf("%.9g}\n", r->loss);
    else
      printf("null}\n");
    return;
  }
  printf("%s accuracy %.2f %% (%" PRId64 " of %" PRId64 ")", split, 100 * accuracy, r->correct, r->samples);
  if (isfinite(r->loss)) printf(", loss %.4f", r->loss);
  putchar('\n');
}
