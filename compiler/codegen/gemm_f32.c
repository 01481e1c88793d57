/* Float32 matrix products: C[M,N] = alpha op(A)[M,K] op(B)[K,N], register-tiled with FMA.
 *
 * K is cut into chunks, B into slabs of columns. A slab's chunk is packed to panels of [kc][NR] that stay in L2 together
 * (or was, by a launch before: cg_f32_pack_b); then each strip of MR rows of A runs over all its panels. The strip, which is
 * asked for while the one before is multiplied, comes from far away but once, so that A is read in place where its rows are
 * contiguous along k: packing it would cost more than the pages that its rows lie on. Where they are not, it is packed to
 * [kc][MR], as many strips as cache lines hold, just before these are multiplied; and so is the last, incomplete strip, padded
 * with zeros so that one micro kernel serves. With both operands in L2 a tile runs at the peak of multiply-adds: what is lost,
 * memory takes. So whatever comes next is asked for in the course of the tiles before, evenly: tiles of C, strips of A, and
 * where a task packs both operands the rows of which it will. After Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication" (2008), with A and B in each other's place because the shapes here are tall. */
#include "compiler/codegen/gemm_f32.h"
#include <stdio.h>

/* Of all targets. A strip in place may be deeper, and C is touched less often, than where both operands are packed by a task
 * and have to be in L2 side by side. */
enum { KC_MAX = 256, KC_IN_PLACE = 384, SLAB = 384, NR_MIN = 8, NR_MAX = 48, MR_MAX = 12, LINE = 16, GROUP_MAX = 48 };

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
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t chunk_length(int64_t K, int64_t most) { return ceil_div(ceil_div(K, ceil_div(K, most)), 16) * 16; }
int64_t cg_f32_chunk_length(int64_t K) { return chunk_length(K, KC_MAX); }

static bool packs_a(const cg_gemm *d) { return d->a_cs != 1; }
static int64_t chunk_of(const cg_gemm *d) { return chunk_length(d->K, packs_a(d) ? KC_MAX : KC_IN_PLACE); }

/* Columns of B in panels at a time. */
static int64_t packed_cols(const cg_gemm *d) {
  int64_t cols = ceil_div(d->N, 32) * 32; /* of which any tile's width is a divisor, or else of N */
  bool by_launch = d->packed_b || (d->packed_cols && d->way == CG_F32_VECTORS); /* also where there is no pointer yet */
  return by_launch ? 0 : cols < SLAB ? cols : SLAB;
}

/* Floats from one packed strip or panel of width n to the next: a line more than it holds, so that they do not all start in
 * the same cache set. */
static int64_t apart(const cg_gemm *d, int64_t n) { return chunk_of(d) * n + 16; }

static int64_t tile_lines(shape t) { return t.mr * ceil_div(t.nr, LINE); } /* of C */

/* A is packed by groups of as many strips as whole cache lines hold. */
static int group_of(shape t) { return t.mr == 8 ? 2 : t.mr == 12 ? 4 : 8; }

/* Room for the rows of A that are packed: a group of strips, or just the incomplete last one; and an overhanging vector. */
static uint64_t a_bytes(const cg_gemm *d) {
  int64_t rows = packs_a(d) ? GROUP_MAX : MR_MAX;
  return (uint64_t)(ceil_div(rows, 6) * apart(d, 6) + NR_MAX) * 4;
}

/* The innermost loop: out[m,n] = src[m,n] + alpha * sum over k < kc of a(m,k) b(k,n), for m < rows <= mr, n < cols <= nr.
 * src is C itself, the bias with row stride 0, or zeros. Every LINE steps it asks for lines that are needed soon: of next, the
 * tile of C that comes next, and at ahead and ahead2, each with a stride from line to line (of rows of A, in place, the
 * next). */
enum {
  U_KC, U_A, U_B, U_OUT, U_OUT_RS, U_SRC, U_SRC_RS, U_ALPHA, U_ROWS, U_COLS, U_NEXT, U_AHEAD, U_AHEAD_STEP, U_AHEAD2,
  U_AHEAD2_STEP, U_COUNT
};

/* a(m,k) is at a + m*a_rs + k*a_cs, b(k,n) at b + k*nr + n; strides are part of the function, so that addresses are constants
 * from one pointer; and so is how many lines it asks for at a time. */
typedef struct micro {
  shape t;
  int64_t a_rs, a_cs;
  int next, ahead, ahead2;
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

/* `count` of the lines at p, `step` floats apart, in turn `nth` of all: if they are far ahead, into L2. */
static void ask_ahead(cg_ctx *c, cg_val p, cg_val step, cg_val nth, int count, bool far) {
  for (int i = 0; i < count; i++) {
    cg_val line = cg_add(c, cg_mul(c, nth, cg_i64(c, count)), cg_i64(c, i));
    cg_val at = cg_gep(c, c->f32, p, cg_mul(c, line, step));
    if (far)
      cg_prefetch_l2(c, at);
    else
      cg_prefetch(c, at);
  }
}

/* Rows of C lie far apart, on pages of their own, and come from memory to be written. A small tile's lines are asked for before
 * its sums begin, to be there when they end. */
static void ask_for_tile(cg_ctx *c, const cg_shared *s, shape t) {
  cg_val out = cg_shared_arg(s, U_OUT);
  for (int i = 0; i < t.mr; i++) {
    for (int v = 0; v < t.nr; v += LINE) cg_prefetch_write(c, cg_addr(c, c->f32, out, v));
    out = cg_gep(c, c->f32, out, cg_shared_arg(s, U_OUT_RS));
  }
}

/* Those of a large one, at once, would hold up B's, which come from L2 all the time. */
static void ask_for_next_tile(cg_ctx *c, const cg_shared *s, const micro *m, cg_val nth) {
  cg_if f;
  cg_val first = cg_mul(c, nth, cg_i64(c, m->next)), mr = cg_i64(c, m->t.mr);
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSLT, first, cg_i64(c, tile_lines(m->t))));
  for (int i = 0; i < m->next; i++) {
    cg_val line = cg_add(c, first, cg_i64(c, i));
    cg_val row = cg_gep(c, c->f32, cg_shared_arg(s, U_NEXT), cg_mul(c, cg_rem(c, line, mr), cg_shared_arg(s, U_OUT_RS)));
    cg_prefetch_write(c, cg_gep(c, c->f32, row, cg_mul(c, cg_div(c, line, mr), cg_i64(c, LINE))));
  }
  cg_if_end(&f);
}

/* The same for all k, asking ahead. */
static void multiply_add_ahead(cg_ctx *c, const cg_shared *s, const micro *m, cg_val *acc) {
  cg_loop l;
  cg_val next[NR_MAX * MR_MAX], kc = cg_shared_arg(s, U_KC);
  int n = m->t.mr * m->t.nv;
  cg_loop_begin(c, &l, cg_i64(c, 0), kc, LINE, n, acc);
  cg_val nth = cg_div(c, l.i, cg_i64(c, LINE));
  if (m->next) ask_for_next_tile(c, s, m, nth);
  bool far = m->a_cs != 1;
  cg_val line = cg_i64(c, LINE);
  ask_ahead(c, cg_shared_arg(s, U_AHEAD), far ? cg_shared_arg(s, U_AHEAD_STEP) : line, nth, m->ahead, far);
  ask_ahead(c, cg_shared_arg(s, U_AHEAD2), far ? cg_shared_arg(s, U_AHEAD2_STEP) : line, nth, m->ahead2, far);
  for (int i = 0; i < n; i++) next[i] = l.carry[i];
  multiply_add(c, s, m, l.i, cg_min(c, kc, cg_add(c, l.i, cg_i64(c, LINE))), next);
  cg_loop_end(&l, next);
  for (int i = 0; i < n; i++) acc[i] = l.carry[i];
}

static cg_val micro_kernel(cg_ctx *c, const micro *m) {
  shape t = m->t;
  char name[96];
  snprintf(name, sizeof name, "cg.sgemm.a%lld_%lld.b%d.n%d_%d_%d", (long long)m->a_rs, (long long)m->a_cs, t.nr, m->next,
           m->ahead, m->ahead2);
  cg_type types[U_COUNT] = {c->i64, c->ptr, c->ptr, c->ptr, c->i64, c->ptr, c->i64, c->f32,
                            c->i64, c->i64, c->ptr, c->ptr, c->i64, c->ptr, c->i64};
  cg_shared s;
  if (!cg_shared_begin(c, &s, name, U_COUNT, types)) return s.fn;
  if (!m->next) ask_for_tile(c, &s, t);
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

/* Row i of A, at the chunk's beginning. */
static cg_val a_row(const state *s, cg_val i) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  return cg_gep(c, c->f32, d->a, cg_add(c, cg_mul(c, i, cg_i64(c, d->a_rs)), cg_mul(c, s->at.k0, cg_i64(c, d->a_cs))));
}

/* Packs the group of strips at row i. */
static void emit_pack_group(state *s, cg_val i) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  int group = group_of(s->t);
  cg_val count = cg_min(c, cg_sub(c, s->at.m, i), cg_i64(c, (int64_t)group * s->t.mr));
  cg_val args[CG_PACK_COUNT] = {a_row(s, i), cg_i64(c, d->a_cs), s->at.kc, count, s->pa, cg_i64(c, apart(d, s->t.mr))};
  cg_if whole;
  cg_if_begin(c, &whole, cg_icmp(c, LLVMIntEQ, count, cg_i64(c, (int64_t)group * s->t.mr)));
  cg_shared_call(c, cg_f32_pack_group(c, s->t.mr, group), CG_PACK_COUNT, args);
  cg_if_else(&whole);
  cg_shared_call(c, cg_f32_pack_rows(c, s->t.mr), CG_PACK_COUNT, args);
  cg_if_end(&whole);
}

/* Packs the incomplete last strip of an A that is read in place. */
static void emit_pack_tail(state *s) {
  cg_ctx *c = s->c;
  cg_val args[CG_PACK_COUNT] = {a_row(s, s->whole_m), cg_i64(c, s->d->a_rs), s->at.kc, cg_sub(c, s->at.m, s->whole_m),
                                s->pa, cg_i64(c, 0)};
  cg_shared_call(c, cg_f32_pack_tail(c, s->t.mr), CG_PACK_COUNT, args);
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

/* A strip: rows [i, i + rows), of the group at row g where A is packed. */
typedef struct strip {
  cg_val a, i, rows, g;
} strip;

/* Panels of a slab, at most. */
static int64_t panels_of(const state *s) { return ceil_div(least(s->d->N, SLAB), s->t.nr); }

/* Lines that a micro kernel asks for every LINE steps, where `calls` of them are to ask for `width` floats a step. */
static int lines_at_once(int64_t width, int64_t calls) {
  enum { MOST = 4 };
  int64_t n = ceil_div(LINE * ceil_div(width, LINE), calls);
  return (int)least(n, MOST);
}

static micro micro_of(const state *s, bool packed) {
  enum { AT_ONCE = 12 }; /* of the 10 to 16 reads that a core has on the way */
  const cg_gemm *d = s->d;
  shape t = s->t;
  micro m = {.t = t, .a_rs = packed ? 1 : d->a_rs, .a_cs = packed ? t.mr : 1};
  if (tile_lines(t) > AT_ONCE) m.next = (int)ceil_div(tile_lines(t), chunk_of(d) / LINE);
  if (packed && !packs_a(d)) return m;
  m.ahead = packed ? lines_at_once((int64_t)group_of(t) * t.mr, group_of(t) * panels_of(s)) : 1;
  m.ahead2 = packed ? lines_at_once(t.nr, ceil_div(d->M, t.mr)) : 1;
  return m;
}

/* The rows of the next strip, in place, that the panels ask for, one or (where there are too few) two each: the nth one's. */
static void rows_ahead(const state *s, cg_val a, cg_val nth, cg_val *args) {
  cg_ctx *c = s->c;
  int64_t rs = s->d->a_rs, mr = s->t.mr;
  cg_val row = cg_gep(c, c->f32, a, cg_mul(c, cg_rem(c, nth, cg_i64(c, mr)), cg_i64(c, rs)));
  args[U_AHEAD] = cg_addr(c, c->f32, row, mr * rs);
  args[U_AHEAD2] = s->d->N / s->t.nr < mr ? cg_addr(c, c->f32, row, (mr + mr / 2) * rs) : args[U_AHEAD];
}

/* Of a block at p, a chunk of rows `stride` apart and `width` floats wide, the lines that the nth of its calls asks for. */
static cg_val lines_ahead(const state *s, cg_val p, int64_t stride, int64_t width, cg_val nth, int at_once) {
  cg_ctx *c = s->c;
  cg_val across = cg_i64(c, ceil_div(width, LINE)), chunk = cg_i64(c, chunk_of(s->d));
  cg_val row = cg_mul(c, cg_div(c, nth, across), cg_i64(c, at_once * (chunk_of(s->d) / LINE)));
  cg_val at = cg_gep(c, c->f32, p, cg_mul(c, cg_rem(c, row, chunk), cg_i64(c, stride)));
  return cg_gep(c, c->f32, at, cg_mul(c, cg_rem(c, nth, across), cg_i64(c, LINE)));
}

/* Where A is packed: the next group's rows of A, and the panel's columns of B in the next chunk, to be in L2 when they are
 * packed. */
static void packing_ahead(const state *s, const micro *m, const strip *at, cg_val j, cg_val nth, cg_val *args) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  int64_t width = (int64_t)group_of(s->t) * s->t.mr;
  cg_val ends = cg_icmp(c, LLVMIntSLE, s->at.after, cg_i64(c, 0)), zero = cg_i64(c, 0), mr = cg_i64(c, s->t.mr);
  cg_val group = cg_add(c, at->g, cg_i64(c, width)), last = cg_icmp(c, LLVMIntSGE, group, s->at.m);
  cg_val a = a_row(s, cg_select(c, last, zero, group)), b = cg_add(c, j, cg_mul(c, s->at.k0, cg_i64(c, d->b_rs)));
  a = cg_gep(c, c->f32, a, cg_select(c, last, cg_mul(c, s->at.kc, cg_i64(c, d->a_cs)), zero));
  b = cg_gep(c, c->f32, d->b, cg_add(c, b, cg_mul(c, s->at.kc, cg_i64(c, d->b_rs))));
  cg_val nth_a = cg_add(c, nth, cg_mul(c, cg_div(c, cg_sub(c, at->i, at->g), mr), cg_i64(c, panels_of(s))));
  cg_val no_a = LLVMBuildAnd(c->b, ends, last, "");
  bool rows = d->b_cs == 1;
  args[U_AHEAD] = cg_select(c, no_a, at->a, lines_ahead(s, a, d->a_cs, width, nth_a, m->ahead));
  args[U_AHEAD_STEP] = cg_select(c, no_a, zero, cg_i64(c, d->a_cs));
  b = lines_ahead(s, b, d->b_rs, s->t.nr, cg_div(c, at->i, mr), m->ahead2);
  args[U_AHEAD2] = rows ? cg_select(c, ends, at->a, b) : at->a;
  args[U_AHEAD2_STEP] = rows ? cg_select(c, ends, zero, cg_i64(c, d->b_rs)) : zero;
}

/* The tile of C after that at (i, j): where there is none, the same. */
static cg_val next_tile(const state *s, cg_val i, cg_val j) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  cg_val right = cg_add(c, j, cg_i64(c, s->t.nr)), below = cg_add(c, i, cg_i64(c, s->t.mr));
  cg_val ends = cg_icmp(c, LLVMIntSGE, right, s->j1);
  i = cg_select(c, LLVMBuildAnd(c->b, ends, cg_icmp(c, LLVMIntSLT, below, s->at.m), ""), below, i);
  return cg_gep(c, c->f32, d->out, cg_add(c, cg_mul(c, i, cg_i64(c, d->c_rs)), cg_select(c, ends, s->j0, right)));
}

/* A strip by all panels of the slab. */
static void emit_strip(state *s, const micro *m, const strip *at) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  cg_loop panel;
  cg_loop_begin(c, &panel, s->j0, s->j1, s->t.nr, 0, NULL);
  cg_val j = panel.i, cols = cg_min(c, cg_sub(c, s->j1, j), cg_i64(c, s->t.nr)), src, src_rs, zero = cg_i64(c, 0);
  cg_val out = cg_gep(c, c->f32, d->out, cg_add(c, cg_mul(c, at->i, cg_i64(c, d->c_rs)), j));
  cg_val nth = cg_div(c, cg_sub(c, j, s->j0), cg_i64(c, s->t.nr));
  cg_val b = cg_gep(c, c->f32, s->pb, cg_mul(c, nth, cg_i64(c, apart(d, s->t.nr))));
  cg_f32_source(&s->at, j, out, &src, &src_rs);
  cg_val args[U_COUNT] = {s->at.kc, at->a, b, out, cg_i64(c, d->c_rs), src, src_rs, cg_f32(c, d->alpha), at->rows, cols,
                          next_tile(s, at->i, j), at->a, zero, at->a, zero};
  if (m->a_cs == 1)
    rows_ahead(s, at->a, nth, args);
  else if (packs_a(d))
    packing_ahead(s, m, at, j, nth, args);
  cg_shared_call(c, micro_kernel(c, m), U_COUNT, args);
  cg_loop_end(&panel, NULL);
}

/* All strips of an A that is packed, a group at a time: that is soon enough where its rows are in L2, and leaves it to B. */
static void emit_groups(state *s) {
  cg_ctx *c = s->c;
  int64_t mr = s->t.mr;
  micro m = micro_of(s, true);
  cg_loop g, i;
  cg_loop_begin(c, &g, cg_i64(c, 0), s->at.m, group_of(s->t) * mr, 0, NULL);
  emit_pack_group(s, g.i);
  cg_val end = cg_min(c, s->at.m, cg_add(c, g.i, cg_i64(c, group_of(s->t) * mr)));
  cg_loop_begin(c, &i, g.i, end, mr, 0, NULL);
  cg_val nth = cg_div(c, cg_sub(c, i.i, g.i), cg_i64(c, mr));
  strip at = {.i = i.i, .g = g.i, .rows = cg_min(c, cg_sub(c, s->at.m, i.i), cg_i64(c, mr))};
  at.a = cg_gep(c, c->f32, s->pa, cg_mul(c, nth, cg_i64(c, apart(s->d, mr))));
  emit_strip(s, &m, &at);
  cg_loop_end(&i, NULL);
  cg_loop_end(&g, NULL);
}

/* All strips of an A that is read in place, but for an incomplete last one. */
static void emit_strips(state *s) {
  cg_ctx *c = s->c;
  const cg_gemm *d = s->d;
  int64_t mr = s->t.mr;
  micro in_place = micro_of(s, false), packed = micro_of(s, true);
  if (d->M >= mr) {
    cg_loop i;
    cg_loop_begin(c, &i, cg_i64(c, 0), s->whole_m, mr, 0, NULL);
    emit_strip(s, &in_place, &(strip){.a = a_row(s, i.i), .i = i.i, .rows = cg_i64(c, mr)});
    cg_loop_end(&i, NULL);
  }
  if (!d->m_count && d->M % mr == 0) return;
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSLT, s->whole_m, s->at.m));
  emit_strip(s, &packed, &(strip){.a = s->pa, .i = s->whole_m, .rows = cg_sub(c, s->at.m, s->whole_m)});
  cg_if_end(&f);
}

/* Packs columns [j0, j1) of B, kc deep from k0 on. */
static void pack_panels(cg_ctx *c, const cg_gemm *d, cg_val k0, cg_val kc, cg_val j0, cg_val j1, cg_val to) {
  shape t = tile_shape(c, d);
  cg_val from = cg_gep(c, c->f32, d->b, cg_mul(c, k0, cg_i64(c, d->b_rs))), step = cg_i64(c, apart(d, t.nr));
  if (d->b_cs == 1) {
    cg_val args[] = {cg_gep(c, c->f32, from, j0), cg_i64(c, d->b_rs), kc, cg_sub(c, j1, j0), to, step};
    cg_shared_call(c, cg_f32_pack_rows(c, t.nr), CG_PACK_COUNT, args);
    return;
  }
  cg_loop j;
  cg_loop_begin(c, &j, j0, j1, t.nr, 1, &to);
  cg_val cols = cg_min(c, cg_sub(c, j1, j.i), cg_i64(c, t.nr));
  cg_val args[] = {cg_gep(c, c->f32, from, cg_mul(c, j.i, cg_i64(c, d->b_cs))), cg_i64(c, d->b_cs), kc, cols, j.carry[0], step};
  cg_shared_call(c, cg_f32_pack_cols(c, t.nr), CG_PACK_COUNT, args);
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
  if (!packs_a(d) && (d->m_count || d->M % s.t.mr != 0)) {
    cg_if f;
    cg_if_begin(c, &f, cg_icmp(c, LLVMIntSLT, s.whole_m, at->m));
    emit_pack_tail(&s);
    cg_if_end(&f);
  }
  cg_loop slab;
  cg_loop_begin(c, &slab, cg_i64(c, 0), at->n, SLAB, 0, NULL);
  s.j0 = slab.i;
  s.j1 = cg_min(c, at->n, cg_add(c, slab.i, cg_i64(c, SLAB)));
  s.pb = d->packed_b ? packed_at(c, d, at->k0, s.j0) : at->scratch;
  if (!d->packed_b) pack_panels(c, d, at->k0, at->kc, s.j0, s.j1, s.pb);
  if (packs_a(d))
    emit_groups(&s);
  else
    emit_strips(&s);
  cg_loop_end(&slab, NULL);
}

uint64_t cg_gemm_f32(cg_kernel *k, const cg_gemm *d, uint64_t scratch_at) {
  TT_ASSERT((d->a_rs == 1 || d->a_cs == 1) && (d->b_rs == 1 || d->b_cs == 1) && !(d->accumulate && d->bias));
  bool by_shape = k && !d->packed_b && d->way == CG_F32_BY_SHAPE && cg_f32_on_tiles(k->c, d);
  bool tiles = d->way == CG_F32_TILES ? k != NULL : by_shape;
  uint64_t bytes = cg_f32_vector_bytes(d), tile_bytes = cg_f32_tiles_bytes(d);
  bool maybe_tiles = tiles || (!k && d->way != CG_F32_VECTORS);
  if (maybe_tiles && tile_bytes > bytes) bytes = tile_bytes;
  if (!k) return bytes;
  TT_ASSERT(!d->packed_cols || d->packed_b || d->way == CG_F32_VECTORS);
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
  at.after = cg_sub(c, cg_sub(c, K, at.k0), at.kc);
  if (tiles)
    cg_f32_by_tiles(&at);
  else
    cg_f32_by_vectors(&at);
  cg_loop_end(&chunk, NULL);
  return bytes;
}
