/* Turns mx.gemm with a float32 operand into a float32 product of what the operands stand for:
 *
 *   before:  y = mx.gemm(a mx, b f32, bias?)            some quantizer of the recipe is off
 *   after:   y = linear(mx.dequantize(a), b, bias?)     or a matmul, where a factor is a transposed f32 matrix
 *
 * A transpose in front of a factor is folded into the matmul. Runs after autodiff, whose rule for mx.gemm must still see
 * the quantizers; what it leaves unused is swept here. */
#include "passes/pass.h"

/* The f32 matrix of a factor; *trans where it must be read transposed to be [rows,K]. */
static tt_value factor(tt_builder *b, tt_value x, bool *trans) {
  tt_graph *g = b->g;
  *trans = false;
  if (tt_typ(g, x)->dtype == TT_MX) return tt_build1(b, TT_OP_MX_DEQUANTIZE, x, 0, NULL);
  tt_node n = tt_def_op(g, x, TT_OP_TRANSPOSE);
  if (n == TT_NONE || tt_typ(g, x)->rank != 2) return x;
  const tt_attr *perm = tt_node_attr(g, n, TT_A_PERM);
  *trans = perm->as.ints.v[0] == 1;
  return *trans ? tt_nod(g, n)->in[0] : x;
}

static bool lower_gemm(tt_builder *b, tt_node n) {
  tt_graph *g = b->g;
  const tt_node_data d = *tt_nod(g, n);
  b->at = n;
  b->loc = d.loc;
  bool ta, tb;
  tt_value in[3] = {factor(b, d.in[0], &ta), factor(b, d.in[1], &tb)};
  tt_value y;
  if (!ta && !tb) {
    if (d.n_in == 3) in[2] = d.in[2];
    tt_node linear = tt_build(b, TT_OP_LINEAR, d.n_in, in, 0, NULL);
    y = linear == TT_NONE ? TT_NONE : tt_nod(g, linear)->out[0];
  } else {
    tt_attr attrs[] = {tt_attr_int(TT_A_TRANS_A, ta), tt_attr_int(TT_A_TRANS_B, !tb)};
    y = tt_build2(b, TT_OP_MATMUL, in[0], in[1], 2, attrs); // [M,N]
    if (d.n_in == 3) y = tt_build2(b, TT_OP_ADD, y, d.in[2], 0, NULL);
  }
  TT_TRY(y != TT_NONE);
  tt_graph_replace(g, d.out[0], y);
  tt_node_remove(g, n);
  return true;
}

tt_pass_result tt_lower_mx_mixed(tt_graph *g, tt_pass_ctx *ctx) {
  tt_builder b = {.g = g, .diag = ctx->diag};
  bool changed = false;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op != TT_OP_MX_GEMM) continue;
    if (tt_typ(g, d->in[0])->dtype == TT_MX && tt_typ(g, d->in[1])->dtype == TT_MX) continue;
    if (!lower_gemm(&b, n)) return TT_PASS_FAILED;
    changed = true;
  }
  if (changed) tt_graph_sweep(g);
  return changed ? TT_PASS_CHANGED : TT_PASS_UNCHANGED;
}
