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

enum { GROUP = 4, LINE_FLOATS = 16 }; /* blocks of a row that are handled at once; floats that are prefetched at once */

/* The largest lane of max[i] in every lane 4 j + i. */
static cg_val group_max(cg_ctx *c, cg_val *max) {
  transpose4(c, max);
  cg_val all = cg_max(c, cg_max(c, max[0], max[1]), cg_max(c, max[2], max[3]));
  for (int step = c->W / 2; step >= GROUP; step /= 2) {
    int lane[64];
    for (int i = 0; i < c->W; i++) lane[i] = (i + step) % c->W;
    all = cg_max(c, all, shuffle(c, all, all, lane, c->W));
  }
  return all;
}

/* Lane i of every 4, in all of them. */
static cg_val spread(cg_ctx *c, cg_val v, int i) {
  int lane[64];
  for (int l = 0; l < c->W; l++) lane[l] = l / GROUP * GROUP + i;
  return shuffle(c, v, v, lane, c->W);
}

/* Some blocks of a row. */
typedef struct group {
  cg_val at, block; /* first element, first block */
  int blocks;       /* at most GROUP */
  int64_t last;     /* elements of the last one */
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

/* Adds the values of W codes to sums. */
static void add_values(const cg_quantizer *z, cg_val codes, cg_val factor, cg_val sums) {
  cg_ctx *c = z->c;
  float table[CG_TABLE_FLOATS] = {0};
  cg_val values;
  if (c->target->pick && z->q.format == TT_E2M1) {
    for (unsigned i = 0; i < 16; i++) table[i] = 2 * tt_mx_code_value(TT_E2M1, i);
    values = cg_mul(c, c->target->pick(c, table, codes), factor);
  } else {
    values = cg_mx_values(c, (tt_format)z->q.format, codes, factor);
  }
  cg_store(c, cg_add(c, cg_load(c, c->vf, sums, 4), values), sums, 4);
}

/* Elements 2 W `pair` and on of block b. */
static void quantize_pair(const cg_quantizer *z, const group *g, int b, int pair, const cg_mx_scaled *s, cg_val factor) {
  cg_ctx *c = z->c;
  int i = 2 * c->W * pair;
  cg_val x[2], ema[2] = {NULL, NULL}, random[2] = {NULL, NULL}, code[2];
  load_pair(z, g, z->x, b, i, &x[0], &x[1]);
  if (z->ema) load_pair(z, g, z->ema, b, i, &ema[0], &ema[1]);
  if (z->key) {
    cg_val first = truncate(c, cg_mul(c, cg_add(c, g->block, cg_i64(c, b)), cg_i64(c, TT_MX_BLOCK / 2)), c->i32);
    cg_mx_random(c, z->q, cg_rng_begin(c, z->key, first, i / 2), &random[0], &random[1]);
  }
  for (int h = 0; h < 2; h++) {
    code[h] = cg_shr(c, cg_mx_nibbles(c, z->q, s, x[h], random[h], ema[h]), cg_vi(c, 28));
    cg_val at = cg_add(c, g->at, cg_i64(c, b * TT_MX_BLOCK + i + h * c->W));
    if (z->sums) add_values(z, code[h], factor, cg_gep(c, c->f32, z->sums, at));
  }
  cg_val bytes = truncate(c, cg_or(c, code[0], cg_shl(c, code[1], cg_vi(c, 4))), cg_vec(c, c->i8, c->W));
  cg_val block = cg_gep_bytes(c, z->codes, cg_mul(c, g->block, cg_i64(c, TT_MX_BLOCK / 2)));
  cg_store(c, bytes, cg_addr(c, c->i8, block, (b * TT_MX_BLOCK + i) / 2), 1);
}

/* Blocks with a scale of 255 get zeros for codes. */
static void clear_bad_blocks(const cg_quantizer *z, const group *g, cg_val scales) {
  cg_ctx *c = z->c;
  cg_val bad = cg_icmp(c, LLVMIntEQ, scales, cg_vi(c, 255));
  cg_if any;
  char name[48];
  snprintf(name, sizeof name, "llvm.vector.reduce.or.v%di1", c->W);
  cg_if_begin(c, &any, cg_call(c, name, c->i1, 1, &bad));
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, g->block, cg_i64(c, TT_MX_BLOCK / 2)));
  cg_type bytes = cg_vec(c, c->i8, TT_MX_BLOCK / 2);
  for (int b = 0; b < g->blocks; b++) {
    cg_val p = cg_addr(c, c->i8, to, b * TT_MX_BLOCK / 2), is = LLVMBuildExtractElement(c->b, bad, cg_i64(c, b), "");
    cg_store(c, cg_select(c, is, LLVMConstNull(bytes), cg_load(c, bytes, p, 1)), p, 1);
  }
  cg_if_end(&any);
}

static void quantize_group(const cg_quantizer *z, const group *g) {
  cg_ctx *c = z->c;
  for (int i = 0; i < z->n_next; i++)
    for (int e = 0; e < g->blocks * TT_MX_BLOCK; e += LINE_FLOATS)
      cg_prefetch(c, cg_addr(c, c->f32, cg_gep(c, c->f32, z->next[i], g->at), e));
  cg_val max[GROUP] = {cg_vi(c, 0), cg_vi(c, 0), cg_vi(c, 0), cg_vi(c, 0)};
  for (int b = 0; b < g->blocks; b++)
    for (int i = 0; i < TT_MX_BLOCK; i += c->W) max[b] = cg_max(c, absolute(c, load_row(z, g, z->x, b, i)), max[b]);
  cg_mx_scaled s = cg_mx_scaled_by(c, z->q, cg_mx_scale(c, z->q, group_max(c, max)));
  static const int first[GROUP] = {0, 1, 2, 3};
  cg_val scales = shuffle(c, s.scale, s.scale, first, g->blocks);
  cg_store(c, truncate(c, scales, cg_vec(c, c->i8, g->blocks)), cg_gep_bytes(c, z->scales, g->block), 1);
  cg_val factors = z->sums ? cg_mx_factor(c, (tt_format)z->q.format, s.scale) : NULL;
  for (int b = 0; b < g->blocks; b++) {
    cg_mx_scaled one = {.scale = spread(c, s.scale, b)};
    for (int i = 0; i < CG_SCALED_FACTORS && s.factor[i]; i++) one.factor[i] = spread(c, s.factor[i], b);
    cg_val factor = factors ? spread(c, factors, b) : NULL;
    for (int p = 0; 2 * c->W * p < TT_MX_BLOCK; p++) quantize_pair(z, g, b, p, &one, factor);
  }
  clear_bad_blocks(z, g, s.scale);
}

void cg_quantize_row(const cg_quantizer *z, cg_val at, cg_val block, int64_t K) {
  cg_ctx *c = z->c;
  int64_t blocks = tt_mx_blocks(K), full = K / TT_MX_BLOCK / GROUP * GROUP;
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, full), GROUP, 0, NULL);
  group g = {cg_add(c, at, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))), cg_add(c, block, b.i), GROUP, TT_MX_BLOCK};
  quantize_group(z, &g);
  cg_loop_end(&b, NULL);
  if (full == blocks) return;
  g = (group){cg_add(c, at, cg_i64(c, full * TT_MX_BLOCK)), cg_add(c, block, cg_i64(c, full)), (int)(blocks - full),
              K - (blocks - 1) * TT_MX_BLOCK};
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

/* v moved up by 4 bits, into which the upper 4 of `nibble` come. */
static cg_val push_nibble(cg_ctx *c, cg_val v, cg_val nibble) {
  char name[32];
  snprintf(name, sizeof name, "llvm.fshl.v%di32", c->W);
  cg_val args[3] = {v, nibble, cg_vi(c, 4)};
  return cg_call(c, name, c->vi, 3, args);
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
    cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, b, cg_i64(c, TT_MX_BLOCK / 2))); /* its first line may be the last run's last */
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
