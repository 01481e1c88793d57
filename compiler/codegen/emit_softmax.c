/* Softmax over the last dimension: maximum, exponentials with their sum, scaling; a row stays in L1 between the three.
 * Gradient: dx = y (dy - sum(dy y)). */
#include "compiler/codegen/rows.h"

static void softmax_row(cg_kernel *k, void *u, cg_val r) {
  cg_ctx *c = k->c;
  int64_t D = *(int64_t *)u;
  cg_val out = cg_row(c, cg_out(k, 0), r, D), n = cg_i64(c, D), max;
  cg_val sum = cg_row_exp(c, cg_row(c, cg_in(k, 0), r, D), out, n, &max);
  cg_row_scale(c, out, n, cg_div(c, cg_f32(c, 1), sum));
}

bool cg_emit_softmax(cg_node *x) {
  TT_TRY(cg_float_operands(x));
  int64_t D = tt_type_last(cg_in_type(x, 0));
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 0)), D, 3, softmax_row, &D);
  return true;
}

typedef struct srow {
  cg_ctx *c;
  cg_val x, y, out; /* rows */
  cg_val a;         /* vf: the dot product */
} srow;

static void dot_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  srow *s = u;
  terms[0] = cg_mul(s->c, cg_cols(s->c, s->x, i, n), cg_cols(s->c, s->y, i, n));
}

static void grad_body(void *u, cg_val i, cg_val n) {
  srow *s = u;
  cg_ctx *c = s->c;
  cg_val v = cg_mul(c, cg_cols(c, s->y, i, n), cg_sub(c, cg_cols(c, s->x, i, n), s->a));
  cg_store_n(c, v, cg_gep(c, c->f32, s->out, i), n);
}

static void grad_row(cg_kernel *k, void *u, cg_val r) {
  cg_ctx *c = k->c;
  int64_t D = *(int64_t *)u;
  srow s = {.c = c, .x = cg_row(c, cg_in(k, 0), r, D), .y = cg_row(c, cg_in(k, 1), r, D), .out = cg_row(c, cg_out(k, 0), r, D)};
  cg_val dot, zero = cg_i64(c, 0), end = cg_i64(c, D);
  cg_fold(c, zero, end, 1, (cg_reduce_op[]){CG_SUM}, dot_terms, &s, &dot);
  s.a = cg_splat(c, dot, c->W);
  cg_each(c, zero, end, grad_body, &s);
}

bool cg_emit_softmax_grad(cg_node *x) { /* (dy, y) */
  TT_TRY(cg_float_operands(x));
  int64_t D = tt_type_last(cg_in_type(x, 0));
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 0)), D, 2, grad_row, &D);
  return true;
}
