/* Checkpoints: every var of the program, bit for bit, and where the run was, in one safetensors file written atomically. */
#ifndef TRT_CHECKPOINT_H
#define TRT_CHECKPOINT_H
#include "model.h"
#include "schedule.h"

#define TRT_STATE_FILE "state.safetensors"

/* Where a run is. The window's sums are kept so that a resumed run logs what an uninterrupted one logs. */
typedef struct trt_position {
  int64_t step;      /* steps done */
  bool eval_pending; /* this step ends an epoch whose evaluation has not been logged yet */
  double loss_sum;   /* of the steps since the last logged line */
  int64_t loss_count;
  double grad_norm; /* of the last step */
} trt_position;

bool trt_checkpoint_save(const char *path, const trt_model *model, const trt_settings *settings,
                         const trt_position *position, trt_error *err);
/* Loads a checkpoint of this program. Everything is checked before the first var is touched. `settings` and `position` may
 * be NULL. */
bool trt_checkpoint_load(const char *path, const trt_model *model, trt_settings *settings, trt_position *position,
                         trt_error *err);
#endif
