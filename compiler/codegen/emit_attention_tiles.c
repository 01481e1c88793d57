/* Attention on a unit that multiplies tiles of bfloat16, in float32 all the same: x = x1 + x2 + x3 exactly, three pieces of
 * eight bits each, and of the nine products of pieces the six largest are summed in float32; what is left out is below the
 * rounding of a float32 product. After Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
 * Higher-Precision Computations" (2019).
 *
 * Scores are made transposed, [keys, 32 queries] at a time, so that lanes are queries: maxima, sums and D are vectors, and the
 * rows of P^T and dS^T are, split, operands of the next products without a permutation. Per panel of 32 queries:
 *   S^T = k q^T;  forward:  P = exp(S - max); o^T = v^T P^T
 *                 backward: dP^T = v do^T; P = exp(S - lse); D = sum over keys of P dP; dS = P (dP - D); dq^T = k^T dS^T
 * and behind all panels dv = P^T do, dk = dS^T q. The scale is on q and k where they become operands.
 *
 * A form is a matrix as an operand: [strips of 16][steps of 32 of the reduction][piece][16 rows of 16 words]. A word holds two
 * elements 16 apart along the reduction, so that it is made of two rows by a shift and an or. */
#include "compiler/codegen/attention.h"
#include <stdio.h>
#include "compiler/codegen/gemm.h"
#include "compiler/codegen/rows.h"

enum { STRIP = 16, STEP = 32, PIECES = 3, PIECE_BYTES = 1024, UNIT = PIECES * PIECE_BYTES };

typedef struct form {
  cg_val at;
  int64_t steps;
} form;

typedef struct work {
  cg_ctx *c;
  cg_attn *a;
  uint64_t used;                       /* of scratch */
  int64_t strips, steps;               /* of tokens */
  int64_t d_strips, d_steps;
  cg_val s, ds, out;                   /* [keys or d][STEP] */
  cg_val factor;                       /* [STEP] */
  form q, key, v, key_t, v_t, d_o;     /* reducing over d, but for *_t */
  form q_rows, do_rows;                /* reducing over queries */
  form p, p_keys, ds_queries;          /* p, ds_queries reduce over queries; p_keys, one panel's P or dS, over keys */
} work;

static cg_val room(work *w, int64_t bytes) {
  uint64_t at = w->used;
  w->used += ((uint64_t)bytes + 63) / 64 * 64;
  return cg_scratch(w->a->k, at, (uint64_t)bytes);
}

static form new_form(work *w, int64_t strips, int64_t steps) { return (form){room(w, strips * steps * UNIT), steps}; }

static cg_val bytes_at(cg_ctx *c, cg_val base, cg_val i, int64_t stride, int64_t offset) {
  return cg_gep_bytes(c, base, cg_add(c, cg_mul(c, i, cg_i64(c, stride)), cg_i64(c, offset)));
}

/* x = the sum of three vi whose upper halves are bfloat16 and whose lower halves are zero: nearest, then what is left cut. */
static void split(cg_ctx *c, cg_val x, cg_val *piece) {
  cg_val upper = cg_vi(c, -65536);
  piece[0] = cg_and(c, cg_add(c, cg_bits(c, x, c->vi), cg_vi(c, 0x8000)), upper);
  cg_val rest = cg_sub(c, x, cg_bits(c, piece[0], c->vf));
  piece[1] = cg_and(c, cg_bits(c, rest, c->vi), upper);
  piece[2] = cg_bits(c, cg_sub(c, rest, cg_bits(c, piece[1], c->vf)), c->vi);
}

/* Words of lo's and hi's pieces (NULL: zeros) into the row at p of a unit of a form. */
static void store_words(cg_ctx *c, const cg_val *lo, const cg_val *hi, cg_val p) {
  for (int i = 0; i < PIECES; i++) {
    cg_val word = lo ? cg_shr(c, lo[i], cg_vi(c, 16)) : cg_vi(c, 0);
    if (lo && hi) {
      cg_val half[3] = {cg_shr(c, hi[i], cg_vi(c, 16)), lo[i], cg_vi(c, 16)};
      word = cg_call(c, "llvm.fshl.v16i32", c->vi, 3, half); /* an or with this shift becomes a slower shuffle */
    }
    cg_store(c, word, cg_addr(c, c->i8, p, i * PIECE_BYTES), 64);
  }
}

/* void split(lo, lo_rows, hi, hi_rows, stride, scale, to): a unit from two blocks of up to 16 rows of 16 floats, `stride` floats
 * apart; rows that are missing, of hi at least as many as of lo, are zeros. */
enum { F_LO, F_LO_ROWS, F_HI, F_HI_ROWS, F_STRIDE, F_SCALE, F_TO, F_COUNT };

/* Rows [from, to) of the unit, of which `halves` are there. */
static void split_rows(const cg_shared *s, cg_val from, cg_val to, int halves) {
  cg_ctx *c = s->c;
  cg_val scale = cg_splat(c, cg_shared_arg(s, F_SCALE), c->W);
  cg_loop l;
  cg_loop_begin(c, &l, from, to, 1, 0, NULL);
  cg_val at = cg_mul(c, l.i, cg_shared_arg(s, F_STRIDE)), piece[2][PIECES];
  for (int h = 0; h < halves; h++) {
    cg_val x = cg_load(c, c->vf, cg_gep(c, c->f32, cg_shared_arg(s, h ? F_HI : F_LO), at), 4);
    split(c, cg_mul(c, x, scale), piece[h]);
  }
  cg_val to_row = bytes_at(c, cg_shared_arg(s, F_TO), l.i, 64, 0);
  store_words(c, halves > 0 ? piece[0] : NULL, halves > 1 ? piece[1] : NULL, to_row);
  cg_loop_end(&l, NULL);
}

static bool unit_begin(cg_ctx *c, cg_shared *s, const char *name) {
  cg_type types[F_COUNT] = {c->ptr, c->i64, c->ptr, c->i64, c->i64, c->f32, c->ptr};
  return cg_shared_begin(c, s, name, F_COUNT, types);
}

static cg_val unit_of_rows(cg_ctx *c) {
  cg_shared s;
  if (!unit_begin(c, &s, "cg.attn.rows")) return s.fn;
  cg_val all = cg_i64(c, STRIP), lo = cg_min(c, cg_shared_arg(&s, F_LO_ROWS), all);
  cg_val hi = cg_min(c, cg_shared_arg(&s, F_HI_ROWS), all), both = cg_max(c, hi, cg_i64(c, 0));
  split_rows(&s, cg_i64(c, 0), both, 2);
  split_rows(&s, both, lo, 1);
  split_rows(&s, lo, all, 0);
  cg_shared_end(&s);
  return s.fn;
}

/* The first n rows (NULL: all) of a block to the columns of another. */
static void transpose_block(const cg_shared *s, int from, cg_val n, cg_val to) {
  cg_ctx *c = s->c;
  cg_val rows[STRIP];
  for (int i = 0; i < STRIP; i++) {
    cg_val p = cg_gep(c, c->f32, cg_shared_arg(s, from), cg_mul(c, cg_i64(c, i), cg_shared_arg(s, F_STRIDE)));
    cg_val live = n ? cg_icmp(c, LLVMIntSLT, cg_i64(c, i), n) : NULL;
    rows[i] = cg_load_n(c, p, n ? cg_select(c, live, cg_i64(c, STRIP), cg_i64(c, 0)) : NULL, cg_vf(c, 0));
  }
  cg_transpose(c, rows, STRIP);
  for (int i = 0; i < STRIP; i++) cg_store(c, rows[i], cg_addr(c, c->f32, to, i * STRIP), 64);
}

static void transpose_rows(const cg_shared *s, int from, cg_val n, cg_val to) {
  cg_ctx *c = s->c;
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGE, n, cg_i64(c, STRIP)));
  transpose_block(s, from, NULL, to);
  cg_if_else(&f);
  transpose_block(s, from, n, to);
  cg_if_end(&f);
}

/* The same from the blocks transposed. */
static cg_val unit_of_columns(cg_ctx *c) {
  cg_val of_rows = unit_of_rows(c);
  cg_shared s;
  if (!unit_begin(c, &s, "cg.attn.columns")) return s.fn;
  cg_val block = cg_alloca(c, c->f32, 2 * STRIP * STRIP, 64);
  cg_if there;
  cg_val n = cg_shared_arg(&s, F_HI_ROWS), hi_there = cg_icmp(c, LLVMIntSGT, n, cg_i64(c, 0)), whole = cg_i64(c, STRIP);
  cg_val hi = cg_addr(c, c->f32, block, STRIP * STRIP);
  transpose_rows(&s, F_LO, cg_shared_arg(&s, F_LO_ROWS), block);
  cg_if_begin(c, &there, hi_there);
  transpose_rows(&s, F_HI, n, hi);
  cg_if_end(&there);
  cg_val hi_rows = cg_select(c, hi_there, whole, cg_i64(c, 0));
  cg_shared_call(c, of_rows, F_COUNT,
                 (cg_val[]){block, whole, hi, hi_rows, whole, cg_shared_arg(&s, F_SCALE), cg_shared_arg(&s, F_TO)});
  cg_shared_end(&s);
  return s.fn;
}

/* The form of scale x, x being [N, d] with `row` floats between tokens: reducing over tokens or over d. The rows of a unit run
 * along x's tokens as far as they are paired (over tokens) or strips (over d), or along its columns. */
static form form_of(work *w, cg_val x, int64_t row, double scale, bool over_tokens, bool columns) {
  cg_ctx *c = w->c;
  int64_t N = w->a->N, d_units = over_tokens ? w->d_strips : w->d_steps, tokens = over_tokens ? STEP : STRIP;
  form f = over_tokens ? new_form(w, w->d_strips, w->steps) : new_form(w, w->strips, w->d_steps);
  cg_val fn = columns ? unit_of_columns(c) : unit_of_rows(c);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, over_tokens ? w->steps : w->strips), 1, 0, NULL);
  cg_val first = cg_mul(c, l.i, cg_i64(c, tokens)), left = cg_sub(c, cg_i64(c, N), first);
  for (int64_t j = 0; j < d_units; j++) {
    int64_t column = j * (over_tokens ? STRIP : STEP);
    cg_val lo = cg_addr(c, c->f32, cg_row(c, x, first, row), column);
    cg_val hi = cg_addr(c, c->f32, lo, over_tokens ? STRIP * row : STRIP), hi_rows = left;
    if (over_tokens) hi_rows = cg_sub(c, left, cg_i64(c, STRIP));
    else if (column + STRIP >= w->a->d) hi_rows = cg_i64(c, 0);
    cg_val to =
        over_tokens ? bytes_at(c, f.at, l.i, UNIT, j * f.steps * UNIT) : bytes_at(c, f.at, l.i, f.steps * UNIT, j * UNIT);
    cg_shared_call(c, fn, F_COUNT, (cg_val[]){lo, left, hi, hi_rows, cg_i64(c, row), cg_f32(c, scale), to});
  }
  cg_loop_end(&l, NULL);
  return f;
}

/* void product(a, a_strip, b, b_strip, steps, out): out[16m, 16n] = the sum over steps, m and n being 1 or 2 strips, which are
 * `strip` bytes apart. */
enum { T_A, T_A_STRIP, T_B, T_B_STRIP, T_STEPS, T_OUT, T_COUNT };

static void load_piece(cg_ctx *c, cg_val unit, cg_val strip, int n, int tile, int piece) {
  for (int i = 0; i < n; i++) {
    cg_val p = i ? cg_gep_bytes(c, unit, strip) : unit;
    c->target->tiles->load(c, tile + i, cg_addr(c, c->i8, p, piece * PIECE_BYTES), 64);
  }
}

static cg_val product_function(cg_ctx *c, int m, int n, int64_t ld) {
  enum { ACC = 0, A = 4, B = 6 };
  static const signed char order[][2] = {{1, 1}, {0, 1}, {0, 2}, {0, 0}, {1, 0}, {2, 0}}; /* one operand changes at a time */
  const cg_tile_unit *unit = c->target->tiles;
  char name[64];
  snprintf(name, sizeof name, "cg.attn.product%d%d.%lld", m, n, (long long)ld);
  cg_type types[T_COUNT] = {c->ptr, c->i64, c->ptr, c->i64, c->i64, c->ptr};
  cg_shared s;
  if (!cg_shared_begin(c, &s, name, T_COUNT, types)) return s.fn;
  for (int i = 0; i < m * n; i++) unit->zero(c, ACC + i);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_shared_arg(&s, T_STEPS), 1, 0, NULL);
  cg_val a = bytes_at(c, cg_shared_arg(&s, T_A), l.i, UNIT, 0), b = bytes_at(c, cg_shared_arg(&s, T_B), l.i, UNIT, 0);
  int have[2] = {-1, -1};
  for (int i = 0; i < 6; i++) {
    if (order[i][0] != have[0]) load_piece(c, a, cg_shared_arg(&s, T_A_STRIP), m, A, have[0] = order[i][0]);
    if (order[i][1] != have[1]) load_piece(c, b, cg_shared_arg(&s, T_B_STRIP), n, B, have[1] = order[i][1]);
    for (int t = 0; t < m * n; t++) unit->dot_bf16(c, ACC + t, A + t / n, B + t % n);
  }
  cg_loop_end(&l, NULL);
  for (int t = 0; t < m * n; t++) {
    cg_val out = cg_addr(c, c->f32, cg_shared_arg(&s, T_OUT), t / n * STRIP * ld + t % n * STRIP);
    unit->store(c, ACC + t, out, ld * 4);
  }
  cg_shared_end(&s);
  return s.fn;
}

typedef struct grid {
  work *w;
  form a, b;
  cg_val out;
  int64_t ld; /* floats between rows of out */
} grid;

/* n (1 or 2) strips of b at strip j, m of a at strip i. */
static void block(const grid *g, int m, cg_val i, int n, int64_t j) {
  cg_ctx *c = g->w->c;
  int64_t a_strip = g->a.steps * UNIT, b_strip = g->b.steps * UNIT;
  cg_val out = bytes_at(c, g->out, i, STRIP * g->ld * 4, j * STRIP * 4);
  cg_shared_call(c, product_function(c, m, n, g->ld), T_COUNT,
                 (cg_val[]){bytes_at(c, g->a.at, i, a_strip, 0), cg_i64(c, a_strip), cg_addr(c, c->i8, g->b.at, j * b_strip),
                            cg_i64(c, b_strip), cg_i64(c, g->a.steps), out});
}

/* out[16m, 16n] = a b */
static void product(work *w, form a, int64_t m, form b, int64_t n, cg_val out, int64_t ld) {
  cg_ctx *c = w->c;
  grid g = {w, a, b, out, ld};
  cg_loop l;
  if (m > 1) {
    cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, m / 2 * 2), 2, 0, NULL);
    for (int64_t j = 0; j < n; j += 2) block(&g, 2, l.i, n - j > 1 ? 2 : 1, j);
    cg_loop_end(&l, NULL);
  }
  for (int64_t j = 0; m % 2 && j < n; j += 2) block(&g, 1, cg_i64(c, m - 1), n - j > 1 ? 2 : 1, j);
}

/* void out(from, factor, to, row, n): to[query < n][16] = transpose of from[16][queries] times factor[queries]. */
enum { O_FROM, O_FACTOR, O_TO, O_ROW, O_N, O_COUNT };

static void store_rows(const cg_shared *s, const cg_val *rows, bool some) {
  cg_ctx *c = s->c;
  for (int i = 0; i < STRIP; i++) {
    cg_val live = cg_icmp(c, LLVMIntSLT, cg_i64(c, i), cg_shared_arg(s, O_N));
    cg_val p = cg_gep(c, c->f32, cg_shared_arg(s, O_TO), cg_mul(c, cg_i64(c, i), cg_shared_arg(s, O_ROW)));
    cg_store_n(c, rows[i], p, some ? cg_select(c, live, cg_i64(c, STRIP), cg_i64(c, 0)) : NULL);
  }
}

static cg_val out_function(cg_ctx *c) {
  cg_shared s;
  cg_type types[O_COUNT] = {c->ptr, c->ptr, c->ptr, c->i64, c->i64};
  if (!cg_shared_begin(c, &s, "cg.attn.out", O_COUNT, types)) return s.fn;
  cg_val factor = cg_load(c, c->vf, cg_shared_arg(&s, O_FACTOR), 64), rows[STRIP];
  for (int i = 0; i < STRIP; i++) {
    cg_val x = cg_load(c, c->vf, cg_addr(c, c->f32, cg_shared_arg(&s, O_FROM), i * STEP), 64);
    rows[i] = cg_mul(c, x, factor);
  }
  cg_transpose(c, rows, STRIP);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGE, cg_shared_arg(&s, O_N), cg_i64(c, STRIP)));
  store_rows(&s, rows, false);
  cg_if_else(&f);
  store_rows(&s, rows, true);
  cg_if_end(&f);
  cg_shared_end(&s);
  return s.fn;
}

/* Queries [first, first + n), n <= STEP, in V vectors. */
typedef struct panel {
  work *w;
  cg_val first;
  int64_t n;
  int V;
  cg_val bias[2]; /* vf: what is taken off the scores, maximum or log-sum-exp */
  cg_val D[2];    /* vf */
} panel;

/* to[n, d] = transpose of w->out[d, STEP], queries scaled by w->factor */
static void write_out(const panel *p, cg_val to, int64_t row) {
  work *w = p->w;
  cg_ctx *c = w->c;
  for (int v = 0; v < p->V; v++) {
    for (int64_t j = 0; j < w->d_strips; j++) {
      cg_val rows = cg_addr(c, c->f32, cg_row(c, to, p->first, row), v * STRIP * row + j * STRIP);
      cg_shared_call(c, out_function(c), O_COUNT,
                     (cg_val[]){cg_addr(c, c->f32, w->out, j * STRIP * STEP + v * STRIP),
                                cg_addr(c, c->f32, w->factor, v * STRIP), rows, cg_i64(c, row), cg_i64(c, p->n - v * STRIP)});
    }
  }
}

/* Two rows of keys at a time, 16 apart, r and r + 16 of step s: body(p, s, r, halves, sum), where `halves` (0 to 2) of them are
 * below N, adds to sums that are carried along. */
typedef void keys_fn(panel *p, cg_val s, cg_val r, int halves, cg_val *sum);
enum { SUMS = 4 }; /* [half][vector] */

static void keys_from(panel *p, cg_val s, int64_t from, int64_t to, int halves, keys_fn *body, cg_val *sum) {
  cg_ctx *c = p->w->c;
  cg_loop l;
  if (from >= to) return;
  cg_loop_begin(c, &l, cg_i64(c, from), cg_i64(c, to), 1, SUMS, sum);
  cg_val next[SUMS];
  for (int i = 0; i < SUMS; i++) next[i] = l.carry[i];
  body(p, s, l.i, halves, next);
  cg_loop_end(&l, next);
  for (int i = 0; i < SUMS; i++) sum[i] = l.carry[i];
}

/* sum[v]: of both halves. */
static void over_keys(panel *p, double first, keys_fn *body, cg_val *sum) {
  cg_ctx *c = p->w->c;
  int64_t whole = p->w->a->N / STEP, rest = p->w->a->N % STEP, both = rest > STRIP ? rest - STRIP : 0;
  int64_t one = rest > STRIP ? STRIP : rest;
  for (int i = 0; i < SUMS; i++) sum[i] = cg_vf(c, first);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, whole), 1, SUMS, sum);
  cg_val next[SUMS];
  for (int i = 0; i < SUMS; i++) next[i] = l.carry[i];
  keys_from(p, l.i, 0, STRIP, 2, body, next);
  cg_loop_end(&l, next);
  for (int i = 0; i < SUMS; i++) sum[i] = l.carry[i];
  if (rest == 0) return;
  cg_val s = cg_i64(c, whole);
  keys_from(p, s, 0, both, 2, body, sum);
  keys_from(p, s, both, one, 1, body, sum);
  keys_from(p, s, one, STRIP, 0, body, sum);
}

/* Row r + 16 half of step s of a panel of scores. */
static cg_val score_at(panel *p, cg_val of, cg_val s, cg_val r, int half, int v) {
  cg_ctx *c = p->w->c;
  cg_val row = cg_add(c, cg_mul(c, s, cg_i64(c, STEP)), r);
  return cg_addr(c, c->f32, cg_row(c, of, row, STEP), half * STRIP * STEP + v * STRIP);
}

static void max_keys(panel *p, cg_val s, cg_val r, int halves, cg_val *sum) {
  cg_ctx *c = p->w->c;
  for (int i = 0; i < halves * 2; i++) {
    if (i % 2 >= p->V) continue;
    sum[i] = cg_max(c, sum[i], cg_load(c, c->vf, score_at(p, p->w->s, s, r, i / 2, i % 2), 64));
  }
}

/* Row r of step s of the panel's form that reduces over keys, vector v. */
static cg_val key_words(panel *p, cg_val s, cg_val r, int v) {
  cg_ctx *c = p->w->c;
  return bytes_at(c, bytes_at(c, p->w->p_keys.at, s, UNIT, v * p->w->p_keys.steps * UNIT), r, 64, 0);
}

static void exp_keys(panel *p, cg_val s, cg_val r, int halves, cg_val *sum) {
  cg_ctx *c = p->w->c;
  for (int v = 0; v < p->V; v++) {
    cg_val piece[2][PIECES];
    for (int h = 0; h < halves; h++) {
      cg_val x = cg_exp(c, cg_sub(c, cg_load(c, c->vf, score_at(p, p->w->s, s, r, h, v), 64), p->bias[v]));
      sum[h * 2 + v] = cg_add(c, sum[h * 2 + v], x);
      split(c, x, piece[h]);
    }
    store_words(c, halves > 0 ? piece[0] : NULL, halves > 1 ? piece[1] : NULL, key_words(p, s, r, v));
  }
}

static void forward_panel(work *w, cg_val first, int64_t n) {
  cg_ctx *c = w->c;
  panel p = {.w = w, .first = first, .n = n, .V = n > STRIP ? 2 : 1};
  form q = {bytes_at(c, w->q.at, first, w->q.steps * UNIT / STRIP, 0), w->q.steps};
  product(w, w->key, w->strips, q, p.V, w->s, STEP);
  cg_val max[SUMS], sum[SUMS];
  over_keys(&p, -__builtin_inf(), max_keys, max);
  for (int v = 0; v < p.V; v++) p.bias[v] = cg_max(c, max[v], max[2 + v]);
  over_keys(&p, 0, exp_keys, sum);
  for (int v = 0; v < p.V; v++) {
    cg_val total = cg_add(c, sum[v], sum[2 + v]), lse = cg_add(c, p.bias[v], cg_log(c, total));
    cg_val to = cg_addr(c, c->f32, cg_gep(c, c->f32, w->a->lse, first), v * STRIP);
    cg_store_n(c, lse, to, n - v * STRIP >= STRIP ? NULL : cg_i64(c, n - v * STRIP));
    cg_store(c, cg_div(c, cg_vf(c, 1), total), cg_addr(c, c->f32, w->factor, v * STRIP), 64);
  }
  product(w, w->v_t, w->d_strips, w->p_keys, p.V, w->out, STEP);
  write_out(&p, w->a->o, w->a->H * w->a->d);
}

/* Pieces of one row of keys, [vector], into a form that reduces over queries: its strip is the row's, its step this panel. */
static void store_queries(panel *p, form f, cg_val s, cg_val r, int half, cg_val piece[2][PIECES]) {
  cg_ctx *c = p->w->c;
  cg_val unit = bytes_at(c, f.at, p->first, UNIT / STEP, half * f.steps * UNIT);
  cg_val at = bytes_at(c, bytes_at(c, unit, s, 2 * f.steps * UNIT, 0), r, 64, 0);
  store_words(c, piece[0], p->V > 1 ? piece[1] : NULL, at);
}

/* P in place of S and as an operand; the sums are D. */
static void probability_keys(panel *p, cg_val s, cg_val r, int halves, cg_val *sum) {
  cg_ctx *c = p->w->c;
  for (int h = 0; h < halves; h++) {
    cg_val piece[2][PIECES];
    for (int v = 0; v < p->V; v++) {
      cg_val at = score_at(p, p->w->s, s, r, h, v);
      cg_val x = cg_exp(c, cg_sub(c, cg_load(c, c->vf, at, 64), p->bias[v]));
      cg_store(c, x, at, 64);
      sum[h * 2 + v] = cg_fma(c, x, cg_load(c, c->vf, score_at(p, p->w->ds, s, r, h, v), 64), sum[h * 2 + v]);
      split(c, x, piece[v]);
    }
    store_queries(p, p->w->p, s, r, h, piece);
  }
}

/* dS = P (dP - D) as an operand of two products. */
static void gradient_keys(panel *p, cg_val s, cg_val r, int halves, cg_val *sum) {
  cg_ctx *c = p->w->c;
  cg_val piece[2][2][PIECES];
  (void)sum;
  for (int h = 0; h < halves; h++) {
    for (int v = 0; v < p->V; v++) {
      cg_val dp = cg_load(c, c->vf, score_at(p, p->w->ds, s, r, h, v), 64);
      cg_val x = cg_load(c, c->vf, score_at(p, p->w->s, s, r, h, v), 64);
      split(c, cg_mul(c, x, cg_sub(c, dp, p->D[v])), piece[h][v]);
    }
    store_queries(p, p->w->ds_queries, s, r, h, piece[h]);
  }
  for (int v = 0; v < p->V; v++)
    store_words(c, halves > 0 ? piece[0][v] : NULL, halves > 1 ? piece[1][v] : NULL, key_words(p, s, r, v));
}

static void backward_panel(work *w, cg_val first, int64_t n) {
  cg_ctx *c = w->c;
  panel p = {.w = w, .first = first, .n = n, .V = n > STRIP ? 2 : 1};
  int64_t per_query = w->q.steps * UNIT / STRIP;
  form q = {bytes_at(c, w->q.at, first, per_query, 0), w->q.steps};
  form d_o = {bytes_at(c, w->d_o.at, first, per_query, 0), w->q.steps};
  product(w, w->key, w->strips, q, p.V, w->s, STEP);
  product(w, w->v, w->strips, d_o, p.V, w->ds, STEP);
  for (int v = 0; v < p.V; v++) {
    cg_val lse = cg_addr(c, c->f32, cg_gep(c, c->f32, w->a->lse, first), v * STRIP);
    p.bias[v] = cg_load_n(c, lse, n - v * STRIP >= STRIP ? NULL : cg_i64(c, n - v * STRIP), cg_vf(c, 0));
  }
  cg_val sum[SUMS];
  over_keys(&p, 0, probability_keys, sum);
  for (int v = 0; v < p.V; v++) p.D[v] = cg_add(c, sum[v], sum[2 + v]);
  over_keys(&p, 0, gradient_keys, sum);
  product(w, w->key_t, w->d_strips, w->p_keys, p.V, w->out, STEP);
  write_out(&p, w->a->dq, w->a->row);
}

typedef void panel_fn(work *w, cg_val first, int64_t n);

static void panels(work *w, panel_fn *body) {
  cg_ctx *c = w->c;
  int64_t whole = w->a->N / STEP * STEP;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, whole), STEP, 0, NULL);
  body(w, l.i, STEP);
  cg_loop_end(&l, NULL);
  if (whole < w->a->N) body(w, cg_i64(c, whole), w->a->N - whole);
}

/* to[N, d] = a b, b reducing over queries: whole strips in place, the rest by way of scratch. */
static void product_to_tokens(work *w, form a, form b, cg_val to) {
  cg_ctx *c = w->c;
  int64_t N = w->a->N, whole = N / STRIP, d = w->a->d, row = w->a->row;
  if (whole) product(w, a, whole, b, w->d_strips, to, row);
  if (whole * STRIP == N) return;
  form last = {cg_addr(c, c->i8, a.at, whole * a.steps * UNIT), a.steps};
  product(w, last, 1, b, w->d_strips, w->s, d);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, N - whole * STRIP), 1, 0, NULL);
  cg_val from = cg_row(c, w->s, l.i, d), out = cg_row(c, cg_addr(c, c->f32, to, whole * STRIP * row), l.i, row);
  for (int64_t j = 0; j < d; j += c->W) cg_store(c, cg_cols(c, from, cg_i64(c, j), NULL), cg_addr(c, c->f32, out, j), 4);
  cg_loop_end(&l, NULL);
}

bool cg_attn_on_tiles(const cg_attn *a) {
  return a->c->target->f32_tiles && a->c->W == STRIP && a->Q == a->N && a->N >= STEP && a->N <= 256 && a->d % STRIP == 0 &&
         a->d <= 128;
}

static work begin(cg_attn *a) {
  work w = {.c = a->c, .a = a, .strips = (a->N + STRIP - 1) / STRIP, .steps = (a->N + STEP - 1) / STEP};
  w.d_strips = a->d / STRIP;
  w.d_steps = (a->d + STEP - 1) / STEP;
  int64_t scores = w.strips * STEP, last_strip = a->d; /* floats a row of a strip; product_to_tokens puts its last there */
  w.s = room(&w, STRIP * (scores > last_strip ? scores : last_strip) * 4);
  w.out = room(&w, a->d * STEP * 4);
  w.factor = room(&w, STEP * 4);
  w.p_keys = new_form(&w, STEP / STRIP, w.steps);
  w.q = form_of(&w, a->q, a->row, a->scale, false, true);
  w.key = form_of(&w, a->key, a->row, 1, false, false);
  return w;
}

void cg_attn_tiles_forward(cg_attn *a) {
  work w = begin(a);
  w.v_t = form_of(&w, a->v, a->row, 1, true, true);
  panels(&w, forward_panel);
}

void cg_attn_tiles_backward(cg_attn *a) {
  cg_ctx *c = a->c;
  work w = begin(a);
  int64_t row = a->H * a->d;
  w.ds = room(&w, w.strips * STRIP * STEP * 4);
  w.p = new_form(&w, w.strips, w.steps);
  w.ds_queries = new_form(&w, w.strips, w.steps);
  w.key_t = form_of(&w, a->key, a->row, a->scale, true, true);
  w.v = form_of(&w, a->v, a->row, 1, false, false);
  w.d_o = form_of(&w, a->d_o, row, 1, false, true);
  w.q_rows = form_of(&w, a->q, a->row, a->scale, true, false);
  w.do_rows = form_of(&w, a->d_o, row, 1, true, false);
  for (int v = 0; v < STEP / STRIP; v++) cg_store(c, cg_vf(c, 1), cg_addr(c, c->f32, w.factor, v * STRIP), 64);
  panels(&w, backward_panel);
  product_to_tokens(&w, w.p, w.do_rows, a->dv);
  product_to_tokens(&w, w.ds_queries, w.q_rows, a->dk);
}
