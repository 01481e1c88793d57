/* The parts of .ttir statements: names, numbers, types, attributes, data. The text may be any bytes at all. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/ir/text_terms.h"
#include "compiler/support/strbuf.h"

static const size_t max_implied_bytes = (size_t)1 << 30; /* data that the text asks for without holding it */
enum { MAX_INTS = 64 };

void tt_parse_advance(tt_parser *p) { p->tok = tt_lex_next(&p->lx); }

bool tt_parse_fail(tt_parser *p, const char *fmt, ...) {
  char text[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tt_error(p->diag, (tt_loc){.file = p->file, .line = p->tok.line}, "%s", text);
  return false;
}

bool tt_parse_expected(tt_parser *p, const char *what) {
  if (p->tok.kind == TT_TOK_BAD) return tt_parse_fail(p, "expected %s, found %s", what, p->tok.text);
  bool quoted = p->tok.kind != TT_TOK_END && p->tok.kind != TT_TOK_NEWLINE;
  return tt_parse_fail(p, "expected %s, found %s%.60s%s", what, quoted ? "'" : "", p->tok.text, quoted ? "'" : "");
}

bool tt_parse_is_punct(const tt_parser *p, char c) { return p->tok.kind == TT_TOK_PUNCT && p->tok.text[0] == c; }

bool tt_parse_is_word(const tt_parser *p, const char *word) {
  return p->tok.kind == TT_TOK_WORD && strcmp(p->tok.text, word) == 0;
}

bool tt_parse_take_punct(tt_parser *p, char c) {
  if (!tt_parse_is_punct(p, c)) return false;
  tt_parse_advance(p);
  return true;
}

bool tt_parse_take_word(tt_parser *p, const char *word) {
  if (!tt_parse_is_word(p, word)) return false;
  tt_parse_advance(p);
  return true;
}

bool tt_parse_punct(tt_parser *p, char c) {
  return tt_parse_take_punct(p, c) || tt_parse_expected(p, (char[]){'\'', c, '\'', 0});
}

bool tt_parse_end_of_line(tt_parser *p) {
  return p->tok.kind == TT_TOK_NEWLINE || p->tok.kind == TT_TOK_END || tt_parse_expected(p, "the end of the line");
}

bool tt_parse_name(tt_parser *p, const char **name) {
  if (p->tok.kind != TT_TOK_WORD && p->tok.kind != TT_TOK_STRING) return tt_parse_expected(p, "a name");
  *name = p->tok.text;
  tt_parse_advance(p);
  return true;
}

bool tt_parse_int(tt_parser *p, int64_t *i) {
  char *end;
  if (p->tok.kind != TT_TOK_NUMBER) return tt_parse_expected(p, "an integer");
  errno = 0;
  long long x = strtoll(p->tok.text, &end, 10);
  if (*end || end == p->tok.text || errno) return tt_parse_expected(p, "a 64-bit integer");
  *i = x;
  tt_parse_advance(p);
  return true;
}

bool tt_parse_size(tt_parser *p, uint64_t *n) {
  int64_t i = 0;
  TT_TRY(tt_parse_int(p, &i));
  if (i < 0 || i > (int64_t)1 << 62) return tt_parse_fail(p, "%lld is no size", (long long)i);
  *n = (uint64_t)i;
  return true;
}

/* "[a,b,c]", at most `room` numbers */
static bool parse_ints(tt_parser *p, int64_t *v, int room, int *n) {
  *n = 0;
  TT_TRY(tt_parse_punct(p, '['));
  if (tt_parse_take_punct(p, ']')) return true;
  do {
    if (*n == room) return tt_parse_fail(p, "more than %d numbers in a list", room);
    TT_TRY(tt_parse_int(p, &v[*n]));
    ++*n;
  } while (tt_parse_take_punct(p, ','));
  return tt_parse_punct(p, ']');
}

static bool parse_dtype(tt_parser *p, tt_dtype *dtype, tt_format *format) {
  const char *word = p->tok.kind == TT_TOK_WORD ? p->tok.text : "";
  char text[TT_TYPE_TEXT];
  *format = TT_E2M1;
  for (int d = 0; d < TT_MX; d++) {
    if (strcmp(word, tt_dtype_name((tt_dtype)d)) != 0) continue;
    *dtype = (tt_dtype)d;
    tt_parse_advance(p);
    return true;
  }
  for (int f = 0; f < TT_FORMAT_COUNT; f++) {
    tt_type t = tt_type_mx((tt_format)f, 0, 0);
    size_t len = strcspn(tt_type_print(&t, text, sizeof text), "[");
    if (strlen(word) != len || memcmp(word, text, len) != 0) continue;
    *dtype = TT_MX;
    *format = (tt_format)f;
    tt_parse_advance(p);
    return true;
  }
  return tt_parse_expected(p, "an element type (f32, f64, i32, i64, bool, mx.e2m1, mx.e3m0, int4)");
}

bool tt_parse_type(tt_parser *p, tt_type *type) {
  tt_dtype dtype;
  tt_format format;
  int64_t dim[TT_MAX_RANK], count = 1;
  int rank;
  TT_TRY(parse_dtype(p, &dtype, &format) && parse_ints(p, dim, TT_MAX_RANK, &rank));
  for (int d = 0; d < rank; d++) {
    if (dim[d] < 0) return tt_parse_fail(p, "dimension %lld of a type is negative", (long long)dim[d]);
    if (dim[d] > TT_MAX_ELEMENTS / count) return tt_parse_fail(p, "a type of too many elements");
    if (dim[d] > 0) count *= dim[d];
  }
  if (dtype == TT_MX && rank != 2) return tt_parse_fail(p, "a matrix of 4-bit numbers has %d dimensions, expected 2", rank);
  *type = dtype == TT_MX ? tt_type_mx(format, dim[0], dim[1]) : tt_type_make(dtype, rank, dim);
  return true;
}

/* "nan:0x7fc00001" spells the bits of a NaN. */
static bool nan_bits(const char *text, uint64_t *bits) {
  char *end;
  if (strncmp(text, "nan:0x", 6) != 0 || strlen(text) > 6 + 16) return false;
  *bits = strtoull(text + 4, &end, 16);
  return *end == 0 && end != text + 4;
}

static bool parse_float(tt_parser *p, bool single, uint8_t *out) {
  const char *text = p->tok.text;
  char *end;
  uint64_t bits;
  if (p->tok.kind != TT_TOK_NUMBER && p->tok.kind != TT_TOK_WORD) return tt_parse_expected(p, "a number");
  float f = strtof(text, &end);
  double d = strtod(text, &end);
  if (!single && end != text && *end == 'f') {
    d = (double)f; /* 0.1f: the double that is the float32 nearest to 0.1 */
    end++;
  }
  if (nan_bits(text, &bits)) {
    uint32_t low = (uint32_t)bits;
    memcpy(&f, &low, sizeof f);
    memcpy(&d, &bits, sizeof d);
    if (single ? bits > UINT32_MAX || !isnan(f) : !isnan(d)) return tt_parse_expected(p, "the bits of a NaN");
  } else if (*end || end == text) {
    return tt_parse_expected(p, "a number");
  } else if (!strpbrk(text, "iI") && (single ? isinf(f) : isinf(d))) {
    return tt_parse_expected(p, single ? "a number that an f32 holds" : "a number that an f64 holds");
  }
  if (single)
    memcpy(out, &f, sizeof f);
  else
    memcpy(out, &d, sizeof d);
  tt_parse_advance(p);
  return true;
}

static bool parse_element(tt_parser *p, tt_dtype dtype, uint8_t out[8]) {
  if (dtype == TT_F32 || dtype == TT_F64) return parse_float(p, dtype == TT_F32, out);
  int64_t i = 0, low = dtype == TT_BOOL ? 0 : INT32_MIN, high = dtype == TT_BOOL ? 1 : INT32_MAX;
  TT_TRY(tt_parse_int(p, &i));
  if (dtype != TT_I64 && (i < low || i > high))
    return tt_parse_fail(p, "%lld does not fit into %s", (long long)i, tt_dtype_name(dtype));
  int32_t narrow = (int32_t)i;
  if (dtype == TT_BOOL)
    out[0] = (uint8_t)i;
  else if (dtype == TT_I32)
    memcpy(out, &narrow, sizeof narrow);
  else
    memcpy(out, &i, sizeof i);
  return true;
}

static bool parse_list(tt_parser *p, const tt_type *type, void **data) {
  size_t each = tt_dtype_bytes((tt_dtype)type->dtype);
  uint8_t element[8];
  tt_strbuf bytes = {0};
  bool ok = true;
  if (!tt_parse_take_punct(p, '}')) {
    do {
      while (p->tok.kind == TT_TOK_NEWLINE) tt_parse_advance(p);
      ok = parse_element(p, (tt_dtype)type->dtype, element);
      if (ok) tt_strbuf_append(&bytes, (const char *)element, each);
    } while (ok && tt_parse_take_punct(p, ','));
    ok = ok && tt_parse_punct(p, '}');
  }
  if (ok && bytes.count != tt_type_bytes(type))
    ok = tt_parse_fail(p, "%zu elements, expected %lld", bytes.count / each, (long long)tt_type_count(type));
  if (ok) *data = tt_arena_copy(p->m->arena, bytes.data, bytes.count);
  tt_strbuf_free(&bytes);
  return ok;
}

static bool implied_room(tt_parser *p, const tt_type *type) {
  return tt_type_bytes(type) <= max_implied_bytes ||
         tt_parse_fail(p, "more than 1 GiB of data that the text does not hold");
}

static bool parse_splat(tt_parser *p, const tt_type *type, void **data) {
  static const uint8_t zero[8];
  size_t each = tt_dtype_bytes((tt_dtype)type->dtype);
  uint8_t element[8];
  TT_TRY(tt_parse_punct(p, '(') && parse_element(p, (tt_dtype)type->dtype, element) && tt_parse_punct(p, ')'));
  TT_TRY(implied_room(p, type));
  uint8_t *out = tt_arena_alloc(p->m->arena, tt_type_bytes(type));
  int64_t count = memcmp(element, zero, each) == 0 ? 0 : tt_type_count(type);
  for (int64_t i = 0; i < count; i++) memcpy(out + (size_t)i * each, element, each);
  *data = out;
  return true;
}

bool tt_parse_data(tt_parser *p, const tt_type *type, void **data) {
  if (tt_parse_take_word(p, "elided")) {
    TT_TRY(implied_room(p, type));
    *data = tt_arena_alloc(p->m->arena, tt_type_bytes(type));
    return true;
  }
  if (tt_parse_is_word(p, "hex")) {
    const char *why = NULL;
    tt_parse_advance(p);
    if (!tt_parse_is_punct(p, '(')) return tt_parse_expected(p, "'('");
    *data = tt_lex_hex(&p->lx, p->m->arena, tt_type_bytes(type), &why);
    if (why) return tt_parse_fail(p, "%s", why);
    tt_parse_advance(p);
    return true;
  }
  if (type->dtype == TT_MX) return tt_parse_expected(p, "hex(...) or elided, the data forms of an mx matrix");
  if (tt_parse_take_word(p, "splat")) return parse_splat(p, type, data);
  if (tt_parse_take_punct(p, '{')) return parse_list(p, type, data);
  return tt_parse_expected(p, "data: {..}, splat(..), hex(..) or elided");
}

/* "[op,op]": names of ops as their numbers. */
static bool parse_ops(tt_parser *p, tt_attr *attr) {
  int64_t v[MAX_INTS];
  int n = 0;
  TT_TRY(tt_parse_punct(p, '['));
  do {
    tt_op op;
    if (n == MAX_INTS) return tt_parse_fail(p, "more than %d ops in a list", MAX_INTS);
    if (p->tok.kind != TT_TOK_WORD || !tt_op_parse(p->tok.text, &op)) return tt_parse_expected(p, "an op");
    v[n++] = op;
    tt_parse_advance(p);
  } while (tt_parse_take_punct(p, ','));
  *attr = tt_attr_ints(p->g, attr->id, n, v);
  return tt_parse_punct(p, ']');
}

static bool parse_attr_value(tt_parser *p, tt_attr *attr) {
  int64_t v[MAX_INTS];
  int n;
  tt_dtype dtype;
  tt_format format;
  switch (tt_attrs[attr->id].kind) {
  case TT_ATTR_INT: return tt_parse_int(p, &attr->as.i);
  case TT_ATTR_FLOAT: return parse_float(p, false, (uint8_t *)&attr->as.f);
  case TT_ATTR_DTYPE:
    TT_TRY(parse_dtype(p, &dtype, &format));
    attr->as.i = dtype;
    return true;
  case TT_ATTR_QSPEC:
    if (p->tok.kind != TT_TOK_WORD || !tt_qspec_parse(p->tok.text, &attr->as.q))
      return tt_parse_expected(p, "a quantizer (off, or as e2m1:ceil:nearest)");
    tt_parse_advance(p);
    return true;
  case TT_ATTR_INTS:
    TT_TRY(parse_ints(p, v, MAX_INTS, &n));
    *attr = tt_attr_ints(p->g, attr->id, n, v);
    return true;
  case TT_ATTR_OPS: return parse_ops(p, attr);
  }
  return false;
}

bool tt_parse_attr(tt_parser *p, tt_attr *attr) {
  for (int i = 0; i < TT_A_COUNT && p->tok.kind == TT_TOK_WORD; i++) {
    if (strcmp(p->tok.text, tt_attrs[i].name) != 0) continue;
    tt_parse_advance(p);
    *attr = (tt_attr){.id = (tt_attr_id)i};
    return tt_parse_punct(p, '=') && parse_attr_value(p, attr);
  }
  return tt_parse_expected(p, "an attribute");
}

bool tt_parse_place(tt_parser *p, tt_space *space, uint64_t *offset) {
  if (!tt_parse_take_punct(p, '@')) return true;
  if (tt_parse_take_word(p, "arena"))
    *space = TT_SPACE_ARENA;
  else if (tt_parse_take_word(p, "vars"))
    *space = TT_SPACE_VARS;
  else if (tt_parse_take_word(p, "const"))
    *space = TT_SPACE_CONST;
  else
    return tt_parse_expected(p, "arena, vars or const");
  return tt_parse_punct(p, '+') && tt_parse_size(p, offset);
}
