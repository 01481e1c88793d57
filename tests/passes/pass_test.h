/* Graphs for tests of passes: build one, run a pass, and see that its meaning is what it was (law 9: passes are tested by
 * equality under the evaluator) and that a second run finds nothing more to do. */
#ifndef PASS_TEST_H
#define PASS_TEST_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/eval.h"
#include "compiler/ir/verify.h"
#include "passes/pass.h"

typedef struct bench {
  tt_module *m;
  tt_graph *g;
  tt_diag diag;
  tt_builder b;
  tt_recipe recipe;
} bench;

static inline bench bench_open(void) {
  bench t = {.m = tt_module_create("test.onnx")};
  t.g = tt_graph_create(t.m, "forward");
  tt_diag_init(&t.diag, stderr);
  tt_recipe_defaults(&t.recipe);
  return t;
}

static inline void bench_close(bench *t) {
  tt_diag_free(&t->diag);
  tt_module_destroy(t->m);
}

/* A builder at the end of the graph; taken afresh because the bench may have moved. */
static inline tt_builder *at_end(bench *t) {
  t->b = (tt_builder){.g = t->g, .diag = &t->diag, .at = TT_NONE, .loc = {.file = "test.onnx"}};
  return &t->b;
}

#define DIMS(...)                                                                                                          \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ }

/* Numbers in [-1, 1) that depend on i and seed alone. */
static inline double noise(uint64_t seed, uint64_t i) {
  uint64_t h = (seed + 1) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u;
  h ^= h >> 31;
  h *= 0x94d049bb133111ebu;
  h ^= h >> 29;
  return (double)(h >> 11) * 0x1p-52 - 1;
}

static inline tt_value input(bench *t, const char *name, int rank, const int64_t *dim) {
  return tt_graph_add_input(t->g, name, tt_type_make(TT_F32, rank, dim));
}

static inline tt_value param(bench *t, const char *name, int rank, const int64_t *dim) {
  const tt_type type = tt_type_make(TT_F32, rank, dim);
  float *init = TT_NEW_N(t->m->arena, float, tt_type_count(&type));
  for (int64_t i = 0; i < tt_type_count(&type); i++) init[i] = (float)noise(t->m->vars.count + 100, (uint64_t)i);
  const tt_var var = {.name = tt_arena_str(t->m->arena, name),
                      .type = type,
                      .role = TT_VAR_PARAM,
                      .init = init,
                      .copy_of = TT_NONE,
                      .origin = name};
  return tt_graph_var(t->g, tt_module_add_var(t->m, var));
}

static inline tt_value number(bench *t, double x) { return tt_graph_const_f32(t->g, (float)x); }
static inline tt_value op1(bench *t, tt_op op, tt_value x) { return tt_build1(at_end(t), op, x, 0, NULL); }
static inline tt_value op2(bench *t, tt_op op, tt_value x, tt_value y) { return tt_build2(at_end(t), op, x, y, 0, NULL); }
static inline tt_value reshape(bench *t, tt_value x, int rank, const int64_t *dim) {
  const tt_attr a = tt_attr_ints(t->g, TT_A_SHAPE, rank, dim);
  return tt_build1(at_end(t), TT_OP_RESHAPE, x, 1, &a);
}
static inline tt_value transpose(bench *t, tt_value x, int rank, const int64_t *perm) {
  const tt_attr a = tt_attr_ints(t->g, TT_A_PERM, rank, perm);
  return tt_build1(at_end(t), TT_OP_TRANSPOSE, x, 1, &a);
}
static inline tt_value slice(bench *t, tt_value x, int axis, int64_t begin, int64_t end) {
  const tt_type *type = tt_typ(t->g, x);
  int64_t starts[TT_MAX_RANK] = {0}, ends[TT_MAX_RANK], steps[TT_MAX_RANK];
  for (int i = 0; i < type->rank; i++) ends[i] = type->dim[i], steps[i] = 1;
  starts[axis] = begin;
  ends[axis] = end;
  const tt_attr a[] = {tt_attr_ints(t->g, TT_A_STARTS, type->rank, starts), tt_attr_ints(t->g, TT_A_ENDS, type->rank, ends),
                       tt_attr_ints(t->g, TT_A_STEPS, type->rank, steps)};
  return tt_build1(at_end(t), TT_OP_SLICE, x, 3, a);
}
static inline void result(bench *t, const char *name, tt_value v) {
  assert_int_not_equal(v, TT_NONE);
  tt_graph_set_result(t->g, name, v);
}

static inline int count_op(const tt_graph *g, tt_op op) {
  int n = 0;
  TT_FOR_NODES(g, i) n += op == TT_OP_COUNT || tt_nod(g, i)->op == op;
  return n;
}
static inline int count_nodes(const tt_graph *g) { return count_op(g, TT_OP_COUNT); }
static inline tt_node find_op(const tt_graph *g, tt_op op) {
  TT_FOR_NODES(g, i)
  if (tt_nod(g, i)->op == op) return i;
  return TT_NONE;
}

static inline tt_tensor *evaluate(const tt_graph *g, tt_arena *arena) {
  tt_tensor *in = TT_NEW_N(arena, tt_tensor, g->inputs.count + 1), *out = TT_NEW_N(arena, tt_tensor, g->results.count + 1);
  for (size_t i = 0; i < g->inputs.count; i++) {
    in[i] = tt_tensor_new(arena, *tt_typ(g, g->inputs.data[i]));
    for (int64_t k = 0; k < tt_type_count(&in[i].type); k++) in[i].d[k] = (float)noise(i, (uint64_t)k);
  }
  tt_eval_graph(g, in, NULL, out, false, arena);
  return out;
}

/* Norm-wise relative distance. */
static inline double distance(const tt_tensor *a, const tt_tensor *b) {
  double diff = 0, size = 0;
  assert_true(tt_type_equal(&a->type, &b->type));
  for (int64_t i = 0; i < tt_type_count(&a->type); i++) {
    diff += (a->d[i] - b->d[i]) * (a->d[i] - b->d[i]);
    size += a->d[i] * a->d[i];
  }
  return size > 0 ? sqrt(diff / size) : sqrt(diff);
}

static inline tt_pass_result run_pass(bench *t, const char *name) {
  tt_arena *scratch = tt_arena_create();
  tt_pass_ctx ctx = {.diag = &t->diag, .recipe = &t->recipe, .scratch = scratch, .pass = name};
  const tt_pass_info *pass = tt_pass_find(name);
  assert_non_null(pass);
  const tt_pass_result r = pass->run(t->g, &ctx);
  tt_arena_destroy(scratch);
  assert_true(tt_verify(t->g, &t->diag));
  return r;
}

/* Runs the pass: it changes no result beyond rounding of folded constants, and is idempotent. Returns what it said. */
static inline tt_pass_result check_meaning(bench *t, const char *name) {
  tt_arena *arena = tt_arena_create();
  const tt_tensor *before = evaluate(t->g, arena);
  const tt_pass_result said = run_pass(t, name);
  const tt_tensor *after = evaluate(t->g, arena);
  for (size_t i = 0; i < t->g->results.count; i++) assert_true(distance(&before[i], &after[i]) < 1e-6);
  assert_int_equal(run_pass(t, name), TT_PASS_UNCHANGED);
  assert_int_equal(t->diag.errors, 0);
  tt_arena_destroy(arena);
  return said;
}

static inline void check_pass(bench *t, const char *name, tt_pass_result want) {
  assert_int_equal(check_meaning(t, name), want);
}
#endif
