/* Rules of the `work` column: multiply-adds from shapes. */
#include "compiler/ir/work.h"
#include "compiler/ir/fused.h"

typedef tt_work work_fn(const tt_graph *g, tt_node n);

static const tt_type *in_type(const tt_graph *g, tt_node n, int i) { return tt_typ(g, tt_nod(g, n)->in[i]); }
static double out_count(const tt_graph *g, tt_node n) { return (double)tt_type_count(tt_typ(g, tt_nod(g, n)->out[0])); }

static tt_work tt_work_none(const tt_graph *g, tt_node n) {
  (void)g;
  (void)n;
  return (tt_work){0};
}

static tt_work tt_work_linear(const tt_graph *g, tt_node n) {
  return (tt_work){.f32 = out_count(g, n) * (double)tt_type_last(in_type(g, n, 0))};
}

static tt_work tt_work_matmul(const tt_graph *g, tt_node n) {
  const tt_type *a = in_type(g, n, 0);
  return (tt_work){.f32 = out_count(g, n) * (double)a->dim[tt_node_int(g, n, TT_A_TRANS_A) ? a->rank - 2 : a->rank - 1]};
}

static tt_work tt_work_conv(const tt_graph *g, tt_node n) {
  const tt_type *w = in_type(g, n, 1); /* [D, C/g, kh, kw] */
  return (tt_work){.f32 = out_count(g, n) * (double)(tt_type_count(w) / w->dim[0])};
}

/* q k^T and p v: each output element sums over N keys twice. */
static tt_work tt_work_attention(const tt_graph *g, tt_node n) {
  return (tt_work){.f32 = 2 * out_count(g, n) * (double)in_type(g, n, 0)->dim[1]};
}

/* The scores again, and the gradients of p, q, k and v: five products of the size of one of the forward's. */
static tt_work tt_work_attention_grad(const tt_graph *g, tt_node n) {
  const tt_type *d_o = in_type(g, n, 0); /* [B, Q, H*d] */
  return (tt_work){.f32 = 5 * (double)tt_type_count(d_o) * (double)in_type(g, n, 2)->dim[1]};
}

/* Float32 as long as an operand is: lower_mx_mixed will make it a matmul. */
static tt_work tt_work_mx_gemm(const tt_graph *g, tt_node n) {
  double count = out_count(g, n) * (double)tt_type_last(in_type(g, n, 0));
  bool mx = in_type(g, n, 0)->dtype == TT_MX && in_type(g, n, 1)->dtype == TT_MX;
  return mx ? (tt_work){.mx = count} : (tt_work){.f32 = count};
}

/* Of the product in front, if there is one. */
static tt_work tt_work_mx_fused(const tt_graph *g, tt_node n) {
  tt_fused f = tt_fused_of(g, n);
  if (!f.lead) return (tt_work){0};
  const tt_type product = tt_fused_type(g, &f, tt_nod(g, n)->in);
  double count = (double)tt_type_count(&product) * (double)tt_type_last(in_type(g, n, 0));
  return f.mx ? (tt_work){.mx = count} : (tt_work){.f32 = count};
}

static work_fn *const rules[TT_OP_COUNT] = {
#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) [TT_OP_##id] = tt_work_##work,
#include "compiler/ir/ops.def"
#undef TT_OP
};

tt_work tt_node_work(const tt_graph *g, tt_node n) { return rules[tt_nod(g, n)->op](g, n); }
