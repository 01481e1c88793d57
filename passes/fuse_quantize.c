/* Makes one sweep of what reads a float tensor only to quantize it, and of the ops that make that tensor; and of a product and
 * the ops behind it that go row by row:
 *
 *   before:  t, dgamma, dbeta = layernorm_grad(dy, x, gamma, mean, rstd)
 *            s = add(r, t)                            also used elsewhere
 *            m = reshape(s)                           the same rows
 *            a = mx.quantize(m, rng){q};  c = mx.colsum(a);  b = mx.quantize(m, rng){transpose=1}
 *   after:   dgamma, dbeta, s, a, b, c = mx.fused(dy, x, gamma, mean, rstd, r, rng)
 *                                         {of=[layernorm_grad,add], keep=[0,1], q, q_t, colsum=1}
 *
 *   before:  p = matmul(dy, w); s = gelu_grad(p, x); db = reduce_sum(s) over all rows; dw = matmul(s, ...)
 *   after:   s, db = mx.fused(dy, w, x) {of=[matmul,gelu_grad], keep=[0,1], colsum=1}; dw = matmul(s, ...)
 *
 * A float tensor without another use (t here, and what GELU or a norm hands to a linear) is never stored. Ops say by a flag
 * whether they can be a step; the chain runs upwards along operand 0. It is computed where its last op was, and quantizers
 * move up to there. Where the tensor stays alive behind a quantizer anyway, that one is moved only a short way: up from the
 * backward half into the forward one its result would hold memory for longer than the saved read is worth. Where the tensor
 * dies, a quarter of its memory at most takes its place. Weights are left alone: they stay, and their forms are wanted far
 * apart.
 *
 * No bit changes: mx.fused is its parts one after the other. Runs late, as other passes do not look into mx.fused. */
#include "compiler/ir/fused.h"
#include "passes/pass.h"
#include <string.h>

/* NEAR: nodes in execution order. LEAD_ROWS: of a product that is cut by rows alone, enough for 16 threads, and not fewer than
 * reduce_sum adds by runs (RUNS_MIN in emit_reduce.c): else sums over the rows would depend on the fusion. Of a product wider
 * than LEAD_WIDTH a task's rows would fill a core's cache, unless its reduction is short enough to be taken in one piece
 * (LEAD_DEPTH), when it is made by spans of columns. */
enum { NEAR = 8, LEAD_ROWS = 2048, LEAD_WIDTH = 1024, LEAD_DEPTH = 768, MAX_OPERANDS = 32, MAX_ATTRS = 32 };

typedef struct fuser {
  tt_graph *g;
  tt_diag *diag;
  int64_t *place;  /* by node: position in execution order */
  tt_value *root;  /* by value: what it has the rows of, through reshapes; itself where it is no view */
} fuser;

typedef struct group {
  tt_value x;                  /* what is quantized, or the last op makes where nothing is */
  tt_node along, across, sums; /* the quantizers and mx.colsum of the first, or reduce_sum of x; TT_NONE where absent */
  int n_steps;
  tt_node step[TT_FUSED_STEPS]; /* the last op first */
  bool keep[TT_FUSED_STEPS];
  int chained[TT_FUSED_STEPS]; /* the operand that the step before hands on: 0, or 1 of a commutative op */
  bool lead;                   /* the first op, last here, is a product */
} group;

static bool is_view(const tt_graph *g, tt_node n) {
  const tt_node_data *d = tt_nod(g, n);
  if (!(tt_ops[d->op].flags & TT_ALIAS)) return false;
  const tt_type *from = tt_typ(g, d->in[0]), *to = tt_typ(g, d->out[0]);
  return from->rank > 0 && to->rank > 0 && tt_type_last(from) == tt_type_last(to);
}

static fuser open_fuser(tt_graph *g, tt_pass_ctx *ctx) {
  fuser f = {g, ctx->diag, TT_NEW_N(ctx->scratch, int64_t, g->nodes.count + 1),
             TT_NEW_N(ctx->scratch, tt_value, g->values.count + 1)};
  for (size_t v = 0; v < g->values.count; v++) f.root[v] = (tt_value)v;
  int64_t at = 0;
  TT_FOR_NODES(g, n) {
    f.place[n] = at++;
    if (is_view(g, n)) f.root[tt_nod(g, n)->out[0]] = f.root[tt_nod(g, n)->in[0]];
  }
  return f;
}

static bool in_group(const group *p, tt_node n) {
  for (int i = 0; i < p->n_steps; i++)
    if (p->step[i] == n) return true;
  return n == p->along || n == p->across;
}

/* Where v and its views are used by nodes outside of the group: first and last place; false where they are not. Views count
 * where they are `counted`. */
static bool other_uses(const fuser *f, const group *p, tt_value v, bool counted, int64_t *first, int64_t *last) {
  const tt_graph *g = f->g;
  *first = INT64_MAX;
  *last = -1;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (in_group(p, n) || (!counted && is_view(g, n))) continue;
    for (int i = 0; i < d->n_in; i++) {
      if (f->root[d->in[i]] != v) continue;
      if (f->place[n] < *first) *first = f->place[n];
      *last = f->place[n];
    }
  }
  for (size_t i = 0; i < g->results.count; i++)
    if (f->root[g->results.data[i].value] == v) *last = INT64_MAX;
  for (size_t i = 0; i < g->updates.count; i++)
    if (f->root[g->updates.data[i].value] == v) *last = INT64_MAX;
  return *last >= 0;
}

/* The node that makes v as its result 0, if it can be a step at all. */
static tt_node step_of(const fuser *f, tt_value v) {
  const tt_graph *g = f->g;
  const tt_value_data *value = tt_val(g, v);
  if (value->kind != TT_VALUE_NODE || value->index != 0) return TT_NONE;
  const tt_node_data *d = tt_nod(g, value->def);
  const unsigned flags = tt_ops[d->op].flags;
  if (!(flags & TT_STEP) || value->type.dtype != TT_F32 || value->type.rank == 0) return TT_NONE;
  for (int i = 0; i < ((flags & TT_EW) ? d->n_in : 1); i++)
    if (!tt_type_equal(tt_typ(g, d->in[i]), &value->type)) return TT_NONE;
  return value->def;
}

static bool attrs_clash(const fuser *f, const group *p, tt_node n) {
  const tt_node_data *d = tt_nod(f->g, n);
  for (int i = 0; i < d->n_attrs; i++)
    for (int k = 0; k < p->n_steps; k++)
      if (tt_node_attr(f->g, p->step[k], d->attrs[i].id)) return true;
  return false;
}

/* Whether n's operands are still what they were where the chain's last op is, and that is near. */
static bool operands_stay(const fuser *f, const group *p, tt_node n) {
  const tt_graph *g = f->g;
  if (f->place[p->step[0]] - f->place[n] > NEAR) return false;
  for (tt_node between = n; between != p->step[0]; between = tt_nod(g, between)->next)
    if (tt_ops[tt_nod(g, between)->op].flags & TT_INPLACE) return false;
  return true;
}

/* Whether n may be computed only where the chain's last op is: nothing between needs its results either. */
static bool may_sink(const fuser *f, const group *p, tt_node n) {
  const tt_node_data *d = tt_nod(f->g, n);
  for (int i = 0; i < d->n_out; i++) {
    int64_t first, last;
    other_uses(f, p, d->out[i], true, &first, &last);
    if (first < f->place[p->step[0]]) return false;
  }
  return operands_stay(f, p, n);
}

/* Whether a step reads a result of n by another operand than the one that is chained: n outside of the group makes that. */
static bool read_aside(const fuser *f, const group *p, tt_node n) {
  for (int i = 0; i < p->n_steps; i++) {
    const tt_node_data *d = tt_nod(f->g, p->step[i]);
    for (int k = 0; k < d->n_in; k++) {
      const tt_value_data *root = tt_val(f->g, f->root[d->in[k]]);
      if (k != p->chained[i] && root->kind == TT_VALUE_NODE && root->def == n) return true;
    }
  }
  return false;
}

/* Room for results: two quantized forms and column sums come on top. */
static bool has_room(const fuser *f, const group *p, tt_node n) {
  int results = 4;
  for (int i = 0; i < p->n_steps; i++) results += tt_nod(f->g, p->step[i])->n_out - !p->keep[i];
  return results + tt_nod(f->g, n)->n_out - 1 <= TT_MAX_OUT;
}

/* Whether n may be the step above the last one found. */
static bool can_step(const fuser *f, const group *p, tt_node n) {
  return n != TT_NONE && !read_aside(f, p, n) && !attrs_clash(f, p, n) && may_sink(f, p, n) && has_room(f, p, n);
}

static void add_step(const fuser *f, group *p, tt_node n) {
  int64_t first, last;
  p->step[p->n_steps] = n;
  p->chained[p->n_steps++] = 0;
  p->keep[p->n_steps - 1] = other_uses(f, p, tt_nod(f->g, n)->out[0], false, &first, &last);
}

/* Whether n is a product of mx matrices, of which nobody else reads v, or of float32 ones whose rows can be made one by one. */
static bool can_lead(const fuser *f, const group *p, tt_node n, tt_value v) {
  const tt_graph *g = f->g;
  const tt_node_data *d = tt_nod(g, n);
  int64_t first, last;
  if (!other_uses(f, p, v, false, &first, &last)) {
    if (p->n_steps && !operands_stay(f, p, n)) return false;
  } else if (!tt_fused_leads(g, n) || p->n_steps == 0 || !may_sink(f, p, n) || !has_room(f, p, n)) {
    return false;
  }
  if (tt_fused_leads(g, n)) return p->n_steps > 0;
  for (int i = 0; i < 2; i++)
    if (tt_typ(g, d->in[i])->dtype != TT_MX || tt_typ(g, d->in[i])->format >= TT_MX_FORMATS) return false;
  return true;
}

/* The product that makes the rows of v, if it is worth to be made in pieces. */
static tt_node lead_of(const fuser *f, const group *p, tt_value v) {
  const tt_graph *g = f->g;
  v = f->root[v];
  if (tt_val(g, v)->kind != TT_VALUE_NODE || p->n_steps == TT_FUSED_STEPS) return TT_NONE;
  const tt_node n = tt_val(g, v)->def;
  const tt_node_data *d = tt_nod(g, n);
  if (!(tt_ops[d->op].flags & TT_LEAD) || tt_type_rows(tt_typ(g, v)) < LEAD_ROWS) return TT_NONE;
  if (tt_type_last(tt_typ(g, v)) > LEAD_WIDTH && tt_type_last(tt_typ(g, d->in[0])) > LEAD_DEPTH) return TT_NONE;
  return !read_aside(f, p, n) && !attrs_clash(f, p, n) && can_lead(f, p, n, v) ? n : TT_NONE;
}

/* The product in front of the chain: behind operand 0 of the last step found, or operand 1 of a commutative one. */
static void find_lead(const fuser *f, group *p) {
  const tt_node_data *d = p->n_steps ? tt_nod(f->g, p->step[p->n_steps - 1]) : NULL;
  int ways = d && (tt_ops[d->op].flags & TT_COMM) ? 2 : 1;
  for (int way = 0; way < ways; way++) {
    if (d) p->chained[p->n_steps - 1] = way;
    tt_node n = lead_of(f, p, d ? d->in[way] : p->x);
    if (n == TT_NONE) continue;
    add_step(f, p, n);
    p->lead = true;
    return;
  }
}

/* The chain of ops that ends in x, as far up as it goes. */
static void find_steps(const fuser *f, group *p) {
  tt_node n = step_of(f, p->x);
  while (n != TT_NONE) {
    add_step(f, p, n);
    if (p->n_steps == TT_FUSED_STEPS) return;
    const tt_node_data *d = tt_nod(f->g, n);
    int ways = (tt_ops[d->op].flags & TT_COMM) ? 2 : 1, *way = &p->chained[p->n_steps - 1];
    while (*way < ways && !can_step(f, p, step_of(f, d->in[*way]))) ++*way;
    n = *way == ways ? TT_NONE : step_of(f, d->in[*way]);
  }
  find_lead(f, p);
}

/* Quantizers that the sweep can take: of values that are computed, block by block, with what is known there. */
static bool takes(const fuser *f, tt_node n) {
  const tt_node_data *d = tt_nod(f->g, n);
  tt_qspec q = tt_node_qspec(f->g, n, TT_A_Q);
  return d->op == TT_OP_MX_QUANTIZE && q.rounding != TT_EMA && q.format < TT_MX_FORMATS &&
         tt_val(f->g, f->root[d->in[0]])->kind != TT_VALUE_VAR;
}

/* Its operand rng; TT_NONE. */
static tt_value rng_of(const fuser *f, tt_node quantizer) {
  return quantizer == TT_NONE || tt_nod(f->g, quantizer)->n_in < 2 ? TT_NONE : tt_nod(f->g, quantizer)->in[1];
}

/* One for each form. Both draw from the group's only rng, if they do. */
static void find_quantizers(const fuser *f, group *p) {
  TT_FOR_NODES(f->g, n) {
    if (!takes(f, n) || f->root[tt_nod(f->g, n)->in[0]] != p->x) continue;
    bool across = tt_node_int(f->g, n, TT_A_TRANSPOSED);
    tt_node *slot = across ? &p->across : &p->along;
    tt_value mine = rng_of(f, n), other = rng_of(f, across ? p->along : p->across);
    if (*slot == TT_NONE && (mine == TT_NONE || other == TT_NONE || mine == other)) *slot = n;
  }
}

/* Where the group is computed: at its last op, or at the first quantizer. */
static tt_node home_of(const fuser *f, const group *p) {
  if (p->n_steps) return p->step[0];
  if (p->along == TT_NONE) return p->across;
  return p->across == TT_NONE || f->place[p->along] < f->place[p->across] ? p->along : p->across;
}

/* Leaves a quantizer out that would have to be moved far without its operand dying by it. */
static void drop_if_far(const fuser *f, group *p, tt_node *quantizer) {
  int64_t first, last;
  if (*quantizer == TT_NONE || f->place[*quantizer] - f->place[home_of(f, p)] <= NEAR) return;
  other_uses(f, p, p->x, false, &first, &last);
  if (last > f->place[*quantizer]) *quantizer = TT_NONE;
}

/* A node that sums v over all of its rows: by runs, as the sweep does, which those of a single column are not. */
static bool sums_rows_of(const fuser *f, tt_node n, tt_value v) {
  const tt_node_data *d = tt_nod(f->g, n);
  if (d->op != TT_OP_REDUCE_SUM || f->root[d->in[0]] != v) return false;
  const tt_attr *axes = tt_node_attr(f->g, n, TT_A_AXES);
  int rank = tt_typ(f->g, d->in[0])->rank;
  return rank > 1 && tt_type_last(tt_typ(f->g, d->in[0])) > 1 && axes->as.ints.n == rank - 1 &&
         axes->as.ints.v[rank - 2] == rank - 2;
}

static void find_row_sums(const fuser *f, group *p) {
  TT_FOR_NODES(f->g, n)
  if (p->sums == TT_NONE && sums_rows_of(f, n, p->x)) p->sums = n;
}

static void find_sums(const fuser *f, group *p) {
  if (p->along == TT_NONE) return;
  const tt_value quantized = tt_nod(f->g, p->along)->out[0];
  TT_FOR_NODES(f->g, n)
  if (p->sums == TT_NONE && tt_nod(f->g, n)->op == TT_OP_MX_COLSUM && tt_nod(f->g, n)->in[0] == quantized) p->sums = n;
}

/* The group around x; false where there is nothing to gain. */
static bool find_group(const fuser *f, tt_value x, group *p) {
  *p = (group){.x = x, .along = TT_NONE, .across = TT_NONE, .sums = TT_NONE};
  find_quantizers(f, p);
  find_steps(f, p);
  drop_if_far(f, p, &p->along);
  drop_if_far(f, p, &p->across);
  if (p->n_steps) {
    int64_t first, last;
    p->keep[0] = other_uses(f, p, x, false, &first, &last);
  }
  find_sums(f, p);
  int quantizers = (p->along != TT_NONE) + (p->across != TT_NONE);
  if (quantizers == 0) {
    p->keep[0] = true;
    find_row_sums(f, p);
    return p->lead && p->n_steps > 1;
  }
  return quantizers > 0 && (p->n_steps > 0 || quantizers == 2 || p->sums != TT_NONE);
}

typedef struct parts {
  tt_value in[MAX_OPERANDS];
  tt_attr attr[MAX_ATTRS];
  int n_in, n_attrs;
} parts;

/* v with another type of as many elements, before node `at`. */
static tt_value seen_as(tt_graph *g, tt_value v, const tt_type *type, tt_node at) {
  if (tt_type_equal(tt_typ(g, v), type)) return v;
  tt_builder b = {.g = g, .at = at, .loc = tt_nod(g, at)->loc};
  tt_attr shape = tt_attr_ints(g, TT_A_SHAPE, type->rank, type->dim);
  return tt_build1(&b, TT_OP_RESHAPE, v, 1, &shape);
}

/* Behind a product, which has no batch dimensions, operands are matrices as it is. */
static tt_value operand_of(const fuser *f, const group *p, tt_node n, int k) {
  tt_graph *g = f->g;
  const tt_node_data *d = tt_nod(g, n);
  if (!p->lead || !tt_type_equal(tt_typ(g, d->in[k]), tt_typ(g, d->out[0]))) return d->in[k];
  const tt_value product = tt_nod(g, p->step[p->n_steps - 1])->out[0];
  return seen_as(g, d->in[k], tt_typ(g, product), p->step[0]);
}

static void put_step(const fuser *f, const group *p, int i, parts *q) {
  const int n_in = tt_nod(f->g, p->step[i])->n_in;
  bool first = i == p->n_steps - 1;
  for (int k = 0; k < n_in; k++)
    if (first || k != p->chained[i]) q->in[q->n_in++] = operand_of(f, p, p->step[i], k);
  const tt_node_data *d = tt_nod(f->g, p->step[i]);
  for (int k = 0; k < d->n_attrs; k++) q->attr[q->n_attrs++] = d->attrs[k];
}

static void put_quantizer(const fuser *f, tt_node n, tt_attr_id spec, tt_attr_id tensor, tt_value *rng, parts *q) {
  if (n == TT_NONE) return;
  q->attr[q->n_attrs++] = tt_attr_qspec(spec, tt_node_qspec(f->g, n, TT_A_Q));
  if (rng_of(f, n) == TT_NONE) return;
  *rng = rng_of(f, n);
  q->attr[q->n_attrs++] = tt_attr_int(tensor, tt_node_int(f->g, n, TT_A_TENSOR));
}

static parts take_parts(const fuser *f, const group *p, tt_node home) {
  parts q = {0};
  tt_value rng = TT_NONE;
  int64_t of[TT_FUSED_STEPS], keep[TT_FUSED_STEPS];
  for (int i = p->n_steps - 1; i >= 0; i--) {
    of[p->n_steps - 1 - i] = tt_nod(f->g, p->step[i])->op;
    keep[p->n_steps - 1 - i] = p->keep[i];
    put_step(f, p, i, &q);
  }
  if (p->n_steps) {
    q.attr[q.n_attrs++] = tt_attr_ints(f->g, TT_A_OF, p->n_steps, of);
    q.attr[q.n_attrs++] = tt_attr_ints(f->g, TT_A_KEEP, p->n_steps, keep);
  } else {
    q.in[q.n_in++] = tt_nod(f->g, home)->in[0];
  }
  put_quantizer(f, p->along, TT_A_Q, TT_A_TENSOR, &rng, &q);
  put_quantizer(f, p->across, TT_A_QT, TT_A_TENSOR_T, &rng, &q);
  if (p->sums != TT_NONE) q.attr[q.n_attrs++] = tt_attr_int(TT_A_COLSUM, 1);
  if (rng != TT_NONE) q.in[q.n_in++] = rng;
  return q;
}

static void hand_over(tt_graph *g, tt_value old, tt_value made, tt_node home) {
  made = seen_as(g, made, tt_typ(g, old), home);
  tt_val(g, made)->name = tt_val(g, old)->name;
  tt_graph_replace(g, old, made);
}

static bool rewrite(const fuser *f, const group *p) {
  tt_graph *g = f->g;
  tt_node home = home_of(f, p);
  parts q = take_parts(f, p, home);
  TT_ASSERT(q.n_in <= MAX_OPERANDS && q.n_attrs <= MAX_ATTRS);
  tt_builder b = {.g = g, .diag = f->diag, .at = home, .loc = tt_nod(g, home)->loc};
  tt_node made = tt_build(&b, TT_OP_MX_FUSED, q.n_in, q.in, q.n_attrs, q.attr);
  if (made == TT_NONE) return false;
  tt_value outs[TT_MAX_OUT], *out = outs;
  memcpy(outs, tt_nod(g, made)->out, sizeof *outs * (size_t)tt_nod(g, made)->n_out);
  for (int i = p->n_steps - 1; i >= 0; i--) {
    const int n_out = tt_nod(g, p->step[i])->n_out;
    for (int k = !p->keep[i]; k < n_out; k++) hand_over(g, tt_nod(g, p->step[i])->out[k], *out++, home);
  }
  tt_node rest[3] = {p->along, p->across, p->sums};
  for (int i = 0; i < 3; i++)
    if (rest[i] != TT_NONE) hand_over(g, tt_nod(g, rest[i])->out[0], *out++, home);
  tt_graph_sweep(g);
  return true;
}

static bool find_any(const fuser *f, group *p) {
  TT_FOR_NODES(f->g, n)
  if (takes(f, n) && find_group(f, f->root[tt_nod(f->g, n)->in[0]], p)) return true;
  TT_FOR_NODES_REVERSE(f->g, n)
  if (step_of(f, tt_nod(f->g, n)->out[0]) == n && find_group(f, tt_nod(f->g, n)->out[0], p)) return true;
  return false;
}

tt_pass_result tt_fuse_quantize(tt_graph *g, tt_pass_ctx *ctx) {
  group p;
  bool changed = false;
  for (;;) {
    fuser f = open_fuser(g, ctx);
    if (!find_any(&f, &p)) return changed ? TT_PASS_CHANGED : TT_PASS_UNCHANGED;
    if (!rewrite(&f, &p)) return TT_PASS_FAILED;
    changed = true;
  }
}
