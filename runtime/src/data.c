#include "data.h"
#include "file.h"
#include "runtime/include/trt_runtime.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FASHION_MNIST "/usr/share/datasets/fashion-mnist"

/* ---- opening ---- */

/* The distribution's folder, or under $TETRAC_DATA: that folder itself or its `fashion-mnist`. */
static bool open_fashion_mnist(trt_dataset *data, trt_error *err) {
  const char *probe = "train-labels-idx1-ubyte", *root = getenv("TETRAC_DATA");
  const char *under[] = {"fashion-mnist", "."};
  char folder[4096], file[4096 + 64];
  if (!root || !*root) {
    if (trt_file_exists(FASHION_MNIST)) return trt_data_read_idx(data, FASHION_MNIST, err);
    return trt_fail(err, "fashion-mnist: not found in " FASHION_MNIST
                         "; install the package dataset-fashion-mnist or set TETRAC_DATA to a folder that has it");
  }
  for (int i = 0; i < 2; i++) {
    if (!trt_join(folder, sizeof folder, root, under[i], err)) return false;
    for (int gz = 0; gz < 2; gz++) {
      snprintf(file, sizeof file, "%s/%s%s", folder, probe, gz ? ".gz" : "");
      if (trt_file_exists(file)) return trt_data_read_idx(data, folder, err);
    }
  }
  return trt_fail(err, "fashion-mnist: no %s[.gz] in TETRAC_DATA=%s; correct or unset TETRAC_DATA", probe, root);
}

static bool open_synthetic(trt_dataset *data, const char *count, trt_error *err) {
  int64_t n = 2048 > 8 * data->shape.batch ? 2048 : 8 * data->shape.batch;
  if (count) {
    char *end;
    errno = 0;
    n = strtoll(count, &end, 10);
    if (errno || *end || end == count || n < 1 || n > 100000000) {
      return trt_fail(err, "--data synthetic:%s: the number of images is from 1 to 100000000; correct it", count);
    }
  }
  return trt_data_make_synthetic(data, n, err);
}

static bool open_source(trt_dataset *data, const char *spec, trt_error *err) {
  const char *colon = strchr(spec, ':');
  size_t n = colon ? (size_t)(colon - spec) : strlen(spec);
  const char *rest = colon ? colon + 1 : NULL;
  if (n < sizeof data->name) memcpy(data->name, spec, n);
#define IS(kind) (strcmp(data->name, kind) == 0)
  if (IS("fashion-mnist") && !rest) return open_fashion_mnist(data, err);
  if (IS("synthetic")) return open_synthetic(data, rest, err);
  if (IS("idx") && rest && *rest) return trt_data_read_idx(data, rest, err);
  if (IS("cifar10") && rest && *rest) return trt_data_read_cifar10(data, rest, err);
  if (IS("folder") && rest && *rest) return trt_data_read_folder(data, rest, err);
  if (IS("idx") || IS("cifar10") || IS("folder"))
    return trt_fail(err, "--data %s: no folder given; write %s:DIR", spec, data->name);
#undef IS
  return trt_fail(err, "--data %s: unknown data; use " TRT_DATA_SPECS, spec);
}

bool trt_data_check_size(const trt_dataset *data, const char *where, int64_t channels, int64_t height, int64_t width,
                         trt_error *err) {
  const trt_image_shape *s = &data->shape;
  if (channels == s->channels && height == s->height && width == s->width) return true;
  return trt_fail(
      err,
      "%s: images are %lldx%lldx%lld (channels, height, width), the model takes %lldx%lldx%lld; use other data or "
      "make the model for this size",
      where, (long long)channels, (long long)height, (long long)width, (long long)s->channels, (long long)s->height,
      (long long)s->width);
}

static bool check_labels(const trt_dataset *data, trt_error *err) {
  static const char *const names[] = {"train", "test"};
  for (int s = 0; s < 2; s++) {
    const trt_images *images = &data->split[s];
    if (images->count == 0) return trt_fail(err, "%s: the %s split is empty; use other data", data->name, names[s]);
    for (int64_t i = 0; i < images->count; i++) {
      if (images->labels[i] >= 0 && images->labels[i] < data->shape.classes) continue;
      return trt_fail(
          err,
          "%s: label %d of %s image %lld is out of range, the model has %lld classes; use other data or a model "
          "with more classes",
          data->name, images->labels[i], names[s], (long long)i, (long long)data->shape.classes);
    }
  }
  return true;
}

/* ---- normalisation ---- */

/* counts[C,256]: how often each channel of the training images has each value. Synthetic images are alike: a sample will do,
 * whether they are kept or not. */
static void count_values(const trt_dataset *data, uint64_t *counts) {
  const trt_images *train = &data->split[TRT_TRAIN];
  int64_t plane = data->shape.height * data->shape.width, bytes = trt_image_bytes(&data->shape);
  int64_t n = data->made && train->count > 256 ? 256 : train->count;
  uint8_t *made = train->pixels ? NULL : trt_alloc((size_t)bytes);
  for (int64_t i = 0; i < n; i++) {
    if (made) trt_data_synthetic_pixels(data, TRT_TRAIN, i, made);
    const uint8_t *p = made ? made : train->pixels + i * bytes;
    for (int64_t c = 0; c < data->shape.channels; c++) {
      for (int64_t k = 0; k < plane; k++) counts[c * 256 + p[c * plane + k]]++;
    }
  }
  free(made);
}

/* Of one channel's counts[256]. */
static void measure(const uint64_t *counts, double *mean, double *std) {
  double sum = 0, squares = 0, total = 0;
  for (int v = 0; v < 256; v++) {
    total += (double)counts[v];
    sum += (double)counts[v] * v;
  }
  *mean = sum / total;
  for (int v = 0; v < 256; v++) squares += (double)counts[v] * (v - *mean) * (v - *mean);
  *mean /= 255;
  *std = sqrt(squares / total) / 255;
}

/* Published constants where there are any, so that results compare; else measured on the training split. */
static void normalise(trt_dataset *data) {
  static const double fashion[2] = {0.2860, 0.3530};
  static const double cifar_mean[3] = {0.4914, 0.4822, 0.4465}, cifar_std[3] = {0.2470, 0.2435, 0.2616};
  bool is_fashion = strcmp(data->name, "fashion-mnist") == 0, is_cifar = strcmp(data->name, "cifar10") == 0;
  uint64_t *counts = trt_alloc((size_t)data->shape.channels * 256 * sizeof *counts);
  if (!is_fashion && !is_cifar) count_values(data, counts);
  data->table = trt_alloc((size_t)data->shape.channels * 256 * sizeof(float));
  for (int64_t c = 0; c < data->shape.channels; c++) {
    double mean, std;
    if (is_fashion)
      mean = fashion[0], std = fashion[1];
    else if (is_cifar)
      mean = cifar_mean[c], std = cifar_std[c];
    else
      measure(counts + c * 256, &mean, &std);
    if (!(std > 1e-6)) std = 1; /* images of one colour: leave them */
    for (int v = 0; v < 256; v++) data->table[c * 256 + v] = (float)((v / 255.0 - mean) / std);
    if (c < 16) data->mean[c] = mean, data->std[c] = std;
  }
  free(counts);
}

/* Synthetic images are a function of their labels, kept or not. */
static uint32_t checksum(const trt_dataset *data) {
  uLong crc = crc32_z(0, NULL, 0);
  for (int s = 0; s < 2; s++) {
    const trt_images *images = &data->split[s];
    crc = crc32_z(crc, (const Bytef *)images->labels, (size_t)images->count * sizeof *images->labels);
    if (!data->made) crc = crc32_z(crc, images->pixels, (size_t)(images->count * trt_image_bytes(&data->shape)));
  }
  return (uint32_t)crc;
}

bool trt_data_open(trt_dataset *data, const char *spec, const trt_image_shape *want, trt_error *err) {
  *data = (trt_dataset){.shape = *want};
  if (!open_source(data, spec, err) || !check_labels(data, err)) {
    trt_data_close(data);
    return false;
  }
  int64_t n = data->split[TRT_TRAIN].count;
  if (n < want->batch) {
    trt_data_close(data);
    return trt_fail(err,
                    "%s: the train split has %lld images, fewer than one batch of %lld; compile with a smaller --batch",
                    spec, (long long)n, (long long)want->batch);
  }
  normalise(data);
  data->checksum = checksum(data);
  return true;
}

void trt_data_close(trt_dataset *data) {
  for (int s = 0; s < 2; s++) {
    free(data->split[s].labels);
    free(data->split[s].pixels);
  }
  free(data->made);
  free(data->table);
  *data = (trt_dataset){0};
}

/* ---- batches ---- */

/* Fisher and Yates, each draw its own counter. */
void trt_data_shuffle(int64_t seed, int64_t epoch, int64_t n, int64_t *order) {
  uint64_t key = trt_random((uint64_t)seed, TRT_STREAM_SHUFFLE, (uint64_t)epoch);
  for (int64_t i = 0; i < n; i++) order[i] = i;
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = (int64_t)trt_random_below(trt_random(key, TRT_STREAM_SHUFFLE, (uint64_t)i), (uint64_t)i + 1);
    int64_t t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
}

typedef struct placement {
  bool flip;
  int64_t dy, dx; /* the output pixel (y,x) is the source's (y+dy, x+dx); black outside */
} placement;

static placement draw_placement(const trt_fill *fill, int64_t sample) {
  placement p = {0};
  if (!fill->augment) return p;
  uint64_t key = trt_random((uint64_t)fill->seed, TRT_STREAM_AUGMENT, (uint64_t)fill->epoch);
  uint64_t base = (uint64_t)sample * 4;
  const trt_image_shape *s = &fill->data->shape;
  if (fill->augment & TRT_FLIP) p.flip = trt_random(key, TRT_STREAM_AUGMENT, base) & 1;
  if (fill->augment & TRT_CROP) { /* padding by an eighth, then a crop of the old size: 4 pixels on 32 */
    int64_t py = s->height / 8, px = s->width / 8;
    p.dy = (int64_t)trt_random_below(trt_random(key, TRT_STREAM_AUGMENT, base + 1), (uint64_t)(2 * py + 1)) - py;
    p.dx = (int64_t)trt_random_below(trt_random(key, TRT_STREAM_AUGMENT, base + 2), (uint64_t)(2 * px + 1)) - px;
  }
  return p;
}

/* Columns [begin, end) of a row have a source, the same ones in every row. */
static void write_plane(const trt_image_shape *s, const float *table, const uint8_t *from, placement p, float *to) {
  int64_t W = s->width, shift = p.flip ? p.dx : -p.dx;
  int64_t begin = shift > 0 ? shift : 0, end = shift < 0 ? W + shift : W;
  assert(begin <= W / 8 && W - end <= W / 8 && "a shift is at most an eighth of the width");
  for (int64_t y = 0; y < s->height; y++, to += W) {
    int64_t sy = y + p.dy, x = 0, first = sy * W + (p.flip ? W - 1 : 0) + p.dx;
    bool inside = sy >= 0 && sy < s->height;
    while (x < (inside ? begin : W)) to[x++] = table[0];
    if (p.flip)
      for (; x < end; x++) to[x] = table[from[first - x]];
    else
      for (; x < end; x++) to[x] = table[from[first + x]];
    while (x < W) to[x++] = table[0];
  }
}

static void fill_one(const trt_kargs *args, int64_t task, uint8_t *scratch) {
  (void)scratch;
  const trt_fill *fill = args->bufs[0];
  const trt_dataset *data = fill->data;
  const trt_image_shape *s = &data->shape;
  int64_t sample = fill->index[task], bytes = trt_image_bytes(&data->shape), plane = s->height * s->width;
  const uint8_t *pixels = data->split[fill->split].pixels;
  uint8_t *made = pixels ? NULL : data->made + task * bytes;
  if (made) trt_data_synthetic_pixels(data, fill->split, sample, made);
  const uint8_t *from = made ? made : pixels + sample * bytes;
  float *to = fill->out + task * bytes;
  placement p = draw_placement(fill, sample);
  bool plain = !p.flip && p.dy == 0 && p.dx == 0;
  for (int64_t c = 0; c < s->channels; c++) {
    const float *table = data->table + c * 256;
    if (!plain)
      write_plane(s, table, from + c * plane, p, to + c * plane);
    else
      for (int64_t i = 0; i < plane; i++) to[c * plane + i] = table[from[c * plane + i]];
  }
}

void trt_data_fill(const trt_fill *fill) {
  trt_fill part = *fill;
  void *bufs[] = {&part};
  trt_kargs args = {bufs, NULL};
  int64_t most = fill->data->made ? fill->data->shape.batch : fill->n; /* as many as there is room to make */
  for (int64_t first = 0; first < fill->n; first += most) {
    part.index = fill->index + first;
    part.n = fill->n - first < most ? fill->n - first : most;
    part.out = fill->out + first * trt_image_bytes(&fill->data->shape);
    trt_parallel(&args, fill_one, part.n);
  }
}
