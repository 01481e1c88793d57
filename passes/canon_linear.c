/* Every spelling of a linear layer becomes `linear`, with the weight stored [C,D] (out, in) as MX blocks along D want it.
 *
 *   %1 = matmul %x, @w              // [..,D] . [D,C]
 *   %2 = add %1, @b                 // b [C], either side           %2 = linear %x, @w, @b      // @w now [C,D]
 *
 * Three rewrites, to a fixed point:
 *   weight   matmul with a 2-D parameter, or its transpose, as second operand. Where every use of a [D,C] parameter is such
 *            a matmul the parameter itself is transposed (type, initial value, origin_transposed); else the graph
 * transposes. bias     add of a [C] vector to a linear that nothing else uses and that has no bias yet. flatten  reshape
 * [..,D] -> [rows,D], linear, reshape back: the linear takes the unflattened operand.
 *
 * Requires: opt_algebra and opt_views (one transpose at most, trans_b where it could be). Breaks nothing.
 * A matmul of two activations, or of a constant, stays. */
#include <string.h>
#include "passes/match.h"

/* What stands as second operand of a matmul: a parameter, seen as itself or through one 2-D transpose. */
typedef struct weight {
  tt_value var;
  bool transposed; /* the matmul multiplies by the transpose of var, so var is [C,D] already */
} weight;

static bool find_weight(const tt_graph *g, tt_node matmul, weight *w) {
  tt_value v = tt_nod(g, matmul)->in[1];
  bool transposed = tt_node_int(g, matmul, TT_A_TRANS_B) == 1;
  const tt_value under = tt_match_unary(g, v, TT_OP_TRANSPOSE);
  if (under != TT_NONE && tt_typ(g, under)->rank == 2) {
    const int64_t *perm = tt_node_attr(g, tt_val(g, v)->def, TT_A_PERM)->as.ints.v;
    transposed ^= perm[0] == 1;
    v = under;
  }
  const tt_value_data *d = tt_val(g, v);
  if (d->kind != TT_VALUE_VAR || d->type.rank != 2 || d->type.dtype != TT_F32) return false;
  if (g->module->vars.data[d->index].role != TT_VAR_PARAM) return false;
  *w = (weight){v, transposed};
  return true;
}

/* Whether all that happens to var is being such a [D,C] weight, directly, in matmuls of this graph. */
static bool transposable(const tt_match *m, tt_value var) {
  const tt_graph *g = m->g;
  uint32_t seen = 0;
  if (!tt_match_owned_var(m, var)) return false;
  TT_FOR_NODES(g, n) {
    weight w;
    if (tt_nod(g, n)->op != TT_OP_MATMUL || !tt_match_used(m, n) || !find_weight(g, n, &w) || w.var != var) continue;
    if (w.transposed || tt_nod(g, n)->in[1] != var) return false;
    seen++;
  }
  return seen == m->uses[var];
}

enum { TILE = 16 }; /* floats of a cache line */

/* to[j0..][i0..] = from[i0..][j0..]^T, h rows and w columns of from. */
static void transpose_tile(const float *from, float *to, int64_t rows, int64_t cols, int64_t h, int64_t w) {
  float tile[TILE][TILE];
  for (int64_t i = 0; i < h; i++)
    for (int64_t j = 0; j < w; j++) tile[j][i] = from[i * cols + j];
  for (int64_t j = 0; j < w; j++) memcpy(to + j * rows, tile[j], sizeof(float) * (size_t)h);
}

/* By tiles, each line read and written once: large models move hundreds of megabytes here, in strides that share a cache
 * set. */
static void transpose_floats(const float *from, float *to, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; i += TILE)
    for (int64_t j = 0; j < cols; j += TILE)
      transpose_tile(from + i * cols + j, to + j * rows + i, rows, cols, rows - i < TILE ? rows - i : TILE,
                     cols - j < TILE ? cols - j : TILE);
}

/* [D,C] -> [C,D] in place. The matmuls that use it keep their meaning by trans_b. */
static void transpose_var(tt_match *m, tt_value var) {
  tt_graph *g = m->g;
  const tt_type from = *tt_typ(g, var);
  const int64_t rows = from.dim[0], cols = from.dim[1];
  tt_var *info = &g->module->vars.data[tt_val(g, var)->index];
  if (info->init) {
    float *init = tt_arena_alloc(g->arena, tt_type_bytes(&from));
    transpose_floats(info->init, init, rows, cols);
    info->init = init;
  }
  info->origin_transposed = !info->origin_transposed;
  tt_match_retype_var(g, var, tt_type_make(TT_F32, 2, (int64_t[]){cols, rows}));
  TT_FOR_NODES(g, n) {
    if (tt_nod(g, n)->op == TT_OP_MATMUL && tt_nod(g, n)->in[1] == var)
      tt_node_set_attr(g, n, tt_attr_int(TT_A_TRANS_B, 1));
  }
}

static tt_value swap_2d(tt_builder *b, tt_value v, int rank) {
  int64_t perm[TT_MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i;
  perm[rank - 2] = rank - 1;
  perm[rank - 1] = rank - 2;
  const tt_attr attr = tt_attr_ints(b->g, TT_A_PERM, rank, perm);
  return tt_build1(b, TT_OP_TRANSPOSE, v, 1, &attr);
}

static bool match_weight(tt_match *m, tt_node n) {
  weight w;
  if (!find_weight(m->g, n, &w) || tt_typ(m->g, tt_nod(m->g, n)->in[0])->dtype != TT_F32) return false;
  if (!w.transposed && transposable(m, w.var)) {
    transpose_var(m, w.var);
    w.transposed = true;
  }
  tt_builder b = tt_match_builder(m, n);
  tt_value x = tt_nod(m->g, n)->in[0], w_value = w.var;
  if (tt_node_int(m->g, n, TT_A_TRANS_A) == 1) x = swap_2d(&b, x, tt_typ(m->g, x)->rank);
  if (!w.transposed) w_value = swap_2d(&b, w_value, 2);
  return tt_match_replace(m, n, tt_build2(&b, TT_OP_LINEAR, x, w_value, 0, NULL));
}

static bool match_bias(tt_match *m, tt_node n) {
  tt_graph *g = m->g;
  const tt_value out = tt_nod(g, n)->out[0];
  for (int side = 0; side < 2; side++) {
    const tt_value y = tt_nod(g, n)->in[side], bias = tt_nod(g, n)->in[1 - side];
    const tt_node linear = tt_def_op(g, y, TT_OP_LINEAR);
    if (linear == TT_NONE || tt_nod(g, linear)->n_in != 2 || !tt_match_sole(m, y)) continue;
    if (tt_typ(g, bias)->rank != 1 || tt_type_last(tt_typ(g, bias)) != tt_type_last(tt_typ(g, y))) continue;
    if (!tt_match_same_type(g, y, out)) continue;
    const tt_value *in = tt_nod(g, linear)->in;
    tt_builder b = tt_match_builder(m, n);
    b.loc = tt_nod(g, linear)->loc;
    return tt_match_replace(m, n, tt_build3(&b, TT_OP_LINEAR, in[0], in[1], bias, 0, NULL));
  }
  return false;
}

/* n is the reshape behind the linear. */
static bool match_flatten(tt_match *m, tt_node n) {
  tt_graph *g = m->g;
  const tt_type to = *tt_typ(g, tt_nod(g, n)->out[0]);
  const tt_value y = tt_nod(g, n)->in[0];
  const tt_node linear = tt_def_op(g, y, TT_OP_LINEAR);
  if (linear == TT_NONE || !tt_match_sole(m, y)) return false;
  const tt_node_data *d = tt_nod(g, linear);
  const tt_value x = tt_match_unary(g, d->in[0], TT_OP_RESHAPE);
  if (x == TT_NONE || tt_typ(g, d->in[0])->rank != 2 || tt_typ(g, x)->rank != to.rank || to.rank < 3) return false;
  if (tt_type_last(tt_typ(g, x)) != tt_type_last(tt_typ(g, d->in[0]))) return false;
  if (memcmp(tt_typ(g, x)->dim, to.dim, sizeof *to.dim * (size_t)(to.rank - 1)) != 0) return false;
  tt_builder b = tt_match_builder(m, n);
  b.loc = d->loc;
  const tt_value bias = d->n_in == 3 ? d->in[2] : TT_NONE;
  const tt_value w = d->in[1];
  const tt_value wide =
      bias == TT_NONE ? tt_build2(&b, TT_OP_LINEAR, x, w, 0, NULL) : tt_build3(&b, TT_OP_LINEAR, x, w, bias, 0, NULL);
  return tt_match_replace(m, n, wide);
}

static bool match_node(tt_match *m, tt_node n) {
  switch (tt_nod(m->g, n)->op) {
  case TT_OP_MATMUL: return match_weight(m, n);
  case TT_OP_ADD: return match_bias(m, n);
  case TT_OP_RESHAPE: return match_flatten(m, n);
  default: return false;
  }
}

tt_pass_result tt_canon_linear(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_COUNT, match_node); }
