/* What the pass tests share: a tiny ViT, deterministic numbers, and running passes with their diagnostics. */
#ifndef TESTS_PASSES_TINY_H
#define TESTS_PASSES_TINY_H
#include "compiler/ir/eval.h"
#include "compiler/ir/verify.h"
#include "passes/pass.h"
#include "passes/plan_memory.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct tiny {
  tt_module *m;
  tt_graph *g;
  tt_builder b;
  tt_diag diag;
  tt_recipe recipe;
  tt_arena *arena;
  uint32_t state; /* of the random numbers */
} tiny;

static inline double tiny_random(tiny *t) { /* [-1, 1) */
  t->state = t->state * 1664525u + 1013904223u;
  return (double)(t->state >> 8) / (1 << 23) - 1;
}

static inline void tiny_init(tiny *t) {
  *t = (tiny){.m = tt_module_create("tiny.onnx"), .arena = tt_arena_create(), .state = 7};
  t->g = tt_graph_create(t->m, "forward");
  tt_diag_init(&t->diag, NULL);
  t->b = (tt_builder){.g = t->g, .diag = &t->diag, .at = TT_NONE};
  tt_recipe_defaults(&t->recipe);
}

static inline void tiny_free(tiny *t) {
  tt_diag_free(&t->diag);
  tt_module_destroy(t->m);
  tt_arena_destroy(t->arena);
}

#define SHAPE(...)                                                                                                         \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* A parameter with values in offset + [-scale, scale). */
static inline tt_value tiny_param(tiny *t, const char *name, double offset, double scale, int rank, const int64_t *dim) {
  tt_type type = tt_type_make(TT_F32, rank, dim);
  float *data = tt_arena_alloc(t->m->arena, tt_type_bytes(&type));
  for (int64_t i = 0; i < tt_type_count(&type); i++) data[i] = (float)(offset + scale * tiny_random(t));
  return tt_graph_var(
      t->g,
      tt_module_add_var(
          t->m,
          (tt_var){.name = name, .type = type, .role = TT_VAR_PARAM, .init = data, .copy_of = TT_NONE, .scope = name}));
}

static inline tt_value tiny_build(tiny *t, tt_op op, int n, const tt_value *in, int n_attrs, const tt_attr *attrs) {
  tt_node node = tt_build(&t->b, op, n, in, n_attrs, attrs);
  if (node == TT_NONE) fail_msg("%s", t->diag.text);
  return tt_nod(t->g, node)->out[0];
}
#define IN(...)                                                                                                            \
  (int)(sizeof((tt_value[]){__VA_ARGS__}) / sizeof(tt_value)), (tt_value[]) { __VA_ARGS__ }

static inline tt_value tiny_linear(tiny *t, tt_value x, const char *w, const char *b, int64_t out) {
  int64_t in = tt_type_last(tt_typ(t->g, x));
  tt_value weight = tiny_param(t, w, 0, 0.7, SHAPE(out, in));
  return tiny_build(t, TT_OP_LINEAR, IN(x, weight, tiny_param(t, b, 0, 0.5, SHAPE(out))), 0, NULL);
}

static inline tt_value tiny_norm(tiny *t, tt_value x, const char *gamma, const char *beta) {
  int64_t d = tt_type_last(tt_typ(t->g, x));
  tt_value weight = tiny_param(t, gamma, 1, 0.3, SHAPE(d));
  tt_attr eps = tt_attr_float(TT_A_EPSILON, 1e-6);
  return tiny_build(t, TT_OP_LAYERNORM, IN(x, weight, tiny_param(t, beta, 0, 0.2, SHAPE(d))), 1, &eps);
}

/* images [2,4,6] -> patch embedding -> cls token, position embedding [2,5,8] -> one block -> norm -> cls -> logits [2,3] */
static inline void tiny_vit(tiny *t) {
  tt_graph *g = t->g;
  tt_value x = tt_graph_add_input(g, "images", tt_type_make(TT_F32, SHAPE(2, 4, 6)));
  x = tiny_linear(t, x, "patch.w", "patch.b", 8);
  tt_attr shape = tt_attr_ints(g, TT_A_SHAPE, SHAPE(2, 1, 8)), axis = tt_attr_int(TT_A_AXIS, 1);
  tt_value cls = tiny_build(t, TT_OP_EXPAND, IN(tiny_param(t, "cls", 0, 0.5, SHAPE(1, 1, 8))), 1, &shape);
  x = tiny_build(t, TT_OP_CONCAT, IN(cls, x), 1, &axis);
  x = tiny_build(t, TT_OP_ADD, IN(x, tiny_param(t, "pos", 0, 0.5, SHAPE(1, 5, 8))), 0, NULL);
  tt_value h = tiny_linear(t, tiny_norm(t, x, "norm1.w", "norm1.b"), "qkv.w", "qkv.b", 24);
  tt_attr heads[] = {tt_attr_int(TT_A_HEADS, 2), tt_attr_float(TT_A_SCALE, 0.5)};
  h = tiny_linear(t, tiny_build(t, TT_OP_ATTENTION, IN(h), 2, heads), "proj.w", "proj.b", 8);
  x = tiny_build(t, TT_OP_ADD, IN(x, h), 0, NULL);
  h = tiny_linear(t, tiny_norm(t, x, "norm2.w", "norm2.b"), "fc1.w", "fc1.b", 16);
  h = tiny_linear(t, tiny_build(t, TT_OP_GELU, IN(h), 0, NULL), "fc2.w", "fc2.b", 8);
  x = tiny_norm(t, tiny_build(t, TT_OP_ADD, IN(h, x), 0, NULL), "norm.w", "norm.b");
  tt_attr slice[] = {tt_attr_ints(g, TT_A_STARTS, SHAPE(0, 0, 0)), tt_attr_ints(g, TT_A_ENDS, SHAPE(2, 1, 8)),
                     tt_attr_ints(g, TT_A_STEPS, SHAPE(1, 1, 1))};
  shape = tt_attr_ints(g, TT_A_SHAPE, SHAPE(2, 8));
  x = tiny_build(t, TT_OP_RESHAPE, IN(tiny_build(t, TT_OP_SLICE, IN(x), 3, slice)), 1, &shape);
  tt_graph_set_result(g, "logits", tiny_linear(t, x, "head.w", "head.b", 3));
}

static inline tt_pass_result tiny_run(tiny *t, tt_graph *g, tt_pass_fn *pass) {
  tt_pass_ctx ctx = {.diag = &t->diag, .recipe = &t->recipe, .scratch = tt_arena_create(), .pass = "test"};
  tt_pass_result r = pass(g, &ctx);
  tt_arena_destroy(ctx.scratch);
  if (r != TT_PASS_FAILED && !tt_verify(g, &t->diag)) fail_msg("%s", t->diag.text);
  return r;
}

static inline void tiny_pass(tiny *t, tt_graph *g, const char *name) {
  const tt_pass_info *p = tt_pass_find(name);
  assert_non_null(p);
  if (tiny_run(t, g, p->run) == TT_PASS_FAILED) fail_msg("%s: %s", name, t->diag.text ? t->diag.text : "");
}

/* Inputs: labels ascending (or a row distribution), rng {3, 5}, lr 0.01, bc1, bc2 of the first step, the rest random. */
static inline tt_tensor *tiny_inputs(tiny *t, const tt_graph *g) {
  tt_tensor *in = TT_NEW_N(t->arena, tt_tensor, g->inputs.count);
  t->state = 99;
  for (size_t i = 0; i < g->inputs.count; i++) {
    const tt_value_data *d = tt_val(g, g->inputs.data[i]);
    in[i] = tt_tensor_new(t->arena, d->type);
    int64_t count = tt_type_count(&d->type);
    for (int64_t k = 0; k < count; k++) {
      double *x = &in[i].d[k];
      if (strcmp(d->name, "labels") == 0)
        *x = d->type.dtype == TT_I32 ? (double)(k % 3) : 1.0 / (double)tt_type_last(&d->type);
      else if (strcmp(d->name, "rng") == 0)
        *x = k ? 5 : 3;
      else if (strcmp(d->name, "lr") == 0)
        *x = 0.01;
      else if (strcmp(d->name, "bc1") == 0)
        *x = 0.1;
      else if (strcmp(d->name, "bc2") == 0)
        *x = 0.001;
      else
        *x = tiny_random(t);
    }
  }
  return in;
}

static inline tt_tensor *tiny_vars(tiny *t) {
  tt_tensor *vars = TT_NEW_N(t->arena, tt_tensor, t->m->vars.count);
  for (size_t i = 0; i < t->m->vars.count; i++) vars[i] = tt_var_initial(t->arena, t->m, (uint32_t)i);
  return vars;
}

static inline tt_tensor *tiny_eval(tiny *t, const tt_graph *g, const tt_tensor *in, tt_tensor *vars) {
  tt_tensor *results = TT_NEW_N(t->arena, tt_tensor, g->results.count);
  tt_eval_graph(g, in, vars, results, false, t->arena);
  return results;
}

static inline const tt_tensor *tiny_result(const tt_graph *g, const tt_tensor *results, const char *name) {
  for (size_t i = 0; i < g->results.count; i++)
    if (strcmp(g->results.data[i].name, name) == 0) return &results[i];
  return NULL;
}

static inline int tiny_count(const tt_graph *g, tt_op op) {
  int n = 0;
  TT_FOR_NODES(g, node) n += tt_nod(g, node)->op == op;
  return n;
}
#endif
