/* The training loop, apart from its command line. */
#ifndef TRT_TRAIN_H
#define TRT_TRAIN_H
#include "checkpoint.h"
#include "data.h"
#include "evaluate.h"
#include "metrics.h"
#include "profile.h"
#include "progress.h"

typedef struct trt_train_options {
  const char *out;    /* folder of state and metrics */
  int64_t max_steps;  /* stop after so many steps in all; 0: the whole schedule */
  int64_t save_every; /* steps; 0: at each epoch's end */
  int64_t log_every;  /* steps */
  int64_t track_every, track_window; /* see track.h; every 0: no tracking */
  int64_t profile; /* steps to watch, after a few others; 0: none */
  trt_profile_by profile_by;
  bool resume, evaluate;
} trt_train_options;

/* Trains `model` on `data` from `start` (step 0, or where the checkpoint that `model` holds was) to the end of the
 * schedule. SIGINT, SIGTERM and SIGHUP end it after the current step, saved. Returns the exit code. */
int trt_train(const trt_model *model, const trt_dataset *data, const trt_settings *settings,
              const trt_train_options *options, const trt_position *start);
#endif
