/* Gradient rules of matrix products and of the transformer pieces that have *_grad ops. */
#include "passes/grad.h"

tt_value tt_back_matmul(tt_grad_ctx *c, tt_value a, bool trans_a, tt_value b, bool trans_b) {
  tt_attr attrs[] = {tt_attr_int(TT_A_TRANS_A, trans_a), tt_attr_int(TT_A_TRANS_B, trans_b)};
  return tt_build2(c->b, TT_OP_MATMUL, a, b, 2, attrs);
}

/* C = op(A) op(B): the gradient of op(A) is dC op(B)^T, that of op(B) is op(A)^T dC; an operand that was read transposed
 * gets the transpose of its product by exchanging the factors, so no data is ever moved. Leading axes were broadcast. */
bool tt_grad_matmul(tt_grad_ctx *c) {
  bool ta = tt_node_int(c->g, c->node, TT_A_TRANS_A) != 0, tb = tt_node_int(c->g, c->node, TT_A_TRANS_B) != 0;
  tt_value a = c->in[0], b = c->in[1], dc = c->dy[0];
  if (tt_back_wants(c, 0))
    TT_TRY(tt_back_add_broadcast(c, 0, ta ? tt_back_matmul(c, b, tb, dc, true) : tt_back_matmul(c, dc, false, b, !tb)));
  if (tt_back_wants(c, 1))
    TT_TRY(tt_back_add_broadcast(c, 1, tb ? tt_back_matmul(c, dc, true, a, ta) : tt_back_matmul(c, a, !ta, dc, false)));
  return true;
}

/* y = x w^T + b with x [..,D], w [C,D], leading axes flattened to rows: dx = dy w, dw = dy^T x, db = column sums of dy. */
bool tt_grad_linear(tt_grad_ctx *c) {
  tt_type x_type = *tt_typ(c->g, c->in[0]);
  tt_value dy = tt_back_matrix(c, c->dy[0]); // [rows,C]
  if (tt_back_wants(c, 0))
    TT_TRY(tt_back_add(c, 0, tt_back_reshape(c, tt_back_matmul(c, dy, false, c->in[1], false), &x_type)));
  if (tt_back_wants(c, 1)) TT_TRY(tt_back_add(c, 1, tt_back_matmul(c, dy, true, tt_back_matrix(c, c->in[0]), false)));
  return !tt_back_wants(c, 2) || tt_back_add_broadcast(c, 2, dy);
}

bool tt_grad_softmax(tt_grad_ctx *c) {
  return tt_back_add(c, 0, tt_build2(c->b, TT_OP_SOFTMAX_GRAD, c->dy[0], c->out[0], 0, NULL));
}

/* Hands outputs 0.. of a *_grad node to operands 0.. . */
static bool add_all(tt_grad_ctx *c, tt_node grad, int n) {
  if (grad == TT_NONE) return false;
  const tt_value *d = tt_nod(c->g, grad)->out; // arena memory: stays valid while nodes are added
  for (int i = 0; i < n; i++) TT_TRY(tt_back_add(c, i, d[i]));
  return true;
}

/* The statistics are kept for the backward and differentiated by nobody else. */
bool tt_grad_layernorm(tt_grad_ctx *c) {
  if (c->dy[0] == TT_NONE || c->dy[1] != TT_NONE || c->dy[2] != TT_NONE) return tt_grad_none(c);
  tt_value in[] = {c->dy[0], c->in[0], c->in[1], c->out[1], c->out[2]};
  tt_attr attr = tt_attr_float(TT_A_EPSILON, tt_node_float(c->g, c->node, TT_A_EPSILON));
  return add_all(c, tt_build(c->b, TT_OP_LAYERNORM_GRAD, 5, in, 1, &attr), 3);
}

bool tt_grad_attention(tt_grad_ctx *c) {
  if (c->dy[0] == TT_NONE || c->dy[1] != TT_NONE) return tt_grad_none(c);
  tt_value in[5] = {c->dy[0], c->out[1]};
  for (int i = 0; i < c->n_in; i++) in[2 + i] = c->in[i];
  const tt_node_data forward = *tt_nod(c->g, c->node);
  return add_all(c, tt_build(c->b, TT_OP_ATTENTION_GRAD, 2 + c->n_in, in, forward.n_attrs, forward.attrs), c->n_in);
}

bool tt_grad_xent(tt_grad_ctx *c) {
  tt_attr attr = tt_attr_float(TT_A_SMOOTHING, tt_node_float(c->g, c->node, TT_A_SMOOTHING));
  return tt_back_add(c, 0, tt_build3(c->b, TT_OP_XENT_GRAD, c->dy[0], c->in[0], c->in[1], 1, &attr));
}
