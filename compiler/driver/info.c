/* The facts of a compiled program, for `TRAINER info` and `tetrac inspect --format json`. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/driver/compile.h"
#include "compiler/ir/work.h"
#include "passes/plan_memory.h"

static cJSON *entry_json(const tt_graph *g) {
  tt_work m = {0};
  int nodes = 0;
  TT_FOR_NODES(g, n) {
    tt_work w = tt_node_work(g, n);
    m.mx += w.mx;
    m.f32 += w.f32;
    nodes++;
  }
  cJSON *e = cJSON_CreateObject();
  cJSON_AddStringToObject(e, "name", g->name);
  cJSON_AddNumberToObject(e, "nodes", nodes);
  cJSON_AddNumberToObject(e, "arena_bytes", (double)g->arena_bytes);
  cJSON_AddNumberToObject(e, "peak_bytes", (double)tt_plan_peak_bytes(g));
  cJSON_AddNumberToObject(e, "saved_bytes", (double)tt_plan_saved_bytes(g));
  cJSON_AddNumberToObject(e, "macs_4bit", m.mx);
  cJSON_AddNumberToObject(e, "macs_float32", m.f32);
  cJSON_AddNumberToObject(e, "share_4bit", m.mx + m.f32 > 0 ? m.mx / (m.mx + m.f32) : 0);
  return e;
}

char *tt_info_json(const tt_module *module, const tt_recipe *recipe, tt_arena *arena) {
  cJSON *root = cJSON_CreateObject();
  double params = 0, quantized = 0;
  for (size_t i = 0; i < module->vars.count; i++)
    if (module->vars.data[i].role == TT_VAR_PARAM) params += (double)tt_type_count(&module->vars.data[i].type);
  const tt_graph *forward = tt_module_find_graph(module, "forward");
  TT_FOR_NODES(forward, n) {
    const tt_node_data *d = tt_nod(forward, n);
    if (d->op == TT_OP_MX_QUANTIZE && tt_val(forward, d->in[0])->kind == TT_VALUE_VAR)
      quantized += (double)tt_type_count(tt_typ(forward, d->in[0]));
  }
  cJSON_AddStringToObject(root, "model", module->name);
  cJSON_AddStringToObject(root, "recipe", recipe->name);
  cJSON_AddNumberToObject(root, "parameters", params);
  cJSON_AddNumberToObject(root, "parameters_4bit", quantized);
  cJSON_AddNumberToObject(root, "variables_bytes", (double)module->vars_bytes);
  cJSON *entries = cJSON_AddArrayToObject(root, "entries");
  for (size_t i = 0; i < module->graphs.count; i++)
    if (module->graphs.data[i] != forward) cJSON_AddItemToArray(entries, entry_json(module->graphs.data[i]));
  char *text = cJSON_Print(root);
  char *copy = tt_arena_str(arena, text ? text : "{}");
  free(text);
  cJSON_Delete(root);
  return copy;
}
