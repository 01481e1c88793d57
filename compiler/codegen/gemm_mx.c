/* Exact products of MX blocks in the order of NUMERICS 5.
 *
 * Both operands are decoded from 4 bits into L1/L2 scratch as integers, code values times 2 (E2M1) or 4 (E3M0), which a
 * 4-way u8 x s8 dot product multiplies:
 *   A  u8, offset by the format's largest code so that it is unsigned    [row][block][32]
 *   B  s8, in panels of nr columns                                       [block][8][nr][4]
 * The order of the 32 elements inside a block is free as long as both sides agree; a packed byte holds elements 2j and
 * 2j+1, so the low nibbles of a block's 16 bytes come first, then the high ones: no nibble is ever moved.
 *
 * Magic exponents (KERNELS.md): integer accumulators start at bits(1.5 * 2^23 * 2^eB) - offset * sum(b); after the dot
 * product of a block their bits, read as float32, are 2^eB * (1.5 * 2^23 + dot), from which one subtraction leaves
 * 2^eB * dot exactly. The scale of A, which also takes the factor of the doubled codes, multiplies that: the first block
 * of a pair by a product, exact, the second by an FMA, which is the one rounding of the pair's sum. That holds while no
 * product is subnormal or overflows and all constants are normal; `tile` checks the ranges of scales of its rows and
 * its panel and otherwise runs the same sums in double. Scales of blocks whose elements are all zero take no part. */
#include "compiler/codegen/gemm_mx.h"
#include <stdio.h>
#include "compiler/ir/mx.h"

enum { SCALE_ONE = 127, SCALE_NAN = 255 };
/* fast where min A, min B, max A, max B of the raw scales satisfy these; see ranges_ok */
enum { MIN_B = 1, MAX_B = 127 + 104, MAX_EXPONENT = 127 - 20 };

/* log2 of the factor that makes codes integers, the integers, and the largest. */
static int code_bits(uint8_t format) { return format == TT_E2M1 ? 1 : 2; }
static int code_integer(uint8_t format, int code) {
  return (int)(tt_mx_code_value((tt_format)format, (unsigned)code) * (float)(1 << code_bits(format)));
}
static int code_offset(uint8_t format) { return code_integer(format, 7); }

cg_mx_shape cg_mx_shape_of(const cg_ctx *c, int64_t nb, int64_t chunk, int64_t rows, uint8_t fa, uint8_t fb) {
  int mr = c->target->vector_regs >= 32 ? MX_MR : 4;
  return (cg_mx_shape){
      .nb = nb, .chunk = chunk, .rows = (rows + mr - 1) / mr * mr, .mr = mr, .nr = MX_NV * c->W, .fa = fa, .fb = fb};
}

cg_mx_layout cg_mx_layout_of(const cg_mx_shape *s) {
  cg_mx_layout l = {0};
  int64_t at = 0;
  l.b_codes = at, at += s->chunk * TT_MX_BLOCK * s->nr;
  l.b_init = at, at += s->chunk * s->nr * 8;
  l.b_raw = at, at += s->chunk * s->nr * 4;
  l.sums = at, at += (int64_t)s->mr * s->nr * 4;
  l.b_range = at, at += 64;
  l.a_codes = at, at += s->rows * s->chunk * TT_MX_BLOCK;
  l.a_scales = at, at += s->rows * s->chunk * 4;
  l.a_raw = at, at += s->rows * s->chunk * 4;
  l.a_range = at, at += (s->rows / s->mr + 8) / 8 * 64;
  l.bytes = (at + 63) / 64 * 64;
  return l;
}

static cg_val at_byte(cg_ctx *c, cg_val base, int64_t offset) { return cg_addr(c, c->i8, base, offset); }

static void shared_name(char *name, size_t n, const char *what, const cg_mx_shape *s) {
  snprintf(name, n, "cg.mx.%s.%lld_%lld_%lld_%d%d", what, (long long)s->nb, (long long)s->chunk, (long long)s->rows, s->fa,
           s->fb);
}

/* Integers of the codes in the low nibbles of a byte vector, plus `offset`. */
static cg_val decode(cg_ctx *c, cg_val codes, uint8_t format, int offset) {
  int n = c->target->vector_bytes;
  int8_t table[16];
  for (int i = 0; i < 16; i++) table[i] = (int8_t)(code_integer(format, i) + offset);
  if (c->target->lookup) return c->target->lookup(c, table, codes);
  cg_val out = cg_splat(c, LLVMConstInt(c->i8, (unsigned long long)table[0], true), n);
  for (int i = 1; i < 16; i++) {
    cg_val is = cg_icmp(c, LLVMIntEQ, codes, cg_splat(c, LLVMConstInt(c->i8, (unsigned long long)i, false), n));
    out = cg_select(c, is, cg_splat(c, LLVMConstInt(c->i8, (unsigned long long)table[i], true), n), out);
  }
  return out;
}

/* Splits packed bytes (a vector of i32 lanes) into the two nibble vectors of bytes. */
static void split(cg_ctx *c, cg_val packed, cg_val *lo, cg_val *hi) {
  cg_type bytes = cg_vec(c, c->i8, c->target->vector_bytes);
  cg_val mask = cg_vi(c, 0x0f0f0f0f);
  *lo = cg_bits(c, cg_and(c, packed, mask), bytes);
  *hi = cg_bits(c, cg_and(c, cg_shr(c, packed, cg_vi(c, 4)), mask), bytes);
}

/* The scale byte at `scales` as i32; of a block of zeros it is that of 1, whatever is stored: its products are 0. */
static cg_val load_scale(cg_ctx *c, cg_val scales, cg_val codes) {
  cg_val byte = cg_load(c, c->i8, scales, 1);
  cg_val slot = cg_alloca(c, c->i32, 1, 4);
  cg_store(c, LLVMBuildZExt(c->b, byte, c->i32, ""), slot, 4);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntEQ, byte, LLVMConstInt(c->i8, 0, false)));
  cg_val both = cg_or(c, cg_load(c, c->i64, codes, 1), cg_load(c, c->i64, at_byte(c, codes, 8), 1));
  cg_val none = cg_icmp(c, LLVMIntEQ, cg_and(c, both, cg_i64(c, 0x7777777777777777)), cg_i64(c, 0));
  cg_store(c, cg_select(c, none, cg_i32(c, SCALE_ONE), cg_i32(c, 0)), slot, 4);
  cg_if_end(&f);
  return cg_load(c, c->i32, slot, 4);
}

enum { D_CODES, D_SCALES, D_BLOCKS, D_COUNT_USED, D_BASE, D_COUNT };

static bool decode_begin(cg_ctx *c, cg_shared *f, const char *what, const cg_mx_shape *s) {
  char name[96];
  shared_name(name, sizeof name, what, s);
  return cg_shared_begin(c, f, name, D_COUNT, (cg_type[]){c->ptr, c->ptr, c->i64, c->i64, c->ptr});
}

static cg_val even(cg_ctx *c, cg_val n) { return cg_and(c, cg_add(c, n, cg_i64(c, 1)), cg_i64(c, -2)); }

/* Scales of one row of A: raw, and as the float 2^(raw - 127 - bits). */
static void decode_a_scales(cg_ctx *c, const cg_shared *f, const cg_mx_shape *s, const cg_mx_layout *l, cg_val row,
                            cg_val *min, cg_val *max) {
  cg_val base = cg_shared_arg(f, D_BASE), live = cg_icmp(c, LLVMIntSLT, row, cg_shared_arg(f, D_COUNT_USED));
  cg_val blocks = cg_shared_arg(f, D_BLOCKS);
  cg_val from = cg_mul(c, row, cg_i64(c, s->nb)), to = cg_mul(c, row, cg_i64(c, s->chunk));
  cg_val raws = cg_gep(c, c->i32, at_byte(c, base, l->a_raw), to),
         floats = cg_gep(c, c->f32, at_byte(c, base, l->a_scales), to);
  cg_val one = cg_i32(c, SCALE_ONE), down = cg_i32(c, code_bits(s->fa) + code_bits(s->fb));
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_select(c, live, blocks, cg_i64(c, 0)), 1, 2, (cg_val[]){*min, *max});
  cg_val at = cg_add(c, from, b.i);
  cg_val raw = load_scale(c, cg_gep_bytes(c, cg_shared_arg(f, D_SCALES), at),
                          cg_gep_bytes(c, cg_shared_arg(f, D_CODES), cg_mul(c, at, cg_i64(c, 16))));
  cg_store(c, raw, cg_gep(c, c->i32, raws, b.i), 4);
  cg_store(c, cg_shl(c, cg_sub(c, raw, down), cg_i32(c, 23)), cg_gep(c, c->i32, floats, b.i), 4);
  cg_loop_end(&b, (cg_val[]){cg_min(c, b.carry[0], raw), cg_max(c, b.carry[1], raw)});
  *min = b.carry[0], *max = b.carry[1];
  cg_loop_begin(c, &b, cg_select(c, live, blocks, cg_i64(c, 0)), even(c, blocks), 1, 0, NULL);
  cg_store(c, one, cg_gep(c, c->i32, raws, b.i), 4);
  cg_store(c, cg_shl(c, one, cg_i32(c, 23)), cg_gep(c, c->i32, floats, b.i), 4);
  cg_loop_end(&b, NULL);
}

/* Codes of one row of A: W/4 blocks a vector; low nibbles of a block before its high ones. What lies past the last block or
 * row is code 0. */
static void decode_a_codes(cg_ctx *c, const cg_shared *f, const cg_mx_shape *s, const cg_mx_layout *l, cg_val row) {
  int per = c->W / 4;
  cg_val live = cg_icmp(c, LLVMIntSLT, row, cg_shared_arg(f, D_COUNT_USED));
  cg_val blocks = cg_shared_arg(f, D_BLOCKS);
  cg_val src = cg_gep_bytes(c, cg_shared_arg(f, D_CODES), cg_mul(c, row, cg_i64(c, s->nb * 16)));
  cg_val dst =
      cg_gep_bytes(c, at_byte(c, cg_shared_arg(f, D_BASE), l->a_codes), cg_mul(c, row, cg_i64(c, s->chunk * TT_MX_BLOCK)));
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), even(c, blocks), per, 0, NULL);
  cg_val left = cg_mul(c, cg_sub(c, cg_select(c, live, blocks, cg_i64(c, 0)), b.i), cg_i64(c, 4));
  cg_val left_out = cg_mul(c, cg_sub(c, even(c, blocks), b.i), cg_i64(c, 8));
  cg_val packed = cg_load_n(c, cg_gep_bytes(c, src, cg_mul(c, b.i, cg_i64(c, 16))), left, cg_vf(c, 0));
  cg_val part[2], lanes[64];
  split(c, cg_bits(c, packed, c->vi), &part[0], &part[1]);
  for (int h = 0; h < 2; h++) part[h] = cg_bits(c, decode(c, part[h], s->fa, code_offset(s->fa)), c->vf);
  for (int h = 0; h < 2; h++) {
    for (int i = 0; i < c->W; i++) {
      int dword = h * c->W + i, block = dword / 8, high = dword / 4 % 2;
      lanes[i] = cg_i32(c, high * c->W + block * 4 + dword % 4);
    }
    cg_val out = LLVMBuildShuffleVector(c->b, part[0], part[1], LLVMConstVector(lanes, (unsigned)c->W), "");
    cg_val to = cg_gep_bytes(c, dst, cg_add(c, cg_mul(c, b.i, cg_i64(c, 32)), cg_i64(c, h * 4 * c->W)));
    cg_store_n(c, out, to, cg_sub(c, left_out, cg_i64(c, h * c->W)));
  }
  cg_loop_end(&b, NULL);
}

cg_val cg_mx_decode_a(cg_ctx *c, const cg_mx_shape *s) {
  cg_mx_layout l = cg_mx_layout_of(s);
  cg_shared f;
  if (!decode_begin(c, &f, "a", s)) return f.fn;
  cg_loop tile, row;
  cg_loop_begin(c, &tile, cg_i64(c, 0), cg_shared_arg(&f, D_COUNT_USED), s->mr, 0, NULL);
  cg_val end = cg_add(c, tile.i, cg_i64(c, s->mr));
  cg_loop_begin(c, &row, tile.i, end, 1, 2, (cg_val[]){cg_i32(c, SCALE_ONE), cg_i32(c, SCALE_ONE)});
  cg_val min = row.carry[0], max = row.carry[1];
  decode_a_scales(c, &f, s, &l, row.i, &min, &max);
  decode_a_codes(c, &f, s, &l, row.i);
  cg_loop_end(&row, (cg_val[]){min, max});
  cg_val range = cg_gep(c, c->i64, at_byte(c, cg_shared_arg(&f, D_BASE), l.a_range), cg_div(c, tile.i, cg_i64(c, s->mr)));
  cg_store(c, row.carry[0], range, 4);
  cg_store(c, row.carry[1], at_byte(c, range, 4), 4);
  cg_loop_end(&tile, NULL);
  cg_shared_end(&f);
  return f.fn;
}

/* Codes of W columns of B from column `first` of the panel, and the sums of their integers a block: vectors of W columns'
 * dwords are transposed while they are still packed. */
static void decode_b_codes(cg_ctx *c, const cg_shared *f, const cg_mx_shape *s, const cg_mx_layout *l, int first) {
  int per = c->W / 4;
  cg_val base = cg_shared_arg(f, D_BASE), blocks = cg_shared_arg(f, D_BLOCKS), ones = cg_vi(c, 0x01010101);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), even(c, blocks), per, 0, NULL);
  cg_val rows[64], left = cg_mul(c, cg_sub(c, blocks, b.i), cg_i64(c, 4));
  for (int j = 0; j < c->W; j++) {
    cg_val live = cg_icmp(c, LLVMIntSLT, cg_i64(c, first + j), cg_shared_arg(f, D_COUNT_USED));
    cg_val at = cg_add(c, cg_i64(c, (first + j) * s->nb * 16), cg_mul(c, b.i, cg_i64(c, 16)));
    rows[j] =
        cg_load_n(c, cg_gep_bytes(c, cg_shared_arg(f, D_CODES), at), cg_select(c, live, left, cg_i64(c, 0)), cg_vf(c, 0));
  }
  cg_transpose(c, rows, c->W);
  for (int i = 0; i < per; i++) {
    cg_val block = cg_add(c, b.i, cg_i64(c, i)), sum = cg_vi(c, 0), part[2];
    cg_val to = cg_gep_bytes(c, at_byte(c, base, l->b_codes), cg_mul(c, block, cg_i64(c, TT_MX_BLOCK * s->nr)));
    cg_if whole; /* chunk is even and so is the room, but a vector may hold four blocks */
    if (per > 2 && i >= 2) cg_if_begin(c, &whole, cg_icmp(c, LLVMIntSLT, block, even(c, blocks)));
    for (int q = 0; q < 4; q++) {
      split(c, cg_bits(c, rows[i * 4 + q], c->vi), &part[0], &part[1]);
      for (int h = 0; h < 2; h++) {
        cg_val codes = decode(c, part[h], s->fb, 0);
        cg_store(c, codes, at_byte(c, to, ((h * 4 + q) * s->nr + first) * 4), 4);
        sum = c->target->dot_u8s8(c, sum, ones, codes);
      }
    }
    cg_val init = cg_gep(c, c->i32, at_byte(c, base, l->b_init), cg_mul(c, block, cg_i64(c, 2 * s->nr)));
    cg_store(c, cg_mul(c, sum, cg_vi(c, code_offset(s->fa))), cg_addr(c, c->i32, init, first), 4);
    if (per > 2 && i >= 2) cg_if_end(&whole);
  }
  cg_loop_end(&b, NULL);
}

/* Raw scales of the panel, transposed to [block][nr]; columns and blocks that are padding get 1. */
static void decode_b_scales(cg_ctx *c, const cg_shared *f, const cg_mx_shape *s, const cg_mx_layout *l) {
  cg_val blocks = cg_shared_arg(f, D_BLOCKS);
  cg_loop col, b;
  cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, s->nr), 1, 0, NULL);
  cg_val live = cg_icmp(c, LLVMIntSLT, col.i, cg_shared_arg(f, D_COUNT_USED));
  cg_val used = cg_select(c, live, blocks, cg_i64(c, 0));
  cg_val raws = cg_gep(c, c->i32, at_byte(c, cg_shared_arg(f, D_BASE), l->b_raw), col.i);
  cg_loop_begin(c, &b, cg_i64(c, 0), used, 1, 0, NULL);
  cg_val at = cg_add(c, cg_mul(c, col.i, cg_i64(c, s->nb)), b.i);
  cg_val raw = load_scale(c, cg_gep_bytes(c, cg_shared_arg(f, D_SCALES), at),
                          cg_gep_bytes(c, cg_shared_arg(f, D_CODES), cg_mul(c, at, cg_i64(c, 16))));
  cg_store(c, raw, cg_gep(c, c->i32, raws, cg_mul(c, b.i, cg_i64(c, s->nr))), 4);
  cg_loop_end(&b, NULL);
  cg_loop_begin(c, &b, used, even(c, blocks), 1, 0, NULL);
  cg_store(c, cg_i32(c, SCALE_ONE), cg_gep(c, c->i32, raws, cg_mul(c, b.i, cg_i64(c, s->nr))), 4);
  cg_loop_end(&b, NULL);
  cg_loop_end(&col, NULL);
}

static cg_val reduce(cg_ctx *c, const char *how, cg_val v) {
  char name[64];
  snprintf(name, sizeof name, "llvm.vector.reduce.%s.v%di32", how, c->W);
  return cg_call(c, name, c->i32, 1, &v);
}

/* From raw scales and sums: the magic floats and the accumulators' start; and the range of the panel's scales. */
static void finish_b(cg_ctx *c, const cg_shared *f, const cg_mx_shape *s, const cg_mx_layout *l) {
  cg_val base = cg_shared_arg(f, D_BASE), one = cg_vi(c, SCALE_ONE);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), even(c, cg_shared_arg(f, D_BLOCKS)), 1, 2, (cg_val[]){one, one});
  cg_val min = b.carry[0], max = b.carry[1];
  cg_val raws = cg_gep(c, c->i32, at_byte(c, base, l->b_raw), cg_mul(c, b.i, cg_i64(c, s->nr)));
  cg_val init = cg_gep(c, c->i32, at_byte(c, base, l->b_init), cg_mul(c, b.i, cg_i64(c, 2 * s->nr)));
  for (int v = 0; v < s->nr; v += c->W) {
    cg_val raw = cg_load(c, c->vi, cg_addr(c, c->i32, raws, v), 4);
    min = cg_min(c, min, raw), max = cg_max(c, max, raw);
    cg_val magic = cg_or(c, cg_shl(c, cg_add(c, raw, cg_vi(c, 23)), cg_vi(c, 23)), cg_vi(c, 0x400000));
    cg_val sum = cg_load(c, c->vi, cg_addr(c, c->i32, init, v), 4);
    cg_store(c, cg_sub(c, magic, sum), cg_addr(c, c->i32, init, v), 4);
    cg_store(c, magic, cg_addr(c, c->i32, init, s->nr + v), 4);
  }
  cg_loop_end(&b, (cg_val[]){min, max});
  cg_store(c, reduce(c, "smin", b.carry[0]), at_byte(c, base, l->b_range), 4);
  cg_store(c, reduce(c, "smax", b.carry[1]), at_byte(c, base, l->b_range + 4), 4);
}

cg_val cg_mx_decode_b(cg_ctx *c, const cg_mx_shape *s) {
  cg_mx_layout l = cg_mx_layout_of(s);
  cg_shared f;
  if (!decode_begin(c, &f, "b", s)) return f.fn;
  for (int v = 0; v < s->nr; v += c->W) decode_b_codes(c, &f, s, &l, v);
  decode_b_scales(c, &f, s, &l);
  finish_b(c, &f, s, &l);
  cg_shared_end(&f);
  return f.fn;
}

enum { T_BLOCKS, T_BASE, T_ROW, T_OUT, T_OUT_RS, T_SRC, T_SRC_RS, T_BIAS, T_ROWS, T_COLS, T_COUNT };

/* A tile under way: where its operands and its float sums are. */
typedef struct tile {
  cg_ctx *c;
  const cg_shared *f;
  const cg_mx_shape *s;
  cg_mx_layout l;
  cg_val base, sums, a, a_scales, a_raw, b, b_init, b_raw;
} tile;

/* Sums of the tile from src to scratch, or from scratch plus bias to out; rows and columns past the end stay out. */
static void move_sums(tile *t, bool in) {
  cg_ctx *c = t->c;
  cg_loop row;
  cg_loop_begin(c, &row, cg_i64(c, 0), cg_shared_arg(t->f, T_ROWS), 1, 0, NULL);
  cg_val at = cg_gep(c, c->f32, t->sums, cg_mul(c, row.i, cg_i64(c, t->s->nr)));
  cg_val far = cg_gep(c, c->f32, cg_shared_arg(t->f, in ? T_SRC : T_OUT),
                      cg_mul(c, row.i, cg_shared_arg(t->f, in ? T_SRC_RS : T_OUT_RS)));
  for (int v = 0; v < t->s->nr; v += c->W) {
    cg_val left = cg_sub(c, cg_shared_arg(t->f, T_COLS), cg_i64(c, v));
    cg_val near = cg_addr(c, c->f32, at, v), there = cg_addr(c, c->f32, far, v);
    if (in) {
      cg_store(c, cg_load_n(c, there, left, cg_vf(c, 0)), near, 4);
      continue;
    }
    cg_val bias = cg_load_n(c, cg_addr(c, c->f32, cg_shared_arg(t->f, T_BIAS), v), left, cg_vf(c, 0));
    cg_store_n(c, cg_add(c, cg_load(c, c->vf, near, 4), bias), there, left);
  }
  cg_loop_end(&row, NULL);
}

/* The same address, which the optimizer cannot see: keeps the float sums in memory. All of them and a pair's first
 * products and integers do not fit 32 registers, and loads and stores cost nothing beside the dot products. */
static cg_val opaque(cg_ctx *c, cg_val p) {
  cg_type type = LLVMFunctionType(c->ptr, &c->ptr, 1, 0);
  cg_val identity = LLVMGetInlineAsm(type, "", 0, "=r,0", 4, 1, 0, LLVMInlineAsmDialectATT, 0);
  return LLVMBuildCall2(c->b, type, identity, &p, 1, "");
}

/* Integer dot products of rows [0, n) with block `k` of the panel, started from b_init. acc[i*nv+v] as vi. */
static void block_dots(tile *t, cg_val k, int n, cg_val *acc) {
  cg_ctx *c = t->c;
  int nv = t->s->nr / c->W;
  cg_val a = cg_gep_bytes(c, t->a, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK)));
  cg_val b = cg_gep_bytes(c, t->b, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK * t->s->nr)));
  cg_val init = cg_gep(c, c->i32, t->b_init, cg_mul(c, k, cg_i64(c, 2 * t->s->nr)));
  for (int i = 0; i < n * nv; i++) acc[i] = cg_load(c, c->vi, cg_addr(c, c->i32, init, i % nv * c->W), 4);
  for (int g = 0; g < 8; g++) {
    cg_val bv[4];
    for (int v = 0; v < nv; v++) bv[v] = cg_load(c, c->vi, cg_addr(c, c->i32, b, g * t->s->nr + v * c->W), 4);
    for (int i = 0; i < n; i++) {
      cg_val av = cg_splat(c, cg_load(c, c->i32, at_byte(c, a, i * t->s->chunk * TT_MX_BLOCK + g * 4), 4), c->W);
      for (int v = 0; v < nv; v++) acc[i * nv + v] = c->target->dot_u8s8(c, acc[i * nv + v], av, bv[v]);
    }
  }
}

static void fast_pairs(tile *t) {
  cg_ctx *c = t->c;
  int nv = t->s->nr / c->W, n = t->s->mr * nv;
  cg_loop pair;
  cg_loop_begin(c, &pair, cg_i64(c, 0), cg_shared_arg(t->f, T_BLOCKS), 2, 1, &t->sums);
  cg_val sums = opaque(c, pair.carry[0]), first[64], acc[64];
  for (int h = 0; h < 2; h++) {
    cg_val k = cg_add(c, pair.i, cg_i64(c, h));
    block_dots(t, k, t->s->mr, acc);
    cg_val magic = cg_gep(c, c->f32, t->b_init, cg_add(c, cg_mul(c, k, cg_i64(c, 2 * t->s->nr)), cg_i64(c, t->s->nr)));
    cg_val scales = cg_gep(c, c->f32, t->a_scales, k);
    for (int i = 0; i < n; i++) {
      cg_val scale = cg_splat(c, cg_load(c, c->f32, cg_addr(c, c->f32, scales, i / nv * t->s->chunk), 4), c->W);
      cg_val exact = cg_sub(c, cg_bits(c, acc[i], c->vf), cg_load(c, c->vf, cg_addr(c, c->f32, magic, i % nv * c->W), 4));
      if (h == 0) {
        first[i] = cg_mul(c, exact, scale);
        continue;
      }
      cg_val at = cg_addr(c, c->vf, sums, i);
      cg_store(c, cg_add(c, cg_load(c, c->vf, at, 4), cg_fma(c, exact, scale, first[i])), at, 4);
    }
  }
  cg_loop_end(&pair, &sums);
}

static cg_val vd_const(cg_ctx *c, double x) { return cg_splat(c, LLVMConstReal(c->f64, x), c->W); }
static cg_val vl_const(cg_ctx *c, int64_t x) { return cg_splat(c, cg_i64(c, x), c->W); }

/* Block k of row i, as W doubles: dot * 2^(sa + sb - 254 - bits), exact; NaN where a scale is NaN. */
static cg_val exact_block(tile *t, cg_val i, cg_val k, int v) {
  cg_ctx *c = t->c;
  cg_type vd = cg_vec(c, c->f64, c->W), vl = cg_vec(c, c->i64, c->W);
  cg_val column = cg_addr(c, c->i8, cg_gep(c, c->i32, t->b_init, cg_mul(c, k, cg_i64(c, 2 * t->s->nr))), v * 4 * c->W);
  cg_val acc = cg_load(c, c->vi, column, 4), magic = cg_load(c, c->vi, cg_addr(c, c->i32, column, t->s->nr), 4);
  cg_val a = cg_gep_bytes(c, t->a, cg_mul(c, cg_add(c, cg_mul(c, i, cg_i64(c, t->s->chunk)), k), cg_i64(c, TT_MX_BLOCK)));
  cg_val b = cg_gep_bytes(c, t->b, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK * t->s->nr)));
  for (int g = 0; g < 8; g++)
    acc = c->target->dot_u8s8(c, acc, cg_splat(c, cg_load(c, c->i32, at_byte(c, a, g * 4), 4), c->W),
                              cg_load(c, c->vi, cg_addr(c, c->i32, b, g * t->s->nr + v * c->W), 4));
  cg_val dot = LLVMBuildSIToFP(c->b, cg_sub(c, acc, magic), vd, "");
  cg_val sb =
      cg_load(c, c->vi, cg_addr(c, c->i32, cg_gep(c, c->i32, t->b_raw, cg_mul(c, k, cg_i64(c, t->s->nr))), v * c->W), 4);
  cg_val sa = cg_load(c, c->i32, cg_gep(c, c->i32, t->a_raw, cg_add(c, cg_mul(c, i, cg_i64(c, t->s->chunk)), k)), 4);
  sa = cg_splat(c, sa, c->W);
  cg_val nan = cg_or(c, cg_icmp(c, LLVMIntEQ, sa, cg_vi(c, SCALE_NAN)), cg_icmp(c, LLVMIntEQ, sb, cg_vi(c, SCALE_NAN)));
  int bias = 1023 - 254 - code_bits(t->s->fa) - code_bits(t->s->fb);
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
  cg_loop row, pair;
  cg_loop_begin(c, &row, cg_i64(c, 0), cg_shared_arg(t->f, T_ROWS), 1, 0, NULL);
  for (int v = 0; v < t->s->nr / c->W; v++) {
    cg_val at = cg_addr(c, c->vf, cg_gep(c, c->f32, t->sums, cg_mul(c, row.i, cg_i64(c, t->s->nr))), v);
    cg_val sum = cg_load(c, c->vf, at, 4);
    cg_loop_begin(c, &pair, cg_i64(c, 0), cg_shared_arg(t->f, T_BLOCKS), 2, 1, &sum);
    cg_val x = exact_block(t, row.i, pair.i, v), y = exact_block(t, row.i, cg_add(c, pair.i, cg_i64(c, 1)), v);
    sum = cg_add(c, pair.carry[0], add_once(c, x, y));
    cg_loop_end(&pair, &sum);
    cg_store(c, pair.carry[0], at, 4);
  }
  cg_loop_end(&row, NULL);
}

/* min A: its scale 2^(sa - 127 - bits) is normal. min A + min B: no product is subnormal. max A + max B: none overflows,
 * nor does a sum of two; which also keeps NaN (255) out together with the bounds on each. */
static cg_val ranges_ok(tile *t) {
  cg_ctx *c = t->c;
  int bits = code_bits(t->s->fa) + code_bits(t->s->fb);
  cg_val range_a =
      cg_gep(c, c->i64, at_byte(c, t->base, t->l.a_range), cg_div(c, cg_shared_arg(t->f, T_ROW), cg_i64(c, t->s->mr)));
  cg_val range_b = at_byte(c, t->base, t->l.b_range);
  cg_val min_a = cg_load(c, c->i32, range_a, 4), max_a = cg_load(c, c->i32, at_byte(c, range_a, 4), 4);
  cg_val min_b = cg_load(c, c->i32, range_b, 4), max_b = cg_load(c, c->i32, at_byte(c, range_b, 4), 4);
  cg_val ok = cg_icmp(c, LLVMIntSGT, min_a, cg_i32(c, bits));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSGE, min_b, cg_i32(c, MIN_B)));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSGE, cg_add(c, min_a, min_b), cg_i32(c, 254 - 126 + bits)));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSLT, max_a, cg_i32(c, SCALE_NAN)));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntSLE, max_b, cg_i32(c, MAX_B)));
  return cg_and(c, ok, cg_icmp(c, LLVMIntSLE, cg_add(c, max_a, max_b), cg_i32(c, 254 + MAX_EXPONENT)));
}

cg_val cg_mx_tile(cg_ctx *c, const cg_mx_shape *s) {
  char name[96];
  shared_name(name, sizeof name, "tile", s);
  cg_shared f;
  cg_type types[T_COUNT] = {c->i64, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->i64};
  if (!cg_shared_begin(c, &f, name, T_COUNT, types)) return f.fn;
  tile t = {.c = c, .f = &f, .s = s, .l = cg_mx_layout_of(s), .base = cg_shared_arg(&f, T_BASE)};
  cg_val blocks = cg_mul(c, cg_shared_arg(&f, T_ROW), cg_i64(c, s->chunk));
  t.a = cg_gep_bytes(c, at_byte(c, t.base, t.l.a_codes), cg_mul(c, blocks, cg_i64(c, TT_MX_BLOCK)));
  t.a_scales = cg_gep(c, c->f32, at_byte(c, t.base, t.l.a_scales), blocks);
  t.a_raw = cg_gep(c, c->i32, at_byte(c, t.base, t.l.a_raw), blocks);
  t.b = at_byte(c, t.base, t.l.b_codes), t.b_init = at_byte(c, t.base, t.l.b_init);
  t.b_raw = at_byte(c, t.base, t.l.b_raw), t.sums = at_byte(c, t.base, t.l.sums);
  move_sums(&t, true);
  cg_if way;
  cg_if_begin(c, &way, ranges_ok(&t));
  fast_pairs(&t);
  cg_if_else(&way);
  exact_pairs(&t);
  cg_if_end(&way);
  move_sums(&t, false);
  cg_shared_end(&f);
  return f.fn;
}
