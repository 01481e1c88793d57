/* Reports on training runs: what `TRAINER train --out DIR` leaves in its folders, read, grouped by recipe, and drawn as one
 * HTML page or printed as one Markdown table. Numbers that a file does not have are NaN. Memory: the caller's arena. */
#ifndef TT_REPORT_H
#define TT_REPORT_H
#include <stdbool.h>
#include <stdint.h>
#include "compiler/support/arena.h"
#include "compiler/support/diag.h"
#include "compiler/support/strbuf.h"

/* One line of metrics.jsonl. The fields are doubles alone, in the order of tt_metric_names. */
typedef struct tt_metric_row {
  double step, epoch, loss, lr, grad_norm, images_per_s, test_loss, test_acc;
} tt_metric_row;

enum { TT_CONFIDENCE_BINS = 20, TT_SCALE_BINS = 64, TT_QUANTIZERS = 6 };

/* What the tracker says of one weight, or of all, at the end of a window of steps (NUMERICS 7). Doubles alone up to the
 * histograms, in the order of tt_track_names. */
typedef struct tt_track_stats {
  double elements, ratio, oscillating, rate_w, rate_q, confidence, error, saturation;
  double confidence_hist[TT_CONFIDENCE_BINS]; /* shares */
  double scale_hist[TT_SCALE_BINS];           /* shares, from 2^scale_first on */
  double scale_first;
  const char *name;
} tt_track_stats;

/* A latent weight over a window, and what it is rounded to. */
typedef struct tt_trajectory {
  const char *weight;
  int64_t index;
  double ratio; /* by which it was chosen */
  int n;
  const double *w, *q;
} tt_trajectory;

typedef struct tt_track_row {
  double step, epoch, window;
  tt_track_stats total;
  int n_weights, n_trajectories;
  const tt_track_stats *weights;
  const tt_trajectory *trajectories;
  double quantizer_error[TT_QUANTIZERS]; /* Q1 to Q6, relative */
  double rate_y;                         /* rate of change of a block's output on fixed images */
} tt_track_row;

typedef struct tt_run {
  const char *folder, *label; /* label: the folder's last name */
  const char *recipe;         /* NULL where the run does not say */
  const char *data;
  double seed, epochs, batch, lr;
  int n_rows, n_tracks;
  const tt_metric_row *rows;
  const tt_track_row *tracks;
  int group; /* index of its group */
} tt_run;

/* Reads a run's folder. Damaged lines are left out with a warning; false, after an error, where no figure is left. */
bool tt_run_load(tt_run *run, const char *folder, tt_arena *arena, tt_diag *diag);
/* The last and the best test accuracy, the mean training loss over the last epoch, the last test loss; NaN where never
 * measured. */
double tt_run_accuracy(const tt_run *run);
double tt_run_best(const tt_run *run);
double tt_run_loss(const tt_run *run);
double tt_run_test_loss(const tt_run *run);
/* The last tracked figures, NULL where there are none. */
const tt_track_row *tt_run_last_track(const tt_run *run);

/* Runs of one recipe; a run that names none is alone in its group. */
typedef struct tt_group {
  const char *name;
  int n;
  const int *runs; /* indices, in the order given */
} tt_group;
typedef struct tt_study {
  int n_runs, n_groups;
  tt_run *runs;
  tt_group *groups;
  const char *title;
} tt_study;
void tt_study_group(tt_study *study, tt_arena *arena); /* fills groups and runs[].group */

typedef struct tt_spread {
  int n;           /* finite values */
  double mean, sd; /* sd: of a sample, NaN where n < 2 */
} tt_spread;
tt_spread tt_spread_of(int n, const double *x);
/* The spread of `value` over a group. */
tt_spread tt_group_spread(const tt_study *study, int group, double (*value)(const tt_run *run), tt_arena *arena);
/* Differences of `value` between runs of equal seed in two groups. */
tt_spread tt_paired(const tt_study *study, int group, int base, double (*value)(const tt_run *run));
/* Number of the group of that name, or -1. */
int tt_study_find(const tt_study *study, const char *name);
/* Half the width of the 95 % confidence interval of a mean; NaN where n < 2. */
double tt_spread_half_width(const tt_spread *s);

/* The whole page, and the results tables alone as Markdown. */
void tt_report_html(tt_strbuf *out, const tt_study *study);
void tt_report_markdown(tt_strbuf *out, const tt_study *study);

/* A number to so many decimals; a dash where it is NaN. */
void tt_put_number(tt_strbuf *out, double x, int decimals);
/* Text with <, >, &, quotes made harmless. */
void tt_put_escaped(tt_strbuf *out, const char *text);
#endif
