/* What attention in strips is made of; see attention.h. Register tiles are chosen so that a tile's loads are few: vectors of
 * the operand in rows times broadcast elements of the other, 24 sums where there are 32 registers. Rows are cut into tiles
 * of two neighbouring sizes, each its own function, so that no row and (but for the lanes of a strip's last vector) no
 * column is padded: 197 rows are 22 tiles of 8 and 3 of 7. */
#include "compiler/codegen/attention.h"
#include <stdio.h>
#include "compiler/codegen/gemm.h"

enum { ACC_MAX = 24, VECTORS_MAX = 4 };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void cg_run_of_pieces(cg_ctx *c, int64_t first, int64_t n, int64_t size, cg_piece_fn *body, void *u) {
  if (n == 1) body(u, cg_i64(c, first), size);
  if (n <= 1) return;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, first), cg_i64(c, first + n * size), size, 0, NULL);
  body(u, l.i, size);
  cg_loop_end(&l, NULL);
}

void cg_each_piece(cg_ctx *c, int64_t total, int64_t most, cg_piece_fn *body, void *u) {
  int64_t n = ceil_div(total, most), size = total / n, greater = total % n;
  cg_run_of_pieces(c, 0, greater, size + 1, body, u);
  cg_run_of_pieces(c, greater * (size + 1), n - greater, size, body, u);
}

static bool many_registers(const cg_ctx *c) { return c->target->vector_regs >= 32; }

int cg_strip_vectors(const cg_ctx *c) { return many_registers(c) ? 3 : 2; }

/* Rows of a tile so many vectors wide. */
static int tile_rows(const cg_ctx *c, int vectors) { return (many_registers(c) ? ACC_MAX : ACC_MAX / 2) / vectors; }

/* Transposing: void turn(from, row, count, panel, scale) for W columns of the panel. */
enum { T_FROM, T_ROW, T_COUNT_USED, T_PANEL, T_SCALE, T_COUNT };

static cg_val turn_function(cg_ctx *c, int64_t d, int64_t width) {
  char name[64];
  snprintf(name, sizeof name, "cg.attn.turn%lld.%lld", (long long)d, (long long)width);
  cg_type types[T_COUNT] = {c->ptr, c->i64, c->i64, c->ptr, c->f32};
  cg_shared s;
  if (!cg_shared_begin(c, &s, name, T_COUNT, types)) return s.fn;
  cg_val last = cg_sub(c, cg_shared_arg(&s, T_COUNT_USED), cg_i64(c, 1)), scale = cg_splat(c, cg_shared_arg(&s, T_SCALE), c->W);
  cg_loop k;
  cg_loop_begin(c, &k, cg_i64(c, 0), cg_i64(c, d), c->W, 0, NULL);
  cg_val rows[64];
  for (int i = 0; i < c->W; i++) {
    cg_val at = cg_mul(c, cg_min(c, cg_i64(c, i), last), cg_shared_arg(&s, T_ROW));
    cg_val from = cg_gep(c, c->f32, cg_shared_arg(&s, T_FROM), cg_add(c, at, k.i));
    rows[i] = cg_mul(c, scale, cg_load(c, c->vf, from, 4));
  }
  cg_transpose(c, rows, c->W);
  cg_val to = cg_gep(c, c->f32, cg_shared_arg(&s, T_PANEL), cg_mul(c, k.i, cg_i64(c, width)));
  for (int i = 0; i < c->W; i++) cg_store(c, rows[i], cg_addr(c, c->f32, to, i * width), 4);
  cg_loop_end(&k, NULL);
  cg_shared_end(&s);
  return s.fn;
}

void cg_strip_turn_rows(cg_ctx *c, const cg_strip_turn *t) {
  int64_t width = t->vectors * c->W;
  cg_val fn = turn_function(c, t->d, width);
  for (int v = 0; v < t->vectors; v++) {
    cg_val from = cg_addr(c, c->f32, t->from, v * c->W * t->row), left = cg_sub(c, t->count, cg_i64(c, v * c->W));
    cg_shared_call(c, fn, T_COUNT,
                   (cg_val[]){from, cg_i64(c, t->row), left, cg_addr(c, c->f32, t->panel, v * c->W), cg_f32(c, t->scale)});
  }
}

/* A register tile: sums[i][v] += a(i, k) b[k][v] for begin <= k < end. */
typedef struct tile {
  int rows, vectors;
  int64_t a_rs, a_cs, b_row;
} tile;

/* Step k + ahead; k is where the loop is, so that its address is made once for all its steps. */
static void tile_step(cg_ctx *c, const tile *t, cg_val a, cg_val b, cg_val k, int ahead, cg_val *sums) {
  cg_val ak = cg_addr(c, c->f32, cg_gep(c, c->f32, a, cg_mul(c, k, cg_i64(c, t->a_cs))), ahead * t->a_cs);
  cg_val bk = cg_addr(c, c->f32, cg_gep(c, c->f32, b, cg_mul(c, k, cg_i64(c, t->b_row))), ahead * t->b_row), bv[VECTORS_MAX];
  for (int v = 0; v < t->vectors; v++) bv[v] = cg_load(c, c->vf, cg_addr(c, c->f32, bk, v * c->W), 4);
  for (int i = 0; i < t->rows; i++) {
    cg_val av = cg_splat(c, cg_load(c, c->f32, cg_addr(c, c->f32, ak, i * t->a_rs), 4), c->W);
    for (int v = 0; v < t->vectors; v++) sums[i * t->vectors + v] = cg_fma(c, av, bv[v], sums[i * t->vectors + v]);
  }
}

static void tile_loop(cg_ctx *c, const tile *t, cg_val a, cg_val b, cg_val begin, cg_val end, int steps, cg_val *sums) {
  int n = t->rows * t->vectors;
  cg_val next[ACC_MAX];
  cg_loop l;
  cg_loop_begin(c, &l, begin, end, steps, n, sums);
  for (int i = 0; i < n; i++) next[i] = l.carry[i];
  for (int j = 0; j < steps; j++) tile_step(c, t, a, b, l.i, j, next);
  cg_loop_end(&l, next);
  for (int i = 0; i < n; i++) sums[i] = l.carry[i];
}

static void tile_sums(cg_ctx *c, const tile *t, cg_val a, cg_val b, cg_val begin, cg_val end, cg_val *sums) {
  enum { STEPS = 4 }; /* a turn: the loop's own instructions cost where another thread shares the core */
  cg_val whole = cg_sub(c, end, cg_rem(c, cg_sub(c, end, begin), cg_i64(c, STEPS)));
  tile_loop(c, t, a, b, begin, whole, STEPS, sums);
  tile_loop(c, t, a, b, whole, end, 1, sums);
}

enum { S_A, S_PANEL, S_COLUMN, S_OUT, S_OTHER, S_AHEAD, S_COUNT = S_AHEAD + CG_AHEAD };

static int ahead_count(const cg_scores *s) {
  int n = 0;
  while (n < CG_AHEAD && s->ahead[n].p) n++;
  return n;
}

/* The sums of a tile, and a few lines asked for after every few steps: as fast as memory answers, so that they do not keep
 * those waiting that come from the second-level cache. */
static void score_sums(cg_ctx *c, const cg_shared *f, const cg_scores *s, const tile *t, cg_val *sums) {
  cg_val a = cg_shared_arg(f, S_A), panel = cg_shared_arg(f, S_PANEL), d = cg_i64(c, s->d), rows = cg_i64(c, t->rows);
  if (ahead_count(s) == 0) {
    tile_sums(c, t, a, panel, cg_i64(c, 0), d, sums);
    return;
  }
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), rows, 1, t->rows * t->vectors, sums);
  cg_val end = cg_div(c, cg_mul(c, cg_add(c, l.i, cg_i64(c, 1)), d), rows);
  for (int n = 0; n < ahead_count(s); n++) {
    cg_val row = cg_gep(c, c->f32, cg_shared_arg(f, S_AHEAD + n), cg_mul(c, l.i, cg_i64(c, s->ahead[n].row)));
    for (int64_t j = 0; j < s->ahead_lines; j++) cg_prefetch_l2(c, cg_addr(c, c->f32, row, j * 16));
  }
  for (int i = 0; i < t->rows * t->vectors; i++) sums[i] = l.carry[i];
  tile_sums(c, t, a, panel, cg_div(c, cg_mul(c, l.i, d), rows), end, sums);
  cg_loop_end(&l, sums);
  for (int i = 0; i < t->rows * t->vectors; i++) sums[i] = l.carry[i];
}

/* Column v of a tile of scores leaves the registers. */
static void store_scores(cg_ctx *c, const cg_shared *f, const cg_scores *s, const tile *t, int v, const cg_val *sums) {
  cg_val at = cg_addr(c, c->f32, cg_shared_arg(f, S_COLUMN), v * c->W), column = cg_load(c, c->vf, at, 4);
  for (int i = 0; i < t->rows; i++) {
    cg_val x = sums[i * t->vectors + v];
    int64_t to = i * s->out_row + v * c->W;
    if (s->kind == CG_SCORES_POWER) x = cg_exp2(c, cg_sub(c, x, column));
    if (s->kind == CG_SCORES_MAX) column = cg_max(c, column, x);
    if (s->kind == CG_SCORES_DOT)
      column = cg_fma(c, x, cg_load(c, c->vf, cg_addr(c, c->f32, cg_shared_arg(f, S_OTHER), to), 4), column);
    cg_store(c, x, cg_addr(c, c->f32, cg_shared_arg(f, S_OUT), to), 4);
  }
  if (s->kind != CG_SCORES_POWER) cg_store(c, column, at, 4);
}

static cg_val scores_function(cg_ctx *c, const cg_scores *s, int rows) {
  char name[128];
  int n = snprintf(name, sizeof name, "cg.attn.scores%d.%dx%d.%lld.a%lld.o%lld.p%lld", (int)s->kind, rows, s->vectors,
                   (long long)s->d, (long long)s->a_row, (long long)s->out_row, (long long)s->ahead_lines);
  for (int i = 0; i < ahead_count(s); i++)
    n += snprintf(name + n, sizeof name - (size_t)n, "_%lld", (long long)s->ahead[i].row);
  cg_type types[S_COUNT];
  for (int i = 0; i < S_COUNT; i++) types[i] = c->ptr;
  cg_shared f;
  if (!cg_shared_begin(c, &f, name, S_COUNT, types)) return f.fn;
  tile t = {.rows = rows, .vectors = s->vectors, .a_rs = s->a_row, .a_cs = 1, .b_row = s->vectors * c->W};
  cg_val sums[ACC_MAX];
  for (int v = 0; v < t.vectors; v++) {
    cg_val rest = cg_addr(c, c->f32, cg_shared_arg(&f, S_COLUMN), (t.vectors + v) * c->W);
    cg_val start = s->kind == CG_SCORES_POWER ? cg_neg(c, cg_load(c, c->vf, rest, 4)) : cg_vf(c, 0);
    for (int i = 0; i < rows; i++) sums[i * t.vectors + v] = start;
  }
  score_sums(c, &f, s, &t, sums);
  for (int v = 0; v < t.vectors; v++) store_scores(c, &f, s, &t, v, sums);
  cg_shared_end(&f);
  return f.fn;
}

typedef struct scores_walk {
  cg_ctx *c;
  const cg_scores *s;
} scores_walk;

static void scores_tile(void *u, cg_val first, int64_t rows) {
  cg_ctx *c = ((scores_walk *)u)->c;
  const cg_scores *s = ((scores_walk *)u)->s;
  cg_val fn = scores_function(c, s, (int)rows), at = cg_mul(c, first, cg_i64(c, s->out_row));
  cg_val args[S_COUNT] = {cg_gep(c, c->f32, s->a, cg_mul(c, first, cg_i64(c, s->a_row))), s->panel, s->column,
                          cg_gep(c, c->f32, s->out, at)};
  args[S_OTHER] = s->other ? cg_gep(c, c->f32, s->other, at) : LLVMConstNull(c->ptr);
  for (int i = 0; i < CG_AHEAD; i++) {
    bool is = i < ahead_count(s);
    args[S_AHEAD + i] =
        is ? cg_gep(c, c->f32, s->ahead[i].p, cg_mul(c, first, cg_i64(c, s->ahead[i].row))) : LLVMConstNull(c->ptr);
  }
  cg_shared_call(c, fn, S_COUNT, args);
}

void cg_strip_scores(cg_ctx *c, const cg_scores *s) {
  scores_walk w = {c, s};
  TT_ASSERT(s->vectors <= cg_strip_vectors(c));
  cg_each_piece(c, s->N, tile_rows(c, s->vectors), scores_tile, &w);
}

/* Columns of a mix, in vectors: panels as wide as a tile, as equal as can be. */
static int panel_count(const cg_ctx *c, int64_t d) { return (int)ceil_div(d / c->W, many_registers(c) ? VECTORS_MAX : 2); }
static int panel_begin(const cg_ctx *c, int64_t d, int p) {
  int n = panel_count(c, d), vectors = (int)(d / c->W);
  return vectors / n * p + (p < vectors % n ? p : vectors % n);
}
static int panel_vectors(const cg_ctx *c, int64_t d, int p) { return panel_begin(c, d, p + 1) - panel_begin(c, d, p); }

bool cg_mix_in_place(const cg_ctx *c, int64_t row, int64_t d) {
  int64_t apart = row & -row; /* the largest power of two in it: rows begin at all multiples of that many floats */
  return panel_count(c, d) == 1 && apart % 16 == 0 && apart <= d;
}

void cg_mix_pack(cg_ctx *c, cg_val from, int64_t row, int64_t N, int64_t d, cg_val to) {
  enum { AHEAD = 8 }; /* rows lie apart, so that no prefetcher of the hardware's finds the next one in time */
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, N), 1, 0, NULL);
  cg_val at = cg_gep(c, c->f32, from, cg_mul(c, l.i, cg_i64(c, row)));
  for (int64_t j = 0; j < d; j += 16) cg_prefetch(c, cg_addr(c, c->f32, at, AHEAD * row + j));
  for (int p = 0; p < panel_count(c, d); p++) {
    int64_t begin = panel_begin(c, d, p) * c->W, width = panel_vectors(c, d, p) * c->W;
    cg_val out = cg_addr(c, c->f32, cg_gep(c, c->f32, to, cg_mul(c, l.i, cg_i64(c, width))), begin * N);
    for (int64_t j = 0; j < width; j += c->W)
      cg_store(c, cg_load(c, c->vf, cg_addr(c, c->f32, at, begin + j), 4), cg_addr(c, c->f32, out, j), 4);
  }
  cg_loop_end(&l, NULL);
}

enum { M_A, M_B, M_K, M_OUT, M_SOURCE, M_SOURCE_ROW, M_FACTOR, M_COUNT };

static void store_mix(cg_ctx *c, const cg_shared *f, const cg_mix *m, const tile *t, const cg_val *sums) {
  cg_val source = cg_shared_arg(f, M_SOURCE);
  for (int i = 0; i < t->rows; i++) {
    cg_val factor = NULL;
    if (m->factor) factor = cg_splat(c, cg_load(c, c->f32, cg_addr(c, c->f32, cg_shared_arg(f, M_FACTOR), i), 4), c->W);
    for (int v = 0; v < t->vectors; v++) {
      cg_val base = cg_load(c, c->vf, cg_addr(c, c->f32, source, v * c->W), 4), x = sums[i * t->vectors + v];
      x = factor ? cg_fma(c, x, factor, base) : cg_add(c, x, base);
      cg_val to = cg_addr(c, c->f32, cg_shared_arg(f, M_OUT), i * m->out_row + v * c->W);
      if (m->partial)
        cg_store_past_caches(c, x, to);
      else
        cg_store(c, x, to, 4);
    }
    source = cg_gep(c, c->f32, source, cg_shared_arg(f, M_SOURCE_ROW));
  }
}

static cg_val mix_function(cg_ctx *c, const cg_mix *m, int rows, int vectors) {
  char name[96];
  int64_t b_row = m->b_row ? m->b_row : vectors * c->W;
  snprintf(name, sizeof name, "cg.attn.mix%s.%dx%d.a%lld_%lld.b%lld.o%lld%s", m->factor ? "ed" : "", rows, vectors,
           (long long)m->a_rs, (long long)m->a_cs, (long long)b_row, (long long)m->out_row, m->partial ? "s" : "");
  cg_type types[M_COUNT] = {c->ptr, c->ptr, c->i64, c->ptr, c->ptr, c->i64, c->ptr};
  cg_shared f;
  if (!cg_shared_begin(c, &f, name, M_COUNT, types)) return f.fn;
  tile t = {.rows = rows, .vectors = vectors, .a_rs = m->a_rs, .a_cs = m->a_cs, .b_row = b_row};
  cg_val sums[ACC_MAX];
  for (int i = 0; i < rows && !m->partial; i++)
    for (int v = 0; v < vectors; v += 16 / c->W)
      cg_prefetch_write(c, cg_addr(c, c->f32, cg_shared_arg(&f, M_OUT), i * m->out_row + v * c->W));
  for (int i = 0; i < rows * vectors; i++) sums[i] = cg_vf(c, 0);
  tile_sums(c, &t, cg_shared_arg(&f, M_A), cg_shared_arg(&f, M_B), cg_i64(c, 0), cg_shared_arg(&f, M_K), sums);
  store_mix(c, &f, m, &t, sums);
  cg_shared_end(&f);
  return f.fn;
}

/* Inside the walk over panels of columns, chunks of the reduction, tiles of rows. */
typedef struct mix_walk {
  cg_ctx *c;
  const cg_mix *m;
  cg_mix chunk; /* m, but for where this chunk's sums go */
  int panel;
  cg_val k0;
  int64_t K; /* of this chunk */
} mix_walk;

static cg_val row_of(cg_ctx *c, cg_val p, cg_val i, int64_t row, int64_t j) {
  return cg_addr(c, c->f32, cg_gep(c, c->f32, p, cg_mul(c, i, cg_i64(c, row))), j);
}

static void mix_tile(void *u, cg_val first, int64_t rows) {
  mix_walk *w = u;
  cg_ctx *c = w->c;
  const cg_mix *m = &w->chunk;
  int64_t begin = panel_begin(c, m->d, w->panel) * c->W;
  int vectors = panel_vectors(c, m->d, w->panel);
  cg_val fn = mix_function(c, m, (int)rows, vectors);
  cg_val a = cg_add(c, cg_mul(c, first, cg_i64(c, m->a_rs)), cg_mul(c, w->k0, cg_i64(c, m->a_cs)));
  int64_t b_row = m->b_row ? m->b_row : vectors * c->W;
  cg_val b = row_of(c, m->b, w->k0, b_row, m->b_row ? begin : begin * m->b_rows);
  cg_val out = row_of(c, m->out, first, m->out_row, begin);
  cg_val source = m->partial ? row_of(c, m->partial, first, m->d, begin) : out;
  cg_val source_row = cg_i64(c, m->partial ? m->d : m->out_row);
  if (!m->accumulate) {
    cg_val fresh = cg_icmp(c, LLVMIntEQ, w->k0, cg_i64(c, 0));
    source = cg_select(c, fresh, cg_zeros(c), source);
    source_row = cg_select(c, fresh, cg_i64(c, 0), source_row);
  }
  cg_val factor = m->factor ? cg_gep(c, c->f32, m->factor, first) : LLVMConstNull(c->ptr);
  cg_shared_call(c, fn, M_COUNT,
                 (cg_val[]){cg_gep(c, c->f32, m->a, a), b, cg_i64(c, w->K), out, source, source_row, factor});
}

static void mix_chunk(void *u, cg_val first, int64_t K) {
  mix_walk *w = u;
  cg_mix *m = &w->chunk;
  int64_t k0 = 0;
  w->k0 = first;
  w->K = K;
  *m = *w->m;
  bool last = cg_const_int(first, &k0) && k0 + K == m->K;
  if (m->partial && !last) m->out = m->partial, m->out_row = m->d, m->partial = NULL;
  cg_each_piece(w->c, m->M, tile_rows(w->c, panel_vectors(w->c, m->d, w->panel)), mix_tile, w);
}

/* A chunk of a panel of b fills most of L1, with room for the elements of a that pass by. */
void cg_strip_mix(cg_ctx *c, const cg_mix *m) {
  TT_ASSERT(!(m->partial && m->accumulate)); /* the first chunk finds nothing in `partial` */
  for (int p = 0; p < panel_count(c, m->d); p++) {
    mix_walk w = {.c = c, .m = m, .panel = p};
    int64_t row = (int64_t)panel_vectors(c, m->d, p) * c->W * 4, most = c->target->l1_bytes * 13 / 16 / row;
    int64_t n = ceil_div(m->K, most), size = m->K / n, greater = m->K % n;
    cg_run_of_pieces(c, 0, greater, size + 1, mix_chunk, &w);
    cg_run_of_pieces(c, greater * (size + 1), n - greater - 1, size, mix_chunk, &w);
    mix_chunk(&w, cg_i64(c, m->K - size), size); /* by itself: only it writes to where a stream goes */
  }
}
