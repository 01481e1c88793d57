/* Calibrations: training steps that are taken back, for what they say about the weights. */
#ifndef TRT_CALIBRATE_H
#define TRT_CALIBRATE_H
#include <signal.h>
#include "data.h"
#include "model.h"
#include "progress.h"
#include "schedule.h"

/* True where one comes before `step`. */
bool trt_calibration_due(const trt_program *program, const trt_settings *settings, int64_t step);

/* Runs the calibration before `step` (0-based): every var is as before afterwards, but those that entry "ramp" has an
 * output for. What it finds depends on the vars, the settings and `step` alone, so a run that was stopped inside it, or
 * after it, may repeat it. Once `*stop` is nonzero it ends early, everything as before. */
bool trt_calibrate(const trt_model *model, const trt_dataset *data, const trt_settings *settings, int64_t step,
                   const volatile sig_atomic_t *stop, trt_progress *progress, trt_error *err);
#endif
