/* Requests to sessions: import, pipelines, emission. */
#include "compiler/driver/compile.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "passes/plan_memory.h"

enum { MAX_ENTRIES = 9 };

/* What every trainer has; with Q-Ramping, also what its calibrations run. "ramp" is no clone of the forward graph. The
 * instruments come last, so that their vars lie behind all others. */
static int entries_of(const tt_recipe *r, const char *names[MAX_ENTRIES]) {
  static const char *const all[MAX_ENTRIES] = {"train",            "grad",  "eval",         "calibrate",   "ramp",
                                               "quantizer_errors", "track", "track_report", "track_output"};
  bool quantizes = false;
  int n = 0;
  for (int i = 0; i < 6; i++) quantizes |= r->q[i].on;
  for (int i = 0; i < MAX_ENTRIES; i++) {
    bool ramps = i == 3 || i == 4, errors = i == 5;
    if ((!ramps || r->control == TT_CONTROL_RAMP) && (!errors || quantizes)) names[n++] = all[i];
  }
  return n;
}

/* First of the candidates, relative to the executable's folder, that exists. */
static const char *beside_executable(tt_arena *arena, int n, const char *const *candidates) {
  char exe[PATH_MAX];
  ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
  if (len <= 0) return NULL;
  exe[len] = 0;
  char *slash = strrchr(exe, '/');
  if (slash) *slash = 0;
  for (int i = 0; i < n; i++) {
    const char *path = tt_arena_printf(arena, "%s/%s", exe, candidates[i]);
    if (access(path, R_OK) == 0) return path;
  }
  return NULL;
}

const char *tt_recipe_dir(tt_arena *arena) {
  const char *env = getenv("TETRAC_RECIPES");
  if (env) return env;
  static const char *const candidates[] = {"recipes", "../recipes", "../../recipes", "../share/tetrac/recipes"};
  return beside_executable(arena, 4, candidates);
}

static const char *own_runtime(tt_arena *arena) {
  const char *env = getenv("TETRAC_RUNTIME");
  if (env) return env;
  static const char *const candidates[] = {"libtetrac_rt.a", "../libtetrac_rt.a", "../lib/tetrac/libtetrac_rt.a",
                                           "../lib/x86_64-linux-gnu/tetrac/libtetrac_rt.a",
                                           "../lib/aarch64-linux-gnu/tetrac/libtetrac_rt.a"};
  return beside_executable(arena, 5, candidates);
}

/* Other architectures' libraries lie beside this machine's, each in its folder. */
const char *tt_runtime_library(tt_arena *arena, const char *cross) {
  const char *own = own_runtime(arena), *slash = own ? strrchr(own, '/') : NULL;
  if (!own || !cross) return own;
  const char *path = tt_arena_printf(arena, "%.*s%.*s/libtetrac_rt.a", slash ? (int)(slash + 1 - own) : 0, own,
                                     (int)strcspn(cross, "-"), cross);
  return access(path, R_OK) == 0 ? path : NULL;
}

/* Where a new file cannot be made. */
static bool check_folder(tt_session *s, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *folder = !slash ? "." : slash == path ? "/" : tt_arena_printf(s->arena, "%.*s", (int)(slash - path), path);
  if (strcmp(path, "-") == 0 || access(folder, W_OK | X_OK) == 0) return true;
  tt_error(&s->diag, (tt_loc){.file = path}, "cannot write: %s", strerror(errno));
  return false;
}

/* What writing would spoil, or cannot do, is said before the work, not after it. */
static bool check_output(tt_session *s, const tt_request *r) {
  tt_loc loc = {.file = r->out};
  struct stat to, from;
  if (!r->out) return true;
  if (stat(r->out, &to) != 0) return check_folder(s, r->out);
  bool regular = S_ISREG(to.st_mode);
  if (S_ISDIR(to.st_mode)) tt_error(&s->diag, loc, "is a folder; name a file to write with -o");
  else if (r->program && !regular) tt_error(&s->diag, loc, "is no regular file; name another for the trainer with -o");
  else if (regular && stat(r->model, &from) == 0 && to.st_dev == from.st_dev && to.st_ino == from.st_ino)
    tt_error(&s->diag, loc, "is the model itself; name another file to write with -o");
  return s->diag.errors == 0;
}

/* What the request, or else the file of an open first input, binds the batch to; 0: nothing does. */
static bool choose_batch(tt_session *s, const tt_request *r, int64_t *batch) {
  *batch = r->batch;
  if (r->batch || !r->like || !tt_onnx_has_open_batch(s->model)) return true;
  tt_tensor first;
  TT_TRY(tt_tensor_read(r->like, &first, s->arena, &s->diag));
  if (first.type.rank && first.type.dim[0] > 0) *batch = first.type.dim[0];
  return true;
}

bool tt_session_import(tt_session *s, const tt_request *r) {
  *s = (tt_session){.arena = tt_arena_create()};
  tt_diag_init(&s->diag, stderr);
  TT_TRY(check_output(s, r));
  s->recipe = tt_recipe_load(r->recipe ? r->recipe : "fp32", tt_recipe_dir(s->arena), (int)r->sets.count, r->sets.data,
                             s->arena, &s->diag);
  if (!s->recipe) return false;
  s->model = tt_onnx_load(r->model, s->arena, &s->diag);
  int64_t batch;
  if (!s->model || !choose_batch(s, r, &batch)) return false;
  s->module = tt_onnx_import(s->model, batch, &s->notes, &s->diag);
  if (!s->module) return false;
  s->shown = tt_module_find_graph(s->module, "forward");
  TT_ASSERT(s->shown);
  return true;
}

bool tt_session_open(tt_session *s, const tt_request *r, bool entries) {
  TT_TRY(tt_session_import(s, r));
  if (r->after && !tt_pass_find(r->after)) {
    tt_error(&s->diag, (tt_loc){0}, "no pass is called '%s'; 'tetrac list passes' names them", r->after);
    return false;
  }
  tt_manager m = {.recipe = s->recipe, .diag = &s->diag, .stop_after = r->after};
  tt_graph *forward = s->shown;
  TT_TRY(tt_run_pipeline(&m, forward, "forward"));
  const char *names[MAX_ENTRIES];
  int n = entries_of(s->recipe, names);
  for (int i = 0; entries && i < n && !m.stopped; i++) {
    bool empty = strcmp(names[i], "ramp") == 0;
    s->shown = empty ? tt_graph_create(s->module, names[i]) : tt_graph_clone(forward, names[i]);
    TT_TRY(tt_run_pipeline(&m, s->shown, names[i]));
  }
  if (entries && !m.stopped) s->shown = tt_module_find_graph(s->module, "train");
  return true;
}

void tt_session_close(tt_session *s) {
  tt_module_destroy(s->module);
  tt_diag_free(&s->diag);
  tt_arena_destroy(s->arena);
}

/* FNV-1a over what a checkpoint must agree on: each var's name, role and type. */
static uint64_t fingerprint(const tt_module *m) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < m->vars.count; i++) {
    if (m->vars.data[i].role == TT_VAR_TRACK) continue;
    char type[TT_TYPE_TEXT];
    const tt_var *v = &m->vars.data[i];
    tt_type_print(&v->type, type, sizeof type);
    const char *const parts[] = {v->name, type, v->role == TT_VAR_PARAM ? "p" : "s"};
    for (int p = 0; p < 3; p++)
      for (const char *c = parts[p];; c++) {
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
        if (!*c) break;
      }
  }
  return h;
}

static trt_defaults defaults_of(const tt_recipe *r) {
  return (trt_defaults){.lr = r->lr, .min_lr = r->min_lr, .beta1 = r->beta1, .beta2 = r->beta2, .eps = r->eps,
                        .weight_decay = r->weight_decay, .clip_norm = r->clip_norm, .label_smoothing = r->label_smoothing,
                        .warmup_epochs = r->warmup_epochs, .epochs = r->epochs, .seed = r->seed, .cosine = r->cosine,
                        .calibration_steps = r->control == TT_CONTROL_RAMP ? r->ramp_t0 : 0,
                        .calibration_every = r->ramp_every};
}

static uint64_t batch_of(const tt_module *m) {
  const tt_graph *g = tt_module_find_graph(m, "forward");
  const tt_type *images = tt_typ(g, g->inputs.data[0]);
  return images->rank ? (uint64_t)images->dim[0] : 1;
}

bool tt_session_emit(tt_session *s, const tt_request *r, const cg_target *target, cg_format format, cg_output *out) {
  tt_onnx_image image;
  TT_TRY(tt_onnx_image_build(s->model, s->module, s->arena, &image, &s->diag));
  trt_patch *patches = TT_NEW_N(s->arena, trt_patch, image.n_patches);
  for (int i = 0; i < image.n_patches; i++)
    patches[i] = (trt_patch){image.patches[i].var, image.patches[i].offset, image.patches[i].bytes};
  tt_strbuf recipe = {0};
  tt_recipe_print(s->recipe, &recipe);
  const char *entries[MAX_ENTRIES];
  int n_entries = entries_of(s->recipe, entries);
  uint64_t saved[MAX_ENTRIES];
  for (int i = 0; i < n_entries; i++) saved[i] = tt_plan_saved_bytes(tt_module_find_graph(s->module, entries[i]));
  cg_program p = {.module = s->module,
                  .entries = entries,
                  .saved_bytes = saved,
                  .n_entries = n_entries,
                  .recipe_text = recipe.data,
                  .info_json = tt_info_json(s->module, s->recipe, s->arena),
                  .defaults = defaults_of(s->recipe),
                  .image = image.data,
                  .image_bytes = image.bytes,
                  .patches = patches,
                  .n_patches = image.n_patches,
                  .batch = batch_of(s->module),
                  .fingerprint = fingerprint(s->module),
                  .jobs = r->jobs};
  bool ok = cg_emit_program(&p, target, format, out, s->arena, &s->diag);
  tt_strbuf_free(&recipe);
  return ok;
}
