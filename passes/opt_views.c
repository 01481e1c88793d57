/* Rewrites a chain of reshapes and transposes by the shortest chain that moves data the same way: nothing, one reshape,
 * or [reshape] transpose [reshape].
 *
 *   %1 = transpose %0 {perm=0,2,1}      // [B,N,D] -> [B,D,N]
 *   %2 = reshape %1                     // [B,D,h,w]                      (uses of %4 take %0)
 *   %3 = reshape %2                     // [B,D,N]
 *   %4 = transpose %3 {perm=0,2,1}      // [B,N,D]
 *
 * What a chain does is read from its strided view (view.h), so it cancels however it was spelled, also transposes that
 * only move dimensions of size 1. Rewritten only where it costs less: a transpose moves data, a reshape does not. Interior
 * values that others use stay; the new chain starts at the root, so it never waits for them. */
#include "passes/match.h"
#include "passes/view.h"

enum { TRANSPOSE_COST = 8 };

/* reshape root to its atoms in memory order, permute them, reshape to `to`. */
typedef struct plan {
  tt_type atoms; /* root's shape before the transpose */
  int64_t perm[TT_VIEW_ATOMS];
  bool before, moves, after; /* which of the three nodes are needed */
} plan;

static int plan_cost(const plan *p) { return p->before + p->after + (p->moves ? TRANSPOSE_COST : 0); }

/* perm[i]: place in memory order of the i-th atom of the view. Only moves: strides are distinct and cover the root. */
static void order_atoms(const tt_atom *atom, int n, plan *p) {
  for (int i = 0; i < n; i++) {
    int place = 0;
    for (int k = 0; k < n; k++) place += atom[k].stride > atom[i].stride;
    p->perm[i] = place;
    p->atoms.dim[place] = atom[i].size;
  }
}

static bool make_plan(const tt_graph *g, const tt_view *w, const tt_type *to, plan *p) {
  const tt_type *root = tt_typ(g, w->root);
  tt_atom atom[TT_VIEW_ATOMS];
  const int n = tt_view_atoms(w, 0, w->rank, atom);
  *p = (plan){0};
  if (n <= 1) { /* one run of memory */
    p->after = !tt_type_equal(root, to);
    return true;
  }
  if (n > TT_MAX_RANK) return false;
  p->atoms = (tt_type){.dtype = root->dtype, .rank = (uint8_t)n};
  order_atoms(atom, n, p);
  tt_type moved = p->atoms;
  for (int i = 0; i < n; i++) moved.dim[i] = atom[i].size;
  p->moves = true;
  p->before = !tt_type_equal(root, &p->atoms);
  p->after = !tt_type_equal(&moved, to);
  return true;
}

static tt_value build_plan(tt_builder *b, const plan *p, tt_value root, const tt_type *to) {
  tt_value v = p->before ? tt_match_reshape(b, root, &p->atoms) : root;
  if (p->moves && v != TT_NONE) {
    const tt_attr perm = tt_attr_ints(b->g, TT_A_PERM, p->atoms.rank, p->perm);
    v = tt_build1(b, TT_OP_TRANSPOSE, v, 1, &perm);
  }
  return tt_match_reshape(b, v, to);
}

static bool shorten(tt_match *m, tt_node n) {
  const tt_node_data *d = tt_nod(m->g, n);
  if (d->op != TT_OP_RESHAPE && d->op != TT_OP_TRANSPOSE) return false;
  const tt_view w = tt_view_trace(m->g, d->out[0], TT_VIEW_MOVES);
  const tt_type to = *tt_typ(m->g, d->out[0]);
  plan p;
  if (!make_plan(m->g, &w, &to, &p)) return false;
  if (plan_cost(&p) >= w.reshapes + TRANSPOSE_COST * w.transposes) return false;
  tt_builder b = tt_match_builder(m, n);
  return tt_match_replace(m, n, build_plan(&b, &p, w.root, &to));
}

tt_pass_result tt_opt_views(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_COUNT, shorten); }
