/* mx.gemm of per-tensor INT4 operands: C[M,N] = A[M,K] B[N,K]^T, exact in int32, then one conversion, one multiplication by
 * the product of the scales and one addition of the bias (NUMERICS 9).
 *
 * A task owns a tile of C and runs over K by chunks that are decoded into scratch, inside those by panels of B. Between
 * chunks the integer sums rest in C itself. Decoded operands, of D dwords (8 elements each) a row:
 *   A  u8, code + 8      [row][low, high nibbles][D][4]
 *   B  s8, in panels     [low, high nibbles][D][nr][4]
 * Which elements a dword holds does not matter as long as both sides agree, so no nibble is moved. The offset of A is taken
 * back where sums start: at -8 times the sum of B's codes. Sums may wrap on the way; modulo 2^32 they end right. */
#include <stdio.h>
#include "compiler/codegen/int4.h"

enum { CHUNK_BLOCKS = 24, BLOCK_DWORDS = TT_MX_BLOCK / 8, NV = 2 };

typedef struct shape {
  int64_t dwords;                 /* D, whole vectors */
  int mr, nr;                     /* register tile */
  int64_t b_init, a_codes, bytes; /* offsets in scratch; B's codes come first */
} shape;

static shape shape_of(const cg_ctx *c, int64_t blocks, int64_t rows) {
  shape s = {.mr = c->target->vector_regs >= 32 ? 12 : 4, .nr = NV * c->W};
  s.dwords = (blocks * BLOCK_DWORDS + c->W - 1) / c->W * c->W;
  s.b_init = 2 * s.dwords * s.nr * 4;
  s.a_codes = s.b_init + s.nr * 4;
  s.bytes = s.a_codes + (rows + s.mr - 1) / s.mr * s.mr * 2 * s.dwords * 4;
  return s;
}

static bool shared_begin(cg_ctx *c, cg_shared *f, const char *what, const shape *s, int n, const cg_type *types) {
  char name[64];
  snprintf(name, sizeof name, "cg.int4.%s.%lld", what, (long long)s->dwords);
  return cg_shared_begin(c, f, name, n, types);
}

/* Packed bytes (i32 lanes) as vectors of bytes from the low and the high nibbles, each with 8 added. */
static void split(cg_ctx *c, cg_val packed, cg_val *lo, cg_val *hi) {
  cg_val mask = cg_vi(c, 0x0f0f0f0f), raised = cg_xor(c, packed, cg_vi(c, (int32_t)0x88888888));
  *lo = cg_and(c, raised, mask);
  *hi = cg_and(c, cg_shr(c, raised, cg_vi(c, 4)), mask);
}

enum { D_CODES, D_STRIDE, D_DWORDS, D_USED, D_TO, D_COUNT };

/* (codes, bytes a row, dwords, rows, to): rows past the end are copies of the last, never stored. */
static cg_val decode_a(cg_ctx *c, const shape *s) {
  cg_shared f;
  if (!shared_begin(c, &f, "a", s, D_COUNT, (cg_type[]){c->ptr, c->i64, c->i64, c->i64, c->ptr})) return f.fn;
  cg_val used = cg_shared_arg(&f, D_USED), dwords = cg_shared_arg(&f, D_DWORDS);
  cg_val tiles = cg_div(c, cg_add(c, used, cg_i64(c, s->mr - 1)), cg_i64(c, s->mr));
  cg_loop row, d;
  cg_loop_begin(c, &row, cg_i64(c, 0), cg_mul(c, tiles, cg_i64(c, s->mr)), 1, 0, NULL);
  cg_val from = cg_min(c, row.i, cg_sub(c, used, cg_i64(c, 1)));
  cg_val src = cg_gep_bytes(c, cg_shared_arg(&f, D_CODES), cg_mul(c, from, cg_shared_arg(&f, D_STRIDE)));
  cg_val dst = cg_gep(c, c->i32, cg_shared_arg(&f, D_TO), cg_mul(c, row.i, cg_i64(c, 2 * s->dwords)));
  cg_loop_begin(c, &d, cg_i64(c, 0), dwords, c->W, 0, NULL);
  cg_val lo, hi, at = cg_gep(c, c->i32, dst, d.i);
  split(c, cg_bits(c, cg_load_n(c, cg_gep(c, c->i32, src, d.i), cg_sub(c, dwords, d.i), cg_vf(c, 0)), c->vi), &lo, &hi);
  cg_store(c, lo, at, 4);
  cg_store(c, hi, cg_addr(c, c->i32, at, s->dwords), 4);
  cg_loop_end(&d, NULL);
  cg_loop_end(&row, NULL);
  cg_shared_end(&f);
  return f.fn;
}

/* W dwords of W columns from column `first` of the panel on, transposed while packed; returns `sum` and their codes. */
static cg_val decode_square(cg_ctx *c, const cg_shared *f, const shape *s, cg_val first, cg_val d, cg_val sum) {
  cg_type bytes = cg_vec(c, c->i8, c->target->vector_bytes);
  cg_val words[64], part[2], eight = cg_splat(c, LLVMConstInt(c->i8, 8, false), c->target->vector_bytes);
  cg_val left = cg_sub(c, cg_shared_arg(f, D_DWORDS), d), last = cg_sub(c, cg_shared_arg(f, D_USED), cg_i64(c, 1));
  for (int j = 0; j < c->W; j++) {
    cg_val column = cg_min(c, cg_add(c, first, cg_i64(c, j)), last);
    cg_val src = cg_gep_bytes(c, cg_shared_arg(f, D_CODES), cg_mul(c, column, cg_shared_arg(f, D_STRIDE)));
    words[j] = cg_load_n(c, cg_gep(c, c->i32, src, d), left, cg_vf(c, 0));
  }
  cg_transpose(c, words, c->W);
  cg_val to = cg_gep(c, c->i32, cg_shared_arg(f, D_TO), cg_add(c, cg_mul(c, d, cg_i64(c, s->nr)), first));
  for (int q = 0; q < c->W; q++) {
    split(c, cg_bits(c, words[q], c->vi), &part[0], &part[1]);
    for (int h = 0; h < 2; h++) {
      cg_val codes = cg_bits(c, cg_sub(c, cg_bits(c, part[h], bytes), eight), c->vi);
      cg_store(c, codes, cg_addr(c, c->i32, to, (h * s->dwords + q) * s->nr), 4);
      sum = c->target->dot_u8s8(c, sum, cg_vi(c, 0x01010101), codes);
    }
  }
  return sum;
}

/* (codes, bytes a row, dwords, cols, to) */
static cg_val decode_b(cg_ctx *c, const shape *s) {
  cg_shared f;
  if (!shared_begin(c, &f, "b", s, D_COUNT, (cg_type[]){c->ptr, c->i64, c->i64, c->i64, c->ptr})) return f.fn;
  cg_loop first, d;
  cg_loop_begin(c, &first, cg_i64(c, 0), cg_i64(c, s->nr), c->W, 0, NULL);
  cg_loop_begin(c, &d, cg_i64(c, 0), cg_shared_arg(&f, D_DWORDS), c->W, 1, (cg_val[]){cg_vi(c, 0)});
  cg_val sum = decode_square(c, &f, s, first.i, d.i, d.carry[0]);
  cg_loop_end(&d, &sum);
  cg_val init = cg_gep(c, c->i32, cg_addr(c, c->i8, cg_shared_arg(&f, D_TO), s->b_init), first.i);
  cg_store(c, cg_mul(c, d.carry[0], cg_vi(c, -8)), init, 4);
  cg_loop_end(&first, NULL);
  cg_shared_end(&f);
  return f.fn;
}

enum { T_DWORDS, T_BASE, T_OUT, T_OUT_RS, T_SRC, T_SRC_RS, T_BIAS, T_SCALE, T_LAST, T_ROWS, T_COLS, T_COUNT };

/* A register tile under way. */
typedef struct tile {
  cg_ctx *c;
  const cg_shared *f;
  const shape *s;
  cg_val row, rows; /* its first row; how many exist */
  bool whole;       /* all rows and columns do */
  cg_val acc[40];
} tile;

static cg_val *sum_at(tile *t, int i, int v) { return &t->acc[i * NV + v]; }
static cg_val left_of(tile *t, int v) {
  return t->whole ? NULL : cg_sub(t->c, cg_shared_arg(t->f, T_COLS), cg_i64(t->c, v * t->c->W));
}

/* What earlier chunks have left (zeros at first), and the offset's part. */
static void load_sums(tile *t) {
  cg_ctx *c = t->c;
  cg_val init = cg_addr(c, c->i8, cg_shared_arg(t->f, T_BASE), t->s->b_init);
  for (int i = 0; i < t->s->mr; i++) {
    cg_val row = t->whole ? cg_i64(c, i) : cg_min(c, cg_i64(c, i), cg_sub(c, t->rows, cg_i64(c, 1)));
    row = cg_mul(c, cg_add(c, t->row, row), cg_shared_arg(t->f, T_SRC_RS));
    for (int v = 0; v < NV; v++) {
      cg_val p = cg_addr(c, c->f32, cg_gep(c, c->f32, cg_shared_arg(t->f, T_SRC), row), v * c->W);
      cg_val start = cg_load(c, c->vi, cg_addr(c, c->i32, init, v * c->W), 4);
      *sum_at(t, i, v) = cg_add(c, cg_bits(c, cg_load_n(c, p, left_of(t, v), cg_vf(c, 0)), c->vi), start);
    }
  }
}

static void add_products(tile *t) {
  cg_ctx *c = t->c;
  int n = t->s->mr * NV;
  cg_val a = cg_addr(c, c->i8, cg_shared_arg(t->f, T_BASE), t->s->a_codes);
  a = cg_gep(c, c->i32, a, cg_mul(c, t->row, cg_i64(c, 2 * t->s->dwords)));
  cg_loop d;
  cg_loop_begin(c, &d, cg_i64(c, 0), cg_shared_arg(t->f, T_DWORDS), 1, n, t->acc);
  for (int i = 0; i < n; i++) t->acc[i] = d.carry[i];
  cg_val b = cg_gep(c, c->i32, cg_shared_arg(t->f, T_BASE), cg_mul(c, d.i, cg_i64(c, t->s->nr))),
         at = cg_gep(c, c->i32, a, d.i);
  for (int h = 0; h < 2; h++) {
    cg_val bv[NV];
    for (int v = 0; v < NV; v++)
      bv[v] = cg_load(c, c->vi, cg_addr(c, c->i32, b, h * t->s->dwords * t->s->nr + v * c->W), 4);
    for (int i = 0; i < t->s->mr; i++) {
      cg_val av = cg_splat(c, cg_load(c, c->i32, cg_addr(c, c->i32, at, (2 * i + h) * t->s->dwords), 4), c->W);
      for (int v = 0; v < NV; v++) *sum_at(t, i, v) = c->target->dot_u8s8(c, *sum_at(t, i, v), av, bv[v]);
    }
  }
  cg_loop_end(&d, t->acc);
  for (int i = 0; i < n; i++) t->acc[i] = d.carry[i];
}

static void store_row(tile *t, int i, bool last) {
  cg_ctx *c = t->c;
  cg_val row = cg_mul(c, cg_add(c, t->row, cg_i64(c, i)), cg_shared_arg(t->f, T_OUT_RS));
  for (int v = 0; v < NV; v++) {
    cg_val p = cg_addr(c, c->f32, cg_gep(c, c->f32, cg_shared_arg(t->f, T_OUT), row), v * c->W), y = *sum_at(t, i, v);
    if (last) {
      cg_val bias = cg_load_n(c, cg_addr(c, c->f32, cg_shared_arg(t->f, T_BIAS), v * c->W), left_of(t, v), cg_vf(c, 0));
      y = cg_mul(c, LLVMBuildSIToFP(c->b, y, c->vf, ""), cg_splat(c, cg_shared_arg(t->f, T_SCALE), c->W));
      y = cg_add(c, y, bias);
    }
    cg_store_n(c, cg_bits(c, y, c->vf), p, left_of(t, v));
  }
}

static void store_sums(tile *t, bool last) {
  cg_ctx *c = t->c;
  for (int i = 0; i < t->s->mr; i++) {
    cg_if f;
    if (!t->whole) cg_if_begin(c, &f, cg_icmp(c, LLVMIntSLT, cg_i64(c, i), t->rows));
    store_row(t, i, last);
    if (!t->whole) cg_if_end(&f);
  }
}

static void emit_tile(tile *t) {
  cg_ctx *c = t->c;
  cg_if last;
  load_sums(t);
  add_products(t);
  cg_if_begin(c, &last, cg_icmp(c, LLVMIntNE, cg_shared_arg(t->f, T_LAST), cg_i64(c, 0)));
  store_sums(t, true);
  cg_if_else(&last);
  store_sums(t, false);
  cg_if_end(&last);
}

/* All rows of A times the panel; adds the chunk's sums to src and leaves them in out, in the last chunk as floats. */
static cg_val panel(cg_ctx *c, const shape *s) {
  cg_shared f;
  cg_type types[T_COUNT] = {c->i64, c->ptr, c->ptr, c->i64, c->ptr, c->i64, c->ptr, c->f32, c->i64, c->i64, c->i64};
  if (!shared_begin(c, &f, "panel", s, T_COUNT, types)) return f.fn;
  tile t = {.c = c, .f = &f, .s = s};
  cg_loop row;
  cg_loop_begin(c, &row, cg_i64(c, 0), cg_shared_arg(&f, T_ROWS), s->mr, 0, NULL);
  t.row = row.i;
  t.rows = cg_min(c, cg_i64(c, s->mr), cg_sub(c, cg_shared_arg(&f, T_ROWS), row.i));
  cg_val all = cg_and(c, cg_icmp(c, LLVMIntEQ, cg_shared_arg(&f, T_COLS), cg_i64(c, s->nr)),
                      cg_icmp(c, LLVMIntEQ, t.rows, cg_i64(c, s->mr)));
  cg_if whole;
  cg_if_begin(c, &whole, all);
  t.whole = true;
  emit_tile(&t);
  cg_if_else(&whole);
  t.whole = false;
  emit_tile(&t);
  cg_if_end(&whole);
  cg_loop_end(&row, NULL);
  cg_shared_end(&f);
  return f.fn;
}

typedef struct product {
  cg_kernel *k;
  int64_t M, N, nb, chunk;
  cg_tiling t;
  shape s;
  cg_val base, scale;
  cg_val i, j, rows, cols; /* this task's tile of C */
  cg_val k0, n;            /* blocks: start and length of the chunk */
} product;

/* Packed codes of operand `index` from the chunk's first block of a row on. */
static cg_val codes_at(product *p, int index, cg_val row) {
  cg_ctx *c = p->k->c;
  cg_val block = cg_add(c, cg_mul(c, row, cg_i64(c, p->nb)), p->k0);
  return cg_gep_bytes(c, cg_in(p->k, index), cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
}

static void emit_panel(product *p, cg_val col) {
  cg_ctx *c = p->k->c;
  cg_val zero = cg_i64(c, 0), cols = cg_min(c, cg_sub(c, p->cols, col), cg_i64(c, p->s.nr)), j = cg_add(c, p->j, col);
  cg_val dwords = cg_mul(c, p->n, cg_i64(c, BLOCK_DWORDS)), stride = cg_i64(c, p->nb * (TT_MX_BLOCK / 2));
  cg_shared_call(c, decode_b(c, &p->s), D_COUNT, (cg_val[]){codes_at(p, 1, j), stride, dwords, cols, p->base});
  cg_val out = cg_gep(c, c->f32, cg_out(p->k, 0), cg_add(c, cg_mul(c, p->i, cg_i64(c, p->N)), j));
  cg_val first = cg_icmp(c, LLVMIntEQ, p->k0, zero), rs = cg_i64(c, p->N);
  cg_val last = LLVMBuildZExt(c->b, cg_icmp(c, LLVMIntEQ, cg_add(c, p->k0, p->n), cg_i64(c, p->nb)), c->i64, "");
  cg_val bias = p->k->x->d->n_in > 2 ? cg_gep(c, c->f32, cg_in(p->k, 2), j) : cg_zeros(c);
  cg_val src = cg_select(c, first, cg_zeros(c), out), src_rs = cg_select(c, first, zero, rs);
  cg_shared_call(c, panel(c, &p->s), T_COUNT,
                 (cg_val[]){dwords, p->base, out, rs, src, src_rs, bias, p->scale, last, p->rows, cols});
}

static void emit_task(product *p) {
  cg_ctx *c = p->k->c;
  cg_val row = cg_div(c, p->k->task, cg_i64(c, p->t.n_cols)), col = cg_rem(c, p->k->task, cg_i64(c, p->t.n_cols));
  p->i = cg_mul(c, row, cg_i64(c, p->t.rows)), p->j = cg_mul(c, col, cg_i64(c, p->t.cols));
  p->rows = cg_min(c, cg_i64(c, p->t.rows), cg_sub(c, cg_i64(c, p->M), p->i));
  p->cols = cg_min(c, cg_i64(c, p->t.cols), cg_sub(c, cg_i64(c, p->N), p->j));
  cg_loop chunk, at;
  cg_loop_begin(c, &chunk, cg_i64(c, 0), cg_i64(c, p->nb), p->chunk, 0, NULL);
  p->k0 = chunk.i;
  p->n = cg_min(c, cg_i64(c, p->chunk), cg_sub(c, cg_i64(c, p->nb), p->k0));
  cg_val dwords = cg_mul(c, p->n, cg_i64(c, BLOCK_DWORDS)), stride = cg_i64(c, p->nb * (TT_MX_BLOCK / 2));
  cg_val to = cg_addr(c, c->i8, p->base, p->s.a_codes);
  cg_shared_call(c, decode_a(c, &p->s), D_COUNT, (cg_val[]){codes_at(p, 0, p->i), stride, dwords, p->rows, to});
  cg_loop_begin(c, &at, cg_i64(c, 0), p->cols, p->s.nr, 0, NULL);
  emit_panel(p, at.i);
  cg_loop_end(&at, NULL);
  cg_loop_end(&chunk, NULL);
}

bool cg_int4_gemm(cg_node *x) {
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1);
  TT_ASSERT(a->format == TT_INT4 && b->format == TT_INT4);
  product p = {.M = a->dim[0], .N = b->dim[0], .nb = tt_mx_blocks(a->dim[1])};
  p.chunk = p.nb < CHUNK_BLOCKS ? p.nb : CHUNK_BLOCKS;
  p.t = cg_tile_product(p.M, p.N, a->dim[1] / 3 + 1, 96, 96, 12);
  p.s = shape_of(x->c, p.chunk, p.t.rows);
  p.k = cg_kernel_begin(x, "");
  if (p.k) {
    cg_ctx *c = p.k->c;
    p.base = cg_scratch(p.k, 0, (uint64_t)p.s.bytes);
    cg_val saved = c->target->denormals_keep(c);
    p.scale = cg_mul(c, cg_int4_scale_of(p.k, 0), cg_int4_scale_of(p.k, 1));
    emit_task(&p);
    c->target->denormals_restore(c, saved);
    cg_kernel_end(p.k);
  }
  cg_launch(x, "", p.t.n_rows * p.t.n_cols);
  return true;
}
