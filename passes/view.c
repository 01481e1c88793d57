/* Tracing of strided views: collect the chain back to a root, then apply it forwards to the root's own layout. */
#include "passes/match.h"
#include "passes/view.h"

/* A chain that grows more atoms than fit is cut there: the value becomes the root. */
static bool push(tt_view *w, tt_atom a) {
  if (a.size == 1) return true;
  if (w->n == TT_VIEW_ATOMS) return false;
  w->atom[w->n++] = a;
  return true;
}

static tt_view identity(const tt_graph *g, tt_value v) {
  const tt_type *t = tt_typ(g, v);
  tt_view w = {.root = v, .scale = 1, .rank = t->rank};
  int64_t stride = tt_type_count(t);
  for (int i = 0; i < t->rank; i++) {
    stride /= t->dim[i];
    w.first[i] = w.n;
    push(&w, (tt_atom){t->dim[i], stride});
  }
  w.first[t->rank] = w.n;
  return w;
}

int tt_view_atoms(const tt_view *w, int begin, int end, tt_atom *out) {
  int n = 0;
  for (int k = w->first[begin]; k < w->first[end]; k++) {
    const tt_atom a = w->atom[k];
    if (n > 0 && out[n - 1].stride == a.size * a.stride)
      out[n - 1] = (tt_atom){out[n - 1].size * a.size, a.stride};
    else
      out[n++] = a;
  }
  return n;
}

/* Deals the atoms out to the new dimensions, outermost first, splitting an atom where a dimension ends inside it. */
static bool apply_reshape(tt_view *w, const tt_type *to) {
  tt_atom from[TT_VIEW_ATOMS];
  const int n = tt_view_atoms(w, 0, w->rank, from);
  int k = 0;
  w->n = 0;
  w->rank = to->rank;
  w->reshapes++;
  for (int i = 0; i < to->rank; i++) {
    w->first[i] = w->n;
    for (int64_t need = to->dim[i]; need > 1;) {
      if (k == n) return false;
      const tt_atom a = from[k];
      if (need % a.size == 0) {
        if (!push(w, a)) return false;
        need /= a.size;
        k++;
        continue;
      }
      if (a.size % need != 0) return false;
      const int64_t inner = a.size / need;
      if (!push(w, (tt_atom){need, a.stride * inner})) return false;
      from[k].size = inner;
      need = 1;
    }
  }
  w->first[to->rank] = w->n;
  return k == n;
}

static bool apply_transpose(tt_view *w, const int64_t *perm) {
  const tt_view from = *w;
  w->n = 0;
  w->transposes++;
  for (int i = 0; i < w->rank; i++) {
    w->first[i] = w->n;
    for (int k = from.first[perm[i]]; k < from.first[perm[i] + 1]; k++) push(w, from.atom[k]);
  }
  w->first[w->rank] = w->n;
  return true;
}

/* A dimension that loses elements must be one atom: a part of several is no grid any more. */
static bool apply_slice(tt_view *w, const tt_graph *g, tt_node slice) {
  const tt_type *from = tt_typ(g, tt_nod(g, slice)->in[0]), *to = tt_typ(g, tt_nod(g, slice)->out[0]);
  const int64_t *starts = tt_node_attr(g, slice, TT_A_STARTS)->as.ints.v;
  const int64_t *steps = tt_node_attr(g, slice, TT_A_STEPS)->as.ints.v;
  const tt_view old = *w;
  w->n = 0;
  for (int i = 0; i < w->rank; i++) {
    const int begin = old.first[i], count = old.first[i + 1] - begin;
    const bool whole = from->dim[i] == to->dim[i];
    w->first[i] = w->n;
    if (whole) {
      for (int k = 0; k < count; k++) push(w, old.atom[begin + k]);
      continue;
    }
    if (count != 1 || starts[i] < 0) return false;
    const tt_atom a = old.atom[begin];
    w->offset += starts[i] * a.stride;
    push(w, (tt_atom){to->dim[i], a.stride * steps[i]});
  }
  w->first[w->rank] = w->n;
  return true;
}

static bool apply(tt_view *w, const tt_graph *g, tt_node n) {
  const tt_node_data *d = tt_nod(g, n);
  tt_value x;
  double factor;
  switch (d->op) {
  case TT_OP_RESHAPE: return apply_reshape(w, tt_typ(g, d->out[0]));
  case TT_OP_TRANSPOSE: return apply_transpose(w, tt_node_attr(g, n, TT_A_PERM)->as.ints.v);
  case TT_OP_SLICE: return apply_slice(w, g, n);
  default:
    TT_ASSERT(tt_match_scaled(g, d->out[0], &x, &factor));
    w->scale *= factor;
    return true;
  }
}

/* The value that v is a view of by one node, TT_NONE where that node is no view. */
static tt_value step_back(const tt_graph *g, tt_value v, unsigned through) {
  if (tt_val(g, v)->kind != TT_VALUE_NODE) return TT_NONE;
  const tt_node_data *d = tt_nod(g, tt_val(g, v)->def);
  if (d->op == TT_OP_RESHAPE || d->op == TT_OP_TRANSPOSE) return d->in[0];
  if (d->op == TT_OP_SLICE && (through & TT_VIEW_SLICES)) return d->in[0];
  tt_value x;
  double factor;
  return (through & TT_VIEW_SCALES) && tt_match_scaled(g, v, &x, &factor) ? x : TT_NONE;
}

tt_view tt_view_trace(const tt_graph *g, tt_value v, unsigned through) {
  tt_node chain[TT_VIEW_CHAIN];
  int n = 0;
  tt_value root = v;
  for (tt_value x; n < TT_VIEW_CHAIN && (x = step_back(g, root, through)) != TT_NONE; root = x)
    chain[n++] = tt_val(g, root)->def;
  if (tt_type_count(tt_typ(g, v)) == 0) return (tt_view){.root = v, .scale = 1};
  tt_view w = identity(g, root);
  while (n-- > 0)
    if (!apply(&w, g, chain[n])) w = identity(g, tt_nod(g, chain[n])->out[0]);
  return w;
}
