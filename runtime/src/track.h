/* Tracking: runs the entries "track" and "track_report" beside the training steps and writes what they say, a line a window,
 * to DIR/track.jsonl. Nothing is computed here, only chosen (which elements to follow) and printed.
 *
 * "track" runs in every step of a window, as oscillation shows only in the whole way that a weight has gone, and costs little.
 * "track_output" is a forward pass: it runs in pairs of consecutive steps, one in TRT_TRACK_SPACING, the last at the window's
 * end. Its rate changes slowly, so a few pairs give the window's mean. */
#ifndef TRT_TRACK_FILE_H
#define TRT_TRACK_FILE_H
#include "lines.h"
#include "data.h"
#include "model.h"

enum { TRT_TRACK_DEFAULT = 200, TRT_TRACK_PATHS = 4, TRT_TRACK_SPACING = 50 };

typedef struct trt_path {
  const trt_tensor *w, *q; /* vars */
  const char *name;        /* of the weight */
  int64_t index;
  double ratio;
} trt_path;

typedef struct trt_tracker {
  trt_lines lines;
  const trt_model *model;
  const trt_dataset *data;
  const trt_entry *step, *report;
  trt_binding errors; /* entry NULL: the program has none */
  const trt_entry *output; /* NULL: the model has no blocks */
  const trt_tensor *images; /* of `output` */
  int64_t looked, pairs; /* step of the last look at the output, -1: none; pairs of looks in the window */
  double rate_y;         /* their mean */
  int64_t every, window; /* steps from record to record; moves in each, at most `every` */
  int64_t last;          /* the training's last step: records are at it and every `every` steps before */
  int64_t seed, moves;   /* moves added so far; -1: no window is open */
  trt_path paths[TRT_TRACK_PATHS];
  int n_paths;
  float *points[TRT_TRACK_PATHS]; /* of each path [window + 1][2]: w, q */
  int64_t n_points;
  bool ready; /* tracking is on */
} trt_tracker;

/* `window` 0: as many as `every`, at most 200. The model has room for tracking. */
bool trt_track_open(trt_tracker *t, const trt_model *model, const trt_dataset *data, const char *folder, int64_t every,
                    int64_t window, int64_t seed, int64_t first, int64_t last, const trt_position *resume, trt_error *err);
/* After the step that made `step` steps in all. */
bool trt_track_step(trt_tracker *t, int64_t step, double epoch, trt_error *err);
void trt_track_close(trt_tracker *t);
#endif
