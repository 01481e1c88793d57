/* Writing ONNX models from nothing: what `tetrac new` and graph export use, so that protobuf stays inside this room.
 * Strings are copied, tensor data is not: it must live until tt_onnx_writer_finish. */
#ifndef TT_ONNX_WRITER_H
#define TT_ONNX_WRITER_H
#include "compiler/ir/types.h"
#include "compiler/support/arena.h"

typedef struct tt_onnx_writer tt_onnx_writer;
tt_onnx_writer *tt_onnx_writer_create(tt_arena *arena, const char *graph, int64_t opset);
/* Declares a further operator domain that nodes use. */
void tt_onnx_write_domain(tt_onnx_writer *w, const char *domain, int64_t version);
/* `batch` names a symbolic first dimension; NULL keeps the type's. TT_MX types are written as uint8 of their bytes. */
void tt_onnx_write_input(tt_onnx_writer *w, const char *name, const tt_type *type, const char *batch);
void tt_onnx_write_output(tt_onnx_writer *w, const char *name, const tt_type *type, const char *batch);
void tt_onnx_write_initializer(tt_onnx_writer *w, const char *name, const tt_type *type, const void *data);
/* A node; domain NULL for the standard operators. Attributes that follow belong to it. */
void tt_onnx_write_node(tt_onnx_writer *w, const char *domain, const char *op, const char *name, int n_in,
                        const char *const *in, int n_out, const char *const *out);
void tt_onnx_write_int(tt_onnx_writer *w, const char *name, int64_t value);
void tt_onnx_write_ints(tt_onnx_writer *w, const char *name, int n, const int64_t *values);
void tt_onnx_write_float(tt_onnx_writer *w, const char *name, double value);
void tt_onnx_write_string(tt_onnx_writer *w, const char *name, const char *value);
/* The serialised model, in the arena. */
void tt_onnx_writer_finish(tt_onnx_writer *w, uint8_t **data, size_t *bytes);
#endif
