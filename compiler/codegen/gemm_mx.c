/* Exact products of MX blocks in the order of NUMERICS 5.
 *
 * Both operands are decoded from 4 bits into L1/L2 scratch as integers, code values times 2 (E2M1) or 4 (E3M0), which a
 * 4-way u8 x s8 dot product multiplies:
 *   A  u8, offset by the format's largest code so that it is unsigned    [row][block][32]   (s8, no offset on Arm)
 *   B  s8, in panels of nr columns                                       [block][8][nr][4]
 * The order of the 32 elements inside a block is free as long as both sides agree; a packed byte holds elements 2j and
 * 2j+1, so the low nibbles of a block's 16 bytes come first, then the high ones: no nibble is ever moved.
 *
 * Magic exponents: integer accumulators start at bits(1.5 * 2^23 * 2^eB) - offset * sum(b); after the dot
 * product of a block their bits, read as float32, are 2^eB * (1.5 * 2^23 + dot), from which one subtraction leaves
 * 2^eB * dot exactly. The scale of A, which also takes the factor of the doubled codes, multiplies that: the first block
 * of a pair by a product, exact, the second by an FMA, which is the one rounding of the pair's sum. That holds while no
 * product is subnormal or overflows and all constants are normal; each tile checks the ranges of scales of its rows
 * and its panel and otherwise runs the same sums in double. Scales of blocks whose elements are all zero take no part.
 *
 * Shared scales: integers up to 12 leave room in 8 bits, so where the two scales of a pair differ by little the codes of
 * the larger one are shifted up as they are decoded, and both blocks take the smaller one. Where that holds for a whole
 * tile, one integer sum runs over the pair's 64 elements and is the exact sum of its two products, which one FMA rounds
 * into the float sums: the same bits with half the float arithmetic. A pair that does not qualify anywhere in a tile costs
 * that tile the two-step way for this pair alone. |dot| of a pair stays below 2^22: 64 * 96 * 96. */
#include "compiler/codegen/gemm_mx.h"
#include <stdio.h>
#include "compiler/ir/mx.h"

enum { SCALE_NAN = 255 };
/* fast where min A, min B, max A, max B of the raw scales satisfy these; see ranges_ok */
enum { MIN_B = 1, MAX_B = 127 + 104, MAX_EXPONENT = 127 - 20 };

/* log2 of the factor that makes a format's codes integers. */
static int format_bits(uint8_t format) { return format == TT_E2M1 ? 1 : 2; }
int cg_mx_code_bits(const cg_mx_shape *s) { return format_bits(s->fa) + format_bits(s->fb); }
int cg_mx_integer(uint8_t format, int code) {
  return (int)(tt_mx_code_value((tt_format)format, (unsigned)code) * (float)(1 << format_bits(format)));
}
int cg_mx_shift_a(const cg_mx_shape *s) { return s->fa == TT_E2M1 ? s->room_a : 0; }
int cg_mx_shift_b(const cg_mx_shape *s) { return s->fb == TT_E2M1 ? s->room_b : 0; }

/* Whether the largest sum of a block's products, halved as pairs are added, stays within 16 bits. */
static bool fits_narrow(const cg_mx_shape *s) {
  int a = cg_mx_integer(s->fa, 7) << cg_mx_shift_a(s), b = cg_mx_integer(s->fb, 7) << cg_mx_shift_b(s);
  return (a + s->offset) * b * TT_MX_BLOCK / 2 <= INT16_MAX;
}

/* Whether all chunks have as many pairs. */
static bool equal_chunks(const cg_mx_shape *s) {
  int64_t whole = s->chunk / 2;
  for (int64_t b = 0; b < s->nb; b += CG_MX_SEGMENT) {
    int64_t n = s->nb - b < CG_MX_SEGMENT ? s->nb - b : CG_MX_SEGMENT, rest = (n + s->chunk - 1) % s->chunk + 1;
    if ((rest + 1) / 2 != whole) return false;
  }
  return true;
}

/* Shifts leave room in 8 bits, or in 16 for a whole block's sum where the machine saves by that. */
cg_mx_shape cg_mx_shape_of(const cg_ctx *c, int64_t nb, int64_t chunk, int64_t rows, uint8_t fa, uint8_t fb) {
  int mr = c->target->mx_rows;
  int64_t whole = c->target->tiles ? CG_MX_TALL : mr;
  rows = (rows + whole - 1) / whole * whole;
  cg_mx_shape s = {
      .nb = nb, .chunk = chunk, .rows = rows, .mr = mr, .nr = c->target->mx_vectors * c->W, .fa = fa, .fb = fb};
  s.room_a = c->target->dot_narrow ? 1 : 3;
  s.room_b = c->target->dot_narrow ? 1 : 3;
  s.offset = c->target->dot_signed ? 0 : cg_mx_integer(fa, 7) << cg_mx_shift_a(&s);
  s.narrow = c->target->dot_narrow && fits_narrow(&s);
  s.once = chunk >= nb, s.equal = equal_chunks(&s);
  return s;
}

static int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

cg_mx_layout cg_mx_layout_of(const cg_ctx *c, const cg_mx_shape *s) {
  cg_mx_layout l = {.scale_stride = s->chunk + c->W};
  int64_t at = 0, room = c->W / 4 > 2 ? s->chunk + 2 : s->chunk; /* a vector of B may hold two blocks too many */
  l.b_codes = at, at += room * TT_MX_BLOCK * s->nr;
  l.b_init = at, at += room * s->nr * 8;
  l.b_pair = at, at += room / 2 * s->nr * 4;
  l.b_raw = at, at += room * s->nr * 4;
  l.b_range = at, at += CG_MX_RANGE_SIZE * 4;
  l.b_bytes = lines(at);
  at = 0;
  l.a_codes = at, at += s->rows * s->chunk * TT_MX_BLOCK + 128;
  l.a_scales = at + 4 * c->W, at += s->rows * l.scale_stride * 4 + 8 * c->W;
  l.a_raw = at + 4 * c->W, at += s->rows * l.scale_stride * 4 + 8 * c->W;
  l.a_shift = at, at += l.scale_stride * 4;
  l.a_range = lines(at), at = l.a_range + s->rows / s->mr * CG_MX_RANGE_SIZE * 4;
  l.a_pair_scales = lines(at), at = l.a_pair_scales;
  at += c->target->tiles ? (s->rows * (s->chunk / 2) + CG_MX_SIDE * c->W) * 4 : 0;
  l.a_bytes = lines(at);
  at = 0;
  l.sums = at, at += (int64_t)s->mr * s->nr * 8; /* and the first products of a pair */
  at = lines(at);
  l.tall_sums = at, at += c->target->tiles ? CG_MX_TALL * s->nr * 4 : 0;
  l.tall_dots = at, at += c->target->tiles ? 2 * CG_MX_TALL * s->nr * 4 : 0;
  l.bytes = lines(at);
  return l;
}

static cg_val at_byte(cg_ctx *c, cg_val base, int64_t offset) { return cg_addr(c, c->i8, base, offset); }

void cg_mx_name(char *name, size_t n, const char *what, const cg_mx_shape *s) {
  const char *chunks = s->once ? "o" : s->equal ? "e" : "";
  snprintf(name, n, "cg.mx.%s.%lld_%lld_%d%d%s%s", what, (long long)s->chunk, (long long)s->rows, s->fa, s->fb, chunks,
           s->stream ? "s" : "");
}

enum { T_BLOCKS, T_A, T_B, T_WORK, T_OUT, T_OUT_RS, T_SRC, T_SRC_RS, T_BIAS, T_ROWS, T_COLS, T_COUNT };

/* A tile under way: where its operands and its float sums are, and what remains of the product at its place. */
typedef struct tile {
  cg_ctx *c;
  const cg_shared *f;
  const cg_mx_shape *s;
  cg_mx_layout l;
  cg_val a_base, sums, range, range_b, a, a_scales, a_raw, b, b_init, b_pair, b_raw;
  cg_val out, src, rows;
} tile;

/* Row i of the tile's sums from src to scratch, or from scratch plus bias to out; `cols` NULL: the panel is whole. */
static void move_row(tile *t, bool in, cg_val i, cg_val cols) {
  cg_ctx *c = t->c;
  cg_val at = cg_gep(c, c->f32, t->sums, cg_mul(c, i, cg_i64(c, t->s->nr)));
  cg_val far = cg_gep(c, c->f32, in ? t->src : t->out, cg_mul(c, i, cg_shared_arg(t->f, in ? T_SRC_RS : T_OUT_RS)));
  for (int v = 0; v < t->s->nr; v += c->W) {
    cg_val left = cols ? cg_sub(c, cols, cg_i64(c, v)) : NULL;
    cg_val near = cg_addr(c, c->f32, at, v), there = cg_addr(c, c->f32, far, v);
    if (in) {
      if (!cols)
        cg_prefetch_write(c,
                          cg_gep(c, c->f32, t->out, cg_add(c, cg_mul(c, i, cg_shared_arg(t->f, T_OUT_RS)), cg_i64(c, v))));
      cg_store(c, cg_load_n(c, there, left, cg_vf(c, 0)), near, 4);
      continue;
    }
    cg_val bias = cg_load_n(c, cg_addr(c, c->f32, cg_shared_arg(t->f, T_BIAS), v), left, cg_vf(c, 0));
    cg_store_n(c, cg_add(c, cg_load(c, c->vf, near, 4), bias), there, left);
  }
}

/* Rows and columns past the end stay out. */
static void move_sums(tile *t, bool in, cg_val whole) {
  cg_ctx *c = t->c;
  cg_if f;
  cg_loop row;
  cg_if_begin(c, &f, whole);
  for (int i = 0; i < t->s->mr; i++) move_row(t, in, cg_i64(c, i), NULL);
  cg_if_else(&f);
  cg_loop_begin(c, &row, cg_i64(c, 0), t->rows, 1, 0, NULL);
  move_row(t, in, row.i, cg_shared_arg(t->f, T_COLS));
  cg_loop_end(&row, NULL);
  cg_if_end(&f);
}

typedef cg_val dot_fn(cg_ctx *c, cg_val acc, cg_val a, cg_val b);

/* Integer dot products of the tile's rows with `blocks` blocks of the panel from `k` on, added to acc[i*nv+v]. A loop over
 * half blocks rather than one straight run: the scheduler would mix the blocks of a pair and spill accumulators. With 16
 * registers, of which accumulators take 12, it may not even see two steps of four elements together. */
static void add_dots(tile *t, cg_val k, int blocks, dot_fn *dot, cg_val *acc) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W, n = t->s->mr * nv, groups = c->target->vector_regs < 32 ? 1 : 4;
  cg_val a0 = cg_gep_bytes(c, t->a, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK)));
  cg_val b0 = cg_gep_bytes(c, t->b, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK * t->s->nr)));
  cg_loop half;
  cg_loop_begin(c, &half, cg_i64(c, 0), cg_i64(c, blocks * TT_MX_BLOCK / 4), groups, n, acc);
  cg_val a = cg_gep(c, c->i32, a0, half.i), b = cg_gep(c, c->i32, b0, cg_mul(c, half.i, cg_i64(c, t->s->nr)));
  for (int i = 0; i < n; i++) acc[i] = half.carry[i];
  for (int g = 0; g < groups; g++) {
    cg_val bv[4];
    for (int v = 0; v < nv; v++) bv[v] = cg_load(c, c->vi, cg_addr(c, c->i32, b, g * t->s->nr + v * c->W), 4);
    for (int i = 0; i < t->s->mr; i++) {
      cg_val av = cg_splat(c, cg_load(c, c->i32, at_byte(c, a, i * t->s->chunk * TT_MX_BLOCK + g * 4), 4), c->W);
      for (int v = 0; v < nv; v++) acc[i * nv + v] = dot(c, acc[i * nv + v], av, bv[v]);
    }
  }
  cg_loop_end(&half, acc);
  for (int i = 0; i < n; i++) acc[i] = half.carry[i];
}

/* The same in 16 bits, which hold one block: what it adds up to is widened onto `init`, or onto what the block before has
 * left in memory. */
static void narrow_dots(tile *t, cg_val k, int blocks, cg_val init, cg_val *acc) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W, n = t->s->mr * nv;
  cg_type halves = cg_vec(c, c->i16, 2 * c->W);
  for (int b = 0; b < blocks; b++) {
    cg_val part[64], rest = cg_opaque(c, cg_addr(c, c->vf, t->sums, n));
    for (int i = 0; i < n; i++) part[i] = LLVMConstNull(halves);
    add_dots(t, cg_add(c, k, cg_i64(c, b)), 1, c->target->dot_narrow, part);
    for (int i = 0; i < n; i++) {
      cg_val before = b ? cg_addr(c, c->vi, rest, i) : cg_addr(c, c->i32, init, i % nv * c->W);
      acc[i] = c->target->dot_widen(c, cg_load(c, c->vi, before, 4), part[i]);
      if (b + 1 < blocks) cg_store(c, acc[i], cg_addr(c, c->vi, rest, i), 64);
    }
  }
}

/* Pairs of lanes: pair h of x, then pair h of y; and lane by lane x's and y's of their pairs h. */
static cg_val pairs_of(cg_ctx *c, cg_val x, cg_val y, int h) {
  cg_val lanes[4] = {cg_i32(c, 2 * h), cg_i32(c, 2 * h + 1), cg_i32(c, 4 + 2 * h), cg_i32(c, 5 + 2 * h)};
  return LLVMBuildShuffleVector(c->b, x, y, LLVMConstVector(lanes, 4), "");
}
static cg_val zipped(cg_ctx *c, cg_val x, cg_val y, int h) {
  cg_val lanes[4] = {cg_i32(c, 2 * h), cg_i32(c, 4 + 2 * h), cg_i32(c, 2 * h + 1), cg_i32(c, 5 + 2 * h)};
  return LLVMBuildShuffleVector(c->b, x, y, LLVMConstVector(lanes, 4), "");
}

/* Eight bytes at p of each of two rows. */
static cg_val two_rows(cg_ctx *c, cg_val p, int64_t stride) {
  cg_val both = LLVMGetPoison(cg_vec(c, c->i64, 2));
  for (int i = 0; i < 2; i++)
    both = LLVMBuildInsertElement(c->b, both, cg_load(c, c->i64, at_byte(c, p, i * stride), 4), cg_i32(c, i), "");
  return both;
}

/* sum[(i/2)*2nv + j] of rows i, i+1 and columns 2j, 2j+1 += eight elements from `group` (of four) on, of rows at `a` and of
 * the panel at `b`, which has them four by four. */
static void square_step(tile *t, cg_val a, cg_val b, int group, cg_val *sum) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W;
  int64_t row = t->s->chunk * TT_MX_BLOCK;
  cg_val rows[4];
  for (int p = 0; p < t->s->mr / 2; p++) rows[p] = two_rows(c, at_byte(c, a, 2 * p * row + group * 4), row);
  for (int j = 0; j < 2 * nv; j++) {
    cg_val at = cg_addr(c, c->i32, b, group * t->s->nr + j / 2 * c->W), next = cg_addr(c, c->i32, at, t->s->nr);
    cg_val columns = zipped(c, cg_load(c, c->vi, at, 4), cg_load(c, c->vi, next, 4), j % 2);
    for (int p = 0; p < t->s->mr / 2; p++)
      sum[p * 2 * nv + j] = c->target->dot_square(c, sum[p * 2 * nv + j], rows[p], columns);
  }
}

/* Dot products by squares of two rows and two columns, which are taken apart at the end. */
static void square_dots(tile *t, cg_val k, int blocks, cg_val init, cg_val *acc) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W, n = t->s->mr * nv;
  cg_val sum[64], a0 = cg_gep_bytes(c, t->a, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK)));
  cg_val b0 = cg_gep_bytes(c, t->b, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK * t->s->nr)));
  TT_ASSERT(c->W == 4 && t->s->mr % 2 == 0 && t->s->mr <= 8 && n <= 64);
  for (int j = 0; j < n; j++) {
    cg_val from = cg_load(c, c->vi, cg_addr(c, c->i32, init, j % (2 * nv) / 2 * c->W), 4);
    sum[j] = pairs_of(c, from, from, j % 2);
  }
  cg_loop half;
  cg_loop_begin(c, &half, cg_i64(c, 0), cg_i64(c, blocks * TT_MX_BLOCK / 4), 4, n, sum);
  cg_val a = cg_gep(c, c->i32, a0, half.i), b = cg_gep(c, c->i32, b0, cg_mul(c, half.i, cg_i64(c, t->s->nr)));
  for (int j = 0; j < n; j++) sum[j] = half.carry[j];
  for (int g = 0; g < 4; g += 2) square_step(t, a, b, g, sum);
  cg_loop_end(&half, sum);
  for (int i = 0; i < t->s->mr; i++)
    for (int v = 0; v < nv; v++) {
      const cg_val *square = &half.carry[i / 2 * 2 * nv + 2 * v];
      acc[i * nv + v] = pairs_of(c, square[0], square[1], i % 2);
    }
}

/* acc = dot products started from `init`, as vi. */
static void block_dots(tile *t, cg_val k, int blocks, cg_val init, cg_val *acc) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W, n = t->s->mr * nv;
  if (t->s->narrow) {
    narrow_dots(t, k, blocks, init, acc);
    return;
  }
  if (c->target->dot_square) {
    square_dots(t, k, blocks, init, acc);
    return;
  }
  for (int i = 0; i < n; i++) acc[i] = cg_load(c, c->vi, cg_addr(c, c->i32, init, i % nv * c->W), 4);
  add_dots(t, k, blocks, c->target->dot_u8s8, acc);
}

/* Where the accumulators of block k start, and behind that the magic numbers; of a pair that begins with block k. */
static cg_val block_init(const tile *t, cg_val k) {
  return cg_gep(t->c, t->c->i32, t->b_init, cg_mul(t->c, k, cg_i64(t->c, 2 * t->s->nr)));
}
static cg_val pair_init(const tile *t, cg_val k) {
  return cg_gep(t->c, t->c->i32, t->b_pair, cg_mul(t->c, cg_shr(t->c, k, cg_i64(t->c, 1)), cg_i64(t->c, t->s->nr)));
}

/* 2^eB * dot for sum i of the tile, exact; eB of block `k`. */
static cg_val exact_product(tile *t, cg_val k, cg_val acc, int v) {
  cg_ctx *c = t->c;
  cg_val magic = cg_addr(c, c->f32, block_init(t, k), t->s->nr);
  return cg_sub(c, cg_bits(c, acc, c->vf), cg_load(c, c->vf, cg_addr(c, c->f32, magic, v * c->W), 4));
}

static cg_val a_scale(tile *t, cg_val k, int row) {
  cg_ctx *c = t->c;
  cg_val at = cg_addr(c, c->f32, cg_gep(c, c->f32, t->a_scales, k), row * t->l.scale_stride);
  return cg_splat(c, cg_load(c, c->f32, at, 4), c->W);
}

/* The pair of blocks k, k + 1, each by itself. */
static void split_pair(tile *t, cg_val k, cg_val sums) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W, n = t->s->mr * nv;
  cg_val acc[64], first = cg_opaque(c, cg_addr(c, c->vf, sums, n));
  block_dots(t, k, 1, block_init(t, k), acc);
  for (int i = 0; i < n; i++)
    cg_store(c, cg_mul(c, exact_product(t, k, acc[i], i % nv), a_scale(t, k, i / nv)), cg_addr(c, c->vf, first, i), 64);
  k = cg_add(c, k, cg_i64(c, 1));
  block_dots(t, k, 1, block_init(t, k), acc);
  sums = cg_opaque(c, sums);
  for (int i = 0; i < n; i++) {
    cg_val at = cg_addr(c, c->vf, sums, i), first_product = cg_load(c, c->vf, cg_addr(c, c->vf, sums, n + i), 64);
    cg_val both = cg_fma(c, exact_product(t, k, acc[i], i % nv), a_scale(t, k, i / nv), first_product);
    cg_store(c, cg_add(c, cg_load(c, c->vf, at, 64), both), at, 64);
  }
}

/* The same where both blocks have one scale in every row and column. */
static void shared_pair(tile *t, cg_val k, cg_val sums) {
  cg_ctx *c = t->c;
  int nv = (int)t->s->nr / c->W, n = t->s->mr * nv;
  cg_val acc[64];
  block_dots(t, k, 2, pair_init(t, k), acc);
  sums = cg_opaque(c, sums);
  for (int i = 0; i < n; i++) {
    cg_val at = cg_addr(c, c->vf, sums, i), old = cg_load(c, c->vf, at, 64);
    cg_store(c, cg_fma(c, exact_product(t, k, acc[i], i % nv), a_scale(t, k, i / nv), old), at, 64);
  }
}

static cg_val range_field(tile *t, cg_val range, int field) {
  return cg_load(t->c, t->c->i32, cg_addr(t->c, t->c->i32, range, field), 4);
}

static void fast_pairs(tile *t) {
  cg_ctx *c = t->c;
  cg_val unequal = cg_or(c, range_field(t, t->range, CG_MX_RANGE_UNEQUAL), range_field(t, t->range_b, CG_MX_RANGE_UNEQUAL));
  cg_loop pair;
  cg_loop_begin(c, &pair, cg_i64(c, 0), cg_shared_arg(t->f, T_BLOCKS), 2, 1, &unequal);
  cg_val next = cg_shr(c, pair.carry[0], cg_i32(c, 2));
  cg_if way;
  cg_if_begin(c, &way, cg_icmp(c, LLVMIntEQ, cg_and(c, pair.carry[0], cg_i32(c, 1)), cg_i32(c, 0)));
  shared_pair(t, pair.i, t->sums);
  cg_if_else(&way);
  split_pair(t, pair.i, t->sums);
  cg_if_end(&way);
  cg_loop_end(&pair, &next);
}

static cg_val vd_const(cg_ctx *c, double x) { return cg_splat(c, LLVMConstReal(c->f64, x), c->W); }
static cg_val vl_const(cg_ctx *c, int64_t x) { return cg_splat(c, cg_i64(c, x), c->W); }

/* Block k of row i, as W doubles: dot * 2^(sa + sb - 254 - bits), exact; NaN where a scale is NaN. */
static cg_val exact_block(tile *t, cg_val i, cg_val k, cg_val col) {
  cg_ctx *c = t->c;
  cg_type vd = cg_vec(c, c->f64, c->W), vl = cg_vec(c, c->i64, c->W);
  cg_val column = cg_gep(c, c->i32, t->b_init, cg_add(c, cg_mul(c, k, cg_i64(c, 2 * t->s->nr)), col));
  cg_val acc = cg_load(c, c->vi, column, 4), magic = cg_load(c, c->vi, cg_addr(c, c->i32, column, t->s->nr), 4);
  cg_val a = cg_gep_bytes(c, t->a, cg_mul(c, cg_add(c, cg_mul(c, i, cg_i64(c, t->s->chunk)), k), cg_i64(c, TT_MX_BLOCK)));
  cg_val b = cg_gep(c, c->i32, t->b, cg_add(c, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK / 4 * t->s->nr)), col));
  for (int g = 0; g < 8; g++)
    acc = c->target->dot_u8s8(c, acc, cg_splat(c, cg_load(c, c->i32, at_byte(c, a, g * 4), 4), c->W),
                              cg_load(c, c->vi, cg_addr(c, c->i32, b, g * t->s->nr), 4));
  cg_val dot = LLVMBuildSIToFP(c->b, cg_sub(c, acc, magic), vd, "");
  cg_val sb = cg_load(c, c->vi, cg_gep(c, c->i32, t->b_raw, cg_add(c, cg_mul(c, k, cg_i64(c, t->s->nr)), col)), 4);
  cg_val sa = cg_load(c, c->i32, cg_gep(c, c->i32, t->a_raw, cg_add(c, cg_mul(c, i, cg_i64(c, t->l.scale_stride)), k)), 4);
  sa = cg_splat(c, sa, c->W);
  cg_val nan = cg_or(c, cg_icmp(c, LLVMIntEQ, sa, cg_vi(c, SCALE_NAN)), cg_icmp(c, LLVMIntEQ, sb, cg_vi(c, SCALE_NAN)));
  int bias = 1023 - 254 - cg_mx_code_bits(t->s);
  cg_val exponent = LLVMBuildZExt(c->b, cg_add(c, cg_add(c, sa, sb), cg_vi(c, bias)), vl, "");
  cg_val scale = cg_bits(c, cg_shl(c, exponent, vl_const(c, 52)), vd);
  return cg_select(c, nan, cg_bits(c, vl_const(c, 0x7ff8000000000000), vd), cg_mul(c, dot, scale));
}

/* x + y of doubles rounded once to float32: an inexact double sum is first rounded to odd, after which rounding it again
 * is correct (Boldo and Melquiond 2008). */
static cg_val add_once(cg_ctx *c, cg_val x, cg_val y) {
  cg_type vl = cg_vec(c, c->i64, c->W);
  cg_val sum = cg_add(c, x, y), part = cg_sub(c, sum, x);
  cg_val error = cg_add(c, cg_sub(c, x, cg_sub(c, sum, part)), cg_sub(c, y, part)), zero = vd_const(c, 0);
  cg_val bits = cg_bits(c, sum, vl);
  cg_val is_even = cg_icmp(c, LLVMIntEQ, cg_and(c, bits, vl_const(c, 1)), vl_const(c, 0));
  cg_val fix = cg_and(c, is_even, cg_fcmp(c, LLVMRealONE, error, zero));
  cg_val away = cg_icmp(c, LLVMIntEQ, cg_fcmp(c, LLVMRealOGT, error, zero), cg_fcmp(c, LLVMRealOGT, sum, zero));
  cg_val odd = cg_add(c, bits, cg_select(c, away, vl_const(c, 1), vl_const(c, -1)));
  return LLVMBuildFPTrunc(c->b, cg_bits(c, cg_select(c, fix, odd, bits), LLVMTypeOf(sum)), c->vf, "");
}

static void exact_pairs(tile *t) {
  cg_ctx *c = t->c;
  cg_loop row, col, pair;
  cg_loop_begin(c, &row, cg_i64(c, 0), t->rows, 1, 0, NULL);
  cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, t->s->nr), c->W, 0, NULL);
  cg_val at = cg_gep(c, c->f32, t->sums, cg_add(c, cg_mul(c, row.i, cg_i64(c, t->s->nr)), col.i));
  cg_val sum = cg_load(c, c->vf, at, 4);
  cg_loop_begin(c, &pair, cg_i64(c, 0), cg_shared_arg(t->f, T_BLOCKS), 2, 1, &sum);
  cg_val x = exact_block(t, row.i, pair.i, col.i), y = exact_block(t, row.i, cg_add(c, pair.i, cg_i64(c, 1)), col.i);
  sum = cg_add(c, pair.carry[0], add_once(c, x, y));
  cg_loop_end(&pair, &sum);
  cg_store(c, pair.carry[0], at, 4);
  cg_loop_end(&col, NULL);
  cg_loop_end(&row, NULL);
}

/* Scales of the tile's rows and the panel's columns together:
 * min A: its scale 2^(sa - 127 - bits) is normal. min A + min B: no product is subnormal. max A + max B: none overflows,
 * nor does a sum of two; which also keeps NaN (255) out together with the bounds on each. */
static cg_val ranges_ok(tile *t, cg_val min_a, cg_val max_a) {
  cg_ctx *c = t->c;
  int bits = cg_mx_code_bits(t->s);
  cg_val min_b = range_field(t, t->range_b, CG_MX_RANGE_MIN), max_b = range_field(t, t->range_b, CG_MX_RANGE_MAX);
  cg_val ok = cg_icmp(c, LLVMIntSGT, min_a, cg_i32(c, bits));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSGE, min_b, cg_i32(c, MIN_B)));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSGE, cg_add(c, min_a, min_b), cg_i32(c, 254 - 126 + bits)));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSLT, max_a, cg_i32(c, SCALE_NAN)));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSLE, max_b, cg_i32(c, MAX_B)));
  return cg_and(c, ok, cg_icmp(c, LLVMIntSLE, cg_add(c, max_a, max_b), cg_i32(c, 254 + MAX_EXPONENT)));
}

/* Places the tile at row `row` (i64). */
static void place(tile *t, cg_val row) {
  cg_ctx *c = t->c;
  cg_val scales = cg_mul(c, row, cg_i64(c, t->l.scale_stride));
  t->a = cg_gep_bytes(c, at_byte(c, t->a_base, t->l.a_codes), cg_mul(c, row, cg_i64(c, t->s->chunk * TT_MX_BLOCK)));
  t->a_scales = cg_gep(c, c->f32, at_byte(c, t->a_base, t->l.a_scales), scales);
  t->a_raw = cg_gep(c, c->i32, at_byte(c, t->a_base, t->l.a_raw), scales);
  cg_val tile_index = cg_div(c, row, cg_i64(c, t->s->mr));
  t->range = cg_gep(c, c->i32, at_byte(c, t->a_base, t->l.a_range), cg_mul(c, tile_index, cg_i64(c, CG_MX_RANGE_SIZE)));
  t->out = cg_gep(c, c->f32, cg_shared_arg(t->f, T_OUT), cg_mul(c, row, cg_shared_arg(t->f, T_OUT_RS)));
  t->src = cg_gep(c, c->f32, cg_shared_arg(t->f, T_SRC), cg_mul(c, row, cg_shared_arg(t->f, T_SRC_RS)));
  t->rows = cg_min(c, cg_i64(c, t->s->mr), cg_sub(c, cg_shared_arg(t->f, T_ROWS), row));
}

/* Rows [begin, end) of the panel. */
static void rows_between(tile *t, cg_val begin, cg_val end) {
  cg_ctx *c = t->c;
  cg_val all_cols = cg_icmp(c, LLVMIntEQ, cg_shared_arg(t->f, T_COLS), cg_i64(c, t->s->nr));
  cg_loop row;
  cg_loop_begin(c, &row, begin, end, t->s->mr, 0, NULL);
  place(t, row.i);
  cg_val whole = cg_and(c, all_cols, cg_icmp(c, LLVMIntEQ, t->rows, cg_i64(c, t->s->mr)));
  move_sums(t, true, whole);
  cg_if way;
  cg_if_begin(c, &way, ranges_ok(t, range_field(t, t->range, CG_MX_RANGE_MIN), range_field(t, t->range, CG_MX_RANGE_MAX)));
  fast_pairs(t);
  cg_if_else(&way);
  exact_pairs(t);
  cg_if_end(&way);
  move_sums(t, false, whole);
  cg_loop_end(&row, NULL);
}

/* Ranges of the tiles of rows [begin, end) in one. */
static void joint_range(tile *t, cg_val begin, cg_val end, cg_val *range) {
  cg_ctx *c = t->c;
  cg_val of_b = range_field(t, t->range_b, CG_MX_RANGE_UNEQUAL);
  cg_loop row;
  cg_loop_begin(c, &row, begin, end, t->s->mr, 3, (cg_val[]){cg_i32(c, SCALE_NAN), cg_i32(c, 0), of_b});
  place(t, row.i);
  cg_val min = range_field(t, t->range, CG_MX_RANGE_MIN), max = range_field(t, t->range, CG_MX_RANGE_MAX);
  cg_val next[3] = {cg_min(c, row.carry[0], min), cg_max(c, row.carry[1], max),
                    cg_or(c, row.carry[2], range_field(t, t->range, CG_MX_RANGE_UNEQUAL))};
  cg_loop_end(&row, next);
  for (int i = 0; i < 3; i++) range[i] = row.carry[i];
}

/* Rows [begin, end) on the tile unit, pair by pair; `range` is theirs. */
static void call_tall(tile *t, cg_val begin, cg_val end, const cg_val *range) {
  cg_ctx *c = t->c;
  place(t, begin);
  cg_val rows = cg_sub(c, end, begin), cols = cg_shared_arg(t->f, T_COLS), blocks = cg_shared_arg(t->f, T_BLOCKS);
  cg_val out_rs = cg_shared_arg(t->f, T_OUT_RS), src_rs = cg_shared_arg(t->f, T_SRC_RS), bias = cg_shared_arg(t->f, T_BIAS);
  cg_val b = cg_shared_arg(t->f, T_B), work = cg_shared_arg(t->f, T_WORK);
  cg_val args[] = {blocks, t->a_base, b, work, begin, range[2], t->out, out_rs, t->src, src_rs, bias, rows, cols};
  cg_shared_call(c, cg_mx_tall(c, t->s), sizeof args / sizeof args[0], args);
}

/* The same where no pair is to be split; a function of its own for whole chunks. */
static void call_pipe(tile *t, cg_val begin, cg_val end) {
  cg_ctx *c = t->c;
  int64_t whole = t->s->chunk / 2;
  cg_if f;
  place(t, begin);
  cg_val rows = cg_sub(c, end, begin), cols = cg_shared_arg(t->f, T_COLS), blocks = cg_shared_arg(t->f, T_BLOCKS);
  cg_val out_rs = cg_shared_arg(t->f, T_OUT_RS), src_rs = cg_shared_arg(t->f, T_SRC_RS), bias = cg_shared_arg(t->f, T_BIAS);
  cg_val b = cg_shared_arg(t->f, T_B), work = cg_shared_arg(t->f, T_WORK);
  cg_val args[] = {blocks, t->a_base, b, work, begin, t->out, out_rs, t->src, src_rs, bias, rows, cols};
  int n = sizeof args / sizeof args[0];
  if (t->s->equal) {
    cg_shared_call(c, cg_mx_pipe(c, t->s, whole), n, args);
    return;
  }
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGT, blocks, cg_i64(c, 2 * whole - 2)));
  cg_shared_call(c, cg_mx_pipe(c, t->s, whole), n, args);
  cg_if_else(&f);
  cg_shared_call(c, cg_mx_pipe(c, t->s, 0), n, args);
  cg_if_end(&f);
}

static cg_val no_split(tile *t, const cg_val *range) {
  cg_ctx *c = t->c;
  return cg_and(c, ranges_ok(t, range[0], range[1]), cg_icmp(c, LLVMIntEQ, range[2], cg_i32(c, 0)));
}

static void tall_rows(tile *t, cg_val rows) {
  cg_ctx *c = t->c;
  cg_val range[3], zero = cg_i64(c, 0);
  cg_if all, way, fast;
  cg_loop top;
  joint_range(t, zero, rows, range);
  cg_if_begin(c, &all, no_split(t, range));
  call_pipe(t, zero, rows);
  cg_if_else(&all);
  cg_loop_begin(c, &top, zero, rows, CG_MX_TALL, 0, NULL);
  cg_val end = cg_min(c, rows, cg_add(c, top.i, cg_i64(c, CG_MX_TALL)));
  joint_range(t, top.i, end, range);
  cg_if_begin(c, &way, no_split(t, range));
  call_pipe(t, top.i, end);
  cg_if_else(&way);
  cg_if_begin(c, &fast, ranges_ok(t, range[0], range[1]));
  call_tall(t, top.i, end, range);
  cg_if_else(&fast);
  rows_between(t, top.i, end);
  cg_if_end(&fast);
  cg_if_end(&way);
  cg_loop_end(&top, NULL);
  cg_if_end(&all);
}

cg_val cg_mx_panel(cg_ctx *c, const cg_mx_shape *s) {
  char name[96];
  cg_mx_name(name, sizeof name, "panel", s);
  cg_shared f;
  cg_type types[T_COUNT] = {c->i64, c->ptr, c->ptr, c->ptr, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->i64};
  if (!cg_shared_begin(c, &f, name, T_COUNT, types)) return f.fn;
  tile t = {.c = c, .f = &f, .s = s, .l = cg_mx_layout_of(c, s), .a_base = cg_shared_arg(&f, T_A)};
  cg_val b = cg_shared_arg(&f, T_B);
  t.b = at_byte(c, b, t.l.b_codes), t.b_init = at_byte(c, b, t.l.b_init), t.b_raw = at_byte(c, b, t.l.b_raw);
  t.b_pair = at_byte(c, b, t.l.b_pair), t.range_b = at_byte(c, b, t.l.b_range);
  t.sums = at_byte(c, cg_shared_arg(&f, T_WORK), t.l.sums);
  cg_val rows = cg_shared_arg(&f, T_ROWS);
  if (c->target->tiles)
    tall_rows(&t, rows);
  else
    rows_between(&t, cg_i64(c, 0), rows);
  cg_shared_end(&f);
  return f.fn;
}
