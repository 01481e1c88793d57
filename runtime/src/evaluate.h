/* Loss and accuracy over a whole split. */
#ifndef TRT_EVALUATE_H
#define TRT_EVALUATE_H
#include <signal.h>
#include "data.h"
#include "model.h"
#include "progress.h"

typedef struct trt_evaluation {
  int64_t samples, correct;
  double loss; /* mean over samples; NaN where the program has no per-sample losses */
  bool interrupted;
} trt_evaluation;

/* Copies a batch of the data set to the entry's inputs: images and labels. */
void trt_load_batch(const trt_model *model, const trt_binding *binding, const trt_fill *fill);

/* Runs entry "eval" over every sample once, after `step` steps of training (rounding may change at a step). The last batch
 * is padded and the padding not counted, so the accuracy is exact. False after an error, *result then being undefined.
 * `stop` may be NULL; once it is nonzero the evaluation ends early as `interrupted`. */
bool trt_evaluate(const trt_model *model, const trt_dataset *data, trt_split split, int64_t step,
                  const volatile sig_atomic_t *stop, trt_progress *progress, trt_evaluation *result, trt_error *err);
/* "test accuracy 87.12 % (8712 of 10000), loss 0.3512" or, as JSON, an object. To stdout. */
void trt_evaluation_print(const trt_evaluation *result, const char *split, bool json);
#endif
