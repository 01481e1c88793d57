/* Final values of runs, groups of runs by recipe, means, and differences paired by seed. */
#include <math.h>
#include <string.h>
#include "compiler/driver/report.h"

double tt_run_accuracy(const tt_run *run) {
  for (int i = run->n_rows - 1; i >= 0; i--)
    if (isfinite(run->rows[i].test_acc)) return run->rows[i].test_acc;
  return NAN;
}

double tt_run_best(const tt_run *run) {
  double best = NAN;
  for (int i = 0; i < run->n_rows; i++) best = fmax(best, run->rows[i].test_acc); /* fmax passes NaN over */
  return best;
}

/* A line's loss is the mean since the line before it, so lines count by their steps. */
double tt_run_loss(const tt_run *run) {
  if (run->n_rows == 0) return NAN;
  double begin = ceil(run->rows[run->n_rows - 1].epoch) - 1, sum = 0, steps = 0;
  for (int i = run->n_rows - 1; i >= 0 && run->rows[i].epoch > begin; i--) {
    double n = run->rows[i].step - (i > 0 ? run->rows[i - 1].step : 0);
    sum += n * run->rows[i].loss;
    steps += n;
  }
  return sum / steps;
}

double tt_run_test_loss(const tt_run *run) {
  for (int i = run->n_rows - 1; i >= 0; i--)
    if (isfinite(run->rows[i].test_loss)) return run->rows[i].test_loss;
  return NAN;
}

const tt_track_row *tt_run_last_track(const tt_run *run) { return run->n_tracks ? &run->tracks[run->n_tracks - 1] : NULL; }

int tt_study_find(const tt_study *study, const char *name) {
  for (int i = 0; i < study->n_groups; i++)
    if (strcmp(study->groups[i].name, name) == 0) return i;
  return -1;
}

void tt_study_group(tt_study *s, tt_arena *arena) {
  s->groups = TT_NEW_N(arena, tt_group, s->n_runs);
  for (int i = 0; i < s->n_runs; i++) {
    const char *name = s->runs[i].recipe ? s->runs[i].recipe : s->runs[i].label;
    int group = s->runs[i].recipe ? tt_study_find(s, name) : -1;
    if (group < 0) {
      group = s->n_groups++;
      s->groups[group] = (tt_group){.name = name, .runs = TT_NEW_N(arena, int, s->n_runs)};
    }
    s->runs[i].group = group;
    ((int *)s->groups[group].runs)[s->groups[group].n++] = i;
  }
}

tt_spread tt_spread_of(int n, const double *x) {
  tt_spread s = {0, NAN, NAN};
  double sum = 0, squares = 0;
  for (int i = 0; i < n; i++) {
    if (!isfinite(x[i])) continue;
    sum += x[i];
    s.n++;
  }
  if (s.n == 0) return s;
  s.mean = sum / s.n;
  for (int i = 0; i < n; i++)
    if (isfinite(x[i])) squares += (x[i] - s.mean) * (x[i] - s.mean);
  if (s.n > 1) s.sd = sqrt(squares / (s.n - 1));
  return s;
}

tt_spread tt_group_spread(const tt_study *s, int group, double (*value)(const tt_run *), tt_arena *arena) {
  const tt_group *g = &s->groups[group];
  double *x = TT_NEW_N(arena, double, g->n);
  for (int i = 0; i < g->n; i++) x[i] = value(&s->runs[g->runs[i]]);
  return tt_spread_of(g->n, x);
}

tt_spread tt_paired(const tt_study *s, int group, int base, double (*value)(const tt_run *)) {
  enum { MAX = 1024 };
  double d[MAX];
  int n = 0;
  const tt_group *a = &s->groups[group], *b = &s->groups[base];
  for (int i = 0; i < a->n; i++)
    for (int j = 0; j < b->n && n < MAX; j++) {
      const tt_run *x = &s->runs[a->runs[i]], *y = &s->runs[b->runs[j]];
      if (x->seed == y->seed) d[n++] = value(x) - value(y);
    }
  return tt_spread_of(n, d);
}

double tt_spread_half_width(const tt_spread *s) {
  /* Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom. */
  static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                             2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                             2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
  if (s->n < 2) return NAN;
  double q = s->n - 1 <= 30 ? t[s->n - 2] : 1.96;
  return q * s->sd / sqrt(s->n);
}
