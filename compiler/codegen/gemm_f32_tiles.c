/* Float32 products on a unit that multiplies tiles of bfloat16 pairs (cg_tile_unit.dot_bf16; AMX). A float is the exact sum of
 * three numbers of 8 significant bits, x = x1 + x2 + x3, each the nearest to what is left; of the nine products of pieces
 *   x1y1 + (x1y2 + x2y1) + (x1y3 + x2y2 + x3y1)
 * are summed, and what is left out is below 2^-24 |xy|, less than what one multiply-add may round away. A tile's sums are made
 * of runs of 16 products, added to the accumulator once per 32: fewer roundings than one a product. After Henry, Tang and
 * Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations" (2019).
 *
 * Operands are packed to strips of 16 rows of A or columns of B; per 32 of the reduction a strip has three tiles, one for each
 * piece, of 16 x 16 pairs (k, k + 16): which k form a pair is free as long as both operands agree, and these two lie in
 * vectors that are loaded anyway. Two strips of each meet in four accumulators.
 *
 * A value that may round to infinity, an infinity or a NaN would make a NaN of the remainder: where the packed operands have
 * one at or above 2^127, the chunk is left to multiply-adds: all of a task's rows, also those that are finite. So these, where
 * there are such values, depend on how the product is cut, which is not the same in a fused sweep and apart. Pieces below
 * 2^-126 count as zeros, so that an operand is exact to 2^-126, as where subnormal ones are flushed. */
#include "compiler/codegen/gemm_f32.h"
#include <stdio.h>

enum { SIDE = 16, DEPTH = 32, TILE = 1024, PIECES = 3, STEP = PIECES * TILE, BLOCK = 2 * SIDE };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Bytes from one strip to the next: a line more than it holds, so that strips do not all start in the same cache set. */
static int64_t apart(const cg_gemm *d) { return ceil_div(cg_f32_chunk_length(d->K), DEPTH) * STEP + 64; }
static int64_t a_bytes(const cg_gemm *d) { return ceil_div(d->M, SIDE) * apart(d); }

/* B that is contiguous along its rows is split as a whole where that leaves room in L2, row after row, else by two strips. */
static bool splits_whole_b(const cg_gemm *d) { return d->b_cs == 1 && d->N <= 512; }
static int64_t flag_at(const cg_gemm *d) {
  return a_bytes(d) + (splits_whole_b(d) ? ceil_div(d->N, SIDE) : 2) * apart(d);
}

/* Scratch: the strips of A and B, the largest magnitude, and what vectors need where they take over. */
uint64_t cg_f32_tiles_bytes(const cg_gemm *d) {
  cg_gemm panel = *d;
  if (!splits_whole_b(d)) panel.N = BLOCK;
  return (uint64_t)flag_at(d) + 64 + cg_f32_vector_bytes(&panel);
}

/* By cycles counted roughly: six tile products of 16 for 16 x 16 x 32, half a cycle an element to split it, against two
 * multiply-adds of 16 a cycle that are busy four fifths of the time. */
bool cg_f32_on_tiles(const cg_ctx *c, const cg_gemm *d) {
  if (!c->target->f32_tiles) return false;
  int64_t steps = ceil_div(d->K, DEPTH), tiles = 96 * ceil_div(d->M, SIDE) * ceil_div(d->N, SIDE) * steps;
  int64_t split = (d->M + d->N) * steps * DEPTH / 2, vectors = d->M * d->N / 26 * d->K;
  return 10 * (tiles + split) < 9 * vectors;
}

/* void split(src, stride, rows, depth, dst, apart, largest): the pieces of element (r, k) to where they lie in the strips;
 * `largest` is the largest magnitude so far of a first piece, by its bits, in each of its lanes. */
enum { S_SRC, S_STRIDE, S_ROWS, S_DEPTH, S_DST, S_APART, S_LARGEST, S_COUNT };

typedef struct split {
  cg_ctx *c;
  const cg_shared *f;
  bool along;        /* elements are contiguous along k, else across it */
  bool transposed;   /* tiles are [k pair][r] of a source along k, or [r][k pair] of one across it */
  cg_val r, k;       /* of this tile */
  cg_val dst;        /* of this tile */
  cg_val rows_left, k_left;
  cg_val largest;    /* <2 W x i16> */
} split;

static cg_type halves(cg_ctx *c) { return cg_vec(c, c->i16, 2 * c->W); }

/* What the next pass of the outer loop reads here: rows lie far apart, so that no stream is recognised. */
static void prefetch_line(const split *s, cg_val p) {
  cg_ctx *c = s->c;
  cg_val ahead = cg_mul(c, cg_shared_arg(s->f, S_STRIDE), cg_i64(c, s->along ? SIDE : DEPTH));
  cg_prefetch(c, cg_gep(c, c->f32, p, ahead));
}

/* The vector of 16 elements that is line i of the tile's 32: row i / 2 and one half of its depth, or one k of its rows. */
static cg_val load_line(const split *s, int i, int half, bool whole) {
  cg_ctx *c = s->c;
  cg_val line = s->along ? cg_add(c, s->r, cg_i64(c, i)) : cg_add(c, s->k, cg_i64(c, i + SIDE * half));
  cg_val from = s->along ? cg_add(c, s->k, cg_i64(c, SIDE * half)) : s->r;
  cg_val p = cg_gep(c, c->f32, cg_shared_arg(s->f, S_SRC),
                    cg_add(c, cg_mul(c, line, cg_shared_arg(s->f, S_STRIDE)), from));
  if (whole) {
    prefetch_line(s, p);
    return cg_load(c, c->vf, p, 4);
  }
  cg_val lines = s->along ? s->rows_left : s->k_left;
  cg_val lanes = s->along ? cg_sub(c, s->k_left, cg_i64(c, SIDE * half)) : s->rows_left;
  cg_val live = cg_icmp(c, LLVMIntSLT, cg_i64(c, s->along ? i : i + SIDE * half), lines);
  return cg_load_n(c, p, cg_select(c, live, lanes, cg_i64(c, 0)), cg_vf(c, 0));
}

/* The nearest number of 8 significant bits, as bits; ties go away from zero. */
static cg_val nearest_piece(cg_ctx *c, cg_val x) {
  return cg_and(c, cg_add(c, cg_bits(c, x, c->vi), cg_vi(c, 0x8000)), cg_vi(c, (int64_t)0xffff0000));
}

static void note_largest(split *s, cg_val pairs) {
  cg_ctx *c = s->c;
  cg_val magnitude[2] = {s->largest, cg_bits(c, cg_and(c, pairs, cg_vi(c, 0x7fff7fff)), halves(c))};
  s->largest = cg_call(c, "llvm.umax.v32i16", halves(c), 2, magnitude);
}

/* Row i of the tile's three pieces, of the elements x[0] and, 16 deeper, x[1]. */
static void split_line(split *s, int i, cg_val x[2]) {
  cg_ctx *c = s->c;
  for (int piece = 0; piece < PIECES; piece++) {
    cg_val bits[2];
    for (int h = 0; h < 2; h++) {
      bits[h] = piece < PIECES - 1 ? nearest_piece(c, x[h]) : cg_bits(c, x[h], c->vi);
      if (piece < PIECES - 1) x[h] = cg_sub(c, x[h], cg_bits(c, bits[h], c->vf));
    }
    cg_val pairs = cg_or(c, cg_shr(c, bits[0], cg_vi(c, 16)), bits[1]);
    if (piece == 0) note_largest(s, pairs);
    cg_store(c, pairs, cg_addr(c, c->i8, s->dst, piece * TILE + i * 64), 64);
  }
}

/* Transposing comes first: two blocks of floats instead of three of pieces, and shuffles that the splitting overlaps. */
static void split_tile(split *s, bool whole, cg_val aside) {
  cg_ctx *c = s->c;
  cg_val deeper[SIDE];
  s->largest = cg_load(c, halves(c), cg_shared_arg(s->f, S_LARGEST), 64);
  for (int half = 0; half < 2 && s->transposed; half++) {
    for (int i = 0; i < SIDE; i++) deeper[i] = load_line(s, i, half, whole);
    cg_transpose(c, deeper, SIDE);
    for (int i = 0; i < SIDE && !half; i++) cg_store(c, deeper[i], cg_addr(c, c->vf, aside, i), 64);
  }
  for (int i = 0; i < SIDE; i++) {
    if (s->transposed)
      split_line(s, i, (cg_val[]){cg_load(c, c->vf, cg_addr(c, c->vf, aside, i), 64), deeper[i]});
    else
      split_line(s, i, (cg_val[]){load_line(s, i, 0, whole), load_line(s, i, 1, whole)});
  }
  cg_store(c, s->largest, cg_shared_arg(s->f, S_LARGEST), 64);
}

/* Rows are the outer loop where they are contiguous, so that the source is read in its order. */
static cg_val split_function(cg_ctx *c, bool along, bool transposed) {
  char name[64];
  snprintf(name, sizeof name, "cg.split.%s%s", along ? "along" : "across", transposed ? ".transposed" : "");
  cg_type types[S_COUNT] = {c->ptr, c->i64, c->i64, c->i64, c->ptr, c->i64, c->ptr};
  cg_shared f;
  if (!cg_shared_begin(c, &f, name, S_COUNT, types)) return f.fn;
  split s = {.c = c, .f = &f, .along = along, .transposed = transposed};
  cg_val aside = transposed ? cg_opaque(c, cg_alloca(c, c->vf, SIDE, 64)) : NULL, rows = cg_shared_arg(&f, S_ROWS);
  cg_val depth = cg_shared_arg(&f, S_DEPTH);
  cg_loop outer, inner;
  cg_loop_begin(c, &outer, cg_i64(c, 0), along ? rows : depth, along ? SIDE : DEPTH, 0, NULL);
  cg_loop_begin(c, &inner, cg_i64(c, 0), along ? depth : rows, along ? DEPTH : SIDE, 0, NULL);
  s.r = along ? outer.i : inner.i, s.k = along ? inner.i : outer.i;
  s.rows_left = cg_sub(c, rows, s.r), s.k_left = cg_sub(c, depth, s.k);
  cg_val strip = cg_mul(c, cg_shr(c, s.r, cg_i64(c, 4)), cg_shared_arg(&f, S_APART));
  cg_val step = cg_mul(c, cg_shr(c, s.k, cg_i64(c, 5)), cg_i64(c, STEP));
  s.dst = cg_gep_bytes(c, cg_shared_arg(&f, S_DST), cg_add(c, strip, step));
  cg_if whole;
  cg_if_begin(c, &whole, LLVMBuildAnd(c->b, cg_icmp(c, LLVMIntSGE, s.rows_left, cg_i64(c, SIDE)),
                                      cg_icmp(c, LLVMIntSGE, s.k_left, cg_i64(c, DEPTH)), ""));
  split_tile(&s, true, aside);
  cg_if_else(&whole);
  split_tile(&s, false, aside);
  cg_if_end(&whole);
  cg_loop_end(&inner, NULL);
  cg_loop_end(&outer, NULL);
  cg_shared_end(&f);
  return f.fn;
}

static cg_val largest(const cg_f32_chunk *s) { return cg_addr(s->c, s->c->i8, s->scratch, flag_at(s->d)); }

static void split_a(const cg_f32_chunk *s) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  bool along = d->a_cs == 1;
  cg_val from = cg_gep(c, c->f32, d->a, cg_mul(c, s->k0, cg_i64(c, d->a_cs)));
  cg_val args[S_COUNT] = {from, cg_i64(c, along ? d->a_rs : d->a_cs), s->m, s->kc, s->scratch, cg_i64(c, apart(d)), largest(s)};
  cg_shared_call(c, split_function(c, along, !along), S_COUNT, args);
}

/* Columns from j on, to the strips of B from the first on. */
static void split_b(const cg_f32_chunk *s, cg_val j, cg_val cols) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  bool along = d->b_cs != 1;
  cg_val at = cg_add(c, cg_mul(c, s->k0, cg_i64(c, d->b_rs)), cg_mul(c, j, cg_i64(c, d->b_cs)));
  cg_val args[S_COUNT] = {cg_gep(c, c->f32, d->b, at), cg_i64(c, along ? d->b_cs : d->b_rs), cols, s->kc,
                          cg_addr(c, c->i8, s->scratch, a_bytes(d)), cg_i64(c, apart(d)), largest(s)};
  cg_shared_call(c, split_function(c, along, along), S_COUNT, args);
}

/* i1: no value so far was too large. */
static cg_val in_range(const cg_f32_chunk *s) {
  cg_ctx *c = s->c;
  cg_val limit = cg_splat(c, LLVMConstInt(c->i16, 0x7f00, false), 2 * c->W);
  cg_val over = cg_icmp(c, LLVMIntUGE, cg_load(c, halves(c), largest(s), 64), limit);
  cg_val mask = LLVMBuildBitCast(c->b, over, LLVMIntTypeInContext(c->llvm, (unsigned)(2 * c->W)), "");
  return cg_icmp(c, LLVMIntEQ, mask, LLVMConstNull(LLVMTypeOf(mask)));
}

/* void tile(steps, a, b, apart, out, out_rs, src, src_rs, alpha, rows, cols): out = src + alpha * the sums of the strips at a
 * and b, one or two of each. */
enum { T_STEPS, T_A, T_B, T_APART, T_OUT, T_OUT_RS, T_SRC, T_SRC_RS, T_ALPHA, T_ROWS, T_COLS, T_COUNT };
enum { TILE_A = 4, TILE_B = 6 }; /* tiles 0 to 3 accumulate */

typedef struct tile {
  cg_ctx *c;
  const cg_shared *f;
  int mi, nj; /* strips */
} tile;

static void load_piece(const tile *t, cg_val strips, int first, int n, cg_val step, int piece) {
  cg_ctx *c = t->c;
  for (int i = 0; i < n; i++) {
    cg_val strip = cg_gep_bytes(c, strips, cg_mul(c, cg_shared_arg(t->f, T_APART), cg_i64(c, i)));
    c->target->tiles->load(c, first + i, cg_addr(c, c->i8, cg_gep_bytes(c, strip, step), piece * TILE), 64);
  }
}

/* Pairs of pieces in an order that changes one operand at a time, and ends with the largest products. */
static void add_steps(const tile *t) {
  static const int order[][2] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};
  cg_ctx *c = t->c;
  cg_loop l;
  cg_val end = cg_mul(c, cg_shared_arg(t->f, T_STEPS), cg_i64(c, STEP));
  cg_loop_begin(c, &l, cg_i64(c, 0), end, STEP, 0, NULL);
  for (int p = 0; p < 6; p++) {
    if (!p || order[p][0] != order[p - 1][0]) load_piece(t, cg_shared_arg(t->f, T_A), TILE_A, t->mi, l.i, order[p][0]);
    if (!p || order[p][1] != order[p - 1][1]) load_piece(t, cg_shared_arg(t->f, T_B), TILE_B, t->nj, l.i, order[p][1]);
    for (int i = 0; i < t->mi; i++)
      for (int j = 0; j < t->nj; j++) c->target->tiles->dot_bf16(c, i * t->nj + j, TILE_A + i, TILE_B + j);
  }
  cg_loop_end(&l, NULL);
}

static void finish_rows(const tile *t, cg_val sums, bool whole) {
  cg_ctx *c = t->c;
  cg_val alpha = cg_splat(c, cg_shared_arg(t->f, T_ALPHA), c->W);
  cg_loop row;
  cg_loop_begin(c, &row, cg_i64(c, 0), cg_shared_arg(t->f, T_ROWS), 1, 0, NULL);
  cg_val out = cg_gep(c, c->f32, cg_shared_arg(t->f, T_OUT), cg_mul(c, row.i, cg_shared_arg(t->f, T_OUT_RS)));
  cg_val src = cg_gep(c, c->f32, cg_shared_arg(t->f, T_SRC), cg_mul(c, row.i, cg_shared_arg(t->f, T_SRC_RS)));
  for (int v = 0; v < t->nj; v++) {
    cg_val left = whole ? NULL : cg_sub(c, cg_shared_arg(t->f, T_COLS), cg_i64(c, v * SIDE));
    cg_val base = cg_load_n(c, cg_addr(c, c->f32, src, v * SIDE), left, cg_vf(c, 0));
    cg_val at = cg_addr(c, c->f32, cg_gep(c, c->f32, sums, cg_mul(c, row.i, cg_i64(c, BLOCK))), v * SIDE);
    cg_store_n(c, cg_fma(c, alpha, cg_load(c, c->vf, at, 64), base), cg_addr(c, c->f32, out, v * SIDE), left);
  }
  cg_loop_end(&row, NULL);
}

static cg_val tile_function(cg_ctx *c, int mi, int nj) {
  const cg_tile_unit *u = c->target->tiles;
  char name[64];
  snprintf(name, sizeof name, "cg.sgemm.tiles%dx%d", mi, nj);
  cg_type types[T_COUNT] = {c->i64, c->ptr, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->i64, c->f32, c->i64, c->i64};
  cg_shared f;
  if (!cg_shared_begin(c, &f, name, T_COUNT, types)) return f.fn;
  TT_ASSERT(c->W == SIDE);
  tile t = {.c = c, .f = &f, .mi = mi, .nj = nj};
  cg_val sums = cg_alloca(c, c->vf, BLOCK * BLOCK / SIDE, 64);
  for (int i = 0; i < mi * nj; i++) u->zero(c, i);
  add_steps(&t);
  for (int i = 0; i < mi * nj; i++)
    u->store(c, i, cg_addr(c, c->f32, sums, i / nj * SIDE * BLOCK + i % nj * SIDE), BLOCK * 4);
  cg_if whole;
  cg_if_begin(c, &whole, cg_icmp(c, LLVMIntEQ, cg_shared_arg(&f, T_COLS), cg_i64(c, nj * SIDE)));
  finish_rows(&t, sums, true);
  cg_if_else(&whole);
  finish_rows(&t, sums, false);
  cg_if_end(&whole);
  cg_shared_end(&f);
  return f.fn;
}

/* The block of mi x nj strips at row i, column j. */
static void emit_block(const cg_f32_chunk *s, cg_val i, cg_val j, int mi, int nj) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  cg_val out = cg_gep(c, c->f32, d->out, cg_add(c, cg_mul(c, i, cg_i64(c, d->c_rs)), j)), src, src_rs;
  cg_f32_source(s, j, out, &src, &src_rs);
  cg_val a = cg_gep_bytes(c, s->scratch, cg_mul(c, cg_shr(c, i, cg_i64(c, 4)), cg_i64(c, apart(d))));
  cg_val b = cg_addr(c, c->i8, s->scratch, a_bytes(d));
  if (splits_whole_b(d)) b = cg_gep_bytes(c, b, cg_mul(c, cg_shr(c, j, cg_i64(c, 4)), cg_i64(c, apart(d))));
  cg_val steps = cg_shr(c, cg_add(c, s->kc, cg_i64(c, DEPTH - 1)), cg_i64(c, 5));
  cg_val args[T_COUNT] = {steps, a, b, cg_i64(c, apart(d)), out, cg_i64(c, d->c_rs), src, src_rs, cg_f32(c, d->alpha),
                          cg_min(c, cg_sub(c, s->m, i), cg_i64(c, mi * SIDE)),
                          cg_min(c, cg_sub(c, s->n, j), cg_i64(c, nj * SIDE))};
  cg_shared_call(c, tile_function(c, mi, nj), T_COUNT, args);
}

/* Where the part of n begins that is a single strip: n itself, or the last 16 or fewer. */
static cg_val paired(cg_ctx *c, cg_val n) {
  cg_val strips = cg_shr(c, cg_add(c, n, cg_i64(c, SIDE - 1)), cg_i64(c, 4));
  return cg_min(c, n, cg_mul(c, cg_shr(c, strips, cg_i64(c, 1)), cg_i64(c, BLOCK)));
}

static bool never_odd(cg_val n) {
  int64_t known;
  return cg_const_int(n, &known) && ceil_div(known, SIDE) % 2 == 0;
}

static void emit_rows(const cg_f32_chunk *s, cg_val j, int nj) {
  cg_ctx *c = s->c;
  cg_val pairs = paired(c, s->m);
  cg_loop i;
  cg_loop_begin(c, &i, cg_i64(c, 0), pairs, BLOCK, 0, NULL);
  emit_block(s, i.i, j, 2, nj);
  cg_loop_end(&i, NULL);
  if (never_odd(s->m)) return;
  cg_if odd;
  cg_if_begin(c, &odd, cg_icmp(c, LLVMIntSLT, pairs, s->m));
  emit_block(s, pairs, j, 1, nj);
  cg_if_end(&odd);
}

/* The columns from j on, by multiply-adds. */
static void emit_rows_by_vectors(const cg_f32_chunk *s, cg_val j, cg_val cols) {
  cg_ctx *c = s->c;
  cg_gemm panel = *s->d;
  cg_f32_chunk part = *s;
  panel.N = BLOCK;
  panel.b = cg_gep(c, c->f32, panel.b, cg_mul(c, j, cg_i64(c, panel.b_cs)));
  panel.out = cg_gep(c, c->f32, panel.out, j);
  if (panel.bias) panel.bias = cg_gep(c, c->f32, panel.bias, j);
  panel.n_count = part.n = cols;
  part.d = &panel;
  part.scratch = cg_addr(c, c->i8, s->scratch, flag_at(s->d) + 64);
  cg_f32_by_vectors(&part);
}

static void emit_columns(const cg_f32_chunk *s, cg_val j, int nj) {
  cg_ctx *c = s->c;
  if (splits_whole_b(s->d)) {
    emit_rows(s, j, nj);
    return;
  }
  cg_val cols = cg_min(c, cg_sub(c, s->n, j), cg_i64(c, nj * SIDE));
  cg_if ok;
  split_b(s, j, cols);
  cg_if_begin(c, &ok, in_range(s));
  emit_rows(s, j, nj);
  cg_if_else(&ok);
  emit_rows_by_vectors(s, j, cols);
  cg_if_end(&ok);
}

static void emit_panels(const cg_f32_chunk *s) {
  cg_ctx *c = s->c;
  cg_val pairs = paired(c, s->n);
  cg_loop j;
  cg_loop_begin(c, &j, cg_i64(c, 0), pairs, BLOCK, 0, NULL);
  emit_columns(s, j.i, 2);
  cg_loop_end(&j, NULL);
  if (never_odd(s->n)) return;
  cg_if odd;
  cg_if_begin(c, &odd, cg_icmp(c, LLVMIntSLT, pairs, s->n));
  emit_columns(s, pairs, 1);
  cg_if_end(&odd);
}

void cg_f32_by_tiles(const cg_f32_chunk *s) {
  cg_ctx *c = s->c;
  cg_store(c, LLVMConstNull(halves(c)), largest(s), 64);
  split_a(s);
  if (!splits_whole_b(s->d)) {
    emit_panels(s);
    return;
  }
  cg_if ok;
  split_b(s, cg_i64(c, 0), s->n);
  cg_if_begin(c, &ok, in_range(s));
  emit_panels(s);
  cg_if_else(&ok);
  cg_f32_chunk all = *s;
  all.scratch = cg_addr(c, c->i8, s->scratch, flag_at(s->d) + 64);
  cg_f32_by_vectors(&all);
  cg_if_end(&ok);
}
