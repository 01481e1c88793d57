/* Reading what a trainer wrote: run.json (who it was), metrics.jsonl or metrics.csv, track.jsonl. A crash may tear the last
 * line and a full disk any of them, so each line stands for itself. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/driver/report.h"
#include "compiler/support/vec.h"

static const char *const metric_names[] = {"step", "epoch", "loss", "lr", "grad_norm", "images_per_s", "test_loss", "test_acc"};
static const char *const track_names[] = {"elements", "ratio",      "oscillating", "rate_w",
                                          "rate_q",   "confidence", "error",       "saturation"};
static const char *const quantizer_names[] = {"q1", "q2", "q3", "q4", "q5", "q6"};
enum { N_METRICS = 8, N_TRACK = 8, MAX_POINTS = 100000 };

static double number(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static const char *text(const cJSON *object, const char *name, tt_arena *arena) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsString(item) ? tt_arena_str(arena, item->valuestring) : NULL;
}

/* Up to `max` numbers of an array; the rest of `out` is left as it is. */
static int numbers(const cJSON *object, const char *name, double *out, int max) {
  const cJSON *item = NULL, *array = cJSON_GetObjectItemCaseSensitive(object, name);
  int n = 0;
  cJSON_ArrayForEach(item, array) {
    if (n == max) break;
    out[n++] = cJSON_IsNumber(item) ? item->valuedouble : NAN;
  }
  return n;
}

/* ---- lines ---- */

typedef struct lines {
  const char *file;
  char *at;
  int number; /* of the line handed out last */
  int damaged;
} lines;

static char *next_line(lines *l) {
  while (l->at && *l->at) {
    char *line = l->at, *end = strchr(line, '\n');
    if (end) *end = 0;
    l->at = end ? end + 1 : NULL;
    l->number++;
    if (line[strspn(line, " \t\r")]) return line;
  }
  return NULL;
}

static void left_out(lines *l, const char *why, tt_diag *diag) {
  if (l->damaged++ == 0)
    tt_warning(diag, (tt_loc){.file = l->file, .line = l->number}, "%s; the line is left out", why);
}

static void say_damage(const lines *l, tt_diag *diag) {
  if (l->damaged > 1) tt_note(diag, (tt_loc){.file = l->file}, "%d more lines like it are left out", l->damaged - 1);
}

/* False where the file is not there; an error is said for any other reason. */
static bool open_lines(lines *l, const char *folder, const char *name, tt_arena *arena, tt_diag *diag) {
  size_t bytes = 0;
  *l = (lines){.file = tt_arena_printf(arena, "%s/%s", folder, name)};
  l->at = tt_read_file(arena, l->file, &bytes);
  if (l->at) return true;
  if (errno != ENOENT && errno != ENOTDIR) tt_warning(diag, (tt_loc){.file = l->file}, "cannot read: %s", strerror(errno));
  return false;
}

/* ---- metrics ---- */

typedef TT_VEC(tt_metric_row) metric_rows;

/* Steps go up; a line that goes back is of another run and would fold the curves. */
static void add_row(metric_rows *rows, const tt_metric_row *row, lines *l, tt_diag *diag) {
  bool ordered = rows->count == 0 || row->step > rows->data[rows->count - 1].step;
  if (!isfinite(row->step) || !ordered)
    left_out(l, isfinite(row->step) ? "its step is not above the line's before it" : "it has no step", diag);
  else
    tt_vec_push(rows, *row);
}

static void read_json_metrics(metric_rows *rows, lines *l, tt_diag *diag) {
  for (char *line; (line = next_line(l));) {
    cJSON *object = cJSON_Parse(line);
    tt_metric_row row;
    for (int i = 0; i < N_METRICS; i++) ((double *)&row)[i] = number(object, metric_names[i]);
    if (cJSON_IsObject(object)) add_row(rows, &row, l, diag);
    else left_out(l, "this is no JSON object", diag);
    cJSON_Delete(object);
  }
}

/* Columns by their names in the head. */
static void read_csv_metrics(metric_rows *rows, lines *l, tt_diag *diag) {
  int column[32], n = 0;
  char *head = next_line(l);
  for (char *save = NULL, *p = head ? strtok_r(head, ",\r", &save) : NULL; p && n < 32; p = strtok_r(NULL, ",\r", &save)) {
    column[n] = -1;
    for (int i = 0; i < N_METRICS; i++)
      if (strcmp(p, metric_names[i]) == 0) column[n] = i;
    n++;
  }
  for (char *line; (line = next_line(l));) {
    double v[N_METRICS];
    for (int i = 0; i < N_METRICS; i++) v[i] = NAN;
    char *p = line;
    for (int i = 0; i < n && p; i++) {
      char *end, *comma = strchr(p, ',');
      double x = strtod(p, &end);
      if (column[i] >= 0 && end != p) v[column[i]] = x;
      p = comma ? comma + 1 : NULL;
    }
    tt_metric_row row;
    memcpy(&row, v, sizeof row);
    add_row(rows, &row, l, diag);
  }
}

static void load_metrics(tt_run *run, tt_arena *arena, tt_diag *diag) {
  metric_rows rows = {0};
  lines l;
  if (open_lines(&l, run->folder, "metrics.jsonl", arena, diag)) read_json_metrics(&rows, &l, diag);
  else if (open_lines(&l, run->folder, "metrics.csv", arena, diag)) read_csv_metrics(&rows, &l, diag);
  say_damage(&l, diag);
  run->n_rows = (int)rows.count;
  run->rows = tt_arena_copy(arena, rows.data, rows.count * sizeof *rows.data);
  tt_vec_free(&rows);
}

/* ---- track ---- */

static void normalise(double *hist, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) {
    if (!(hist[i] >= 0)) hist[i] = 0;
    sum += hist[i];
  }
  for (int i = 0; i < n && sum > 0; i++) hist[i] /= sum;
}

static tt_track_stats read_stats(const cJSON *object, tt_arena *arena) {
  tt_track_stats s;
  memset(&s, 0, sizeof s);
  for (int i = 0; i < N_TRACK; i++) ((double *)&s)[i] = number(object, track_names[i]);
  numbers(object, "confidence_hist", s.confidence_hist, TT_CONFIDENCE_BINS);
  numbers(object, "scale_hist", s.scale_hist, TT_SCALE_BINS);
  normalise(s.confidence_hist, TT_CONFIDENCE_BINS);
  normalise(s.scale_hist, TT_SCALE_BINS);
  s.scale_first = number(object, "scale_first");
  s.name = text(object, "name", arena);
  if (!s.name) s.name = "?";
  return s;
}

static tt_trajectory read_trajectory(const cJSON *object, tt_arena *arena) {
  tt_trajectory t = {.weight = text(object, "name", arena), .ratio = number(object, "ratio")};
  double index = number(object, "index");
  t.index = index >= 0 && index < 1e15 ? (int64_t)index : 0;
  if (!t.weight) t.weight = "?";
  int n[2];
  const char *const names[2] = {"w", "q"};
  double *v[2];
  for (int i = 0; i < 2; i++) {
    n[i] = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(object, names[i]));
    if (n[i] > MAX_POINTS) n[i] = MAX_POINTS;
    v[i] = TT_NEW_N(arena, double, n[i]);
    numbers(object, names[i], v[i], n[i]);
  }
  t.n = n[0] < n[1] ? n[0] : n[1];
  t.w = v[0];
  t.q = v[1];
  return t;
}

static tt_track_row read_track(const cJSON *object, tt_arena *arena) {
  tt_track_row row = {.step = number(object, "step"), .epoch = number(object, "epoch"), .window = number(object, "window")};
  row.rate_y = number(object, "rate_y");
  row.total = read_stats(cJSON_GetObjectItemCaseSensitive(object, "total"), arena);
  const cJSON *item = NULL, *weights = cJSON_GetObjectItemCaseSensitive(object, "weights");
  const cJSON *elements = cJSON_GetObjectItemCaseSensitive(object, "trajectories");
  const cJSON *errors = cJSON_GetObjectItemCaseSensitive(object, "quantizer_error");
  for (int i = 0; i < TT_QUANTIZERS; i++) row.quantizer_error[i] = number(errors, quantizer_names[i]);
  tt_track_stats *stats = TT_NEW_N(arena, tt_track_stats, cJSON_GetArraySize(weights));
  cJSON_ArrayForEach(item, weights) stats[row.n_weights++] = read_stats(item, arena);
  tt_trajectory *paths = TT_NEW_N(arena, tt_trajectory, cJSON_GetArraySize(elements));
  cJSON_ArrayForEach(item, elements) paths[row.n_trajectories++] = read_trajectory(item, arena);
  row.weights = stats;
  row.trajectories = paths;
  return row;
}

static void load_tracks(tt_run *run, tt_arena *arena, tt_diag *diag) {
  TT_VEC(tt_track_row) rows = {0};
  lines l;
  if (!open_lines(&l, run->folder, "track.jsonl", arena, diag)) return;
  for (char *line; (line = next_line(&l));) {
    cJSON *object = cJSON_Parse(line);
    tt_track_row row = {.step = NAN};
    if (cJSON_IsObject(object)) row = read_track(object, arena);
    if (isfinite(row.step) && (rows.count == 0 || row.step > rows.data[rows.count - 1].step)) tt_vec_push(&rows, row);
    else left_out(&l, "this is no JSON object with a step above the line's before it", diag);
    cJSON_Delete(object);
  }
  say_damage(&l, diag);
  run->n_tracks = (int)rows.count;
  run->tracks = tt_arena_copy(arena, rows.data, rows.count * sizeof *rows.data);
  tt_vec_free(&rows);
}

/* ---- run.json ---- */

/* The name that a recipe's text gives itself: its first line "name = ...". */
static const char *recipe_name(const char *recipe, tt_arena *arena) {
  const char *p = recipe ? strstr(recipe, "name = ") : NULL;
  if (!p) return NULL;
  p += strlen("name = ");
  size_t n = strcspn(p, "\r\n");
  return n ? tt_arena_strn(arena, p, n) : NULL;
}

static void load_identity(tt_run *run, tt_arena *arena, tt_diag *diag) {
  size_t bytes = 0;
  const char *file = tt_arena_printf(arena, "%s/run.json", run->folder);
  char *json = tt_read_file(arena, file, &bytes);
  run->seed = run->epochs = run->batch = run->lr = NAN;
  if (!json) return;
  cJSON *object = cJSON_Parse(json);
  if (!cJSON_IsObject(object))
    tt_warning(diag, (tt_loc){.file = file}, "this is no JSON object; the run goes by its folder's name");
  run->recipe = recipe_name(text(object, "recipe", arena), arena);
  run->data = text(object, "data", arena);
  run->seed = number(object, "seed");
  run->epochs = number(object, "epochs");
  run->batch = number(object, "batch");
  run->lr = number(object, "lr");
  cJSON_Delete(object);
}

static const char *last_name(const char *folder, tt_arena *arena) {
  size_t n = strlen(folder);
  while (n > 1 && folder[n - 1] == '/') n--;
  size_t first = n;
  while (first > 0 && folder[first - 1] != '/') first--;
  return tt_arena_strn(arena, folder + first, n - first);
}

bool tt_run_load(tt_run *run, const char *folder, tt_arena *arena, tt_diag *diag) {
  *run = (tt_run){.folder = folder, .label = last_name(folder, arena)};
  load_identity(run, arena, diag);
  load_metrics(run, arena, diag);
  load_tracks(run, arena, diag);
  if (run->n_rows || run->n_tracks) return true;
  tt_error(diag, (tt_loc){.file = folder},
           "no metrics in this folder; give one that 'TRAINER train --out DIR' wrote metrics.jsonl or metrics.csv into");
  return false;
}
