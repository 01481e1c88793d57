#include "track.h"
#include "evaluate.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char latent[] = "track-w:", rounded[] = "track-q:";

static void put_input(const trt_tracker *t, const trt_entry *e, const char *name, const void *value, uint64_t bytes) {
  const trt_tensor *to = trt_tensor_find(e->inputs, e->n_inputs, name);
  if (to && to->bytes == bytes) memcpy(t->model->arena + to->offset, value, bytes);
}

/* Every input is written before each run, as the arena is shared. */
static void run_entry(const trt_tracker *t, const trt_entry *e, int64_t step, const char *name, float value) {
  int64_t rng[2] = {t->seed, step};
  trt_step memory = {t->model->vars, t->model->arena};
  put_input(t, e, "rng", rng, sizeof rng);
  put_input(t, e, name, &value, sizeof value);
  e->fn(&memory);
}

static float element(const uint8_t *base, const trt_tensor *tensor, int64_t i) {
  float x;
  memcpy(&x, base + tensor->offset + 4 * (uint64_t)i, 4);
  return x;
}

/* ---- trajectories ---- */

static void add_points(trt_tracker *t) {
  if (t->n_points > t->window) return;
  for (int i = 0; i < t->n_paths; i++) {
    trt_path *p = &t->paths[i];
    float *to = t->points[i] + 2 * t->n_points;
    to[0] = element(t->model->vars, p->w, p->index);
    to[1] = element(t->model->vars, p->q, p->index);
  }
  t->n_points++;
}

static trt_path path_of(const trt_tracker *t, const trt_tensor *w, int64_t index, double ratio) {
  char name[4096];
  const trt_program *p = t->model->program;
  snprintf(name, sizeof name, "%s%s", rounded, w->name + strlen(latent));
  return (trt_path){
      .w = w, .q = trt_tensor_find(p->vars, p->n_vars, name), .name = w->name + strlen(latent), .index = index, .ratio = ratio};
}

/* Follows, from here on, the most oscillating element of each of the weights that have the most oscillating ones. */
static void choose_paths(trt_tracker *t) {
  const trt_entry *e = t->report;
  const trt_tensor *peak = trt_tensor_find(e->outputs, e->n_outputs, "track_peak");
  const trt_tensor *index = trt_tensor_find(e->outputs, e->n_outputs, "track_peak_index");
  const trt_program *p = t->model->program;
  t->n_paths = 0;
  if (!peak || !index) return;
  int64_t k = 0;
  for (uint64_t v = 0; v < p->n_vars && k < trt_tensor_elements(peak); v++) {
    if (strncmp(p->vars[v].name, latent, strlen(latent)) != 0) continue;
    int32_t at;
    memcpy(&at, t->model->arena + index->offset + 4 * k, 4);
    trt_path path = path_of(t, &p->vars[v], at, (double)element(t->model->arena, peak, k++));
    if (!path.q || at < 0 || at >= trt_tensor_elements(path.w) || !(path.ratio > 0)) continue;
    if (t->n_paths == TRT_TRACK_PATHS && t->paths[TRT_TRACK_PATHS - 1].ratio >= path.ratio) continue;
    int i = t->n_paths < TRT_TRACK_PATHS ? t->n_paths++ : TRT_TRACK_PATHS - 1;
    for (; i > 0 && t->paths[i - 1].ratio < path.ratio; i--) t->paths[i] = t->paths[i - 1];
    t->paths[i] = path;
  }
}

/* ---- a block's output ---- */

/* The first images of the test split, unchanged, as many as the entry takes. */
static void fill_images(const trt_tracker *t) {
  int64_t n = t->images->dim[0], *index = trt_alloc((size_t)n * sizeof *index);
  for (int64_t i = 0; i < n; i++) index[i] = i % t->data->split[TRT_TEST].count;
  trt_data_fill(&(trt_fill){.data = t->data, .split = TRT_TEST, .index = index, .n = n,
                            .out = (float *)(void *)(t->model->arena + t->images->offset)});
  free(index);
}

/* `left`: steps to the end of the window; they alone say when to look, so a resumed run looks in the same steps. */
static void look_at_output(trt_tracker *t, int64_t step, int64_t left) {
  bool first = left % TRT_TRACK_SPACING == 1, pair = left % TRT_TRACK_SPACING == 0 && t->looked == step - 1;
  if (!t->output || t->looked == step || (!first && !pair)) return;
  if (pair) t->pairs++;
  fill_images(t);
  run_entry(t, t->output, step, "weight", pair ? 1 / (float)t->pairs : 0);
  const trt_tensor *rate = trt_tensor_find(t->output->outputs, t->output->n_outputs, "rate_y");
  if (pair && rate) t->rate_y = (double)element(t->model->arena, rate, 0);
  t->looked = step;
}

static bool open_output(trt_tracker *t, trt_error *err) {
  const trt_image_shape *s = &t->data->shape;
  const trt_entry *e = trt_model_entry(t->model, "track_output", err);
  t->looked = -1;
  if (!e) return false;
  if (!e->n_outputs) return true;
  t->output = e;
  t->images = trt_tensor_find(e->inputs, e->n_inputs, "images");
  uint64_t bytes = 4 * (uint64_t)(s->batch * s->channels * s->height * s->width);
  if (t->images && t->images->bytes == bytes && t->images->rank == 4 && t->images->dim[0] == s->batch) return true;
  return trt_fail(err, "this trainer is damaged: its entry 'track_output' takes other images than 'train'; compile it again");
}

/* ---- a record ---- */

static void print_number(trt_text *out, double x) {
  if (isfinite(x)) trt_text_add(out, "%.6g", x);
  else trt_text_add(out, "null");
}

/* Row `row` of every output "track:NAME" as members of an object. */
static void print_row(const trt_tracker *t, trt_text *out, int64_t row, const char *name) {
  const trt_entry *e = t->report;
  trt_text_add(out, "{\"name\":");
  trt_text_add_json(out, name);
  for (uint64_t i = 0; i < e->n_outputs; i++) {
    const trt_tensor *o = &e->outputs[i];
    if (strncmp(o->name, "track:", 6) != 0) continue;
    int64_t k = o->rank == 2 ? o->dim[1] : 1;
    trt_text_add(out, ",\"%s\":%s", o->name + 6, o->rank == 2 ? "[" : "");
    for (int64_t c = 0; c < k; c++) {
      if (c) trt_text_add(out, ",");
      print_number(out, (double)element(t->model->arena, o, row * k + c));
    }
    if (o->rank == 2) trt_text_add(out, "]");
  }
  trt_text_add(out, "}");
}

static void print_weights(const trt_tracker *t, trt_text *out) {
  const trt_program *p = t->model->program;
  int64_t row = 0;
  trt_text rows = {0};
  for (uint64_t v = 0; v < p->n_vars; v++) {
    if (strncmp(p->vars[v].name, latent, strlen(latent)) != 0) continue;
    trt_text_add(&rows, "%s", row ? "," : "");
    print_row(t, &rows, row++, p->vars[v].name + strlen(latent));
  }
  trt_text_add(out, ",\"total\":");
  print_row(t, out, row, "all");
  trt_text_add(out, ",\"weights\":[%s]", rows.data ? rows.data : "");
  free(rows.data);
}

static void print_paths(const trt_tracker *t, trt_text *out) {
  static const char *const names[2] = {"w", "q"};
  trt_text_add(out, ",\"trajectories\":[");
  for (int i = 0; i < t->n_paths; i++) {
    const trt_path *p = &t->paths[i];
    trt_text_add(out, "%s{\"name\":", i ? "," : "");
    trt_text_add_json(out, p->name);
    trt_text_add(out, ",\"index\":%" PRId64 ",\"ratio\":", p->index);
    print_number(out, p->ratio);
    for (int s = 0; s < 2; s++) {
      trt_text_add(out, ",\"%s\":[", names[s]);
      for (int64_t k = 0; k < t->n_points; k++) {
        if (k) trt_text_add(out, ",");
        print_number(out, (double)t->points[i][2 * k + s]);
      }
      trt_text_add(out, "]");
    }
    trt_text_add(out, "}");
  }
  trt_text_add(out, "]");
}

/* On the first images of the training split, unchanged: the same for every record. */
static void print_errors(const trt_tracker *t, trt_text *out, int64_t step) {
  const trt_binding *b = &t->errors;
  static const char prefix[] = "quantizer_error:";
  if (!b->entry) return;
  int64_t *index = trt_alloc((size_t)b->batch * sizeof *index), count = t->data->split[TRT_TRAIN].count;
  for (int64_t i = 0; i < b->batch; i++) index[i] = i % count;
  trt_load_batch(t->model, b, &(trt_fill){.data = t->data, .split = TRT_TRAIN, .index = index});
  trt_model_set_scalars(t->model, b, &(trt_scalars){t->seed, step, 0, 1, 1});
  trt_model_run(t->model, b);
  trt_text_add(out, ",\"quantizer_error\":{");
  for (uint64_t i = 0, n = 0; i < b->entry->n_outputs; i++) {
    const trt_tensor *o = &b->entry->outputs[i];
    if (strncmp(o->name, prefix, strlen(prefix)) != 0) continue;
    trt_text_add(out, "%s\"%s\":", n++ ? "," : "", o->name + strlen(prefix));
    print_number(out, (double)element(t->model->arena, o, 0));
  }
  trt_text_add(out, "}");
  free(index);
}

/* The entry of the errors runs first: the figures of the other one must stay in the arena for choose_paths. */
static bool write_record(trt_tracker *t, int64_t step, double epoch, trt_error *err) {
  trt_text out = {0};
  trt_text_add(&out, "{\"step\":%" PRId64 ",\"epoch\":%.9g,\"window\":%" PRId64, step, epoch, t->moves);
  if (t->pairs) {
    trt_text_add(&out, ",\"rate_y\":");
    print_number(&out, t->rate_y);
  }
  print_errors(t, &out, step);
  run_entry(t, t->report, step, "window", (float)t->moves);
  print_weights(t, &out);
  print_paths(t, &out);
  trt_text_add(&out, "}\n");
  bool ok = trt_lines_put(&t->lines, out.data, out.size, err);
  free(out.data);
  return ok;
}

/* ---- windows ---- */

/* `left`: steps to its end. */
static void open_window(trt_tracker *t, int64_t step, int64_t left) {
  run_entry(t, t->step, step, "keep", 0);
  t->moves = t->pairs = 0;
  t->n_points = 0;
  add_points(t);
  look_at_output(t, step, left);
}

/* A window that began late, at the start or where a run went on, is reported if half of it was seen. */
static bool close_window(trt_tracker *t, int64_t step, double epoch, trt_error *err) {
  bool ok = true;
  if (2 * t->moves >= t->window) {
    ok = write_record(t, step, epoch, err);
    choose_paths(t);
  }
  t->moves = -1;
  return ok;
}

bool trt_track_step(trt_tracker *t, int64_t step, double epoch, trt_error *err) {
  int64_t left = (t->last - step) % t->every; /* steps to the end of a window */
  if (t->moves >= 0) {
    run_entry(t, t->step, step, "keep", 1);
    t->moves++;
    add_points(t);
    look_at_output(t, step, left);
    if (left == 0 && !close_window(t, step, epoch, err)) return false;
  }
  if (left == 0) left = t->every;
  if (t->moves < 0 && step < t->last && left == t->window) open_window(t, step, left);
  return true;
}

bool trt_track_open(trt_tracker *t, const trt_model *model, const trt_dataset *data, const char *folder, int64_t every,
                    int64_t window, int64_t seed, int64_t first, int64_t last, const trt_position *resume, trt_error *err) {
  *t = (trt_tracker){.lines = {.fd = -1}, .model = model, .data = data, .seed = seed, .last = last, .moves = -1};
  t->step = trt_model_entry(model, "track", err);
  t->report = trt_model_entry(model, "track_report", err);
  if (!t->step || !t->report) return false;
  for (uint64_t i = 0; i < model->program->n_entries; i++) {
    const char *name = "quantizer_errors";
    if (strcmp(model->program->entries[i].name, name) == 0 && !trt_model_bind(model, name, &t->errors, err)) return false;
  }
  if (!open_output(t, err)) return false;
  if (!t->report->n_outputs)
    return trt_fail(err, "--track: this trainer has no weights that it could track; train without it");
  t->every = every < last - first ? every : last - first;
  if (t->every < 1) t->every = 1;
  t->window = window ? window : TRT_TRACK_DEFAULT;
  if (t->window > t->every) t->window = t->every;
  for (int i = 0; i < TRT_TRACK_PATHS; i++) t->points[i] = trt_alloc((size_t)(t->window + 1) * 2 * sizeof(float));
  if (!trt_lines_open(&t->lines, folder, "track.jsonl", NULL, resume, err)) return false;
  int64_t left = (last - first) % t->every;
  t->ready = true;
  if (left == 0) left = t->every;
  if (first < last && left <= t->window) open_window(t, first, left);
  return true;
}

void trt_track_close(trt_tracker *t) {
  trt_lines_close(&t->lines);
  for (int i = 0; i < TRT_TRACK_PATHS; i++) free(t->points[i]);
  *t = (trt_tracker){.lines = {.fd = -1}};
}
