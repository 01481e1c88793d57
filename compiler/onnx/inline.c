/* Calls of the model's local functions become their bodies, so that nothing behind this file knows of functions.
 *
 *   y = my.Block(x) {eps}        t  -> block/t, inner nodes renamed `block/inner`, operands and results those of the call,
 *                                attributes that refer to the call's (ref_attr_name) taken from it. */
#include <string.h>
#include "compiler/onnx/model.h"

enum { DEPTH_MAX = 16, NODES_MAX = 1 << 20 };

typedef TT_VEC(Onnx__NodeProto *) node_list;

static const Onnx__FunctionProto *function_of(const tt_onnx_model *m, const Onnx__NodeProto *n) {
  const char *domain = n->domain ? n->domain : "";
  for (size_t i = 0; i < m->proto->n_functions; i++) {
    const Onnx__FunctionProto *f = m->proto->functions[i];
    if (f->name && strcmp(f->name, n->op_type) == 0 && strcmp(f->domain ? f->domain : "", domain) == 0) return f;
  }
  return NULL;
}

/* What a name inside the body is called outside. */
static char *outer_name(tt_onnx_model *m, const Onnx__NodeProto *call, const names *bound, char *const *actual,
                        char *inner) {
  uint32_t k;
  if (!*inner) return inner;
  if (names_find(bound, inner, &k)) return actual[k];
  return tt_arena_printf(m->arena, "%s/%s", onnx_node_name(call), inner);
}

static void bind_attributes(tt_onnx_model *m, const Onnx__NodeProto *call, Onnx__NodeProto *n) {
  Onnx__AttributeProto **kept = TT_NEW_N(m->arena, Onnx__AttributeProto *, n->n_attribute + 1);
  size_t count = 0;
  for (size_t i = 0; i < n->n_attribute; i++) {
    Onnx__AttributeProto *a = n->attribute[i];
    if (a->ref_attr_name && *a->ref_attr_name) {
      const Onnx__AttributeProto *given = onnx_attr(call, a->ref_attr_name);
      if (!given) continue; // absent in the call: the operator's default
      Onnx__AttributeProto *copy = tt_arena_copy(m->arena, given, sizeof *given);
      copy->name = a->name;
      a = copy;
    }
    kept[count++] = a;
  }
  n->attribute = kept;
  n->n_attribute = count;
}

static void inline_call(tt_onnx_model *m, const Onnx__FunctionProto *f, const Onnx__NodeProto *call, node_list *out) {
  size_t n_actual = f->n_input + f->n_output;
  char **actual = TT_NEW_N(m->arena, char *, n_actual + 1);
  names bound = {0};
  for (size_t i = 0; i < f->n_input; i++) {
    actual[i] = i < call->n_input ? call->input[i] : tt_arena_str(m->arena, "");
    names_set(&bound, m->arena, f->input[i], (uint32_t)i);
  }
  for (size_t i = 0; i < f->n_output; i++) {
    bool wanted = i < call->n_output && *call->output[i];
    actual[f->n_input + i] =
        wanted ? call->output[i] : tt_arena_printf(m->arena, "%s/%s", onnx_node_name(call), f->output[i]);
    names_set(&bound, m->arena, f->output[i], (uint32_t)(f->n_input + i));
  }
  for (size_t i = 0; i < f->n_node; i++) {
    Onnx__NodeProto *n = tt_arena_copy(m->arena, f->node[i], sizeof *n);
    n->name = tt_arena_printf(m->arena, "%s/%s", onnx_node_name(call), onnx_node_name(f->node[i]));
    n->input = tt_arena_copy(m->arena, n->input, n->n_input * sizeof *n->input);
    n->output = tt_arena_copy(m->arena, n->output, n->n_output * sizeof *n->output);
    for (size_t k = 0; k < n->n_input; k++) n->input[k] = outer_name(m, call, &bound, actual, n->input[k]);
    for (size_t k = 0; k < n->n_output; k++) n->output[k] = outer_name(m, call, &bound, actual, n->output[k]);
    bind_attributes(m, call, n);
    tt_vec_push(out, n);
  }
}

/* One level of calls; *calls counts them. */
static void inline_level(tt_onnx_model *m, int *calls) {
  Onnx__GraphProto *g = m->proto->graph;
  node_list out = {0};
  *calls = 0;
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__FunctionProto *f = function_of(m, g->node[i]);
    if (f)
      inline_call(m, f, g->node[i], &out);
    else
      tt_vec_push(&out, g->node[i]);
    *calls += f != NULL;
    if (out.count > NODES_MAX) break;
  }
  g->n_node = out.count;
  g->node = tt_arena_copy(m->arena, out.data, out.count * sizeof *out.data);
  tt_vec_free(&out);
}

static bool check_bodies(const tt_onnx_model *m, tt_diag *diag) {
  int before = diag->errors;
  for (size_t i = 0; i < m->proto->n_functions; i++) {
    const Onnx__FunctionProto *f = m->proto->functions[i];
    for (size_t k = 0; k < f->n_node; k++)
      if (!f->node[k]->op_type || !f->node[k]->n_output)
        tt_error(diag, (tt_loc){.file = m->path},
                 "function '%s': node %zu has no operator or no output: the file is damaged", f->name ? f->name : "", k);
  }
  return diag->errors == before;
}

bool onnx_inline_functions(tt_onnx_model *m, tt_diag *diag) {
  if (!m->proto->n_functions) return true;
  TT_TRY(check_bodies(m, diag));
  int calls = 1;
  for (int depth = 0; calls && depth < DEPTH_MAX && m->proto->graph->n_node <= NODES_MAX; depth++) inline_level(m, &calls);
  if (calls) {
    tt_error(diag, (tt_loc){.file = m->path}, "local functions call each other more than %d deep, or without end",
             DEPTH_MAX);
    return false;
  }
  m->proto->n_functions = 0;
  return true;
}
