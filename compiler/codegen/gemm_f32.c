/* Float32 matrix products: C[M,N] = alpha op(A)[M,K] op(B)[K,N], register-tiled with FMA.
 *
 * K is cut into chunks, B into slabs of columns. A slab's chunk is packed to panels of [kc][NR] that stay in L2 together
 * (or was, by a launch before: cg_f32_pack_b); then each strip of MR rows of A runs over all its panels. The strip, which is
 * asked for while the one before is multiplied, comes from far away but once, so that A is read in place where its rows are
 * contiguous along k: packing it would cost more than the pages that its rows lie on. It is packed to [kc][MR] where they are
 * not, and for the last, incomplete strip, which is padded with zeros so that one micro kernel serves. After Goto and van de
 * Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), with A and B in each other's place because the shapes
 * here are tall. */
#include "compiler/codegen/gemm_f32.h"
#include <stdio.h>

/* Of all targets. A strip in place may be deeper, and C is touched less often, than where both operands are packed by a task
 * and have to be in L2 side by side. */
enum { KC_MAX = 256, KC_IN_PLACE = 384, SLAB = 384, NR_MIN = 8, NR_MAX = 48, MR_MAX = 12 };

typedef struct shape {
  int mr, nr, nv; /* nr = nv vectors of W */
} shape;

/* Of 24 sums in registers 8 x 3 vectors take 11 loads a step and 12 x 2 take 14. */
static shape tile_shape(const cg_ctx *c, const cg_gemm *d) {
  int64_t N = d->packed_cols ? d->packed_cols : d->N;
  bool many = c->target->vector_regs >= 32, wide = many && 3 * c->W <= NR_MAX && 3 * c->W >= 32 && N % (3 * c->W) == 0;
  shape t = {.mr = wide ? 8 : many ? MR_MAX : 6, .nv = wide ? 3 : 2};
  t.nr = t.nv * c->W;
  TT_ASSERT(t.nr >= NR_MIN && t.nr <= NR_MAX);
  return t;
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t chunk_length(int64_t K, int64_t most) { return ceil_div(ceil_div(K, ceil_div(K, most)), 16) * 16; }
int64_t cg_f32_chunk_length(int64_t K) { return chunk_length(K, KC_MAX); }

static bool packs_a(const cg_gemm *d) { return d->a_cs != 1; }
static int64_t chunk_of(const cg_gemm *d) { return chunk_length(d->K, packs_a(d) ? KC_MAX : KC_IN_PLACE); }

/* Columns of B in panels at a time. */
static int64_t packed_cols(const cg_gemm *d) {
  int64_t cols = ceil_div(d->N, 32) * 32; /* of which any tile's width is a divisor, or else of N */
  return d->packed_b ? 0 : cols < SLAB ? cols : SLAB;
}

/* Floats from one packed strip or panel of width n to the next: a line more than it holds, so that they do not all start in
 * the same cache set. */
static int64_t apart(const cg_gemm *d, int64_t n) { return chunk_of(d) * n + 16; }

/* Room for the rows of A that are packed: all of them, or just the incomplete last tile; and an overhanging vector. */
static uint64_t a_bytes(const cg_gemm *d) {
  int64_t rows = packs_a(d) ? d->M + MR_MAX : MR_MAX;
  return (uint64_t)(ceil_div(rows, 6) * apart(d, 6) + NR_MAX) * 4;
}

/* The innermost loop: out[m,n] = src[m,n] + alpha * sum over k < kc of a(m,k) b(k,n), for m < rows <= mr, n < cols <= nr.
 * src is C itself, the bias with row stride 0, or zeros. ahead and ahead2 are two rows of A that are needed soon. */
enum { U_KC, U_A, U_B, U_OUT, U_OUT_RS, U_SRC, U_SRC_RS, U_ALPHA, U_ROWS, U_COLS, U_AHEAD, U_AHEAD2, U_COUNT };

/* a(m,k) is at a + m*a_rs + k*a_cs, b(k,n) at b + k*nr + n; strides are part of the function, so that addresses are constants
 * from one pointer. */
typedef struct micro {
  shape t;
  int64_t a_rs, a_cs;
} micro;

static void emit_whole_tile(cg_ctx *c, const cg_shared *s, shape t, const cg_val *acc) {
  cg_val alpha = cg_splat(c, cg_shared_arg(s, U_ALPHA), c->W);
  cg_val out = cg_shared_arg(s, U_OUT), src = cg_shared_arg(s, U_SRC);
  for (int i = 0; i < t.mr; i++) {
    for (int v = 0; v < t.nv; v++) {
      cg_val base = cg_load(c, c->vf, cg_addr(c, c->f32, src, v * c->W), 4);
      cg_store(c, cg_fma(c, alpha, acc[i * t.nv + v], base), cg_addr(c, c->f32, out, v * c->W), 4);
    }
    out = cg_gep(c, c->f32, out, cg_shared_arg(s, U_OUT_RS));
    src = cg_gep(c, c->f32, src, cg_shared_arg(s, U_SRC_RS));
  }
}

/* Accumulators go through the stack, so that one loop handles any number of rows. */
static void emit_partial_tile(cg_ctx *c, const cg_shared *s, shape t, const cg_val *acc) {
  cg_val slot = cg_alloca(c, c->vf, t.mr * t.nv, 64);
  for (int i = 0; i < t.mr * t.nv; i++) cg_store(c, acc[i], cg_addr(c, c->vf, slot, i), 64);
  cg_val alpha = cg_splat(c, cg_shared_arg(s, U_ALPHA), c->W);
  cg_loop row;
  cg_loop_begin(c, &row, cg_i64(c, 0), cg_shared_arg(s, U_ROWS), 1, 0, NULL);
  cg_val out = cg_gep(c, c->f32, cg_shared_arg(s, U_OUT), cg_mul(c, row.i, cg_shared_arg(s, U_OUT_RS)));
  cg_val src = cg_gep(c, c->f32, cg_shared_arg(s, U_SRC), cg_mul(c, row.i, cg_shared_arg(s, U_SRC_RS)));
  cg_val at = cg_gep(c, c->vf, slot, cg_mul(c, row.i, cg_i64(c, t.nv)));
  for (int v = 0; v < t.nv; v++) {
    cg_val left = cg_sub(c, cg_shared_arg(s, U_COLS), cg_i64(c, v * c->W));
    cg_val base = cg_load_n(c, cg_addr(c, c->f32, src, v * c->W), left, cg_vf(c, 0));
    cg_val sum = cg_fma(c, alpha, cg_load(c, c->vf, cg_addr(c, c->vf, at, v), 64), base);
    cg_store_n(c, sum, cg_addr(c, c->f32, out, v * c->W), left);
  }
  cg_loop_end(&row, NULL);
}

/* C is asked for before the sums begin, to be there when they end: rows of C lie on pages of their own. */
static void prefetch_tile(cg_ctx *c, const cg_shared *s, shape t) {
  cg_val out = cg_shared_arg(s, U_OUT);
  for (int i = 0; i < t.mr; i++) {
    for (int v = 0; v < t.nv; v += 16 / c->W) cg_prefetch_write(c, cg_addr(c, c->f32, out, v * c->W));
    out = cg_gep(c, c->f32, out, cg_shared_arg(s, U_OUT_RS));
  }
}

/* acc += a(m,k) b(k,n) for k of [begin, end). */
static void multiply_add(cg_ctx *c, const cg_shared *s, const micro *m, cg_val begin, cg_val end, cg_val *acc) {
  shape t = m->t;
  cg_loop l;
  cg_loop_begin(c, &l, begin, end, 1, t.mr * t.nv, acc);
  cg_val a = cg_gep(c, c->f32, cg_shared_arg(s, U_A), cg_mul(c, l.i, cg_i64(c, m->a_cs)));
  cg_val b = cg_gep(c, c->f32, cg_shared_arg(s, U_B), cg_mul(c, l.i, cg_i64(c, t.nr)));
  cg_val bv[4];
  for (int v = 0; v < t.nv; v++) bv[v] = cg_load(c, c->vf, cg_addr(c, c->f32, b, v * c->W), 4);
  for (int i = 0; i < t.mr; i++) {
    cg_val av = cg_splat(c, cg_load(c, c->f32, cg_addr(c, c->f32, a, i * m->a_rs), 4), c->W);
    for (int v = 0; v < t.nv; v++) acc[i * t.nv + v] = cg_fma(c, av, bv[v], l.carry[i * t.nv + v]);
  }
  cg_loop_end(&l, acc);
  for (int i = 0; i < t.mr * t.nv; i++) acc[i] = l.carry[i];
}

/* The same for all k; where A is in place, a cache line of each row ahead is asked for at a time. */
static void multiply_add_ahead(cg_ctx *c, const cg_shared *s, const micro *m, cg_val *acc) {
  enum { LINE = 16 };
  cg_val zero = cg_i64(c, 0), kc = cg_shared_arg(s, U_KC);
  if (m->a_cs != 1) {
    multiply_add(c, s, m, zero, kc, acc);
    return;
  }
  cg_loop l;
  cg_val next[NR_MAX * MR_MAX];
  int n = m->t.mr * m->t.nv;
  cg_loop_begin(c, &l, zero, kc, LINE, n, acc);
  cg_prefetch(c, cg_gep(c, c->f32, cg_shared_arg(s, U_AHEAD), l.i));
  cg_prefetch(c, cg_gep(c, c->f32, cg_shared_arg(s, U_AHEAD2), l.i));
  for (int i = 0; i < n; i++) next[i] = l.carry[i];
  multiply_add(c, s, m, l.i, cg_min(c, kc, cg_add(c, l.i, cg_i64(c, LINE))), next);
  cg_loop_end(&l, next);
  for (int i = 0; i < n; i++) acc[i] = l.carry[i];
}

static cg_val micro_kernel(cg_ctx *c, const micro *m) {
  shape t = m->t;
  char name[96];
  snprintf(name, sizeof name, "cg.sgemm.a%lld_%lld.b%d", (long long)m->a_rs, (long long)m->a_cs, t.nr);
  cg_type types[U_COUNT] = {c->i64, c->ptr, c->ptr, c->ptr, c->i64, c->ptr, c->i64, c->f32, c->i64, c->i64, c->ptr, c->ptr};
  cg_shared s;
  if (!cg_shared_begin(c, &s, name, U_COUNT, types)) return s.fn;
  prefetch_tile(c, &s, t);
  cg_val acc[NR_MAX * MR_MAX];
  for (int i = 0; i < t.mr * t.nv; i++) acc[i] = cg_vf(c, 0);
  multiply_add_ahead(c, &s, m, acc);
  cg_val whole = LLVMBuildAnd(c->b, cg_icmp(c, LLVMIntEQ, cg_shared_arg(&s, U_ROWS), cg_i64(c, t.mr)),
                              cg_icmp(c, LLVMIntEQ, cg_shared_arg(&s, U_COLS), cg_i64(c, t.nr)), "");
  cg_if f;
  cg_if_begin(c, &f, whole);
  emit_whole_tile(c, &s, t, acc);
  cg_if_else(&f);
  emit_partial_tile(c, &s, t, acc);
  cg_if_end(&f);
  cg_shared_end(&s);
  return s.fn;
}

/* Packing: void pack(src, stride, kc, count, dst, apart) writes dst[(j / width) * apart + k * width + j % width] for k <
 * kc, j < count, and zeros up to the next multiple of width. */
enum { P_SRC, P_STRIDE, P_KC, P_COUNT_USED, P_DST, P_APART, P_COUNT };

static bool pack_begin(cg_ctx *c, cg_shared *s, const char *kind, int width) {
  char name[64];
  snprintf(name, sizeof name, "cg.pack.%s%d", kind, width);
  cg_type types[P_COUNT] = {c->ptr, c->i64, c->i64, c->i64, c->ptr, c->i64};
  return cg_shared_begin(c, s, name, P_COUNT, types);
}

/* `count` (NULL: width) floats from src to dst, zeros behind them up to width. */
static void copy_panel_row(cg_ctx *c, int width, cg_val src, cg_val dst, cg_val count) {
  for (int j = 0; j < width; j += c->W) {
    cg_val room = cg_i64(c, width - j), left = count ? cg_min(c, cg_sub(c, count, cg_i64(c, j)), room) : room;
    cg_val x = cg_load_n(c, cg_addr(c, c->f32, src, j), left, cg_vf(c, 0));
    cg_store_n(c, x, cg_addr(c, c->f32, dst, j), room);
  }
}

/* src(k, j) at src + k*stride + j: whole rows are read one after the other, as far as they go, so that the hardware's
 * prefetch and the TLB see one stream; the next rows are asked for by hand, since a stride may leave the page. */
static cg_val pack_rows(cg_ctx *c, int width) {
  enum { AHEAD = 8 };
  cg_shared s;
  if (!pack_begin(c, &s, "rows", width)) return s.fn;
  cg_val used = cg_shared_arg(&s, P_COUNT_USED), apart = cg_shared_arg(&s, P_APART);
  cg_val rest = cg_rem(c, used, cg_i64(c, width)), whole = cg_sub(c, used, rest);
  cg_loop l, panel;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_shared_arg(&s, P_KC), 1, 0, NULL);
  cg_val row = cg_gep(c, c->f32, cg_shared_arg(&s, P_SRC), cg_mul(c, l.i, cg_shared_arg(&s, P_STRIDE)));
  cg_val to = cg_gep(c, c->f32, cg_shared_arg(&s, P_DST), cg_mul(c, l.i, cg_i64(c, width)));
  cg_val next = cg_gep(c, c->f32, row, cg_mul(c, cg_shared_arg(&s, P_STRIDE), cg_i64(c, AHEAD)));
  cg_loop_begin(c, &panel, cg_i64(c, 0), whole, width, 1, &to);
  for (int j = 0; j < width; j += 16) cg_prefetch(c, cg_addr(c, c->f32, cg_gep(c, c->f32, next, panel.i), j));
  copy_panel_row(c, width, cg_gep(c, c->f32, row, panel.i), panel.carry[0], NULL);
  to = cg_gep(c, c->f32, panel.carry[0], apart);
  cg_loop_end(&panel, &to);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGT, rest, cg_i64(c, 0)));
  copy_panel_row(c, width, cg_gep(c, c->f32, row, whole), panel.carry[0], rest);
  cg_if_end(&f);
  cg_loop_end(&l, NULL);
  cg_shared_end(&s);
  return s.fn;
}

/* src(k, j) at src + j*stride + k: blocks of W x W are transposed in registers. dst has room for kc rounded up to W. */
static cg_val pack_cols(cg_ctx *c, int width) {
  cg_shared s;
  if (!pack_begin(c, &s, "cols", width)) return s.fn;
  cg_val used = cg_shared_arg(&s, P_COUNT_USED);
  cg_loop k, j;
  cg_loop_begin(c, &k, cg_i64(c, 0), cg_shared_arg(&s, P_KC), c->W, 0, NULL);
  cg_val k_left = cg_sub(c, cg_shared_arg(&s, P_KC), k.i);
  cg_loop_begin(c, &j, cg_i64(c, 0), cg_i64(c, width), c->W, 0, NULL);
  cg_val rows[64];
  for (int i = 0; i < c->W; i++) {
    cg_val col = cg_add(c, j.i, cg_i64(c, i));
    cg_val live = cg_icmp(c, LLVMIntSLT, col, used);
    cg_val src = cg_gep(c, c->f32, cg_shared_arg(&s, P_SRC), cg_add(c, cg_mul(c, col, cg_shared_arg(&s, P_STRIDE)), k.i));
    rows[i] = cg_load_n(c, src, cg_select(c, live, k_left, cg_i64(c, 0)), cg_vf(c, 0));
  }
  cg_transpose(c, rows, c->W);
  cg_val dst = cg_gep(c, c->f32, cg_shared_arg(&s, P_DST), cg_add(c, cg_mul(c, k.i, cg_i64(c, width)), j.i));
  for (int i = 0; i < c->W; i++) cg_store(c, rows[i], cg_addr(c, c->f32, dst, (int64_t)i * width), 4);
  cg_loop_end(&j, NULL);
  cg_loop_end(&k, NULL);
  cg_shared_end(&s);
  return s.fn;
}

/* The same for an incomplete tile of A, whose width is no multiple of W: element by element, it is one tile of many. */
static cg_val pack_tail(cg_ctx *c, int width) {
  cg_shared s;
  if (!pack_begin(c, &s, "tail", width)) return s.fn;
  cg_val used = cg_shared_arg(&s, P_COUNT_USED);
  cg_loop k;
  cg_loop_begin(c, &k, cg_i64(c, 0), cg_shared_arg(&s, P_KC), 1, 0, NULL);
  for (int j = 0; j < width; j++) {
    cg_val live = cg_icmp(c, LLVMIntSLT, cg_i64(c, j), used);
    cg_val row = cg_select(c, live, cg_mul(c, cg_i64(c, j), cg_shared_arg(&s, P_STRIDE)), cg_i64(c, 0));
    cg_val x = cg_load(c, c->f32, cg_gep(c, c->f32, cg_shared_arg(&s, P_SRC), cg_add(c, row, k.i)), 4);
    cg_val dst = cg_gep(c, c->f32, cg_shared_arg(&s, P_DST), cg_add(c, cg_mul(c, k.i, cg_i64(c, width)), cg_i64(c, j)));
    cg_store(c, cg_select(c, live, x, cg_f32(c, 0)), dst, 4);
  }
  cg_loop_end(&k, NULL);
  cg_shared_end(&s);
  return s.fn;
}

/* What the loops over slabs, strips and panels share. */
typedef struct state {
  cg_f32_chunk at;
  cg_ctx *c;
  const cg_gemm *d;
  shape t;
  cg_val pa, pb;  /* packed A, and the slab's panels */
  cg_val whole_m; /* rows in complete strips */
  cg_val j0, j1;  /* the slab's columns */
} state;

/* Packs what must be packed of A for this chunk: strips of [kc][mr]. */
static void emit_pack_a(state *s) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  cg_val a = cg_gep(c, c->f32, d->a, cg_mul(c, s->at.k0, cg_i64(c, d->a_cs)));
  if (packs_a(d)) {
    cg_val args[] = {a, cg_i64(c, d->a_cs), s->at.kc, s->at.m, s->pa, cg_i64(c, apart(d, s->t.mr))};
    cg_shared_call(c, pack_rows(c, s->t.mr), P_COUNT, args);
    return;
  }
  if (!d->m_count && d->M % s->t.mr == 0) return;
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSLT, s->whole_m, s->at.m));
  cg_shared_call(c, pack_tail(c, s->t.mr), P_COUNT,
                 (cg_val[]){cg_gep(c, c->f32, a, cg_mul(c, s->whole_m, cg_i64(c, d->a_rs))), cg_i64(c, d->a_rs), s->at.kc,
                            cg_sub(c, s->at.m, s->whole_m), s->pa, cg_i64(c, 0)});
  cg_if_end(&f);
}

void cg_f32_source(const cg_f32_chunk *s, cg_val j, cg_val out, cg_val *src, cg_val *src_rs) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  *src = out, *src_rs = cg_i64(c, d->c_rs);
  if (d->accumulate) return;
  cg_val first = cg_icmp(c, LLVMIntEQ, s->k0, cg_i64(c, 0));
  cg_val initial = d->bias ? cg_gep(c, c->f32, d->bias, j) : cg_zeros(c);
  *src = cg_select(c, first, initial, out);
  *src_rs = cg_select(c, first, cg_i64(c, 0), *src_rs);
}

/* The rows of the next strip that the panels ask for, one or (where there are too few) two each: the nth one's. */
static void rows_ahead(const state *s, cg_val a, cg_val nth, cg_val *args) {
  cg_ctx *c = s->c;
  int64_t rs = s->d->a_rs, mr = s->t.mr;
  cg_val row = cg_gep(c, c->f32, a, cg_mul(c, cg_rem(c, nth, cg_i64(c, mr)), cg_i64(c, rs)));
  args[U_AHEAD] = cg_addr(c, c->f32, row, mr * rs);
  args[U_AHEAD2] = s->d->N / s->t.nr < mr ? cg_addr(c, c->f32, row, (mr + mr / 2) * rs) : args[U_AHEAD];
}

/* `rows` rows from i on, by all panels of the slab. */
static void emit_strip(state *s, const micro *m, cg_val a, cg_val i, cg_val rows) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  cg_loop panel;
  cg_loop_begin(c, &panel, s->j0, s->j1, s->t.nr, 0, NULL);
  cg_val j = panel.i, cols = cg_min(c, cg_sub(c, s->j1, j), cg_i64(c, s->t.nr)), src, src_rs;
  cg_val out = cg_gep(c, c->f32, d->out, cg_add(c, cg_mul(c, i, cg_i64(c, d->c_rs)), j));
  cg_val nth = cg_div(c, cg_sub(c, j, s->j0), cg_i64(c, s->t.nr));
  cg_val b = cg_gep(c, c->f32, s->pb, cg_mul(c, nth, cg_i64(c, apart(d, s->t.nr))));
  cg_f32_source(&s->at, j, out, &src, &src_rs);
  cg_val args[U_COUNT] = {s->at.kc, a, b, out, cg_i64(c, d->c_rs), src, src_rs, cg_f32(c, d->alpha), rows, cols, a, a};
  if (m->a_cs == 1) rows_ahead(s, a, nth, args);
  cg_shared_call(c, micro_kernel(c, m), U_COUNT, args);
  cg_loop_end(&panel, NULL);
}

static void emit_strips(state *s) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  int64_t mr = s->t.mr;
  micro packed = {.t = s->t, .a_rs = 1, .a_cs = mr}, in_place = {.t = s->t, .a_rs = d->a_rs, .a_cs = 1};
  cg_loop i;
  if (packs_a(d)) {
    cg_loop_begin(c, &i, cg_i64(c, 0), s->at.m, mr, 0, NULL);
    cg_val a = cg_gep(c, c->f32, s->pa, cg_mul(c, cg_div(c, i.i, cg_i64(c, mr)), cg_i64(c, apart(d, mr))));
    emit_strip(s, &packed, a, i.i, cg_min(c, cg_sub(c, s->at.m, i.i), cg_i64(c, mr)));
    cg_loop_end(&i, NULL);
    return;
  }
  if (d->M >= mr) {
    cg_loop_begin(c, &i, cg_i64(c, 0), s->whole_m, mr, 0, NULL);
    cg_val a = cg_gep(c, c->f32, d->a, cg_add(c, cg_mul(c, i.i, cg_i64(c, d->a_rs)), s->at.k0));
    emit_strip(s, &in_place, a, i.i, cg_i64(c, mr));
    cg_loop_end(&i, NULL);
  }
  if (!d->m_count && d->M % mr == 0) return;
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSLT, s->whole_m, s->at.m));
  emit_strip(s, &packed, s->pa, s->whole_m, cg_sub(c, s->at.m, s->whole_m));
  cg_if_end(&f);
}

/* Packs columns [j0, j1) of B, kc deep from k0 on. */
static void pack_panels(cg_ctx *c, const cg_gemm *d, cg_val k0, cg_val kc, cg_val j0, cg_val j1, cg_val to) {
  shape t = tile_shape(c, d);
  cg_val from = cg_gep(c, c->f32, d->b, cg_mul(c, k0, cg_i64(c, d->b_rs))), step = cg_i64(c, apart(d, t.nr));
  if (d->b_cs == 1) {
    cg_val args[] = {cg_gep(c, c->f32, from, j0), cg_i64(c, d->b_rs), kc, cg_sub(c, j1, j0), to, step};
    cg_shared_call(c, pack_rows(c, t.nr), P_COUNT, args);
    return;
  }
  cg_loop j;
  cg_loop_begin(c, &j, j0, j1, t.nr, 1, &to);
  cg_val cols = cg_min(c, cg_sub(c, j1, j.i), cg_i64(c, t.nr));
  cg_val args[] = {cg_gep(c, c->f32, from, cg_mul(c, j.i, cg_i64(c, d->b_cs))), cg_i64(c, d->b_cs), kc, cols, j.carry[0], step};
  cg_shared_call(c, pack_cols(c, t.nr), P_COUNT, args);
  cg_val next = cg_gep(c, c->f32, j.carry[0], step);
  cg_loop_end(&j, &next);
}

/* Floats of one chunk of all of B in panels. */
static int64_t packed_chunk(const cg_ctx *c, const cg_gemm *d) {
  int64_t nr = tile_shape(c, d).nr;
  return ceil_div(d->packed_cols, nr) * apart(d, nr);
}

uint64_t cg_f32_packed_b_bytes(const cg_ctx *c, const cg_gemm *d) {
  return (uint64_t)(ceil_div(d->K, chunk_of(d)) * packed_chunk(c, d)) * sizeof(float);
}

static cg_val packed_at(cg_ctx *c, const cg_gemm *d, cg_val k0, cg_val j) {
  int64_t nr = tile_shape(c, d).nr;
  cg_val chunk = cg_mul(c, cg_div(c, k0, cg_i64(c, chunk_of(d))), cg_i64(c, packed_chunk(c, d)));
  cg_val panel = cg_mul(c, cg_div(c, j, cg_i64(c, nr)), cg_i64(c, apart(d, nr)));
  return cg_gep(c, c->f32, d->packed_b, cg_add(c, chunk, panel));
}

cg_val cg_f32_packed_panel(cg_ctx *c, const cg_gemm *d, cg_val j) { return packed_at(c, d, cg_i64(c, 0), j); }

void cg_f32_pack_b(cg_ctx *c, const cg_gemm *d, cg_val j0, cg_val j1) {
  cg_loop k;
  cg_loop_begin(c, &k, cg_i64(c, 0), cg_i64(c, d->K), chunk_of(d), 0, NULL);
  cg_val kc = cg_min(c, cg_sub(c, cg_i64(c, d->K), k.i), cg_i64(c, chunk_of(d)));
  pack_panels(c, d, k.i, kc, j0, j1, packed_at(c, d, k.i, j0));
  cg_loop_end(&k, NULL);
}

static uint64_t b_bytes(const cg_gemm *d) { return (uint64_t)(packed_cols(d) / NR_MIN * apart(d, NR_MIN)) * 4; }

uint64_t cg_f32_vector_bytes(const cg_gemm *d) { return (b_bytes(d) + a_bytes(d) + 63) / 64 * 64; }

void cg_f32_by_vectors(const cg_f32_chunk *at) {
  cg_ctx *c = at->c;
  const cg_gemm *d = at->d;
  state s = {.at = *at, .c = c, .d = d, .t = tile_shape(c, d)};
  s.pa = cg_addr(c, c->i8, at->scratch, (int64_t)b_bytes(d));
  s.whole_m = cg_sub(c, at->m, LLVMBuildSRem(c->b, at->m, cg_i64(c, s.t.mr), ""));
  emit_pack_a(&s);
  cg_loop slab;
  cg_loop_begin(c, &slab, cg_i64(c, 0), at->n, SLAB, 0, NULL);
  s.j0 = slab.i;
  s.j1 = cg_min(c, at->n, cg_add(c, slab.i, cg_i64(c, SLAB)));
  s.pb = d->packed_b ? packed_at(c, d, at->k0, s.j0) : at->scratch;
  if (!d->packed_b) pack_panels(c, d, at->k0, at->kc, s.j0, s.j1, s.pb);
  emit_strips(&s);
  cg_loop_end(&slab, NULL);
}

uint64_t cg_gemm_f32(cg_kernel *k, const cg_gemm *d, uint64_t scratch_at) {
  TT_ASSERT((d->a_rs == 1 || d->a_cs == 1) && (d->b_rs == 1 || d->b_cs == 1) && !(d->accumulate && d->bias));
  bool by_shape = k && !d->packed_b && d->way == CG_F32_BY_SHAPE && cg_f32_on_tiles(k->c, d);
  bool tiles = d->way == CG_F32_TILES ? k != NULL : by_shape;
  uint64_t bytes = cg_f32_vector_bytes(d), tile_bytes = cg_f32_tiles_bytes(d);
  if ((!k || tiles) && tile_bytes > bytes) bytes = tile_bytes;
  if (!k) return bytes;
  cg_ctx *c = k->c;
  if (tiles) cg_whole_tiles(k);
  cg_f32_chunk at = {.c = c, .d = d, .scratch = cg_scratch(k, scratch_at, bytes)};
  at.m = d->m_count ? d->m_count : cg_i64(c, d->M);
  at.n = d->n_count ? d->n_count : cg_i64(c, d->N);
  cg_loop chunk;
  int64_t length = tiles ? cg_f32_chunk_length(d->K) : chunk_of(d);
  cg_val K = d->k_count ? d->k_count : cg_i64(c, d->K);
  cg_loop_begin(c, &chunk, cg_i64(c, 0), K, length, 0, NULL);
  at.k0 = chunk.i;
  at.kc = cg_min(c, cg_sub(c, K, at.k0), cg_i64(c, length));
  if (tiles)
    cg_f32_by_tiles(&at);
  else
    cg_f32_by_vectors(&at);
  cg_loop_end(&chunk, NULL);
  return bytes;
}
