/* Attention, softmax(scale q k^T) v, and its gradient, one task a group of (batch, head) pairs. Heads are addressed in place in
 * [B, N, H*d]. Scores live in a tile of the thread's scratch, at most ROWS queries by N keys, and are never written to the
 * arena: the forward keeps log-sum-exp per query, from which the backward recomputes the probabilities. After Dao et al.,
 * "FlashAttention" (2022), without the tiling along the keys, which short sequences do not need.
 *
 * Backward, per head: P = exp(scale q k^T - lse); dP = do v^T; D_i = sum over keys of P dP; dS = P (dP - D);
 *                     dq = scale dS k; dk = scale dS^T q; dv = P^T do. */
#include "compiler/codegen/attention.h"
#include "compiler/codegen/rows.h"

enum { ROWS = 256 }; /* more queries than this are taken in blocks of 128 */

static int64_t block_rows(const cg_attn *a) { return a->Q <= ROWS ? a->Q : ROWS / 2; }

static cg_attn describe(const cg_node *x, int first, int n_operands) {
  const tt_type *t = cg_in_type(x, first);
  cg_attn a = {.c = x->c, .B = t->dim[0], .N = t->dim[1], .H = tt_node_int(x->g, x->n, TT_A_HEADS), .row = t->dim[2]};
  a.d = (n_operands == 1 ? a.row / 3 : a.row) / a.H;
  a.scale = tt_node_float(x->g, x->n, TT_A_SCALE);
  a.Q = tt_node_int(x->g, x->n, TT_A_QUERIES);
  if (a.Q == 0) a.Q = a.N;
  a.ld = (a.N + 15) / 16 * 16;
  if (a.ld % 256 == 0) a.ld += 16; /* rows a power of two apart would share cache sets */
  uint64_t tile = ((uint64_t)(block_rows(&a) * a.ld) * 4 + 127) / 64 * 64;
  a.tile_at[1] = tile;
  a.sums_at = 2 * tile;
  a.gemm_at = a.sums_at + ((uint64_t)block_rows(&a) * 4 + 63) / 64 * 64;
  return a;
}

/* Pointers to part `part` of operands first.. of `tokens` tokens for the head at (b, h): packed in one tensor, or a tensor
 * each. */
static cg_val head(cg_attn *a, cg_val base, int64_t tokens, int64_t row, cg_val b, cg_val h, int64_t part) {
  cg_ctx *c = a->c;
  cg_val token = cg_mul(c, b, cg_i64(c, tokens * row));
  cg_val at = cg_add(c, token, cg_add(c, cg_mul(c, h, cg_i64(c, a->d)), cg_i64(c, part * a->H * a->d)));
  return cg_gep(c, c->f32, base, at);
}

static void heads(cg_attn *a, bool outputs, int first, bool packed, cg_val b, cg_val h, cg_val *out) {
  for (int i = 0; i < 3; i++) {
    int operand = packed ? first : first + i;
    cg_val base = outputs ? cg_out(a->k, operand) : cg_in(a->k, operand);
    out[i] = head(a, base, a->N, a->row, b, h, packed ? i : 0);
  }
}

static cg_val tile(cg_attn *a, int which) {
  return cg_scratch(a->k, a->tile_at[which], (uint64_t)(block_rows(a) * a->ld) * 4 + 64);
}

static cg_val offset_rows(cg_attn *a, cg_val p, cg_val i, int64_t row) { return cg_row(a->c, p, i, row); }

/* tile[M, N] = alpha x[M, d] y[N, d]^T */
static void scores(cg_attn *a, cg_val x, int64_t x_row, cg_val y, int64_t y_row, int64_t M, double alpha, cg_val out) {
  cg_gemm g = {.M = M, .N = a->N, .K = a->d, .a = x, .b = y, .out = out, .a_rs = x_row, .a_cs = 1, .b_rs = 1, .b_cs = y_row,
               .c_rs = a->ld, .alpha = alpha};
  cg_gemm_f32(a->k, &g, a->gemm_at);
}

/* out[M, d] = alpha tile[M, N] y[N, d] */
static void mix(cg_attn *a, cg_val t, cg_val y, int64_t y_row, int64_t M, double alpha, cg_val out, int64_t out_row) {
  cg_gemm g = {.M = M, .N = a->d, .K = a->N, .a = t, .b = y, .out = out, .a_rs = a->ld, .a_cs = 1, .b_rs = y_row, .b_cs = 1,
               .c_rs = out_row, .alpha = alpha};
  cg_gemm_f32(a->k, &g, a->gemm_at);
}

/* out[N, d] (+)= alpha tile[M, N]^T y[M, d] */
static void mix_transposed(cg_attn *a, cg_val t, cg_val y, int64_t y_row, int64_t M, double alpha, cg_val out,
                           bool accumulate) {
  cg_gemm g = {.M = a->N, .N = a->d, .K = M, .a = t, .b = y, .out = out, .a_rs = 1, .a_cs = a->ld, .b_rs = y_row, .b_cs = 1,
               .c_rs = a->row, .alpha = alpha, .accumulate = accumulate};
  cg_gemm_f32(a->k, &g, a->gemm_at);
}

typedef struct arow {
  cg_ctx *c;
  cg_val s, ds;       /* rows of the tiles */
  cg_val a, b;        /* vf */
  cg_val x;           /* a row of length d */
} arow;

/* Rows of the tile become exp(s - max); lse = max + log(sum), 1 / sum to scratch. */
static void exponentiate(cg_attn *a, cg_val first, int64_t M) {
  cg_ctx *c = a->c;
  cg_val t = tile(a, 0), sums = cg_scratch(a->k, a->sums_at, (uint64_t)block_rows(a) * 4), max;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, M), 1, 0, NULL);
  cg_val row = offset_rows(a, t, l.i, a->ld), sum = cg_row_exp(c, row, row, cg_i64(c, a->N), &max);
  cg_store_f32(c, cg_add(c, max, cg_log(c, sum)), a->lse, cg_add(c, first, l.i));
  cg_store_f32(c, cg_div(c, cg_f32(c, 1), sum), sums, l.i);
  cg_loop_end(&l, NULL);
}

static void normalise(cg_attn *a, cg_val o, int64_t M) {
  cg_ctx *c = a->c;
  cg_val sums = cg_scratch(a->k, a->sums_at, (uint64_t)block_rows(a) * 4);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, M), 1, 0, NULL);
  cg_val row = offset_rows(a, o, l.i, a->H * a->d);
  cg_row_scale(c, row, cg_i64(c, a->d), cg_load_f32(c, sums, l.i));
  cg_loop_end(&l, NULL);
}

static void forward_block(cg_attn *a, cg_val first, int64_t M, bool only) {
  (void)only;
  cg_val o = offset_rows(a, a->o, first, a->H * a->d), t = tile(a, 0);
  scores(a, offset_rows(a, a->q, first, a->row), a->row, a->key, a->row, M, a->scale, t);
  exponentiate(a, first, M);
  mix(a, t, a->v, a->row, M, 1, o, a->H * a->d);
  normalise(a, o, M);
}

/* s becomes p = exp(s - lse); the terms of D, ds holding dP. */
static void probability_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  arow *r = u;
  cg_ctx *c = r->c;
  cg_val p = cg_exp(c, cg_sub(c, cg_cols(c, r->s, i, n), r->a));
  cg_store_n(c, p, cg_gep(c, c->f32, r->s, i), n);
  terms[0] = cg_mul(c, p, cg_cols(c, r->ds, i, n));
}

/* ds becomes p (ds - D). */
static void gradient_body(void *u, cg_val i, cg_val n) {
  arow *r = u;
  cg_ctx *c = r->c;
  cg_val ds = cg_mul(c, cg_cols(c, r->s, i, n), cg_sub(c, cg_cols(c, r->ds, i, n), r->b));
  cg_store_n(c, ds, cg_gep(c, c->f32, r->ds, i), n);
}

static void probabilities(cg_attn *a, cg_val first, int64_t M) {
  cg_ctx *c = a->c;
  cg_val p = tile(a, 0), ds = tile(a, 1), D;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, M), 1, 0, NULL);
  arow r = {.c = c, .s = offset_rows(a, p, l.i, a->ld), .ds = offset_rows(a, ds, l.i, a->ld)};
  r.a = cg_splat(c, cg_load_f32(c, a->lse, cg_add(c, first, l.i)), c->W);
  cg_fold(c, cg_i64(c, 0), cg_i64(c, a->N), 1, (cg_reduce_op[]){CG_SUM}, probability_terms, &r, &D);
  r.b = cg_splat(c, D, c->W);
  cg_each(c, cg_i64(c, 0), cg_i64(c, a->N), gradient_body, &r);
  cg_loop_end(&l, NULL);
}

static void backward_block(cg_attn *a, cg_val first, int64_t M, bool only) {
  int64_t row = a->H * a->d;
  cg_val p = tile(a, 0), ds = tile(a, 1), q = offset_rows(a, a->q, first, a->row);
  cg_val d_o = offset_rows(a, a->d_o, first, row);
  scores(a, q, a->row, a->key, a->row, M, a->scale, p);
  scores(a, d_o, row, a->v, a->row, M, 1, ds);
  probabilities(a, first, M);
  mix_transposed(a, p, d_o, row, M, 1, a->dv, !only);
  mix_transposed(a, ds, q, a->row, M, a->scale, a->dk, !only);
  mix(a, ds, a->key, a->row, M, a->scale, offset_rows(a, a->dq, first, a->row), a->row);
}

typedef void block_fn(cg_attn *a, cg_val first, int64_t M, bool only);

/* All queries of one head, in blocks; the last one is its own code, since products have sizes known at compile time. */
static void blocks(cg_attn *a, block_fn *body) {
  cg_ctx *c = a->c;
  int64_t M = block_rows(a), whole = a->Q / M * M;
  if (whole == M && M == a->Q) {
    body(a, cg_i64(c, 0), M, true);
    return;
  }
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, whole), M, 0, NULL);
  body(a, l.i, M, false);
  cg_loop_end(&l, NULL);
  if (whole < a->Q) body(a, cg_i64(c, whole), a->Q - whole, false);
}

static void zero_body(void *u, cg_val i, cg_val n) {
  arow *r = u;
  cg_store_n(r->c, cg_vf(r->c, 0), cg_gep(r->c, r->c->f32, r->x, i), n);
}

/* Zeros for tokens [first, N) of a head's gradient at p. */
static void clear(cg_attn *a, cg_val p, int64_t first) {
  cg_ctx *c = a->c;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, first), cg_i64(c, a->N), 1, 0, NULL);
  arow r = {.c = c, .x = offset_rows(a, p, l.i, a->row)};
  cg_each(c, cg_i64(c, 0), cg_i64(c, a->d), zero_body, &r);
  cg_loop_end(&l, NULL);
}

/* Tasks over the B*H heads; body sees b, h. */
typedef void head_fn(cg_attn *a, cg_val b, cg_val h);
static void emit_heads(cg_node *x, cg_attn *a, int64_t products, head_fn *body) {
  int64_t n = a->B * a->H, cost = a->Q * a->N * (products * a->d / 64 + 1);
  int64_t grain = cg_grain(n, cost, 1);
  cg_kernel *k = a->k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_range r = cg_task_range(k, n, grain);
    if (cg_attn_on_tiles(a)) cg_whole_tiles(k);
    cg_loop l;
    cg_loop_begin(c, &l, r.begin, r.end, 1, 0, NULL);
    cg_val h = cg_rem(c, l.i, cg_i64(c, a->H));
    cg_val last = cg_icmp(c, LLVMIntEQ, h, cg_i64(c, a->H - 1));
    a->next = cg_select(c, last, cg_i64(c, a->N * a->row - (a->H - 1) * a->d), cg_i64(c, a->d));
    a->next_o = cg_select(c, last, cg_i64(c, (a->Q * a->H - a->H + 1) * a->d), cg_i64(c, a->d));
    body(a, cg_div(c, l.i, cg_i64(c, a->H)), h);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (n + grain - 1) / grain);
}

static cg_val lse_of(cg_attn *a, cg_val base, cg_val b, cg_val h) {
  cg_ctx *c = a->c;
  return cg_row(c, base, cg_add(c, cg_mul(c, b, cg_i64(c, a->H)), h), a->Q);
}

static void forward_head(cg_attn *a, cg_val b, cg_val h) {
  cg_val in[3];
  heads(a, false, 0, a->k->x->d->n_in == 1, b, h, in);
  a->q = in[0], a->key = in[1], a->v = in[2];
  a->o = head(a, cg_out(a->k, 0), a->Q, a->H * a->d, b, h, 0);
  a->lse = lse_of(a, cg_out(a->k, 1), b, h);
  if (cg_attn_on_tiles(a)) {
    cg_attn_tiles_forward(a);
    return;
  }
  if (cg_attn_in_strips(a)) {
    cg_attn_strips_forward(a);
    return;
  }
  blocks(a, forward_block);
}

static void backward_head(cg_attn *a, cg_val b, cg_val h) {
  cg_val in[3], out[3];
  bool packed = a->k->x->d->n_in == 3;
  heads(a, false, 2, packed, b, h, in);
  heads(a, true, 0, packed, b, h, out);
  a->q = in[0], a->key = in[1], a->v = in[2];
  a->dq = out[0], a->dk = out[1], a->dv = out[2];
  a->d_o = head(a, cg_in(a->k, 0), a->Q, a->H * a->d, b, h, 0);
  a->lse = lse_of(a, cg_in(a->k, 1), b, h);
  if (cg_attn_on_tiles(a)) {
    cg_attn_tiles_backward(a);
    return;
  }
  if (a->Q < a->N) clear(a, a->dq, a->Q);
  if (cg_attn_in_strips(a)) {
    cg_attn_strips_backward(a);
    return;
  }
  if (block_rows(a) < a->Q) { /* dk and dv are sums over blocks of queries */
    clear(a, a->dk, 0);
    clear(a, a->dv, 0);
  }
  blocks(a, backward_block);
}

bool cg_emit_attention(cg_node *x) { /* qkv | q, k, v -> o, lse */
  TT_TRY(cg_float_operands(x));
  cg_attn a = describe(x, 0, x->d->n_in);
  emit_heads(x, &a, 2, forward_head);
  return true;
}

bool cg_emit_attention_grad(cg_node *x) { /* do, lse, qkv | q, k, v -> dqkv | dq, dk, dv */
  TT_TRY(cg_float_operands(x));
  cg_attn a = describe(x, 2, x->d->n_in - 2);
  emit_heads(x, &a, 5, backward_head);
  return true;
}
