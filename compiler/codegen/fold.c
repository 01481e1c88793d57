/* Reductions of a contiguous range: four accumulators hide the latency of the adds, and their combination is part of the
 * result's definition, so that it depends on the range alone. */
#include "compiler/codegen/cg.h"

enum { WAYS = 4 };

static double neutral(cg_reduce_op op) { return op == CG_SUM ? 0 : -__builtin_inf(); }

static cg_val combine(cg_ctx *c, cg_reduce_op op, cg_val a, cg_val b) {
  return op == CG_SUM ? cg_add(c, a, b) : cg_max(c, a, b);
}

typedef struct fold {
  cg_ctx *c;
  int n;
  const cg_reduce_op *op;
  cg_terms_fn *body;
  void *u;
} fold;

/* acc[k] (k < n) takes the terms at i. */
static void step(const fold *f, cg_val i, cg_val count, cg_val *acc) {
  cg_val terms[CG_FOLD_MAX];
  f->body(f->u, i, count, terms);
  for (int k = 0; k < f->n; k++) {
    cg_val t = terms[k];
    if (count) t = cg_select(f->c, cg_lane_mask(f->c, count), t, cg_vf(f->c, neutral(f->op[k])));
    acc[k] = combine(f->c, f->op[k], acc[k], t);
  }
}

/* Whole groups of WAYS vectors in [begin, end): acc[w * n + k]. */
static void grouped(const fold *f, cg_val begin, cg_val end, cg_val *acc) {
  cg_ctx *c = f->c;
  cg_loop l;
  cg_loop_begin(c, &l, begin, end, WAYS * c->W, WAYS * f->n, acc);
  cg_val next[WAYS * CG_FOLD_MAX];
  for (int i = 0; i < WAYS * f->n; i++) next[i] = l.carry[i];
  for (int w = 0; w < WAYS; w++) step(f, w ? cg_add(c, l.i, cg_i64(c, w * c->W)) : l.i, NULL, next + w * f->n);
  cg_loop_end(&l, next);
  for (int i = 0; i < WAYS * f->n; i++) acc[i] = l.carry[i];
}

/* What is left behind the groups, fewer than WAYS vectors, the last perhaps in part. */
static void rest(const fold *f, cg_val begin, cg_val end, cg_val *acc) {
  cg_ctx *c = f->c;
  int64_t n;
  cg_val left = cg_sub(c, end, begin);
  if (cg_const_int(left, &n)) {
    for (int w = 0; w * c->W < n; w++) {
      int64_t lanes = n - w * c->W;
      cg_val count = lanes >= c->W ? NULL : cg_i64(c, lanes);
      step(f, cg_add(c, begin, cg_i64(c, w * c->W)), count, acc + w % WAYS * f->n);
    }
    return;
  }
  cg_loop l;
  cg_loop_begin(c, &l, begin, end, c->W, f->n, acc);
  cg_val next[CG_FOLD_MAX];
  for (int k = 0; k < f->n; k++) next[k] = l.carry[k];
  step(f, l.i, cg_sub(c, end, l.i), next);
  cg_loop_end(&l, next);
  for (int k = 0; k < f->n; k++) acc[k] = l.carry[k];
}

void cg_fold(cg_ctx *c, cg_val begin, cg_val end, int n, const cg_reduce_op *op, cg_terms_fn *body, void *u, cg_val *out) {
  fold f = {c, n, op, body, u};
  cg_val acc[WAYS * CG_FOLD_MAX];
  int64_t known;
  TT_ASSERT(n <= CG_FOLD_MAX);
  for (int i = 0; i < WAYS * n; i++) acc[i] = cg_vf(c, neutral(op[i % n]));
  cg_val span = cg_sub(c, end, begin);
  cg_val whole = cg_and(c, span, cg_i64(c, -(int64_t)WAYS * c->W));
  cg_val middle = cg_add(c, begin, whole);
  if (!cg_const_int(whole, &known) || known > 0) grouped(&f, begin, middle, acc);
  rest(&f, middle, end, acc);
  for (int k = 0; k < n; k++) {
    cg_val a = combine(c, op[k], acc[k], acc[n + k]), b = combine(c, op[k], acc[2 * n + k], acc[3 * n + k]);
    cg_val v = combine(c, op[k], a, b);
    out[k] = op[k] == CG_SUM ? cg_hsum(c, v) : cg_hmax(c, v);
  }
}
