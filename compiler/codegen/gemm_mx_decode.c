/* Decoding packed MX operands into the integers that gemm_mx.c multiplies; the layouts are described there. */
#include <stdio.h>
#include "compiler/codegen/gemm_mx.h"

/* Integers of the codes in the low nibbles of a byte vector, plus `offset`. */
static cg_val decode(cg_ctx *c, cg_val codes, uint8_t format, int offset) {
  int n = c->target->vector_bytes;
  int8_t table[16];
  for (int i = 0; i < 16; i++) table[i] = (int8_t)(cg_mx_integer(format, i) + offset);
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

enum { D_CODES, D_SCALES, D_BLOCKS, D_COUNT_USED, D_BASE, D_COUNT };

/* A decoding function being emitted. */
typedef struct decoder {
  cg_ctx *c;
  const cg_mx_shape *s;
  cg_mx_layout l;
  cg_shared f;
  cg_val codes, scales, blocks, padded, used, base;
} decoder;

static bool decoder_begin(cg_ctx *c, decoder *d, const char *what, const cg_mx_shape *s) {
  char name[96];
  *d = (decoder){.c = c, .s = s, .l = cg_mx_layout_of(c, s)};
  cg_mx_name(name, sizeof name, what, s);
  if (!cg_shared_begin(c, &d->f, name, D_COUNT, (cg_type[]){c->ptr, c->ptr, c->i64, c->i64, c->ptr})) return false;
  d->codes = cg_shared_arg(&d->f, D_CODES);
  d->scales = cg_shared_arg(&d->f, D_SCALES);
  d->blocks = cg_shared_arg(&d->f, D_BLOCKS);
  d->used = cg_shared_arg(&d->f, D_COUNT_USED);
  d->base = cg_shared_arg(&d->f, D_BASE);
  d->padded = cg_and(c, cg_add(c, d->blocks, cg_i64(c, 1)), cg_i64(c, -2));
  return true;
}

static cg_val region(const decoder *d, int64_t offset) { return cg_addr(d->c, d->c->i8, d->base, offset); }

/* Products with a block of zeros are 0 whatever its scale, which then must not cost the fast path: it is taken for 1. For
 * row `row` of A, whose raw scales are at `raws`, of which one is 0: not vectorised, as it is rare. */
static void neutralise(const decoder *d, cg_val row, cg_val raws) {
  cg_ctx *c = d->c;
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->blocks, 1, 0, NULL);
  cg_val at = cg_add(c, cg_mul(c, row, cg_i64(c, d->s->nb)), b.i), raw = cg_gep(c, c->i32, raws, b.i);
  cg_val codes = cg_gep_bytes(c, d->codes, cg_mul(c, at, cg_i64(c, 16)));
  cg_val both = cg_or(c, cg_load(c, c->i64, codes, 1), cg_load(c, c->i64, cg_addr(c, c->i8, codes, 8), 1));
  cg_val none = cg_icmp(c, LLVMIntEQ, cg_and(c, both, cg_i64(c, 0x7777777777777777)), cg_i64(c, 0));
  cg_val zero = cg_icmp(c, LLVMIntEQ, cg_load(c, c->i8, cg_gep_bytes(c, d->scales, at), 1), LLVMConstInt(c->i8, 0, false));
  cg_val old = cg_load(c, c->i32, raw, 4);
  cg_store(c, cg_select(c, cg_and(c, zero, none), cg_i32(c, CG_MX_ONE), old), raw, 4);
  cg_loop_end(&b, NULL);
}

/* Scales of source row `from` into row `row`, raw and as the float 2^(raw - 127 - bits), W at a time. Where fewer are left
 * the vector begins before them: in memory there are other scales or codes, in scratch the gap between rows. */
static void decode_a_scales(const decoder *d, cg_val row, cg_val from, cg_val *min, cg_val *max) {
  cg_ctx *c = d->c;
  cg_val to = cg_mul(c, row, cg_i64(c, d->l.scale_stride)), one = cg_vi(c, CG_MX_ONE);
  cg_val raws = cg_gep(c, c->i32, region(d, d->l.a_raw), to), floats = cg_gep(c, c->i32, region(d, d->l.a_scales), to);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->blocks, c->W, 2, (cg_val[]){*min, *max});
  cg_val first = cg_min(c, b.i, cg_sub(c, d->blocks, cg_i64(c, c->W))), skip = cg_sub(c, b.i, first);
  cg_val src = cg_gep_bytes(c, d->scales, cg_add(c, cg_mul(c, from, cg_i64(c, d->s->nb)), first));
  cg_val bytes = cg_load(c, cg_vec(c, c->i8, c->W), src, 1), raw = LLVMBuildZExt(c->b, bytes, c->vi, "");
  cg_val valid =
      cg_icmp(c, LLVMIntSGE, cg_iota(c, c->i32, c->W), cg_splat(c, LLVMBuildTrunc(c->b, skip, c->i32, ""), c->W));
  cg_val at = cg_gep(c, c->i32, raws, first);
  cg_store(c, raw, at, 4);
  cg_val zero = cg_and(c, cg_icmp(c, LLVMIntEQ, raw, cg_vi(c, 0)), valid);
  cg_if f;
  cg_if_begin(c, &f,
              cg_icmp(c, LLVMIntNE, cg_bits(c, zero, LLVMIntTypeInContext(c->llvm, (unsigned)c->W)),
                      LLVMConstInt(LLVMIntTypeInContext(c->llvm, (unsigned)c->W), 0, false)));
  neutralise(d, from, raws);
  cg_if_end(&f);
  raw = cg_load(c, c->vi, at, 4);
  cg_val known = cg_select(c, valid, raw, one);
  cg_store(c, cg_shl(c, cg_sub(c, raw, cg_vi(c, cg_mx_code_bits(d->s))), cg_vi(c, 23)), cg_gep(c, c->i32, floats, first),
           4);
  cg_loop_end(&b, (cg_val[]){cg_min(c, b.carry[0], known), cg_max(c, b.carry[1], known)});
  *min = b.carry[0], *max = b.carry[1];
  cg_if odd;
  cg_if_begin(c, &odd, cg_icmp(c, LLVMIntNE, d->blocks, d->padded));
  cg_store(c, cg_i32(c, CG_MX_ONE), cg_gep(c, c->i32, raws, d->blocks), 4);
  cg_store(c, cg_i32(c, INT64_C(127) << 23), cg_gep(c, c->i32, floats, d->blocks), 4);
  cg_if_end(&odd);
}

/* Codes of source row `from` into row `row`, W/4 blocks a vector; low nibbles of a block before its high ones. Past the
 * last block they are code 0. A vector may overhang the row: the next one is written later, behind the last is room. */
static void decode_a_codes(const decoder *d, cg_val row, cg_val from) {
  enum { AHEAD = 8 }; /* rows: a chunk of one is a few cache lines, and the next row's are elsewhere */
  cg_ctx *c = d->c;
  cg_val src = cg_gep_bytes(c, d->codes, cg_mul(c, from, cg_i64(c, d->s->nb * 16)));
  cg_val dst = cg_gep_bytes(c, region(d, d->l.a_codes), cg_mul(c, row, cg_i64(c, d->s->chunk * TT_MX_BLOCK)));
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->padded, c->W / 4, 0, NULL);
  cg_val left = cg_mul(c, cg_sub(c, d->blocks, b.i), cg_i64(c, 4)),
         at = cg_gep_bytes(c, src, cg_mul(c, b.i, cg_i64(c, 16)));
  cg_prefetch(c, cg_addr(c, c->i8, at, AHEAD * d->s->nb * 16));
  cg_val packed = cg_load_n(c, at, left, cg_vf(c, 0));
  cg_val part[2], lanes[64];
  split(c, cg_bits(c, packed, c->vi), &part[0], &part[1]);
  for (int h = 0; h < 2; h++) part[h] = cg_bits(c, decode(c, part[h], d->s->fa, cg_mx_offset(d->s)), c->vf);
  for (int h = 0; h < 2; h++) {
    for (int i = 0; i < c->W; i++) {
      int dword = h * c->W + i, block = dword / 8, high = dword / 4 % 2;
      lanes[i] = cg_i32(c, high * c->W + block * 4 + dword % 4);
    }
    cg_val out = LLVMBuildShuffleVector(c->b, part[0], part[1], LLVMConstVector(lanes, (unsigned)c->W), "");
    cg_store(c, out, cg_gep_bytes(c, dst, cg_add(c, cg_mul(c, b.i, cg_i64(c, 32)), cg_i64(c, h * 4 * c->W))), 4);
  }
  cg_loop_end(&b, NULL);
}

static cg_val reduce(cg_ctx *c, const char *how, cg_val v) {
  char name[64];
  snprintf(name, sizeof name, "llvm.vector.reduce.%s.v%di32", how, c->W);
  return cg_call(c, name, c->i32, 1, &v);
}

static void store_range(cg_ctx *c, cg_val to, cg_val min, cg_val max) {
  cg_store(c, reduce(c, "smin", min), to, 4);
  cg_store(c, reduce(c, "smax", max), cg_addr(c, c->i32, to, 1), 4);
}

cg_val cg_mx_decode_a(cg_ctx *c, const cg_mx_shape *s) {
  decoder d;
  if (!decoder_begin(c, &d, "a", s)) return d.f.fn;
  cg_val one = cg_vi(c, CG_MX_ONE);
  cg_loop tile, row;
  cg_loop_begin(c, &tile, cg_i64(c, 0), d.used, s->mr, 0, NULL);
  cg_loop_begin(c, &row, tile.i, cg_add(c, tile.i, cg_i64(c, s->mr)), 1, 2, (cg_val[]){one, one});
  cg_val min = row.carry[0], max = row.carry[1];
  cg_val from = cg_min(c, row.i, cg_sub(c, d.used, cg_i64(c, 1))); /* rows past the end are copies, never stored */
  decode_a_scales(&d, row.i, from, &min, &max);
  decode_a_codes(&d, row.i, from);
  cg_loop_end(&row, (cg_val[]){min, max});
  store_range(c, cg_gep(c, c->i64, region(&d, d.l.a_range), cg_div(c, tile.i, cg_i64(c, s->mr))), row.carry[0],
              row.carry[1]);
  cg_loop_end(&tile, NULL);
  cg_shared_end(&d.f);
  return d.f.fn;
}

/* Column first + j of the panel; columns past the end are copies of the last, never stored. */
static cg_val column(const decoder *d, cg_val first, int j) {
  cg_ctx *c = d->c;
  return cg_min(c, cg_add(c, first, cg_i64(c, j)), cg_sub(c, d->used, cg_i64(c, 1)));
}

/* Scale bytes of W/4 blocks from block b on for W columns: a dword a column, byte i of lane j belonging to block b + i.
 * Where fewer than four are left the dword begins before them; the codes lie there at the latest. */
static cg_val gather_scales(const decoder *d, cg_val b, cg_val first) {
  cg_ctx *c = d->c;
  cg_val four = cg_i64(c, 4), back = cg_sub(c, four, cg_min(c, four, cg_sub(c, d->blocks, b)));
  cg_val from = cg_gep_bytes(c, d->scales, cg_sub(c, b, back)), v = LLVMGetUndef(c->vi);
  for (int j = 0; j < c->W; j++) {
    cg_val x = cg_load(c, c->i32, cg_gep_bytes(c, from, cg_mul(c, column(d, first, j), cg_i64(c, d->s->nb))), 1);
    v = LLVMBuildInsertElement(c->b, v, x, cg_i32(c, j), "");
  }
  cg_val bits = LLVMBuildTrunc(c->b, cg_mul(c, back, cg_i64(c, 8)), c->i32, "");
  return cg_shr(c, v, cg_splat(c, bits, c->W));
}

/* One block of W columns, transposed and packed in words[0..4): codes, the accumulators' start, magic and raw scales. */
static void finish_block(const decoder *d, cg_val block, cg_val raw, cg_val *words, cg_val first, cg_val *min,
                         cg_val *max) {
  cg_ctx *c = d->c;
  int64_t nr = d->s->nr;
  cg_val sum = cg_vi(c, 0), ones = cg_vi(c, 0x01010101), part[2], any = words[0];
  cg_val to = cg_gep_bytes(c, region(d, d->l.b_codes), cg_mul(c, block, cg_i64(c, TT_MX_BLOCK * nr)));
  to = cg_gep(c, c->i32, to, first);
  for (int q = 0; q < 4; q++) {
    if (q) any = cg_or(c, any, words[q]);
    split(c, words[q], &part[0], &part[1]);
    for (int h = 0; h < 2; h++) {
      cg_val codes = decode(c, part[h], d->s->fb, 0);
      cg_store(c, codes, cg_addr(c, c->i32, to, (h * 4 + q) * nr), 4);
      sum = c->target->dot_u8s8(c, sum, ones, codes);
    }
  }
  cg_val none = cg_icmp(c, LLVMIntEQ, cg_and(c, any, cg_vi(c, 0x77777777)), cg_vi(c, 0));
  cg_val neutral = cg_and(c, none, cg_icmp(c, LLVMIntEQ, raw, cg_vi(c, 0)));
  cg_val past = cg_splat(c, cg_icmp(c, LLVMIntSGE, block, d->blocks), c->W);
  raw = cg_select(c, cg_or(c, neutral, past), cg_vi(c, CG_MX_ONE), raw);
  *min = cg_min(c, *min, raw), *max = cg_max(c, *max, raw);
  cg_val magic = cg_or(c, cg_shl(c, cg_add(c, raw, cg_vi(c, 23)), cg_vi(c, 23)), cg_vi(c, 0x400000));
  cg_val init = cg_gep(c, c->i32, region(d, d->l.b_init), cg_mul(c, block, cg_i64(c, 2 * nr)));
  cg_store(c, cg_sub(c, magic, cg_mul(c, sum, cg_vi(c, cg_mx_offset(d->s)))), cg_gep(c, c->i32, init, first), 4);
  cg_store(c, magic, cg_addr(c, c->i32, cg_gep(c, c->i32, init, first), nr), 4);
  cg_val raws = cg_gep(c, c->i32, region(d, d->l.b_raw), cg_mul(c, block, cg_i64(c, nr)));
  cg_store(c, raw, cg_gep(c, c->i32, raws, first), 4);
}

/* W columns of B from column `first` of the panel: vectors of their dwords are transposed while still packed. Blocks past
 * the chunk that a vector holds as well land behind it. */
static void decode_columns(const decoder *d, cg_val first, cg_val *min, cg_val *max) {
  cg_ctx *c = d->c;
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->padded, c->W / 4, 2, (cg_val[]){*min, *max});
  cg_val words[64], left = cg_mul(c, cg_sub(c, d->blocks, b.i), cg_i64(c, 4));
  cg_val src = cg_gep_bytes(c, d->codes, cg_mul(c, b.i, cg_i64(c, 16)));
  for (int j = 0; j < c->W; j++) {
    cg_val at = cg_gep_bytes(c, src, cg_mul(c, column(d, first, j), cg_i64(c, d->s->nb * 16)));
    cg_prefetch(c, cg_addr(c, c->i8, at, c->W * d->s->nb * 16));
    words[j] = cg_load_n(c, at, left, cg_vf(c, 0));
  }
  cg_transpose(c, words, c->W);
  for (int j = 0; j < c->W; j++) words[j] = cg_bits(c, words[j], c->vi);
  cg_val scales = gather_scales(d, b.i, first);
  *min = b.carry[0], *max = b.carry[1];
  for (int i = 0; i < c->W / 4; i++) {
    cg_val raw = cg_and(c, cg_shr(c, scales, cg_vi(c, 8 * i)), cg_vi(c, 255));
    finish_block(d, cg_add(c, b.i, cg_i64(c, i)), raw, words + 4 * i, first, min, max);
  }
  cg_loop_end(&b, (cg_val[]){*min, *max});
  *min = b.carry[0], *max = b.carry[1];
}

cg_val cg_mx_decode_b(cg_ctx *c, const cg_mx_shape *s) {
  decoder d;
  if (!decoder_begin(c, &d, "b", s)) return d.f.fn;
  cg_val one = cg_vi(c, CG_MX_ONE);
  cg_loop first;
  cg_loop_begin(c, &first, cg_i64(c, 0), cg_i64(c, s->nr), c->W, 2, (cg_val[]){one, one});
  cg_val min = first.carry[0], max = first.carry[1];
  decode_columns(&d, first.i, &min, &max);
  cg_loop_end(&first, (cg_val[]){min, max});
  store_range(c, region(&d, d.l.b_range), first.carry[0], first.carry[1]);
  cg_shared_end(&d.f);
  return d.f.fn;
}
