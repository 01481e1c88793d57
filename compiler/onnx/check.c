/* Names of a loaded graph: defined once, before their use. ONNX demands nodes in order, so a use before its definition is a
 * cycle or a broken exporter; either way the model has no meaning. */
#include <string.h>
#include "compiler/onnx/model.h"

enum { GIVEN = UINT32_MAX }; // defined by an input or initializer, not by a node

static void define(const tt_onnx_model *m, names *defined, const char *name, uint32_t by, tt_loc loc, tt_diag *diag) {
  if (names_find(defined, name, NULL)) tt_error(diag, loc, "'%s' is defined twice", name);
  names_set(defined, m->arena, name, by);
}

/* Producers of every value, to tell "used too early" from "nowhere defined". */
static names producers(const tt_onnx_model *m) {
  const Onnx__GraphProto *g = m->proto->graph;
  names made = {0};
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++) names_set(&made, m->arena, g->node[i]->output[k], (uint32_t)i);
  return made;
}

static void check_operand(const tt_onnx_model *m, const Onnx__NodeProto *n, size_t k, const names *made, tt_diag *diag) {
  uint32_t by;
  const char *name = n->input[k];
  if (!names_find(made, name, &by)) {
    tt_error(diag, onnx_loc(m, n), "operand %zu, '%s', is defined nowhere in the model", k, name);
    return;
  }
  tt_error(diag, onnx_loc(m, n),
           "operand %zu, '%s', is used before node '%s' makes it: the graph has a cycle or is out of order", k, name,
           onnx_node_name(m->proto->graph->node[by]));
}

bool onnx_check_names(const tt_onnx_model *m, tt_diag *diag) {
  const Onnx__GraphProto *g = m->proto->graph;
  tt_loc file = {.file = m->path};
  int before = diag->errors;
  names defined = {0}, made = producers(m);
  for (size_t i = 0; i < g->n_initializer; i++) define(m, &defined, g->initializer[i]->name, GIVEN, file, diag);
  for (size_t i = 0; i < g->n_input; i++) // before IR version 4 every initializer was an input too
    if (!names_find(&defined, g->input[i]->name, NULL)) names_set(&defined, m->arena, g->input[i]->name, GIVEN);
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    for (size_t k = 0; k < n->n_input; k++)
      if (*n->input[k] && !names_find(&defined, n->input[k], NULL)) check_operand(m, n, k, &made, diag);
    for (size_t k = 0; k < n->n_output; k++)
      if (*n->output[k]) define(m, &defined, n->output[k], (uint32_t)i, onnx_loc(m, n), diag);
  }
  for (size_t i = 0; i < g->n_output; i++)
    if (!names_find(&defined, g->output[i]->name, NULL))
      tt_error(diag, file, "output '%s' is made by no node", g->output[i]->name);
  return diag->errors == before;
}
