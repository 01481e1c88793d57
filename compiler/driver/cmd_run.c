/* tetrac run: the forward pass, compiled in memory, on tensors from files. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include "compiler/driver/commands.h"
#include "compiler/driver/compile.h"
#include "runtime/include/trt_runtime.h"

/* The model's inputs come first; behind them may stand rng, which the recipe's quantizers need: zeros, the first step. */
static bool read_inputs(tt_session *s, const tt_graph *g, int n, const char *const *paths, tt_tensor *inputs) {
  size_t wanted = g->inputs.count;
  tt_value rng = tt_graph_find_input(g, "rng");
  if (rng != TT_NONE && g->inputs.data[wanted - 1] == rng) inputs[--wanted] = tt_tensor_new(s->arena, *tt_typ(g, rng));
  if ((size_t)n != wanted) {
    tt_error(&s->diag, (tt_loc){.file = s->module->name}, "the model takes %zu inputs, %d files were given", wanted, n);
    return false;
  }
  for (int i = 0; i < n; i++) {
    TT_TRY(tt_tensor_read(paths[i], &inputs[i], s->arena, &s->diag));
    const tt_value_data *v = tt_val(g, g->inputs.data[i]);
    if (tt_type_equal(&inputs[i].type, &v->type)) continue;
    char have[TT_TYPE_TEXT], want[TT_TYPE_TEXT];
    tt_error(&s->diag, (tt_loc){.file = paths[i]}, "holds %s, but input '%s' is %s%s",
             tt_type_print(&inputs[i].type, have, sizeof have), v->name, tt_type_print(&v->type, want, sizeof want),
             inputs[i].type.rank && v->type.rank ? "; --batch binds an open first dimension" : "");
    return false;
  }
  return true;
}

static tt_tensor *run_forward(tt_session *s, const tt_request *r, const tt_tensor *inputs) {
  const cg_target *target = cg_target_find(r->target ? r->target : "cpu", s->arena, &s->diag);
  cg_jit *jit = target ? cg_jit_compile(s->shown, target, &s->diag) : NULL;
  if (!jit) return NULL;
  tt_tensor *results = TT_NEW_N(s->arena, tt_tensor, s->shown->results.count);
  bool ready = trt_threads_init(0, cg_jit_scratch_bytes(jit));
  if (ready) cg_jit_run(jit, inputs, NULL, results, s->arena);
  else tt_error(&s->diag, (tt_loc){0}, "no memory for the threads' scratch");
  cg_jit_destroy(jit);
  return ready ? results : NULL;
}

static bool write_outputs(tt_session *s, const tt_tensor *results, const char *dir) {
  if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
    tt_error(&s->diag, (tt_loc){.file = dir}, "cannot make the folder: %s", strerror(errno));
    return false;
  }
  for (size_t i = 0; i < s->shown->results.count; i++) {
    const char *path = tt_arena_printf(s->arena, "%s/output_%zu.npy", dir, i);
    TT_TRY(tt_tensor_write(path, s->shown->results.data[i].name, &results[i], &s->diag));
    fprintf(stderr, "%s: %s\n", path, s->shown->results.data[i].name);
  }
  return true;
}

/* Norm-wise relative error; infinite where shapes differ or anything is not a number. */
static double relative_error(const tt_tensor *got, const tt_tensor *want) {
  if (got->type.rank != want->type.rank || memcmp(got->type.dim, want->type.dim, sizeof got->type.dim) != 0) return INFINITY;
  double diff = 0, norm = 0;
  for (int64_t i = 0; i < tt_type_count(&got->type); i++) {
    diff += (got->d[i] - want->d[i]) * (got->d[i] - want->d[i]);
    norm += want->d[i] * want->d[i];
  }
  double e = norm > 0 ? sqrt(diff / norm) : sqrt(diff);
  return isnan(e) ? INFINITY : e;
}

static int count_files(const char *dir, const char *stem) {
  int n = 0;
  char path[4096];
  struct stat st;
  while (snprintf(path, sizeof path, "%s/%s_%d.pb", dir, stem, n), stat(path, &st) == 0) n++;
  return n;
}

enum { CASE_TOLERANCE_E6 = 1000 }; /* 1e-3 relative, as ONNX's own backend tests allow for float32 */

static bool run_case(tt_session *s, const tt_request *r, const char *dir) {
  int n_in = count_files(dir, "input"), n_out = count_files(dir, "output");
  const char **paths = TT_NEW_N(s->arena, const char *, n_in + 1);
  for (int i = 0; i < n_in; i++) paths[i] = tt_arena_printf(s->arena, "%s/input_%d.pb", dir, i);
  if (n_out == 0) {
    tt_error(&s->diag, (tt_loc){.file = dir}, "no output_0.pb here: not a test case");
    return false;
  }
  tt_tensor *inputs = TT_NEW_N(s->arena, tt_tensor, n_in + 1); /* and rng */
  TT_TRY(read_inputs(s, s->shown, n_in, paths, inputs));
  tt_tensor *results = run_forward(s, r, inputs);
  if (!results) return false;
  double worst = 0;
  for (int i = 0; i < n_out && (size_t)i < s->shown->results.count; i++) {
    tt_tensor want;
    TT_TRY(tt_tensor_read(tt_arena_printf(s->arena, "%s/output_%d.pb", dir, i), &want, s->arena, &s->diag));
    double e = relative_error(&results[i], &want);
    if (e > worst) worst = e;
  }
  bool pass = worst <= CASE_TOLERANCE_E6 * 1e-6 && (size_t)n_out == s->shown->results.count;
  printf("%s %s relative error %.3g\n", pass ? "PASS" : "FAIL", dir, worst);
  return pass;
}

static bool prepare(tt_session *s, const tt_request *r) {
  TT_TRY(tt_session_open(s, r, false));
  tt_manager m = {.recipe = s->recipe, .diag = &s->diag};
  return tt_run_pipeline(&m, s->shown, "run");
}

int tt_cmd_run(int argc, char **argv) {
  tt_request r = {0};
  tt_strings inputs = {0}, args = {0};
  const char *out = NULL, *dir = NULL;
  const tt_option options[] = {
      {"--inputs", TT_OPT_LIST, &inputs, "FILE", "tensors in the model's order (.npy, or .pb TensorProto)", true},
      {"-o", TT_OPT_STRING, &out, "DIR", "folder for the outputs (output_0.npy ...)", false},
      {"--case", TT_OPT_STRING, &dir, "DIR", "an ONNX test case: input_K.pb, output_K.pb; prints PASS or FAIL", false},
      {"--recipe", TT_OPT_STRING, &r.recipe, "NAME|FILE", "quantize as this recipe says (default fp32)", false},
      {"--set", TT_OPT_LIST, &r.sets, "KEY=VALUE", "override one key of the recipe", false},
      {"--batch", TT_OPT_COUNT, &r.batch, "N", "binds an open first dimension (default: as the first input has it)", false},
      {"--target", TT_OPT_STRING, &r.target, "TARGET", "cpu or cpu:FEATURES", false},
  };
  const tt_command cmd = {"run", "MODEL.onnx (--inputs FILE... -o DIR | --case DIR)",
                          "Runs the forward pass, compiled in memory.", options, sizeof options / sizeof *options, 1, 1};
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  if (parsed == TT_OPTIONS_OK && !dir && !out) {
    fprintf(stderr, "usage: tetrac run %s\n", cmd.synopsis);
    parsed = TT_OPTIONS_BAD;
  }
  int code = parsed == TT_OPTIONS_BAD ? TT_EXIT_USAGE : TT_EXIT_OK;
  if (parsed == TT_OPTIONS_OK) {
    tt_session s;
    tt_arena *paths = tt_arena_create();
    r.model = args.data[0];
    r.like = inputs.count ? inputs.data[0] : NULL;
    if (dir && count_files(dir, "input") > 0) r.like = tt_arena_printf(paths, "%s/input_0.pb", dir);
    bool ok = prepare(&s, &r);
    if (ok && dir) ok = run_case(&s, &r, dir);
    else if (ok) {
      tt_tensor *in = TT_NEW_N(s.arena, tt_tensor, inputs.count + 1);
      ok = read_inputs(&s, s.shown, (int)inputs.count, inputs.data, in);
      tt_tensor *results = ok ? run_forward(&s, &r, in) : NULL;
      ok = results && write_outputs(&s, results, out);
    }
    code = ok ? TT_EXIT_OK : TT_EXIT_ERROR;
    tt_session_close(&s);
    tt_arena_destroy(paths);
  }
  tt_vec_free(&inputs);
  tt_vec_free(&args);
  tt_vec_free(&r.sets);
  return code;
}
