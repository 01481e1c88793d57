/* Import: the model's nodes, in order, become IR nodes.
 *
 *   model (untied, names checked) -> one scan for everything unsupported -> inputs bound -> node by node -> results
 *
 * Every value has a static type at once, because the batch is bound first; so Shape is a constant the moment it is seen and
 * each node whose operands are constants is folded as soon as it is built. What exporters write as forty nodes of shape
 * arithmetic never enters the graph. A node that fails is reported, its results are poisoned, and import goes on, so that
 * one run shows all faults. */
#include <stdarg.h>
#include <string.h>
#include "compiler/onnx/import.h"

enum { DEFAULT_BATCH = 128 };

const import_row import_rows[] = {
#define ONNX_OP(op, since, until, min_in, max_in, fn, ir, attrs)                                                           \
  {#op, since, until, min_in, max_in, import_##fn, TT_OP_##ir, " " attrs " "},
#include "compiler/onnx/onnx_ops.def"
#undef ONNX_OP
};
const int import_row_count = (int)(sizeof import_rows / sizeof *import_rows);

static const import_row *row_of(const Onnx__NodeProto *n) {
  for (int i = 0; i < import_row_count; i++)
    if (onnx_is(n, import_rows[i].op)) return &import_rows[i];
  return NULL;
}

bool refuse(importer *im, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  tt_error(im->diag, im->b.loc, "%s", text);
  return false;
}

/* The kind of attribute `name` by the row's words NAME:KIND (a space on either side), 0 where it is none of them. */
static char attribute_kind(const import_row *row, const char *name) {
  size_t n = strlen(name);
  if (!n || strchr(name, ' ') || strchr(name, ':')) return 0;
  for (const char *at = strstr(row->attrs, name); at; at = strstr(at + 1, name))
    if (at > row->attrs && at[-1] == ' ' && at[n] == ':') return at[n + 1];
  return 0;
}

/* Some writers leave zeros out, so the declared type counts where there is one, and what is there where not. */
static bool has_kind(const Onnx__AttributeProto *a, char kind) {
  static const char of_type[] = {
      [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT] = 'f',  [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT] = 'i',
      [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING] = 's', [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR] = 't',
      [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS] = 'F', [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS] = 'I'};
  if (kind == 't' && !a->t) return false;
  if (a->has_type) return a->type > 0 && (size_t)a->type < sizeof of_type && of_type[a->type] == kind;
  bool single = a->has_i || a->has_f || a->has_s || a->t;
  return kind == 'i' ? a->has_i : kind == 'f' ? a->has_f : kind == 's' ? a->has_s : kind == 't' || !single;
}

static void scan_attributes(const tt_onnx_model *m, const Onnx__NodeProto *n, const import_row *row, tt_diag *diag) {
  for (size_t i = 0; i < n->n_attribute; i++) {
    const char *name = n->attribute[i]->name ? n->attribute[i]->name : "";
    char kind = attribute_kind(row, name);
    if (!kind)
      tt_error(diag, onnx_loc(m, n), "attribute '%s' is not supported", name);
    else if (!has_kind(n->attribute[i], kind))
      tt_error(diag, onnx_loc(m, n), "attribute '%s' has the wrong type", name);
  }
}

static void scan_node(const tt_onnx_model *m, const Onnx__NodeProto *n, tt_diag *diag) {
  const import_row *row = row_of(n);
  tt_loc loc = onnx_loc(m, n);
  if (!row) {
    const char *domain = n->domain && *n->domain ? n->domain : "ai.onnx";
    tt_error(diag, loc, "the operator %s (domain %s, opset %lld) is not supported", n->op_type, domain,
             (long long)m->opset);
    return;
  }
  if (m->opset < row->since || m->opset > row->until) {
    tt_error(diag, loc, "%s as of opset %lld is not supported, opsets %d to %d are: export with one of them", n->op_type,
             (long long)m->opset, row->since, row->until);
    return;
  }
  int have = (int)n->n_input;
  bool missing = have < row->min_in;
  for (int k = 0; k < row->min_in && k < have; k++) missing |= !*n->input[k];
  if (missing || (row->max_in >= 0 && have > row->max_in))
    tt_error(diag, loc, "%d operands, %d to %d expected", have, row->min_in, row->max_in < 0 ? have : row->max_in);
  scan_attributes(m, n, row, diag);
}

/* ---- values ---- */

static tt_value import_constant_tensor(importer *im, const Onnx__TensorProto *t) {
  tt_type type;
  const void *data;
  if (!onnx_tensor_bytes(t, im->model->arena, &type, &data, im->b.loc, im->diag)) return TT_NONE;
  return tt_graph_const(im->g, type, data);
}

static tt_value import_parameter(importer *im, const Onnx__TensorProto *t) {
  tt_type type;
  const void *data;
  if (!onnx_tensor_bytes(t, im->model->arena, &type, &data, im->b.loc, im->diag)) return TT_NONE;
  const char *name = tt_arena_str(im->module->arena, t->name);
  tt_var var = {
      .name = name, .type = type, .role = TT_VAR_PARAM, .decay = true, .init = data, .copy_of = TT_NONE, .origin = name};
  var.scope = im->b.loc.node;
  return tt_graph_var(im->g, tt_module_add_var(im->module, var));
}

/* Initializers enter at their first use, so that variables come in the order of the network. */
static tt_value import_initializer(importer *im, uint32_t index) {
  const Onnx__TensorProto *t = im->model->proto->graph->initializer[index];
  tt_value v = onnx_is_parameter(t) ? import_parameter(im, t) : import_constant_tensor(im, t);
  names_set(&im->values, im->model->arena, t->name, v);
  return v;
}

static tt_value lookup(importer *im, const char *name) {
  uint32_t v;
  if (names_find(&im->values, name, &v)) return v;
  if (names_find(&im->initializers, name, &v)) return import_initializer(im, v);
  return TT_NONE;
}

bool has_in(const Onnx__NodeProto *n, size_t k) { return k < n->n_input && *n->input[k]; }
tt_value in(importer *im, const Onnx__NodeProto *n, size_t k) { return lookup(im, n->input[k]); }
const tt_type *in_type(importer *im, const Onnx__NodeProto *n, size_t k) { return tt_typ(im->g, in(im, n, k)); }

bool set_out(importer *im, const Onnx__NodeProto *n, size_t k, tt_value v) {
  if (k >= n->n_output || !*n->output[k]) return v != TT_NONE;
  names_set(&im->values, im->model->arena, n->output[k], v);
  if (v == TT_NONE) return false;
  if (!tt_val(im->g, v)->name) tt_val(im->g, v)->name = tt_arena_str(im->module->arena, n->output[k]);
  return true;
}

/* ---- graph inputs ---- */

static bool bind_dim(importer *im, const Onnx__TensorShapeProto__Dimension *d, size_t i, const char *name, int64_t *out) {
  tt_loc loc = {.file = im->model->path};
  if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
    *out = d->dim_value;
    if (*out < 1) return tt_error(im->diag, loc, "input '%s': dimension %zu is %lld", name, i, (long long)*out), false;
    if (i || !im->batch || im->batch == *out) return true;
    tt_error(
        im->diag, loc,
        "input '%s' is fixed to a batch of %lld, %lld was asked for: leave --batch out, or export with a dynamic batch",
        name, (long long)*out, (long long)im->batch);
    return false;
  }
  *out = im->batch ? im->batch : DEFAULT_BATCH;
  if (i == 0) return true;
  bool named = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
  tt_error(im->diag, loc, "input '%s': dimension %zu ('%s') has no fixed size; only the first, the batch, may be open",
           name, i, named ? d->dim_param : "?");
  return false;
}

bool tt_onnx_has_open_batch(const tt_onnx_model *model) {
  const Onnx__GraphProto *g = model->proto->graph;
  const Onnx__TypeProto *t = g->n_input ? g->input[0]->type : NULL;
  if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) return false;
  const Onnx__TensorShapeProto *s = t->tensor_type->shape;
  return s && s->n_dim && s->dim[0]->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
}

/* Whether a tensor may have so many elements: a batch is the user's to choose, so that any number may come. */
static bool input_fits(importer *im, const char *name, int rank, const int64_t *dim) {
  int64_t count = 1;
  bool fits = true;
  for (int i = 0; i < rank && fits; i++) {
    fits = dim[i] <= TT_MAX_ELEMENTS / count;
    if (fits) count *= dim[i];
  }
  if (!fits)
    tt_error(im->diag, (tt_loc){.file = im->model->path}, "input '%s' has too many elements with a batch of %lld: at most 2^44",
             name, (long long)dim[0]);
  return fits;
}

static bool import_input(importer *im, const Onnx__ValueInfoProto *v) {
  tt_loc loc = {.file = im->model->path};
  const Onnx__TypeProto *t = v->type;
  if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type->shape)
    return tt_error(im->diag, loc, "input '%s' has no tensor type with a shape: export the model with shapes", v->name),
           false;
  const Onnx__TensorShapeProto *s = t->tensor_type->shape;
  tt_dtype dtype;
  if (!onnx_dtype(t->tensor_type->elem_type, &dtype))
    return tt_error(im->diag, loc, "input '%s' holds %s, which is not supported: export in float32", v->name,
                    onnx_dtype_text(t->tensor_type->elem_type)),
           false;
  if (s->n_dim > TT_MAX_RANK)
    return tt_error(im->diag, loc, "input '%s' has %zu dimensions, at most %d are supported", v->name, s->n_dim,
                    TT_MAX_RANK),
           false;
  int64_t dim[TT_MAX_RANK] = {0};
  bool ok = true;
  for (size_t i = 0; i < s->n_dim; i++) ok &= bind_dim(im, s->dim[i], i, v->name, &dim[i]);
  if (!ok || !input_fits(im, v->name, (int)s->n_dim, dim)) return false;
  const char *name = tt_arena_str(im->module->arena, v->name);
  tt_value value = tt_graph_add_input(im->g, name, tt_type_make(dtype, (int)s->n_dim, dim));
  names_set(&im->values, im->model->arena, v->name, value);
  return true;
}

/* ---- nodes ---- */

/* The node's location, in memory that lives as long as the module. */
static tt_loc module_loc(importer *im, const Onnx__NodeProto *n) {
  tt_arena *a = im->module->arena;
  return (tt_loc){.file = im->module->name, .node = tt_arena_str(a, onnx_node_name(n)), .op = tt_arena_str(a, n->op_type)};
}

/* Operands of failed nodes are poisoned without further words; outputs that no import function makes are not there at all.
 */
static bool operand_ready(importer *im, const Onnx__NodeProto *n, size_t k) {
  const char *name = n->input[k];
  if (in(im, n, k) != TT_NONE) return true;
  if (!names_find(&im->values, name, NULL))
    refuse(im, "operand %zu, '%s', is an output that import does not compute", k, name);
  return false;
}

static void import_node(importer *im, const Onnx__NodeProto *n) {
  const import_row *row = row_of(n);
  bool ready = true;
  im->b.loc = module_loc(im, n);
  im->op = row->ir;
  tt_assert_context("import", im->b.loc.node);
  int before = im->diag->errors;
  for (size_t k = 0; k < n->n_input; k++) ready &= !has_in(n, k) || operand_ready(im, n, k);
  bool done = ready && row->run(im, n);
  if (done) return;
  if (ready && im->diag->errors == before) refuse(im, "cannot be imported");
  for (size_t k = 0; k < n->n_output; k++) names_set(&im->values, im->model->arena, n->output[k], TT_NONE);
}

static void import_results(importer *im) {
  const Onnx__GraphProto *g = im->model->proto->graph;
  im->b.loc = (tt_loc){.file = im->module->name};
  for (size_t i = 0; i < g->n_output; i++) {
    const char *name = g->output[i]->name;
    tt_value v = lookup(im, name);
    if (v == TT_NONE)
      refuse(im, "output '%s' cannot be imported", name);
    else
      tt_graph_set_result(im->g, tt_arena_str(im->module->arena, name), v);
  }
}

static void import_graph(importer *im) {
  const Onnx__GraphProto *g = im->model->proto->graph;
  for (size_t i = 0; i < g->n_initializer; i++)
    names_set(&im->initializers, im->model->arena, g->initializer[i]->name, (uint32_t)i);
  bool ok = true;
  for (size_t i = 0; i < g->n_input; i++)
    if (!names_find(&im->initializers, g->input[i]->name, NULL)) ok &= import_input(im, g->input[i]);
  if (!ok) return;
  for (size_t i = 0; i < g->n_node; i++) import_node(im, g->node[i]);
  if (im->diag->errors == im->errors_before) import_results(im);
}

tt_module *tt_onnx_import(tt_onnx_model *model, int64_t batch, char **notes, tt_diag *diag) {
  int before = diag->errors;
  for (size_t i = 0; i < model->proto->graph->n_node; i++) scan_node(model, model->proto->graph->node[i], diag);
  if (diag->errors != before) return NULL;
  onnx_untie(model);
  if (notes) *notes = tt_arena_str(model->arena, model->notes);
  tt_module *module = tt_module_create(model->path);
  importer im = {.model = model,
                 .module = module,
                 .g = tt_graph_create(module, "forward"),
                 .diag = diag,
                 .batch = batch,
                 .errors_before = before};
  im.b = (tt_builder){.g = im.g, .diag = diag, .at = TT_NONE, .loc = {.file = module->name}};
  import_graph(&im);
  tt_assert_context(NULL, NULL);
  if (diag->errors == before) {
    tt_graph_sweep(im.g);
    return module;
  }
  tt_module_destroy(module);
  return NULL;
}
