/* MX products on a unit that multiplies whole tiles of bytes (cg_tile_unit; AMX). It gives 16 x 16 dot products of 64 at a
 * time, as int32 and through memory only, so that the float part of gemm_mx.c follows in vectors:
 *   the tall tile's 48 rows stay in three tiles, each 16 columns of the panel pass by in one, dots[48][nr] are stored;
 *   sums[row] += (as float(dots[row] + start) - magic) * scale[row], as there.
 * The decoded operands are those of the other way and so are the bits: a tall tile whose scales leave the fast range is
 * left to it. A pair without a shared scale is two products of 32, on tiles half as deep. Rows that have no such pair are
 * gemm_mx_pipe.c's. */
#include "compiler/codegen/gemm_mx.h"

enum { T_BLOCKS, T_A, T_B, T_WORK, T_ROW, T_UNEQUAL, T_OUT, T_OUT_RS, T_SRC, T_SRC_RS, T_BIAS, T_ROWS, T_COLS, T_COUNT };
enum { SIDE = CG_MX_SIDE, DEEP = CG_MX_TALL / SIDE, TILE_BYTES = 64 };

typedef struct tall {
  cg_ctx *c;
  const cg_tile_unit *u;
  const cg_shared *f;
  const cg_mx_shape *s;
  cg_mx_layout l;
  cg_val sums, dots, a, a_scales, rows;
} tall;

/* A byte of one of the places, which are arguments. */
static cg_val region(const tall *t, int place, int64_t offset) {
  return cg_addr(t->c, t->c->i8, cg_shared_arg(t->f, place), offset);
}

static cg_val out_row(const tall *t, cg_val i) {
  return cg_gep(t->c, t->c->f32, cg_shared_arg(t->f, T_OUT), cg_mul(t->c, i, cg_shared_arg(t->f, T_OUT_RS)));
}

static cg_val sums_row(const tall *t, cg_val i) {
  return cg_gep(t->c, t->c->f32, t->sums, cg_mul(t->c, i, cg_i64(t->c, t->s->nr)));
}

/* Sums from src. Lines of C that will be read or are not written whole are asked for. */
static void load_sums(const tall *t) {
  cg_ctx *c = t->c;
  cg_loop row;
  cg_loop_begin(c, &row, cg_i64(c, 0), t->rows, 1, 0, NULL);
  cg_val src = cg_gep(c, c->f32, cg_shared_arg(t->f, T_SRC), cg_mul(c, row.i, cg_shared_arg(t->f, T_SRC_RS)));
  for (int v = 0; v < t->s->nr; v += c->W) {
    cg_val left = cg_sub(c, cg_shared_arg(t->f, T_COLS), cg_i64(c, v));
    if (!t->s->stream) cg_prefetch_write(c, cg_addr(c, c->f32, out_row(t, row.i), v));
    cg_store(c, cg_load_n(c, cg_addr(c, c->f32, src, v), left, cg_vf(c, 0)), cg_addr(c, c->f32, sums_row(t, row.i), v), 64);
  }
  cg_loop_end(&row, NULL);
}

/* Sums and bias to out, past the caches if `stream`. */
static void store_sums(const tall *t, bool stream) {
  cg_ctx *c = t->c;
  cg_loop row;
  cg_loop_begin(c, &row, cg_i64(c, 0), t->rows, 1, 0, NULL);
  for (int v = 0; v < t->s->nr; v += c->W) {
    cg_val left = stream ? NULL : cg_sub(c, cg_shared_arg(t->f, T_COLS), cg_i64(c, v));
    cg_val bias = cg_load_n(c, cg_addr(c, c->f32, cg_shared_arg(t->f, T_BIAS), v), left, cg_vf(c, 0));
    cg_val sum = cg_add(c, cg_load(c, c->vf, cg_addr(c, c->f32, sums_row(t, row.i), v), 64), bias);
    if (stream)
      cg_store_past_caches(c, sum, cg_addr(c, c->f32, out_row(t, row.i), v));
    else
      cg_store_n(c, sum, cg_addr(c, c->f32, out_row(t, row.i), v), left);
  }
  cg_loop_end(&row, NULL);
}

static void finish_sums(const tall *t) {
  cg_ctx *c = t->c;
  cg_if whole;
  if (!t->s->stream) {
    store_sums(t, false);
    return;
  }
  cg_if_begin(c, &whole, cg_icmp(c, LLVMIntEQ, cg_shared_arg(t->f, T_COLS), cg_i64(c, t->s->nr)));
  store_sums(t, true);
  cg_if_else(&whole);
  store_sums(t, false);
  cg_if_end(&whole);
}

/* Dot products of the blocks from k on, as deep as the tiles a and b are, into dots[part]. */
static void dot_tiles(const tall *t, cg_val k, int part, bool half) {
  cg_ctx *c = t->c;
  int64_t nr = t->s->nr, a_stride = t->s->chunk * TT_MX_BLOCK;
  cg_val a = cg_gep_bytes(c, t->a, cg_mul(c, k, cg_i64(c, TT_MX_BLOCK)));
  cg_val b = cg_gep_bytes(c, region(t, T_B, t->l.b_codes), cg_mul(c, k, cg_i64(c, TT_MX_BLOCK * nr)));
  for (int i = 0; i < DEEP && !half; i++) t->u->load(c, CG_TILE_A + i, cg_addr(c, c->i8, a, i * SIDE * a_stride), a_stride);
  for (int j = 0; j < nr / SIDE; j++) {
    t->u->load(c, half ? CG_TILE_HALF_B : CG_TILE_B, cg_addr(c, c->i8, b, j * TILE_BYTES), nr * 4);
    for (int i = 0; i < DEEP; i++) {
      int acc = (j * DEEP + i) % CG_TILE_ACCS, from = half ? CG_TILE_HALF_A : CG_TILE_A + i;
      if (half) t->u->load(c, from, cg_addr(c, c->i8, a, i * SIDE * a_stride), a_stride);
      t->u->zero(c, acc);
      t->u->dot_u8s8(c, acc, from, half ? CG_TILE_HALF_B : CG_TILE_B);
      t->u->store(c, acc, cg_addr(c, c->i32, t->dots, (part * CG_MX_TALL + i * SIDE) * nr + j * SIDE), nr * 4);
    }
  }
}

/* For the columns of a panel, what turns integers of block k into floats. */
typedef struct columns {
  cg_val start[4], magic[4];
} columns;

static columns columns_of(const tall *t, cg_val k, bool pair) {
  cg_ctx *c = t->c;
  columns x;
  cg_val block = cg_gep(c, c->i32, region(t, T_B, t->l.b_init), cg_mul(c, k, cg_i64(c, 2 * t->s->nr))), start = block;
  if (pair) start = cg_gep(c, c->i32, region(t, T_B, t->l.b_pair), cg_mul(c, cg_shr(c, k, cg_i64(c, 1)), cg_i64(c, t->s->nr)));
  for (int v = 0; v < t->s->nr / c->W; v++) {
    x.start[v] = cg_load(c, c->vi, cg_addr(c, c->i32, start, v * c->W), 4);
    x.magic[v] = cg_load(c, c->vf, cg_addr(c, c->f32, block, t->s->nr + v * c->W), 4);
  }
  return x;
}

static cg_val exact_product(const tall *t, const columns *x, cg_val row, int part, int v) {
  cg_ctx *c = t->c;
  cg_val at = cg_addr(c, c->i32, cg_gep(c, c->i32, t->dots, cg_mul(c, row, cg_i64(c, t->s->nr))),
                      part * CG_MX_TALL * t->s->nr + v * c->W);
  return cg_sub(c, cg_bits(c, cg_add(c, cg_load(c, c->vi, at, 64), x->start[v]), c->vf), x->magic[v]);
}

/* Adds pair k, whose dot products are in dots[0] or, of its two blocks, in dots[0] and dots[1]. */
static void add_pair(const tall *t, cg_val k, bool shared) {
  enum { UNROLL = 4 };
  cg_ctx *c = t->c;
  columns x[2] = {columns_of(t, k, shared)};
  if (!shared) x[1] = columns_of(t, cg_add(c, k, cg_i64(c, 1)), false);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), t->rows, UNROLL, 0, NULL);
  for (int i = 0; i < UNROLL; i++) {
    cg_val row = cg_add(c, l.i, cg_i64(c, i)), scale[2];
    cg_val scales = cg_gep(c, c->f32, t->a_scales, cg_add(c, cg_mul(c, row, cg_i64(c, t->l.scale_stride)), k));
    for (int b = 0; b < 2 - shared; b++) scale[b] = cg_splat(c, cg_load(c, c->f32, cg_addr(c, c->f32, scales, b), 4), c->W);
    for (int v = 0; v < t->s->nr / c->W; v++) {
      cg_val at = cg_addr(c, c->f32, sums_row(t, row), v * c->W);
      cg_val sum = cg_load(c, c->vf, at, 64), first = exact_product(t, &x[0], row, 0, v);
      if (shared)
        sum = cg_fma(c, first, scale[0], sum);
      else
        sum = cg_add(c, sum, cg_fma(c, exact_product(t, &x[1], row, 1, v), scale[1], cg_mul(c, first, scale[0])));
      cg_store(c, sum, at, 64);
    }
  }
  cg_loop_end(&l, NULL);
}

static void add_pairs(const tall *t) {
  cg_ctx *c = t->c;
  cg_val unequal = cg_shared_arg(t->f, T_UNEQUAL);
  cg_loop pair;
  cg_loop_begin(c, &pair, cg_i64(c, 0), cg_shared_arg(t->f, T_BLOCKS), 2, 1, &unequal);
  cg_val k = pair.i, next = cg_shr(c, pair.carry[0], cg_i32(c, 2));
  cg_if way;
  cg_if_begin(c, &way, cg_icmp(c, LLVMIntEQ, cg_and(c, pair.carry[0], cg_i32(c, 1)), cg_i32(c, 0)));
  dot_tiles(t, k, 0, false);
  add_pair(t, k, true);
  cg_if_else(&way);
  dot_tiles(t, k, 0, true);
  dot_tiles(t, cg_add(c, k, cg_i64(c, 1)), 1, true);
  add_pair(t, k, false);
  cg_if_end(&way);
  cg_loop_end(&pair, &next);
}

cg_val cg_mx_tall(cg_ctx *c, const cg_mx_shape *s) {
  char name[96];
  cg_mx_name(name, sizeof name, "tall", s);
  cg_shared f;
  cg_type types[T_COUNT] = {c->i64, c->ptr, c->ptr, c->ptr, c->i64, c->i32, c->ptr,
                            c->i64, c->ptr, c->i64, c->ptr, c->i64, c->i64};
  if (!cg_shared_begin(c, &f, name, T_COUNT, types)) return f.fn;
  TT_ASSERT(c->W == SIDE && s->nr % SIDE == 0 && s->nr / SIDE <= 4);
  tall t = {.c = c, .u = c->target->tiles, .f = &f, .s = s, .l = cg_mx_layout_of(c, s), .rows = cg_shared_arg(&f, T_ROWS)};
  cg_val row = cg_shared_arg(&f, T_ROW);
  t.sums = region(&t, T_WORK, t.l.tall_sums), t.dots = region(&t, T_WORK, t.l.tall_dots);
  t.a = cg_gep_bytes(c, region(&t, T_A, t.l.a_codes), cg_mul(c, row, cg_i64(c, s->chunk * TT_MX_BLOCK)));
  t.a_scales = cg_gep(c, c->f32, region(&t, T_A, t.l.a_scales), cg_mul(c, row, cg_i64(c, t.l.scale_stride)));
  load_sums(&t);
  add_pairs(&t);
  finish_sums(&t);
  cg_shared_end(&f);
  return f.fn;
}
