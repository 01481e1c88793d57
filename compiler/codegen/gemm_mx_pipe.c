/* MX products on a unit that multiplies whole tiles of bytes (cg_tile_unit; AMX), which gives 16 x 16 dot products of 64 as
 * int32 and through memory only, so that the float part of gemm_mx.c follows in vectors: a pipeline in which at any time
 *   product x + 2 is being made in a tile,
 *   product x + 1 moves from its tile to memory, which it must, and
 *   product x is read from there and added: sum = (as float(dots + start) - magic) * scale + sum.
 * A tile stored right after its product holds up the unit until that is done, some 50 cycles; a step later it does not. A
 * run is all pairs of one 16 x 16 tile of C, whose sums stay in registers meanwhile; the unit goes on to the next run while
 * the last products of one are added. Products lie row upon row (64 bytes apart): read back from a wider stride they cost
 * twice.
 *
 * A pair whose blocks do not share their scales in one of the 16 rows or in the panel is two products of 32, in two tiles,
 * which go through the pipeline together. In a weight gradient that is a third of all pairs: those with a class token,
 * whose gradient is far larger than its neighbours', in one of their blocks. Where no pair is split the code does not ask.
 *
 * The decoded operands are those of the other ways and so are the bits; rows whose scales leave the fast range are left to
 * them. */
#include <stdio.h>
#include "compiler/codegen/gemm_mx.h"

enum { P_BLOCKS, P_BASE, P_ROW, P_OUT, P_OUT_RS, P_SRC, P_SRC_RS, P_BIAS, P_ROWS, P_COLS, P_COUNT };
enum { SIDE = CG_MX_SIDE, TILE_BYTES = 64, PAIR_BYTES = 2 * TT_MX_BLOCK, DOTS = SIDE * SIDE };

/* What the tile unit multiplies next: sixteen of rows, bytes into a row, tile of columns; and whether the pair that it
 * multiplied last was split. */
enum { AT_ROWS, AT_PAIR, AT_COLS, AT_SPLIT, AT_COUNT };
enum { SECOND = 2 }; /* products of a split pair's second block: slots and accumulators behind those of the first */

typedef struct pipe {
  cg_ctx *c;
  const cg_tile_unit *u;
  const cg_shared *f;
  const cg_mx_shape *s;
  cg_mx_layout l;
  cg_val pairs, steps; /* of a run; steps of the unit are an even number where pairs are not known */
  cg_val a, groups;    /* codes of the first row; rows by sixteen */
  cg_val splits, of_b; /* pairs that are split in sixteen rows and in the panel, as in a range; NULL where none is */
  int64_t n_cols, fixed; /* tiles across the panel; pairs, or 0 where not known */
  cg_val at[AT_COUNT];
} pipe;

/* One run: a tile of C and its sums. */
typedef struct run {
  cg_val row, scales; /* from the first; of its rows, [pair][16] */
  cg_val split;       /* which pairs are */
  cg_val col;         /* the tile's first, of the panel */
  cg_val sums[SIDE];
} run;

static cg_val arg(const pipe *p, int i) { return cg_shared_arg(p->f, i); }
static cg_val region(const pipe *p, int64_t offset) { return cg_addr(p->c, p->c->i8, arg(p, P_BASE), offset); }
static cg_val dots(const pipe *p, int slot) { return region(p, p->l.dots + slot * DOTS * 4); }

/* Whether pair `pair` (i64) is among `splits`. */
static cg_val is_split(cg_ctx *c, cg_val splits, cg_val pair) {
  cg_val bit = cg_shl(c, LLVMBuildTrunc(c->b, pair, c->i32, ""), cg_i32(c, 1));
  return LLVMBuildTrunc(c->b, cg_shr(c, splits, bit), c->i1, "");
}

/* Which pairs are split in the sixteen rows `group` times the panel. */
static cg_val split_pairs(const pipe *p, cg_val group) {
  cg_ctx *c = p->c;
  return cg_or(c, cg_load(c, c->i32, cg_gep(c, c->i32, p->splits, group), 4), p->of_b);
}

/* acc = a * b. */
static void multiply(const pipe *p, int acc, cg_val a, cg_val b, bool half) {
  int at = half ? CG_TILE_HALF_A : CG_TILE_A, by = half ? CG_TILE_HALF_B : CG_TILE_B;
  p->u->load(p->c, at, a, p->s->chunk * TT_MX_BLOCK);
  p->u->load(p->c, by, b, p->s->nr * 4);
  p->u->zero(p->c, acc);
  p->u->dot_u8s8(p->c, acc, at, by);
}

static void begin_pair(const pipe *p, int slot, cg_val a, cg_val b) {
  cg_ctx *c = p->c;
  int acc = CG_TILE_ACC + slot;
  cg_if f;
  if (!p->splits) {
    multiply(p, acc, a, b, false);
    return;
  }
  cg_if_begin(c, &f, p->at[AT_SPLIT]);
  multiply(p, acc, a, b, true);
  multiply(p, acc + SECOND, cg_addr(c, c->i8, a, TT_MX_BLOCK), cg_addr(c, c->i8, b, TT_MX_BLOCK * p->s->nr), true);
  cg_if_else(&f);
  multiply(p, acc, a, b, false);
  cg_if_end(&f);
}

/* Begins the next product, in accumulator `slot`. Behind the last run comes the first again: read in vain, never stored. */
static void begin_product(pipe *p, int slot) {
  cg_ctx *c = p->c;
  int64_t stride = p->s->chunk * TT_MX_BLOCK;
  cg_val a = cg_gep_bytes(c, p->a, cg_add(c, cg_mul(c, p->at[AT_ROWS], cg_i64(c, SIDE * stride)), p->at[AT_PAIR]));
  cg_val b = cg_gep_bytes(c, region(p, p->l.b_codes), cg_mul(c, p->at[AT_PAIR], cg_i64(c, p->s->nr)));
  if (p->splits) p->at[AT_SPLIT] = is_split(c, split_pairs(p, p->at[AT_ROWS]), cg_shr(c, p->at[AT_PAIR], cg_i64(c, 6)));
  begin_pair(p, slot, a, cg_gep_bytes(c, b, cg_mul(c, p->at[AT_COLS], cg_i64(c, TILE_BYTES))));
  cg_val zero = cg_i64(c, 0), pair = cg_add(c, p->at[AT_PAIR], cg_i64(c, PAIR_BYTES));
  cg_val new_run = cg_icmp(c, LLVMIntEQ, pair, cg_mul(c, p->steps, cg_i64(c, PAIR_BYTES)));
  cg_val cols = cg_add(c, p->at[AT_COLS], LLVMBuildZExt(c->b, new_run, c->i64, ""));
  cg_val new_rows = cg_icmp(c, LLVMIntEQ, cols, cg_i64(c, p->n_cols));
  cg_val rows = cg_add(c, p->at[AT_ROWS], cg_i64(c, 1));
  rows = cg_select(c, cg_icmp(c, LLVMIntEQ, rows, p->groups), zero, rows);
  p->at[AT_ROWS] = cg_select(c, new_rows, rows, p->at[AT_ROWS]);
  p->at[AT_PAIR] = cg_select(c, new_run, zero, pair);
  p->at[AT_COLS] = cg_select(c, new_rows, zero, cols);
}

/* Stores what is in accumulator `slot`, of a pair that is split or not (i1). */
static void store_product(const pipe *p, int slot, cg_val split) {
  cg_ctx *c = p->c;
  cg_if f;
  p->u->store(c, CG_TILE_ACC + slot, dots(p, slot), TILE_BYTES);
  if (!p->splits) return;
  cg_if_begin(c, &f, split);
  p->u->store(c, CG_TILE_ACC + slot + SECOND, dots(p, slot + SECOND), TILE_BYTES);
  cg_if_end(&f);
}

/* Moves the unit's products on by one, so that those of `slot` can be added afterwards. */
static void step(pipe *p, int slot) {
  cg_val split = p->at[AT_SPLIT];
  begin_product(p, slot);
  store_product(p, 1 - slot, split);
}

/* What makes floats of integers, for a run's columns: of pair `pair` or, `block` 0 or 1, of one of its blocks. */
typedef struct to_float {
  cg_val start, magic;
} to_float;
enum { BOTH = -1 };

static to_float to_float_of(const pipe *p, const run *r, cg_val pair, int block) {
  cg_ctx *c = p->c;
  int64_t nr = p->s->nr;
  cg_val of_pair = cg_gep(c, c->i32, region(p, p->l.b_pair), cg_mul(c, pair, cg_i64(c, nr)));
  cg_val inits = cg_gep(c, c->i32, region(p, p->l.b_init), cg_mul(c, pair, cg_i64(c, 4 * nr)));
  of_pair = cg_gep(c, c->i32, of_pair, r->col), inits = cg_gep(c, c->i32, inits, r->col);
  if (block == 1) inits = cg_addr(c, c->i32, inits, 2 * nr);
  cg_val start = cg_load(c, c->vi, block == BOTH ? of_pair : inits, 4);
  return (to_float){start, cg_load(c, c->vf, cg_addr(c, c->f32, inits, nr), 4)};
}

static cg_val exact_product(const pipe *p, const to_float *x, int slot, int row) {
  cg_ctx *c = p->c;
  cg_val dot = cg_add(c, cg_load(c, c->vi, cg_addr(c, c->vi, dots(p, slot), row), 64), x->start);
  return cg_sub(c, cg_bits(c, dot, c->vf), x->magic);
}

static cg_val scale_at(const pipe *p, cg_val scales, int64_t i) {
  return cg_splat(p->c, cg_load(p->c, p->c->f32, cg_addr(p->c, p->c->f32, scales, i), 4), p->c->W);
}

/* Adds pair `pair`, whose products are in `slot`. */
static void add_shared(const pipe *p, run *r, cg_val pair, int slot) {
  cg_ctx *c = p->c;
  to_float x = to_float_of(p, r, pair, BOTH);
  cg_val scales = cg_gep(c, c->f32, r->scales, cg_mul(c, pair, cg_i64(c, SIDE)));
  for (int i = 0; i < SIDE; i++)
    r->sums[i] = cg_fma(c, exact_product(p, &x, slot, i), scale_at(p, scales, i), r->sums[i]);
}

static void add_split(const pipe *p, run *r, cg_val pair, int slot) {
  cg_ctx *c = p->c;
  to_float x = to_float_of(p, r, pair, 0), y = to_float_of(p, r, pair, 1);
  int64_t stride = p->l.scale_stride;
  cg_val row = cg_mul(c, cg_add(c, arg(p, P_ROW), r->row), cg_i64(c, stride));
  cg_val scales = cg_gep(c, c->f32, region(p, p->l.a_scales), cg_add(c, row, cg_shl(c, pair, cg_i64(c, 1))));
  for (int i = 0; i < SIDE; i++) {
    cg_val first = cg_mul(c, exact_product(p, &x, slot, i), scale_at(p, scales, i * stride));
    cg_val both = cg_fma(c, exact_product(p, &y, slot + SECOND, i), scale_at(p, scales, i * stride + 1), first);
    r->sums[i] = cg_add(c, r->sums[i], both);
  }
}

static void add_pair(const pipe *p, run *r, cg_val pair, int slot) {
  cg_ctx *c = p->c;
  cg_if f;
  run split = *r;
  if (!p->splits) {
    add_shared(p, r, pair, slot);
    return;
  }
  cg_if_begin(c, &f, is_split(c, r->split, pair));
  add_split(p, &split, pair, slot);
  cg_if_else(&f);
  add_shared(p, r, pair, slot);
  cg_if_end(&f);
  for (int i = 0; i < SIDE; i++) r->sums[i] = cg_if_value(&f, split.sums[i], r->sums[i]);
}

static void loop_begin(const pipe *p, const run *r, cg_loop *l, cg_val begin, cg_val end, int64_t by) {
  cg_val init[SIDE + AT_COUNT];
  for (int i = 0; i < SIDE; i++) init[i] = r->sums[i];
  for (int i = 0; i < AT_COUNT; i++) init[SIDE + i] = p->at[i];
  cg_loop_begin(p->c, l, begin, end, by, SIDE + AT_COUNT, init);
}

static void loop_values(pipe *p, run *r, const cg_loop *l) {
  for (int i = 0; i < SIDE; i++) r->sums[i] = l->carry[i];
  for (int i = 0; i < AT_COUNT; i++) p->at[i] = l->carry[SIDE + i];
}

static void loop_end(pipe *p, run *r, cg_loop *l) {
  cg_val next[SIDE + AT_COUNT];
  for (int i = 0; i < SIDE; i++) next[i] = r->sums[i];
  for (int i = 0; i < AT_COUNT; i++) next[SIDE + i] = p->at[i];
  cg_loop_end(l, next);
  loop_values(p, r, l);
}

/* All pairs, two a turn, the first in `slot`. Returns the slot of the next run's first. Where the number of pairs is not
 * known the unit makes an even number of products, of which the last may go unused. */
static int add_pairs(pipe *p, run *r, int slot) {
  cg_ctx *c = p->c;
  cg_loop two, second;
  loop_begin(p, r, &two, cg_i64(c, 0), p->fixed ? cg_i64(c, p->fixed & ~1) : p->pairs, 2);
  loop_values(p, r, &two);
  step(p, slot);
  add_pair(p, r, two.i, slot);
  cg_val next = cg_add(c, two.i, cg_i64(c, 1));
  step(p, 1 - slot);
  if (!p->fixed) {
    loop_begin(p, r, &second, next, cg_min(c, p->pairs, cg_add(c, next, cg_i64(c, 1))), 1);
    loop_values(p, r, &second);
  }
  add_pair(p, r, next, 1 - slot);
  if (!p->fixed) loop_end(p, r, &second);
  loop_end(p, r, &two);
  if (p->fixed % 2 == 0) return slot;
  step(p, slot);
  add_pair(p, r, cg_i64(c, p->fixed - 1), slot);
  return 1 - slot;
}

/* Of row i of the run: its place in src or out, and how many of its columns there are. */
static cg_val place(const pipe *p, const run *r, int base, int stride, int i) {
  cg_ctx *c = p->c;
  cg_val row = cg_add(c, r->row, cg_i64(c, i));
  cg_val at = cg_gep(c, c->f32, arg(p, base), cg_mul(c, row, arg(p, stride)));
  return cg_gep(c, c->f32, at, r->col);
}
static cg_val columns(const pipe *p, const run *r) { return cg_sub(p->c, arg(p, P_COLS), r->col); }
static cg_val width(const pipe *p, const run *r, int i) {
  cg_ctx *c = p->c;
  cg_val there = cg_icmp(c, LLVMIntSLT, cg_add(c, r->row, cg_i64(c, i)), arg(p, P_ROWS));
  return cg_select(c, there, columns(p, r), cg_i64(c, 0));
}

/* Sums from src; meanwhile the lines of C that the next run will write are asked for: a store that waits for its line keeps
 * the unit's behind it waiting. */
static void load_sums(const pipe *p, run *r) {
  cg_ctx *c = p->c;
  for (int i = 0; i < SIDE; i++) {
    r->sums[i] = cg_vf(c, 0);
    if (!p->s->once) r->sums[i] = cg_load_n(c, place(p, r, P_SRC, P_SRC_RS, i), width(p, r, i), r->sums[i]);
  }
  run next = *r;
  next.col = cg_add(c, r->col, cg_i64(c, SIDE));
  cg_val end = cg_icmp(c, LLVMIntEQ, next.col, cg_i64(c, p->s->nr));
  next.col = cg_select(c, end, cg_i64(c, 0), next.col);
  next.row = cg_select(c, end, cg_add(c, r->row, cg_i64(c, SIDE)), r->row);
  for (int i = 0; i < SIDE && !p->s->stream; i++) cg_prefetch_write(c, place(p, &next, P_OUT, P_OUT_RS, i));
}

static void store_sums(const pipe *p, const run *r) {
  cg_ctx *c = p->c;
  cg_val bias = cg_load_n(c, cg_gep(c, c->f32, arg(p, P_BIAS), r->col), columns(p, r), cg_vf(c, 0));
  cg_val rows = cg_icmp(c, LLVMIntSLE, cg_add(c, r->row, cg_i64(c, SIDE)), arg(p, P_ROWS));
  cg_val cols = cg_icmp(c, LLVMIntSGE, columns(p, r), cg_i64(c, SIDE));
  cg_if whole;
  cg_if_begin(c, &whole, cg_and(c, rows, cols));
  for (int i = 0; i < SIDE; i++) {
    cg_val sum = cg_add(c, r->sums[i], bias), to = place(p, r, P_OUT, P_OUT_RS, i);
    if (p->s->stream)
      cg_store_past_caches(c, sum, to);
    else
      cg_store(c, sum, to, 4);
  }
  cg_if_else(&whole);
  for (int i = 0; i < SIDE; i++)
    cg_store_n(c, cg_add(c, r->sums[i], bias), place(p, r, P_OUT, P_OUT_RS, i), width(p, r, i));
  cg_if_end(&whole);
}

/* The run of columns `col`, whose first product is in `slot`. Returns the slot of the next run's first. */
static int one_run(pipe *p, run r, cg_val col, int slot) {
  r.col = col;
  load_sums(p, &r);
  slot = add_pairs(p, &r, slot);
  store_sums(p, &r);
  return slot;
}

/* The runs of sixteen rows. Code for pairs that may be split is twice the code: where all of K is one chunk, which is no
 * weight gradient's, few are and it goes in a loop. */
static void runs_of_rows(pipe *p, const run *r) {
  cg_ctx *c = p->c;
  cg_loop col;
  int slot = 0;
  if (!p->splits || !p->s->once) {
    for (int i = 0; i < p->n_cols; i++) slot = one_run(p, *r, cg_i64(c, i * SIDE), slot);
  } else {
    cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, p->s->nr), SIDE, AT_COUNT, p->at);
    for (int i = 0; i < AT_COUNT; i++) p->at[i] = col.carry[i];
    slot = one_run(p, *r, col.i, slot);
    cg_loop_end(&col, p->at);
    for (int i = 0; i < AT_COUNT; i++) p->at[i] = col.carry[i];
  }
  TT_ASSERT(slot == 0);
}

static void all_runs(pipe *p) {
  cg_ctx *c = p->c;
  cg_loop rows;
  for (int i = 0; i < AT_COUNT; i++) p->at[i] = cg_i64(c, 0);
  p->at[AT_SPLIT] = LLVMConstInt(c->i1, 0, false);
  begin_product(p, 0);
  step(p, 1);
  cg_loop_begin(c, &rows, cg_i64(c, 0), arg(p, P_ROWS), SIDE, AT_COUNT, p->at);
  for (int i = 0; i < AT_COUNT; i++) p->at[i] = rows.carry[i];
  run r = {.row = rows.i};
  r.scales = cg_gep(c, c->f32, region(p, p->l.a_pair_scales),
                    cg_mul(c, cg_add(c, arg(p, P_ROW), rows.i), cg_i64(c, p->s->chunk / 2)));
  if (p->splits) r.split = split_pairs(p, cg_shr(c, rows.i, cg_i64(c, 4)));
  runs_of_rows(p, &r);
  cg_loop_end(&rows, p->at);
}

cg_val cg_mx_pipe(cg_ctx *c, const cg_mx_shape *s, int64_t pairs, bool splits) {
  char what[16], name[96];
  snprintf(what, sizeof what, "%s%s", splits ? "mixed" : "pipe", pairs ? "" : "_rest");
  cg_mx_name(name, sizeof name, what, s);
  cg_shared f;
  cg_type types[P_COUNT] = {c->i64, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->i64};
  if (!cg_shared_begin(c, &f, name, P_COUNT, types)) return f.fn;
  TT_ASSERT(c->W == SIDE && s->nr % (2 * SIDE) == 0);
  int64_t stride = s->chunk * TT_MX_BLOCK;
  pipe p = {.c = c, .u = c->target->tiles, .f = &f, .s = s, .l = cg_mx_layout_of(c, s), .n_cols = s->nr / SIDE};
  p.fixed = pairs;
  cg_val one = cg_i64(c, 1), four = cg_i64(c, 4);
  p.groups = cg_shr(c, cg_add(c, arg(&p, P_ROWS), cg_i64(c, SIDE - 1)), four);
  p.pairs = pairs ? cg_i64(c, pairs) : cg_shr(c, cg_add(c, arg(&p, P_BLOCKS), one), one);
  p.steps = pairs ? p.pairs : cg_and(c, cg_add(c, p.pairs, one), cg_i64(c, -2));
  p.a = cg_gep_bytes(c, region(&p, p.l.a_codes), cg_mul(c, arg(&p, P_ROW), cg_i64(c, stride)));
  if (splits) {
    p.splits = cg_gep(c, c->i32, region(&p, p.l.a_splits), cg_shr(c, arg(&p, P_ROW), four));
    p.of_b = cg_load(c, c->i32, cg_addr(c, c->i32, region(&p, p.l.b_range), CG_MX_RANGE_UNEQUAL), 4);
  }
  all_runs(&p);
  cg_shared_end(&f);
  return f.fn;
}
