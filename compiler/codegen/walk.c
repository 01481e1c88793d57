/* See walk.h. The innermost merged dimension is the vector loop. Tasks are chunks of it where it is long, groups of rows
 * where it is short. Rows of a few vectors are walked in runs along the next dimension: to find where a row begins takes a
 * division for each dimension, longer than to copy it. */
#include <string.h>
#include "compiler/codegen/walk.h"

cg_walk cg_walk_over(const tt_type *shape, int64_t cost) {
  cg_walk w = {.rank = shape->rank, .cost = cost};
  memcpy(w.dim, shape->dim, sizeof w.dim);
  if (w.rank == 0) w.dim[w.rank++] = 1;
  return w;
}

static void add_operand(cg_walk *w, int slot, const tt_type *t) {
  int64_t stride = 1;
  for (int i = t->rank - 1, d = w->rank - 1; i >= 0; i--, d--) {
    w->stride[slot][d] = t->dim[i] == 1 ? 0 : stride;
    stride *= t->dim[i];
  }
}

void cg_walk_in(cg_walk *w, const tt_type *t) {
  TT_ASSERT(w->n_out == 0 && w->n_in < CG_WALK_IN);
  add_operand(w, w->n_in++, t);
}

void cg_walk_out(cg_walk *w, const tt_type *t) {
  TT_ASSERT(w->n_out < CG_WALK_OUT);
  add_operand(w, w->n_in + w->n_out++, t);
}

static void add_strided(cg_walk *w, int slot, const int64_t *stride, int64_t offset) {
  for (int d = 0; d < w->rank; d++) w->stride[slot][d] = stride[d];
  w->offset[slot] = offset;
}

void cg_walk_in_strided(cg_walk *w, const int64_t *stride, int64_t offset) {
  TT_ASSERT(w->n_out == 0 && w->n_in < CG_WALK_IN);
  add_strided(w, w->n_in++, stride, offset);
}

void cg_walk_out_strided(cg_walk *w, const int64_t *stride, int64_t offset) {
  TT_ASSERT(w->n_out < CG_WALK_OUT);
  add_strided(w, w->n_in + w->n_out++, stride, offset);
}

static bool mergeable(const cg_walk *w, int outer, int inner) {
  for (int k = 0; k < w->n_in + w->n_out; k++)
    if (w->stride[k][outer] != w->stride[k][inner] * w->dim[inner]) return false;
  return true;
}

static void move_dim(cg_walk *w, int to, int from) {
  w->dim[to] = w->dim[from];
  for (int k = 0; k < w->n_in + w->n_out; k++) w->stride[k][to] = w->stride[k][from];
}

void cg_walk_done(cg_walk *w) {
  int rank = 0;
  for (int d = 0; d < w->rank; d++) {
    if (w->dim[d] == 1) continue;
    move_dim(w, rank, d);
    if (rank > 0 && mergeable(w, rank - 1, rank)) {
      int64_t both = w->dim[rank - 1] * w->dim[rank];
      move_dim(w, rank - 1, rank);
      w->dim[rank - 1] = both;
    } else {
      rank++;
    }
  }
  if (rank == 0) { /* a single element */
    w->dim[0] = 1;
    for (int k = 0; k < w->n_in + w->n_out; k++) w->stride[k][0] = 1;
    rank = 1;
  }
  w->rank = rank;
}

/* How tasks cut the walk: `rows` outer positions a task over the whole inner dimension, or (rows 0) chunks of it. */
typedef struct cut {
  int64_t outer, inner, rows, chunk, n_chunks;
  int64_t run; /* rows at a time, of which a task has a multiple; 1: each by itself */
} cut;

enum { SHORT_ROW = 64 }; /* elements */

static cut cut_walk(const cg_walk *w) {
  cut t = {1, w->dim[w->rank - 1], 0, 0, 1, 1};
  for (int d = 0; d < w->rank - 1; d++) t.outer *= w->dim[d];
  int64_t grain = cg_grain(t.outer * t.inner, w->cost, 64);
  if (t.inner > grain) {
    t.chunk = grain;
    t.n_chunks = (t.inner + grain - 1) / grain;
  } else {
    t.rows = t.inner > 0 ? grain / t.inner : 1;
    int64_t run = w->rank > 1 ? w->dim[w->rank - 2] : 1;
    if (run > 1 && t.inner <= SHORT_ROW && t.rows >= run) t.rows -= t.rows % run, t.run = run;
  }
  return t;
}

int64_t cg_walk_tasks(const cg_walk *w) {
  cut t = cut_walk(w);
  return t.rows ? (t.outer + t.rows - 1) / t.rows : t.outer * t.n_chunks;
}

typedef struct row_ctx {
  cg_ctx *c;
  const cg_walk *w;
  cg_val base[CG_WALK_OPS]; /* at the row's start */
  cg_val splat[CG_WALK_IN]; /* operands constant along the row */
  cg_walk_fn *body;
  void *u;
} row_ctx;

/* Addresses of lanes i .. i + W - 1 at a stride, for gathers and scatters. */
static cg_val lane_addresses(cg_ctx *c, cg_val base, cg_val i, int64_t stride) {
  cg_val lanes = cg_add(c, cg_iota(c, c->i64, c->W), cg_splat(c, i, c->W));
  return cg_gep(c, c->f32, base, cg_mul(c, lanes, cg_splat(c, cg_i64(c, stride), c->W)));
}

static cg_val all_lanes(cg_ctx *c, cg_val n) { return cg_lane_mask(c, n ? n : cg_i64(c, c->W)); }

static cg_val load_lanes(row_ctx *r, int k, cg_val i, cg_val n) {
  cg_ctx *c = r->c;
  int64_t stride = r->w->stride[k][r->w->rank - 1];
  char name[48];
  if (r->splat[k]) return r->splat[k];
  if (stride == 1) return cg_load_n(c, cg_gep(c, c->f32, r->base[k], i), n, cg_vf(c, 1));
  snprintf(name, sizeof name, "llvm.masked.gather.v%df32.v%dp0", c->W, c->W);
  cg_val args[4] = {lane_addresses(c, r->base[k], i, stride), cg_i32(c, 4), all_lanes(c, n), cg_vf(c, 1)};
  return cg_call(c, name, c->vf, 4, args);
}

static void store_lanes(row_ctx *r, int k, cg_val v, cg_val i, cg_val n) {
  cg_ctx *c = r->c;
  int64_t stride = r->w->stride[k][r->w->rank - 1];
  char name[48];
  if (stride == 1) {
    cg_store_n(c, v, cg_gep(c, c->f32, r->base[k], i), n);
    return;
  }
  snprintf(name, sizeof name, "llvm.masked.scatter.v%df32.v%dp0", c->W, c->W);
  cg_val args[4] = {v, lane_addresses(c, r->base[k], i, stride), cg_i32(c, 4), all_lanes(c, n)};
  cg_call(c, name, LLVMVoidTypeInContext(c->llvm), 4, args);
}

static void vector_body(void *u, cg_val i, cg_val n) {
  row_ctx *r = u;
  cg_val in[CG_WALK_IN], out[CG_WALK_OUT];
  for (int k = 0; k < r->w->n_in; k++) in[k] = load_lanes(r, k, i, n);
  r->body(r->c, r->u, in, out);
  for (int k = 0; k < r->w->n_out; k++) store_lanes(r, r->w->n_in + k, out[k], i, n);
}

/* Pointers to position `row` (i64) of the first `rank` dimensions of every operand: its digits in mixed radix, times strides. */
static void bases(row_ctx *r, const cg_val *base, cg_val row, int rank) {
  cg_ctx *c = r->c;
  const cg_walk *w = r->w;
  cg_val at[CG_WALK_OPS];
  for (int k = 0; k < w->n_in + w->n_out; k++) at[k] = cg_i64(c, w->offset[k]);
  for (int d = rank - 1; d >= 0; d--) {
    cg_val digit = d == 0 ? row : cg_rem(c, row, cg_i64(c, w->dim[d]));
    for (int k = 0; k < w->n_in + w->n_out; k++)
      if (w->stride[k][d]) at[k] = cg_add(c, at[k], cg_mul(c, digit, cg_i64(c, w->stride[k][d])));
    if (d > 0) row = cg_div(c, row, cg_i64(c, w->dim[d]));
  }
  for (int k = 0; k < w->n_in + w->n_out; k++) r->base[k] = cg_gep(c, c->f32, base[k], at[k]);
}

static void walk_row(row_ctx *r, cg_val begin, cg_val end) {
  cg_ctx *c = r->c;
  for (int k = 0; k < r->w->n_in; k++)
    r->splat[k] = r->w->stride[k][r->w->rank - 1] ? NULL : cg_splat(c, cg_load(c, c->f32, r->base[k], 4), c->W);
  cg_each(c, begin, end, vector_body, r);
}

/* Rows [first, first + run), which only the innermost but one dimension tells apart. */
static void walk_run(row_ctx *r, const cg_val *base, cg_val first, const cut *t) {
  cg_ctx *c = r->c;
  int last = r->w->rank - 2, n = r->w->n_in + r->w->n_out;
  bases(r, base, cg_div(c, first, cg_i64(c, t->run)), last);
  cg_val start[CG_WALK_OPS];
  memcpy(start, r->base, sizeof start);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, t->run), 1, 0, NULL);
  for (int k = 0; k < n; k++) r->base[k] = cg_gep(c, c->f32, start[k], cg_mul(c, l.i, cg_i64(c, r->w->stride[k][last])));
  walk_row(r, cg_i64(c, 0), cg_i64(c, t->inner));
  cg_loop_end(&l, NULL);
}

void cg_walk_emit(cg_kernel *k, const cg_walk *w, const cg_val *base, cg_walk_fn *body, void *u) {
  cg_ctx *c = k->c;
  cut t = cut_walk(w);
  row_ctx r = {.c = c, .w = w, .body = body, .u = u};
  if (t.rows) {
    cg_range rows = cg_task_range(k, t.outer, t.rows);
    cg_loop l;
    cg_loop_begin(c, &l, rows.begin, rows.end, t.run, 0, NULL);
    if (t.run > 1) {
      walk_run(&r, base, l.i, &t);
    } else {
      bases(&r, base, l.i, w->rank - 1);
      walk_row(&r, cg_i64(c, 0), cg_i64(c, t.inner));
    }
    cg_loop_end(&l, NULL);
    return;
  }
  cg_val chunks = cg_i64(c, t.n_chunks);
  cg_val begin = cg_mul(c, cg_rem(c, k->task, chunks), cg_i64(c, t.chunk));
  bases(&r, base, cg_div(c, k->task, chunks), w->rank - 1);
  cg_val end = cg_add(c, begin, cg_i64(c, t.chunk));
  if (t.inner % t.chunk) end = cg_min(c, end, cg_i64(c, t.inner));
  walk_row(&r, begin, end);
}
