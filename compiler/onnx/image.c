/* The export image: the rewritten model with every parameter as raw float32, and where in the file each one lies. A trainer
 * carries it: initial values are read from there, trained values written over it.
 *
 * Places are found by walking the serialised bytes, not computed beside the serialiser: what is found is what is there. */
#include <string.h>
#include "compiler/onnx/model.h"

enum { MODEL_GRAPH = 7, GRAPH_INITIALIZER = 5, TENSOR_NAME = 8, TENSOR_RAW = 9 };
enum { IMAGE_MAX = INT32_MAX }; // protobuf's limit on a message

/* Raw little-endian float32, whatever form the exporter chose. */
static bool make_raw(tt_onnx_model *m, Onnx__TensorProto *t, tt_diag *diag) {
  tt_type type;
  const void *data;
  TT_TRY(onnx_tensor_bytes(t, m->arena, &type, &data, (tt_loc){.file = m->path}, diag));
  t->has_raw_data = 1;
  t->raw_data = (ProtobufCBinaryData){tt_type_bytes(&type), (uint8_t *)(uintptr_t)data};
  t->n_float_data = 0;
  t->float_data = NULL;
  return true;
}

/* The next field of that number and type 2 at or behind the cursor. */
static bool find_field(wire_cursor *c, uint32_t number, wire_field *f) {
  while (c->at < c->end && !wire_next(c, f))
    if (f->number == number && f->type == 2) return true;
  return false;
}

static wire_cursor inside(const wire_field *f) { return (wire_cursor){f->data, f->data + f->length}; }

/* The parameter that an initializer's wire form holds: its index through `params`, its raw bytes in *raw. */
static bool read_initializer(const wire_field *tensor, const names *params, tt_arena *arena, uint32_t *var,
                             wire_field *raw) {
  wire_field name;
  wire_cursor c = inside(tensor), again = c;
  if (!find_field(&c, TENSOR_NAME, &name)) return false;
  if (!names_find(params, tt_arena_strn(arena, (const char *)name.data, name.length), var)) return false;
  return find_field(&again, TENSOR_RAW, raw);
}

static void find_patches(tt_onnx_image *out, const names *params, tt_arena *arena) {
  wire_field graph, tensor, raw;
  wire_cursor model = {out->data, out->data + out->bytes};
  bool found = find_field(&model, MODEL_GRAPH, &graph);
  TT_ASSERT(found);
  wire_cursor g = inside(&graph);
  while (find_field(&g, GRAPH_INITIALIZER, &tensor)) {
    uint32_t var;
    if (!read_initializer(&tensor, params, arena, &var, &raw)) continue;
    out->patches[out->n_patches++] = (tt_onnx_patch){var, (uint64_t)(raw.data - out->data), raw.length};
  }
}

/* Parameters by origin; each must be an initializer of the model with as many bytes. */
static bool collect(tt_onnx_model *m, const tt_module *module, names *params, int *count, tt_diag *diag) {
  Onnx__GraphProto *g = m->proto->graph;
  tt_loc loc = {.file = m->path};
  int before = diag->errors;
  names by_name = {0};
  for (size_t i = 0; i < g->n_initializer; i++) names_set(&by_name, m->arena, g->initializer[i]->name, (uint32_t)i);
  for (size_t v = 0; v < module->vars.count; v++) {
    const tt_var *var = &module->vars.data[v];
    uint32_t i;
    if (var->role != TT_VAR_PARAM) continue;
    if (!var->origin || !names_find(&by_name, var->origin, &i)) {
      tt_error(diag, loc, "parameter '%s' has no place in the ONNX model", var->name);
      continue;
    }
    if (!make_raw(m, g->initializer[i], diag)) continue;
    if (g->initializer[i]->raw_data.len != tt_type_bytes(&var->type))
      tt_error(diag, loc, "parameter '%s' has %zu bytes, its initializer '%s' %zu", var->name, tt_type_bytes(&var->type),
               var->origin, g->initializer[i]->raw_data.len);
    names_set(params, m->arena, var->origin, (uint32_t)v);
    ++*count;
  }
  return diag->errors == before;
}

bool tt_onnx_image_build(tt_onnx_model *model, const tt_module *module, tt_arena *arena, tt_onnx_image *out,
                         tt_diag *diag) {
  names params = {0};
  int count = 0;
  *out = (tt_onnx_image){0};
  onnx_untie(model);
  TT_TRY(collect(model, module, &params, &count, diag));
  out->bytes = onnx__model_proto__get_packed_size(model->proto);
  if (out->bytes > IMAGE_MAX) {
    tt_error(diag, (tt_loc){.file = model->path}, "the exported model would have %zu bytes, an ONNX file at most 2 GiB",
             out->bytes);
    return false;
  }
  out->data = tt_arena_alloc(arena, out->bytes);
  onnx__model_proto__pack(model->proto, out->data);
  out->patches = TT_NEW_N(arena, tt_onnx_patch, count + 1);
  find_patches(out, &params, arena);
  TT_ASSERT(out->n_patches == count);
  return true;
}
