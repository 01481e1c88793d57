/* Sums, means and maxima over axes. Adjacent axes are merged, which leaves alternating kept and reduced dimensions; each
 * reduced one is a step [K0, R, K1] -> [K0, K1], the last first. A step cuts R into chunks by shape alone; the chunks are
 * tasks, whose partial results go to the workspace and are then combined in ascending order. */
#include "compiler/codegen/rows.h"

typedef struct step {
  int64_t K0, R, K1;
  cg_reduce_op op;
  double scale;           /* applied to the final values */
  int64_t chunk, n_chunks;
  bool from_input, to_output;
  uint64_t from, to, part; /* workspace offsets where not operands; partial results */
} step;

typedef struct body_ctx {
  cg_ctx *c;
  cg_val from; /* first element of the piece */
} body_ctx;

static void row_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  body_ctx *b = u;
  terms[0] = cg_load_n(b->c, cg_gep(b->c, b->c->f32, b->from, i), n, cg_vf(b->c, 0));
}

static cg_val combine(cg_ctx *c, cg_reduce_op op, cg_val a, cg_val b) {
  return op == CG_SUM ? cg_add(c, a, b) : cg_max(c, a, b);
}

static cg_val identity(cg_ctx *c, cg_reduce_op op) { return cg_vf(c, op == CG_SUM ? 0 : -__builtin_inf()); }

enum { BLOCK = 4 }; /* vectors of columns held in registers */

/* to[0, K1) = rows `first` up to `last` of from [.., K1], combined per column, times scale. */
static void columns(cg_ctx *c, cg_reduce_op op, cg_val from, cg_val first, cg_val last, int64_t K1, cg_val to, double scale) {
  for (int64_t at = 0; at < K1;) {
    bool bulk = K1 - at >= BLOCK * c->W;
    int64_t n_blocks = bulk ? (K1 - at) / (BLOCK * c->W) : 1, width = bulk ? BLOCK * c->W : K1 - at;
    int n_vec = (int)((width + c->W - 1) / c->W);
    cg_loop outer, rows;
    cg_val acc[BLOCK], next[BLOCK];
    cg_loop_begin(c, &outer, cg_i64(c, at), cg_i64(c, at + n_blocks * width), width, 0, NULL);
    for (int v = 0; v < n_vec; v++) acc[v] = identity(c, op);
    cg_loop_begin(c, &rows, first, last, 1, n_vec, acc);
    cg_val row = cg_gep(c, c->f32, from, cg_add(c, cg_mul(c, rows.i, cg_i64(c, K1)), outer.i));
    for (int v = 0; v < n_vec; v++) {
      cg_val lanes = cg_i64(c, width - v * c->W);
      cg_val x = cg_load_n(c, cg_gep(c, c->f32, row, cg_i64(c, v * c->W)), lanes, cg_vf(c, 0));
      next[v] = combine(c, op, rows.carry[v], x);
    }
    cg_loop_end(&rows, next);
    for (int v = 0; v < n_vec; v++) {
      cg_val p = cg_gep(c, c->f32, to, cg_add(c, outer.i, cg_i64(c, v * c->W)));
      cg_store_n(c, cg_mul(c, rows.carry[v], cg_vf(c, scale)), p, cg_i64(c, width - v * c->W));
    }
    cg_loop_end(&outer, NULL);
    at += n_blocks * width;
  }
}

/* One piece: rows [first, last) of the k0-th [R, K1] matrix of `from`, into K1 elements at `to`. */
static void reduce_piece(cg_ctx *c, const step *s, cg_val from, cg_val k0, cg_val first, cg_val last, cg_val to, double scale) {
  cg_val matrix = cg_gep(c, c->f32, from, cg_mul(c, k0, cg_i64(c, s->R * s->K1)));
  if (s->K1 > 1) {
    columns(c, s->op, matrix, first, last, s->K1, to, scale);
    return;
  }
  body_ctx b = {c, matrix};
  cg_val sum;
  cg_fold(c, first, last, 1, &s->op, row_terms, &b, &sum);
  cg_store(c, cg_mul(c, sum, cg_f32(c, scale)), to, 4);
}

static cg_val source(cg_kernel *k, const step *s) {
  return s->from_input ? cg_in(k, 0) : cg_work(k, s->from, (uint64_t)(s->K0 * s->R * s->K1) * 4);
}

static cg_val target(cg_kernel *k, const step *s) {
  return s->to_output ? cg_out(k, 0) : cg_work(k, s->to, (uint64_t)(s->K0 * s->K1) * 4);
}

/* Without chunks: tasks are groups of k0. */
static void emit_whole(cg_node *x, const char *suffix, const step *s) {
  cg_kernel *k = cg_kernel_begin(x, suffix);
  int64_t grain = cg_grain(s->K0, s->R * s->K1, 1);
  if (k) {
    cg_ctx *c = k->c;
    cg_val from = source(k, s), to = target(k, s);
    cg_range r = cg_task_range(k, s->K0, grain);
    cg_loop l;
    cg_loop_begin(c, &l, r.begin, r.end, 1, 0, NULL);
    cg_val out = cg_gep(c, c->f32, to, cg_mul(c, l.i, cg_i64(c, s->K1)));
    reduce_piece(c, s, from, l.i, cg_i64(c, 0), cg_i64(c, s->R), out, s->scale);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, suffix, (s->K0 + grain - 1) / grain);
}

/* With chunks: one task a chunk, then the chunks' results [K0, n_chunks, K1] are reduced by a step without chunks. */
static void emit_chunked(cg_node *x, const char *suffix, const step *s) {
  char part[32];
  snprintf(part, sizeof part, "%spart", suffix);
  cg_kernel *k = cg_kernel_begin(x, part);
  if (k) {
    cg_ctx *c = k->c;
    cg_val chunks = cg_i64(c, s->n_chunks), k0 = cg_div(c, k->task, chunks);
    cg_val to = cg_work(k, s->part, (uint64_t)(s->K0 * s->n_chunks * s->K1) * 4);
    cg_val first = cg_mul(c, cg_rem(c, k->task, chunks), cg_i64(c, s->chunk));
    cg_val last = cg_min(c, cg_add(c, first, cg_i64(c, s->chunk)), cg_i64(c, s->R));
    reduce_piece(c, s, source(k, s), k0, first, last, cg_gep(c, c->f32, to, cg_mul(c, k->task, cg_i64(c, s->K1))), 1);
    cg_kernel_end(k);
  }
  cg_launch(x, part, s->K0 * s->n_chunks);
  step sum = *s;
  sum.R = s->n_chunks;
  sum.from_input = false;
  sum.from = s->part;
  emit_whole(x, suffix, &sum);
}

/* Sums over the rows of a matrix go by runs as everywhere, if these are enough to keep cores busy: at the latest from LEAD_ROWS
 * (fuse_quantize.c) rows on, from where mx.fused may make the sums. */
enum { RUNS_MIN = 16 };
static bool by_runs(const step *s) { return s->op == CG_SUM && s->K0 == 1 && s->K1 > 1 && s->R >= RUNS_MIN * CG_RUN; }

/* Enough chunks to keep cores busy where K0 alone does not give them, none shorter than what a task is worth. */
static void cut(step *s) {
  int64_t grain = cg_grain(s->R, s->K1, 1);
  s->n_chunks = s->K0 >= 16 ? 1 : (s->R + grain - 1) / grain;
  if (s->n_chunks < 1) s->n_chunks = 1;
  if (by_runs(s)) s->n_chunks = cg_run_count(s->R);
  s->chunk = by_runs(s) ? CG_RUN : (s->R + s->n_chunks - 1) / s->n_chunks;
  s->n_chunks = s->chunk ? (s->R + s->chunk - 1) / s->chunk : 1;
}

static uint64_t align_up(uint64_t n) { return (n + 63) / 64 * 64; }

/* Merged dimensions of the input, reduced or kept, alternating. */
typedef struct groups {
  int n;
  int64_t dim[TT_MAX_RANK];
  bool reduced[TT_MAX_RANK];
} groups;

static groups merge_axes(const cg_node *x) {
  const tt_attr *axes = tt_node_attr(x->g, x->n, TT_A_AXES);
  const tt_type *t = cg_in_type(x, 0);
  groups g = {0};
  for (int d = 0; d < t->rank; d++) {
    bool reduced = false;
    for (int i = 0; i < axes->as.ints.n; i++) reduced |= axes->as.ints.v[i] == d;
    if (g.n == 0 || g.reduced[g.n - 1] != reduced) {
      g.dim[g.n] = 1;
      g.reduced[g.n++] = reduced;
    }
    g.dim[g.n - 1] *= t->dim[d];
  }
  if (g.n == 0) g = (groups){1, {1}, {true}};
  return g;
}

static step make_step(const groups *g, int at) {
  step s = {.K0 = 1, .R = at < 0 ? 1 : g->dim[at], .K1 = 1};
  for (int d = 0; d < at; d++) s.K0 *= g->dim[d];
  for (int d = at + 1; d < g->n; d++) s.K1 *= g->dim[d];
  return s;
}

static int last_reduced(const groups *g) {
  int at = g->n - 1;
  while (at >= 0 && !g->reduced[at]) at--;
  return at;
}

bool cg_emit_reduce(cg_node *x) {
  TT_TRY(cg_float_operands(x));
  groups g = merge_axes(x);
  int64_t in = tt_type_count(cg_in_type(x, 0)), out = tt_type_count(cg_out_type(x, 0));
  uint64_t at_work = 0, from = 0;
  for (int level = 0;; level++) {
    char suffix[16];
    snprintf(suffix, sizeof suffix, "%d", level);
    int at = last_reduced(&g);
    step s = make_step(&g, at);
    if (at >= 0) g.dim[at] = 1, g.reduced[at] = false;
    s.op = x->d->op == TT_OP_REDUCE_MAX ? CG_MAX : CG_SUM;
    s.from_input = level == 0;
    s.from = from;
    s.to_output = last_reduced(&g) < 0;
    s.scale = s.to_output && x->d->op == TT_OP_REDUCE_MEAN ? (double)out / (double)in : 1;
    cut(&s);
    s.to = at_work;
    s.part = align_up(s.to + (s.to_output ? 0 : (uint64_t)(s.K0 * s.K1) * 4));
    at_work = align_up(s.part + (uint64_t)(s.K0 * s.n_chunks * s.K1) * 4);
    from = s.to;
    if (s.n_chunks > 1)
      emit_chunked(x, suffix, &s);
    else
      emit_whole(x, suffix, &s);
    if (s.to_output) return true;
  }
}
