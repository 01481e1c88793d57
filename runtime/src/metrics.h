/* DIR/metrics.jsonl and DIR/metrics.csv: one line for each logged step, the same values in both. */
#ifndef TRT_METRICS_H
#define TRT_METRICS_H
#include "lines.h"

typedef struct trt_metrics {
  trt_lines json, csv;
} trt_metrics;

typedef struct trt_metrics_line {
  int64_t step;
  double epoch; /* epochs done, with the fraction */
  double loss, lr, grad_norm, images_per_s;
  double test_loss, test_acc; /* NaN: not evaluated at this step */
} trt_metrics_line;

/* Opens both files in `folder`. `resume`: keeps the lines up to that position and cuts off what an interrupted run logged
 * after its last checkpoint; NULL: starts empty files. */
bool trt_metrics_open(trt_metrics *metrics, const char *folder, const trt_position *resume, trt_error *err);
/* Appends a line to both. */
bool trt_metrics_log(trt_metrics *metrics, const trt_metrics_line *line, trt_error *err);
void trt_metrics_close(trt_metrics *metrics);
#endif
