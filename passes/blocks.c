/* See blocks.h. */
#include "passes/blocks.h"
#include <limits.h>
#include <string.h>

/* Marks the values that v is computed from, v included; nodes before `at` only, as they are in execution order. */
static void mark_ancestors(const tt_graph *g, tt_node at, tt_value v, bool *anc) {
  memset(anc, 0, g->values.count);
  anc[v] = true;
  for (tt_node n = at; n != TT_NONE; n = tt_nod(g, n)->prev) {
    const tt_node_data *d = tt_nod(g, n);
    bool any = false;
    for (int i = 0; i < d->n_out; i++) any |= anc[d->out[i]];
    for (int i = 0; any && i < d->n_in; i++) anc[d->in[i]] = true;
  }
}

/* Where the branch left the stream: the nearest value of the sum `v` that the branch depends on. Sums are looked through,
 * as parallel branches are added one after the other, and slices, as opt_slices cuts both ways of a last block. */
static tt_value branch_start(const tt_graph *g, tt_value v, const bool *anc) {
  tt_value_kind kind = tt_val(g, v)->kind;
  if (kind == TT_VALUE_VAR || kind == TT_VALUE_CONST) return TT_NONE; // a bias or a position embedding
  if (anc[v]) return v;
  tt_node cut = tt_def_op(g, v, TT_OP_SLICE);
  if (cut != TT_NONE) return branch_start(g, tt_nod(g, cut)->in[0], anc);
  tt_node sum = tt_def_op(g, v, TT_OP_ADD);
  for (int i = 0; sum != TT_NONE && i < 2; i++) {
    tt_value start = branch_start(g, tt_nod(g, sum)->in[i], anc);
    if (start != TT_NONE) return start;
  }
  return TT_NONE;
}

/* A linear layer, before lower_mx or after it: a product whose weight can be its operand 1 alone. */
static bool is_linear(const tt_node_data *d) { return (tt_ops[d->op].flags & (TT_WEIGHT0 | TT_WEIGHT1)) == TT_WEIGHT1; }

/* Marks the linears between `start` and the value whose ancestors are `anc`: one branch, which ends at the add `end`. */
static void mark_between(const tt_graph *g, tt_node end, tt_value start, const bool *anc, bool *desc, tt_blocks *b) {
  bool opens = !b->attention || b->count == 0, any = false;
  memset(desc, 0, g->values.count);
  desc[start] = true;
  tt_node def = tt_val(g, start)->def;
  for (tt_node n = def == TT_NONE ? g->first : tt_nod(g, def)->next; n != end; n = tt_nod(g, n)->next) {
    const tt_node_data *d = tt_nod(g, n);
    bool from = false;
    for (int i = 0; i < d->n_in; i++) from |= desc[d->in[i]];
    for (int i = 0; from && i < d->n_out; i++) desc[d->out[i]] = true;
    if (!from || !anc[d->out[0]]) continue;
    if (d->op == TT_OP_ATTENTION) opens = true;
    if (!is_linear(d) || b->of[n] >= 0) continue;
    b->of[n] = INT_MAX; // the attention may come later
    any = true;
  }
  if (!any) return;
  if (opens) b->count++;
  b->output[b->count - 1] = tt_nod(g, end)->out[0];
  for (size_t n = 0; n < g->nodes.count; n++)
    if (b->of[n] == INT_MAX) b->of[n] = b->count - 1;
}

tt_blocks tt_find_blocks(const tt_graph *g, tt_arena *scratch) {
  tt_blocks b = {.of = TT_NEW_N(scratch, int, g->nodes.count), .output = TT_NEW_N(scratch, tt_value, g->nodes.count)};
  memset(b.of, 0xff, sizeof *b.of * g->nodes.count);
  TT_FOR_NODES(g, n) b.attention |= tt_nod(g, n)->op == TT_OP_ATTENTION;
  bool *anc = TT_NEW_N(scratch, bool, g->values.count), *desc = TT_NEW_N(scratch, bool, g->values.count);
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op != TT_OP_ADD || !tt_type_equal(tt_typ(g, d->in[0]), tt_typ(g, d->in[1]))) continue;
    for (int i = 0; i < 2; i++) {
      if (tt_val(g, d->in[i])->kind != TT_VALUE_NODE) continue;
      mark_ancestors(g, n, d->in[i], anc);
      tt_value start = branch_start(g, d->in[1 - i], anc);
      if (start != TT_NONE) mark_between(g, n, start, anc, desc, &b);
    }
  }
  return b;
}
