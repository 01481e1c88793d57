/* The evaluator's driver: tensors, graphs, constant folding. The rules are in the other eval_*.c. */
#include "compiler/ir/eval_rules.h"
#include <math.h>
#include <string.h>

tt_eval_fn *const tt_eval_table[TT_OP_COUNT] = {
#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) [TT_OP_##id] = tt_eval_##eval,
#include "compiler/ir/ops.def"
#undef TT_OP
};

tt_tensor tt_tensor_new(tt_arena *arena, tt_type type) {
  tt_tensor t = {.type = type};
  if (type.dtype == TT_MX)
    t.mx = tt_arena_alloc(arena, tt_type_bytes(&type));
  else
    t.d = TT_NEW_N(arena, double, tt_type_count(&type));
  return t;
}

tt_tensor tt_tensor_from_bytes(tt_arena *arena, tt_type type, const void *bytes) {
  tt_tensor t = tt_tensor_new(arena, type);
  int64_t n = type.dtype == TT_MX ? 0 : tt_type_count(&type);
  for (int64_t i = 0; i < n; i++) {
    switch ((tt_dtype)type.dtype) {
    case TT_F32: t.d[i] = (double)((const float *)bytes)[i]; break;
    case TT_F64: t.d[i] = ((const double *)bytes)[i]; break;
    case TT_I32: t.d[i] = (double)((const int32_t *)bytes)[i]; break;
    case TT_I64: t.d[i] = (double)((const int64_t *)bytes)[i]; break;
    case TT_BOOL: t.d[i] = ((const uint8_t *)bytes)[i] ? 1 : 0; break;
    case TT_MX:
    case TT_DTYPE_COUNT: break;
    }
  }
  if (type.dtype == TT_MX) memcpy(t.mx, bytes, tt_type_bytes(&type));
  return t;
}

/* Saturating: "to the end" in a slice is INT64_MAX, which double rounds up to 2^63 and this returns to itself. */
static int64_t to_int(double x, int64_t min, int64_t max) {
  if (isnan(x)) return 0;
  if (x >= (double)max) return max;
  return x <= (double)min ? min : (int64_t)x;
}

void tt_tensor_to_bytes(const tt_tensor *t, void *bytes) {
  int64_t n = t->type.dtype == TT_MX ? 0 : tt_type_count(&t->type);
  for (int64_t i = 0; i < n; i++) {
    switch ((tt_dtype)t->type.dtype) {
    case TT_F32: ((float *)bytes)[i] = (float)t->d[i]; break;
    case TT_F64: ((double *)bytes)[i] = t->d[i]; break;
    case TT_I32: ((int32_t *)bytes)[i] = (int32_t)to_int(t->d[i], INT32_MIN, INT32_MAX); break;
    case TT_I64: ((int64_t *)bytes)[i] = to_int(t->d[i], INT64_MIN, INT64_MAX); break;
    case TT_BOOL: ((uint8_t *)bytes)[i] = t->d[i] != 0; break;
    case TT_MX:
    case TT_DTYPE_COUNT: break;
    }
  }
  if (t->type.dtype == TT_MX) memcpy(bytes, t->mx, tt_type_bytes(&t->type));
}

tt_tensor tt_var_initial(tt_arena *arena, const tt_module *m, uint32_t var) {
  const tt_var *v = &m->vars.data[var];
  const void *init = v->init;
  if (!init && v->copy_of != TT_NONE) init = m->vars.data[v->copy_of].init;
  return init ? tt_tensor_from_bytes(arena, v->type, init) : tt_tensor_new(arena, v->type);
}

static tt_tensor copy_tensor(tt_arena *arena, const tt_tensor *t) {
  tt_tensor c = tt_tensor_new(arena, t->type);
  if (t->mx)
    memcpy(c.mx, t->mx, tt_type_bytes(&t->type));
  else
    memcpy(c.d, t->d, (size_t)tt_type_count(&t->type) * sizeof *t->d);
  return c;
}

void tt_tensor_settle(tt_tensor *t, bool round_f32) {
  int64_t n = t->type.dtype == TT_MX ? 0 : tt_type_count(&t->type);
  bool integer = t->type.dtype == TT_I32 || t->type.dtype == TT_I64;
  bool rounds = t->type.dtype == TT_F32 && round_f32;
  for (int64_t i = 0; i < n && (integer || rounds); i++) t->d[i] = integer ? trunc(t->d[i]) : (double)(float)t->d[i];
}

/* Runs one node; values[] is indexed by tt_value and holds its operands. */
static void run_node(const tt_graph *g, tt_node n, tt_tensor *values, bool round_f32, tt_arena *arena) {
  const tt_node_data *d = tt_nod(g, n);
  tt_tensor *in = TT_NEW_N(arena, tt_tensor, d->n_in), out[TT_MAX_OUT];
  TT_ASSERT(d->n_out <= TT_MAX_OUT);
  for (int i = 0; i < d->n_in; i++) in[i] = values[d->in[i]];
  for (int i = 0; i < d->n_out; i++) out[i] = tt_tensor_new(arena, *tt_typ(g, d->out[i]));
  tt_eval_ctx c = {.g = g,
                   .node = n,
                   .op = d->op,
                   .arena = arena,
                   .round_f32 = round_f32,
                   .n_in = d->n_in,
                   .n_out = d->n_out,
                   .in = in,
                   .out = out};
  tt_eval_table[d->op](&c);
  for (int i = 0; i < d->n_out; i++) {
    tt_tensor_settle(&out[i], round_f32);
    values[d->out[i]] = out[i];
  }
}

/* Inputs, variables and constants; the nodes' values stay empty. */
static tt_tensor *load_values(const tt_graph *g, const tt_tensor *inputs, const tt_tensor *vars, tt_arena *arena) {
  tt_tensor *values = TT_NEW_N(arena, tt_tensor, g->values.count);
  for (size_t i = 0; i < g->values.count; i++) {
    const tt_value_data *v = &g->values.data[i];
    switch (v->kind) {
    case TT_VALUE_INPUT: values[i] = inputs[v->index]; break;
    case TT_VALUE_VAR: values[i] = vars ? vars[v->index] : tt_var_initial(arena, g->module, v->index); break;
    case TT_VALUE_CONST: values[i] = tt_tensor_from_bytes(arena, v->type, v->data); break;
    case TT_VALUE_NODE: continue;
    }
    TT_ASSERT(tt_type_equal(&values[i].type, &v->type));
  }
  return values;
}

/* Writes the updates into the caller's storage, so that it outlives `arena`. */
static void store_updates(const tt_graph *g, const tt_tensor *values, tt_tensor *vars, tt_arena *arena) {
  size_t n = g->updates.count;
  tt_tensor *fresh = TT_NEW_N(arena, tt_tensor, n);
  /* An update may take another variable's old value: copy all before writing any. */
  for (size_t i = 0; i < n; i++) fresh[i] = copy_tensor(arena, &values[g->updates.data[i].value]);
  for (size_t i = 0; i < n; i++) {
    tt_tensor *to = &vars[g->updates.data[i].var];
    if (to->mx)
      memcpy(to->mx, fresh[i].mx, tt_type_bytes(&to->type));
    else
      memcpy(to->d, fresh[i].d, (size_t)tt_type_count(&to->type) * sizeof *to->d);
  }
}

void tt_eval_graph(const tt_graph *g, const tt_tensor *inputs, tt_tensor *vars, tt_tensor *results, bool round_f32,
                   tt_arena *arena) {
  tt_tensor *values = load_values(g, inputs, vars, arena);
  TT_FOR_NODES(g, n) run_node(g, n, values, round_f32, arena);
  for (size_t i = 0; i < g->results.count && results; i++)
    results[i] = copy_tensor(arena, &values[g->results.data[i].value]);
  if (vars) store_updates(g, values, vars, arena);
}

/* Whether n's outputs are known now. A gather out of range is left for whoever can name it as the user's error. */
static bool foldable(const tt_graph *g, tt_node n, size_t max_bytes) {
  const tt_node_data *d = tt_nod(g, n);
  if (d->dead || (tt_ops[d->op].flags & (TT_STOCH | TT_INPLACE))) return false;
  for (int i = 0; i < d->n_in && d->op != TT_OP_SHAPE_OF; i++)
    if (!tt_const_data(g, d->in[i])) return false;
  size_t bytes = 0;
  for (int i = 0; i < d->n_out; i++) bytes += tt_type_bytes(tt_typ(g, d->out[i]));
  if (bytes > max_bytes) return false;
  if (d->op != TT_OP_GATHER) return true;
  const tt_type *type = tt_typ(g, d->in[1]);
  int64_t dim = tt_typ(g, d->in[0])->dim[tt_node_int(g, n, TT_A_AXIS)];
  for (int64_t i = 0; i < tt_type_count(type); i++) {
    const void *data = tt_const_data(g, d->in[1]);
    int64_t index = type->dtype == TT_I64 ? ((const int64_t *)data)[i] : ((const int32_t *)data)[i];
    if (index < -dim || index >= dim) return false;
  }
  return true;
}

bool tt_fold_node(tt_graph *g, tt_node n, size_t max_bytes) {
  if (!foldable(g, n, max_bytes)) return false;
  tt_arena *arena = tt_arena_create();
  tt_tensor *values = TT_NEW_N(arena, tt_tensor, g->values.count);
  const tt_node_data d = *tt_nod(g, n);
  for (int i = 0; i < d.n_in; i++) {
    const void *data = tt_const_data(g, d.in[i]);
    if (data)
      values[d.in[i]] = tt_tensor_from_bytes(arena, *tt_typ(g, d.in[i]), data);
    else
      values[d.in[i]].type = *tt_typ(g, d.in[i]); /* `shape` reads the type alone */
  }
  run_node(g, n, values, true, arena);
  for (int i = 0; i < d.n_out; i++) {
    const tt_tensor *t = &values[d.out[i]];
    void *bytes = tt_arena_alloc(arena, tt_type_bytes(&t->type));
    tt_tensor_to_bytes(t, bytes);
    tt_graph_replace(g, d.out[i], tt_graph_const(g, t->type, bytes));
  }
  tt_node_remove(g, n);
  tt_arena_destroy(arena);
  return true;
}
