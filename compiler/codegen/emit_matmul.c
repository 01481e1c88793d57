/* matmul and linear: float32 products cut into tasks over batch, rows and columns, each one cg_gemm_f32. Where many rows meet
 * one B, as in every linear layer, a launch of its own packs B for all tasks. Weight gradients reduce over all tokens and have
 * few elements: there the reduction is cut as well, since every tile of C would read whole columns of both operands from
 * memory; the parts are summed by a second launch, in order. All cuts follow from shapes, so that no sum depends on how many
 * threads there are. */
#include "compiler/codegen/gemm_f32.h"

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

/* How a product is cut: the tiling of C and parts of the reduction, each `depth` long but the last. */
typedef struct cut {
  cg_tiling t;
  int64_t parts, depth;
  bool shared_b; /* B is packed once for all tasks; rows are then cut evenly by strips, t.rows being the most that one gets */
} cut;

/* Rows and columns of which a task has multiples: any tile's height and width divide them. */
enum { STRIP = 24, PANELS = 96 };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The cut with the least memory traffic, counted in floats, among those with enough tasks whose packed operands fit L2. */
static cut deep_cut(int64_t M, int64_t N, int64_t K) {
  enum { TASKS = 16, ROWS_MAX = 600, COLS_MAX = 512, DEPTH_MIN = 512 };
  cut best = {.t = cg_tile_product(M, N, K, 96, 96, STRIP), .parts = 1, .depth = K};
  int64_t least_traffic = INT64_MAX, want = least(TASKS, M * N / 1000 * K / 4000 + 1);
  for (int64_t down = 1; down <= 16; down++)
    for (int64_t across = 1; across <= 8; across++) {
      int64_t rows = least(M, ceil_div(ceil_div(M, down), STRIP) * STRIP),
              cols = least(N, ceil_div(ceil_div(N, across), PANELS) * PANELS);
      cg_tiling t = {.rows = rows, .cols = cols, .n_rows = ceil_div(M, rows), .n_cols = ceil_div(N, cols)};
      int64_t depth = ceil_div(ceil_div(K, ceil_div(want, t.n_rows * t.n_cols)), 256) * 256;
      if (depth < DEPTH_MIN) depth = DEPTH_MIN;
      if (rows > ROWS_MAX || cols > COLS_MAX || depth >= K) continue;
      int64_t parts = ceil_div(K, depth), traffic = M * K * t.n_cols + N * K * t.n_rows + 3 * M * N * parts;
      if (traffic >= least_traffic) continue;
      least_traffic = traffic;
      best = (cut){.t = t, .parts = parts, .depth = depth};
    }
  return best;
}

/* On tiles splitting the operands costs more than reading them: of the cuts with enough tasks whose rows of A fit L2 the one
 * that splits the least. */
static cg_tiling tiles_cut(int64_t M, int64_t N) {
  enum { TASKS = 14, ROWS_MAX = 480, SIDE = 32 };
  cg_tiling best = {.rows = SIDE, .cols = N, .n_rows = ceil_div(M, SIDE), .n_cols = 1};
  double least_split = 1;
  for (int64_t down = 1; down <= ceil_div(M, SIDE); down++)
    for (int64_t across = 1; across <= ceil_div(N, SIDE); across++) {
      int64_t rows = ceil_div(ceil_div(M, down), SIDE) * SIDE, cols = ceil_div(ceil_div(N, across), SIDE) * SIDE;
      if (rows > ROWS_MAX || down * across < TASKS || 1.0 / (double)rows + 1.0 / (double)cols >= least_split) continue;
      least_split = 1.0 / (double)rows + 1.0 / (double)cols;
      best =
          (cg_tiling){.rows = least(M, rows), .cols = least(N, cols), .n_rows = ceil_div(M, rows), .n_cols = ceil_div(N, cols)};
    }
  return best;
}

static cut cut_of(const cg_ctx *c, const product *p) {
  if (p->batch == 1 && p->gemm.a_cs != 1) return deep_cut(p->M, p->N, p->K);
  cg_gemm all = {.M = p->M, .N = p->N, .K = p->K};
  if (p->batch == 1 && p->M * p->N / 1000 * p->K > 30000 && cg_f32_on_tiles(c, &all))
    return (cut){.t = tiles_cut(p->M, p->N), .parts = 1, .depth = p->K};
  enum { EVEN = 4 /* threads get the same where rows are cut into more */ };
  cut whole = {.parts = 1, .depth = p->K};
  whole.t = p->batch >= 16 ? (cg_tiling){.rows = p->M, .cols = p->N, .n_rows = 1, .n_cols = 1}
                           : cg_tile_product(p->M, p->N, p->K, 48, 64, STRIP);
  if (p->batch > 1 || whole.t.n_rows == 1 || c->target->f32_tiles) return whole;
  whole.shared_b = true;
  if (whole.t.n_rows > EVEN) whole.t.n_rows = ceil_div(whole.t.n_rows, EVEN) * EVEN;
  whole.t.rows = ceil_div(ceil_div(p->M, STRIP), whole.t.n_rows) * STRIP;
  if (whole.t.n_cols > 1) whole.t.cols = ceil_div(whole.t.cols, PANELS) * PANELS;
  whole.t.n_cols = ceil_div(p->N, whole.t.cols);
  return whole;
}

/* Where row `row` of the grid of tasks begins. */
static cg_val first_row(cg_ctx *c, const product *p, const cut *how, cg_val row) {
  if (!how->shared_b) return cg_mul(c, row, cg_i64(c, how->t.rows));
  cg_val strips = cg_mul(c, row, cg_i64(c, ceil_div(p->M, STRIP)));
  return cg_mul(c, cg_div(c, strips, cg_i64(c, how->t.n_rows)), cg_i64(c, STRIP));
}

/* Small products of a batch share tasks, each worth some 20 us. */
static int64_t batch_grain(const product *p, cg_tiling t) {
  if (t.n_rows * t.n_cols > 1) return 1;
  return cg_grain(p->batch, p->M * p->N * p->K / 128 + 1, 1);
}

/* Tile (row, col) of batch item `at`, or of part `at` of the reduction, which goes to the workspace. */
static void emit_tile(cg_kernel *k, const product *p, const cut *how, cg_val at, cg_val row, cg_val col) {
  cg_ctx *c = k->c;
  cg_gemm g = p->gemm;
  cg_tiling t = how->t;
  cg_val i = first_row(c, p, how, row), j = cg_mul(c, col, cg_i64(c, t.cols));
  g.M = t.rows;
  g.N = t.cols;
  g.K = how->depth;
  if (how->shared_b)
    g.m_count = cg_sub(c, cg_min(c, cg_i64(c, p->M), first_row(c, p, how, cg_add(c, row, cg_i64(c, 1)))), i);
  else if (p->M % t.rows)
    g.m_count = cg_min(c, cg_i64(c, t.rows), cg_sub(c, cg_i64(c, p->M), i));
  if (p->N % t.cols) g.n_count = cg_min(c, cg_i64(c, t.cols), cg_sub(c, cg_i64(c, p->N), j));
  cg_val a = cg_in(k, 0), b = cg_in(k, 1), out = cg_out(k, 0);
  if (p->batch > 1) {
    a = cg_gep(c, c->f32, a, batch_offset(c, p->a, p->out, at));
    b = cg_gep(c, c->f32, b, batch_offset(c, p->b, p->out, at));
    out = cg_gep(c, c->f32, out, cg_mul(c, at, cg_i64(c, p->M * p->N)));
  }
  if (how->parts > 1) {
    cg_val first = cg_mul(c, at, cg_i64(c, how->depth));
    g.k_count = cg_min(c, cg_i64(c, how->depth), cg_sub(c, cg_i64(c, p->K), first));
    a = cg_gep(c, c->f32, a, cg_mul(c, first, cg_i64(c, g.a_cs)));
    b = cg_gep(c, c->f32, b, cg_mul(c, first, cg_i64(c, g.b_rs)));
    out = cg_work(k, 0, (uint64_t)(how->parts * p->M * p->N) * sizeof(float));
    out = cg_gep(c, c->f32, out, cg_mul(c, at, cg_i64(c, p->M * p->N)));
  }
  if (how->shared_b) {
    g.packed_cols = p->N;
    g.packed_b = cg_work(k, 0, cg_f32_packed_b_bytes(c, &g));
    g.packed_b = cg_f32_packed_panel(c, &g, j);
  }
  g.a = cg_gep(c, c->f32, a, cg_mul(c, i, cg_i64(c, g.a_rs)));
  g.b = cg_gep(c, c->f32, b, cg_mul(c, j, cg_i64(c, g.b_cs)));
  g.out = cg_gep(c, c->f32, out, cg_add(c, cg_mul(c, i, cg_i64(c, g.c_rs)), j));
  if (k->x->d->n_in > 2) g.bias = cg_gep(c, c->f32, cg_in(k, 2), j);
  cg_gemm_f32(k, &g, 0);
}

/* out = sum over the parts, in ascending order. */
static void sum_parts(cg_kernel *k, int64_t parts, int64_t count, int64_t grain) {
  cg_ctx *c = k->c;
  cg_val work = cg_work(k, 0, (uint64_t)(parts * count) * sizeof(float)), out = cg_out(k, 0);
  cg_range r = cg_task_range(k, count, grain);
  cg_loop at, part;
  cg_loop_begin(c, &at, r.begin, r.end, c->W, 0, NULL);
  cg_val left = cg_sub(c, r.end, at.i);
  cg_loop_begin(c, &part, cg_i64(c, 0), cg_i64(c, parts), 1, 1, (cg_val[]){cg_vf(c, 0)});
  cg_val from = cg_gep(c, c->f32, work, cg_add(c, cg_mul(c, part.i, cg_i64(c, count)), at.i));
  cg_val sum = cg_add(c, part.carry[0], cg_load_n(c, from, left, cg_vf(c, 0)));
  cg_loop_end(&part, &sum);
  cg_store_n(c, part.carry[0], cg_gep(c, c->f32, out, at.i), left);
  cg_loop_end(&at, NULL);
}

static void launch_sum(cg_node *x, const product *p, int64_t parts) {
  int64_t count = p->M * p->N, grain = cg_grain(count, 1 + parts / 2, 64);
  cg_kernel *k = cg_kernel_begin(x, "sum");
  if (k) {
    sum_parts(k, parts, count, grain);
    cg_kernel_end(k);
  }
  cg_launch(x, "sum", ceil_div(count, grain));
}

/* The whole of a product that is none of a batch, without pointers. */
static cg_gemm whole_gemm(const product *p) {
  cg_gemm g = p->gemm;
  g.M = p->M, g.N = g.packed_cols = p->N, g.K = p->K;
  return g;
}

/* A task packs PANELS columns, all of K deep. */
void cg_f32_launch_pack(cg_node *x, const cg_gemm *d, uint64_t offset) {
  cg_kernel *k = cg_kernel_begin(x, "pack");
  if (k) {
    cg_ctx *c = k->c;
    cg_gemm g = *d;
    g.b = cg_in(k, 1);
    g.packed_b = cg_work(k, offset, cg_f32_packed_b_bytes(c, &g));
    cg_range r = cg_task_range(k, g.N, PANELS);
    cg_f32_pack_b(c, &g, r.begin, r.end);
    cg_kernel_end(k);
  }
  cg_launch(x, "pack", ceil_div(d->N, PANELS));
}

static bool emit_product(cg_node *x, const product *p) {
  cut how = cut_of(x->c, p);
  const cg_gemm whole = whole_gemm(p);
  if (how.shared_b) cg_f32_launch_pack(x, &whole, 0);
  cg_tiling t = how.t;
  int64_t tiles = t.n_rows * t.n_cols, grain = batch_grain(p, t), items = p->batch > 1 ? p->batch : how.parts;
  if (how.parts > 1) grain = 1;
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val tile = cg_rem(c, k->task, cg_i64(c, tiles)), first = cg_div(c, k->task, cg_i64(c, tiles));
    cg_val row = cg_div(c, tile, cg_i64(c, t.n_cols)), col = cg_rem(c, tile, cg_i64(c, t.n_cols));
    cg_loop l;
    cg_val begin = cg_mul(c, first, cg_i64(c, grain));
    cg_val end = cg_min(c, cg_add(c, begin, cg_i64(c, grain)), cg_i64(c, items));
    cg_loop_begin(c, &l, begin, end, 1, 0, NULL);
    emit_tile(k, p, &how, l.i, row, col);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "", ceil_div(items, grain) * tiles);
  if (how.parts > 1) launch_sum(x, p, how.parts);
  return true;
}

/* (x [..,D], w [C,D], b [C]?) -> [..,C] */
static product of_linear(const cg_node *x) {
  const tt_type *w = cg_in_type(x, 1);
  int64_t D = w->dim[1], C = w->dim[0];
  return (product){.M = tt_type_rows(cg_in_type(x, 0)),
               .N = C,
               .K = D,
               .batch = 1,
               .gemm = {.a_rs = D, .a_cs = 1, .b_rs = 1, .b_cs = D, .c_rs = C, .alpha = 1}};
}

/* (a [..,M,K], b [..,K,N]), the last two dimensions of either transposed on request. Where b has no batch and a is not
 * transposed, a's batch is more rows. `out` is [..,M,N], or NULL where it is known that b is a matrix. */
static product of_matmul(const cg_node *x, const tt_type *out) {
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1);
  bool ta = tt_node_int(x->g, x->n, TT_A_TRANS_A) != 0, tb = tt_node_int(x->g, x->n, TT_A_TRANS_B) != 0;
  int64_t a_rows = a->dim[a->rank - 2], a_cols = tt_type_last(a), b_rows = b->dim[b->rank - 2], b_cols = tt_type_last(b);
  product p = {.M = ta ? a_cols : a_rows, .K = ta ? a_rows : a_cols, .N = tb ? b_rows : b_cols, .a = a, .b = b, .out = out};
  p.gemm = (cg_gemm){.a_rs = ta ? 1 : a_cols,
                     .a_cs = ta ? a_cols : 1,
                     .b_rs = tb ? 1 : b_cols,
                     .b_cs = tb ? b_cols : 1,
                     .c_rs = p.N,
                     .alpha = 1};
  p.batch = out ? tt_type_count(out) / (p.M * p.N) : tt_type_rows(a) / p.M;
  if (tt_type_count(b) == b_rows * b_cols && !ta && tt_type_count(a) == p.batch * p.M * p.K) {
    p.M *= p.batch;
    p.batch = 1;
  }
  return p;
}

bool cg_emit_linear(cg_node *x) {
  product p = of_linear(x);
  return emit_product(x, &p);
}

bool cg_emit_matmul(cg_node *x) {
  product p = of_matmul(x, cg_out_type(x, 0));
  return emit_product(x, &p);
}

cg_gemm cg_f32_rows_product(const cg_node *x, tt_op op) {
  product p = op == TT_OP_LINEAR ? of_linear(x) : of_matmul(x, NULL);
  TT_ASSERT(p.batch == 1 && p.gemm.a_cs == 1);
  cg_gemm g = whole_gemm(&p);
  const cut how = cut_of(x->c, &p);
  const cg_gemm tile = {.M = how.t.rows, .N = how.t.cols, .K = p.K};
  g.way = !how.shared_b && cg_f32_on_tiles(x->c, &tile) ? CG_F32_TILES : CG_F32_VECTORS;
  if (g.way == CG_F32_TILES) g.packed_cols = 0; /* a task splits its own B */
  return g;
}
