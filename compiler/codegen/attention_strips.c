/* Attention by vectors, a strip of queries at a time. Scores are transposed, [keys][queries], so that maxima, sums and D are
 * lane by lane; a strip of them stays in L1 from the product that makes it to the one that reads it, whose broadcast operand
 * it is as it lies. Each operand of a head is laid out once, for all products that read it.
 *
 * Exponentials are powers of two: q is scaled by scale * log2(e) on its way into its panel. Backward, do is scaled there, so
 * that dP, D and dS are scale times what the formulas in emit_attention.c say, as dq and dk want them. */
#include <math.h>
#include "compiler/codegen/attention.h"
#include "compiler/codegen/gemm.h"
#include "compiler/codegen/rows.h"

enum { QUERIES_MAX = 256, BLOCK = 192 }; /* backward, more queries than the first are taken in blocks: both tiles fit L2 */

static const double log2_e = 1.44269504088896340736, ln_2 = 0.693147180559945309417;

/* What a float leaves of x. */
static double rest_of(double x) { return x - (double)(float)x; }

bool cg_attn_in_strips(const cg_attn *a) { return a->d % a->c->W == 0 && a->Q >= a->c->W; }

typedef struct strips {
  cg_attn *a;
  cg_ctx *c;
  uint64_t scratch;    /* bytes taken so far */
  int64_t ld;          /* floats between rows of a tile */
  cg_val first;        /* backward: the block's first query */
  cg_val panel[2];     /* [d][strip]: q, do */
  cg_val p, ds;        /* [N][ld] */
  cg_val key, v;       /* packed for a mix; backward, v is do, then q, of the block */
  cg_val partial;      /* [N][d], or NULL: a mix's sums that are no whole ones yet, where results go past the caches */
  cg_val ahead;        /* floats into a row, the part of the next head's that this strip asks for */
  int64_t ahead_lines; /* that many cache lines */
  cg_val fold, lse;    /* [strip]: a strip's maxima, then its sums' reciprocals, or D; backward, log2(e) lse as [2][strip] */
} strips;

static cg_val take(strips *s, int64_t floats) {
  uint64_t bytes = ((uint64_t)floats * 4 + 63) / 64 * 64;
  cg_val p = cg_scratch(s->a->k, s->scratch, bytes);
  s->scratch += bytes;
  return p;
}

static int64_t strip_width(const cg_ctx *c) { return (int64_t)cg_strip_vectors(c) * c->W; }

typedef void strip_fn(strips *s, cg_val first, int vectors, int64_t rows);
typedef struct strip_walk {
  strips *s;
  strip_fn *body;
  int64_t index, begin; /* of the first strip of the run: its number, its first vector */
} strip_walk;

static void whole_strip(void *u, cg_val first, int64_t vectors) {
  strip_walk *w = u;
  cg_ctx *c = w->s->c;
  cg_val number = cg_div(c, cg_sub(c, first, cg_i64(c, w->begin)), cg_i64(c, vectors));
  w->s->ahead = cg_mul(c, cg_add(c, number, cg_i64(c, w->index)), cg_i64(c, w->s->ahead_lines * 16));
  w->body(w->s, cg_mul(c, first, cg_i64(c, c->W)), (int)vectors, vectors * c->W);
}

/* The rows of the head `next` floats on that are as `now`'s of this one: memory answers while this head is computed. */
static cg_ahead next_rows(strips *s, cg_val now, int64_t row, cg_val next) {
  return (cg_ahead){cg_gep(s->c, s->c->f32, now, cg_add(s->c, next, s->ahead)), row};
}

/* Strips of n queries, of two neighbouring numbers of vectors; the last is its own code: its last vector may not be whole. */
static void each_strip(strips *s, int64_t n, strip_fn *body) {
  int64_t W = s->c->W, vectors = (n + W - 1) / W, most = cg_strip_vectors(s->c);
  int64_t count = (vectors + most - 1) / most, size = vectors / count, greater = vectors % count;
  strip_walk w = {s, body, 0, 0};
  s->ahead_lines = ((s->a->d + 15) / 16 + count - 1) / count;
  cg_run_of_pieces(s->c, 0, greater, size + 1, whole_strip, &w);
  w.index = greater, w.begin = greater * (size + 1);
  cg_run_of_pieces(s->c, w.begin, count - greater - 1, size, whole_strip, &w);
  s->ahead = cg_i64(s->c, (count - 1) * s->ahead_lines * 16);
  body(s, cg_i64(s->c, (vectors - size) * W), (int)size, n - (vectors - size) * W);
}

static void turn(strips *s, cg_val from, int64_t row, int which, int vectors, int64_t rows, double scale) {
  cg_strip_turn t = {.from = from, .count = cg_i64(s->c, rows), .panel = s->panel[which], .row = row, .d = s->a->d,
                     .vectors = vectors, .scale = scale};
  cg_strip_turn_rows(s->c, &t);
}

static void fill(strips *s, cg_val p, int vectors, double x) {
  for (int v = 0; v < vectors; v++) cg_store(s->c, cg_vf(s->c, x), cg_addr(s->c, s->c->f32, p, v * s->c->W), 4);
}

static cg_val load_column(cg_ctx *c, cg_val p, int v) { return cg_load(c, c->vf, cg_addr(c, c->f32, p, v * c->W), 4); }

/* p = 2^(p - max); lse = ln 2 max + log(sum); 1 / sum in the place of max. */
static void exponentiate(strips *s, cg_val lse, int vectors, int64_t rows) {
  cg_ctx *c = s->c;
  cg_val max[8], sum[8];
  for (int v = 0; v < vectors; v++) max[v] = load_column(c, s->fold, v), sum[v] = cg_vf(c, 0);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, s->a->N), 1, vectors, sum);
  cg_val p = cg_row(c, s->p, l.i, s->ld);
  for (int v = 0; v < vectors; v++) {
    cg_val e = cg_exp2(c, cg_sub(c, load_column(c, p, v), max[v]));
    sum[v] = cg_add(c, l.carry[v], e);
    cg_store(c, e, cg_addr(c, c->f32, p, v * c->W), 4);
  }
  cg_loop_end(&l, sum);
  for (int v = 0; v < vectors; v++) {
    cg_val all = l.carry[v], out = cg_fma(c, max[v], cg_vf(c, rest_of(ln_2)), cg_log(c, all));
    out = cg_fma(c, max[v], cg_vf(c, ln_2), out);
    cg_store_n(c, out, cg_addr(c, c->f32, lse, v * c->W), cg_i64(c, rows - v * c->W));
    cg_store(c, cg_div(c, cg_vf(c, 1), all), cg_addr(c, c->f32, s->fold, v * c->W), 4);
  }
}

/* Rows of d floats as m's b: in place or packed to `to`. */
static void mix_from(strips *s, cg_mix *m, cg_val from, int64_t row, int64_t rows, cg_val to) {
  bool in_place = cg_mix_in_place(s->c, row, s->a->d);
  m->b = in_place ? from : to;
  m->b_rows = rows;
  m->b_row = in_place ? row : 0;
}

static void pack(strips *s, cg_val from, int64_t row, int64_t rows, cg_val to) {
  if (!cg_mix_in_place(s->c, row, s->a->d)) cg_mix_pack(s->c, from, row, rows, s->a->d, to);
}

static void forward_strip(strips *s, cg_val first, int vectors, int64_t rows) {
  cg_ctx *c = s->c;
  cg_attn *a = s->a;
  turn(s, cg_row(c, a->q, first, a->row), a->row, 0, vectors, rows, a->scale * log2_e);
  fill(s, s->fold, vectors, -INFINITY);
  cg_scores scores = {.kind = CG_SCORES_MAX, .a = a->key, .panel = s->panel[0], .out = s->p, .column = s->fold, .N = a->N,
                      .d = a->d, .a_row = a->row, .out_row = s->ld, .vectors = vectors, .ahead_lines = s->ahead_lines};
  scores.ahead[0] = next_rows(s, a->q, a->row, a->next);
  scores.ahead[1] = next_rows(s, a->key, a->row, a->next);
  scores.ahead[2] = next_rows(s, a->v, a->row, a->next);
  cg_strip_scores(c, &scores);
  exponentiate(s, cg_gep(c, c->f32, a->lse, first), vectors, rows);
  cg_mix o = {.a = s->p, .out = cg_row(c, a->o, first, a->H * a->d), .factor = s->fold, .M = rows, .K = a->N, .d = a->d,
              .a_rs = 1, .a_cs = s->ld, .out_row = a->H * a->d};
  mix_from(s, &o, a->v, a->row, a->N, s->v);
  cg_strip_mix(c, &o);
}

void cg_attn_strips_forward(cg_attn *a) {
  strips s = {.a = a, .c = a->c, .ld = strip_width(a->c)};
  s.fold = take(&s, s.ld);
  s.panel[0] = take(&s, a->d * s.ld);
  s.p = take(&s, a->N * s.ld);
  s.v = take(&s, a->N * a->d);
  pack(&s, a->v, a->row, a->N, s.v);
  each_strip(&s, a->Q, forward_strip);
}

/* log2(e) lse in two floats: an error would be one of all probabilities of a query, which dq and dk do not forgive. */
static void scale_lse(strips *s, cg_val lse, int vectors, int64_t rows) {
  cg_ctx *c = s->c;
  for (int v = 0; v < vectors; v++) {
    cg_val x = cg_load_n(c, cg_addr(c, c->f32, lse, v * c->W), cg_i64(c, rows - v * c->W), cg_vf(c, 0));
    cg_val y = cg_mul(c, x, cg_vf(c, log2_e)), rest = cg_fma(c, x, cg_vf(c, log2_e), cg_neg(c, y));
    rest = cg_fma(c, x, cg_vf(c, rest_of(log2_e)), rest);
    cg_store(c, y, cg_addr(c, c->f32, s->lse, v * c->W), 4);
    cg_store(c, rest, cg_addr(c, c->f32, s->lse, (vectors + v) * c->W), 4);
  }
}

/* ds = p (ds - D), ds holding dP. */
static void score_gradient(strips *s, cg_val p, cg_val ds, int vectors) {
  cg_ctx *c = s->c;
  cg_val D[8];
  for (int v = 0; v < vectors; v++) D[v] = load_column(c, s->fold, v);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, s->a->N), 1, 0, NULL);
  cg_val p_row = cg_row(c, p, l.i, s->ld), ds_row = cg_row(c, ds, l.i, s->ld);
  for (int v = 0; v < vectors; v++) {
    cg_val x = cg_mul(c, load_column(c, p_row, v), cg_sub(c, load_column(c, ds_row, v), D[v]));
    cg_store(c, x, cg_addr(c, c->f32, ds_row, v * c->W), 4);
  }
  cg_loop_end(&l, NULL);
}

static void backward_strip(strips *s, cg_val first, int vectors, int64_t rows) {
  cg_ctx *c = s->c;
  cg_attn *a = s->a;
  cg_val query = cg_add(c, s->first, first), p = cg_gep(c, c->f32, s->p, first), ds = cg_gep(c, c->f32, s->ds, first);
  turn(s, cg_row(c, a->q, query, a->row), a->row, 0, vectors, rows, a->scale * log2_e);
  turn(s, cg_row(c, a->d_o, query, a->H * a->d), a->H * a->d, 1, vectors, rows, a->scale);
  scale_lse(s, cg_gep(c, c->f32, a->lse, query), vectors, rows);
  cg_scores scores = {.kind = CG_SCORES_POWER, .a = a->key, .panel = s->panel[0], .out = p, .column = s->lse, .N = a->N,
                      .d = a->d, .a_row = a->row, .out_row = s->ld, .vectors = vectors, .ahead_lines = s->ahead_lines};
  scores.ahead[0] = next_rows(s, a->q, a->row, a->next);
  scores.ahead[1] = next_rows(s, a->key, a->row, a->next);
  cg_strip_scores(c, &scores);
  fill(s, s->fold, vectors, 0);
  scores = (cg_scores){.kind = CG_SCORES_DOT, .a = a->v, .panel = s->panel[1], .out = ds, .column = s->fold, .other = p,
                       .N = a->N, .d = a->d, .a_row = a->row, .out_row = s->ld, .vectors = vectors,
                       .ahead_lines = s->ahead_lines};
  scores.ahead[0] = next_rows(s, a->v, a->row, a->next);
  scores.ahead[1] = next_rows(s, a->d_o, a->H * a->d, a->next_o);
  cg_strip_scores(c, &scores);
  score_gradient(s, p, ds, vectors);
  cg_mix dq = {.a = ds, .out = cg_row(c, a->dq, query, a->row), .M = rows, .K = a->N, .d = a->d, .a_rs = 1, .a_cs = s->ld,
               .out_row = a->row, .partial = s->partial};
  mix_from(s, &dq, a->key, a->row, a->N, s->key);
  cg_strip_mix(c, &dq);
}

/* out[N][d] (+)= tile[N][rows] x[rows][d], x's rows being the block's. */
static void mix_block(strips *s, cg_val tile, cg_val x, int64_t x_row, int64_t rows, bool accumulate, cg_val out) {
  cg_attn *a = s->a;
  cg_val from = cg_row(s->c, x, s->first, x_row);
  cg_mix m = {.a = tile, .out = out, .M = a->N, .K = rows, .d = a->d, .a_rs = s->ld, .a_cs = 1, .out_row = a->row,
              .accumulate = accumulate, .partial = s->partial};
  pack(s, from, x_row, rows, s->v);
  mix_from(s, &m, from, x_row, rows, s->v);
  cg_strip_mix(s->c, &m);
}

static void backward_block(strips *s, cg_val first, int64_t rows, bool accumulate) {
  cg_attn *a = s->a;
  s->first = first;
  each_strip(s, rows, backward_strip);
  mix_block(s, s->p, a->d_o, a->H * a->d, rows, accumulate, a->dv);
  mix_block(s, s->ds, a->q, a->row, rows, accumulate, a->dk);
}

static void later_block(void *u, cg_val first, int64_t rows) { backward_block(u, first, rows, true); }

/* Rows of a tile that lie an odd number of lines apart fill all sets of a cache. */
static int64_t odd_lines(int64_t n) {
  int64_t lines = (n + 15) / 16;
  return (lines | 1) * 16;
}

/* Gradients written once and far larger than L2 need not be read into the caches to be written; who reads them finds them in
 * memory either way. The forward's result is a third of that and gains nothing. Past the caches only whole lines are fast. */
static bool streams(const cg_attn *a) {
  const cg_target *t = a->c->target;
  return t->past_caches_done && a->d % 16 == 0 && a->Q <= QUERIES_MAX && a->B * a->N * a->row * 4 > 4 * t->l2_bytes;
}

void cg_attn_strips_backward(cg_attn *a) {
  int64_t block = a->Q <= QUERIES_MAX ? a->Q : BLOCK, rest = a->Q - block;
  strips s = {.a = a, .c = a->c, .ld = odd_lines(block)};
  s.fold = take(&s, strip_width(a->c));
  s.lse = take(&s, 2 * strip_width(a->c));
  for (int i = 0; i < 2; i++) s.panel[i] = take(&s, a->d * strip_width(a->c));
  s.p = take(&s, a->N * s.ld);
  s.ds = take(&s, a->N * s.ld);
  s.key = take(&s, a->N * a->d);
  s.v = take(&s, block * a->d);
  if (streams(a)) s.partial = take(&s, a->N * a->d);
  pack(&s, a->key, a->row, a->N, s.key);
  backward_block(&s, cg_i64(a->c, 0), block, false);
  cg_run_of_pieces(a->c, block, rest / block, block, later_block, &s);
  if (rest % block) later_block(&s, cg_i64(a->c, a->Q - rest % block), rest % block);
  if (s.partial) a->c->target->past_caches_done(a->c);
}
