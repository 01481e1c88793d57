/* A file is a signature and chunks: IHDR (size, depth, colour type), PLTE (palette), IDAT (one zlib stream of rows, each
 * with a filter byte), IEND. Every length is checked against the file before use. */
#include "png.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };
enum { HEADER_BYTES = 13 };
enum { SIDE_LIMIT = 1 << 14 }; /* no training image is larger, and its bytes fit 32 bits easily */

typedef struct reader {
  int64_t width, height;
  int depth, colour, samples; /* samples a pixel in the file */
  uint64_t row_bytes;         /* without the filter byte */
  uint8_t palette[256][3];
  int n_palette;
  uint8_t *inflated; /* row_bytes zeros, which stand above the first row, then height * (1 + row_bytes) */
  uint8_t *rows;     /* in there, behind the zeros */
  z_stream stream;
  bool ended; /* the zlib stream is complete */
} reader;

static uint32_t big32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static bool depth_fits(int colour, int depth) {
  switch (colour) {
  case GREY: return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
  case PALETTE: return depth == 1 || depth == 2 || depth == 4 || depth == 8;
  case RGB:
  case GREY_ALPHA:
  case RGB_ALPHA: return depth == 8 || depth == 16;
  default: return false;
  }
}

/* The 13 bytes of an IHDR chunk. */
static const char *read_shape(reader *r, const uint8_t *data) {
  static const int samples[] = {[GREY] = 1, [RGB] = 3, [PALETTE] = 1, [GREY_ALPHA] = 2, [RGB_ALPHA] = 4};
  uint32_t width = big32(data), height = big32(data + 4);
  r->depth = data[8];
  r->colour = data[9];
  if (width == 0 || height == 0 || width > SIDE_LIMIT || height > SIDE_LIMIT) return "an impossible size";
  if (!depth_fits(r->colour, r->depth) || data[10] != 0 || data[11] != 0) return "an unknown colour type or method";
  if (data[12] != 0) return "interlaced rows, which are not supported";
  r->width = width;
  r->height = height;
  r->samples = samples[r->colour];
  r->row_bytes = ((uint64_t)width * (uint64_t)(r->samples * r->depth) + 7) / 8;
  return NULL;
}

static const char *read_header(reader *r, const uint8_t *data, uint32_t n) {
  if (n != HEADER_BYTES || r->rows) return "a wrong header";
  const char *wrong = read_shape(r, data);
  if (wrong) return wrong;
  uint64_t total = (uint64_t)r->height * (1 + r->row_bytes);
  r->inflated = malloc(r->row_bytes + total);
  if (!r->inflated) return "more pixels than memory";
  memset(r->inflated, 0, r->row_bytes);
  r->rows = r->inflated + r->row_bytes;
  r->stream.next_out = r->rows;
  r->stream.avail_out = (uInt)total;
  return inflateInit(&r->stream) == Z_OK ? NULL : "no memory for decompression";
}

static const char *read_chunk(reader *r, const char *type, const uint8_t *data, uint32_t n) {
  if (memcmp(type, "IHDR", 4) == 0) return read_header(r, data, n);
  if (!r->rows) return "no header";
  if (memcmp(type, "PLTE", 4) == 0) {
    if (n % 3 != 0 || n > 768) return "a wrong palette";
    memcpy(r->palette, data, n);
    r->n_palette = (int)(n / 3);
  } else if (memcmp(type, "IDAT", 4) == 0 && !r->ended) {
    r->stream.next_in = (Bytef *)(uintptr_t)data;
    r->stream.avail_in = n;
    int code = inflate(&r->stream, Z_NO_FLUSH);
    r->ended = code == Z_STREAM_END;
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return "damaged pixels";
  } else if (!(type[0] & 0x20) && memcmp(type, "IDAT", 4) != 0) { /* capital first letter: cannot be ignored */
    return "an unknown critical chunk";
  }
  return NULL;
}

static const char *read_chunks(reader *r, const uint8_t *bytes, uint64_t size) {
  uint64_t at = 8;
  for (;;) {
    if (size - at < 12) return "no end";
    uint32_t n = big32(bytes + at);
    if (n > size - at - 12) return "a chunk longer than the file";
    const uint8_t *type = bytes + at + 4;
    if (crc32_z(0, type, (size_t)n + 4) != big32(type + 4 + n)) return "a damaged chunk";
    if (memcmp(type, "IEND", 4) == 0) break;
    const char *wrong = read_chunk(r, (const char *)type, type + 4, n);
    if (wrong) return wrong;
    at += 12 + (uint64_t)n;
  }
  if (!r->rows || !r->ended || r->stream.avail_out != 0) return "too few pixels";
  return r->colour == PALETTE && r->n_palette == 0 ? "no palette" : NULL;
}

/* Of three bytes the one nearest to a + b - c; without branches, which noise in an image would mispredict. */
static uint8_t paeth(int a, int b, int c) {
  int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);
  int other = pb <= pc ? b : c;
  return (uint8_t)((pa <= pb) & (pa <= pc) ? a : other);
}

/* Undoes a row's filter in place: each of its n bytes was predicted from the byte a pixel left (a), the one above (b) and above
 * left (c). Left of a row are zeros, so that only b is left of the first pixel's predictions. */
static void unfilter_row(uint8_t *row, const uint8_t *above, uint64_t n, uint64_t step, int kind) {
  enum { LEFT = 1, ABOVE = 2, MEAN = 3, PAETH = 4 };
  for (uint64_t i = 0; i < step && i < n; i++) {
    int b = above[i];
    row[i] = (uint8_t)(row[i] + (kind == MEAN ? b / 2 : kind == ABOVE || kind == PAETH ? b : 0));
  }
  uint8_t *to = row + step;
  const uint8_t *left = row, *b = above + step, *c = above;
  int64_t rest = (int64_t)n - (int64_t)step;
  if (kind == LEFT)
    for (int64_t i = 0; i < rest; i++) to[i] = (uint8_t)(to[i] + left[i]);
  else if (kind == ABOVE)
    for (int64_t i = 0; i < rest; i++) to[i] = (uint8_t)(to[i] + b[i]);
  else if (kind == MEAN)
    for (int64_t i = 0; i < rest; i++) to[i] = (uint8_t)(to[i] + (left[i] + b[i]) / 2);
  else if (kind == PAETH)
    for (int64_t i = 0; i < rest; i++) to[i] = (uint8_t)(to[i] + paeth(left[i], b[i], c[i]));
}

static const char *unfilter(reader *r) {
  uint64_t step = (uint64_t)(r->samples * r->depth + 7) / 8, n = r->row_bytes;
  const uint8_t *above = r->inflated;
  for (int64_t y = 0; y < r->height; y++) {
    uint8_t *row = r->rows + (uint64_t)y * (1 + n), kind = *row++;
    if (kind > 4) return "an unknown row filter";
    unfilter_row(row, above, n, step, kind);
    above = row;
  }
  return NULL;
}

/* Sample k of a row as 8 bits, or a palette's index as it is. */
static uint8_t sample(const reader *r, const uint8_t *row, int64_t k) {
  if (r->depth == 8) return row[k];
  if (r->depth == 16) return row[2 * k];
  int64_t bit = k * r->depth;
  int value = row[bit / 8] >> (8 - r->depth - bit % 8) & ((1 << r->depth) - 1);
  return (uint8_t)(r->colour == PALETTE ? value : value * 255 / ((1 << r->depth) - 1));
}

/* One row to each channel's plane. */
static void split_row(const reader *r, const uint8_t *row, int64_t channels, int64_t plane, uint8_t *to) {
  for (int64_t c = 0; c < channels; c++, to += plane) {
    if (r->depth == 8)
      for (int64_t x = 0; x < r->width; x++) to[x] = row[x * r->samples + c];
    else
      for (int64_t x = 0; x < r->width; x++) to[x] = sample(r, row, x * r->samples + c);
  }
}

static const char *look_up_row(const reader *r, const uint8_t *row, int64_t plane, uint8_t *to) {
  for (int64_t x = 0; x < r->width; x++) {
    uint8_t index = sample(r, row, x);
    if (index >= r->n_palette) return "a colour outside the palette";
    for (int64_t c = 0; c < 3; c++) to[c * plane + x] = r->palette[index][c];
  }
  return NULL;
}

static int64_t channels_of(const reader *r) { return r->colour == GREY || r->colour == GREY_ALPHA ? 1 : 3; }

static const char *convert(const reader *r, trt_png *png) {
  int64_t plane = r->width * r->height, channels = channels_of(r);
  *png = (trt_png){channels, r->height, r->width, malloc((size_t)(plane * channels))};
  if (!png->pixels) return "more pixels than memory";
  const char *wrong = NULL;
  for (int64_t y = 0; !wrong && y < r->height; y++) {
    const uint8_t *row = r->rows + (uint64_t)y * (1 + r->row_bytes) + 1;
    uint8_t *to = png->pixels + y * r->width;
    if (r->colour == PALETTE)
      wrong = look_up_row(r, row, plane, to);
    else
      split_row(r, row, channels, plane, to);
  }
  return wrong;
}

static bool unusable(const char *path, const char *wrong, trt_error *err) {
  return trt_fail(err, "%s: is not a usable PNG file (%s); convert or replace it", path, wrong);
}

static bool has_signature(const uint8_t *bytes, uint64_t size) {
  static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  return size >= 8 && memcmp(bytes, signature, 8) == 0;
}

bool trt_png_header(trt_png *png, const uint8_t *bytes, uint64_t size, const char *path, trt_error *err) {
  reader r = {0};
  *png = (trt_png){0};
  if (!has_signature(bytes, size)) return unusable(path, "another signature", err);
  const bool whole = size >= 16 + HEADER_BYTES && big32(bytes + 8) == HEADER_BYTES && memcmp(bytes + 12, "IHDR", 4) == 0;
  const char *wrong = whole ? read_shape(&r, bytes + 16) : "no header";
  if (wrong) return unusable(path, wrong, err);
  *png = (trt_png){.channels = channels_of(&r), .height = r.height, .width = r.width};
  return true;
}

bool trt_png_decode(trt_png *png, const uint8_t *bytes, uint64_t size, const char *path, trt_error *err) {
  reader r = {0};
  *png = (trt_png){0};
  const char *wrong = has_signature(bytes, size) ? read_chunks(&r, bytes, size) : "another signature";
  if (!wrong) wrong = unfilter(&r);
  if (!wrong) wrong = convert(&r, png);
  if (r.inflated) inflateEnd(&r.stream);
  free(r.inflated);
  if (!wrong) return true;
  free(png->pixels);
  *png = (trt_png){0};
  return unusable(path, wrong, err);
}
