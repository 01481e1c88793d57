/* Computes only what a slice takes: a slice moves up through ops that work position by position.
 *
 *   before:  %2 = layernorm(%1, $w, $b)   // [B,N,D]        after:  %4 = slice(%1)               // [B,1,D]
 *            %3 = slice(%2)               // [B,1,D]                %3 = layernorm(%4, $w, $b)
 *
 * A Vision Transformer classifies by one token. Behind its last attention all others are computed for nothing, with their
 * gradients, which are zeros: most of a block. Through elementwise ops a slice moves along any dimension, through ops that
 * work row by row along all but the last. Where a value has two equal slices they become one, so that the slice also passes
 * the fork of a residual branch; a value that is also used whole stays. In attention, where tokens mix, the first tokens
 * become the only ones that ask (its attribute `queries`); keys and values stay whole.
 *
 * Each row that is kept is the same sum: 4-bit products leave the same bits in the forward. Attention may add in another
 * order, by the number of queries. Gradients of weights put other tokens into a block, those that count (NUMERICS 4: blocks
 * lie along the tokens), and float32 sums over rows are cut by how many there are, so these end with other last digits. */
#include "passes/match.h"

typedef struct cut {
  int rank;
  const int64_t *start, *end, *step;
} cut;

static cut cut_of(const tt_graph *g, tt_node n) {
  const tt_attr *start = tt_node_attr(g, n, TT_A_STARTS);
  return (cut){.rank = start->as.ints.n,
               .start = start->as.ints.v,
               .end = tt_node_attr(g, n, TT_A_ENDS)->as.ints.v,
               .step = tt_node_attr(g, n, TT_A_STEPS)->as.ints.v};
}

static bool equal_cuts(const cut *a, const cut *b) {
  for (int i = 0; i < a->rank; i++)
    if (a->start[i] != b->start[i] || a->end[i] != b->end[i] || a->step[i] != b->step[i]) return false;
  return a->rank == b->rank;
}

/* An earlier slice that takes the same of the same value, or TT_NONE. */
static tt_value twin(const tt_graph *g, tt_node n) {
  const tt_value x = tt_nod(g, n)->in[0];
  const cut own = cut_of(g, n);
  const tt_node def = tt_val(g, x)->def;
  for (tt_node e = tt_nod(g, n)->prev; e != TT_NONE && e != def; e = tt_nod(g, e)->prev) {
    if (tt_nod(g, e)->op != TT_OP_SLICE || tt_nod(g, e)->in[0] != x) continue;
    const cut other = cut_of(g, e);
    if (equal_cuts(&own, &other)) return tt_nod(g, e)->out[0];
  }
  return TT_NONE;
}

/* The slice of an operand that the slice `k` of a result needs: dimensions are aligned at the last, what is broadcast stays
 * whole, and so does the last dimension where `leading`. */
static tt_value slice_operand(tt_builder *b, const cut *k, tt_value x, bool leading) {
  const tt_type t = *tt_typ(b->g, x);
  int64_t start[TT_MAX_RANK], end[TT_MAX_RANK], step[TT_MAX_RANK];
  bool whole = true;
  for (int i = 0; i < t.rank; i++) {
    const int from = i + k->rank - t.rank;
    const bool all = t.dim[i] == 1 || (leading && i == t.rank - 1);
    start[i] = all ? 0 : k->start[from], end[i] = all ? t.dim[i] : k->end[from], step[i] = all ? 1 : k->step[from];
    whole &= start[i] == 0 && end[i] == t.dim[i] && step[i] == 1;
  }
  if (whole) return x;
  const tt_attr attrs[] = {tt_attr_ints(b->g, TT_A_STARTS, t.rank, start), tt_attr_ints(b->g, TT_A_ENDS, t.rank, end),
                           tt_attr_ints(b->g, TT_A_STEPS, t.rank, step)};
  return tt_build1(b, TT_OP_SLICE, x, 3, attrs);
}

static bool by_rows(const tt_node_data *d) { return (tt_ops[d->op].flags & TT_ROWS) != 0; }

static bool movable(const tt_match *m, tt_node def, const cut *k) {
  const tt_node_data *d = tt_nod(m->g, def);
  for (int i = 0; i < k->rank; i++)
    if (k->start[i] >= k->end[i]) return false; /* of nothing, broadcasting would make something */
  if (tt_ops[d->op].flags & TT_EW) return true;
  if (!by_rows(d)) return false;
  for (int i = 1; i < d->n_out; i++)
    if (m->uses[d->out[i]] > 0) return false; /* statistics of every position */
  const int last = k->rank - 1;
  return k->start[last] == 0 && k->end[last] == tt_typ(m->g, d->out[0])->dim[last] && k->step[last] == 1;
}

/* How many tokens ask of an attention (o [B,Q,D], and nobody reads the lse) if its slice takes just the first ones; else 0. */
static int64_t first_tokens(const tt_match *m, tt_node def, const cut *k) {
  const tt_node_data *d = tt_nod(m->g, def);
  if (d->op != TT_OP_ATTENTION || m->uses[d->out[1]] > 0) return 0;
  const tt_type *o = tt_typ(m->g, d->out[0]);
  for (int i = 0; i < 3; i++)
    if (k->start[i] != 0 || k->step[i] != 1 || (i != 1 && k->end[i] != o->dim[i])) return 0;
  return k->end[1] < o->dim[1] ? k->end[1] : 0;
}

static bool fewer_queries(tt_match *m, tt_node n, tt_node def, int64_t queries) {
  const tt_node_data d = *tt_nod(m->g, def);
  const tt_attr attrs[] = {tt_attr_int(TT_A_HEADS, tt_node_int(m->g, def, TT_A_HEADS)),
                           tt_attr_float(TT_A_SCALE, tt_node_float(m->g, def, TT_A_SCALE)), tt_attr_int(TT_A_QUERIES, queries)};
  tt_builder b = tt_match_builder(m, n);
  b.loc = d.loc;
  const tt_node made = tt_build(&b, d.op, d.n_in, d.in, 3, attrs);
  return made != TT_NONE && tt_match_replace(m, n, tt_nod(m->g, made)->out[0]);
}

static bool move_up(tt_match *m, tt_node n) {
  tt_graph *g = m->g;
  const tt_value x = tt_nod(g, n)->in[0], same = twin(g, n);
  if (same != TT_NONE) return tt_match_replace(m, n, same);
  const tt_node def = tt_val(g, x)->kind == TT_VALUE_NODE ? tt_val(g, x)->def : TT_NONE;
  if (def == TT_NONE || !tt_match_sole(m, x)) return false;
  const cut k = cut_of(g, n);
  const int64_t queries = first_tokens(m, def, &k);
  if (queries > 0) return fewer_queries(m, n, def, queries);
  if (!movable(m, def, &k)) return false;
  const tt_node_data d = *tt_nod(g, def);
  tt_builder b = tt_match_builder(m, n);
  b.loc = d.loc;
  tt_value in[8];
  TT_ASSERT(d.n_in <= 8);
  for (int i = 0; i < d.n_in; i++) {
    const bool taken = i == 0 || !by_rows(&d);
    in[i] = taken ? slice_operand(&b, &k, d.in[i], by_rows(&d)) : d.in[i];
    if (in[i] == TT_NONE) return false;
  }
  const tt_node made = tt_build(&b, d.op, d.n_in, in, d.n_attrs, d.attrs);
  return made != TT_NONE && tt_match_replace(m, n, tt_nod(g, made)->out[0]);
}

tt_pass_result tt_opt_slices(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_SLICE, move_up); }
