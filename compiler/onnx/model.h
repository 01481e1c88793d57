/* Private to compiler/onnx: the loaded model, name tables, the wire walker, tensors. Only this room sees protobuf-c. */
#ifndef TT_ONNX_MODEL_H
#define TT_ONNX_MODEL_H
#include <onnx/onnx.pb-c.h>
#include "compiler/onnx/onnx.h"

enum { ONNX_OPSET_MIN = 7, ONNX_OPSET_MAX = 23 };

/* Element types of TensorProto and ValueInfo that the schema's enum names under longer words. */
enum {
  ONNX_FLOAT = 1,
  ONNX_INT32 = 6,
  ONNX_INT64 = 7,
  ONNX_BOOL = 9,
  ONNX_FLOAT16 = 10,
  ONNX_DOUBLE = 11,
  ONNX_BFLOAT16 = 16
};

struct tt_onnx_model {
  tt_arena *arena;
  const char *path;
  Onnx__ModelProto *proto; /* memory: arena */
  int64_t opset;           /* of the default domain */
  const char *notes; /* what was untied and what was kept; NULL until then. Afterwards `proto` is the rewritten model */
};

/* A map from strings to numbers; keys are not copied. Memory: the arena given at the first insertion. */
typedef struct names {
  const char **key;
  uint32_t *value;
  size_t count, capacity;
} names;
bool names_find(const names *m, const char *key, uint32_t *value); /* value may be NULL */
void names_set(names *m, tt_arena *arena, const char *key, uint32_t value);

/* One field of a protobuf message on the wire. */
typedef struct wire_cursor {
  const uint8_t *at, *end;
} wire_cursor;
typedef struct wire_field {
  uint32_t number;
  unsigned type;       /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
  const uint8_t *data; /* type 2: payload */
  uint64_t length;     /* type 2: its length; type 0: the value */
} wire_field;
/* NULL where a field was read, else what is wrong with the bytes at the cursor. */
const char *wire_next(wire_cursor *c, wire_field *f);
/* Walks a whole message by its descriptor. False with `fault` filled: protobuf-c alone would only say "no". */
typedef struct wire_fault {
  const char *what, *message, *field; /* message and field names; field may be NULL */
  uint64_t offset;
} wire_fault;
bool wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t bytes, wire_fault *fault);

/* protobuf-c's memory in an arena; freeing does nothing. */
ProtobufCAllocator onnx_allocator(tt_arena *arena);

/* Tensors. The type and bytes of a TensorProto whose data is inside the message; *data points into the message where it is
 * raw and aligned, else into `arena`. */
bool onnx_dtype(int32_t onnx_type, tt_dtype *out);
int32_t onnx_dtype_of(tt_dtype dtype);
const char *onnx_dtype_text(int32_t onnx_type);
bool onnx_tensor_type(const Onnx__TensorProto *t, tt_type *type, tt_loc loc, tt_diag *diag);
bool onnx_tensor_bytes(const Onnx__TensorProto *t, tt_arena *arena, tt_type *type, const void **data, tt_loc loc,
                       tt_diag *diag);
Onnx__TensorProto *onnx_tensor_make(tt_arena *arena, const char *name, const tt_type *type,
                                    const void *data); /* raw, not copied */
/* Brings external data of `t` into raw_data. Files must lie in the model's own folder. */
bool onnx_tensor_load_external(tt_onnx_model *m, Onnx__TensorProto *t, tt_diag *diag);

/* Small things. */
const char *onnx_node_name(const Onnx__NodeProto *n); /* its name, or its first output's where it has none */
const Onnx__AttributeProto *onnx_attr(const Onnx__NodeProto *n, const char *name);
int64_t onnx_attr_int(const Onnx__NodeProto *n, const char *name, int64_t absent);
float onnx_attr_float(const Onnx__NodeProto *n, const char *name, float absent);
bool onnx_attr_is(const Onnx__NodeProto *n, const char *name, const char *text); /* string attribute equals text */
bool onnx_is(const Onnx__NodeProto *n, const char *op);                          /* op of the default domain */
tt_loc onnx_loc(const tt_onnx_model *m, const Onnx__NodeProto *n);

/* Names: every operand is defined before its use, once. Reports all faults. */
bool onnx_check_names(const tt_onnx_model *m, tt_diag *diag);
/* Replaces calls of local functions by their bodies. */
bool onnx_inline_functions(tt_onnx_model *m, tt_diag *diag);
/* True where an initializer is trained: float32, more than one element, no attention mask. */
bool onnx_is_parameter(const Onnx__TensorProto *t);
/* Rewrites the model so that every parameter is an initializer of its own; see untie.c. Runs once. */
void onnx_untie(tt_onnx_model *m);
#endif
