/* Gradient rules of the MX ops: the backward half of the TetraJet linear layer (NUMERICS 4; arXiv 2502.20853).
 *
 *   y [M,N] = mx.gemm(a mx[M,K], b mx[N,K], bias [N]) {q3..q6}
 *   da [M,K] = mx.gemm(quantize(dy){q3},   b^T){q4}     reduces over N
 *   db [N,K] = mx.gemm(quantize(dy^T){q5}, a^T){q6}     reduces over M
 *   dbias    = column sums of quantize(dy){q3}
 * b^T and a^T are requantized from what the forward kept (`double`) or quantized from the latent tensor (`direct`). A
 * quantizer that is off leaves its operand f32; lower_mx_mixed makes such products float32. */
#include "passes/grad.h"

tt_value tt_build_mx_quantize(tt_builder *b, tt_op op, tt_value x, tt_qspec q, bool transpose) {
  if (x == TT_NONE) return TT_NONE;
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q)};
  int n_attrs = 1, n_in = 1;
  tt_value in[2] = {x};
  if (transpose) attrs[n_attrs++] = tt_attr_int(TT_A_TRANSPOSED, 1);
  if (q.rounding == TT_STOCHASTIC) {
    in[n_in++] = tt_graph_rng(b->g);
    attrs[n_attrs++] = tt_attr_int(TT_A_TENSOR, b->g->next_tensor++);
  }
  tt_node n = tt_build(b, op, n_in, in, n_attrs, attrs);
  return n == TT_NONE ? TT_NONE : tt_nod(b->g, n)->out[0];
}

tt_value tt_quantized_weight(const tt_graph *g, uint32_t var) {
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op != TT_OP_MX_QUANTIZE || tt_node_int(g, n, TT_A_TRANSPOSED)) continue;
    const tt_value_data *x = tt_val(g, d->in[0]);
    if (x->kind == TT_VALUE_VAR && x->index == var) return d->out[0];
  }
  return TT_NONE;
}

tt_value tt_build_values(tt_builder *b, tt_value mx, const tt_type *type) {
  tt_value q = tt_build1(b, TT_OP_MX_DEQUANTIZE, mx, 0, NULL);
  tt_attr shape = tt_attr_ints(b->g, TT_A_SHAPE, type->rank, type->dim);
  return type->rank == 2 ? q : tt_build1(b, TT_OP_RESHAPE, q, 1, &shape);
}

tt_value tt_build_quantized_values(tt_builder *b, uint32_t var) {
  const tt_type type = b->g->module->vars.data[var].type;
  return tt_build_values(b, tt_quantized_weight(b->g, var), &type);
}

uint32_t tt_state_var(tt_module *m, const char *prefix, uint32_t param, uint32_t copy_of) {
  const char *name = tt_arena_printf(m->arena, "%s%s", prefix, m->vars.data[param].name);
  uint32_t var = tt_module_find_var(m, name);
  if (var != TT_NONE) return var;
  return tt_module_add_var(
      m, (tt_var){.name = name, .type = m->vars.data[param].type, .role = TT_VAR_STATE, .copy_of = copy_of});
}

static tt_value transpose_matrix(tt_grad_ctx *c, tt_value x) {
  tt_attr perm = tt_attr_ints(c->g, TT_A_PERM, 2, (int64_t[]){1, 0});
  return tt_build1(c->b, TT_OP_TRANSPOSE, x, 1, &perm);
}

/* The f32 tensor an operand was quantized from; the operand itself where it is f32 already. */
static tt_value latent(tt_grad_ctx *c, tt_value x) {
  tt_node quantize = tt_def_op(c->g, x, TT_OP_MX_QUANTIZE);
  return quantize == TT_NONE ? x : tt_nod(c->g, quantize)->in[0];
}

/* A forward operand x [R,K] as the backward's second factor [K,R], blocks along R. */
static tt_value transposed_operand(tt_grad_ctx *c, tt_value x, tt_qspec q) {
  bool is_mx = tt_typ(c->g, x)->dtype == TT_MX;
  bool from_quantized = is_mx && q.source == TT_DOUBLE;
  if (q.on && from_quantized) return tt_back_shared_quantize(c, TT_OP_MX_REQUANTIZE, x, q, false);
  if (q.on) return tt_back_shared_quantize(c, TT_OP_MX_QUANTIZE, latent(c, x), q, true);
  if (from_quantized) return transpose_matrix(c, tt_build1(c->b, TT_OP_MX_DEQUANTIZE, x, 0, NULL));
  return transpose_matrix(c, tt_back_matrix(c, latent(c, x)));
}

/* dy or dy^T as the backward's first factor. */
static tt_value gradient_operand(tt_grad_ctx *c, tt_value dy, tt_qspec q, bool transpose) {
  if (q.on) return tt_build_mx_quantize(c->b, TT_OP_MX_QUANTIZE, dy, q, transpose);
  return transpose ? transpose_matrix(c, dy) : dy;
}

bool tt_grad_mx_gemm(tt_grad_ctx *c) {
  const tt_qspec q3 = tt_node_qspec(c->g, c->node, TT_A_Q3), q4 = tt_node_qspec(c->g, c->node, TT_A_Q4),
                 q5 = tt_node_qspec(c->g, c->node, TT_A_Q5), q6 = tt_node_qspec(c->g, c->node, TT_A_Q6);
  tt_value dy = c->dy[0]; // [M,N]
  bool wants_bias = tt_back_wants(c, 2);
  tt_value dy_rows = TT_NONE; // [M,N] along N
  if (tt_back_wants(c, 0) || wants_bias) dy_rows = gradient_operand(c, dy, q3, false);
  if (tt_back_wants(c, 0)) {
    tt_value bt = transposed_operand(c, c->in[1], q4); // [K,N]
    TT_TRY(tt_back_add(c, 0, tt_build2(c->b, TT_OP_MX_GEMM, dy_rows, bt, 0, NULL)));
  }
  if (tt_back_wants(c, 1)) {
    tt_value dyt = gradient_operand(c, dy, q5, true);  // [N,M]
    tt_value at = transposed_operand(c, c->in[0], q6); // [K,M]
    TT_TRY(tt_back_add(c, 1, tt_build2(c->b, TT_OP_MX_GEMM, dyt, at, 0, NULL)));
  }
  if (!wants_bias) return true;
  if (q3.on) return tt_back_add(c, 2, tt_build1(c->b, TT_OP_MX_COLSUM, dy_rows, 0, NULL));
  return tt_back_add_broadcast(c, 2, dy_rows);
}

/* Straight-through: the gradient of the quantized matrix is that of the tensor it was made from. */
bool tt_grad_mx_quantize(tt_grad_ctx *c) {
  tt_type type = *tt_typ(c->g, c->in[0]);
  bool transposed = tt_node_int(c->g, c->node, TT_A_TRANSPOSED) != 0;
  tt_value dx = transposed ? transpose_matrix(c, c->dy[0]) : c->dy[0];
  return tt_back_add(c, 0, tt_back_reshape(c, dx, &type));
}

bool tt_grad_mx_dequantize(tt_grad_ctx *c) { return tt_back_add(c, 0, c->dy[0]); }
