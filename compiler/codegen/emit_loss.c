/* Softmax cross-entropy with hard (i32) or soft (f32) labels and smoothing, its gradient, and the count of correct answers.
 * The target of class k is t_k = (1 - s) label_k + s / C; loss = log(sum exp(x - max)) sum(t) - sum(t (x - max)). A hard
 * label outside [0, C) is no class: its label_k is 0 everywhere. */
#include "compiler/codegen/rows.h"

typedef struct lrow {
  cg_ctx *c;
  int64_t C;
  double smoothing;
  bool hard;
  cg_val x, soft, out; /* rows */
  cg_val label;        /* i32, hard */
  cg_val max;          /* vf */
  cg_val a, mass;      /* vf, gradient: dloss / sum, and what the mass of targets multiplies */
} lrow;

static void max_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  lrow *s = u;
  terms[0] = cg_cols(s->c, s->x, i, n);
}

/* t_k for the classes i + lane. */
static cg_val targets(lrow *s, cg_val i, cg_val n) {
  cg_ctx *c = s->c;
  cg_val base = cg_vf(c, s->smoothing / (double)s->C), keep = cg_vf(c, 1 - s->smoothing);
  if (!s->hard) return cg_fma(c, cg_cols(c, s->soft, i, n), keep, base);
  cg_val first = cg_splat(c, LLVMBuildTrunc(c->b, i, c->i32, ""), c->W);
  cg_val class = cg_add(c, first, cg_iota(c, c->i32, c->W));
  cg_val is = cg_icmp(c, LLVMIntEQ, class, cg_splat(c, s->label, c->W));
  return cg_select(c, is, cg_vf(c, (1 - s->smoothing) + s->smoothing / (double)s->C), base);
}

/* exp(x - max), t, t (x - max) */
static void loss_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  lrow *s = u;
  cg_ctx *c = s->c;
  cg_val d = cg_sub(c, cg_cols(c, s->x, i, n), s->max);
  terms[0] = cg_exp(c, d);
  terms[1] = targets(s, i, n);
  terms[2] = cg_mul(c, terms[1], d);
}

/* Rows of logits and labels (operands `logits` and the next) and the three sums; leaves max set. */
static void open_row(cg_kernel *k, lrow *s, int logits, cg_val r, cg_val *sums) {
  cg_ctx *c = s->c = k->c;
  cg_val max, zero = cg_i64(c, 0), end = cg_i64(c, s->C);
  s->x = cg_row(c, cg_in(k, logits), r, s->C);
  s->hard = cg_in_type(k->x, logits + 1)->dtype == TT_I32;
  if (s->hard)
    s->label = cg_load(c, c->i32, cg_gep(c, c->i32, cg_in(k, logits + 1), r), 4);
  else
    s->soft = cg_row(c, cg_in(k, logits + 1), r, s->C);
  cg_fold(c, zero, end, 1, (cg_reduce_op[]){CG_MAX}, max_terms, s, &max);
  s->max = cg_splat(c, max, c->W);
  cg_fold(c, zero, end, 3, (cg_reduce_op[]){CG_SUM, CG_SUM, CG_SUM}, loss_terms, s, sums);
}

static void loss_row(cg_kernel *k, void *u, cg_val r) {
  cg_ctx *c = k->c;
  lrow s = *(lrow *)u;
  cg_val sums[3];
  open_row(k, &s, 0, r, sums);
  cg_val loss = cg_sub(c, cg_mul(c, cg_log(c, sums[0]), sums[1]), sums[2]);
  cg_store_f32(c, loss, cg_out(k, 0), r);
}

static lrow describe(const cg_node *x, int logits) {
  return (lrow){.C = tt_type_last(cg_in_type(x, logits)), .smoothing = tt_node_float(x->g, x->n, TT_A_SMOOTHING)};
}

bool cg_emit_xent(cg_node *x) { /* (logits, labels) -> losses */
  lrow s = describe(x, 0);
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 0)), s.C, 4, loss_row, &s);
  return true;
}

static void grad_body(void *u, cg_val i, cg_val n) {
  lrow *s = u;
  cg_ctx *c = s->c;
  cg_val e = cg_exp(c, cg_sub(c, cg_cols(c, s->x, i, n), s->max));
  cg_val v = cg_mul(c, s->a, cg_sub(c, cg_mul(c, e, s->mass), targets(s, i, n)));
  cg_store_n(c, v, cg_gep(c, c->f32, s->out, i), n);
}

static void grad_row(cg_kernel *k, void *u, cg_val r) {
  cg_ctx *c = k->c;
  lrow s = *(lrow *)u;
  cg_val sums[3];
  open_row(k, &s, 1, r, sums);
  s.out = cg_row(c, cg_out(k, 0), r, s.C);
  s.a = cg_splat(c, cg_load_f32(c, cg_in(k, 0), r), c->W);
  s.mass = cg_splat(c, cg_div(c, sums[1], sums[0]), c->W);
  cg_each(c, cg_i64(c, 0), cg_i64(c, s.C), grad_body, &s);
}

bool cg_emit_xent_grad(cg_node *x) { /* (dlosses, logits, labels) -> dlogits */
  lrow s = describe(x, 1);
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 1)), s.C, 6, grad_row, &s);
  return true;
}

/* Minus the index of elements that equal the maximum, minus infinity elsewhere: its maximum is minus the lowest index. */
static void index_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  lrow *s = u;
  cg_ctx *c = s->c;
  cg_val lanes = cg_add(c, cg_iota(c, c->i64, c->W), cg_splat(c, i, c->W));
  cg_val minus = cg_neg(c, LLVMBuildSIToFP(c->b, lanes, c->vf, ""));
  cg_val is = cg_fcmp(c, LLVMRealOEQ, cg_cols(c, s->x, i, n), s->max);
  terms[0] = cg_select(c, is, minus, cg_vf(c, -__builtin_inf()));
}

/* As i32; classes are fewer than 2^24, so the float is exact. A row of NaN has no such element: -1. */
static cg_val arg_max(lrow *s, cg_val row) {
  cg_ctx *c = s->c;
  cg_val max, index, zero = cg_i64(c, 0), end = cg_i64(c, s->C);
  s->x = row;
  cg_fold(c, zero, end, 1, (cg_reduce_op[]){CG_MAX}, max_terms, s, &max);
  s->max = cg_splat(c, max, c->W);
  cg_fold(c, zero, end, 1, (cg_reduce_op[]){CG_MAX}, index_terms, s, &index);
  cg_val found = cg_fcmp(c, LLVMRealOGT, index, cg_f32(c, -__builtin_inf()));
  cg_val safe = cg_select(c, found, cg_neg(c, index), cg_f32(c, -1));
  return LLVMBuildFPToSI(c->b, safe, c->i32, "");
}

static void correct_row(cg_kernel *k, void *u, cg_val r) {
  cg_ctx *c = k->c;
  lrow s = *(lrow *)u;
  s.c = c;
  bool hard = cg_in_type(k->x, 1)->dtype == TT_I32;
  cg_val guess = arg_max(&s, cg_row(c, cg_in(k, 0), r, s.C));
  cg_val label = hard ? cg_load(c, c->i32, cg_gep(c, c->i32, cg_in(k, 1), r), 4)
                      : arg_max(&s, cg_row(c, cg_in(k, 1), r, s.C));
  cg_val same = cg_and(c, cg_icmp(c, LLVMIntEQ, guess, label), cg_icmp(c, LLVMIntSGE, guess, cg_i32(c, 0)));
  cg_store(c, LLVMBuildZExt(c->b, same, c->i32, ""), cg_gep(c, c->i32, cg_out(k, 0), r), 4);
}

bool cg_emit_correct(cg_node *x) { /* (logits, labels) -> i32 [B] */
  lrow s = describe(x, 0);
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 0)), s.C, 2, correct_row, &s);
  return true;
}
