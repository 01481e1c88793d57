/* One op as a whole graph: built, compiled in memory and run, for tests that compare it with a reference. */
#ifndef JIT_CASE_H
#define JIT_CASE_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "compiler/codegen/codegen.h"
#include "runtime/include/trt_runtime.h"

/* Every value its own place: what plan_memory would do without reuse. */
static inline void place_values(tt_graph *g) {
  uint64_t at = 0;
  for (size_t v = 0; v < g->values.count; v++) {
    tt_value_data *d = &g->values.data[v];
    d->space = TT_SPACE_ARENA;
    d->offset = at;
    at += (tt_type_bytes(&d->type) + 127) / 64 * 64;
  }
  g->arena_bytes = at;
}

typedef struct jit_case {
  tt_module *module;
  tt_graph *g;
  tt_arena *arena;
  cg_jit *jit;
  tt_type type; /* of the result */
} jit_case;

enum { JIT_TARGETS = 8 };

/* Of the targets whose dot products differ those that this machine can run: at most JIT_TARGETS. */
static inline const char *const *jit_targets(void) {
  static const char *list[JIT_TARGETS + 1];
  static const char *const all[JIT_TARGETS] = {"cpu:v3",
                                               "cpu:v3+avxvnni",
                                               "cpu:v4-avx512vnni",
                                               "cpu:v4",
                                               "cpu:v4+amx-tile+amx-int8",
                                               "cpu:v4+amx-tile+amx-int8+amx-bf16",
                                               "aarch64:v8",
                                               "aarch64"};
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  int n = 0;
  tt_diag_init(&diag, stderr);
  for (size_t i = 0; i < JIT_TARGETS; i++) {
    const cg_target *t = cg_target_find(all[i], arena, &diag);
    if (t && cg_target_runs_here(t)) list[n++] = all[i];
  }
  list[n] = NULL;
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
  return list;
}

/* What a target has besides that of the one before it in jit_targets() may not matter to a graph: then its code was tested. */
static inline bool jit_repeats(const tt_graph *g, const char *target, tt_arena *arena, tt_diag *diag) {
  const char *const *before = jit_targets();
  if (strcmp(*before, target) == 0) return false;
  while (strcmp(before[1], target) != 0) before++;
  return cg_same_code(g, cg_target_find(target, arena, diag), cg_target_find(*before, arena, diag), diag);
}

/* A graph of one node whose operands are inputs a, b, c ...; NULL-safe only for valid operands. */
static inline jit_case jit_case_build(tt_op op, int n_in, const tt_type *types, int n_attrs, const tt_attr *attrs,
                                      tt_diag *diag) {
  static const char *const names[] = {"a", "b", "c", "d"};
  jit_case t = {.module = tt_module_create("test"), .arena = tt_arena_create()};
  tt_value in[4];
  tt_diag_init(diag, stderr);
  t.g = tt_graph_create(t.module, "forward");
  for (int i = 0; i < n_in; i++) in[i] = tt_graph_add_input(t.g, names[i], types[i]);
  tt_builder b = {.g = t.g, .diag = diag, .at = TT_NONE};
  tt_node n = tt_build(&b, op, n_in, in, n_attrs, attrs);
  assert_int_not_equal(n, TT_NONE);
  tt_value out = tt_nod(t.g, n)->out[0];
  tt_graph_set_result(t.g, "out", out);
  t.type = *tt_typ(t.g, out);
  place_values(t.g);
  return t;
}

/* It, compiled for a target as on the command line. */
static inline jit_case jit_case_open(tt_op op, int n_in, const tt_type *types, int n_attrs, const tt_attr *attrs,
                              const char *target) {
  tt_diag diag;
  jit_case t = jit_case_build(op, n_in, types, n_attrs, attrs, &diag);
  const cg_target *found = cg_target_find(target, t.arena, &diag);
  assert_non_null(found);
  t.jit = cg_jit_compile(t.g, found, &diag);
  assert_non_null(t.jit);
  return t;
}

/* Likewise for one of jit_targets(); not compiled, `jit` is NULL, where that repeats the target before it. */
static inline jit_case jit_case_next(tt_op op, int n_in, const tt_type *types, int n_attrs, const tt_attr *attrs,
                              const char *target) {
  tt_diag diag;
  jit_case t = jit_case_build(op, n_in, types, n_attrs, attrs, &diag);
  if (jit_repeats(t.g, target, t.arena, &diag)) return t;
  t.jit = cg_jit_compile(t.g, cg_target_find(target, t.arena, &diag), &diag);
  assert_non_null(t.jit);
  return t;
}

/* Runs on `threads` threads; the result lives in the case's arena. */
static inline tt_tensor jit_case_run(jit_case *t, const tt_tensor *in, int threads) {
  tt_tensor out = {0};
  assert_true(trt_threads_init(threads, cg_jit_scratch_bytes(t->jit)));
  cg_jit_run(t->jit, in, NULL, &out, t->arena);
  return out;
}

static inline void jit_case_close(jit_case *t) {
  cg_jit_destroy(t->jit);
  tt_arena_destroy(t->arena);
  tt_module_destroy(t->module);
}

/* Small deterministic randomness for operands. */
static inline uint32_t jit_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}
#endif
