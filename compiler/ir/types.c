/* Types of values. */
#include "compiler/ir/types.h"
#include <stdio.h>
#include <string.h>
#include "compiler/support/diag.h"

static const char *const dtype_names[TT_DTYPE_COUNT] = {"f32", "f64", "i32", "i64", "bool", "mx"};
static const char *const format_names[TT_FORMAT_COUNT] = {"mx.e2m1", "mx.e3m0", "int4"};

tt_type tt_type_make(tt_dtype dtype, int rank, const int64_t *dim) {
  TT_ASSERT(rank >= 0 && rank <= TT_MAX_RANK);
  tt_type t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)rank};
  for (int i = 0; i < rank; i++) t.dim[i] = dim[i];
  return t;
}

tt_type tt_type_scalar(tt_dtype dtype) { return (tt_type){.dtype = (uint8_t)dtype}; }

tt_type tt_type_mx(tt_format format, int64_t rows, int64_t k) {
  return (tt_type){.dtype = TT_MX, .format = (uint8_t)format, .rank = 2, .dim = {rows, k}};
}

bool tt_type_equal(const tt_type *a, const tt_type *b) {
  if (a->dtype != b->dtype || a->format != b->format || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dim[i] != b->dim[i]) return false;
  return true;
}

int64_t tt_type_count(const tt_type *t) { return tt_type_rows(t) * tt_type_last(t); }

int64_t tt_type_rows(const tt_type *t) {
  int64_t n = 1;
  for (int i = 0; i + 1 < t->rank; i++) n *= t->dim[i];
  return n;
}

int64_t tt_type_last(const tt_type *t) { return t->rank ? t->dim[t->rank - 1] : 1; }

size_t tt_dtype_bytes(tt_dtype dtype) {
  static const size_t bytes[TT_DTYPE_COUNT] = {4, 8, 4, 8, 1, 0};
  return bytes[dtype];
}

int64_t tt_mx_blocks(int64_t k) { return (k + TT_MX_BLOCK - 1) / TT_MX_BLOCK; }

size_t tt_mx_scale_offset(const tt_type *t) {
  return (size_t)(tt_type_rows(t) * tt_mx_blocks(tt_type_last(t))) * (TT_MX_BLOCK / 2);
}

size_t tt_type_bytes(const tt_type *t) {
  if (t->dtype != TT_MX) return (size_t)tt_type_count(t) * tt_dtype_bytes((tt_dtype)t->dtype);
  if (t->format == TT_INT4) return tt_mx_scale_offset(t) + sizeof(float);
  return tt_mx_scale_offset(t) + (size_t)(tt_type_rows(t) * tt_mx_blocks(tt_type_last(t)));
}

const char *tt_dtype_name(tt_dtype dtype) { return dtype_names[dtype]; }

char *tt_type_print(const tt_type *t, char *buf, size_t n) {
  size_t at = (size_t)snprintf(buf, n, "%s[", t->dtype == TT_MX ? format_names[t->format] : dtype_names[t->dtype]);
  for (int i = 0; i < t->rank && at < n; i++)
    at += (size_t)snprintf(buf + at, n - at, i ? ",%lld" : "%lld", (long long)t->dim[i]);
  if (at + 1 < n) memcpy(buf + at, "]", 2);
  return buf;
}

bool tt_broadcast(const tt_type *a, const tt_type *b, tt_type *out) {
  int rank = a->rank > b->rank ? a->rank : b->rank;
  *out = (tt_type){.dtype = a->dtype, .rank = (uint8_t)rank};
  for (int i = 0; i < rank; i++) {
    int ia = i - (rank - a->rank), ib = i - (rank - b->rank);
    int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
    if (da != db && da != 1 && db != 1) return false;
    out->dim[i] = da == 1 ? db : da;
  }
  return true;
}
