/* MX products on a tile unit where every pair of blocks shares its scales, which is nearly all of them (gemm_mx.c; the others
 * are gemm_mx_tiles.c's): a pipeline of 16 x 16 products of 64, in which at any time
 *   product x + 2 is being made in a tile,
 *   product x + 1 moves from its tile to memory, which it must, and
 *   product x is read from there and added: sum = (as float(dots + start) - magic) * scale + sum.
 * A tile stored right after its product holds up the unit until that is done, some 50 cycles; a step later it does not. A
 * run is all pairs of one 16 x 16 tile of C, whose sums stay in registers meanwhile; the unit goes on to the next run while
 * the last products of one are added. Products lie row upon row (64 bytes apart): read back from a wider stride they cost
 * twice. */
#include "compiler/codegen/gemm_mx.h"

enum { P_BLOCKS, P_A, P_B, P_WORK, P_ROW, P_OUT, P_OUT_RS, P_SRC, P_SRC_RS, P_BIAS, P_ROWS, P_COLS, P_COUNT };
enum { SIDE = CG_MX_SIDE, TILE_BYTES = 64, PAIR_BYTES = 2 * TT_MX_BLOCK, DOTS = SIDE * SIDE };

/* What the tile unit multiplies next: bytes from the first row's codes to its rows', bytes into a row, tile of columns. */
enum { AT_ROWS, AT_PAIR, AT_COLS, AT_COUNT };

typedef struct pipe {
  cg_ctx *c;
  const cg_tile_unit *u;
  const cg_shared *f;
  const cg_mx_shape *s;
  cg_mx_layout l;
  cg_val pairs, steps; /* of a run; steps of the unit are an even number where pairs are not known */
  cg_val a, end;       /* codes of the first row, bytes to the end of the last */
  int64_t n_cols, fixed; /* tiles across the panel; pairs, or 0 where not known */
  cg_val at[AT_COUNT];
} pipe;

/* One run: a tile of C and its sums. */
typedef struct run {
  cg_val row, scales; /* from the first; of its rows, [pair][16] */
  int64_t col;
  cg_val sums[SIDE];
} run;

static cg_val arg(const pipe *p, int i) { return cg_shared_arg(p->f, i); }
static cg_val region(const pipe *p, int place, int64_t offset) { return cg_addr(p->c, p->c->i8, arg(p, place), offset); }
static cg_val dots(const pipe *p, int slot) { return region(p, P_WORK, p->l.tall_dots + slot * DOTS * 4); }

/* Begins the next product, in accumulator `slot`. Behind the last run comes the first again: read in vain, never stored. */
static void begin_product(pipe *p, int slot) {
  cg_ctx *c = p->c;
  int64_t stride = p->s->chunk * TT_MX_BLOCK;
  cg_val b = cg_gep_bytes(c, region(p, P_B, p->l.b_codes), cg_mul(c, p->at[AT_PAIR], cg_i64(c, p->s->nr)));
  p->u->load(c, CG_TILE_A, cg_gep_bytes(c, p->a, cg_add(c, p->at[AT_ROWS], p->at[AT_PAIR])), stride);
  p->u->load(c, CG_TILE_B, cg_gep_bytes(c, b, cg_mul(c, p->at[AT_COLS], cg_i64(c, TILE_BYTES))), p->s->nr * 4);
  p->u->zero(c, CG_TILE_ACC + slot);
  p->u->dot_u8s8(c, CG_TILE_ACC + slot, CG_TILE_A, CG_TILE_B);
  cg_val zero = cg_i64(c, 0), pair = cg_add(c, p->at[AT_PAIR], cg_i64(c, PAIR_BYTES));
  cg_val new_run = cg_icmp(c, LLVMIntEQ, pair, cg_mul(c, p->steps, cg_i64(c, PAIR_BYTES)));
  cg_val cols = cg_add(c, p->at[AT_COLS], LLVMBuildZExt(c->b, new_run, c->i64, ""));
  cg_val new_rows = cg_icmp(c, LLVMIntEQ, cols, cg_i64(c, p->n_cols));
  cg_val rows = cg_add(c, p->at[AT_ROWS], cg_i64(c, SIDE * stride));
  rows = cg_select(c, cg_icmp(c, LLVMIntEQ, rows, p->end), zero, rows);
  p->at[AT_ROWS] = cg_select(c, new_rows, rows, p->at[AT_ROWS]);
  p->at[AT_PAIR] = cg_select(c, new_run, zero, pair);
  p->at[AT_COLS] = cg_select(c, new_rows, zero, cols);
}

static void store_product(const pipe *p, int slot) { p->u->store(p->c, CG_TILE_ACC + slot, dots(p, slot), TILE_BYTES); }

/* Moves the unit's products on by one, so that those of `slot` can be added afterwards. */
static void step(pipe *p, int slot) {
  begin_product(p, slot);
  store_product(p, 1 - slot);
}

/* Adds pair `pair`, whose products are in `slot`. */
static void add_pair(const pipe *p, run *r, cg_val pair, int slot) {
  cg_ctx *c = p->c;
  int64_t nr = p->s->nr;
  cg_val starts = cg_gep(c, c->i32, region(p, P_B, p->l.b_pair), cg_mul(c, pair, cg_i64(c, nr)));
  cg_val magics = cg_gep(c, c->f32, region(p, P_B, p->l.b_init), cg_mul(c, pair, cg_i64(c, 4 * nr)));
  cg_val start = cg_load(c, c->vi, cg_addr(c, c->i32, starts, r->col * SIDE), 4);
  cg_val magic = cg_load(c, c->vf, cg_addr(c, c->f32, magics, nr + r->col * SIDE), 4);
  cg_val scales = cg_gep(c, c->f32, r->scales, cg_mul(c, pair, cg_i64(c, SIDE)));
  for (int i = 0; i < SIDE; i++) {
    cg_val dot = cg_add(c, cg_load(c, c->vi, cg_addr(c, c->vi, dots(p, slot), i), 64), start);
    cg_val scale = cg_splat(c, cg_load(c, c->f32, cg_addr(c, c->f32, scales, i), 4), c->W);
    r->sums[i] = cg_fma(c, cg_sub(c, cg_bits(c, dot, c->vf), magic), scale, r->sums[i]);
  }
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
  return cg_addr(c, c->f32, at, r->col * SIDE);
}
static cg_val columns(const pipe *p, const run *r) { return cg_sub(p->c, arg(p, P_COLS), cg_i64(p->c, r->col * SIDE)); }
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
  next.col = (r->col + 1) % p->n_cols;
  if (next.col == 0) next.row = cg_add(c, r->row, cg_i64(c, SIDE));
  for (int i = 0; i < SIDE && !p->s->stream; i++) cg_prefetch_write(c, place(p, &next, P_OUT, P_OUT_RS, i));
}

static void store_sums(const pipe *p, const run *r) {
  cg_ctx *c = p->c;
  cg_val bias = cg_load_n(c, cg_addr(c, c->f32, arg(p, P_BIAS), r->col * SIDE), columns(p, r), cg_vf(c, 0));
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

static void all_runs(pipe *p) {
  cg_ctx *c = p->c;
  cg_loop rows;
  for (int i = 0; i < AT_COUNT; i++) p->at[i] = cg_i64(c, 0);
  begin_product(p, 0);
  begin_product(p, 1);
  store_product(p, 0);
  cg_loop_begin(c, &rows, cg_i64(c, 0), arg(p, P_ROWS), SIDE, AT_COUNT, p->at);
  for (int i = 0; i < AT_COUNT; i++) p->at[i] = rows.carry[i];
  cg_val scales = cg_gep(c, c->f32, region(p, P_A, p->l.a_pair_scales),
                         cg_mul(c, cg_add(c, arg(p, P_ROW), rows.i), cg_i64(c, p->s->chunk / 2)));
  int slot = 0;
  for (int col = 0; col < p->n_cols; col++) {
    run r = {.row = rows.i, .scales = scales, .col = col};
    load_sums(p, &r);
    slot = add_pairs(p, &r, slot);
    store_sums(p, &r);
  }
  TT_ASSERT(slot == 0);
  cg_loop_end(&rows, p->at);
}

cg_val cg_mx_pipe(cg_ctx *c, const cg_mx_shape *s, int64_t pairs) {
  char name[96];
  cg_mx_name(name, sizeof name, pairs ? "pipe" : "pipe_rest", s);
  cg_shared f;
  cg_type types[P_COUNT] = {c->i64, c->ptr, c->ptr, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->i64};
  if (!cg_shared_begin(c, &f, name, P_COUNT, types)) return f.fn;
  TT_ASSERT(c->W == SIDE && s->nr % (2 * SIDE) == 0);
  int64_t stride = s->chunk * TT_MX_BLOCK;
  pipe p = {.c = c, .u = c->target->tiles, .f = &f, .s = s, .l = cg_mx_layout_of(c, s), .n_cols = s->nr / SIDE};
  p.fixed = pairs;
  cg_val one = cg_i64(c, 1), groups = cg_shr(c, cg_add(c, arg(&p, P_ROWS), cg_i64(c, SIDE - 1)), cg_i64(c, 4));
  p.pairs = pairs ? cg_i64(c, pairs) : cg_shr(c, cg_add(c, arg(&p, P_BLOCKS), one), one);
  p.steps = pairs ? p.pairs : cg_and(c, cg_add(c, p.pairs, one), cg_i64(c, -2));
  p.a = cg_gep_bytes(c, region(&p, P_A, p.l.a_codes), cg_mul(c, arg(&p, P_ROW), cg_i64(c, stride)));
  p.end = cg_mul(c, groups, cg_i64(c, SIDE * stride));
  all_runs(&p);
  cg_shared_end(&f);
  return f.fn;
}
