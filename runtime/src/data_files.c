/* Readers of IDX files (MNIST and its kin) and CIFAR-10's binary batches, and the synthetic set.
 *
 * IDX: 0, 0, type (8: unsigned byte), rank; rank big-endian 32-bit sizes; the bytes. http://yann.lecun.com/exdb/mnist/
 * CIFAR-10: records of one label byte and 3x32x32 pixel bytes. https://www.cs.toronto.edu/~kriz/cifar.html
 */
#include "data.h"
#include "file.h"
#include "runtime/include/trt_runtime.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- IDX ---- */

typedef struct idx {
  char path[4096];
  uint8_t *bytes; /* the file; data start at `start` */
  uint64_t start;
  int64_t dim[3];
} idx;

static uint32_t big32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static bool check_idx_header(idx *file, const uint8_t *head, uint64_t size, uint32_t rank, uint64_t *total,
                             trt_error *err) {
  *total = 4 + 4 * (uint64_t)rank;
  if (size < *total)
    return trt_fail(err, "%s: is cut short after %" PRIu64 " bytes; fetch the file again", file->path, size);
  if (big32(head) != (0x800u | rank)) {
    return trt_fail(err,
                    "%s: starts with 0x%08" PRIx32 ", an IDX file of bytes of rank %" PRIu32 " starts with 0x%08" PRIx32
                    "; give the right file",
                    file->path, big32(head), rank, 0x800u | rank);
  }
  uint64_t data = 1;
  for (uint32_t i = 0; i < rank; i++) {
    file->dim[i] = big32(head + 4 + 4 * i);
    if (__builtin_mul_overflow(data, (uint64_t)file->dim[i], &data) || data > UINT64_MAX / 4) {
      return trt_fail(err, "%s: its header claims an impossible size; fetch the file again", file->path);
    }
  }
  file->start = *total;
  *total += data;
  return true;
}

/* Opens folder/name or folder/name.gz, reads the header and exactly what it claims. */
static bool read_idx(idx *file, const char *folder, const char *name, uint32_t rank, trt_error *err) {
  char gz[96];
  snprintf(gz, sizeof gz, "%s.gz", name);
  file->bytes = NULL;
  if (!trt_join(file->path, sizeof file->path, folder, gz, err)) return false;
  if (!trt_file_exists(file->path) && !trt_join(file->path, sizeof file->path, folder, name, err)) return false;
  if (!trt_file_exists(file->path)) return trt_fail(err, "%s: not found, nor with .gz; check the folder", file->path);
  uint8_t *head;
  uint64_t size, total;
  if (!trt_read_gz(file->path, 4 + 4 * (uint64_t)rank, &head, &size, err)) return false;
  bool ok = check_idx_header(file, head, size, rank, &total, err);
  free(head);
  /* One byte more than claimed: finds what follows, and makes zlib check the end of the stream. */
  if (!ok || !trt_read_gz(file->path, total + 1, &file->bytes, &size, err)) return false;
  if (size == total) return true;
  free(file->bytes);
  file->bytes = NULL;
  return trt_fail(err, "%s: its header claims %" PRIu64 " bytes, the file %s; fetch the file again", file->path, total,
                  size < total ? "is shorter" : "is longer");
}

/* Takes the bytes after the header; the buffer is reused. */
static uint8_t *take_pixels(idx *file) {
  uint64_t n = (uint64_t)(file->dim[0] * file->dim[1] * file->dim[2]);
  memmove(file->bytes, file->bytes + file->start, n);
  uint8_t *pixels = file->bytes;
  file->bytes = NULL;
  return pixels;
}

static bool read_idx_split(trt_dataset *data, trt_split split, const char *folder, const char *prefix, trt_error *err) {
  char name[64];
  idx images, labels;
  trt_images *out = &data->split[split];
  snprintf(name, sizeof name, "%s-images-idx3-ubyte", prefix);
  if (!read_idx(&images, folder, name, 3, err)) return false;
  bool ok = trt_data_check_size(data, images.path, 1, images.dim[1], images.dim[2], err);
  snprintf(name, sizeof name, "%s-labels-idx1-ubyte", prefix);
  labels.bytes = NULL;
  ok = ok && read_idx(&labels, folder, name, 1, err);
  if (ok && images.dim[0] != labels.dim[0]) {
    ok = trt_fail(err, "%s: has %" PRId64 " labels for %" PRId64 " images; fetch both files again", labels.path,
                  labels.dim[0], images.dim[0]);
  }
  if (ok) {
    out->count = images.dim[0];
    out->pixels = take_pixels(&images);
    out->labels = trt_alloc((size_t)out->count * sizeof *out->labels);
    for (int64_t i = 0; i < out->count; i++) out->labels[i] = labels.bytes[labels.start + (uint64_t)i];
  }
  free(images.bytes);
  free(labels.bytes);
  return ok;
}

bool trt_data_read_idx(trt_dataset *data, const char *folder, trt_error *err) {
  return read_idx_split(data, TRT_TRAIN, folder, "train", err) && read_idx_split(data, TRT_TEST, folder, "t10k", err);
}

/* ---- CIFAR-10 ---- */

#define CIFAR_PIXELS 3072
#define CIFAR_RECORD (1 + CIFAR_PIXELS)

static bool append_cifar(trt_images *out, const char *path, trt_error *err) {
  uint8_t *bytes;
  uint64_t size;
  if (!trt_read_file(path, &bytes, &size, err)) return false;
  int64_t n = (int64_t)(size / CIFAR_RECORD), total = out->count + n;
  if (n == 0 || size % CIFAR_RECORD != 0) {
    free(bytes);
    return trt_fail(err, "%s: %" PRIu64 " bytes are not whole records of %d; fetch the file again", path, size,
                    CIFAR_RECORD);
  }
  uint8_t *pixels = realloc(out->pixels, (size_t)total * CIFAR_PIXELS);
  if (pixels) out->pixels = pixels;
  int32_t *labels = realloc(out->labels, (size_t)total * sizeof *labels);
  if (labels) out->labels = labels;
  if (!pixels || !labels) {
    free(bytes);
    return trt_fail(err, "%s: no memory for its images", path);
  }
  for (int64_t i = 0; i < n; i++) {
    const uint8_t *record = bytes + i * CIFAR_RECORD;
    labels[out->count + i] = record[0];
    memcpy(pixels + (out->count + i) * CIFAR_PIXELS, record + 1, CIFAR_PIXELS);
  }
  out->count = total;
  free(bytes);
  return true;
}

bool trt_data_read_cifar10(trt_dataset *data, const char *folder, trt_error *err) {
  static const char *const files[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                      "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};
  if (!trt_data_check_size(data, "cifar10", 3, 32, 32, err)) return false;
  char inner[4096], path[4096];
  if (!trt_join(inner, sizeof inner, folder, "cifar-10-batches-bin", err)) return false;
  if (trt_file_exists(inner)) folder = inner;
  for (int i = 0; i < 6; i++) {
    if (!trt_join(path, sizeof path, folder, files[i], err)) return false;
    if (!append_cifar(&data->split[i < 5 ? TRT_TRAIN : TRT_TEST], path, err)) return false;
  }
  return true;
}

/* ---- synthetic ---- */

/* A class is a 4x4 mosaic of grey levels for each channel; an image is its class's mosaic at half contrast under noise.
 * Pixels are a function of their place, so nothing need be stored. Training images are wanted again in every epoch; where
 * they are few they are kept all the same, and a step finds them ready as it does those of files. */
enum { MOSAIC = 4, KEPT_BYTES = 32 << 20 };

static void make_one(const trt_kargs *args, int64_t index, uint8_t *scratch) {
  (void)scratch;
  trt_dataset *data = args->bufs[0];
  trt_data_synthetic_pixels(data, TRT_TRAIN, index, data->split[TRT_TRAIN].pixels + index * trt_image_bytes(&data->shape));
}

bool trt_data_make_synthetic(trt_dataset *data, int64_t n_train, trt_error *err) {
  (void)err;
  int64_t counts[2] = {n_train, n_train / 4 > 64 ? n_train / 4 : 64};
  for (int s = 0; s < 2; s++) {
    trt_images *out = &data->split[s];
    out->count = counts[s];
    out->labels = trt_alloc((size_t)counts[s] * sizeof *out->labels);
    for (int64_t i = 0; i < counts[s]; i++) {
      uint64_t bits = trt_random((uint64_t)s, TRT_STREAM_SYNTHETIC, (uint64_t)i);
      out->labels[i] = (int32_t)trt_random_below(bits, (uint64_t)data->shape.classes);
    }
  }
  int64_t bytes = trt_image_bytes(&data->shape);
  data->made = trt_alloc((size_t)(data->shape.batch * bytes));
  if (n_train > KEPT_BYTES / bytes) return true;
  data->split[TRT_TRAIN].pixels = trt_alloc((size_t)(n_train * bytes));
  void *bufs[] = {data};
  trt_kargs args = {bufs, NULL};
  trt_parallel(&args, make_one, n_train);
  return true;
}

/* Pixels may be made while a step waits, so what rows and cells share is worked out once. */
void trt_data_synthetic_pixels(const trt_dataset *data, trt_split split, int64_t index, uint8_t *pixels) {
  const trt_image_shape *s = &data->shape;
  uint64_t pattern = trt_random(7, TRT_STREAM_SYNTHETIC, (uint64_t)data->split[split].labels[index]);
  uint64_t noise = trt_random(8 + (uint64_t)split, TRT_STREAM_SYNTHETIC, (uint64_t)index);
  uint64_t level_key = trt_random_key(pattern, TRT_STREAM_SYNTHETIC), noise_key = trt_random_key(noise, TRT_STREAM_SYNTHETIC);
  int64_t at = 0;
  for (int64_t row = 0; row < s->channels * s->height; row++) {
    int64_t c = row / s->height, y = row % s->height, first = (c * MOSAIC + y * MOSAIC / s->height) * MOSAIC;
    for (int64_t cell = 0; cell < MOSAIC; cell++) {
      uint64_t level = trt_random_of(level_key, (uint64_t)(first + cell)) >> 57;    /* 0..127 */
      int64_t end = row * s->width + ((cell + 1) * s->width + MOSAIC - 1) / MOSAIC; /* of x with x * MOSAIC / width = cell */
      for (; at < end; at++) pixels[at] = (uint8_t)(level + (trt_random_of(noise_key, (uint64_t)at) >> 57)); /* 0..254 */
    }
  }
}
