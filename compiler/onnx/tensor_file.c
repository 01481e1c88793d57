/* Tensors in files of their own: TensorProto (.pb, as ONNX test cases keep them) and NumPy's .npy, version 1 (format as
 * described in NEP 1: magic, version, header length, a Python dict literal, data). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/onnx/model.h"

enum { NPY_ALIGN = 64, NPY_PREFIX = 10 };
static const char npy_magic[6] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y'};

static bool ends_with(const char *s, const char *tail) {
  size_t n = strlen(s), k = strlen(tail);
  return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool fail(tt_diag *diag, const char *path, const char *what) {
  tt_error(diag, (tt_loc){.file = path}, "%s", what);
  return false;
}

/* ---- .npy ---- */

/* Element types: ours, and the small integers that image and label files come in, widened to i32. */
typedef struct npy_type {
  const char *descr;
  tt_dtype dtype;
  int bytes;
} npy_type;
static const npy_type npy_types[] = {{"<f4", TT_F32, 4},  {"<f8", TT_F64, 8}, {"<i4", TT_I32, 4}, {"<i8", TT_I64, 8},
                                     {"|b1", TT_BOOL, 1}, {"|u1", TT_I32, 1}, {"|i1", TT_I32, 1}};

/* The text behind 'key': in the header. */
static const char *npy_value(const char *header, const char *key) {
  const char *at = strstr(header, key);
  if (!at) return NULL;
  at += strlen(key);
  while (*at == ' ' || *at == ':') at++;
  return at;
}

static const npy_type *npy_descr(const char *at) {
  if (!at || *at != '\'') return NULL;
  for (size_t i = 0; i < sizeof npy_types / sizeof *npy_types; i++) {
    size_t n = strlen(npy_types[i].descr);
    if (strncmp(at + 1, npy_types[i].descr, n) == 0 && at[1 + n] == '\'') return &npy_types[i];
  }
  return NULL;
}

/* (2, 3), (2,) or () */
static bool npy_shape(const char *at, int *rank, int64_t *dim) {
  if (!at || *at++ != '(') return false;
  for (*rank = 0; *rank < TT_MAX_RANK; ++*rank) {
    while (*at == ' ' || *at == ',') at++;
    if (*at == ')') return true;
    char *end;
    errno = 0;
    dim[*rank] = strtoll(at, &end, 10);
    if (end == at || errno || dim[*rank] < 0 || dim[*rank] > INT32_MAX) return false;
    at = end;
  }
  while (*at == ' ' || *at == ',') at++;
  return *at == ')';
}

static tt_tensor widened(tt_arena *arena, tt_type type, const uint8_t *bytes, bool is_signed) {
  tt_tensor t = tt_tensor_new(arena, type);
  for (int64_t i = 0; i < tt_type_count(&type); i++) t.d[i] = is_signed ? (int8_t)bytes[i] : bytes[i];
  return t;
}

static bool npy_read(const char *path, const uint8_t *file, size_t bytes, tt_tensor *out, tt_arena *arena, tt_diag *diag) {
  if (bytes < NPY_PREFIX || memcmp(file, npy_magic, sizeof npy_magic) != 0)
    return fail(diag, path, "this is not a .npy file");
  size_t length = (size_t)file[8] | (size_t)file[9] << 8;
  if (file[6] != 1 || bytes - NPY_PREFIX < length) return fail(diag, path, "not a .npy file of version 1, or cut short");
  const char *header = tt_arena_strn(arena, (const char *)file + NPY_PREFIX, length);
  const npy_type *element = npy_descr(npy_value(header, "'descr'"));
  const char *order = npy_value(header, "'fortran_order'");
  int rank;
  int64_t dim[TT_MAX_RANK] = {0};
  if (!element)
    return fail(diag, path, "its element type is not supported (float32, float64, int8/32/64, uint8, bool are)");
  if (!order || strncmp(order, "False", 5) != 0)
    return fail(diag, path, "column-major arrays are not supported: numpy.ascontiguousarray");
  if (!npy_shape(npy_value(header, "'shape'"), &rank, dim)) return fail(diag, path, "its shape cannot be read");
  tt_type type = tt_type_make(element->dtype, rank, dim);
  double need = element->bytes; // in double: no overflow to guard
  for (int i = 0; i < rank; i++) need *= (double)dim[i];
  if (need != (double)(bytes - NPY_PREFIX - length))
    return fail(diag, path, "has another size than its shape needs: cut short or damaged");
  const uint8_t *data = file + NPY_PREFIX + length;
  bool narrow = element->dtype == TT_I32 && element->bytes == 1;
  if (narrow)
    *out = widened(arena, type, data, element->descr[1] == 'i');
  else
    *out = tt_tensor_from_bytes(arena, type, tt_arena_copy(arena, data, tt_type_bytes(&type)));
  return true;
}

static const char *npy_descr_of(tt_dtype dtype) {
  for (size_t i = 0; i < sizeof npy_types / sizeof *npy_types; i++)
    if (npy_types[i].dtype == dtype) return npy_types[i].descr;
  return NULL;
}

static void npy_write(const tt_tensor *t, const void *bytes, tt_strbuf *out) {
  tt_strbuf header = {0};
  tt_strbuf_printf(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (", npy_descr_of((tt_dtype)t->type.dtype));
  for (int i = 0; i < t->type.rank; i++)
    tt_strbuf_printf(&header, "%lld,%s", (long long)t->type.dim[i], i + 1 < t->type.rank ? " " : "");
  tt_strbuf_printf(&header, "), }");
  while ((NPY_PREFIX + header.count + 1) % NPY_ALIGN) tt_strbuf_append(&header, " ", 1);
  tt_strbuf_append(&header, "\n", 1);
  const char prefix[] = {1, 0, (char)(header.count & 0xff), (char)(header.count >> 8)};
  tt_strbuf_append(out, npy_magic, sizeof npy_magic);
  tt_strbuf_append(out, prefix, sizeof prefix);
  tt_strbuf_append(out, header.data, header.count);
  tt_strbuf_append(out, bytes, tt_type_bytes(&t->type));
  tt_strbuf_free(&header);
}

/* ---- .pb ---- */

static bool pb_read(const char *path, const uint8_t *file, size_t bytes, tt_tensor *out, tt_arena *arena, tt_diag *diag) {
  wire_fault fault;
  if (!wire_check(&onnx__tensor_proto__descriptor, file, bytes, &fault))
    return fail(diag, path, "not an ONNX tensor, or a damaged one");
  ProtobufCAllocator allocator = onnx_allocator(arena);
  const Onnx__TensorProto *t = onnx__tensor_proto__unpack(&allocator, bytes, file);
  tt_type type;
  const void *data;
  if (!t) return fail(diag, path, "not an ONNX tensor, or a damaged one");
  TT_TRY(onnx_tensor_bytes(t, arena, &type, &data, (tt_loc){.file = path}, diag));
  *out = tt_tensor_from_bytes(arena, type, data);
  return true;
}

static void pb_write(const char *name, const tt_tensor *t, const void *bytes, tt_strbuf *out) {
  tt_arena *arena = tt_arena_create();
  const Onnx__TensorProto *proto = onnx_tensor_make(arena, name, &t->type, bytes);
  size_t n = onnx__tensor_proto__get_packed_size(proto);
  uint8_t *packed = tt_arena_alloc(arena, n);
  onnx__tensor_proto__pack(proto, packed);
  tt_strbuf_append(out, (const char *)packed, n);
  tt_arena_destroy(arena);
}

bool tt_tensor_read(const char *path, tt_tensor *out, tt_arena *arena, tt_diag *diag) {
  size_t bytes = 0;
  bool npy = ends_with(path, ".npy");
  if (!npy && !ends_with(path, ".pb")) return fail(diag, path, "tensor files end in .npy or .pb");
  const uint8_t *file = (const uint8_t *)tt_read_file(arena, path, &bytes);
  if (!file) return fail(diag, path, strerror(errno));
  return npy ? npy_read(path, file, bytes, out, arena, diag) : pb_read(path, file, bytes, out, arena, diag);
}

bool tt_tensor_write(const char *path, const char *name, const tt_tensor *t, tt_diag *diag) {
  bool npy = ends_with(path, ".npy");
  if (!npy && !ends_with(path, ".pb")) return fail(diag, path, "tensor files end in .npy or .pb");
  if (t->type.dtype == TT_MX) return fail(diag, path, "packed MX tensors have no form in .npy and .pb files");
  tt_arena *arena = tt_arena_create();
  void *bytes = tt_arena_alloc(arena, tt_type_bytes(&t->type));
  tt_tensor_to_bytes(t, bytes);
  tt_strbuf out = {0};
  if (npy)
    npy_write(t, bytes, &out);
  else
    pb_write(name, t, bytes, &out);
  bool done = tt_write_file(path, out.data, out.count);
  if (!done) fail(diag, path, strerror(errno));
  tt_strbuf_free(&out);
  tt_arena_destroy(arena);
  return done;
}
