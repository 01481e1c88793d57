/* tetrac-opt: parses .ttir, runs passes, prints or evaluates. The tool tests and pass authors work with. */
#include <stdio.h>
#include <string.h>
#include "compiler/driver/compile.h"
#include "compiler/ir/eval.h"
#include "compiler/ir/text.h"
#include "compiler/ir/verify.h"

typedef struct request {
  tt_strings passes, pipelines, sets;
  const char *recipe;
  bool elide, eval;
} request;

static bool run_all(const request *r, tt_module *module, const tt_recipe *recipe, tt_diag *diag) {
  tt_manager m = {.recipe = recipe, .diag = diag};
  size_t n_graphs = module->graphs.count;
  for (size_t i = 0; i < n_graphs; i++) {
    tt_graph *g = module->graphs.data[i];
    TT_TRY(tt_verify(g, diag));
    for (size_t p = 0; p < r->pipelines.count; p++) TT_TRY(tt_run_pipeline(&m, g, r->pipelines.data[p]));
    for (size_t p = 0; p < r->passes.count; p++) TT_TRY(tt_run_pass(&m, g, tt_pass_find(r->passes.data[p])));
  }
  return true;
}

/* Inputs are made up, small and reproducible: element i of input k is a triangle wave of i + 7k; integers count 0, 1, 0, 1. */
static tt_tensor made_up(tt_arena *arena, const tt_type *type, int k) {
  tt_tensor t = tt_tensor_new(arena, *type);
  for (int64_t i = 0; t.d && i < tt_type_count(type); i++) {
    int64_t phase = (i * 3 + 7 * k) % 16;
    t.d[i] =
        type->dtype == TT_F32 || type->dtype == TT_F64 ? (double)(phase < 8 ? phase : 16 - phase) / 4 - 1 : (double)(i % 2);
  }
  return t;
}

static void print_values(const tt_module *module) {
  for (size_t i = 0; i < module->graphs.count; i++) {
    const tt_graph *g = module->graphs.data[i];
    tt_arena *arena = tt_arena_create();
    tt_tensor *in = TT_NEW_N(arena, tt_tensor, g->inputs.count + 1), *out = TT_NEW_N(arena, tt_tensor, g->results.count + 1);
    for (size_t k = 0; k < g->inputs.count; k++) in[k] = made_up(arena, tt_typ(g, g->inputs.data[k]), (int)k);
    tt_eval_graph(g, in, NULL, out, false, arena);
    for (size_t k = 0; k < g->results.count; k++) {
      char type[TT_TYPE_TEXT];
      printf("%s.%s %s", g->name, g->results.data[k].name, tt_type_print(&out[k].type, type, sizeof type));
      for (int64_t e = 0; out[k].d && e < tt_type_count(&out[k].type); e++) printf(" %.9g", out[k].d[e]);
      printf("\n");
    }
    tt_arena_destroy(arena);
  }
}

static bool names_known(const request *r) {
  for (size_t p = 0; p < r->passes.count; p++) {
    if (tt_pass_find(r->passes.data[p])) continue;
    fprintf(stderr, "tetrac-opt: no pass is called '%s'\n", r->passes.data[p]);
    return false;
  }
  for (size_t p = 0; p < r->pipelines.count; p++) {
    bool known = false;
    for (int i = 0; i < tt_pipeline_count; i++) known |= strcmp(tt_pipelines[i].name, r->pipelines.data[p]) == 0;
    if (known) continue;
    fprintf(stderr, "tetrac-opt: no pipeline is called '%s'\n", r->pipelines.data[p]);
    return false;
  }
  return true;
}

static int process(const request *r, const char *path) {
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  size_t bytes;
  bool from_stdin = strcmp(path, "-") == 0;
  const char *text = tt_read_file(arena, from_stdin ? "/dev/stdin" : path, &bytes);
  if (!text) tt_error(&diag, (tt_loc){.file = path}, "cannot be read");
  tt_module *module = text ? tt_parse_module(text, from_stdin ? "<stdin>" : path, &diag) : NULL;
  const tt_recipe *recipe = tt_recipe_load(r->recipe, tt_recipe_dir(arena), (int)r->sets.count, r->sets.data, arena, &diag);
  bool ok = module && recipe && run_all(r, module, recipe, &diag);
  if (ok && r->eval) print_values(module);
  else if (ok) {
    tt_strbuf out = {0};
    tt_print_module(module, r->elide ? TT_TEXT_ELIDED : TT_TEXT_FULL, &out);
    fputs(out.data, stdout);
    tt_strbuf_free(&out);
  }
  tt_module_destroy(module);
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
  return ok ? 0 : 1;
}

int main(int argc, char **argv) {
  request r = {.recipe = "fp32"};
  const tt_option options[] = {
      {"--pipeline", TT_OPT_LIST, &r.pipelines, "NAME", "run a pipeline (may be repeated; before single passes)", false},
      {"--pass", TT_OPT_LIST, &r.passes, "NAME", "run a pass (may be repeated, in order)", false},
      {"--recipe", TT_OPT_STRING, &r.recipe, "NAME|FILE", "recipe the passes see (default fp32)", false},
      {"--set", TT_OPT_LIST, &r.sets, "KEY=VALUE", "override one key of the recipe", false},
      {"--elide", TT_OPT_FLAG, &r.elide, NULL, "leave out the bytes of big constants and variables", false},
      {"--eval", TT_OPT_FLAG, &r.eval, NULL, "evaluate on made-up inputs and print the results", false},
  };
  const tt_command cmd = {
      "opt",   "[options] FILE.ttir|-",          "Parses .ttir, runs passes on every graph, prints the module.",
      options, sizeof options / sizeof *options, 1,
      1};
  tt_strings args = {0};
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  if (parsed == TT_OPTIONS_OK && !names_known(&r)) parsed = TT_OPTIONS_BAD;
  int code = parsed == TT_OPTIONS_BAD ? 2 : 0;
  if (parsed == TT_OPTIONS_OK) code = process(&r, args.data[0]);
  tt_vec_free(&args);
  tt_vec_free(&r.passes);
  tt_vec_free(&r.pipelines);
  tt_vec_free(&r.sets);
  return code;
}
