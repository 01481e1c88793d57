/* Elementwise ops: one walk each, all arithmetic in float32 vectors.
 * GELU: x Phi(x), or 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016). */
#include "compiler/codegen/rows.h"
#include "compiler/codegen/walk.h"

static const double SQRT_2_OVER_PI = 0.79788456080286535588, GELU_CUBIC = 0.044715;

typedef struct ew {
  tt_op op;
  bool tanh_form;
} ew;

static bool emit_walk(cg_node *x, int64_t cost, cg_walk_fn *body) {
  TT_TRY(cg_float_operands(x));
  cg_walk w = cg_walk_over(cg_out_type(x, 0), cost);
  for (int i = 0; i < x->d->n_in; i++) cg_walk_in(&w, cg_in_type(x, i));
  cg_walk_out(&w, cg_out_type(x, 0));
  cg_walk_done(&w);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val base[CG_WALK_OPS];
    ew e = {x->d->op, tt_node_int(x->g, x->n, TT_A_TANH) != 0};
    for (int i = 0; i < x->d->n_in; i++) base[i] = cg_in(k, i);
    base[x->d->n_in] = cg_out(k, 0);
    cg_walk_emit(k, &w, base, body, &e);
    cg_kernel_end(k);
  }
  cg_launch(x, "", cg_walk_tasks(&w));
  return true;
}

static void unary_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  cg_val x = in[0], one = cg_like(c, x, 1), zero = cg_like(c, x, 0);
  switch (((ew *)u)->op) {
  case TT_OP_NEG: *out = cg_neg(c, x); return;
  case TT_OP_EXP: *out = cg_exp(c, x); return;
  case TT_OP_LOG: *out = cg_log(c, x); return;
  case TT_OP_SQRT: *out = cg_sqrt(c, x); return;
  case TT_OP_RECIPROCAL: *out = cg_div(c, one, x); return;
  case TT_OP_ERF: *out = cg_erf(c, x); return;
  case TT_OP_TANH: *out = cg_tanh(c, x); return;
  case TT_OP_SIGMOID: *out = cg_div(c, one, cg_add(c, one, cg_exp(c, cg_neg(c, x)))); return;
  case TT_OP_ABS: *out = cg_abs(c, x); return;
  case TT_OP_RELU: *out = cg_select(c, cg_fcmp(c, LLVMRealOLT, x, zero), zero, x); return;
  case TT_OP_FLOOR: *out = cg_floor(c, x); return;
  default: TT_ASSERT(!"unary op without code");
  }
}

static int64_t unary_cost(tt_op op) {
  switch (op) {
  case TT_OP_EXP:
  case TT_OP_LOG:
  case TT_OP_ERF:
  case TT_OP_TANH:
  case TT_OP_SIGMOID: return 2;
  default: return 1;
  }
}

bool cg_emit_unary(cg_node *x) { return emit_walk(x, unary_cost(x->d->op), unary_body); }

static void binary_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  cg_val a = in[0], b = in[1];
  switch (((ew *)u)->op) {
  case TT_OP_ADD: *out = cg_add(c, a, b); return;
  case TT_OP_SUB: *out = cg_sub(c, a, b); return;
  case TT_OP_MUL: *out = cg_mul(c, a, b); return;
  case TT_OP_DIV: *out = cg_div(c, a, b); return;
  case TT_OP_MIN: *out = cg_min(c, a, b); return;
  case TT_OP_MAX: *out = cg_max(c, a, b); return;
  default: TT_ASSERT(!"binary op without code");
  }
}

bool cg_emit_binary(cg_node *x) { return emit_walk(x, 1, binary_body); }

/* The argument of tanh in the tanh form. */
static cg_val gelu_inner(cg_ctx *c, cg_val x, cg_val x2) {
  cg_val poly = cg_fma(c, x2, cg_like(c, x, SQRT_2_OVER_PI * GELU_CUBIC), cg_like(c, x, SQRT_2_OVER_PI));
  return cg_mul(c, x, poly);
}

static void gelu_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  cg_val x = in[0];
  if (!((ew *)u)->tanh_form) {
    *out = cg_mul(c, x, cg_normal_cdf(c, x));
    return;
  }
  cg_val half = cg_mul(c, x, cg_like(c, x, 0.5));
  *out = cg_fma(c, half, cg_tanh(c, gelu_inner(c, x, cg_mul(c, x, x))), half);
}

bool cg_emit_gelu(cg_node *x) { return emit_walk(x, 2, gelu_body); }

/* d/dx x Phi(x) = Phi(x) + x phi(x); tanh form: 0.5 (1 + t) + 0.5 x (1 - t^2) s'(x). Times dy. */
static void gelu_grad_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  cg_val dy = in[0], x = in[1], half = cg_like(c, x, 0.5), x2 = cg_mul(c, x, x), d;
  if (((ew *)u)->tanh_form) {
    cg_val t = cg_tanh(c, gelu_inner(c, x, x2));
    cg_val slope = cg_fma(c, x2, cg_like(c, x, 3 * SQRT_2_OVER_PI * GELU_CUBIC), cg_like(c, x, SQRT_2_OVER_PI));
    cg_val curve = cg_mul(c, cg_mul(c, x, half), cg_fma(c, cg_neg(c, t), t, cg_like(c, x, 1)));
    d = cg_fma(c, curve, slope, cg_fma(c, t, half, half));
  } else {
    d = cg_gelu_slope(c, x);
  }
  *out = cg_mul(c, dy, d);
}

bool cg_emit_gelu_grad(cg_node *x) { return emit_walk(x, 3, gelu_grad_body); }

static cg_walk_fn *body_of(tt_op op) {
  cg_emit_fn *emit = cg_emit_table[op];
  if (emit == cg_emit_unary) return unary_body;
  if (emit == cg_emit_binary) return binary_body;
  if (emit == cg_emit_gelu) return gelu_body;
  TT_ASSERT(emit == cg_emit_gelu_grad);
  return gelu_grad_body;
}

static void row_body(void *u, cg_val i, cg_val n) {
  const cg_row_op *o = u;
  cg_ctx *c = o->k->c;
  ew e = {o->op, tt_node_int(o->k->x->g, o->k->x->n, TT_A_TANH) != 0};
  cg_val in[2], out, one = cg_vf(c, 1); /* what lanes without an element compute with, as in a walk */
  in[0] = cg_load_n(c, cg_gep(c, c->f32, o->from[0], i), n, one);
  if (tt_ops[o->op].max_in > 1) in[1] = cg_load_n(c, cg_gep(c, c->f32, cg_row(c, o->in[1], o->row, o->D), i), n, one);
  body_of(o->op)(c, &e, in, &out);
  cg_store_n(c, out, cg_gep(c, c->f32, o->to[0], i), n);
}

void cg_elementwise_row(const cg_row_op *o) {
  cg_row_op copy = *o;
  TT_ASSERT(o->rows == 1);
  cg_each(o->k->c, cg_i64(o->k->c, 0), cg_i64(o->k->c, o->n), row_body, &copy);
}
