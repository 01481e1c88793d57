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

/* Integers of the codes in a byte vector, each times 2^shift (lanes of 32 bits, at most `most`), plus `offset`. They are
 * shifted while unsigned, so that no bit of a byte reaches the next. */
static cg_val decode_shifted(cg_ctx *c, cg_val codes, uint8_t format, cg_val shift, int most, int offset) {
  int own = cg_mx_integer(format, 7);
  if (most == 0) return decode(c, codes, format, offset);
  cg_type bytes = LLVMTypeOf(codes);
  cg_val up = cg_bits(c, cg_shl(c, cg_bits(c, decode(c, codes, format, own), c->vi), shift), bytes);
  cg_val excess = cg_bits(c, cg_shl(c, cg_vi(c, own * 0x01010101), shift), bytes);
  return cg_add(c, cg_sub(c, up, excess), cg_bits(c, cg_vi(c, offset * 0x01010101), bytes));
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
  char part[48], name[96];
  cg_mx_shape key = *s;
  *d = (decoder){.c = c, .s = s, .l = cg_mx_layout_of(c, s)};
  snprintf(part, sizeof part, "%s%lld", what, (long long)s->nb);
  key.stream = false; /* is the product's alone */
  cg_mx_name(name, sizeof name, part, &key);
  if (!cg_shared_begin(c, &d->f, name, D_COUNT, (cg_type[]){c->ptr, c->ptr, c->i64, c->i64, c->ptr})) return false;
  d->codes = cg_shared_arg(&d->f, D_CODES);
  d->scales = cg_shared_arg(&d->f, D_SCALES);
  d->blocks = cg_shared_arg(&d->f, D_BLOCKS);
  d->used = cg_shared_arg(&d->f, D_COUNT_USED);
  d->base = cg_shared_arg(&d->f, D_BASE);
  d->padded = cg_and(c, cg_add(c, d->blocks, cg_i64(c, 1)), cg_i64(c, -2));
  return true;
}

/* Asks for the line of packed codes at `at` in the next chunk, which is decoded when this one's product is made. A row of a
 * weight gradient's operands is a few lines in each chunk and the next row far away: a third of decoding was waiting. */
static void prefetch_next_chunk(const decoder *d, cg_val at) {
  if (!d->s->once) cg_prefetch_l2(d->c, cg_addr(d->c, d->c->i8, at, d->s->chunk * 16));
}

static cg_val region(const decoder *d, int64_t offset) { return cg_addr(d->c, d->c->i8, d->base, offset); }

/* A scale and that of the other block of its pair become what the block is multiplied with; *shift: by how much its codes
 * are shifted up for that. WILD is the scale of a block of zeros, whose products are 0 whatever its scale, which then must
 * cost neither the fast path nor the pair: it takes the other's. */
enum { WILD = -1, NAN_SCALE = 255 };
static cg_val share_scale(cg_ctx *c, cg_val own, cg_val other, int most, cg_val *shift) {
  cg_val zero = cg_vi(c, 0), s = cg_select(c, cg_icmp(c, LLVMIntSLT, own, zero), other, own);
  other = cg_select(c, cg_icmp(c, LLVMIntSLT, other, zero), s, other);
  cg_val low = cg_min(c, s, other), high = cg_max(c, s, other), ok;
  ok = cg_icmp(c, LLVMIntSLE, cg_sub(c, high, low), cg_vi(c, most));
  ok = cg_and(c, ok, cg_icmp(c, LLVMIntNE, high, cg_vi(c, NAN_SCALE)));
  *shift = cg_select(c, ok, cg_sub(c, s, low), zero);
  s = cg_select(c, ok, low, s);
  return cg_select(c, cg_icmp(c, LLVMIntSLT, s, zero), cg_vi(c, CG_MX_ONE), s);
}

/* <W x i1> as an integer of 32 bits, lane i in bit i. */
static cg_val lane_bits(cg_ctx *c, cg_val lanes) {
  cg_val bits = cg_bits(c, lanes, LLVMIntTypeInContext(c->llvm, (unsigned)c->W));
  return c->W < 32 ? LLVMBuildZExt(c->b, bits, c->i32, "") : bits;
}

/* The smallest and largest scale seen, and pairs of unequal ones (bit 2j). */
typedef struct range {
  cg_val part[3];
} range;
static range no_range(cg_ctx *c) { return (range){{cg_vi(c, CG_MX_ONE), cg_vi(c, CG_MX_ONE), cg_i32(c, 0)}}; }
static range range_carried(const cg_loop *l) { return (range){{l->carry[0], l->carry[1], l->carry[2]}}; }
static void add_range(cg_ctx *c, range *r, cg_val scales, cg_val unequal) {
  r->part[0] = cg_min(c, r->part[0], scales), r->part[1] = cg_max(c, r->part[1], scales);
  r->part[2] = cg_or(c, r->part[2], unequal);
}

/* Scales of blocks of zeros among those of row `row` of A, at `raws`, of which one is 0, become WILD: not vectorised, as it
 * is rare. */
static void find_wild(const decoder *d, cg_val row, cg_val raws) {
  cg_ctx *c = d->c;
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->blocks, 1, 0, NULL);
  cg_val at = cg_add(c, cg_mul(c, row, cg_i64(c, d->s->nb)), b.i), raw = cg_gep(c, c->i32, raws, b.i);
  cg_val codes = cg_gep_bytes(c, d->codes, cg_mul(c, at, cg_i64(c, 16)));
  cg_val both = cg_or(c, cg_load(c, c->i64, codes, 1), cg_load(c, c->i64, cg_addr(c, c->i8, codes, 8), 1));
  cg_val none = cg_icmp(c, LLVMIntEQ, cg_and(c, both, cg_i64(c, 0x7777777777777777)), cg_i64(c, 0));
  cg_val zero = cg_icmp(c, LLVMIntEQ, cg_load(c, c->i8, cg_gep_bytes(c, d->scales, at), 1), LLVMConstInt(c->i8, 0, false));
  cg_val old = cg_load(c, c->i32, raw, 4);
  cg_store(c, cg_select(c, cg_and(c, zero, none), cg_i32(c, WILD), old), raw, 4);
  cg_loop_end(&b, NULL);
}

/* Scale bytes of source row `from` as i32 at `raws`, W at a time, and WILD behind an odd last one. Where fewer are left the
 * vector begins before them: in memory there are other scales or codes, in scratch the gap between rows. */
static void load_a_scales(const decoder *d, cg_val from, cg_val raws) {
  cg_ctx *c = d->c;
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->blocks, c->W, 1, (cg_val[]){cg_i32(c, 0)});
  cg_val first = cg_min(c, b.i, cg_sub(c, d->blocks, cg_i64(c, c->W))), skip = cg_sub(c, b.i, first);
  cg_val src = cg_gep_bytes(c, d->scales, cg_add(c, cg_mul(c, from, cg_i64(c, d->s->nb)), first));
  cg_val bytes = cg_load(c, cg_vec(c, c->i8, c->W), src, 1), raw = LLVMBuildZExt(c->b, bytes, c->vi, "");
  cg_store(c, raw, cg_gep(c, c->i32, raws, first), 4);
  cg_val old = cg_icmp(c, LLVMIntSLT, cg_iota(c, c->i32, c->W), cg_splat(c, LLVMBuildTrunc(c->b, skip, c->i32, ""), c->W));
  cg_val zero = cg_icmp(c, LLVMIntEQ, cg_select(c, old, cg_vi(c, 1), raw), cg_vi(c, 0));
  cg_val any = cg_or(c, b.carry[0], lane_bits(c, zero));
  cg_loop_end(&b, &any);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntNE, b.carry[0], cg_i32(c, 0)));
  find_wild(d, from, raws);
  cg_if_end(&f);
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntNE, d->blocks, d->padded));
  cg_store(c, cg_i32(c, WILD), cg_gep(c, c->i32, raws, d->blocks), 4);
  cg_if_end(&f);
}

/* Scales of source row `from` into row `row`, raw and as the float 2^(raw - 127 - bits), and the shifts of its blocks. */
static void decode_a_scales(const decoder *d, cg_val row, cg_val from, range *r) {
  cg_ctx *c = d->c;
  cg_val to = cg_mul(c, row, cg_i64(c, d->l.scale_stride)), lanes[64], shift;
  cg_val raws = cg_gep(c, c->i32, region(d, d->l.a_raw), to), floats = cg_gep(c, c->i32, region(d, d->l.a_scales), to);
  load_a_scales(d, from, raws);
  for (int i = 0; i < c->W; i++) lanes[i] = cg_i32(c, i ^ 1);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->padded, c->W, 3, r->part);
  cg_val at = cg_gep(c, c->i32, raws, b.i), own = cg_load(c, c->vi, at, 4);
  cg_val live = cg_lane_mask(c, cg_sub(c, d->padded, b.i)), swap = LLVMConstVector(lanes, (unsigned)c->W);
  cg_val raw = share_scale(c, own, LLVMBuildShuffleVector(c->b, own, own, swap, ""), cg_mx_shift_a(d->s), &shift);
  raw = cg_select(c, live, raw, cg_vi(c, CG_MX_ONE));
  cg_store(c, raw, at, 4);
  cg_store(c, cg_shl(c, cg_sub(c, raw, cg_vi(c, cg_mx_code_bits(d->s))), cg_vi(c, 23)), cg_gep(c, c->i32, floats, b.i), 4);
  cg_store(c, shift, cg_gep(c, c->i32, region(d, d->l.a_shift), b.i), 4);
  cg_val unequal = lane_bits(c, cg_icmp(c, LLVMIntNE, raw, LLVMBuildShuffleVector(c->b, raw, raw, swap, "")));
  range seen = range_carried(&b);
  add_range(c, &seen, raw, cg_shl(c, unequal, LLVMBuildTrunc(c->b, b.i, c->i32, "")));
  cg_loop_end(&b, seen.part);
  *r = range_carried(&b);
}

/* The shifts of the W/4 blocks from b on, each in the lanes of its packed dwords. */
static cg_val a_shifts(const decoder *d, cg_val b) {
  cg_ctx *c = d->c;
  cg_val at = cg_gep(c, c->i32, region(d, d->l.a_shift), b), lanes[64];
  cg_val shifts = cg_load(c, cg_vec(c, c->i32, c->W / 4), at, 4);
  for (int i = 0; i < c->W; i++) lanes[i] = cg_i32(c, i / 4);
  return LLVMBuildShuffleVector(c->b, shifts, shifts, LLVMConstVector(lanes, (unsigned)c->W), "");
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
  prefetch_next_chunk(d, at);
  cg_val packed = cg_load_n(c, at, left, cg_vf(c, 0));
  cg_val part[2], lanes[64], shift = a_shifts(d, b.i);
  split(c, cg_bits(c, packed, c->vi), &part[0], &part[1]);
  for (int h = 0; h < 2; h++)
    part[h] = cg_bits(c, decode_shifted(c, part[h], d->s->fa, shift, cg_mx_shift_a(d->s), d->s->offset), c->vf);
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

static void store_range(cg_ctx *c, cg_val to, const range *r) {
  cg_store(c, reduce(c, "smin", r->part[0]), cg_addr(c, c->i32, to, CG_MX_RANGE_MIN), 4);
  cg_store(c, reduce(c, "smax", r->part[1]), cg_addr(c, c->i32, to, CG_MX_RANGE_MAX), 4);
  cg_store(c, r->part[2], cg_addr(c, c->i32, to, CG_MX_RANGE_UNEQUAL), 4);
}

/* Scales of pairs for a tile unit: of 16 rows those of a pair lie together, taken from its first block. */
static void gather_pair_scales(const decoder *d) {
  cg_ctx *c = d->c;
  cg_loop row, b;
  cg_loop_begin(c, &row, cg_i64(c, 0), d->used, CG_MX_SIDE, 0, NULL);
  cg_val from = cg_gep(c, c->f32, region(d, d->l.a_scales), cg_mul(c, row.i, cg_i64(c, d->l.scale_stride)));
  cg_val to = cg_gep(c, c->f32, region(d, d->l.a_pair_scales), cg_mul(c, row.i, cg_i64(c, d->s->chunk / 2)));
  cg_loop_begin(c, &b, cg_i64(c, 0), d->padded, c->W, 0, NULL);
  cg_val scales[CG_MX_SIDE], pair = cg_mul(c, b.i, cg_i64(c, CG_MX_SIDE / 2));
  for (int i = 0; i < CG_MX_SIDE; i++)
    scales[i] = cg_load(c, c->vf, cg_addr(c, c->f32, cg_gep(c, c->f32, from, b.i), i * d->l.scale_stride), 4);
  cg_transpose(c, scales, CG_MX_SIDE);
  for (int i = 0; i < CG_MX_SIDE; i += 2)
    cg_store(c, scales[i], cg_addr(c, c->vf, cg_gep(c, c->f32, to, pair), i / 2), 4);
  cg_loop_end(&b, NULL);
  cg_loop_end(&row, NULL);
}

cg_val cg_mx_decode_a(cg_ctx *c, const cg_mx_shape *s) {
  decoder d;
  if (!decoder_begin(c, &d, "a", s)) return d.f.fn;
  cg_loop tile, row;
  cg_loop_begin(c, &tile, cg_i64(c, 0), d.used, s->mr, 0, NULL);
  cg_loop_begin(c, &row, tile.i, cg_add(c, tile.i, cg_i64(c, s->mr)), 1, 3, no_range(c).part);
  range r = range_carried(&row);
  cg_val from = cg_min(c, row.i, cg_sub(c, d.used, cg_i64(c, 1))); /* rows past the end are copies, never stored */
  decode_a_scales(&d, row.i, from, &r);
  decode_a_codes(&d, row.i, from);
  cg_loop_end(&row, r.part);
  r = range_carried(&row);
  cg_val at = cg_mul(c, cg_div(c, tile.i, cg_i64(c, s->mr)), cg_i64(c, CG_MX_RANGE_SIZE));
  store_range(c, cg_gep(c, c->i32, region(&d, d.l.a_range), at), &r);
  cg_loop_end(&tile, NULL);
  if (c->target->tiles) gather_pair_scales(&d);
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

/* A block of W columns, transposed and packed in words[0..4): its integers, shifted, from column `first` of the panel on;
 * their sum for each column. */
static cg_val store_codes(const decoder *d, cg_val block, cg_val shift, cg_val *words, cg_val first) {
  cg_ctx *c = d->c;
  int64_t nr = d->s->nr;
  cg_val sum = cg_vi(c, 0), ones = cg_vi(c, 0x01010101), part[2];
  cg_val to = cg_gep_bytes(c, region(d, d->l.b_codes), cg_mul(c, block, cg_i64(c, TT_MX_BLOCK * nr)));
  to = cg_gep(c, c->i32, to, first);
  for (int q = 0; q < 4; q++) {
    split(c, words[q], &part[0], &part[1]);
    for (int h = 0; h < 2; h++) {
      cg_val codes = decode_shifted(c, part[h], d->s->fb, shift, cg_mx_shift_b(d->s), 0);
      cg_store(c, codes, cg_addr(c, c->i32, to, (h * 4 + q) * nr), 4);
      sum = c->target->dot_u8s8(c, sum, ones, codes);
    }
  }
  return sum;
}

/* raw, or WILD where the block's codes in words[0..4) are zeros, as they are past the last block. */
static cg_val known_scale(const decoder *d, cg_val block, cg_val raw, const cg_val *words) {
  cg_ctx *c = d->c;
  cg_val any = cg_or(c, cg_or(c, words[0], words[1]), cg_or(c, words[2], words[3]));
  cg_val none = cg_icmp(c, LLVMIntEQ, cg_and(c, any, cg_vi(c, 0x77777777)), cg_vi(c, 0));
  cg_val neutral = cg_and(c, none, cg_icmp(c, LLVMIntEQ, raw, cg_vi(c, 0)));
  cg_val past = cg_splat(c, cg_icmp(c, LLVMIntSGE, block, d->blocks), c->W);
  return cg_select(c, cg_or(c, neutral, past), cg_vi(c, WILD), raw);
}

/* A pair of blocks of W columns, packed in words[0..8), with raw scales: codes, the accumulators' starts, magic and scales.
 */
static void finish_pair(const decoder *d, cg_val block, const cg_val *raw, cg_val *words, cg_val first, range *r) {
  cg_ctx *c = d->c;
  int64_t nr = d->s->nr;
  cg_val own[2], scale[2], sum[2], shift, magic;
  cg_val blocks[2] = {block, cg_add(c, block, cg_i64(c, 1))};
  for (int i = 0; i < 2; i++) own[i] = known_scale(d, blocks[i], raw[i], words + 4 * i);
  for (int i = 0; i < 2; i++) {
    scale[i] = share_scale(c, own[i], own[1 - i], cg_mx_shift_b(d->s), &shift);
    sum[i] = cg_mul(c, store_codes(d, blocks[i], shift, words + 4 * i, first), cg_vi(c, d->s->offset));
    magic = cg_or(c, cg_shl(c, cg_add(c, scale[i], cg_vi(c, 23)), cg_vi(c, 23)), cg_vi(c, 0x400000));
    cg_val init = cg_gep(c, c->i32, region(d, d->l.b_init), cg_mul(c, blocks[i], cg_i64(c, 2 * nr)));
    cg_store(c, cg_sub(c, magic, sum[i]), cg_gep(c, c->i32, init, first), 4);
    cg_store(c, magic, cg_addr(c, c->i32, cg_gep(c, c->i32, init, first), nr), 4);
    cg_val raws = cg_gep(c, c->i32, region(d, d->l.b_raw), cg_mul(c, blocks[i], cg_i64(c, nr)));
    cg_store(c, scale[i], cg_gep(c, c->i32, raws, first), 4);
  }
  cg_val at = cg_add(c, cg_mul(c, cg_shr(c, block, cg_i64(c, 1)), cg_i64(c, nr)), first);
  cg_store(c, cg_sub(c, magic, cg_add(c, sum[0], sum[1])), cg_gep(c, c->i32, region(d, d->l.b_pair), at), 4);
  cg_val differ = cg_icmp(c, LLVMIntNE, lane_bits(c, cg_icmp(c, LLVMIntNE, scale[0], scale[1])), cg_i32(c, 0));
  cg_val bit = cg_shl(c, cg_i32(c, 1), LLVMBuildTrunc(c->b, block, c->i32, ""));
  add_range(c, r, cg_min(c, scale[0], scale[1]), cg_select(c, differ, bit, cg_i32(c, 0)));
  r->part[1] = cg_max(c, r->part[1], cg_max(c, scale[0], scale[1]));
}

/* W columns of B from column `first` of the panel: vectors of their dwords are transposed while still packed. Blocks past
 * the chunk that a vector holds as well land behind it. */
static void decode_columns(const decoder *d, cg_val first, range *r) {
  cg_ctx *c = d->c;
  int dwords = c->W < 8 ? 8 : c->W; /* at a time, of a column: whole pairs */
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), d->padded, dwords / 4, 3, r->part);
  cg_val words[64], left = cg_mul(c, cg_sub(c, d->blocks, b.i), cg_i64(c, 4));
  cg_val src = cg_gep_bytes(c, d->codes, cg_mul(c, b.i, cg_i64(c, 16)));
  for (int w = 0; w < dwords; w += c->W) {
    for (int j = 0; j < c->W; j++) {
      cg_val at = cg_gep_bytes(c, src, cg_mul(c, column(d, first, j), cg_i64(c, d->s->nb * 16)));
      if (w == 0) cg_prefetch(c, cg_addr(c, c->i8, at, c->W * d->s->nb * 16));
      if (w == 0) prefetch_next_chunk(d, at);
      words[w + j] = cg_load_n(c, cg_addr(c, c->f32, at, w), cg_sub(c, left, cg_i64(c, w)), cg_vf(c, 0));
    }
    cg_transpose(c, words + w, c->W);
  }
  for (int j = 0; j < dwords; j++) words[j] = cg_bits(c, words[j], c->vi);
  cg_val scales = gather_scales(d, b.i, first), raw[2];
  range seen = range_carried(&b);
  for (int i = 0; i < dwords / 4; i += 2) {
    for (int x = 0; x < 2; x++) raw[x] = cg_and(c, cg_shr(c, scales, cg_vi(c, 8 * (i + x))), cg_vi(c, 255));
    finish_pair(d, cg_add(c, b.i, cg_i64(c, i)), raw, words + 4 * i, first, &seen);
  }
  cg_loop_end(&b, seen.part);
  *r = range_carried(&b);
}

cg_val cg_mx_decode_b(cg_ctx *c, const cg_mx_shape *s) {
  decoder d;
  if (!decoder_begin(c, &d, "b", s)) return d.f.fn;
  cg_loop first;
  cg_loop_begin(c, &first, cg_i64(c, 0), cg_i64(c, s->nr), c->W, 3, no_range(c).part);
  range r = range_carried(&first);
  decode_columns(&d, first.i, &r);
  cg_loop_end(&first, r.part);
  r = range_carried(&first);
  store_range(c, region(&d, d.l.b_range), &r);
  cg_shared_end(&d.f);
  return d.f.fn;
}
