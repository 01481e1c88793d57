/* See mx_quantizer.h. */
#include "compiler/codegen/mx_quantizer.h"

cg_quantizer cg_quantizer_open(cg_kernel *k, tt_qspec q, int out, int rng, tt_attr_id tensor) {
  cg_ctx *c = k->c;
  const tt_type *type = cg_out_type(k->x, out);
  cg_quantizer z = {.c = c, .q = q, .nb = tt_mx_blocks(type->dim[1]), .codes = cg_out(k, out)};
  z.scales = cg_addr(c, c->i8, z.codes, (int64_t)tt_mx_scale_offset(type));
  if (q.rounding != TT_STOCHASTIC) return z;
  cg_val seed = cg_load(c, c->i64, cg_in(k, rng), 8), step = cg_load(c, c->i64, cg_addr(c, c->i64, cg_in(k, rng), 1), 8);
  z.key = cg_rng_key(c, seed, step, cg_imm(k, tensor));
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
static cg_val row_random(const cg_quantizer *z, cg_val block, int v) {
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
static void quantize_block(const cg_quantizer *z, cg_val at, cg_val block, cg_val n) {
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
  cg_val factor = z->sums ? cg_splat(c, cg_mx_factor(c, (tt_format)z->q.format, scale), c->W) : NULL;
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  for (int v = 0; v < count; v++) {
    cg_val random = z->key ? row_random(z, block, v) : NULL, ema = NULL;
    if (z->ema) ema = load_bits(c, cg_addr(c, c->f32, cg_gep(c, c->f32, z->ema, at), v * c->W), left[v]);
    cg_val where = cg_addr(c, c->i8, to, v * c->W / 2), values;
    if (!z->sums) {
      store_codes(c, cg_mx_codes(c, z->q, bits[v], scales, random, ema), where);
      continue;
    }
    store_codes(c, cg_mx_codes_values(c, z->q, bits[v], scales, random, factor, &values), where);
    cg_val sum = cg_addr(c, c->f32, cg_gep(c, c->f32, z->sums, at), v * c->W);
    cg_store(c, cg_add(c, cg_load(c, c->vf, sum, 4), values), sum, 4);
  }
}

void cg_quantize_row(const cg_quantizer *z, cg_val at, cg_val block, int64_t K) {
  cg_ctx *c = z->c;
  int64_t whole = K / TT_MX_BLOCK;
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, whole), 1, 0, NULL);
  quantize_block(z, cg_add(c, at, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))), cg_add(c, block, b.i), NULL);
  cg_loop_end(&b, NULL);
  if (K % TT_MX_BLOCK)
    quantize_block(z, cg_add(c, at, cg_i64(c, whole * TT_MX_BLOCK)), cg_add(c, block, cg_i64(c, whole)),
                   cg_i64(c, K % TT_MX_BLOCK));
}


/* Row i of the tile; one that does not exist reads zeros. */
static cg_val tile_row(const cg_quantizer *z, const cg_tile *t, cg_val source, cg_val i) {
  cg_ctx *c = z->c;
  cg_val p = cg_gep(c, c->f32, source, cg_mul(c, i, cg_i64(c, t->stride)));
  if (t->rows) p = cg_select(c, cg_icmp(c, LLVMIntSLT, i, t->rows), p, cg_zeros(c));
  return load_bits(c, p, t->cols);
}

static cg_val tile_max(const cg_quantizer *z, const cg_tile *t) {
  enum { AHEAD = 64 }; /* floats along the row: 32 rows are more streams than the hardware follows */
  cg_ctx *c = z->c;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, TT_MX_BLOCK), 8, 1, (cg_val[]){cg_vi(c, 0)});
  cg_val max = l.carry[0];
  for (int i = 0; i < 8; i++) {
    cg_val row = cg_add(c, l.i, cg_i64(c, i)), at = cg_add(c, cg_mul(c, row, cg_i64(c, t->stride)), cg_i64(c, AHEAD));
    if (t->prefetch) cg_prefetch(c, cg_gep(c, c->f32, t->x, at));
    max = cg_max(c, max, absolute(c, tile_row(z, t, t->x, row)));
  }
  cg_loop_end(&l, &max);
  return l.carry[0];
}

/* Bytes of rows 2j and 2j+1 in every lane. `words`: counters of row pair 0. */
static cg_val tile_bytes(const cg_quantizer *z, const cg_tile *t, cg_val scales, cg_val words, cg_val pair) {
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
static void store_columns(const cg_quantizer *z, const cg_tile *t, cg_val buffer) {
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

void cg_quantize_tile(const cg_quantizer *z, const cg_tile *t, cg_val buffer) {
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

