/* Private to the importer: its state and the vocabulary that import functions are written in. */
#ifndef TT_ONNX_IMPORT_H
#define TT_ONNX_IMPORT_H
#include "compiler/onnx/model.h"

typedef struct importer {
  tt_onnx_model *model;
  tt_module *module;
  tt_graph *g;
  tt_diag *diag;
  tt_builder b;       /* loc is the node being imported */
  names values;       /* ONNX name -> tt_value; TT_NONE for results of nodes that failed */
  names initializers; /* -> index in the model's graph */
  int64_t batch;
  tt_op op;          /* IR op of the row being imported */
  int errors_before; /* errors reported before import began */
} importer;

/* One row of onnx_ops.def. */
typedef bool import_fn(importer *im, const Onnx__NodeProto *n);
typedef struct import_row {
  const char *op;
  int since, until; /* opsets whose form of the op is understood */
  int min_in, max_in;
  import_fn *run;
  tt_op ir;
  const char *attrs; /* words NAME:KIND, of the attributes that are read or may be ignored */
} import_row;
extern const import_row import_rows[];
extern const int import_row_count;

/* Operands. `in` never fails for a present operand: undefined names and failed nodes were dealt with before. */
bool has_in(const Onnx__NodeProto *n, size_t k);
tt_value in(importer *im, const Onnx__NodeProto *n, size_t k);
/* The dimensions of operand k. */
const tt_type *in_type(importer *im, const Onnx__NodeProto *n, size_t k);

/* A constant list of integers, from operand k. False after a diagnostic where it depends on data or is no such list. */
typedef struct int_list {
  int count;
  int64_t v[64];
} int_list;
bool const_ints(importer *im, const Onnx__NodeProto *n, size_t k, int_list *out);
bool const_int(importer *im, const Onnx__NodeProto *n, size_t k, int64_t *out);
bool const_float(importer *im, const Onnx__NodeProto *n, size_t k, double *out);
/* Integers that are an attribute in older opsets and operand k in newer ones; *given false where neither is there. */
bool ints_of(importer *im, const Onnx__NodeProto *n, const char *attr, size_t k, int_list *out, bool *given);
bool attr_ints(importer *im, const Onnx__NodeProto *n, const char *attr, int_list *out);
/* Negative axes count from the end; false after a diagnostic outside [-rank, rank). */
bool axis_of(importer *im, int64_t axis, int rank, int *out);

/* Building, folded: a result whose operands are all constants is one. TT_NONE after a diagnostic; operands propagate it. */
tt_value build(importer *im, tt_op op, int n_in, const tt_value *x, int n_attrs, const tt_attr *attrs);
tt_value build_unary(importer *im, tt_op op, tt_value x);
tt_value build_binary(importer *im, tt_op op, tt_value x, tt_value y);
tt_value build_reshape(importer *im, tt_value x, int rank, const int64_t *dim);
tt_value build_transpose(importer *im, tt_value x, const int64_t *perm);
tt_value build_slice(importer *im, tt_value x, const int64_t *starts, const int64_t *ends, const int64_t *steps);
tt_value build_concat(importer *im, int n, const tt_value *x, int axis);
tt_value build_cast(importer *im, tt_value x, tt_dtype to);
tt_value const_ints_value(importer *im, int n, const int64_t *v);
tt_value const_filled(importer *im, tt_type type, double x);

/* Results. */
bool set_out(importer *im, const Onnx__NodeProto *n, size_t k, tt_value v);            /* false where v is TT_NONE */
bool refuse(importer *im, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* error at the node; false */

/* The import functions. */
#define ONNX_OP(op, since, until, min_in, max_in, fn, ir, attrs) import_fn import_##fn;
#include "compiler/onnx/onnx_ops.def"
#undef ONNX_OP
#endif
