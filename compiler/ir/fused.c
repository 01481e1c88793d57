/* mx.fused: what its attributes say, its types and its meaning, which is that of its parts one after the other. */
#include "compiler/ir/fused.h"
#include "compiler/ir/eval_rules.h"
#include "compiler/ir/shape.h"

static const tt_attr *find(int n_attrs, const tt_attr *attrs, tt_attr_id id) {
  for (int i = 0; i < n_attrs; i++)
    if (attrs[i].id == id) return &attrs[i];
  return NULL;
}

static const char *read_steps(const tt_attr *of, const tt_attr *keep, tt_fused *f) {
  f->n_steps = of ? of->as.ints.n : 0;
  if (f->n_steps > TT_FUSED_STEPS) return "attribute 'of' has more than 4 ops";
  if ((keep ? keep->as.ints.n : 0) != f->n_steps) return "attribute 'keep' needs one flag for each op of 'of'";
  for (int i = 0; i < f->n_steps; i++) {
    int64_t op = of->as.ints.v[i];
    unsigned wanted = i ? TT_STEP : TT_STEP | TT_LEAD;
    if (op < 0 || op >= TT_OP_COUNT || !(tt_ops[op].flags & wanted)) return "attribute 'of' has an op that is no step";
    if (keep->as.ints.v[i] != 0 && keep->as.ints.v[i] != 1) return "attribute 'keep' has other numbers than 0 and 1";
    tt_fused_step *s = &f->step[i];
    s->op = (tt_op)op;
    s->keep = keep->as.ints.v[i] == 1;
    s->in = f->n_in;
    s->n_in = tt_ops[op].min_in - (i > 0);
    s->out = f->n_out;
    s->n_out = tt_ops[op].n_out - 1 + s->keep;
    f->n_in += s->n_in;
    f->n_out += s->n_out;
  }
  f->lead = f->n_steps && (tt_ops[f->step[0].op].flags & TT_LEAD);
  f->mx = f->lead && f->step[0].op == TT_OP_MX_GEMM;
  return NULL;
}

/* A product's bias is there if there are operands for it; all others move up. */
static void take_optional(int n_in, tt_fused *f) {
  if (!f->lead || n_in <= f->n_in || f->step[0].n_in == tt_ops[f->step[0].op].max_in) return;
  f->step[0].n_in++;
  f->n_in++;
  for (int i = 1; i < f->n_steps; i++) f->step[i].in++;
  if (f->rng >= 0) f->rng++;
}

const char *tt_fused_read(int n_attrs, const tt_attr *attrs, int n_in, tt_fused *f) {
  const tt_attr *q = find(n_attrs, attrs, TT_A_Q), *q_t = find(n_attrs, attrs, TT_A_QT);
  const tt_attr *colsum = find(n_attrs, attrs, TT_A_COLSUM), *trans_b = find(n_attrs, attrs, TT_A_TRANS_B);
  *f = (tt_fused){.rng = -1, .out_q = -1, .out_t = -1, .colsum = -1};
  const char *fault = read_steps(find(n_attrs, attrs, TT_A_OF), find(n_attrs, attrs, TT_A_KEEP), f);
  if (fault) return fault;
  if (f->n_steps == 0) f->n_in = 1;
  f->lead_cols = f->lead && f->step[0].op == TT_OP_MATMUL && !(trans_b && trans_b->as.i);
  if (q) f->q = q->as.q;
  if (q_t) f->q_t = q_t->as.q;
  const bool quantizes = f->q.on || f->q_t.on;
  if (!quantizes && f->n_steps == 0) return "neither 'q' nor 'q_t' says how to quantize";
  if (!quantizes && !f->step[f->n_steps - 1].keep) return "what the last op makes is neither kept nor quantized";
  if (f->q.on && (fault = tt_qspec_fault(f->q))) return fault;
  if (f->q_t.on && (fault = tt_qspec_fault(f->q_t))) return fault;
  if (f->q.rounding == TT_EMA || f->q_t.rounding == TT_EMA) return "ema rounding is of weights, which nothing computes";
  if (f->q.format >= TT_MX_FORMATS || f->q_t.format >= TT_MX_FORMATS) return "a scale of the whole tensor is known too late";
  if (colsum && colsum->as.i && quantizes && !f->q.on) return "attribute 'colsum' needs 'q', whose columns it sums";
  const tt_attr_id tensors[2] = {TT_A_TENSOR, TT_A_TENSOR_T};
  for (int i = 0; i < 2; i++) {
    tt_qspec spec = i ? f->q_t : f->q;
    if (!spec.on || spec.rounding != TT_STOCHASTIC) continue;
    f->rng = f->n_in;
    if (!find(n_attrs, attrs, tensors[i]))
      return "stochastic rounding needs 'tensor' or 'tensor_t', which keys its random bits";
  }
  f->n_in += f->rng >= 0;
  take_optional(n_in, f);
  if (f->q.on) f->out_q = f->n_out++;
  if (f->q_t.on) f->out_t = f->n_out++;
  if (colsum && colsum->as.i) f->colsum = f->n_out++;
  return f->n_out > TT_MAX_OUT ? "too many results" : NULL;
}

tt_fused tt_fused_of(const tt_graph *g, tt_node n) {
  tt_fused f;
  const char *fault = tt_fused_read(tt_nod(g, n)->n_attrs, tt_nod(g, n)->attrs, tt_nod(g, n)->n_in, &f);
  TT_ASSERT(!fault);
  return f;
}

tt_type tt_fused_type(const tt_graph *g, const tt_fused *f, const tt_value *in) {
  tt_type x = *tt_typ(g, in[0]);
  if (!f->lead) return x;
  x.dim[x.rank - 1] = tt_typ(g, in[1])->dim[f->lead_cols];
  return tt_type_make(TT_F32, x.rank, x.dim);
}

bool tt_fused_leads(const tt_graph *g, tt_node n) {
  const tt_node_data *d = tt_nod(g, n);
  if (!(tt_ops[d->op].flags & TT_LEAD) || tt_node_int(g, n, TT_A_TRANS_A)) return false;
  const tt_type *a = tt_typ(g, d->in[0]), *b = tt_typ(g, d->in[1]);
  return a->dtype == TT_F32 && b->dtype == TT_F32 && a->rank > 1 && b->rank == 2;
}

/* A product whose rows follow from those of operand 0. */
static bool shape_lead(tt_shape_ctx *c) {
  bool mx = c->op == TT_OP_MX_GEMM;
  for (int i = 0; i < 2; i++) TT_TRY(mx ? tt_shape_is_mx(c, i) : tt_shape_f32(c, i, i ? 2 : -1));
  if (mx && tt_shape_in(c, 0)->format >= TT_MX_FORMATS) return tt_shape_mismatch(c, 0, "a matrix in blocks");
  if (!mx && tt_shape_in(c, 0)->rank < 2) return tt_shape_mismatch(c, 0, "rows");
  return !tt_shape_int(c, TT_A_TRANS_A) || tt_shape_fail(c, "attribute 'trans_a' leaves no rows to go by");
}

/* Types of one step; operand 0 of all but the first is `chained`, as every step keeps that. */
static bool shape_step(tt_shape_ctx *c, const tt_fused_step *s, const tt_type *chained) {
  tt_value in[TT_FUSED_STEPS + TT_MAX_OUT];
  tt_type out[TT_MAX_OUT];
  int n = 0;
  if (chained) in[n++] = TT_NONE;
  for (int i = 0; i < s->n_in; i++) in[n++] = c->in[s->in + i];
  tt_shape_ctx step = *c;
  step.op = s->op;
  step.n_in = n;
  step.in = in;
  step.chained = chained;
  step.out = out;
  step.n_out = tt_ops[s->op].n_out;
  bool lead = tt_ops[s->op].flags & TT_LEAD;
  TT_TRY((lead ? shape_lead(&step) : tt_shape_f32(&step, 0, -1)) && tt_shape_table[s->op](&step));
  for (int i = 1; i < n && (tt_ops[s->op].flags & TT_EW); i++) TT_TRY(tt_shape_same(&step, i, 0));
  TT_ASSERT(lead || tt_type_equal(&out[0], tt_shape_in(&step, 0)));
  for (int i = 0; i < s->n_out; i++) c->out[s->out + i] = out[i + !s->keep];
  return true;
}

bool tt_shape_mx_fused(tt_shape_ctx *c) {
  tt_fused f;
  const char *fault = tt_fused_read(c->n_attrs, c->attrs, c->n_in, &f);
  if (fault) return tt_shape_fail(c, "%s", fault);
  if (c->n_in != f.n_in) return tt_shape_fail(c, "%d inputs, expected %d for these ops", c->n_in, f.n_in);
  TT_TRY(f.lead ? shape_step(c, &f.step[0], NULL) : tt_shape_f32(c, 0, -1));
  const tt_type x = tt_fused_type(c->g, &f, c->in);
  for (int i = f.lead; i < f.n_steps; i++) TT_TRY(shape_step(c, &f.step[i], i ? &x : NULL));
  if (f.rng >= 0) {
    const tt_type *rng = tt_shape_in(c, f.rng);
    if (rng->dtype != TT_I64 || rng->rank != 1 || rng->dim[0] != 2) return tt_shape_mismatch(c, f.rng, "rng i64[2]");
  }
  int64_t rows = tt_type_rows(&x), cols = tt_type_last(&x);
  if (f.out_q >= 0) c->out[f.out_q] = tt_type_mx((tt_format)f.q.format, rows, cols);
  if (f.out_t >= 0) c->out[f.out_t] = tt_type_mx((tt_format)f.q_t.format, cols, rows);
  if (f.colsum >= 0) c->out[f.colsum] = tt_type_make(TT_F32, 1, &cols);
  c->n_out = f.n_out;
  return true;
}

/* One step on x; returns its result 0, which is of that type. */
static tt_tensor eval_step(tt_eval_ctx *c, const tt_fused_step *s, const tt_tensor *x, tt_type type) {
  tt_tensor in[TT_FUSED_STEPS + TT_MAX_OUT], out[TT_MAX_OUT];
  tt_eval_ctx step = *c;
  int n = 0;
  if (x) in[n++] = *x;
  for (int i = 0; i < s->n_in; i++) in[n++] = c->in[s->in + i];
  out[0] = tt_tensor_new(c->arena, type);
  for (int i = 0; i < s->n_out; i++) out[i + !s->keep] = c->out[s->out + i];
  step.op = s->op;
  step.in = in;
  step.n_in = n;
  step.out = out;
  step.n_out = tt_ops[s->op].n_out;
  tt_eval_table[s->op](&step);
  tt_tensor_settle(&out[0], c->round_f32);
  if (s->keep) c->out[s->out] = out[0];
  return out[0];
}

static void sum_rows(const tt_tensor *x, tt_tensor *sums) {
  const int64_t n = tt_type_count(&x->type), D = tt_type_last(&x->type);
  for (int64_t i = 0; i < n; i++) sums->d[i % D] += x->d[i];
}

void tt_eval_mx_fused(tt_eval_ctx *c) {
  tt_fused f = tt_fused_of(c->g, c->node);
  tt_tensor x = c->in[0];
  const tt_type type = tt_fused_type(c->g, &f, tt_nod(c->g, c->node)->in);
  for (int i = 0; i < f.n_steps; i++) x = eval_step(c, &f.step[i], i ? &x : NULL, type);
  const tt_tensor *rng = f.rng < 0 ? NULL : &c->in[f.rng];
  if (f.out_q >= 0) tt_eval_quantized(c->arena, f.q, &x, false, rng, tt_eval_int(c, TT_A_TENSOR), &c->out[f.out_q]);
  if (f.out_t >= 0) tt_eval_quantized(c->arena, f.q_t, &x, true, rng, tt_eval_int(c, TT_A_TENSOR_T), &c->out[f.out_t]);
  if (f.colsum >= 0 && f.out_q >= 0) tt_eval_column_sums(c->arena, &c->out[f.out_q], &c->out[f.colsum]);
  if (f.colsum >= 0 && f.out_q < 0) sum_rows(&x, &c->out[f.colsum]);
}
