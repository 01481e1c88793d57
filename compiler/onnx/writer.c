/* The writer of writer.h: lists of protobuf-c messages, packed at the end. */
#include "compiler/onnx/writer.h"
#include <string.h>
#include "compiler/onnx/model.h"

enum { IR_VERSION = 8, ONNX_UINT8 = 2, ATTRS_MAX = 12 };

struct tt_onnx_writer {
  tt_arena *arena;
  Onnx__ModelProto model;
  Onnx__GraphProto graph;
  TT_VEC(Onnx__OperatorSetIdProto *) domains;
  TT_VEC(Onnx__NodeProto *) nodes;
  TT_VEC(Onnx__TensorProto *) initializers;
  TT_VEC(Onnx__ValueInfoProto *) inputs;
  TT_VEC(Onnx__ValueInfoProto *) outputs;
};

tt_onnx_writer *tt_onnx_writer_create(tt_arena *arena, const char *graph, int64_t opset) {
  tt_onnx_writer *w = TT_NEW(arena, tt_onnx_writer);
  w->arena = arena;
  onnx__model_proto__init(&w->model);
  onnx__graph_proto__init(&w->graph);
  w->model.has_ir_version = 1;
  w->model.ir_version = IR_VERSION;
  w->model.producer_name = tt_arena_str(arena, "tetrac");
  w->model.graph = &w->graph;
  w->graph.name = tt_arena_str(arena, graph);
  tt_onnx_write_domain(w, "", opset);
  return w;
}

void tt_onnx_write_domain(tt_onnx_writer *w, const char *domain, int64_t version) {
  Onnx__OperatorSetIdProto *o = TT_NEW(w->arena, Onnx__OperatorSetIdProto);
  onnx__operator_set_id_proto__init(o);
  o->domain = tt_arena_str(w->arena, domain);
  o->has_version = 1;
  o->version = version;
  tt_vec_push(&w->domains, o);
}

static Onnx__TensorShapeProto *shape_of(tt_arena *a, const tt_type *type, const char *batch) {
  Onnx__TensorShapeProto *s = TT_NEW(a, Onnx__TensorShapeProto);
  onnx__tensor_shape_proto__init(s);
  s->n_dim = type->rank;
  s->dim = TT_NEW_N(a, Onnx__TensorShapeProto__Dimension *, type->rank + 1);
  for (int i = 0; i < type->rank; i++) {
    Onnx__TensorShapeProto__Dimension *d = TT_NEW(a, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(d);
    bool symbolic = i == 0 && batch;
    d->value_case = symbolic ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                             : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    if (symbolic)
      d->dim_param = tt_arena_str(a, batch);
    else
      d->dim_value = type->dim[i];
    s->dim[i] = d;
  }
  return s;
}

static Onnx__ValueInfoProto *value_info(tt_arena *a, const char *name, const tt_type *type, const char *batch) {
  Onnx__ValueInfoProto *v = TT_NEW(a, Onnx__ValueInfoProto);
  Onnx__TypeProto *t = TT_NEW(a, Onnx__TypeProto);
  Onnx__TypeProto__Tensor *tensor = TT_NEW(a, Onnx__TypeProto__Tensor);
  onnx__value_info_proto__init(v);
  onnx__type_proto__init(t);
  onnx__type_proto__tensor__init(tensor);
  bool packed = type->dtype == TT_MX;
  tt_type bytes = tt_type_make(TT_BOOL, 1, (int64_t[]){(int64_t)tt_type_bytes(type)});
  tensor->has_elem_type = 1;
  tensor->elem_type = packed ? ONNX_UINT8 : onnx_dtype_of((tt_dtype)type->dtype);
  tensor->shape = shape_of(a, packed ? &bytes : type, batch);
  t->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  t->tensor_type = tensor;
  v->name = tt_arena_str(a, name);
  v->type = t;
  return v;
}

void tt_onnx_write_input(tt_onnx_writer *w, const char *name, const tt_type *type, const char *batch) {
  tt_vec_push(&w->inputs, value_info(w->arena, name, type, batch));
}

void tt_onnx_write_output(tt_onnx_writer *w, const char *name, const tt_type *type, const char *batch) {
  tt_vec_push(&w->outputs, value_info(w->arena, name, type, batch));
}

void tt_onnx_write_initializer(tt_onnx_writer *w, const char *name, const tt_type *type, const void *data) {
  tt_vec_push(&w->initializers, onnx_tensor_make(w->arena, name, type, data));
}

static char **copy_names(tt_arena *a, int n, const char *const *from) {
  char **to = TT_NEW_N(a, char *, n + 1);
  for (int i = 0; i < n; i++) to[i] = tt_arena_str(a, from[i]);
  return to;
}

void tt_onnx_write_node(tt_onnx_writer *w, const char *domain, const char *op, const char *name, int n_in,
                        const char *const *in, int n_out, const char *const *out) {
  Onnx__NodeProto *n = TT_NEW(w->arena, Onnx__NodeProto);
  onnx__node_proto__init(n);
  n->domain = domain ? tt_arena_str(w->arena, domain) : NULL;
  n->op_type = tt_arena_str(w->arena, op);
  n->name = tt_arena_str(w->arena, name);
  n->n_input = (size_t)n_in;
  n->input = copy_names(w->arena, n_in, in);
  n->n_output = (size_t)n_out;
  n->output = copy_names(w->arena, n_out, out);
  n->attribute = TT_NEW_N(w->arena, Onnx__AttributeProto *, ATTRS_MAX);
  tt_vec_push(&w->nodes, n);
}

static Onnx__AttributeProto *add_attr(tt_onnx_writer *w, const char *name, Onnx__AttributeProto__AttributeType type) {
  TT_ASSERT(w->nodes.count);
  Onnx__NodeProto *n = w->nodes.data[w->nodes.count - 1];
  TT_ASSERT(n->n_attribute < ATTRS_MAX);
  Onnx__AttributeProto *a = TT_NEW(w->arena, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = tt_arena_str(w->arena, name);
  a->has_type = 1;
  a->type = type;
  n->attribute[n->n_attribute++] = a;
  return a;
}

void tt_onnx_write_int(tt_onnx_writer *w, const char *name, int64_t value) {
  Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  a->has_i = 1;
  a->i = value;
}

void tt_onnx_write_ints(tt_onnx_writer *w, const char *name, int n, const int64_t *values) {
  Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  a->n_ints = (size_t)n;
  a->ints = tt_arena_copy(w->arena, values, (size_t)n * sizeof *values);
}

void tt_onnx_write_float(tt_onnx_writer *w, const char *name, double value) {
  Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  a->has_f = 1;
  a->f = (float)value;
}

void tt_onnx_write_string(tt_onnx_writer *w, const char *name, const char *value) {
  Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
  a->has_s = 1;
  a->s = (ProtobufCBinaryData){strlen(value), (uint8_t *)tt_arena_str(w->arena, value)};
}

void tt_onnx_writer_finish(tt_onnx_writer *w, uint8_t **data, size_t *bytes) {
  w->model.opset_import = w->domains.data, w->model.n_opset_import = w->domains.count;
  w->graph.node = w->nodes.data, w->graph.n_node = w->nodes.count;
  w->graph.initializer = w->initializers.data, w->graph.n_initializer = w->initializers.count;
  w->graph.input = w->inputs.data, w->graph.n_input = w->inputs.count;
  w->graph.output = w->outputs.data, w->graph.n_output = w->outputs.count;
  *bytes = onnx__model_proto__get_packed_size(&w->model);
  *data = tt_arena_alloc(w->arena, *bytes);
  onnx__model_proto__pack(&w->model, *data);
  tt_vec_free(&w->domains);
  tt_vec_free(&w->nodes);
  tt_vec_free(&w->initializers);
  tt_vec_free(&w->inputs);
  tt_vec_free(&w->outputs);
}
