/* GELU spelled in elementary ops becomes `gelu`, whatever order the factors stand in.
 *
 *   x * 0.5 * (1 + erf(x / sqrt(2)))                                   gelu %x {tanh=0}
 *   x * 0.5 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))              gelu %x {tanh=1}
 *
 * A product is read as the set of its factors: multiplications that nothing else uses are opened up, constants are
 * collected into one number. Then a GELU is {x, 1 + f(..)} with 0.5. The cubic may be written x*x*x, pow(x, 3), x*pow(x,
 * 2), or with x taken out: x * (1 + 0.044715 x^2). Formulas: Hendrycks and Gimpel 2016. */
#include <math.h>
#include "passes/match.h"

enum { MAX_FACTORS = 6 };
typedef struct product {
  double number;
  int n;
  tt_value factor[MAX_FACTORS];
} product;

static bool add_factor(product *p, tt_value v) {
  if (p->n == MAX_FACTORS) return false;
  p->factor[p->n++] = v;
  return true;
}

/* Opens v up; `outer`: v itself may have any number of uses. Small powers count as repeated factors. */
static bool collect(const tt_match *m, tt_value v, bool outer, product *p) {
  const tt_graph *g = m->g;
  const tt_node mul = tt_def_op(g, v, TT_OP_MUL), pow = tt_def_op(g, v, TT_OP_POW);
  tt_value x;
  double c;
  if (!outer && !tt_match_sole(m, v)) return add_factor(p, v);
  if (tt_match_scaled(g, v, &x, &c)) {
    p->number *= c;
    return collect(m, x, false, p);
  }
  if (mul != TT_NONE) {
    const tt_value *in = tt_nod(g, mul)->in;
    return collect(m, in[0], false, p) && collect(m, in[1], false, p);
  }
  if (pow == TT_NONE || !tt_const_splat(g, tt_nod(g, pow)->in[1], &c) || (c != 2 && c != 3)) return add_factor(p, v);
  for (int i = 0; i < (int)c; i++)
    if (!add_factor(p, tt_nod(g, pow)->in[0])) return false;
  return true;
}

/* v = number * x^power */
static bool is_power(const tt_match *m, tt_value v, tt_value x, int power, double number) {
  product p = {.number = 1};
  if (!collect(m, v, true, &p) || p.n != power || !tt_match_near(p.number, number)) return false;
  for (int i = 0; i < p.n; i++)
    if (p.factor[i] != x) return false;
  return true;
}

/* v = x + 0.044715 x^3 */
static bool is_cubic_sum(const tt_match *m, tt_value v, tt_value x) {
  const tt_node add = tt_def_op(m->g, v, TT_OP_ADD);
  for (int side = 0; add != TT_NONE && side < 2; side++) {
    const tt_value *in = tt_nod(m->g, add)->in;
    if (in[side] == x && is_power(m, in[1 - side], x, 3, 0.044715)) return true;
  }
  return false;
}

/* v = 1 + 0.044715 x^2 */
static bool is_square_sum(const tt_match *m, tt_value v, tt_value x) {
  tt_value square;
  double c;
  return tt_match_with_scalar(m->g, v, TT_OP_ADD, &square, &c) && c == 1 && is_power(m, square, x, 2, 0.044715);
}

/* v = sqrt(2/pi) (x + 0.044715 x^3) */
static bool is_tanh_operand(const tt_match *m, tt_value v, tt_value x) {
  product p = {.number = 1};
  if (!collect(m, v, true, &p) || !tt_match_near(p.number, sqrt(2 / M_PI))) return false;
  if (p.n == 1) return is_cubic_sum(m, p.factor[0], x);
  if (p.n != 2) return false;
  const int side = p.factor[0] == x ? 1 : 0;
  return p.factor[1 - side] == x && is_square_sum(m, p.factor[side], x);
}

/* gate = 1 + f(x), f the erf or tanh of a GELU */
static bool is_gate(const tt_match *m, tt_value gate, tt_value x, int64_t *tanh_form) {
  tt_value f;
  double one;
  if (!tt_match_with_scalar(m->g, gate, TT_OP_ADD, &f, &one) || one != 1) return false;
  const tt_value erf_of = tt_match_unary(m->g, f, TT_OP_ERF), tanh_of = tt_match_unary(m->g, f, TT_OP_TANH);
  *tanh_form = tanh_of != TT_NONE;
  if (erf_of != TT_NONE) return is_power(m, erf_of, x, 1, M_SQRT1_2);
  return tanh_of != TT_NONE && is_tanh_operand(m, tanh_of, x);
}

static bool activate(tt_match *m, tt_node n) {
  product p = {.number = 1};
  int64_t tanh_form = 0;
  if (!collect(m, tt_nod(m->g, n)->out[0], true, &p) || p.n != 2 || !tt_match_near(p.number, 0.5)) return false;
  for (int side = 0; side < 2; side++) {
    const tt_value x = p.factor[side];
    if (tt_typ(m->g, x)->dtype != TT_F32 || !tt_match_same_type(m->g, x, tt_nod(m->g, n)->out[0])) continue;
    if (!is_gate(m, p.factor[1 - side], x, &tanh_form)) continue;
    const tt_attr attr = tt_attr_int(TT_A_TANH, tanh_form);
    tt_builder b = tt_match_builder(m, n);
    return tt_match_replace(m, n, tt_build1(&b, TT_OP_GELU, x, 1, &attr));
  }
  return false;
}

tt_pass_result tt_canon_gelu(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_MUL, activate); }
