/* Rounds of pattern rewriting and the small helpers of match.h. */
#include "passes/match.h"
#include <math.h>

/* A rewrite can enable another one a few times (a chain of n factors takes log n rounds, a slice passes a node a round); more
 * rounds than that and nodes mean two rules that undo each other, which is a broken invariant. */
enum { EXTRA_ROUNDS = 64 };

bool tt_match_used(const tt_match *m, tt_node n) {
  const tt_node_data *d = tt_nod(m->g, n);
  for (int i = 0; i < d->n_out; i++)
    if (m->uses[d->out[i]] > 0) return true;
  return false;
}

static void count_operands(tt_match *m, tt_node n, uint32_t by) {
  const tt_node_data *d = tt_nod(m->g, n);
  for (int i = 0; i < d->n_in; i++)
    if (d->in[i] < m->n_values) m->uses[d->in[i]] += by;
}

static bool run_round(tt_match *m, tt_op op, tt_match_fn *try_node) {
  tt_graph *g = m->g;
  bool changed = false;
  m->uses = tt_graph_use_counts(g);
  m->n_values = g->values.count;
  for (tt_node n = g->last, before; n != TT_NONE; n = before) {
    before = tt_nod(g, n)->prev;
    if (tt_match_used(m, n) && (op == TT_OP_COUNT || tt_nod(g, n)->op == op)) {
      tt_assert_context(m->ctx->pass, tt_nod(g, n)->loc.node);
      changed |= try_node(m, n);
      for (tt_node made = tt_nod(g, n)->prev; made != before; made = tt_nod(g, made)->prev) count_operands(m, made, 1);
    }
    if (!tt_match_used(m, n)) count_operands(m, n, UINT32_MAX); /* modulo 2^32: one less */
  }
  tt_assert_context(m->ctx->pass, NULL);
  return changed;
}

tt_pass_result tt_match_run(tt_graph *g, tt_pass_ctx *ctx, tt_op op, tt_match_fn *try_node) {
  tt_match m = {.g = g, .ctx = ctx};
  const int errors = ctx->diag->errors;
  size_t rounds = 0, most = EXTRA_ROUNDS + g->nodes.count;
  while (run_round(&m, op, try_node)) {
    TT_ASSERT(++rounds < most);
    tt_graph_sweep(g);
  }
  if (ctx->diag->errors > errors) return TT_PASS_FAILED;
  return rounds > 0 ? TT_PASS_CHANGED : TT_PASS_UNCHANGED;
}

bool tt_match_sole(const tt_match *m, tt_value v) { return v < m->n_values && m->uses[v] == 1; }

tt_builder tt_match_builder(const tt_match *m, tt_node n) {
  return (tt_builder){.g = m->g, .diag = m->ctx->diag, .at = n, .loc = tt_nod(m->g, n)->loc};
}

bool tt_match_replace(tt_match *m, tt_node n, tt_value by) {
  if (by == TT_NONE) return false;
  const tt_value old = tt_nod(m->g, n)->out[0];
  if (by < m->n_values) m->uses[by] += m->uses[old];
  m->uses[old] = 0;
  tt_graph_replace(m->g, old, by);
  return true;
}

tt_value tt_match_unary(const tt_graph *g, tt_value v, tt_op op) {
  const tt_node n = tt_def_op(g, v, op);
  return n == TT_NONE ? TT_NONE : tt_nod(g, n)->in[0];
}

bool tt_match_with_scalar(const tt_graph *g, tt_value v, tt_op op, tt_value *a, double *number) {
  const tt_node n = tt_def_op(g, v, op);
  if (n == TT_NONE) return false;
  const tt_value *in = tt_nod(g, n)->in;
  for (int i = 0; i < 2; i++) {
    if (!tt_const_splat(g, in[1 - i], number)) continue;
    *a = in[i];
    return true;
  }
  return false;
}

bool tt_match_scaled(const tt_graph *g, tt_value v, tt_value *x, double *factor) {
  if (tt_match_with_scalar(g, v, TT_OP_MUL, x, factor)) return tt_match_same_type(g, *x, v);
  const tt_node n = tt_def_op(g, v, TT_OP_DIV);
  double divisor;
  if (n == TT_NONE || !tt_const_splat(g, tt_nod(g, n)->in[1], &divisor) || divisor == 0) return false;
  *x = tt_nod(g, n)->in[0];
  *factor = 1.0 / divisor;
  return tt_match_same_type(g, *x, v);
}

bool tt_match_near(double x, double want) { return fabs(x - want) <= 1e-5 * fabs(want); }

bool tt_match_same_type(const tt_graph *g, tt_value a, tt_value b) { return tt_type_equal(tt_typ(g, a), tt_typ(g, b)); }

tt_value tt_match_reshape(tt_builder *b, tt_value x, const tt_type *type) {
  if (x == TT_NONE || tt_type_equal(tt_typ(b->g, x), type)) return x;
  const tt_attr shape = tt_attr_ints(b->g, TT_A_SHAPE, type->rank, type->dim);
  return tt_build1(b, TT_OP_RESHAPE, x, 1, &shape);
}

bool tt_match_owned_var(const tt_match *m, tt_value v) {
  const tt_module *module = m->g->module;
  if (tt_val(m->g, v)->kind != TT_VALUE_VAR || module->graphs.count > 1) return false;
  for (size_t i = 0; i < module->vars.count; i++) {
    const tt_var *other = &module->vars.data[i];
    if (!other->init && other->copy_of == tt_val(m->g, v)->index) return false;
  }
  return true;
}

void tt_match_retype_var(tt_graph *g, tt_value v, tt_type type) {
  TT_ASSERT(tt_val(g, v)->kind == TT_VALUE_VAR);
  g->module->vars.data[tt_val(g, v)->index].type = type;
  tt_val(g, v)->type = type;
}
