#include "metrics.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static const char csv_head[] = "step,epoch,loss,lr,grad_norm,images_per_s,test_loss,test_acc\n";

bool trt_metrics_open(trt_metrics *m, const char *folder, const trt_position *resume, trt_error *err) {
  m->json.fd = m->csv.fd = -1;
  if (trt_lines_open(&m->json, folder, "metrics.jsonl", NULL, resume, err) &&
      trt_lines_open(&m->csv, folder, "metrics.csv", csv_head, resume, err))
    return true;
  trt_metrics_close(m);
  return false;
}

bool trt_metrics_log(trt_metrics *m, const trt_metrics_line *l, trt_error *err) {
  const double values[] = {l->epoch, l->loss, l->lr, l->grad_norm, l->images_per_s, l->test_loss, l->test_acc};
  static const char *const names[] = {"epoch", "loss", "lr", "grad_norm", "images_per_s", "test_loss", "test_acc"};
  char json[512], csv[512];
  int j = snprintf(json, sizeof json, "{\"step\":%" PRId64, l->step);
  int c = snprintf(csv, sizeof csv, "%" PRId64, l->step);
  for (int i = 0; i < 7; i++) { /* absent: no key in JSON, nothing between commas in CSV */
    bool there = isfinite(values[i]);
    if (there) j += snprintf(json + j, sizeof json - (size_t)j, ",\"%s\":%.9g", names[i], values[i]);
    c += snprintf(csv + c, sizeof csv - (size_t)c, ",");
    if (there) c += snprintf(csv + c, sizeof csv - (size_t)c, "%.9g", values[i]);
  }
  j += snprintf(json + j, sizeof json - (size_t)j, "}\n");
  c += snprintf(csv + c, sizeof csv - (size_t)c, "\n");
  return trt_lines_put(&m->json, json, (size_t)j, err) && trt_lines_put(&m->csv, csv, (size_t)c, err);
}

void trt_metrics_close(trt_metrics *m) {
  trt_lines_close(&m->json);
  trt_lines_close(&m->csv);
}
