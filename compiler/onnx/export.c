/* Any graph of ours as an ONNX file, for viewers and for running the forward part elsewhere: standard operators of opset 20
 * where one means the same, operators of domain "tetrac" with our attributes otherwise.
 *
 *   parameters with values -> initializers; other variables -> inputs; updates -> outputs "update:NAME"
 *   linear(x,w,b) -> Gemm for matrices, else Transpose, MatMul, Add;  matmul {trans} -> Transposes in front of MatMul
 *   shapes and axes, attributes here -> initializers there */
#include <string.h>
#include "compiler/onnx/model.h"
#include "compiler/onnx/writer.h"

enum { OPSET = 20 };

typedef struct exporter {
  const tt_graph *g;
  tt_arena *arena;
  tt_onnx_writer *w;
  const char **name; /* of each value */
  names taken;
  uint32_t *uses;
  int fresh; /* numbers names of values that exist only in the file */
} exporter;

static const char *unique(exporter *e, const char *wish) {
  const char *name = wish;
  for (int k = 2; names_find(&e->taken, name, NULL); k++) name = tt_arena_printf(e->arena, "%s#%d", wish, k);
  names_set(&e->taken, e->arena, name, 1);
  return name;
}

static const char *fresh(exporter *e, const char *what) {
  return unique(e, tt_arena_printf(e->arena, "%s_%d", what, e->fresh++));
}

static const char *ints_tensor(exporter *e, const char *what, int n, const int64_t *v) {
  tt_type type = tt_type_make(TT_I64, 1, (int64_t[]){n});
  const char *name = fresh(e, what);
  tt_onnx_write_initializer(e->w, name, &type, tt_arena_copy(e->arena, v, (size_t)n * sizeof *v));
  return name;
}

/* The node's own name where it has one, made unique: several nodes may come from one ONNX node. */
static void write_node(exporter *e, tt_node n, const char *domain, const char *op, int n_in, const char *const *in,
                       int n_out, const char *const *out) {
  const char *from = tt_nod(e->g, n)->loc.node;
  const char *name = from ? unique(e, tt_arena_printf(e->arena, "%s:%s", from, op)) : fresh(e, op);
  tt_onnx_write_node(e->w, domain, op, name, n_in, in, n_out, out);
}

static const char *in_name(const exporter *e, tt_node n, int k) { return e->name[tt_nod(e->g, n)->in[k]]; }
static const char *out_name(const exporter *e, tt_node n, int k) { return e->name[tt_nod(e->g, n)->out[k]]; }

/* All operands and results, under a standard or one of our own names. */
static void write_all(exporter *e, tt_node n, const char *domain, const char *op) {
  const tt_node_data *d = tt_nod(e->g, n);
  const char **in = TT_NEW_N(e->arena, const char *, d->n_in + 1), **out = TT_NEW_N(e->arena, const char *, d->n_out + 1);
  for (int k = 0; k < d->n_in; k++) in[k] = e->name[d->in[k]];
  for (int k = 0; k < d->n_out; k++) out[k] = e->name[d->out[k]];
  write_node(e, n, domain, op, d->n_in, in, d->n_out, out);
}

/* ---- standard operators ---- */

static void write_plain(exporter *e, tt_node n, const char *op) { write_all(e, n, NULL, op); }

static void write_gelu(exporter *e, tt_node n, const char *op) {
  write_plain(e, n, op);
  tt_onnx_write_string(e->w, "approximate", tt_node_int(e->g, n, TT_A_TANH) ? "tanh" : "none");
}

static void write_cast(exporter *e, tt_node n, const char *op) {
  write_plain(e, n, op);
  tt_onnx_write_int(e->w, "to", onnx_dtype_of((tt_dtype)tt_node_int(e->g, n, TT_A_TO)));
}

static void write_transpose(exporter *e, tt_node n, const char *op) {
  const tt_attr *perm = tt_node_attr(e->g, n, TT_A_PERM);
  write_plain(e, n, op);
  tt_onnx_write_ints(e->w, "perm", perm->as.ints.n, perm->as.ints.v);
}

static void write_axis(exporter *e, tt_node n, const char *op) {
  write_plain(e, n, op);
  tt_onnx_write_int(e->w, "axis", tt_node_int(e->g, n, TT_A_AXIS));
}

/* One operand, an integer list as second one. */
static void with_ints(exporter *e, tt_node n, const char *op, tt_attr_id attr) {
  const tt_attr *a = tt_node_attr(e->g, n, attr);
  const char *in[] = {in_name(e, n, 0), ints_tensor(e, tt_attrs[attr].name, a ? a->as.ints.n : 0, a ? a->as.ints.v : NULL)};
  const char *out = out_name(e, n, 0);
  write_node(e, n, NULL, op, 2, in, 1, &out);
}

static void write_to_shape(exporter *e, tt_node n, const char *op) { with_ints(e, n, op, TT_A_SHAPE); }

static void write_slice(exporter *e, tt_node n, const char *op) {
  const tt_attr *starts = tt_node_attr(e->g, n, TT_A_STARTS), *ends = tt_node_attr(e->g, n, TT_A_ENDS);
  const tt_attr *steps = tt_node_attr(e->g, n, TT_A_STEPS);
  int64_t axes[TT_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  const char *in[] = {in_name(e, n, 0), ints_tensor(e, "starts", starts->as.ints.n, starts->as.ints.v),
                      ints_tensor(e, "ends", ends->as.ints.n, ends->as.ints.v),
                      ints_tensor(e, "axes", starts->as.ints.n, axes),
                      ints_tensor(e, "steps", steps->as.ints.n, steps->as.ints.v)};
  const char *out = out_name(e, n, 0);
  write_node(e, n, NULL, op, 5, in, 1, &out);
}

static void write_reduce(exporter *e, tt_node n, const char *op) {
  with_ints(e, n, op, TT_A_AXES);
  tt_onnx_write_int(e->w, "keepdims", tt_node_int(e->g, n, TT_A_KEEPDIMS));
}

/* x with its last two dimensions swapped */
static const char *swapped(exporter *e, tt_node n, tt_value x) {
  int rank = tt_typ(e->g, x)->rank;
  int64_t perm[TT_MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i;
  perm[rank - 2] = rank - 1;
  perm[rank - 1] = rank - 2;
  const char *in = e->name[x], *out = fresh(e, "transposed");
  write_node(e, n, NULL, "Transpose", 1, &in, 1, &out);
  tt_onnx_write_ints(e->w, "perm", rank, perm);
  return out;
}

static void write_matmul(exporter *e, tt_node n, const char *op) {
  const tt_node_data *d = tt_nod(e->g, n);
  const char *in[] = {e->name[d->in[0]], e->name[d->in[1]]}, *out = out_name(e, n, 0);
  if (tt_node_int(e->g, n, TT_A_TRANS_A)) in[0] = swapped(e, n, d->in[0]);
  if (tt_node_int(e->g, n, TT_A_TRANS_B)) in[1] = swapped(e, n, d->in[1]);
  write_node(e, n, NULL, op, 2, in, 1, &out);
}

static void write_linear(exporter *e, tt_node n, const char *op) {
  const tt_node_data *d = tt_nod(e->g, n);
  const char *in[] = {e->name[d->in[0]], e->name[d->in[1]], d->n_in > 2 ? e->name[d->in[2]] : ""}, *out = out_name(e, n, 0);
  if (tt_typ(e->g, d->in[0])->rank == 2) {
    write_node(e, n, NULL, op, d->n_in, in, 1, &out);
    tt_onnx_write_int(e->w, "transB", 1);
    return;
  }
  const char *product = d->n_in > 2 ? fresh(e, "product") : out;
  in[1] = swapped(e, n, d->in[1]);
  write_node(e, n, NULL, "MatMul", 2, in, 1, &product);
  if (d->n_in > 2) write_node(e, n, NULL, "Add", 2, (const char *[]){product, in[2]}, 1, &out);
}

/* Mean and reciprocal deviation have shape [..,1] there and [rows] here. */
static void write_layernorm(exporter *e, tt_node n, const char *op) {
  const tt_node_data *d = tt_nod(e->g, n);
  const char *in[] = {in_name(e, n, 0), in_name(e, n, 1), in_name(e, n, 2)}, *out[] = {out_name(e, n, 0), "", ""};
  for (int k = 1; k < 3; k++)
    if (e->uses[d->out[k]]) out[k] = fresh(e, "statistic");
  write_node(e, n, NULL, op, 3, in, e->uses[d->out[2]] ? 3 : e->uses[d->out[1]] ? 2 : 1, out);
  tt_onnx_write_int(e->w, "axis", -1);
  tt_onnx_write_float(e->w, "epsilon", tt_node_float(e->g, n, TT_A_EPSILON));
  for (int k = 1; k < 3; k++) {
    if (!e->uses[d->out[k]]) continue;
    const tt_type *t = tt_typ(e->g, d->out[k]);
    const char *operands[] = {out[k], ints_tensor(e, "shape", t->rank, t->dim)}, *result = out_name(e, n, k);
    write_node(e, n, NULL, "Reshape", 2, operands, 1, &result);
  }
}

static void write_conv(exporter *e, tt_node n, const char *op) {
  static const tt_attr_id lists[] = {TT_A_STRIDES, TT_A_PADS, TT_A_DILATIONS};
  const tt_node_data *d = tt_nod(e->g, n);
  const char *in[] = {in_name(e, n, 0), in_name(e, n, 1), d->n_in > 2 ? in_name(e, n, 2) : ""}, *out = out_name(e, n, 0);
  write_node(e, n, NULL, op, d->n_in, in, 1, &out);
  for (int i = 0; i < 3; i++) {
    const tt_attr *a = tt_node_attr(e->g, n, lists[i]);
    if (a) tt_onnx_write_ints(e->w, tt_attrs[lists[i]].name, a->as.ints.n, a->as.ints.v);
  }
  tt_onnx_write_int(e->w, "group", tt_node_int(e->g, n, TT_A_GROUP));
}

/* ---- our own ---- */

static void write_op_names(exporter *e, const char *name, const tt_attr *a) {
  const char *list = "";
  for (int i = 0; i < a->as.ints.n; i++)
    list = tt_arena_printf(e->arena, "%s%s%s", list, i ? "," : "", tt_ops[a->as.ints.v[i]].name);
  tt_onnx_write_string(e->w, name, list);
}

static void write_attr(exporter *e, const tt_attr *a) {
  const char *name = tt_attrs[a->id].name;
  char text[64];
  switch (tt_attrs[a->id].kind) {
  case TT_ATTR_INT: tt_onnx_write_int(e->w, name, a->as.i); return;
  case TT_ATTR_FLOAT: tt_onnx_write_float(e->w, name, a->as.f); return;
  case TT_ATTR_INTS: tt_onnx_write_ints(e->w, name, a->as.ints.n, a->as.ints.v); return;
  case TT_ATTR_DTYPE: tt_onnx_write_string(e->w, name, tt_dtype_name((tt_dtype)a->as.i)); return;
  case TT_ATTR_QSPEC: tt_onnx_write_string(e->w, name, tt_qspec_print(a->as.q, text, sizeof text)); return;
  case TT_ATTR_OPS: write_op_names(e, name, a); return;
  }
}

static void write_tetrac(exporter *e, tt_node n) {
  const tt_node_data *d = tt_nod(e->g, n);
  write_all(e, n, "tetrac", tt_ops[d->op].name);
  for (int i = 0; i < d->n_attrs; i++) write_attr(e, &d->attrs[i]);
}

/* What stands for an op: the operator and who writes it. Ops without a row keep their own name. */
static const struct {
  const char *name;
  void (*write)(exporter *e, tt_node n, const char *op);
} forms[TT_OP_COUNT] = {
    [TT_OP_NEG] = {"Neg", write_plain},
    [TT_OP_EXP] = {"Exp", write_plain},
    [TT_OP_LOG] = {"Log", write_plain},
    [TT_OP_SQRT] = {"Sqrt", write_plain},
    [TT_OP_RECIPROCAL] = {"Reciprocal", write_plain},
    [TT_OP_ERF] = {"Erf", write_plain},
    [TT_OP_TANH] = {"Tanh", write_plain},
    [TT_OP_SIGMOID] = {"Sigmoid", write_plain},
    [TT_OP_ABS] = {"Abs", write_plain},
    [TT_OP_RELU] = {"Relu", write_plain},
    [TT_OP_FLOOR] = {"Floor", write_plain},
    [TT_OP_NOT] = {"Not", write_plain},
    [TT_OP_ISNAN] = {"IsNaN", write_plain},
    [TT_OP_ADD] = {"Add", write_plain},
    [TT_OP_SUB] = {"Sub", write_plain},
    [TT_OP_MUL] = {"Mul", write_plain},
    [TT_OP_DIV] = {"Div", write_plain},
    [TT_OP_POW] = {"Pow", write_plain},
    [TT_OP_MIN] = {"Min", write_plain},
    [TT_OP_MAX] = {"Max", write_plain},
    [TT_OP_MOD] = {"Mod", write_plain},
    [TT_OP_EQUAL] = {"Equal", write_plain},
    [TT_OP_LESS] = {"Less", write_plain},
    [TT_OP_GREATER] = {"Greater", write_plain},
    [TT_OP_AND] = {"And", write_plain},
    [TT_OP_OR] = {"Or", write_plain},
    [TT_OP_WHERE] = {"Where", write_plain},
    [TT_OP_SHAPE_OF] = {"Shape", write_plain},
    [TT_OP_SOFTMAX] = {"Softmax", write_plain},
    [TT_OP_GELU] = {"Gelu", write_gelu},
    [TT_OP_CAST] = {"Cast", write_cast},
    [TT_OP_TRANSPOSE] = {"Transpose", write_transpose},
    [TT_OP_CONCAT] = {"Concat", write_axis},
    [TT_OP_GATHER] = {"Gather", write_axis},
    [TT_OP_RESHAPE] = {"Reshape", write_to_shape},
    [TT_OP_EXPAND] = {"Expand", write_to_shape},
    [TT_OP_SLICE] = {"Slice", write_slice},
    [TT_OP_REDUCE_SUM] = {"ReduceSum", write_reduce},
    [TT_OP_REDUCE_MEAN] = {"ReduceMean", write_reduce},
    [TT_OP_REDUCE_MAX] = {"ReduceMax", write_reduce},
    [TT_OP_MATMUL] = {"MatMul", write_matmul},
    [TT_OP_LINEAR] = {"Gemm", write_linear},
    [TT_OP_LAYERNORM] = {"LayerNormalization", write_layernorm},
    [TT_OP_CONV] = {"Conv", write_conv},
};

static void write_op(exporter *e, tt_node n) {
  const tt_op op = tt_nod(e->g, n)->op;
  if (forms[op].name)
    forms[op].write(e, n, forms[op].name);
  else
    write_tetrac(e, n);
}

/* ---- the file ---- */

/* Inputs and results keep their names, everything else gives way. */
static void name_values(exporter *e) {
  const tt_graph *g = e->g;
  for (size_t i = 0; i < g->inputs.count; i++) {
    tt_value v = g->inputs.data[i];
    e->name[v] = unique(e, tt_val(g, v)->name);
  }
  for (size_t i = 0; i < g->results.count; i++) {
    tt_value v = g->results.data[i].value;
    if (!e->name[v] && tt_val(g, v)->kind == TT_VALUE_NODE) e->name[v] = unique(e, g->results.data[i].name);
  }
  for (tt_value v = 0; v < g->values.count; v++) {
    const tt_value_data *d = tt_val(g, v);
    if (e->name[v]) continue;
    const char *wish = d->kind == TT_VALUE_VAR ? g->module->vars.data[d->index].name : d->name;
    e->name[v] = unique(e, wish && *wish ? wish : tt_arena_printf(e->arena, "v%u", v));
  }
}

static void write_sources(exporter *e) {
  const tt_graph *g = e->g;
  for (tt_value v = 0; v < g->values.count; v++) {
    const tt_value_data *d = tt_val(g, v);
    const tt_var *var = d->kind == TT_VALUE_VAR ? &g->module->vars.data[d->index] : NULL;
    if (d->kind != TT_VALUE_INPUT && !e->uses[v]) continue;
    if (d->kind == TT_VALUE_CONST)
      tt_onnx_write_initializer(e->w, e->name[v], &d->type, d->data);
    else if (var && var->init)
      tt_onnx_write_initializer(e->w, e->name[v], &d->type, var->init);
    else if (var || d->kind == TT_VALUE_INPUT)
      tt_onnx_write_input(e->w, e->name[v], &d->type, NULL);
  }
}

/* Where its value goes by another name (several results may share one), an output is an Identity of it. */
static void write_output(exporter *e, const char *wish, tt_value v) {
  const char *in = e->name[v], *out = in;
  if (strcmp(in, wish) != 0) {
    out = unique(e, wish);
    tt_onnx_write_node(e->w, NULL, "Identity", fresh(e, "output"), 1, &in, 1, &out);
  }
  tt_onnx_write_output(e->w, out, tt_typ(e->g, v), NULL);
}

bool tt_onnx_export_graph(const tt_graph *g, tt_arena *arena, uint8_t **data, size_t *bytes, tt_diag *diag) {
  (void)diag; // every graph that verifies has an ONNX form
  exporter e = {.g = g, .arena = arena, .w = tt_onnx_writer_create(arena, g->name, OPSET)};
  e.name = TT_NEW_N(arena, const char *, g->values.count + 1);
  e.uses = tt_graph_use_counts(g);
  tt_onnx_write_domain(e.w, "tetrac", 1);
  name_values(&e);
  write_sources(&e);
  TT_FOR_NODES(g, n) write_op(&e, n);
  for (size_t i = 0; i < g->results.count; i++) write_output(&e, g->results.data[i].name, g->results.data[i].value);
  for (size_t i = 0; i < g->updates.count; i++) {
    const char *var = g->module->vars.data[g->updates.data[i].var].name;
    write_output(&e, tt_arena_printf(arena, "update:%s", var), g->updates.data[i].value);
  }
  tt_onnx_writer_finish(e.w, data, bytes);
  return true;
}
