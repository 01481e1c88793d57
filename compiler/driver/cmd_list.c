/* tetrac list. */
#include <stdio.h>
#include <string.h>
#include "compiler/driver/commands.h"
#include "compiler/driver/compile.h"
#include "models/models.h"

static void list_ops(void) {
  for (int i = 0; i < TT_OP_COUNT; i++) {
    const tt_op_info *o = &tt_ops[i];
    char range[32];
    if (o->max_in < 0) snprintf(range, sizeof range, "%d+", o->min_in);
    else if (o->min_in == o->max_in) snprintf(range, sizeof range, "%d", o->min_in);
    else snprintf(range, sizeof range, "%d-%d", o->min_in, o->max_in);
    printf("%-16s operands %-4s%s%s%s%s%s%s%s%s\n", o->name, range, o->flags & TT_EW ? " elementwise" : "",
           o->flags & TT_COMM ? " commutative" : "", o->flags & TT_STOCH ? " stochastic" : "",
           o->flags & TT_ALIAS ? " view" : "", o->flags & TT_INPLACE ? " in-place" : "",
           o->flags & (TT_WEIGHT0 | TT_WEIGHT1) ? " product" : "", o->flags & TT_STEP ? " step" : "",
           o->flags & TT_SAME ? " same" : "");
  }
}

static void list_passes(void) {
  for (int i = 0; i < tt_pass_count; i++) printf("%-22s %s\n", tt_passes[i].name, tt_passes[i].what);
  for (int i = 0; i < tt_pipeline_count; i++) {
    printf("\npipeline %s:", tt_pipelines[i].name);
    for (int j = 0; j < tt_pipelines[i].count; j++) printf(" %s", tt_pipelines[i].passes[j]);
  }
  printf("\n");
}

static int list_recipes(void) {
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  const char *dir = tt_recipe_dir(arena);
  int n = 0;
  const char *const *names = tt_recipe_list(dir, arena, &n);
  if (n == 0)
    tt_error(&diag, (tt_loc){0}, "no recipes are in %s; install them with tetrac or set TETRAC_RECIPES",
             dir ? dir : "a folder beside tetrac");
  for (int i = 0; i < n; i++) {
    const tt_recipe *r = tt_recipe_load(names[i], dir, 0, NULL, arena, &diag);
    if (r) printf("%-34s %s\n", names[i], r->summary ? r->summary : "");
  }
  int code = diag.errors ? TT_EXIT_ERROR : TT_EXIT_OK;
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
  return code;
}

static void list_models(void) {
  int n = 0;
  const tt_model_preset *p = tt_model_presets(&n);
  for (int i = 0; i < n; i++) {
    const tt_model_options *o = &p[i].options;
    printf("%-12s %s (image %lld patch %lld channels %lld classes %lld dim %lld depth %lld heads %lld)\n", p[i].name,
           p[i].summary, (long long)o->image, (long long)o->patch, (long long)o->channels, (long long)o->classes,
           (long long)o->dim, (long long)o->depth, (long long)o->heads);
  }
}

static void list_targets(void) {
  for (const char *const *t = cg_target_list(); t[0]; t += 2) printf("%-20s %s\n", t[0], t[1]);
}

int tt_cmd_list(int argc, char **argv) {
  const tt_command cmd = {"list", "ops|passes|recipes|models|targets", "Lists what this tetrac knows.", NULL, 0, 1, 1};
  tt_strings args = {0};
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  int code = parsed == TT_OPTIONS_BAD ? TT_EXIT_USAGE : TT_EXIT_OK;
  if (parsed == TT_OPTIONS_OK) {
    const char *what = args.data[0];
    if (strcmp(what, "ops") == 0) list_ops();
    else if (strcmp(what, "passes") == 0) list_passes();
    else if (strcmp(what, "recipes") == 0) code = list_recipes();
    else if (strcmp(what, "models") == 0) list_models();
    else if (strcmp(what, "targets") == 0) list_targets();
    else {
      fprintf(stderr, "tetrac list: ops, passes, recipes, models or targets, not '%s'\n", what);
      code = TT_EXIT_USAGE;
    }
  }
  tt_vec_free(&args);
  return code;
}
