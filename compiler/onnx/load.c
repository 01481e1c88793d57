/* Reads a model file: bytes -> wire check -> protobuf-c -> version and structure checks. What comes out of here is a
 * ModelProto whose every tensor has its data inside and whose names are defined before their use. */
#include <errno.h>
#include <string.h>
#include "compiler/onnx/model.h"

static void *arena_alloc(void *arena, size_t bytes) { return tt_arena_alloc(arena, bytes); }
static void arena_free(void *arena, void *p) {
  (void)arena;
  (void)p;
}
ProtobufCAllocator onnx_allocator(tt_arena *arena) { return (ProtobufCAllocator){arena_alloc, arena_free, arena}; }

const char *onnx_node_name(const Onnx__NodeProto *n) {
  if (n->name && *n->name) return n->name;
  for (size_t i = 0; i < n->n_output; i++)
    if (*n->output[i]) return n->output[i];
  return "?";
}

tt_loc onnx_loc(const tt_onnx_model *m, const Onnx__NodeProto *n) {
  return (tt_loc){.file = m->path, .node = onnx_node_name(n), .op = n->op_type ? n->op_type : "?"};
}

static bool is_default_domain(const char *domain) { return !domain || !*domain || strcmp(domain, "ai.onnx") == 0; }

bool onnx_is(const Onnx__NodeProto *n, const char *op) {
  return is_default_domain(n->domain) && n->op_type && strcmp(n->op_type, op) == 0;
}

const Onnx__AttributeProto *onnx_attr(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (n->attribute[i]->name && strcmp(n->attribute[i]->name, name) == 0) return n->attribute[i];
  return NULL;
}

int64_t onnx_attr_int(const Onnx__NodeProto *n, const char *name, int64_t absent) {
  const Onnx__AttributeProto *a = onnx_attr(n, name);
  return a ? a->i : absent;
}

float onnx_attr_float(const Onnx__NodeProto *n, const char *name, float absent) {
  const Onnx__AttributeProto *a = onnx_attr(n, name);
  return a ? a->f : absent;
}

bool onnx_attr_is(const Onnx__NodeProto *n, const char *name, const char *text) {
  const Onnx__AttributeProto *a = onnx_attr(n, name);
  return a && a->has_s && a->s.len == strlen(text) && memcmp(a->s.data, text, a->s.len) == 0;
}

static bool unpack(tt_onnx_model *m, const uint8_t *data, size_t bytes, tt_diag *diag) {
  tt_loc loc = {.file = m->path};
  wire_fault fault;
  if (!wire_check(&onnx__model_proto__descriptor, data, bytes, &fault)) {
    bool first = fault.offset == 0; // nothing at all could be read: rather another kind of file than a damaged one
    if (first)
      tt_error(diag, loc, "this is not an ONNX model (no protobuf message at its start)");
    else
      tt_error(diag, loc, "not an ONNX model, or a damaged one: at byte %llu a field of %s%s%s %s",
               (unsigned long long)fault.offset, fault.message, fault.field ? "." : "", fault.field ? fault.field : "",
               fault.what);
    return false;
  }
  ProtobufCAllocator allocator = onnx_allocator(m->arena);
  m->proto = onnx__model_proto__unpack(&allocator, bytes, data);
  if (!m->proto) {
    tt_error(diag, loc, "not an ONNX model, or a damaged one: protobuf cannot read it");
    return false;
  }
  return true;
}

static bool check_opset(tt_onnx_model *m, tt_diag *diag) {
  tt_loc loc = {.file = m->path};
  const Onnx__ModelProto *p = m->proto;
  m->opset = 0;
  for (size_t i = 0; i < p->n_opset_import; i++)
    if (is_default_domain(p->opset_import[i]->domain)) m->opset = p->opset_import[i]->version;
  if (!m->opset) {
    tt_error(diag, loc, "this is not an ONNX model: it names no operator set");
    return false;
  }
  if (m->opset < ONNX_OPSET_MIN || m->opset > ONNX_OPSET_MAX) {
    tt_error(diag, loc, "operator set %lld; %d to %d are known: export with opset_version=17, say", (long long)m->opset,
             ONNX_OPSET_MIN, ONNX_OPSET_MAX);
    return false;
  }
  return true;
}

/* protobuf leaves strings NULL where absent; from here on nodes have an op, and operands and values have names. */
static bool check_fields(const tt_onnx_model *m, tt_diag *diag) {
  tt_loc loc = {.file = m->path};
  const Onnx__GraphProto *g = m->proto->graph;
  int before = diag->errors;
  for (size_t i = 0; i < g->n_node; i++)
    if (!g->node[i]->op_type || !*g->node[i]->op_type || !g->node[i]->n_output)
      tt_error(diag, loc, "node %zu ('%s') has no operator or no output: the file is damaged", i,
               onnx_node_name(g->node[i]));
  for (size_t i = 0; i < g->n_initializer; i++)
    if (!g->initializer[i]->name || !*g->initializer[i]->name)
      tt_error(diag, loc, "initializer %zu has no name: the file is damaged", i);
  for (size_t i = 0; i < g->n_input + g->n_output; i++) {
    const Onnx__ValueInfoProto *v = i < g->n_input ? g->input[i] : g->output[i - g->n_input];
    if (!v->name || !*v->name) tt_error(diag, loc, "a graph input or output has no name: the file is damaged");
  }
  if (g->n_sparse_initializer) tt_error(diag, loc, "sparse initializers are not supported: export dense weights");
  if (!g->n_node) tt_error(diag, loc, "the model has no nodes");
  if (!g->n_output) tt_error(diag, loc, "the model has no outputs");
  return diag->errors == before;
}

static bool load_tensors(tt_onnx_model *m, tt_diag *diag) {
  Onnx__GraphProto *g = m->proto->graph;
  int before = diag->errors;
  for (size_t i = 0; i < g->n_initializer; i++) {
    tt_type type;
    const void *data;
    if (!onnx_tensor_load_external(m, g->initializer[i], diag)) continue;
    onnx_tensor_bytes(g->initializer[i], m->arena, &type, &data, (tt_loc){.file = m->path}, diag);
  }
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_attribute; k++)
      if (g->node[i]->attribute[k]->t) onnx_tensor_load_external(m, g->node[i]->attribute[k]->t, diag);
  return diag->errors == before;
}

tt_onnx_model *tt_onnx_load(const char *path, tt_arena *arena, tt_diag *diag) {
  tt_loc loc = {.file = path};
  size_t bytes = 0;
  char *data = tt_read_file(arena, path, &bytes);
  if (!data) return tt_error(diag, loc, "cannot read the model: %s", strerror(errno)), NULL;
  if (!bytes) return tt_error(diag, loc, "this is not an ONNX model: the file is empty"), NULL;
  tt_onnx_model *m = TT_NEW(arena, tt_onnx_model);
  m->arena = arena;
  m->path = tt_arena_str(arena, path);
  if (!unpack(m, (const uint8_t *)data, bytes, diag)) return NULL;
  if (!m->proto->graph) return tt_error(diag, loc, "this is not an ONNX model: it has no graph"), NULL;
  if (!check_opset(m, diag) || !check_fields(m, diag)) return NULL;
  if (!load_tensors(m, diag)) return NULL;
  if (!onnx_inline_functions(m, diag) || !onnx_check_names(m, diag)) return NULL;
  return m;
}
