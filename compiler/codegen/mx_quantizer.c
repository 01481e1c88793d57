/* See mx_quantizer.h. */
#include "compiler/codegen/mx_quantizer.h"
#include "compiler/codegen/rows.h"
#include "compiler/ir/mx.h"

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

static cg_val shuffle(cg_ctx *c, cg_val a, cg_val b, const int *lane, int n) {
  cg_val mask[64];
  for (int i = 0; i < n; i++) mask[i] = cg_i32(c, lane[i]);
  return LLVMBuildShuffleVector(c->b, a, b, LLVMConstVector(mask, (unsigned)n), "");
}

/* Every second lane of a and b, from `first` on. */
static cg_val alternate(cg_ctx *c, cg_val a, cg_val b, int first) {
  int lane[64];
  for (int i = 0; i < c->W; i++) lane[i] = 2 * i + first;
  return shuffle(c, a, b, lane, c->W);
}

/* Runs of `run` lanes of a and b in turns, within 4 lanes each: their first or second half. */
static cg_val zip(cg_ctx *c, cg_val a, cg_val b, int run, int half) {
  int lane[64];
  for (int i = 0; i < c->W; i++) lane[i] = i / 4 * 4 + 2 * half + (run == 1 ? i % 4 / 2 : i % 2) + (i / run % 2) * c->W;
  return shuffle(c, a, b, lane, c->W);
}

/* 4 vectors of 4 x 4 lanes each, transposed: lane 4 i + j of vector k becomes lane 4 i + k of vector j. */
static void transpose4(cg_ctx *c, cg_val *v) {
  cg_val low[2] = {zip(c, v[0], v[1], 1, 0), zip(c, v[2], v[3], 1, 0)},
         high[2] = {zip(c, v[0], v[1], 1, 1), zip(c, v[2], v[3], 1, 1)};
  for (int half = 0; half < 2; half++) {
    v[half] = zip(c, low[0], low[1], 2, half);
    v[2 + half] = zip(c, high[0], high[1], 2, half);
  }
}

/* v moved up by 4 bits, into which the upper 4 of `nibble` come. */
static cg_val push_nibble(cg_ctx *c, cg_val v, cg_val nibble) {
  char name[32];
  snprintf(name, sizeof name, "llvm.fshl.v%di32", c->W);
  cg_val args[3] = {v, nibble, cg_vi(c, 4)};
  return cg_call(c, name, c->vi, 3, args);
}

/* Blocks of a row are read twice while they are in L1: first their maxima, whose lanes become scales for up to W blocks at once;
 * then their codes. In between, a scale and what depends on it waits in memory, from where it comes in all lanes without a
 * shuffle. */
enum {
  LINE_FLOATS = 16,
  PAIRS = 4 /* of vectors, whose nibbles fill a dword */,
  SUM_FACTOR = 1 + CG_SCALED_FACTORS,
  SCALED_ROWS
};

/* Some blocks of a row. */
typedef struct group {
  cg_val at, block; /* first element, first block */
  int blocks;       /* at most W */
  int64_t last;     /* elements of the last one */
  cg_val scaled;    /* [SCALED_ROWS][W], at the first block's lane: scales, their factors, and those of the sums */
} group;

/* Lanes that exist of the vector at element i of block b, or NULL: all. */
static cg_val lanes_left(const cg_quantizer *z, const group *g, int b, int i) {
  bool all = b < g->blocks - 1 || g->last >= i + z->c->W;
  return all ? NULL : cg_i64(z->c, g->last > i ? g->last - i : 0);
}

static cg_val load_row(const cg_quantizer *z, const group *g, cg_val x, int b, int i) {
  cg_val p = cg_addr(z->c, z->c->f32, cg_gep(z->c, z->c->f32, x, g->at), b * TT_MX_BLOCK + i);
  return load_bits(z->c, p, lanes_left(z, g, b, i));
}

/* The 2 W elements from i on: those of even index and those of odd index. */
static void load_pair(const cg_quantizer *z, const group *g, cg_val x, int b, int i, cg_val *even, cg_val *odd) {
  cg_val first = load_row(z, g, x, b, i), second = load_row(z, g, x, b, i + z->c->W);
  *even = alternate(z->c, first, second, 0);
  *odd = alternate(z->c, first, second, 1);
}

/* Of a, then of b: every other 4 lanes, from the first or the second on. */
static cg_val quads(cg_ctx *c, cg_val a, cg_val b, int second) {
  int lane[64], half = c->W / 2;
  for (int i = 0; i < c->W; i++) lane[i] = i % half / 4 * 8 + 4 * second + i % 4 + i / half * c->W;
  return shuffle(c, a, b, lane, c->W);
}

/* The largest lane of each of v[0..n), in lanes 0..n-1; those behind repeat some of them. */
static cg_val lane_maxima(cg_ctx *c, cg_val *v, int n) {
  for (int run = 1; run < c->W; run *= 2, n = (n + 1) / 2)
    for (int i = 0; i < n; i += 2) {
      cg_val a = v[i], b = v[i + 1 < n ? i + 1 : i];
      v[i / 2] = run < 4 ? cg_max(c, zip(c, a, b, run, 0), zip(c, a, b, run, 1))
                         : cg_max(c, quads(c, a, b, 0), quads(c, a, b, 1));
    }
  return v[0];
}

static cg_val scaled_row(const cg_quantizer *z, const group *g, int row) { return cg_addr(z->c, z->c->vf, g->scaled, row); }

/* Scales to their places and, with what depends on them, to g->scaled; whether one of them is 255 (i1). */
static cg_val scale_group(const cg_quantizer *z, const group *g) {
  cg_ctx *c = z->c;
  cg_val max[64];
  int first[64];
  for (int b = 0; b < g->blocks; b++) {
    first[b] = b;
    max[b] = absolute(c, load_row(z, g, z->x, b, 0));
    for (int i = c->W; i < TT_MX_BLOCK; i += c->W) max[b] = cg_max(c, max[b], absolute(c, load_row(z, g, z->x, b, i)));
  }
  cg_mx_scaled s = cg_mx_scaled_by(c, z->q, cg_mx_scale(c, z->q, lane_maxima(c, max, g->blocks)));
  cg_val bytes = truncate(c, shuffle(c, s.scale, s.scale, first, g->blocks), cg_vec(c, c->i8, g->blocks));
  cg_store(c, bytes, cg_gep_bytes(c, z->scales, g->block), 1);
  cg_store(c, s.scale, g->scaled, 64);
  for (int i = 0; i < cg_mx_factors(c, z->q); i++) cg_store(c, s.factor[i], scaled_row(z, g, 1 + i), 64);
  if (z->sums) cg_store(c, cg_mx_factor(c, (tt_format)z->q.format, s.scale), scaled_row(z, g, SUM_FACTOR), 64);
  cg_val bad = cg_icmp(c, LLVMIntEQ, s.scale, cg_vi(c, 255));
  char name[48];
  snprintf(name, sizeof name, "llvm.vector.reduce.or.v%di1", c->W);
  return cg_call(c, name, c->i1, 1, &bad);
}

/* Block b's of a row of g->scaled, in all lanes. */
static cg_val scaled_lane(const cg_quantizer *z, const group *g, int row, cg_type type, int b) {
  cg_ctx *c = z->c;
  return cg_splat(c, cg_load(c, type, cg_addr(c, type, scaled_row(z, g, row), b), 4), c->W);
}

/* Adds the values of W codes, the lowest 4 bits of lanes, to sums. Values: of all codes, times the block's factor; or NULL. */
static void add_values(const cg_quantizer *z, cg_val codes, cg_val factor, cg_val values, cg_val sums) {
  cg_ctx *c = z->c;
  cg_val v = values ? c->target->permute(c, values, codes)
                    : cg_mx_values(c, (tt_format)z->q.format, cg_and(c, codes, cg_vi(c, 15)), factor);
  cg_store(c, cg_add(c, cg_load(c, c->vf, sums, 4), v), sums, 4);
}

/* What any code is worth in units of the factor, where a target has that many lanes and picks among them; else NULL. */
static cg_val code_values(const cg_quantizer *z, cg_val factor) {
  cg_ctx *c = z->c;
  cg_val lane[16];
  if (!c->target->permute || c->W != 16 || z->q.format != TT_E2M1) return NULL;
  for (unsigned i = 0; i < 16; i++) lane[i] = cg_f32(c, 2 * (double)tt_mx_code_value(TT_E2M1, i));
  return cg_mul(c, LLVMConstVector(lane, 16), factor);
}

/* Elements 2 W `pair` and on of block b: `codes` moved up by a byte, into which theirs come. */
static cg_val quantize_pair(const cg_quantizer *z, const group *g, int b, int pair, cg_val codes) {
  cg_ctx *c = z->c;
  int i = 2 * c->W * pair;
  cg_val x[2], ema[2] = {NULL, NULL}, random[2] = {NULL, NULL};
  load_pair(z, g, z->x, b, i, &x[0], &x[1]);
  if (z->ema) load_pair(z, g, z->ema, b, i, &ema[0], &ema[1]);
  if (z->key) {
    cg_val first = truncate(c, cg_mul(c, cg_add(c, g->block, cg_i64(c, b)), cg_i64(c, TT_MX_BLOCK / 2)), c->i32);
    cg_mx_random(c, z->q, cg_rng_begin(c, z->key, first, i / 2), &random[0], &random[1]);
  }
  cg_mx_scaled s = {.scale = scaled_lane(z, g, 0, c->i32, b)};
  for (int f = 0; f < cg_mx_factors(c, z->q); f++) s.factor[f] = scaled_lane(z, g, 1 + f, c->f32, b);
  cg_val factor = z->sums ? scaled_lane(z, g, SUM_FACTOR, c->f32, b) : NULL, values = factor ? code_values(z, factor) : NULL;
  for (int h = 1; h >= 0; h--) {
    codes = push_nibble(c, codes, cg_mx_nibbles(c, z->q, &s, x[h], random[h], ema[h]));
    cg_val at = cg_add(c, g->at, cg_i64(c, b * TT_MX_BLOCK + i + h * c->W));
    if (z->sums) add_values(z, codes, factor, values, cg_gep(c, c->f32, z->sums, at));
  }
  return codes;
}

/* Codes of blocks that have no more than PAIRS pairs together. */
static void code_group(const cg_quantizer *z, const group *g) {
  cg_ctx *c = z->c;
  int in_block = TT_MX_BLOCK / (2 * c->W), pairs = g->blocks * in_block, lane[64];
  for (int i = 0; i < z->n_next; i++)
    for (int e = 0; e < g->blocks * TT_MX_BLOCK; e += LINE_FLOATS)
      cg_prefetch(c, cg_addr(c, c->f32, cg_gep(c, c->f32, z->next[i], g->at), e));
  cg_val codes = cg_vi(c, 0);
  for (int p = pairs - 1; p >= 0; p--) codes = quantize_pair(z, g, p / in_block, p % in_block, codes);
  cg_val bytes = cg_bits(c, codes, cg_vec(c, c->i8, PAIRS * c->W));
  for (int i = 0; i < pairs * c->W; i++) lane[i] = i % c->W * PAIRS + i / c->W;
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, g->block, cg_i64(c, TT_MX_BLOCK / 2)));
  cg_store(c, shuffle(c, bytes, bytes, lane, pairs * c->W), to, 1);
}

/* The part of g from block b (i64) on. */
static group part_of(const cg_quantizer *z, const group *g, cg_val b, int blocks, int64_t last) {
  cg_ctx *c = z->c;
  cg_val at = cg_add(c, g->at, cg_mul(c, b, cg_i64(c, TT_MX_BLOCK)));
  return (group){at, cg_add(c, g->block, b), blocks, last, cg_gep(c, c->f32, g->scaled, b)};
}

/* Blocks with a scale of 255 get zeros for codes. */
static void clear_bad_blocks(const cg_quantizer *z, const group *g) {
  cg_ctx *c = z->c;
  cg_type bytes = cg_vec(c, c->i8, TT_MX_BLOCK / 2);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, g->blocks), 1, 0, NULL);
  cg_val scale = cg_load(c, c->i32, cg_gep(c, c->i32, g->scaled, b.i), 4);
  cg_val p = cg_gep_bytes(c, z->codes, cg_mul(c, cg_add(c, g->block, b.i), cg_i64(c, TT_MX_BLOCK / 2)));
  cg_val is = cg_icmp(c, LLVMIntEQ, scale, cg_i32(c, 255));
  cg_store(c, cg_select(c, is, LLVMConstNull(bytes), cg_load(c, bytes, p, 1)), p, 1);
  cg_loop_end(&b, NULL);
}

static void quantize_group(const cg_quantizer *z, const group *g) {
  cg_ctx *c = z->c;
  int step = PAIRS * 2 * c->W / TT_MX_BLOCK, full = (g->last == TT_MX_BLOCK ? g->blocks : g->blocks - 1) / step * step;
  cg_val any_bad = scale_group(z, g);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, full), step, 0, NULL);
  group part = part_of(z, g, b.i, step, TT_MX_BLOCK);
  code_group(z, &part);
  cg_loop_end(&b, NULL);
  if (full < g->blocks) {
    part = part_of(z, g, cg_i64(c, full), g->blocks - full, g->last);
    code_group(z, &part);
  }
  cg_if bad;
  cg_if_begin(c, &bad, any_bad);
  clear_bad_blocks(z, g);
  cg_if_end(&bad);
}

void cg_quantize_row(const cg_quantizer *z, cg_val at, cg_val block, int64_t K) {
  cg_ctx *c = z->c;
  int64_t blocks = tt_mx_blocks(K), full = K / TT_MX_BLOCK / c->W * c->W;
  cg_val scaled = cg_opaque(c, cg_alloca(c, c->vf, SCALED_ROWS, 64)); /* in memory, not in lanes of registers */
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, full), c->W, 0, NULL);
  group g = {cg_add(c, at, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))), cg_add(c, block, b.i), c->W, TT_MX_BLOCK, scaled};
  quantize_group(z, &g);
  cg_loop_end(&b, NULL);
  if (full == blocks) return;
  g = (group){cg_add(c, at, cg_i64(c, full * TT_MX_BLOCK)), cg_add(c, block, cg_i64(c, full)), (int)(blocks - full),
              K - (blocks - 1) * TT_MX_BLOCK, scaled};
  quantize_group(z, &g);
}

/* The sum of one vector over `runs` rows that are `width` floats apart. */
static cg_val sum_runs(cg_ctx *c, int64_t runs, int64_t width, cg_val from, cg_val i) {
  cg_val sum = cg_vf(c, 0);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, runs), 1, 1, &sum);
  sum = cg_add(c, l.carry[0], cg_cols(c, cg_row(c, from, l.i, width), i, NULL));
  cg_loop_end(&l, &sum);
  return l.carry[0];
}

void cg_add_quantized_runs(cg_kernel *k, int64_t rows, cg_val from, int64_t width, cg_val to, int64_t D) {
  cg_ctx *c = k->c;
  int64_t runs = cg_run_count(rows);
  int lane[64];
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, D), 2 * c->W, 0, NULL);
  cg_val even = sum_runs(c, runs, width, from, l.i);
  cg_val odd = sum_runs(c, runs, width, from, cg_add(c, l.i, cg_i64(c, c->W)));
  for (int half = 0; half < 2; half++) {
    for (int i = 0; i < c->W; i++) lane[i] = (half * c->W + i) / 2 + i % 2 * c->W;
    cg_val at = cg_add(c, l.i, cg_i64(c, half * c->W)), left = D % (2 * c->W) ? cg_sub(c, cg_i64(c, D), at) : NULL;
    if (left) left = cg_max(c, left, cg_i64(c, 0));
    cg_store_n(c, shuffle(c, even, odd, lane, c->W), cg_gep(c, c->f32, to, at), left);
  }
  cg_loop_end(&l, NULL);
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

/* The codes of 8 rows from row pair 4 d on in every lane, lowest row in the lowest nibble. `step` as of cg_rng_runs. */
static cg_val tile_dword(const cg_quantizer *z, const cg_tile *t, const cg_mx_scaled *s, cg_val d, cg_val begun,
                         const cg_val *step) {
  cg_ctx *c = z->c;
  cg_val random[2] = {NULL, NULL}, dword = cg_vi(c, 0), first = cg_mul(c, d, cg_i64(c, 8));
  for (int j = 3; j >= 0; j--) {
    if (begun) {
      cg_val here = j / 2 ? cg_add(c, begun, step[1]) : begun;
      cg_mx_random(c, z->q, j % 2 ? cg_add(c, here, step[0]) : here, &random[0], &random[1]);
    }
    for (int h = 1; h >= 0; h--) {
      cg_val i = cg_add(c, first, cg_i64(c, 2 * j + h));
      cg_val ema = z->ema ? tile_row(z, t, t->ema, i) : NULL;
      dword = push_nibble(c, dword, cg_mx_nibbles(c, z->q, s, tile_row(z, t, t->x, i), random[h], ema));
    }
  }
  return cg_select(c, cg_icmp(c, LLVMIntEQ, s->scale, cg_vi(c, 255)), cg_vi(c, 0), dword);
}

/* Column i of the tile: its place among the output's blocks. */
static cg_val column_block(const cg_quantizer *z, const cg_tile *t, cg_val i) {
  return cg_add(z->c, cg_mul(z->c, cg_add(z->c, t->col, i), cg_i64(z->c, z->nb)), t->block);
}

static void store_column_scale(const cg_quantizer *z, cg_val buffer, cg_val i, cg_val block) {
  cg_ctx *c = z->c;
  cg_val scale = cg_load(c, c->i32, cg_addr(c, c->i32, cg_gep(c, c->i32, buffer, i), 4 * c->W), 4);
  cg_store(c, truncate(c, scale, c->i8), cg_gep_bytes(c, z->scales, block), 1);
}

/* The buffer holds [5][W] i32: four dwords of codes a column, and its scale. */
static void store_some_columns(const cg_quantizer *z, const cg_tile *t, cg_val buffer) {
  cg_ctx *c = z->c;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_min(c, t->cols, cg_i64(c, c->W)), 1, 0, NULL);
  cg_val block = column_block(z, t, l.i), to = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  for (int d = 0; d < 4; d++)
    cg_store(c, cg_load(c, c->i32, cg_addr(c, c->i32, cg_gep(c, c->i32, buffer, l.i), d * c->W), 4),
             cg_addr(c, c->i32, to, d), 4);
  store_column_scale(z, buffer, l.i, block);
  cg_loop_end(&l, NULL);
}

static void store_all_columns(const cg_quantizer *z, const cg_tile *t, cg_val buffer) {
  cg_ctx *c = z->c;
  cg_val dword[4];
  for (int d = 0; d < 4; d++) dword[d] = cg_load(c, c->vi, cg_addr(c, c->vi, buffer, d), 4);
  transpose4(c, dword);
  for (int i = 0; i < c->W; i++) {
    const int lane[4] = {i / 4 * 4, i / 4 * 4 + 1, i / 4 * 4 + 2, i / 4 * 4 + 3};
    cg_val block = column_block(z, t, cg_i64(c, i)), codes = shuffle(c, dword[i % 4], dword[i % 4], lane, 4);
    cg_store(c, codes, cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))), 4);
    store_column_scale(z, buffer, cg_i64(c, i), block);
  }
}

/* Whether a run of a column's codes is a whole line of the caches: which then need not fetch it only to have it overwritten. */
static bool past_caches(const cg_quantizer *z) { return z->nb % CG_TILE_RUN == 0 && z->c->target->past_caches_done; }

void cg_prefetch_columns(const cg_quantizer *z, const cg_tile *t) {
  cg_ctx *c = z->c;
  cg_val in_run = cg_rem(c, t->block, cg_i64(c, CG_TILE_RUN)), first = cg_mul(c, in_run, cg_i64(c, c->W / CG_TILE_RUN));
  for (int i = 0; i < c->W / CG_TILE_RUN; i++) {
    cg_val b = cg_sub(c, column_block(z, t, cg_add(c, first, cg_i64(c, i))), in_run);
    cg_prefetch_write(c, cg_gep_bytes(c, z->scales, b));
    if (past_caches(z)) continue;
    cg_val to =
        cg_gep_bytes(c, z->codes, cg_mul(c, b, cg_i64(c, TT_MX_BLOCK / 2))); /* its first line may be the last run's last */
    cg_prefetch_write(c, cg_addr(c, c->i8, to, (CG_TILE_RUN - 1) * TT_MX_BLOCK / 2));
  }
}

void cg_stored_tiles(const cg_quantizer *z) {
  if (past_caches(z)) z->c->target->past_caches_done(z->c);
}

/* What the random bits of a column begin with waits where its codes will go. */
void cg_tile_codes(const cg_quantizer *z, const cg_tile *t, cg_val slot) {
  cg_ctx *c = z->c;
  cg_rng_runs r = {0};
  cg_mx_scaled s = cg_mx_scaled_by(c, z->q, cg_mx_scale(c, z->q, tile_max(z, t)));
  cg_store(c, s.scale, cg_addr(c, c->vi, slot, 4), 4);
  if (z->key) {
    cg_val first = truncate(c, cg_mul(c, column_block(z, t, cg_i64(c, 0)), cg_i64(c, TT_MX_BLOCK / 2)), c->i32);
    cg_val lanes = cg_mul(c, cg_iota(c, c->i32, c->W), cg_vi(c, (int32_t)(z->nb * (TT_MX_BLOCK / 2))));
    r = cg_rng_begin_runs(c, z->key, cg_add(c, cg_splat(c, first, c->W), lanes));
    for (int d = 0; d < 4; d++) cg_store(c, r.begun[d], cg_addr(c, c->vi, slot, d), 4);
  }
  cg_loop d;
  cg_loop_begin(c, &d, cg_i64(c, 0), cg_i64(c, 4), 1, 0, NULL);
  cg_val place = cg_gep(c, c->vi, slot, d.i), begun = z->key ? cg_load(c, c->vi, place, 4) : NULL;
  cg_store(c, tile_dword(z, t, &s, d.i, begun, r.step), place, 4);
  cg_loop_end(&d, NULL);
}

static void store_columns(const cg_quantizer *z, const cg_tile *t, cg_val slot) {
  if (t->cols)
    store_some_columns(z, t, slot);
  else
    store_all_columns(z, t, slot);
}

void cg_quantize_tile(const cg_quantizer *z, const cg_tile *t, cg_val slot) {
  cg_tile_codes(z, t, slot);
  store_columns(z, t, slot);
}

static cg_val slot_of(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val j, cg_val tile) {
  cg_val row = cg_mul(z->c, j, cg_i64(z->c, (cols + z->c->W - 1) / z->c->W));
  return cg_gep(z->c, z->c->vi, slots, cg_mul(z->c, cg_add(z->c, row, tile), cg_i64(z->c, CG_SLOT)));
}

/* A whole tile's columns in CG_TILE_RUN blocks, 64 bytes and 4 scales each. */
static void store_tile_run(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val tile, cg_val block) {
  cg_ctx *c = z->c;
  cg_tile t = {.col = cg_mul(c, tile, cg_i64(c, c->W)), .block = block};
  cg_val v[4 * CG_TILE_RUN], scales = NULL;
  for (int j = 0; j < CG_TILE_RUN; j++) {
    cg_val slot = slot_of(z, slots, cols, cg_i64(c, j), tile);
    for (int d = 0; d < 4; d++) v[4 * j + d] = cg_load(c, c->vi, cg_addr(c, c->vi, slot, d), 4);
    cg_val scale = cg_shl(c, cg_load(c, c->vi, cg_addr(c, c->vi, slot, 4), 4), cg_vi(c, 8 * j));
    scales = scales ? cg_or(c, scales, scale) : scale;
  }
  cg_val first = slot_of(z, slots, cols, cg_i64(c, 0), tile); /* its scales have been read */
  cg_store(c, scales, cg_addr(c, c->vi, first, 4), 4);
  for (int at = 0; at < 4 * CG_TILE_RUN; at += c->W) cg_transpose(c, v + at, c->W);
  for (int i = 0; i < c->W; i++) {
    cg_val b = column_block(z, &t, cg_i64(c, i)), to = cg_gep_bytes(c, z->codes, cg_mul(c, b, cg_i64(c, TT_MX_BLOCK / 2)));
    for (int at = 0; at < 4 * CG_TILE_RUN; at += c->W)
      if (past_caches(z))
        cg_store_past_caches(c, v[at + i], cg_addr(c, c->i32, to, at));
      else
        cg_store(c, v[at + i], cg_addr(c, c->i32, to, at), 4);
    cg_store(c, cg_load(c, c->i32, cg_addr(c, c->i32, first, 4 * c->W + i), 4), cg_gep_bytes(c, z->scales, b), 1);
  }
}

/* Tiles of the columns from `begin` to `end`, a block at a time. */
static void store_blocks(const cg_quantizer *z, cg_val slots, int64_t cols, int64_t begin, int64_t end, cg_val first,
                         cg_val blocks) {
  cg_ctx *c = z->c;
  cg_loop j, tile;
  cg_loop_begin(c, &j, cg_i64(c, 0), blocks, 1, 0, NULL);
  cg_loop_begin(c, &tile, cg_i64(c, begin / c->W), cg_i64(c, (end + c->W - 1) / c->W), 1, 0, NULL);
  cg_tile t = {.col = cg_mul(c, tile.i, cg_i64(c, c->W)), .block = cg_add(c, first, j.i)};
  if (end % c->W) t.cols = cg_i64(c, end % c->W);
  store_columns(z, &t, slot_of(z, slots, cols, j.i, tile.i));
  cg_loop_end(&tile, NULL);
  cg_loop_end(&j, NULL);
}

static void store_tiles(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val first, cg_val blocks) {
  cg_ctx *c = z->c;
  int64_t whole = cols / c->W * c->W;
  cg_if run;
  cg_loop tile;
  cg_if_begin(c, &run, cg_icmp(c, LLVMIntEQ, blocks, cg_i64(c, CG_TILE_RUN)));
  cg_loop_begin(c, &tile, cg_i64(c, 0), cg_i64(c, cols / c->W), 1, 0, NULL);
  store_tile_run(z, slots, cols, tile.i, first);
  cg_loop_end(&tile, NULL);
  cg_if_else(&run);
  store_blocks(z, slots, cols, 0, whole, first, blocks);
  cg_if_end(&run);
  if (whole < cols) store_blocks(z, slots, cols, whole, cols, first, blocks);
}

void cg_store_run(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val block, cg_val end) {
  cg_ctx *c = z->c;
  cg_val next = cg_add(c, block, cg_i64(c, 1)), in_run = cg_rem(c, block, cg_i64(c, CG_TILE_RUN));
  cg_if last;
  cg_if_begin(c, &last, cg_or(c, cg_icmp(c, LLVMIntEQ, next, end), cg_icmp(c, LLVMIntEQ, in_run, cg_i64(c, CG_TILE_RUN - 1))));
  store_tiles(z, slots, cols, cg_sub(c, block, in_run), cg_add(c, in_run, cg_i64(c, 1)));
  cg_if_end(&last);
}

uint64_t cg_slots_bytes(cg_ctx *c, int64_t cols) {
  return (uint64_t)((cols + c->W - 1) / c->W * CG_TILE_RUN * CG_SLOT * c->target->vector_bytes);
}

cg_val cg_slot(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val block, cg_val col) {
  cg_val j = cg_rem(z->c, block, cg_i64(z->c, CG_TILE_RUN));
  return slot_of(z, slots, cols, j, cg_div(z->c, col, cg_i64(z->c, z->c->W)));
}
