/* One op, evaluated: builds a graph of a single node around given operands and runs the evaluator on it. */
#ifndef TT_EVAL_CASE_H
#define TT_EVAL_CASE_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/eval.h"

#define DIMS(...)                                                                                                          \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ }
#define SCALAR 0, NULL
#define INTS(attr, ...)                                                                                                    \
  ((tt_attr){.id = (attr),                                                                                                 \
             .as.ints = {(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}}})
#define VALUES(...) ((const double[]){__VA_ARGS__})

static inline tt_tensor make(tt_arena *arena, tt_dtype dtype, int rank, const int64_t *dim, const double *values) {
  tt_tensor t = tt_tensor_new(arena, tt_type_make(dtype, rank, dim));
  memcpy(t.d, values, (size_t)tt_type_count(&t.type) * sizeof *values);
  return t;
}

/* Deterministic numbers in [-1, 1). */
static inline double pseudo(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(int32_t)(*state >> 32) / 2147483648.0;
}

static inline tt_tensor random_tensor(tt_arena *arena, uint64_t *state, int rank, const int64_t *dim) {
  tt_tensor t = tt_tensor_new(arena, tt_type_make(TT_F32, rank, dim));
  for (int64_t i = 0; i < tt_type_count(&t.type); i++) t.d[i] = (double)(float)pseudo(state);
  return t;
}

static const char *const operand_names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

/* Runs `op` and fills out[0..n_out). */
static inline void run_op(tt_arena *arena, tt_op op, int n_in, const tt_tensor *in, int n_attrs, const tt_attr *attrs,
                          tt_tensor *out) {
  tt_module *m = tt_module_create("case");
  tt_graph *g = tt_graph_create(m, "case");
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  tt_value values[8];
  for (int i = 0; i < n_in; i++) values[i] = tt_graph_add_input(g, operand_names[i], in[i].type);
  tt_builder b = {.g = g, .diag = &diag, .at = TT_NONE};
  tt_node n = tt_build(&b, op, n_in, values, n_attrs, attrs);
  if (n == TT_NONE) fail_msg("%s", diag.text);
  for (int i = 0; i < tt_nod(g, n)->n_out; i++) tt_graph_set_result(g, operand_names[i], tt_nod(g, n)->out[i]);
  tt_eval_graph(g, in, NULL, out, false, arena);
  tt_diag_free(&diag);
  tt_module_destroy(m);
}

static inline void expect_values(const tt_tensor *t, int rank, const int64_t *dim, const double *values, double tolerance) {
  tt_type want = tt_type_make((tt_dtype)t->type.dtype, rank, dim);
  assert_true(tt_type_equal(&want, &t->type));
  for (int64_t i = 0; i < tt_type_count(&t->type); i++) {
    bool same = isnan(values[i]) ? isnan(t->d[i]) : t->d[i] == values[i] || fabs(t->d[i] - values[i]) <= tolerance;
    if (!same) fail_msg("element %lld is %.17g, expected %.17g", (long long)i, t->d[i], values[i]);
  }
}
#endif
