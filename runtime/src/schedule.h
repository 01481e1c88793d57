/* The learning rate and Adam's bias corrections, a function of the step alone. */
#ifndef TRT_SCHEDULE_H
#define TRT_SCHEDULE_H
#include "model.h"

/* Everything a run's bits depend on besides the program and the data. Kept in checkpoints: a resumed run uses the same. */
typedef struct trt_settings {
  int64_t seed, epochs, cosine;
  double lr, min_lr, warmup_epochs;
  unsigned augment; /* set of trt_augment */
  char data[64];    /* trt_dataset's name and checksum */
  uint32_t data_checksum;
  int64_t train_images, batch;
} trt_settings;

int64_t trt_steps_per_epoch(const trt_settings *settings);
int64_t trt_total_steps(const trt_settings *settings);
/* Learning rate of `step` (0-based): linear warm-up, then cosine to min_lr at the last step, or constant. */
double trt_learning_rate(const trt_settings *settings, int64_t step);
/* All scalar inputs of `step`. */
trt_scalars trt_step_scalars(const trt_settings *settings, const trt_defaults *defaults, int64_t step);
#endif
