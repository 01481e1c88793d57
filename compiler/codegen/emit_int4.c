/* Quantizers of per-tensor INT4 and what reads their results element by element.
 *
 * One scale for the whole tensor means two passes: a launch leaves the largest magnitude of each part in the workspace, and
 * each task of the next finds the largest of those (at most 64), which is the same whoever finds it. The scale being the
 * tensor's, a code does not depend on the axis that is quantized along, and requantizing is moving nibbles. */
#include <stdio.h>
#include "compiler/codegen/int4.h"
#include "compiler/codegen/mx_lanes.h"

enum { UNROLL = 4 };

static cg_val load_bits(cg_ctx *c, cg_val p, cg_val n) { return cg_bits(c, cg_load_n(c, p, n, cg_vf(c, 0)), c->vi); }
static cg_val absolute(cg_ctx *c, cg_val bits) { return cg_and(c, bits, cg_vi(c, 0x7fffffff)); }
static cg_val truncate(cg_ctx *c, cg_val v, cg_type t) { return LLVMBuildTrunc(c->b, v, t, ""); }
static int64_t part_of(const cg_node *x) { return cg_grain(tt_type_count(cg_in_type(x, 0)), 1, (int64_t)UNROLL * x->c->W); }
static int64_t parts_of(const cg_node *x) { return (tt_type_count(cg_in_type(x, 0)) + part_of(x) - 1) / part_of(x); }

static cg_val reduce_max(cg_ctx *c, cg_val v) {
  char name[48];
  snprintf(name, sizeof name, "llvm.vector.reduce.umax.v%di32", c->W);
  return cg_call(c, name, c->i32, 1, &v);
}

/* Magnitudes compare as integers, NaN above all. */
static cg_val part_max(cg_ctx *c, cg_val x, cg_range r) {
  cg_val step = cg_i64(c, (int64_t)UNROLL * c->W), zero = cg_vi(c, 0), max[UNROLL] = {zero, zero, zero, zero};
  cg_val whole = cg_add(c, r.begin, cg_mul(c, cg_div(c, cg_sub(c, r.end, r.begin), step), step));
  cg_loop l, tail;
  cg_loop_begin(c, &l, r.begin, whole, (int64_t)UNROLL * c->W, UNROLL, max);
  for (int v = 0; v < UNROLL; v++)
    max[v] =
        cg_max(c, l.carry[v], absolute(c, load_bits(c, cg_gep(c, c->f32, x, cg_add(c, l.i, cg_i64(c, v * c->W))), NULL)));
  cg_loop_end(&l, max);
  cg_val all = cg_max(c, cg_max(c, l.carry[0], l.carry[1]), cg_max(c, l.carry[2], l.carry[3]));
  cg_loop_begin(c, &tail, whole, r.end, c->W, 1, &all);
  all = cg_max(c, tail.carry[0], absolute(c, load_bits(c, cg_gep(c, c->f32, x, tail.i), cg_sub(c, r.end, tail.i))));
  cg_loop_end(&tail, &all);
  return reduce_max(c, tail.carry[0]);
}

void cg_int4_launch_max(cg_node *x) {
  int64_t parts = parts_of(x);
  cg_kernel *k = cg_kernel_begin(x, "max");
  if (k) {
    cg_range r = cg_task_range(k, tt_type_count(cg_in_type(x, 0)), part_of(x));
    cg_val max = part_max(k->c, cg_in(k, 0), r);
    cg_store(k->c, max, cg_gep(k->c, k->c->i32, cg_work(k, 0, (uint64_t)parts * 4), k->task), 4);
    cg_kernel_end(k);
  }
  cg_launch(x, "max", parts);
}

cg_val cg_int4_scale(cg_kernel *k) {
  cg_ctx *c = k->c;
  int64_t parts = parts_of(k->x);
  cg_val work = cg_work(k, 0, (uint64_t)parts * 4), all = cg_vi(c, 0);
  for (int64_t i = 0; i < parts; i += c->W)
    all = cg_max(c, all, load_bits(c, cg_addr(c, c->i32, work, i), cg_i64(c, parts - i)));
  cg_val max = reduce_max(c, all), scale = cg_div(c, cg_bits(c, max, c->f32), cg_f32(c, 7));
  scale = cg_max(c, scale, cg_f32(c, 0x1p-126));
  cg_val bad = cg_icmp(c, LLVMIntUGE, max, cg_i32(c, 0x7f800000));
  return cg_select(c, bad, cg_bits(c, cg_i32(c, 0x7fc00000), c->f32), scale);
}

/* What all of a tensor's codes have in common. */
typedef struct quantizer {
  cg_kernel *k;
  cg_ctx *c;
  int64_t nb;         /* blocks of an output row */
  cg_val key;         /* of the random bits; NULL: to nearest */
  cg_val scale, mask; /* vf; vi, 15 or, where the scale is NaN, 0 */
  cg_val codes;
} quantizer;

static quantizer open_quantizer(cg_kernel *k, int64_t nb) {
  cg_ctx *c = k->c;
  quantizer z = {.k = k, .c = c, .nb = nb, .codes = cg_out(k, 0)};
  cg_val scale = cg_int4_scale(k), nan = cg_fcmp(c, LLVMRealUNO, scale, scale);
  z.scale = cg_splat(c, scale, c->W);
  z.mask = cg_splat(c, cg_select(c, nan, cg_i32(c, 0), cg_i32(c, 15)), c->W);
  if (tt_node_qspec(k->x->g, k->x->n, TT_A_Q).rounding == TT_STOCHASTIC) {
    cg_val rng = cg_in(k, 1);
    cg_val seed = cg_load(c, c->i64, rng, 8), step = cg_load(c, c->i64, cg_addr(c, c->i64, rng, 1), 8);
    z.key = cg_rng_key(c, seed, step, cg_imm(k, TT_A_TENSOR));
  }
  cg_if first;
  cg_if_begin(c, &first, cg_icmp(c, LLVMIntEQ, k->task, cg_i64(c, 0)));
  cg_store(c, scale, cg_addr(c, c->i8, z.codes, (int64_t)tt_mx_scale_offset(cg_out_type(k->x, 0))), 4);
  cg_if_end(&first);
  return z;
}

/* Codes of x. To nearest: adding 1.5 * 2^23 rounds to whole numbers, ties to even, and leaves them in the low bits. */
static cg_val codes_of(const quantizer *z, cg_val bits, cg_val random) {
  cg_ctx *c = z->c;
  cg_val y = cg_min(c, cg_div(c, cg_bits(c, absolute(c, bits), c->vf), z->scale), cg_vf(c, 7)), n;
  if (z->key)
    n = cg_shr(c, cg_add(c, LLVMBuildFPToSI(c->b, cg_mul(c, y, cg_vf(c, 65536)), c->vi, ""), random), cg_vi(c, 16));
  else
    n = cg_and(c, cg_bits(c, cg_add(c, y, cg_vf(c, 0x1.8p23)), c->vi), cg_vi(c, 15));
  cg_val minus = cg_sra(c, bits, cg_vi(c, 31));
  return cg_and(c, cg_sub(c, cg_xor(c, n, minus), minus), z->mask);
}

/* 16-bit numbers of elements [v*W, v*W + W) of a block: two elements share a word, low half first. */
static cg_val row_random(const quantizer *z, cg_val block, int v) {
  cg_ctx *c = z->c;
  cg_val first = cg_add(c, truncate(c, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)), c->i32), cg_i32(c, v / 2 * c->W));
  cg_val words = cg_rng_words(c, z->key, cg_add(c, cg_splat(c, first, c->W), cg_iota(c, c->i32, c->W)));
  cg_val halves = cg_bits(c, words, cg_vec(c, c->i16, 2 * c->W)), lanes[64];
  for (int i = 0; i < c->W; i++) lanes[i] = cg_i32(c, v % 2 * c->W + i);
  cg_val some = LLVMBuildShuffleVector(c->b, halves, halves, LLVMConstVector(lanes, (unsigned)c->W), "");
  return LLVMBuildZExt(c->b, some, c->vi, "");
}

/* Neighbouring lanes become a byte, low nibble first. */
static void store_codes(cg_ctx *c, cg_val codes, cg_val to) {
  cg_val pairs = cg_bits(c, codes, cg_vec(c, c->i64, c->W / 2));
  pairs = cg_or(c, pairs, cg_shr(c, pairs, cg_splat(c, cg_i64(c, 28), c->W / 2)));
  cg_store(c, truncate(c, pairs, cg_vec(c, c->i8, c->W / 2)), to, 1);
}

/* Block number `block` of the output from the n (NULL: 32) elements from `x` on. */
static void quantize_block(const quantizer *z, cg_val x, cg_val block, cg_val n) {
  cg_ctx *c = z->c;
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  for (int v = 0; v < TT_MX_BLOCK / c->W; v++) {
    cg_val bits = load_bits(c, cg_addr(c, c->f32, x, v * c->W), n ? cg_sub(c, n, cg_i64(c, v * c->W)) : NULL);
    store_codes(c, codes_of(z, bits, z->key ? row_random(z, block, v) : NULL), cg_addr(c, c->i8, to, v * c->W / 2));
  }
}

static void quantize_rows(cg_kernel *k, int64_t rows, int64_t K, int64_t grain) {
  cg_ctx *c = k->c;
  quantizer z = open_quantizer(k, tt_mx_blocks(K));
  int64_t whole = K / TT_MX_BLOCK;
  cg_range r = cg_task_range(k, rows, grain);
  cg_loop row, b;
  cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
  cg_val x = cg_gep(c, c->f32, cg_in(k, 0), cg_mul(c, row.i, cg_i64(c, K))), block = cg_mul(c, row.i, cg_i64(c, z.nb));
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, whole), 1, 0, NULL);
  quantize_block(&z, cg_gep(c, c->f32, x, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))), cg_add(c, block, b.i), NULL);
  cg_loop_end(&b, NULL);
  if (whole < z.nb)
    quantize_block(&z, cg_addr(c, c->f32, x, whole * TT_MX_BLOCK), cg_add(c, block, cg_i64(c, whole)),
                   cg_i64(c, K % TT_MX_BLOCK));
  cg_loop_end(&row, NULL);
}

/* Codes of W columns and 32 rows on their way to W rows of the output: bytes(u, i) has rows 2i and 2i+1 in every lane. */
typedef struct turn {
  cg_ctx *c;
  int64_t nb;        /* blocks of an output row */
  cg_val codes;      /* the output */
  cg_val buffer;     /* [4][W] i32 on the stack */
  cg_val col, block; /* output row of lane 0, block in it */
  cg_val cols;       /* lanes that exist */
} turn;
typedef cg_val bytes_fn(const void *u, cg_val pair);

static void turn_block(const turn *t, bytes_fn *bytes, const void *u) {
  cg_ctx *c = t->c;
  cg_loop d, l;
  cg_loop_begin(c, &d, cg_i64(c, 0), cg_i64(c, 4), 1, 0, NULL);
  cg_val dword = NULL;
  for (int i = 0; i < 4; i++) {
    cg_val two = bytes(u, cg_add(c, cg_mul(c, d.i, cg_i64(c, 4)), cg_i64(c, i)));
    dword = i ? cg_or(c, dword, cg_shl(c, two, cg_vi(c, 8 * i))) : two;
  }
  cg_store(c, dword, cg_gep(c, c->vi, t->buffer, d.i), 4);
  cg_loop_end(&d, NULL);
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_min(c, t->cols, cg_i64(c, c->W)), 1, 0, NULL);
  cg_val block = cg_add(c, cg_mul(c, cg_add(c, t->col, l.i), cg_i64(c, t->nb)), t->block);
  cg_val to = cg_gep_bytes(c, t->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  cg_val from = cg_gep(c, c->i32, t->buffer, l.i);
  for (int i = 0; i < 4; i++)
    cg_store(c, cg_load(c, c->i32, cg_addr(c, c->i32, from, i * c->W), 4), cg_addr(c, c->i32, to, i), 4);
  cg_loop_end(&l, NULL);
}

/* Latent columns to quantize. */
typedef struct columns {
  const quantizer *z;
  cg_val x; /* element (0, 0) */
  int64_t stride;
  cg_val rows, cols; /* that exist; NULL: all */
  cg_val words;      /* counters of row pair 0 */
} columns;

static cg_val column_bytes(const void *u, cg_val pair) {
  const columns *t = u;
  cg_ctx *c = t->z->c;
  cg_val random[2] = {NULL, NULL}, codes[2];
  if (t->z->key) {
    cg_val h = cg_rng_words(c, t->z->key, cg_add(c, t->words, cg_splat(c, truncate(c, pair, c->i32), c->W)));
    random[0] = cg_and(c, h, cg_vi(c, 0xffff));
    random[1] = cg_shr(c, h, cg_vi(c, 16));
  }
  for (int h = 0; h < 2; h++) {
    cg_val i = cg_add(c, cg_mul(c, pair, cg_i64(c, 2)), cg_i64(c, h));
    cg_val p = cg_gep(c, c->f32, t->x, cg_mul(c, i, cg_i64(c, t->stride)));
    if (t->rows) p = cg_select(c, cg_icmp(c, LLVMIntSLT, i, t->rows), p, cg_zeros(c));
    codes[h] = codes_of(t->z, load_bits(c, p, t->cols), random[h]);
  }
  return cg_or(c, codes[0], cg_shl(c, codes[1], cg_vi(c, 4)));
}

/* x [rows, cols] -> int4 [cols, rows] */
static void quantize_columns(cg_kernel *k, int64_t rows, int64_t cols, int64_t grain) {
  cg_ctx *c = k->c;
  quantizer z = open_quantizer(k, tt_mx_blocks(rows));
  turn t = {.c = c, .nb = z.nb, .codes = z.codes, .buffer = cg_alloca(c, c->vi, 4, 64)};
  columns s = {.z = &z, .stride = cols};
  cg_val lanes = cg_mul(c, cg_iota(c, c->i32, c->W), cg_vi(c, (int32_t)(z.nb * (TT_MX_BLOCK / 2))));
  cg_range r = cg_task_range(k, z.nb, grain);
  cg_loop b, col;
  cg_loop_begin(c, &b, r.begin, r.end, 1, 0, NULL);
  cg_val row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  if (rows % TT_MX_BLOCK) s.rows = cg_sub(c, cg_i64(c, rows), row);
  cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, cols), c->W, 0, NULL);
  s.x = cg_gep(c, c->f32, cg_in(k, 0), cg_add(c, cg_mul(c, row, cg_i64(c, cols)), col.i));
  t.cols = cg_sub(c, cg_i64(c, cols), col.i);
  if (cols % c->W) s.cols = t.cols;
  t.col = col.i, t.block = b.i;
  cg_val first = cg_mul(c, cg_add(c, cg_mul(c, t.col, cg_i64(c, z.nb)), t.block), cg_i64(c, TT_MX_BLOCK / 2));
  s.words = cg_add(c, cg_splat(c, truncate(c, first, c->i32), c->W), lanes);
  turn_block(&t, column_bytes, &s);
  cg_loop_end(&col, NULL);
  cg_loop_end(&b, NULL);
}

/* Runs of 4 blocks of rows make 64 bytes of an output row, so that tasks do not share cache lines. */
static int64_t block_grain(int64_t nb, int64_t cols) { return cg_grain(nb, cols * TT_MX_BLOCK / 2, 4); }

bool cg_int4_quantize(cg_node *x) {
  const tt_type *t = cg_in_type(x, 0);
  bool across = tt_node_int(x->g, x->n, TT_A_TRANSPOSED) != 0;
  int64_t rows = tt_type_rows(t), cols = tt_type_last(t), n = across ? tt_mx_blocks(rows) : rows;
  int64_t grain = across ? block_grain(n, cols) : cg_grain(rows, cols / 3 + 1, 1);
  cg_int4_launch_max(x);
  cg_kernel *k = cg_kernel_begin(x, "codes");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    if (across)
      quantize_columns(k, rows, cols, grain);
    else
      quantize_rows(k, rows, cols, grain);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "codes", (n + grain - 1) / grain);
  return true;
}

/* Packed columns to turn: W elements from `first` on of a block of each row. */
typedef struct packed {
  cg_ctx *c;
  cg_val a; /* the block in row 0 */
  int64_t stride;
  cg_val rows; /* that exist */
  int first;
} packed;

static cg_val packed_bytes(const void *u, cg_val pair) {
  const packed *t = u;
  cg_ctx *c = t->c;
  cg_val codes[2];
  for (int h = 0; h < 2; h++) {
    cg_val i = cg_add(c, cg_mul(c, pair, cg_i64(c, 2)), cg_i64(c, h));
    cg_val p = cg_gep_bytes(c, t->a, cg_mul(c, i, cg_i64(c, t->stride)));
    p = cg_select(c, cg_icmp(c, LLVMIntSLT, i, t->rows), p, cg_zeros(c));
    codes[h] = cg_mx_unpack(c, cg_load(c, cg_vec(c, c->i8, 16), p, 1), t->first);
  }
  return cg_or(c, codes[0], cg_shl(c, codes[1], cg_vi(c, 4)));
}

cg_val cg_int4_scale_of(cg_kernel *k, int index) {
  cg_val at = cg_addr(k->c, k->c->i8, cg_in(k, index), (int64_t)tt_mx_scale_offset(cg_in_type(k->x, index)));
  return cg_load(k->c, k->c->f32, at, 4);
}

/* int4 [R,K] -> int4 [K,R] */
static void transpose(cg_kernel *k, const tt_type *from, int64_t grain) {
  cg_ctx *c = k->c;
  int64_t R = from->dim[0], K = from->dim[1], nb = tt_mx_blocks(K);
  turn t = {.c = c, .nb = tt_mx_blocks(R), .codes = cg_out(k, 0), .buffer = cg_alloca(c, c->vi, 4, 64)};
  packed s = {.c = c, .stride = nb * (TT_MX_BLOCK / 2)};
  cg_if first;
  cg_if_begin(c, &first, cg_icmp(c, LLVMIntEQ, k->task, cg_i64(c, 0)));
  cg_store(c, cg_int4_scale_of(k, 0), cg_addr(c, c->i8, t.codes, (int64_t)tt_mx_scale_offset(cg_out_type(k->x, 0))), 4);
  cg_if_end(&first);
  cg_range r = cg_task_range(k, t.nb, grain);
  cg_loop b, kb;
  cg_loop_begin(c, &b, r.begin, r.end, 1, 0, NULL);
  cg_val row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  s.rows = cg_sub(c, cg_i64(c, R), row);
  t.block = b.i;
  cg_loop_begin(c, &kb, cg_i64(c, 0), cg_i64(c, nb), 1, 0, NULL);
  s.a = cg_gep_bytes(c, cg_in(k, 0), cg_mul(c, cg_add(c, cg_mul(c, row, cg_i64(c, nb)), kb.i), cg_i64(c, TT_MX_BLOCK / 2)));
  for (s.first = 0; s.first < TT_MX_BLOCK; s.first += c->W) {
    t.col = cg_add(c, cg_mul(c, kb.i, cg_i64(c, TT_MX_BLOCK)), cg_i64(c, s.first));
    t.cols = cg_sub(c, cg_i64(c, K), t.col);
    turn_block(&t, packed_bytes, &s);
  }
  cg_loop_end(&kb, NULL);
  cg_loop_end(&b, NULL);
}

bool cg_int4_requantize(cg_node *x) {
  const tt_type *from = cg_in_type(x, 0);
  int64_t nb = tt_mx_blocks(from->dim[0]), grain = block_grain(nb, from->dim[1]);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    transpose(k, from, grain);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (nb + grain - 1) / grain);
  return true;
}

/* Signed numbers of W codes of the block at p, from element `first` on. */
static cg_val signed_codes(cg_ctx *c, cg_val p, int first) {
  cg_val codes = cg_mx_unpack(c, cg_load(c, cg_vec(c, c->i8, 16), p, 1), first);
  return cg_sub(c, cg_xor(c, codes, cg_vi(c, 8)), cg_vi(c, 8));
}

bool cg_int4_dequantize(cg_node *x) {
  const tt_type *from = cg_in_type(x, 0);
  int64_t R = from->dim[0], K = from->dim[1], nb = tt_mx_blocks(K), grain = cg_grain(R, K / 3 + 1, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val saved = c->target->denormals_keep(c), scale = cg_splat(c, cg_int4_scale_of(k, 0), c->W);
    cg_range r = cg_task_range(k, R, grain);
    cg_loop row, b;
    cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
    cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, nb), 1, 0, NULL);
    cg_val block = cg_add(c, cg_mul(c, row.i, cg_i64(c, nb)), b.i);
    cg_val p = cg_gep_bytes(c, cg_in(k, 0), cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
    for (int i = 0; i < TT_MX_BLOCK; i += c->W) {
      cg_val col = cg_add(c, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK)), cg_i64(c, i));
      cg_val to = cg_gep(c, c->f32, cg_out(k, 0), cg_add(c, cg_mul(c, row.i, cg_i64(c, K)), col));
      cg_val value = cg_mul(c, LLVMBuildSIToFP(c->b, signed_codes(c, p, i), c->vf, ""), scale);
      cg_val left = K % TT_MX_BLOCK ? cg_max(c, cg_sub(c, cg_i64(c, K), col), cg_i64(c, 0)) : NULL;
      cg_store_n(c, value, to, left);
    }
    cg_loop_end(&b, NULL);
    cg_loop_end(&row, NULL);
    c->target->denormals_restore(c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (R + grain - 1) / grain);
  return true;
}

enum { RUN = 128 }; /* rows that a task of colsum adds */

/* Sums of rows [r.begin, r.end) of all columns, [nb * 32] i32 at `to`. */
static void sum_rows(cg_kernel *k, int64_t nb, cg_range r, cg_val to) {
  cg_ctx *c = k->c;
  int count = TT_MX_BLOCK / c->W;
  cg_val acc[16];
  cg_loop b, row;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, nb), 1, 0, NULL);
  for (int v = 0; v < count; v++) acc[v] = cg_vi(c, 0);
  cg_loop_begin(c, &row, r.begin, r.end, 1, count, acc);
  cg_val block = cg_add(c, cg_mul(c, row.i, cg_i64(c, nb)), b.i);
  cg_val p = cg_gep_bytes(c, cg_in(k, 0), cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  for (int v = 0; v < count; v++) acc[v] = cg_add(c, row.carry[v], signed_codes(c, p, v * c->W));
  cg_loop_end(&row, acc);
  cg_val at = cg_gep(c, c->i32, to, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK)));
  for (int v = 0; v < count; v++) cg_store(c, row.carry[v], cg_addr(c, c->i32, at, v * c->W), 4);
  cg_loop_end(&b, NULL);
}

/* Whole numbers add up the same in any order; one multiplication at the end rounds. */
bool cg_int4_colsum(cg_node *x) {
  const tt_type *type = cg_in_type(x, 0);
  int64_t K = type->dim[1], nb = tt_mx_blocks(K), width = nb * TT_MX_BLOCK, runs = (type->dim[0] + RUN - 1) / RUN;
  const uint64_t bytes = (uint64_t)(runs * width) * 4;
  cg_kernel *k = cg_kernel_begin(x, "runs");
  if (k) {
    cg_val to = cg_gep(k->c, k->c->i32, cg_work(k, 0, bytes), cg_mul(k->c, k->task, cg_i64(k->c, width)));
    sum_rows(k, nb, cg_task_range(k, type->dim[0], RUN), to);
    cg_kernel_end(k);
  }
  cg_launch(x, "runs", runs);
  k = cg_kernel_begin(x, "sum");
  if (k) {
    cg_ctx *c = k->c;
    cg_val saved = c->target->denormals_keep(c), work = cg_work(k, 0, bytes), scale = cg_splat(c, cg_int4_scale_of(k, 0), c->W);
    cg_loop col, run;
    cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, K), c->W, 0, NULL);
    cg_loop_begin(c, &run, cg_i64(c, 0), cg_i64(c, runs), 1, 1, (cg_val[]){cg_vi(c, 0)});
    cg_val at = cg_gep(c, c->i32, work, cg_add(c, cg_mul(c, run.i, cg_i64(c, width)), col.i));
    cg_val sum = cg_add(c, run.carry[0], cg_load(c, c->vi, at, 4));
    cg_loop_end(&run, &sum);
    cg_val value = cg_mul(c, LLVMBuildSIToFP(c->b, run.carry[0], c->vf, ""), scale);
    cg_store_n(c, value, cg_gep(c, c->f32, cg_out(k, 0), col.i), cg_sub(c, cg_i64(c, K), col.i));
    cg_loop_end(&col, NULL);
    c->target->denormals_restore(c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "sum", 1);
  return true;
}
