/* matmul and linear: float32 products cut into tasks over batch, rows and columns; each task is one cg_gemm_f32 over the
 * whole reduction axis, so that no sum depends on how many threads there are. */
#include "compiler/codegen/gemm.h"

/* One product as the emitter sees it: out[b] = op(A[b]) op(B[b]) for b in the broadcast leading dimensions. */
typedef struct product {
  cg_gemm gemm; /* strides and, per task, M, N and pointers */
  int64_t M, N, K, batch;
  const tt_type *a, *b, *out; /* for the leading dimensions; NULL where there are none */
} product;

/* Offset in elements of an operand's matrix for index `at` into out's leading dimensions; broadcast ones have stride 0. */
static cg_val batch_offset(cg_ctx *c, const tt_type *t, const tt_type *out, cg_val at) {
  cg_val offset = cg_i64(c, 0);
  int64_t stride = t->dim[t->rank - 1] * t->dim[t->rank - 2];
  for (int i = out->rank - 3, j = t->rank - 3; i >= 0; i--, j--) {
    cg_val index = cg_rem(c, at, cg_i64(c, out->dim[i]));
    at = cg_div(c, at, cg_i64(c, out->dim[i]));
    if (j < 0) continue;
    if (t->dim[j] > 1) offset = cg_add(c, offset, cg_mul(c, index, cg_i64(c, stride)));
    stride *= t->dim[j];
  }
  return offset;
}

static cg_tiling tiling_of(const product *p) {
  if (p->batch >= 16) return (cg_tiling){.rows = p->M, .cols = p->N, .n_rows = 1, .n_cols = 1};
  return cg_tile_product(p->M, p->N, p->K, p->gemm.a_cs == 1 ? 48 : 96, p->gemm.a_cs == 1 ? 64 : 96);
}

/* Small products of a batch share tasks, each worth some 20 us. */
static int64_t batch_grain(const product *p, cg_tiling t) {
  if (t.n_rows * t.n_cols > 1) return 1;
  return cg_grain(p->batch, p->M * p->N * p->K / 128 + 1, 1);
}

/* Tile (row, col) of batch item `at`. */
static void emit_tile(cg_kernel *k, const product *p, cg_tiling t, cg_val at, cg_val row, cg_val col) {
  cg_ctx *c = k->c;
  cg_gemm g = p->gemm;
  cg_val i = cg_mul(c, row, cg_i64(c, t.rows)), j = cg_mul(c, col, cg_i64(c, t.cols));
  g.M = t.rows;
  g.N = t.cols;
  g.K = p->K;
  if (p->M % t.rows) g.m_count = cg_min(c, cg_i64(c, t.rows), cg_sub(c, cg_i64(c, p->M), i));
  if (p->N % t.cols) g.n_count = cg_min(c, cg_i64(c, t.cols), cg_sub(c, cg_i64(c, p->N), j));
  cg_val a = cg_in(k, 0), b = cg_in(k, 1), out = cg_out(k, 0);
  if (p->batch > 1) {
    a = cg_gep(c, c->f32, a, batch_offset(c, p->a, p->out, at));
    b = cg_gep(c, c->f32, b, batch_offset(c, p->b, p->out, at));
    out = cg_gep(c, c->f32, out, cg_mul(c, at, cg_i64(c, p->M * p->N)));
  }
  g.a = cg_gep(c, c->f32, a, cg_mul(c, i, cg_i64(c, g.a_rs)));
  g.b = cg_gep(c, c->f32, b, cg_mul(c, j, cg_i64(c, g.b_cs)));
  g.out = cg_gep(c, c->f32, out, cg_add(c, cg_mul(c, i, cg_i64(c, g.c_rs)), j));
  if (k->x->d->n_in > 2) g.bias = cg_gep(c, c->f32, cg_in(k, 2), j);
  cg_gemm_f32(k, &g, 0);
}

static bool emit_product(cg_node *x, const product *p) {
  cg_tiling t = tiling_of(p);
  int64_t tiles = t.n_rows * t.n_cols, grain = batch_grain(p, t);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val tile = cg_rem(c, k->task, cg_i64(c, tiles)), first = cg_div(c, k->task, cg_i64(c, tiles));
    cg_val row = cg_div(c, tile, cg_i64(c, t.n_cols)), col = cg_rem(c, tile, cg_i64(c, t.n_cols));
    cg_loop l;
    cg_val begin = cg_mul(c, first, cg_i64(c, grain));
    cg_val end = cg_min(c, cg_add(c, begin, cg_i64(c, grain)), cg_i64(c, p->batch));
    cg_loop_begin(c, &l, begin, end, 1, 0, NULL);
    emit_tile(k, p, t, l.i, row, col);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (p->batch + grain - 1) / grain * tiles);
  return true;
}

/* (x [..,D], w [C,D], b [C]?) -> [..,C] */
bool cg_emit_linear(cg_node *x) {
  const tt_type *w = cg_in_type(x, 1);
  int64_t D = w->dim[1], C = w->dim[0];
  product p = {.M = tt_type_rows(cg_in_type(x, 0)),
               .N = C,
               .K = D,
               .batch = 1,
               .gemm = {.a_rs = D, .a_cs = 1, .b_rs = 1, .b_cs = D, .c_rs = C, .alpha = 1}};
  return emit_product(x, &p);
}

/* (a [..,M,K], b [..,K,N]), the last two dimensions of either transposed on request. Where b has no batch and a is not
 * transposed, a's batch is more rows. */
bool cg_emit_matmul(cg_node *x) {
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1), *out = cg_out_type(x, 0);
  bool ta = tt_node_int(x->g, x->n, TT_A_TRANS_A) != 0, tb = tt_node_int(x->g, x->n, TT_A_TRANS_B) != 0;
  int64_t a_rows = a->dim[a->rank - 2], a_cols = tt_type_last(a), b_rows = b->dim[b->rank - 2], b_cols = tt_type_last(b);
  product p = {.M = ta ? a_cols : a_rows, .K = ta ? a_rows : a_cols, .N = tb ? b_rows : b_cols, .a = a, .b = b, .out = out};
  p.gemm = (cg_gemm){.a_rs = ta ? 1 : a_cols,
                     .a_cs = ta ? a_cols : 1,
                     .b_rs = tb ? 1 : b_cols,
                     .b_cs = tb ? b_cols : 1,
                     .c_rs = p.N,
                     .alpha = 1};
  p.batch = tt_type_count(out) / (p.M * p.N);
  if (tt_type_count(b) == b_rows * b_cols && !ta && tt_type_count(a) == p.batch * p.M * p.K) {
    p.M *= p.batch;
    p.batch = 1;
  }
  return emit_product(x, &p);
}
