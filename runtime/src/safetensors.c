/* Reader and writer of safetensors (format: huggingface/safetensors README). The reader takes files from anywhere, so
 * every number in the header is checked before it is used. */
#include "safetensors.h"
#include "file.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define CRC_KEY "tetrac.crc32"
#define CRC_DIGITS 8
#define HEADER_LIMIT (UINT64_C(100) << 20) /* the format's own limit */

static const struct {
  const char *name;
  uint64_t size;
} dtypes[] = {{"F32", 4}, {"F64", 8}, {"I32", 4}, {"I64", 8},  {"BOOL", 1}, {"U8", 1}, {"I8", 1},
              {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2}, {"U32", 4},  {"U64", 8}};

static const char *dtype_named(const char *name) {
  for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
    if (strcmp(dtypes[i].name, name) == 0) return dtypes[i].name;
  }
  return NULL;
}

uint64_t trt_st_element_size(const char *dtype) {
  for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
    if (strcmp(dtypes[i].name, dtype) == 0) return dtypes[i].size;
  }
  return 0;
}

/* ---- JSON, as much of it as a header may hold ---- */

typedef struct cursor {
  char *p, *end;
  const char *wrong; /* the first fault; nothing is parsed after it */
} cursor;

static bool fault(cursor *c, const char *what) {
  if (!c->wrong) c->wrong = what;
  return false;
}

static void skip_space(cursor *c) {
  while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r')) c->p++;
}

static bool accept(cursor *c, char want) {
  skip_space(c);
  if (c->p == c->end || *c->p != want) return false;
  c->p++;
  return true;
}

static bool expect(cursor *c, char want, const char *what) { return accept(c, want) || fault(c, what); }

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* Decodes \uXXXX of the basic plane to UTF-8 (3 bytes at most, shorter than the 6 it replaces). */
static bool decode_unicode(cursor *c, char **out) {
  unsigned code = 0;
  for (int i = 0; i < 4; i++) {
    int digit = c->p < c->end ? hex_digit(*c->p++) : -1;
    if (digit < 0) return fault(c, "a bad \\u escape");
    code = code * 16 + (unsigned)digit;
  }
  if (code == 0) return fault(c, "a zero byte in a string");
  char *o = *out;
  if (code < 0x80) {
    *o++ = (char)code;
  } else if (code < 0x800) {
    *o++ = (char)(0xc0 | code >> 6);
    *o++ = (char)(0x80 | (code & 0x3f));
  } else {
    *o++ = (char)(0xe0 | code >> 12);
    *o++ = (char)(0x80 | (code >> 6 & 0x3f));
    *o++ = (char)(0x80 | (code & 0x3f));
  }
  *out = o;
  return true;
}

static bool decode_escape(cursor *c, char **out) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (c->p == c->end) return fault(c, "an unfinished string");
  char e = *c->p++;
  if (e == 'u') return decode_unicode(c, out);
  const char *at = e ? strchr(from, e) : NULL;
  if (!at) return fault(c, "a bad escape in a string");
  *(*out)++ = to[at - from];
  return true;
}

/* Decodes the string in place and ends it with a zero byte: decoding never makes it longer, the quote makes room. */
static bool parse_string(cursor *c, const char **string) {
  if (!expect(c, '"', "no string where one belongs")) return false;
  char *out = c->p;
  *string = out;
  while (c->p < c->end && *c->p != '"') {
    char ch = *c->p++;
    if ((unsigned char)ch < 0x20) return fault(c, "a control character in a string");
    if (ch != '\\')
      *out++ = ch;
    else if (!decode_escape(c, &out))
      return false;
  }
  if (c->p == c->end) return fault(c, "an unfinished string");
  c->p++;
  *out = 0;
  return true;
}

static bool parse_natural(cursor *c, uint64_t *value) {
  skip_space(c);
  uint64_t v = 0;
  char *start = c->p;
  for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
    if (v > (UINT64_C(1) << 62) / 10) return fault(c, "a number too large");
    v = v * 10 + (uint64_t)(*c->p - '0');
  }
  *value = v;
  return c->p > start || fault(c, "no number where one belongs");
}

static bool parse_shape(cursor *c, trt_st_tensor *t) {
  if (!expect(c, '[', "no list where a shape belongs")) return false;
  t->rank = 0;
  if (accept(c, ']')) return true;
  do {
    uint64_t dim;
    if (!parse_natural(c, &dim)) return false;
    if (t->rank == TRT_MAX_RANK) return fault(c, "a tensor of more than 8 dimensions");
    t->dim[t->rank++] = (int64_t)dim;
  } while (accept(c, ','));
  return expect(c, ']', "an unfinished shape");
}

static bool parse_offsets(cursor *c, uint64_t *begin, uint64_t *end) {
  return expect(c, '[', "no list where offsets belong") && parse_natural(c, begin) &&
         expect(c, ',', "one offset where two belong") && parse_natural(c, end) && expect(c, ']', "unfinished offsets");
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, end]} in any order. */
static bool parse_tensor(cursor *c, trt_st_tensor *t, const uint8_t *data, uint64_t data_size) {
  uint64_t begin = 0, end = 0;
  unsigned seen = 0;
  if (!expect(c, '{', "no object where a tensor belongs")) return false;
  do {
    const char *key, *dtype;
    if (!parse_string(c, &key) || !expect(c, ':', "a key without a value")) return false;
    if (strcmp(key, "dtype") == 0) {
      if (!parse_string(c, &dtype)) return false;
      t->dtype = dtype_named(dtype);
      if (!t->dtype) return fault(c, "an unknown element type");
      seen |= 1;
    } else if (strcmp(key, "shape") == 0) {
      if (!parse_shape(c, t)) return false;
      seen |= 2;
    } else if (strcmp(key, "data_offsets") == 0) {
      if (!parse_offsets(c, &begin, &end)) return false;
      seen |= 4;
    } else {
      return fault(c, "an unknown key in a tensor");
    }
  } while (accept(c, ','));
  if (!expect(c, '}', "an unfinished tensor")) return false;
  if (seen != 7) return fault(c, "a tensor without dtype, shape or data_offsets");
  uint64_t bytes = trt_st_element_size(t->dtype);
  for (uint32_t i = 0; i < t->rank; i++) {
    if (__builtin_mul_overflow(bytes, (uint64_t)t->dim[i], &bytes)) return fault(c, "a shape too large");
  }
  if (begin > end || end > data_size) return fault(c, "a tensor outside the data");
  if (end - begin != bytes) return fault(c, "a tensor whose bytes do not fit its shape");
  t->data = data + begin;
  t->bytes = bytes;
  return true;
}

static bool parse_metadata(cursor *c, trt_st_file *file) {
  if (file->metas) return fault(c, "metadata twice");
  if (!expect(c, '{', "no object where metadata belong")) return false;
  uint64_t capacity = 16;
  file->metas = trt_alloc(capacity * sizeof *file->metas);
  if (accept(c, '}')) return true;
  do {
    if (file->n_metas == capacity) {
      capacity *= 2;
      file->metas = realloc(file->metas, capacity * sizeof *file->metas);
      assert(file->metas && "out of memory");
    }
    trt_st_meta *m = &file->metas[file->n_metas];
    if (!parse_string(c, &m->key) || !expect(c, ':', "a key without a value") || !parse_string(c, &m->value)) return false;
    file->n_metas++;
  } while (accept(c, ','));
  return expect(c, '}', "unfinished metadata");
}

static bool parse_header(cursor *c, trt_st_file *file, const uint8_t *data, uint64_t data_size) {
  uint64_t capacity = 64;
  file->tensors = trt_alloc(capacity * sizeof *file->tensors);
  if (!expect(c, '{', "no JSON object")) return false;
  if (!accept(c, '}')) {
    do {
      const char *name;
      if (!parse_string(c, &name) || !expect(c, ':', "a key without a value")) return false;
      if (strcmp(name, "__metadata__") == 0) {
        if (!parse_metadata(c, file)) return false;
        continue;
      }
      if (file->n_tensors == capacity) {
        capacity *= 2;
        file->tensors = realloc(file->tensors, capacity * sizeof *file->tensors);
        assert(file->tensors && "out of memory");
      }
      trt_st_tensor *t = &file->tensors[file->n_tensors];
      *t = (trt_st_tensor){.name = name};
      if (!parse_tensor(c, t, data, data_size)) return false;
      file->n_tensors++;
    } while (accept(c, ','));
    if (!expect(c, '}', "an unfinished header")) return false;
  }
  skip_space(c);
  return c->p == c->end || fault(c, "something after the header's object");
}

/* ---- whole-file checks ---- */

static int by_place(const void *a, const void *b) {
  const trt_st_tensor *x = *(trt_st_tensor *const *)a, *y = *(trt_st_tensor *const *)b;
  if (x->data != y->data) return x->data < y->data ? -1 : 1;
  return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(trt_st_tensor *const *)a)->name, (*(trt_st_tensor *const *)b)->name);
}

static const char *check_cover(const trt_st_file *file, const uint8_t *data, uint64_t data_size) {
  trt_st_tensor **order = trt_alloc(file->n_tensors * sizeof *order);
  for (uint64_t i = 0; i < file->n_tensors; i++) order[i] = &file->tensors[i];
  const char *wrong = NULL;
  qsort(order, file->n_tensors, sizeof *order, by_name);
  for (uint64_t i = 1; i < file->n_tensors; i++) {
    if (strcmp(order[i - 1]->name, order[i]->name) == 0) wrong = "two tensors of one name";
  }
  qsort(order, file->n_tensors, sizeof *order, by_place);
  const uint8_t *at = data;
  for (uint64_t i = 0; i < file->n_tensors; i++) {
    if (order[i]->data != at) wrong = "tensors that overlap or leave holes";
    at = order[i]->data + order[i]->bytes;
  }
  if (at != data + data_size) wrong = "data that belong to no tensor";
  free(order);
  return wrong;
}

/* The CRC of everything, its own digits counted as '0'. */
static const char *check_crc(trt_st_file *file, uint64_t size) {
  const char *stored = trt_st_meta_find(file, CRC_KEY);
  file->has_crc = stored != NULL;
  if (!stored) return NULL;
  if (strlen(stored) != CRC_DIGITS) return "a damaged checksum";
  uint64_t at = 8 + (uint64_t)(stored - file->text);
  uLong crc = crc32_z(0, file->bytes, at);
  crc = crc32_z(crc, (const Bytef *)"00000000", CRC_DIGITS);
  crc = crc32_z(crc, file->bytes + at + CRC_DIGITS, size - at - CRC_DIGITS);
  char digits[CRC_DIGITS + 1];
  snprintf(digits, sizeof digits, "%08lx", crc);
  return memcmp(digits, stored, CRC_DIGITS) == 0 ? NULL : "a checksum that does not match";
}

static uint64_t little64(const uint8_t *p) {
  uint64_t v = 0;
  for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
  return v;
}

bool trt_st_read(trt_st_file *file, const char *path, trt_error *err) {
  *file = (trt_st_file){0};
  uint64_t size;
  if (!trt_read_file(path, &file->bytes, &size, err)) return false;
  const char *wrong = NULL;
  uint64_t header = size >= 8 ? little64(file->bytes) : 0;
  if (size < 8 || header > HEADER_LIMIT || header > size - 8) {
    wrong = size < 8 ? "fewer than 8 bytes" : "a header longer than the file";
  } else {
    file->text = trt_alloc(header + 1);
    memcpy(file->text, file->bytes + 8, header);
    const uint8_t *data = file->bytes + 8 + header;
    cursor c = {file->text, file->text + header, NULL};
    if (!parse_header(&c, file, data, size - 8 - header)) wrong = c.wrong;
    if (!wrong) wrong = check_cover(file, data, size - 8 - header);
    if (!wrong) wrong = check_crc(file, size);
  }
  if (!wrong) return true;
  trt_st_close(file);
  return trt_fail(err, "%s: is not a whole safetensors file (%s); use an intact copy", path, wrong);
}

void trt_st_close(trt_st_file *file) {
  free(file->bytes);
  free(file->text);
  free(file->tensors);
  free(file->metas);
  *file = (trt_st_file){0};
}

const trt_st_tensor *trt_st_find(const trt_st_file *file, const char *name) {
  for (uint64_t i = 0; i < file->n_tensors; i++) {
    if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
  }
  return NULL;
}

const char *trt_st_meta_find(const trt_st_file *file, const char *key) {
  for (uint64_t i = 0; i < file->n_metas; i++) {
    if (strcmp(file->metas[i].key, key) == 0) return file->metas[i].value;
  }
  return NULL;
}

/* ---- writing ---- */

trt_st_tensor trt_st_describe(const trt_tensor *tensor, const uint8_t *base) {
  static const char *const names[] = {
      [TRT_F32] = "F32", [TRT_F64] = "F64", [TRT_I32] = "I32", [TRT_I64] = "I64", [TRT_BOOL] = "BOOL", [TRT_MX] = "U8"};
  assert(tensor->dtype < sizeof names / sizeof *names);
  trt_st_tensor t = {.name = tensor->name, .dtype = names[tensor->dtype], .data = base + tensor->offset};
  t.bytes = tensor->bytes;
  if (tensor->dtype == TRT_MX) { /* packed codes: their shape says nothing about their bytes */
    t.rank = 1;
    t.dim[0] = (int64_t)tensor->bytes;
    return t;
  }
  t.rank = tensor->rank;
  memcpy(t.dim, tensor->dim, sizeof t.dim);
  return t;
}

static void write_header(trt_text *text, const trt_st_tensor *tensors, uint64_t n_tensors, const trt_st_meta *metas,
                         uint64_t n_metas, size_t *crc_at) {
  trt_text_add(text, "{\"__metadata__\":{\"" CRC_KEY "\":\"");
  *crc_at = text->size;
  trt_text_add(text, "00000000\"");
  for (uint64_t i = 0; i < n_metas; i++) {
    trt_text_add(text, ",");
    trt_text_add_json(text, metas[i].key);
    trt_text_add(text, ":");
    trt_text_add_json(text, metas[i].value);
  }
  trt_text_add(text, "}");
  uint64_t offset = 0;
  for (uint64_t i = 0; i < n_tensors; i++) {
    const trt_st_tensor *t = &tensors[i];
    trt_text_add(text, ",");
    trt_text_add_json(text, t->name);
    trt_text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", t->dtype);
    for (uint32_t d = 0; d < t->rank; d++) trt_text_add(text, "%s%" PRId64, d ? "," : "", t->dim[d]);
    trt_text_add(text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, offset + t->bytes);
    offset += t->bytes;
  }
  trt_text_add(text, "}");
  while (text->size % 8 != 0) trt_text_add(text, " ");
}

bool trt_st_write(const char *path, const trt_st_tensor *tensors, uint64_t n_tensors, const trt_st_meta *metas,
                  uint64_t n_metas, trt_error *err) {
  trt_text text = {0};
  size_t crc_at;
  write_header(&text, tensors, n_tensors, metas, n_metas, &crc_at);
  uint8_t length[8];
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(text.size >> 8 * i);
  uLong crc = crc32_z(crc32_z(0, length, 8), (const Bytef *)text.data, text.size);
  for (uint64_t i = 0; i < n_tensors; i++) crc = crc32_z(crc, tensors[i].data, tensors[i].bytes);
  char digits[CRC_DIGITS + 1];
  snprintf(digits, sizeof digits, "%08lx", crc);
  memcpy(text.data + crc_at, digits, CRC_DIGITS);

  trt_writer writer;
  bool ok = trt_writer_open(&writer, path, err) && trt_writer_put(&writer, length, 8, err) &&
            trt_writer_put(&writer, text.data, text.size, err);
  for (uint64_t i = 0; ok && i < n_tensors; i++) ok = trt_writer_put(&writer, tensors[i].data, tensors[i].bytes, err);
  ok = ok && trt_writer_commit(&writer, err);
  free(text.data);
  return ok;
}
