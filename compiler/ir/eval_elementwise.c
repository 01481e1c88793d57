/* Elementwise rules. NaN goes through min, max and relu; integers divide toward zero. */
#include "compiler/ir/eval_rules.h"
#include <math.h>

static double apply1(tt_op op, double x) {
  switch (op) {
  case TT_OP_NEG: return -x;
  case TT_OP_EXP: return exp(x);
  case TT_OP_LOG: return log(x);
  case TT_OP_SQRT: return sqrt(x);
  case TT_OP_RECIPROCAL: return 1 / x;
  case TT_OP_ERF: return erf(x);
  case TT_OP_TANH: return tanh(x);
  case TT_OP_SIGMOID: return 1 / (1 + exp(-x));
  case TT_OP_ABS: return fabs(x);
  case TT_OP_RELU: return x < 0 ? 0 : x;
  case TT_OP_FLOOR: return floor(x);
  case TT_OP_NOT: return x == 0;
  case TT_OP_ISNAN: return isnan(x);
  default: TT_ASSERT(!"unary op"); return 0;
  }
}

void tt_eval_unary(tt_eval_ctx *c) {
  tt_op op = tt_eval_op(c);
  int64_t n = tt_type_count(&c->out[0].type);
  for (int64_t i = 0; i < n; i++) c->out[0].d[i] = apply1(op, c->in[0].d[i]);
}

/* The driver truncates to integers and rounds to float32; only bool is more than that. */
void tt_eval_cast(tt_eval_ctx *c) {
  int64_t n = tt_type_count(&c->out[0].type);
  bool to_bool = c->out[0].type.dtype == TT_BOOL;
  for (int64_t i = 0; i < n; i++) c->out[0].d[i] = to_bool ? c->in[0].d[i] != 0 : c->in[0].d[i];
}

/* ONNX Mod: integers (fmod = 0) take the divisor's sign, floats (fmod = 1) the dividend's. */
static double modulo(double a, double b, bool integer) {
  double r = fmod(a, b);
  return integer && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static double apply2(tt_op op, bool integer, double a, double b) {
  switch (op) {
  case TT_OP_ADD: return a + b;
  case TT_OP_SUB: return a - b;
  case TT_OP_MUL: return a * b;
  /* The driver truncates an integer quotient. Division by zero means nothing in ONNX; here it must not be a crash. */
  case TT_OP_DIV: return integer && b == 0 ? 0 : a / b;
  case TT_OP_MOD: return integer && b == 0 ? 0 : modulo(a, b, integer);
  case TT_OP_POW: return pow(a, b);
  case TT_OP_MIN: return isnan(a) || a < b ? a : b;
  case TT_OP_MAX: return isnan(a) || a > b ? a : b;
  case TT_OP_EQUAL: return a == b;
  case TT_OP_LESS: return a < b;
  case TT_OP_GREATER: return a > b;
  case TT_OP_AND: return a != 0 && b != 0;
  case TT_OP_OR: return a != 0 || b != 0;
  default: TT_ASSERT(!"binary op"); return 0;
  }
}

void tt_eval_binary(tt_eval_ctx *c) {
  const tt_tensor *a = &c->in[0], *b = &c->in[1];
  tt_tensor *out = &c->out[0];
  tt_op op = tt_eval_op(c);
  bool integer = a->type.dtype == TT_I32 || a->type.dtype == TT_I64;
  int64_t n = tt_type_count(&out->type);
  for (int64_t i = 0; i < n; i++) {
    double x = a->d[tt_broadcast_offset(&out->type, i, &a->type)];
    double y = b->d[tt_broadcast_offset(&out->type, i, &b->type)];
    out->d[i] = apply2(op, integer, x, y);
  }
}

void tt_eval_where(tt_eval_ctx *c) {
  tt_tensor *out = &c->out[0];
  int64_t n = tt_type_count(&out->type);
  for (int64_t i = 0; i < n; i++) {
    bool taken = c->in[0].d[tt_broadcast_offset(&out->type, i, &c->in[0].type)] != 0;
    const tt_tensor *from = &c->in[taken ? 1 : 2];
    out->d[i] = from->d[tt_broadcast_offset(&out->type, i, &from->type)];
  }
}

/* GELU and its derivative (Hendrycks & Gimpel 2016): x Phi(x), or with tanh(u) for 2 Phi(x) - 1,
 * u = sqrt(2/pi) (x + 0.044715 x^3). */
#define SQRT_2_OVER_PI 0.79788456080286535588
#define CUBIC 0.044715

static double gelu(double x, bool tanh_form) {
  if (!tanh_form) return 0.5 * x * erfc(-x * M_SQRT1_2);
  return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x)));
}

static double gelu_slope(double x, bool tanh_form) {
  if (!tanh_form) return 0.5 * erfc(-x * M_SQRT1_2) + x * exp(-0.5 * x * x) * (0.5 * SQRT_2_OVER_PI);
  double t = tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
  double du = SQRT_2_OVER_PI * (1 + 3 * CUBIC * x * x);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du;
}

void tt_eval_gelu(tt_eval_ctx *c) {
  bool tanh_form = tt_eval_int(c, TT_A_TANH) != 0;
  int64_t n = tt_type_count(&c->out[0].type);
  for (int64_t i = 0; i < n; i++) c->out[0].d[i] = gelu(c->in[0].d[i], tanh_form);
}

void tt_eval_gelu_grad(tt_eval_ctx *c) { /* (dy, x) -> dx, all of one shape */
  bool tanh_form = tt_eval_int(c, TT_A_TANH) != 0;
  int64_t n = tt_type_count(&c->out[0].type);
  for (int64_t i = 0; i < n; i++) c->out[0].d[i] = c->in[0].d[i] * gelu_slope(c->in[1].d[i], tanh_form);
}
