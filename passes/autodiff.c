/* Reverse-mode differentiation of a whole graph by the gradient rules of the op table.
 *
 *   before:  results {loss, ...}
 *   after:   the same nodes, then the backward subgraph; results "grad:<param>" for every parameter that the loss depends
 * on
 *
 * Only values on a path from a parameter to the loss get a gradient. Nodes are visited in reverse execution order and
 * contributions are added in that order, so the sum has one order for every machine. Requires result "loss" (add_loss);
 * must run before any op with gradient rule `none` is introduced on the path, and after lower_mx. */
#include "passes/grad.h"
#include "passes/pass.h"
#include <string.h>

tt_grad_fn *const tt_grad_table[TT_OP_COUNT] = {
#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) [TT_OP_##id] = tt_grad_##grad,
#include "compiler/ir/ops.def"
#undef TT_OP
};

typedef struct shared_quantize {
  tt_op op;
  tt_value x, result;
  tt_qspec q;
  bool transpose;
} shared_quantize;

struct tt_grad_state {
  size_t n_values; /* values that existed before; only these have gradients */
  tt_value *grad;  /* [n_values], TT_NONE: none so far */
  bool *wanted;    /* [n_values] */
  TT_VEC(shared_quantize) shared;
};

static bool is_differentiable(const tt_type *t) { return t->dtype == TT_F32 || t->dtype == TT_F64 || t->dtype == TT_MX; }

static bool same_shape(const tt_type *a, const tt_type *b) {
  return a->rank == b->rank && memcmp(a->dim, b->dim, sizeof *a->dim * a->rank) == 0;
}

/* Marks parameters and everything computed from them. */
static void mark_wanted(const tt_graph *g, bool *wanted) {
  for (size_t v = 0; v < g->values.count; v++) {
    const tt_value_data *d = &g->values.data[v];
    wanted[v] = d->kind == TT_VALUE_VAR && g->module->vars.data[d->index].role == TT_VAR_PARAM;
  }
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    bool any = false;
    for (int i = 0; i < d->n_in; i++) any |= wanted[d->in[i]];
    for (int i = 0; any && i < d->n_out; i++) wanted[d->out[i]] = is_differentiable(tt_typ(g, d->out[i]));
  }
}

bool tt_back_wants(const tt_grad_ctx *c, int i) { return i < c->n_in && c->state->wanted[c->in[i]]; }

bool tt_back_add(tt_grad_ctx *c, int i, tt_value dx) {
  if (dx == TT_NONE) return false;
  if (!tt_back_wants(c, i)) return true;
  tt_value *sum = &c->state->grad[c->in[i]];
  TT_ASSERT(same_shape(tt_typ(c->g, dx), tt_typ(c->g, c->in[i])));
  *sum = *sum == TT_NONE ? dx : tt_build2(c->b, TT_OP_ADD, *sum, dx, 0, NULL);
  return *sum != TT_NONE;
}

bool tt_back_add_broadcast(tt_grad_ctx *c, int i, tt_value dx) {
  if (!tt_back_wants(c, i)) return true;
  tt_type type = *tt_typ(c->g, c->in[i]);
  return tt_back_add(c, i, tt_back_sum_to(c, dx, &type));
}

tt_value tt_back_shared_quantize(tt_grad_ctx *c, tt_op op, tt_value x, tt_qspec q, bool transpose) {
  tt_grad_state *s = c->state;
  for (size_t i = 0; i < s->shared.count; i++) {
    const shared_quantize *e = &s->shared.data[i];
    if (e->op == op && e->x == x && e->transpose == transpose && tt_qspec_equal(e->q, q)) return e->result;
  }
  tt_value result = tt_build_mx_quantize(c->b, op, x, q, transpose);
  if (result != TT_NONE) tt_vec_push(&s->shared, ((shared_quantize){op, x, result, q, transpose}));
  return result;
}

/* Calls the rule of one node where some result has a gradient and some operand wants one. */
static bool differentiate_node(tt_builder *b, tt_grad_state *s, tt_node n) {
  const tt_node_data d = *tt_nod(b->g, n);
  tt_value dy[TT_MAX_OUT];
  bool have = false, want = false;
  for (int i = 0; i < d.n_out; i++) {
    dy[i] = s->grad[d.out[i]];
    have |= dy[i] != TT_NONE;
  }
  for (int i = 0; i < d.n_in; i++) want |= s->wanted[d.in[i]];
  if (!have || !want) return true;
  b->loc = d.loc;
  tt_grad_ctx c = {
      .b = b, .g = b->g, .node = n, .n_in = d.n_in, .n_out = d.n_out, .in = d.in, .out = d.out, .dy = dy, .state = s};
  return tt_grad_table[d.op](&c);
}

/* A missing gradient is no error here: an unused or unreachable parameter simply stays as it is (add_optimizer says so). */
static void set_gradient_results(tt_graph *g, const tt_grad_state *s) {
  for (size_t v = 0; v < s->n_values; v++) {
    const tt_value_data *d = tt_val(g, (tt_value)v);
    if (d->kind != TT_VALUE_VAR || s->grad[v] == TT_NONE) continue;
    const tt_var *var = &g->module->vars.data[d->index];
    if (var->role == TT_VAR_PARAM) tt_graph_set_result(g, tt_arena_printf(g->arena, "grad:%s", var->name), s->grad[v]);
  }
}

tt_pass_result tt_autodiff(tt_graph *g, tt_pass_ctx *ctx) {
  tt_value loss = tt_graph_result(g, "loss");
  if (loss == TT_NONE || tt_type_count(tt_typ(g, loss)) != 1) {
    tt_error(ctx->diag, (tt_loc){.file = g->module->name}, "graph '%s' has no scalar result 'loss' to differentiate",
             g->name);
    return TT_PASS_FAILED;
  }
  tt_grad_state s = {.n_values = g->values.count};
  s.grad = TT_NEW_N(ctx->scratch, tt_value, s.n_values);
  s.wanted = TT_NEW_N(ctx->scratch, bool, s.n_values);
  memset(s.grad, 0xff, sizeof *s.grad * s.n_values);
  mark_wanted(g, s.wanted);
  if (!s.wanted[loss]) {
    tt_error(ctx->diag, (tt_loc){.file = g->module->name}, "the loss depends on no parameter: there is nothing to train");
    return TT_PASS_FAILED;
  }
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE};
  tt_type scalar = *tt_typ(g, loss);
  s.grad[loss] = tt_graph_const(g, scalar, &(float){1});
  bool ok = true;
  /* New nodes go to the end; the walk starts before them and each node's prev is fixed. */
  TT_FOR_NODES_REVERSE(g, n) ok = differentiate_node(&b, &s, n) && ok;
  if (ok) set_gradient_results(g, &s);
  tt_vec_free(&s.shared);
  return ok ? TT_PASS_CHANGED : TT_PASS_FAILED;
}
