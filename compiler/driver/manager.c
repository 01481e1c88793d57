/* Running passes. */
#include "compiler/driver/manager.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "compiler/ir/text.h"
#include "compiler/ir/verify.h"

static bool in_list(const char *list, const char *name) {
  size_t len = strlen(name);
  for (const char *p = list; p && *p;) {
    const char *comma = strchr(p, ',');
    size_t n = comma ? (size_t)(comma - p) : strlen(p);
    if (n == len && strncmp(p, name, n) == 0) return true;
    p = comma ? comma + 1 : NULL;
  }
  return false;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void dump(const tt_graph *g, const char *pass, tt_pass_result result) {
  const char *when = getenv("TETRAC_PRINT_AFTER");
  if (!when) return;
  bool wanted = strcmp(when, "all") == 0 || (strcmp(when, "changed") == 0 && result == TT_PASS_CHANGED) || in_list(when, pass);
  if (!wanted) return;
  tt_strbuf text = {0};
  tt_print_graph(g, TT_TEXT_ELIDED, &text);
  fprintf(stderr, "# %s after %s\n%s\n", g->name, pass, text.data);
  tt_strbuf_free(&text);
}

bool tt_run_pass(tt_manager *m, tt_graph *g, const tt_pass_info *pass) {
  if (in_list(getenv("TETRAC_SKIP"), pass->name)) return true;
  tt_arena *scratch = tt_arena_create();
  tt_pass_ctx ctx = {.diag = m->diag, .recipe = m->recipe, .scratch = scratch, .pass = pass->name};
  tt_assert_context(pass->name, NULL);
  double start = now_ms();
  int errors = m->diag->errors;
  tt_pass_result result = pass->run(g, &ctx);
  double ran = now_ms();
  tt_arena_destroy(scratch);
  dump(g, pass->name, result);
  if (result == TT_PASS_FAILED || m->diag->errors > errors) {
    TT_ASSERT(m->diag->errors > errors);
    tt_assert_context(NULL, NULL);
    return false;
  }
  bool ok = tt_verify(g, m->diag);
  if (!ok) fprintf(stderr, "tetrac: internal error: graph '%s' does not verify after pass %s\n", g->name, pass->name);
  tt_assert_context(NULL, NULL);
  if (getenv("TETRAC_TIME"))
    fprintf(stderr, "%-10s %-22s %8.2f ms  verify %6.2f ms%s\n", g->name, pass->name, ran - start, now_ms() - ran,
            result == TT_PASS_CHANGED ? "  changed" : "");
  return ok;
}

static const tt_pipeline *find_pipeline(const char *name) {
  for (int i = 0; i < tt_pipeline_count; i++)
    if (strcmp(tt_pipelines[i].name, name) == 0) return &tt_pipelines[i];
  return NULL;
}

bool tt_run_pipeline(tt_manager *m, tt_graph *g, const char *pipeline) {
  const tt_pipeline *p = find_pipeline(pipeline);
  TT_ASSERT(p);
  for (int i = 0; i < p->count && !m->stopped; i++) {
    const tt_pass_info *pass = tt_pass_find(p->passes[i]);
    TT_ASSERT(pass);
    TT_TRY(tt_run_pass(m, g, pass));
    if (m->stop_after && strcmp(m->stop_after, pass->name) == 0) m->stopped = true;
  }
  return true;
}
