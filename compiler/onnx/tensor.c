/* TensorProto to type and bytes and back, and external data. Every claim of the message is checked against what is there.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/onnx/model.h"

bool onnx_dtype(int32_t onnx_type, tt_dtype *out) {
  switch (onnx_type) {
  case ONNX_FLOAT: *out = TT_F32; return true;
  case ONNX_DOUBLE: *out = TT_F64; return true;
  case ONNX_INT32: *out = TT_I32; return true;
  case ONNX_INT64: *out = TT_I64; return true;
  case ONNX_BOOL: *out = TT_BOOL; return true;
  default: return false;
  }
}

int32_t onnx_dtype_of(tt_dtype dtype) {
  switch (dtype) {
  case TT_F32: return ONNX_FLOAT;
  case TT_F64: return ONNX_DOUBLE;
  case TT_I32: return ONNX_INT32;
  case TT_I64: return ONNX_INT64;
  case TT_BOOL: return ONNX_BOOL;
  default: return 0;
  }
}

const char *onnx_dtype_text(int32_t onnx_type) {
  static const char *const text[] = {"undefined", "float32", "uint8",     "int8",       "uint16",  "int16",
                                     "int32",     "int64",   "string",    "bool",       "float16", "float64",
                                     "uint32",    "uint64",  "complex64", "complex128", "bfloat16"};
  return onnx_type >= 0 && onnx_type < (int32_t)(sizeof text / sizeof *text) ? text[onnx_type] : "a newer element type";
}

bool onnx_tensor_type(const Onnx__TensorProto *t, tt_type *type, tt_loc loc, tt_diag *diag) {
  const char *name = t->name ? t->name : "";
  tt_dtype dtype = TT_F32;
  if (!onnx_dtype(t->data_type, &dtype)) {
    tt_error(diag, loc,
             "tensor '%s' holds %s; float32, float64, int32, int64 and bool are supported: export the model in float32",
             name, onnx_dtype_text(t->data_type));
    return false;
  }
  if (t->n_dims > TT_MAX_RANK) {
    tt_error(diag, loc, "tensor '%s' has %zu dimensions, at most %d are supported", name, t->n_dims, TT_MAX_RANK);
    return false;
  }
  int64_t count = 1;
  for (size_t i = 0; i < t->n_dims; i++) {
    if (t->dims[i] < 0 || __builtin_mul_overflow(count, t->dims[i], &count) || count > INT64_MAX / 16) {
      tt_error(diag, loc, "tensor '%s' has an impossible dimension %zu: %lld", name, i, (long long)t->dims[i]);
      return false;
    }
  }
  *type = tt_type_make(dtype, (int)t->n_dims, t->dims);
  return true;
}

static bool count_is(const Onnx__TensorProto *t, size_t have, size_t need, const char *unit, tt_loc loc, tt_diag *diag) {
  if (have == need) return true;
  tt_error(diag, loc, "tensor '%s' has %zu %s of data, its shape needs %zu: the file is damaged", t->name ? t->name : "",
           have, unit, need);
  return false;
}

/* Booleans travel as int32 where they are not raw. */
static const void *bools_of(const Onnx__TensorProto *t, tt_arena *arena) {
  uint8_t *b = TT_NEW_N(arena, uint8_t, t->n_int32_data);
  for (size_t i = 0; i < t->n_int32_data; i++) b[i] = t->int32_data[i] != 0;
  return b;
}

bool onnx_tensor_bytes(const Onnx__TensorProto *t, tt_arena *arena, tt_type *type, const void **data, tt_loc loc,
                       tt_diag *diag) {
  TT_TRY(onnx_tensor_type(t, type, loc, diag));
  if (t->n_external_data || (t->has_data_location && t->data_location)) {
    tt_error(diag, loc, "tensor '%s' keeps its data in another file, which is not possible here", t->name ? t->name : "");
    return false;
  }
  size_t count = (size_t)tt_type_count(type), bytes = tt_type_bytes(type);
  if (t->has_raw_data && (t->raw_data.len || !count)) {
    TT_TRY(count_is(t, t->raw_data.len, bytes, "bytes", loc, diag));
    *data = t->raw_data.data;
    if ((uintptr_t)*data % 8 || !*data) *data = tt_arena_copy(arena, t->raw_data.data, bytes);
    return true;
  }
  switch (type->dtype) {
  case TT_F32: *data = t->float_data; return count_is(t, t->n_float_data, count, "values", loc, diag);
  case TT_F64: *data = t->double_data; return count_is(t, t->n_double_data, count, "values", loc, diag);
  case TT_I32: *data = t->int32_data; return count_is(t, t->n_int32_data, count, "values", loc, diag);
  case TT_I64: *data = t->int64_data; return count_is(t, t->n_int64_data, count, "values", loc, diag);
  default: *data = bools_of(t, arena); return count_is(t, t->n_int32_data, count, "values", loc, diag);
  }
}

Onnx__TensorProto *onnx_tensor_make(tt_arena *arena, const char *name, const tt_type *type, const void *data) {
  Onnx__TensorProto *t = TT_NEW(arena, Onnx__TensorProto);
  onnx__tensor_proto__init(t);
  t->name = name ? tt_arena_str(arena, name) : NULL;
  t->has_data_type = 1;
  t->data_type = onnx_dtype_of((tt_dtype)type->dtype);
  t->n_dims = type->rank;
  t->dims = tt_arena_copy(arena, type->dim, sizeof type->dim);
  t->has_raw_data = 1;
  t->raw_data = (ProtobufCBinaryData){tt_type_bytes(type), (uint8_t *)(uintptr_t)data};
  return t;
}

static const char *external_key(const Onnx__TensorProto *t, const char *key) {
  for (size_t i = 0; i < t->n_external_data; i++) {
    const Onnx__StringStringEntryProto *e = t->external_data[i];
    if (e->key && e->value && strcmp(e->key, key) == 0) return e->value;
  }
  return NULL;
}

static bool external_number(const Onnx__TensorProto *t, const char *key, uint64_t absent, uint64_t *out) {
  const char *text = external_key(t, key);
  *out = absent;
  if (!text) return true;
  char *end;
  errno = 0;
  *out = strtoull(text, &end, 10);
  return *text >= '0' && *text <= '9' && !*end && !errno;
}

/* The file's path, if it lies in the folder of the model after links are followed; else NULL. */
static char *external_path(const tt_onnx_model *m, const char *location) {
  if (!location || !*location || *location == '/') return NULL;
  const char *slash = strrchr(m->path, '/');
  char *folder = slash ? tt_arena_strn(m->arena, m->path, (size_t)(slash - m->path) + 1) : tt_arena_str(m->arena, "./");
  char root[PATH_MAX], full[PATH_MAX];
  if (!realpath(folder, root) || !realpath(tt_arena_printf(m->arena, "%s%s", folder, location), full)) return NULL;
  size_t n = strlen(root);
  bool inside = strncmp(root, full, n) == 0 && (full[n] == '/' || strcmp(root, "/") == 0);
  return inside ? tt_arena_str(m->arena, full) : NULL;
}

bool onnx_tensor_load_external(tt_onnx_model *m, Onnx__TensorProto *t, tt_diag *diag) {
  if (!t->n_external_data && !(t->has_data_location && t->data_location)) return true;
  tt_loc loc = {.file = m->path};
  tt_type type;
  TT_TRY(onnx_tensor_type(t, &type, loc, diag));
  const char *name = t->name ? t->name : "", *location = external_key(t, "location");
  uint64_t offset, length, need = tt_type_bytes(&type);
  if (!external_number(t, "offset", 0, &offset) || !external_number(t, "length", need, &length) || length != need) {
    tt_error(diag, loc, "tensor '%s': offset or length of its external data is wrong (%llu bytes needed)", name,
             (unsigned long long)need);
    return false;
  }
  char *path = external_path(m, location);
  if (!path) {
    tt_error(diag, loc, "tensor '%s': its data file '%s' is not in the model's folder: put it beside the model", name,
             location ? location : "");
    return false;
  }
  FILE *file = fopen(path, "rb");
  uint8_t *bytes = NULL;
  bool there =
      file && fseeko(file, 0, SEEK_END) == 0 && offset <= (uint64_t)ftello(file) && need <= (uint64_t)ftello(file) - offset;
  if (there) {
    bytes = tt_arena_alloc(m->arena, need);
    there = fseeko(file, (off_t)offset, SEEK_SET) == 0 && fread(bytes, 1, need, file) == need;
  }
  if (file) fclose(file);
  if (!there) {
    tt_error(diag, loc, "tensor '%s': its data file '%s' has no %llu bytes at %llu: it is cut short or of another model",
             name, location, (unsigned long long)need, (unsigned long long)offset);
    return false;
  }
  t->n_external_data = 0;
  t->external_data = NULL;
  t->has_data_location = 0;
  t->data_location = 0;
  t->has_raw_data = 1;
  t->raw_data = (ProtobufCBinaryData){need, bytes};
  return true;
}
