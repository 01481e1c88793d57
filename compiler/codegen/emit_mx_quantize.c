/* mx.quantize and mx.requantize: float32 or packed codes in, packed codes and scales out.
 *
 * Blocks along rows are contiguous: 32 elements are read, their largest magnitude found across lanes, their codes made and
 * packed. Blocks along columns (transpose, and every requantization) lie 32 rows deep: a tile of 32 rows x W columns is
 * read twice from L1, with one lane a column, so that maxima and scales need no lane exchange; only the finished codes, 4
 * dwords a column, go through a small buffer to the transposed output. Tasks take rows, which share no output byte. What a
 * block becomes depends on its place and its values alone. */
#include "compiler/codegen/int4.h"
#include "compiler/codegen/mx_lanes.h"

typedef struct quantizer {
  cg_kernel *k;
  cg_ctx *c;
  tt_qspec q;
  int64_t nb;         /* blocks of an output row */
  cg_val x, ema, key; /* sources; NULL where not used */
  cg_val codes, scales;
} quantizer;

static quantizer open_quantizer(cg_kernel *k, int64_t nb, tt_qspec q) {
  cg_ctx *c = k->c;
  quantizer z = {.k = k, .c = c, .q = q, .nb = nb};
  z.x = cg_in(k, 0);
  if (z.q.rounding == TT_EMA) z.ema = cg_in(k, 1);
  if (z.q.rounding == TT_STOCHASTIC) {
    cg_val rng = cg_in(k, 1);
    cg_val seed = cg_load(c, c->i64, rng, 8), step = cg_load(c, c->i64, cg_addr(c, c->i64, rng, 1), 8);
    z.key = cg_rng_key(c, seed, step, cg_imm(k, TT_A_TENSOR));
  }
  z.codes = cg_out(k, 0);
  z.scales = cg_addr(c, c->i8, z.codes, (int64_t)tt_mx_scale_offset(cg_out_type(k->x, 0)));
  return z;
}

static cg_val load_bits(cg_ctx *c, cg_val p, cg_val n) { return cg_bits(c, cg_load_n(c, p, n, cg_vf(c, 0)), c->vi); }
static cg_val absolute(cg_ctx *c, cg_val bits) { return cg_and(c, bits, cg_vi(c, 0x7fffffff)); }
static cg_val truncate(cg_ctx *c, cg_val v, cg_type t) { return LLVMBuildTrunc(c->b, v, t, ""); }

static cg_val reduce_max(cg_ctx *c, cg_val v) {
  char name[48];
  snprintf(name, sizeof name, "llvm.vector.reduce.umax.v%di32", c->W);
  return cg_call(c, name, c->i32, 1, &v);
}

/* 16-bit numbers of elements [v*W, v*W + W) of block `block`: two elements share a word, low half first. */
static cg_val row_random(const quantizer *z, cg_val block, int v) {
  cg_ctx *c = z->c;
  cg_val first = cg_add(c, truncate(c, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)), c->i32), cg_i32(c, v / 2 * c->W));
  cg_val words = cg_rng_words(c, z->key, cg_add(c, cg_splat(c, first, c->W), cg_iota(c, c->i32, c->W)));
  cg_val halves = cg_bits(c, words, cg_vec(c, c->i16, 2 * c->W)), lanes[64];
  for (int i = 0; i < c->W; i++) lanes[i] = cg_i32(c, v % 2 * c->W + i);
  return LLVMBuildZExt(c->b, LLVMBuildShuffleVector(c->b, halves, halves, LLVMConstVector(lanes, (unsigned)c->W), ""),
                       c->vi, "");
}

/* Neighbouring lanes become a byte, low nibble first: in 64-bit lanes the odd code stands 32 bits up. */
static void store_codes(cg_ctx *c, cg_val codes, cg_val to) {
  cg_type wide = cg_vec(c, c->i64, c->W / 2);
  cg_val pairs = cg_bits(c, codes, wide);
  pairs = cg_or(c, pairs, cg_shr(c, pairs, cg_splat(c, cg_i64(c, 28), c->W / 2)));
  cg_store(c, truncate(c, pairs, cg_vec(c, c->i8, c->W / 2)), to, 1);
}

/* Block number `block` of the output from the n (NULL: 32) elements from index `at` on. */
static void quantize_block(const quantizer *z, cg_val at, cg_val block, cg_val n) {
  cg_ctx *c = z->c;
  int count = TT_MX_BLOCK / c->W;
  cg_val bits[16], left[16], max = cg_vi(c, 0);
  for (int v = 0; v < count; v++) {
    left[v] = n ? cg_sub(c, n, cg_i64(c, v * c->W)) : NULL;
    bits[v] = load_bits(c, cg_addr(c, c->f32, cg_gep(c, c->f32, z->x, at), v * c->W), left[v]);
    cg_val args[2] = {max, absolute(c, bits[v])};
    max = cg_max(c, args[0], args[1]);
  }
  cg_val scale = cg_mx_scale(c, z->q, reduce_max(c, max)), scales = cg_splat(c, scale, c->W);
  cg_store(c, truncate(c, scale, c->i8), cg_gep_bytes(c, z->scales, block), 1);
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  for (int v = 0; v < count; v++) {
    cg_val random = z->key ? row_random(z, block, v) : NULL, ema = NULL;
    if (z->ema) ema = load_bits(c, cg_addr(c, c->f32, cg_gep(c, c->f32, z->ema, at), v * c->W), left[v]);
    store_codes(c, cg_mx_codes(c, z->q, bits[v], scales, random, ema), cg_addr(c, c->i8, to, v * c->W / 2));
  }
}

static void quantize_rows(cg_kernel *k, int64_t rows, int64_t K, int64_t grain, tt_qspec q) {
  cg_ctx *c = k->c;
  quantizer z = open_quantizer(k, tt_mx_blocks(K), q);
  cg_range r = cg_task_range(k, rows, grain);
  cg_loop row, b;
  cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
  cg_val at = cg_mul(c, row.i, cg_i64(c, K)), block = cg_mul(c, row.i, cg_i64(c, z.nb));
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, K / TT_MX_BLOCK), 1, 0, NULL);
  quantize_block(&z, cg_add(c, at, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))), cg_add(c, block, b.i), NULL);
  cg_loop_end(&b, NULL);
  if (K % TT_MX_BLOCK)
    quantize_block(&z, cg_add(c, at, cg_i64(c, K / TT_MX_BLOCK * TT_MX_BLOCK)), cg_add(c, block, cg_i64(c, z.nb - 1)),
                   cg_i64(c, K % TT_MX_BLOCK));
  cg_loop_end(&row, NULL);
}

/* A tile of at most 32 rows x W columns to quantize along its columns. */
typedef struct tile {
  cg_val x, ema; /* element (0, 0) */
  int64_t stride;
  cg_val rows, cols; /* that exist; NULL: all, known from the shape */
  cg_val col, block; /* output row of column 0; block in it */
} tile;

/* Row i of the tile; one that does not exist reads zeros. */
static cg_val tile_row(const quantizer *z, const tile *t, cg_val source, cg_val i) {
  cg_ctx *c = z->c;
  cg_val p = cg_gep(c, c->f32, source, cg_mul(c, i, cg_i64(c, t->stride)));
  if (t->rows) p = cg_select(c, cg_icmp(c, LLVMIntSLT, i, t->rows), p, cg_zeros(c));
  return load_bits(c, p, t->cols);
}

static cg_val tile_max(const quantizer *z, const tile *t) {
  enum { AHEAD = 64 }; /* floats along the row: 32 rows are more streams than the hardware follows */
  cg_ctx *c = z->c;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, TT_MX_BLOCK), 8, 1, (cg_val[]){cg_vi(c, 0)});
  cg_val max = l.carry[0];
  for (int i = 0; i < 8; i++) {
    cg_val row = cg_add(c, l.i, cg_i64(c, i)), at = cg_add(c, cg_mul(c, row, cg_i64(c, t->stride)), cg_i64(c, AHEAD));
    if (t->stride > AHEAD) cg_prefetch(c, cg_gep(c, c->f32, t->x, at));
    max = cg_max(c, max, absolute(c, tile_row(z, t, t->x, row)));
  }
  cg_loop_end(&l, &max);
  return l.carry[0];
}

/* Bytes of rows 2j and 2j+1 in every lane. `words`: counters of row pair 0. */
static cg_val tile_bytes(const quantizer *z, const tile *t, cg_val scales, cg_val words, cg_val pair) {
  cg_ctx *c = z->c;
  cg_val random[2] = {NULL, NULL}, codes[2];
  if (z->key) {
    cg_val counter = cg_add(c, words, cg_splat(c, truncate(c, pair, c->i32), c->W)), h = cg_rng_words(c, z->key, counter);
    random[0] = cg_and(c, h, cg_vi(c, 0xffff));
    random[1] = cg_shr(c, h, cg_vi(c, 16));
  }
  for (int h = 0; h < 2; h++) {
    cg_val i = cg_add(c, cg_mul(c, pair, cg_i64(c, 2)), cg_i64(c, h));
    cg_val ema = z->ema ? tile_row(z, t, t->ema, i) : NULL;
    codes[h] = cg_mx_codes(c, z->q, tile_row(z, t, t->x, i), scales, random[h], ema);
  }
  return cg_or(c, codes[0], cg_shl(c, codes[1], cg_vi(c, 4)));
}

/* The buffer holds [5][W] i32: four dwords of codes a column, and its scale. */
static void store_columns(const quantizer *z, const tile *t, cg_val buffer) {
  cg_ctx *c = z->c;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), t->cols ? cg_min(c, t->cols, cg_i64(c, c->W)) : cg_i64(c, c->W), 1, 0, NULL);
  cg_val block = cg_add(c, cg_mul(c, cg_add(c, t->col, l.i), cg_i64(c, z->nb)), t->block);
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))),
         from = cg_gep(c, c->i32, buffer, l.i);
  for (int d = 0; d < 4; d++)
    cg_store(c, cg_load(c, c->i32, cg_addr(c, c->i32, from, d * c->W), 4), cg_addr(c, c->i32, to, d), 4);
  cg_val scale = cg_load(c, c->i32, cg_addr(c, c->i32, from, 4 * c->W), 4);
  cg_store(c, truncate(c, scale, c->i8), cg_gep_bytes(c, z->scales, block), 1);
  cg_loop_end(&l, NULL);
}

static void quantize_tile(const quantizer *z, const tile *t, cg_val buffer) {
  cg_ctx *c = z->c;
  cg_val scales = cg_mx_scale(c, z->q, tile_max(z, t)), words = NULL;
  cg_store(c, scales, cg_addr(c, c->vi, buffer, 4), 4);
  if (z->key) {
    cg_val first = cg_add(c, cg_mul(c, t->col, cg_i64(c, z->nb)), t->block);
    first = truncate(c, cg_mul(c, first, cg_i64(c, TT_MX_BLOCK / 2)), c->i32);
    cg_val lanes = cg_mul(c, cg_iota(c, c->i32, c->W), cg_vi(c, (int32_t)(z->nb * (TT_MX_BLOCK / 2))));
    words = cg_add(c, cg_splat(c, first, c->W), lanes);
  }
  cg_loop d;
  cg_loop_begin(c, &d, cg_i64(c, 0), cg_i64(c, 4), 1, 0, NULL);
  cg_val dword = NULL;
  for (int i = 0; i < 4; i++) {
    cg_val bytes = tile_bytes(z, t, scales, words, cg_add(c, cg_mul(c, d.i, cg_i64(c, 4)), cg_i64(c, i)));
    dword = i ? cg_or(c, dword, cg_shl(c, bytes, cg_vi(c, 8 * i))) : bytes;
  }
  cg_store(c, dword, cg_gep(c, c->vi, buffer, d.i), 4);
  cg_loop_end(&d, NULL);
  store_columns(z, t, buffer);
}

/* Runs of 4 blocks of rows make 64 bytes of an output row, so that tasks do not share cache lines. */
static int64_t block_grain(int64_t nb, int64_t cols) { return cg_grain(nb, cols * TT_MX_BLOCK / 2, 4); }

/* x [rows, cols] -> mx [cols, rows] */
static void quantize_columns(cg_kernel *k, int64_t rows, int64_t cols, int64_t grain, tt_qspec q) {
  cg_ctx *c = k->c;
  quantizer z = open_quantizer(k, tt_mx_blocks(rows), q);
  cg_val buffer = cg_alloca(c, c->vi, 5, 64);
  cg_range r = cg_task_range(k, z.nb, grain);
  cg_loop b, col;
  cg_loop_begin(c, &b, r.begin, r.end, 1, 0, NULL);
  cg_val row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, cols), c->W, 0, NULL);
  cg_val at = cg_add(c, cg_mul(c, row, cg_i64(c, cols)), col.i);
  tile t = {.x = cg_gep(c, c->f32, z.x, at),
            .ema = z.ema ? cg_gep(c, c->f32, z.ema, at) : NULL,
            .stride = cols,
            .rows = rows % TT_MX_BLOCK ? cg_sub(c, cg_i64(c, rows), row) : NULL,
            .cols = cols % c->W ? cg_sub(c, cg_i64(c, cols), col.i) : NULL,
            .col = col.i,
            .block = b.i};
  quantize_tile(&z, &t, buffer);
  cg_loop_end(&col, NULL);
  cg_loop_end(&b, NULL);
}

static void quantize_by(cg_kernel *k, bool across, int64_t grain, tt_qspec q) {
  const tt_type *t = cg_in_type(k->x, 0);
  int64_t rows = tt_type_rows(t), cols = tt_type_last(t);
  if (across)
    quantize_columns(k, rows, cols, grain, q);
  else
    quantize_rows(k, rows, cols, grain, q);
}

/* Ema rounding that begins at a step: both ways of rounding are there, the step in rng picks one. */
static void quantize_from(cg_kernel *k, bool across, int64_t grain, tt_qspec q, int64_t from) {
  cg_ctx *c = k->c;
  cg_val step = cg_load(c, c->i64, cg_addr(c, c->i64, cg_in(k, 2), 1), 8);
  tt_qspec before = q;
  before.rounding = TT_NEAREST;
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGE, step, cg_i64(c, from)));
  quantize_by(k, across, grain, q);
  cg_if_else(&f);
  quantize_by(k, across, grain, before);
  cg_if_end(&f);
}

bool cg_emit_mx_quantize(cg_node *x) {
  if (cg_out_type(x, 0)->format == TT_INT4) return cg_int4_quantize(x);
  const tt_type *t = cg_in_type(x, 0);
  bool across = tt_node_int(x->g, x->n, TT_A_TRANSPOSED) != 0;
  int64_t rows = tt_type_rows(t), cols = tt_type_last(t), nb = tt_mx_blocks(rows);
  int64_t from = tt_node_int(x->g, x->n, TT_A_FROM);
  int64_t grain = across ? block_grain(nb, cols) : cg_grain(rows, cols / 3 + 1, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    tt_qspec q = tt_node_qspec(x->g, x->n, TT_A_Q);
    if (from > 0)
      quantize_from(k, across, grain, q, from);
    else
      quantize_by(k, across, grain, q);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  int64_t n = across ? nb : rows;
  cg_launch(x, "", (n + grain - 1) / grain);
  return true;
}

/* Block `b` of row `row` of packed a [.., K] as 32 floats at `to`. */
static void expand_block(cg_ctx *c, const tt_type *type, cg_val a, cg_val row, cg_val b, cg_val to) {
  cg_val block = cg_add(c, cg_mul(c, row, cg_i64(c, tt_mx_blocks(type->dim[1]))), b);
  cg_val scale = cg_load(c, c->i8, cg_gep_bytes(c, cg_addr(c, c->i8, a, (int64_t)tt_mx_scale_offset(type)), block), 1);
  cg_val factor = cg_splat(c, cg_mx_factor(c, (tt_format)type->format, LLVMBuildZExt(c->b, scale, c->i32, "")), c->W);
  cg_val packed = cg_load(c, cg_vec(c, c->i8, 16), cg_gep_bytes(c, a, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))), 1);
  for (int i = 0; i < TT_MX_BLOCK; i += c->W)
    cg_store(c, cg_mx_values(c, (tt_format)type->format, cg_mx_unpack(c, packed, i), factor), cg_addr(c, c->f32, to, i), 4);
}

/* mx [R,K] -> mx [K,R], a 32 x 32 tile at a time through scratch. */
static void requantize(cg_kernel *k, const tt_type *from, int64_t grain) {
  cg_ctx *c = k->c;
  int64_t R = from->dim[0], K = from->dim[1];
  quantizer z = open_quantizer(k, tt_mx_blocks(R), tt_node_qspec(k->x->g, k->x->n, TT_A_Q));
  cg_val buffer = cg_alloca(c, c->vi, 5, 64), values = cg_scratch(k, 0, sizeof(float[TT_MX_BLOCK][TT_MX_BLOCK]));
  cg_range r = cg_task_range(k, z.nb, grain);
  cg_loop b, kb, i;
  cg_loop_begin(c, &b, r.begin, r.end, 1, 0, NULL);
  cg_val row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  cg_val rows = cg_min(c, cg_sub(c, cg_i64(c, R), row), cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &kb, cg_i64(c, 0), cg_i64(c, tt_mx_blocks(K)), 1, 0, NULL);
  cg_loop_begin(c, &i, cg_i64(c, 0), rows, 1, 0, NULL);
  expand_block(c, from, z.x, cg_add(c, row, i.i), kb.i, cg_gep(c, c->f32, values, cg_mul(c, i.i, cg_i64(c, TT_MX_BLOCK))));
  cg_loop_end(&i, NULL);
  cg_val col = cg_mul(c, kb.i, cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &i, cg_i64(c, 0), cg_min(c, cg_i64(c, TT_MX_BLOCK), cg_sub(c, cg_i64(c, K), col)), c->W, 0, NULL);
  cg_val first = cg_add(c, col, i.i);
  tile t = {.x = cg_gep(c, c->f32, values, i.i),
            .stride = TT_MX_BLOCK,
            .rows = R % TT_MX_BLOCK ? rows : NULL,
            .cols = K % c->W ? cg_sub(c, cg_i64(c, K), first) : NULL,
            .col = first,
            .block = b.i};
  quantize_tile(&z, &t, buffer);
  cg_loop_end(&i, NULL);
  cg_loop_end(&kb, NULL);
  cg_loop_end(&b, NULL);
}

bool cg_emit_mx_requantize(cg_node *x) {
  if (cg_out_type(x, 0)->format == TT_INT4) return cg_int4_requantize(x);
  const tt_type *from = cg_in_type(x, 0);
  int64_t nb = tt_mx_blocks(from->dim[0]), grain = block_grain(nb, from->dim[1]);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    requantize(k, from, grain);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (nb + grain - 1) / grain);
  return true;
}

bool cg_emit_mx_dequantize(cg_node *x) {
  const tt_type *from = cg_in_type(x, 0);
  if (from->format == TT_INT4) return cg_int4_dequantize(x);
  int64_t R = from->dim[0], K = from->dim[1], grain = cg_grain(R, K / 3 + 1, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val saved = c->target->denormals_keep(c), out = cg_out(k, 0);
    cg_range r = cg_task_range(k, R, grain);
    cg_loop row, b;
    cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
    cg_val to = cg_gep(c, c->f32, out, cg_mul(c, row.i, cg_i64(c, K)));
    cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, K / TT_MX_BLOCK), 1, 0, NULL);
    expand_block(c, from, cg_in(k, 0), row.i, b.i, cg_gep(c, c->f32, to, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))));
    cg_loop_end(&b, NULL);
    if (K % TT_MX_BLOCK) {
      cg_val values = cg_alloca(c, c->f32, TT_MX_BLOCK, 64);
      expand_block(c, from, cg_in(k, 0), row.i, cg_i64(c, K / TT_MX_BLOCK), values);
      for (int i = 0; i < K % TT_MX_BLOCK; i += c->W)
        cg_store_n(c, cg_load(c, c->vf, cg_addr(c, c->f32, values, i), 4),
                   cg_addr(c, c->f32, to, K / TT_MX_BLOCK * TT_MX_BLOCK + i), cg_i64(c, K % TT_MX_BLOCK - i));
    }
    cg_loop_end(&row, NULL);
    c->target->denormals_restore(c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (R + grain - 1) / grain);
  return true;
}
