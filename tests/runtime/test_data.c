/* Data sets in-process: what is read, how it is normalised and augmented, and damaged files in bulk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "runtime/include/trt_runtime.h"
#include "runtime/src/data.h"
#include "runtime/src/model.h"

static char folder[64];

static int make_folder(void **state) {
  (void)state;
  strcpy(folder, "/tmp/tetrac-data-XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command);
}

static void put_file(const char *name, const uint8_t *bytes, size_t n, bool gz) {
  char path[160];
  snprintf(path, sizeof path, "%s/%s%s", folder, name, gz ? ".gz" : "");
  if (gz) {
    gzFile f = gzopen(path, "wb");
    assert_int_equal(gzwrite(f, bytes, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
    return;
  }
  FILE *f = fopen(path, "wb");
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  fclose(f);
}

static size_t get_file(const char *name, uint8_t *bytes, size_t capacity) {
  char path[160];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  size_t n = fread(bytes, 1, capacity, f);
  fclose(f);
  return n;
}

static const char *spec_of(const char *kind) {
  static char spec[128];
  snprintf(spec, sizeof spec, "%s:%s", kind, folder);
  return spec;
}

/* ---- IDX ---- */

enum { N = 6, SIDE = 4 };
static const trt_image_shape small = {.batch = 2, .channels = 1, .height = SIDE, .width = SIDE, .classes = 3};

static void put_idx(bool gz) {
  uint8_t images[16 + N * SIDE * SIDE] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, SIDE, 0, 0, 0, SIDE},
                                 labels[8 + N] = {0, 0, 8, 1, 0, 0, 0, N};
  for (int i = 0; i < N * SIDE * SIDE; i++) images[16 + i] = (uint8_t)(i * 7);
  for (int i = 0; i < N; i++) labels[8 + i] = (uint8_t)(i % 3);
  for (int s = 0; s < 2; s++) {
    put_file(s ? "t10k-images-idx3-ubyte" : "train-images-idx3-ubyte", images, sizeof images, gz);
    put_file(s ? "t10k-labels-idx1-ubyte" : "train-labels-idx1-ubyte", labels, sizeof labels, gz);
  }
}

static void reads_idx(void **state) {
  (void)state;
  trt_dataset data;
  trt_error err;
  uint32_t checksum = 0;
  for (int gz = 0; gz < 2; gz++) {
    put_idx(gz);
    assert_true(trt_data_open(&data, spec_of("idx"), &small, &err));
    assert_int_equal(data.split[TRT_TRAIN].count, N);
    assert_int_equal(data.split[TRT_TEST].labels[4], 1);
    assert_int_equal(data.split[TRT_TRAIN].pixels[5], 35);
    if (gz) assert_int_equal(checksum, data.checksum);
    checksum = data.checksum;
    int64_t index[N] = {0, 1, 2, 3, 4, 5};
    float out[N * SIDE * SIDE];
    double sum = 0, squares = 0;
    trt_data_fill(&(trt_fill){.data = &data, .index = index, .n = N, .out = out});
    for (int i = 0; i < N * SIDE * SIDE; i++) sum += (double)out[i], squares += (double)out[i] * (double)out[i];
    assert_true(fabs(sum) < 1e-3); /* measured mean 0 and variance 1 */
    assert_true(fabs(squares / (N * SIDE * SIDE) - 1) < 1e-5);
    trt_data_close(&data);
  }
}

/* Each byte of each file changed, and each file cut at each length: opened or refused, never worse. */
static void damaged_idx(void **state) {
  (void)state;
  static const char *const names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"};
  trt_dataset data;
  trt_error err;
  for (int gz = 0; gz < 2; gz++) {
    put_idx(gz);
    for (int k = 0; k < 2; k++) {
      char name[64];
      uint8_t good[512], bad[512];
      snprintf(name, sizeof name, "%s%s", names[k], gz ? ".gz" : "");
      size_t n = get_file(name, good, sizeof good);
      for (size_t i = 0; i < n; i++) {
        memcpy(bad, good, n);
        bad[i] ^= (uint8_t)(1 << i % 8);
        put_file(name, bad, n, false);
        if (trt_data_open(&data, spec_of("idx"), &small, &err))
          trt_data_close(&data);
        else
          assert_non_null(strstr(err.text, "; "));
        put_file(name, good, i, false);
        if (trt_data_open(&data, spec_of("idx"), &small, &err)) fail_msg("%s cut at %zu was accepted", name, i);
      }
      put_file(name, good, n, false);
    }
    assert_true(trt_data_open(&data, spec_of("idx"), &small, &err));
    trt_data_close(&data);
  }
}

static void reads_fashion_mnist(void **state) {
  (void)state;
  trt_image_shape shape = {.batch = 100, .channels = 1, .height = 28, .width = 28, .classes = 10};
  trt_dataset data;
  trt_error err;
  if (access("/usr/share/datasets/fashion-mnist", F_OK) != 0) {
    print_message("dataset-fashion-mnist is not installed: skipped\n");
    skip();
  }
  assert_true(trt_data_open(&data, "fashion-mnist", &shape, &err));
  assert_int_equal(data.split[TRT_TRAIN].count, 60000);
  assert_int_equal(data.split[TRT_TEST].count, 10000);
  static float out[10000 * 784];
  static int64_t index[10000];
  for (int i = 0; i < 10000; i++) index[i] = i;
  trt_data_fill(&(trt_fill){.data = &data, .split = TRT_TEST, .index = index, .n = 10000, .out = out});
  double sum = 0, squares = 0;
  for (int i = 0; i < 10000 * 784; i++) sum += (double)out[i], squares += (double)out[i] * (double)out[i];
  assert_true(fabs(sum / 7840000) < 0.02);
  assert_true(fabs(squares / 7840000 - 1) < 0.02);
  trt_data_close(&data);
}

/* ---- CIFAR-10 ---- */

static void reads_cifar10(void **state) {
  (void)state;
  enum { RECORD = 3073 };
  static uint8_t batch[4 * RECORD];
  trt_image_shape shape = {.batch = 8, .channels = 3, .height = 32, .width = 32, .classes = 10};
  trt_dataset data;
  trt_error err;
  for (int f = 0; f < 6; f++) {
    char name[32];
    for (int i = 0; i < 4; i++) {
      memset(batch + i * RECORD, f * 4 + i, RECORD);
      batch[i * RECORD] = (uint8_t)(f + i);
    }
    if (f < 5)
      snprintf(name, sizeof name, "data_batch_%d.bin", f + 1);
    else
      strcpy(name, "test_batch.bin");
    put_file(name, batch, sizeof batch, false);
  }
  assert_true(trt_data_open(&data, spec_of("cifar10"), &shape, &err));
  assert_int_equal(data.split[TRT_TRAIN].count, 20);
  assert_int_equal(data.split[TRT_TRAIN].labels[17], 5);
  assert_int_equal(data.split[TRT_TRAIN].pixels[17 * 3072 + 3071], 17);
  trt_data_close(&data);
  put_file("data_batch_3.bin", batch, sizeof batch - 1, false);
  assert_false(trt_data_open(&data, spec_of("cifar10"), &shape, &err));
  assert_non_null(strstr(err.text, "data_batch_3.bin"));
  batch[0] = 10;
  put_file("data_batch_3.bin", batch, sizeof batch, false);
  assert_false(trt_data_open(&data, spec_of("cifar10"), &shape, &err));
  assert_non_null(strstr(err.text, "label 10 of train image 8"));
}

/* ---- batches ---- */

/* Augmented images are the source flipped and shifted by at most an eighth, black outside; the draw is the sample's own. */
static void augments(void **state) {
  (void)state;
  enum { W = 16, PLANE = W * W, COUNT = 64 };
  trt_image_shape shape = {.batch = 8, .channels = 1, .height = W, .width = W, .classes = 2};
  trt_dataset data;
  trt_error err;
  assert_true(trt_data_open(&data, "synthetic:64", &shape, &err));
  static float plain[COUNT * PLANE], out[COUNT * PLANE], alone[PLANE];
  int64_t index[COUNT];
  for (int i = 0; i < COUNT; i++) index[i] = i;
  trt_fill fill = {.data = &data, .index = index, .n = COUNT, .out = plain, .seed = 1, .epoch = 2};
  trt_data_fill(&fill);
  fill.augment = TRT_FLIP | TRT_CROP;
  fill.out = out;
  trt_data_fill(&fill);
  int flips = 0, moved = 0;
  for (int i = 0; i < COUNT; i++) {
    int found = 0;
    for (int k = 0; k < 2 * 5 * 5; k++) {
      int flip = k % 2, dy = k / 2 % 5 - 2, dx = k / 10 - 2, same = 1;
      for (int p = 0; p < PLANE && same; p++) {
        int y = p / W + dy, x = (flip ? W - 1 - p % W : p % W) + dx;
        float want = y >= 0 && y < W && x >= 0 && x < W ? plain[i * PLANE + y * W + x] : data.table[0];
        same = want == out[i * PLANE + p];
      }
      if (same) found++, flips += flip, moved += dy || dx;
    }
    assert_int_equal(found, 1);
  }
  assert_in_range(flips, COUNT / 4, COUNT * 3 / 4);
  assert_true(moved > COUNT / 2);
  fill.index = index + 33;
  fill.n = 1;
  fill.out = alone;
  trt_data_fill(&fill);
  assert_memory_equal(alone, out + 33 * PLANE, sizeof alone);
  trt_data_close(&data);
}

/* Few synthetic images are kept, many are made when wanted: the same images. */
static void keeps_what_it_would_make(void **state) {
  (void)state;
  enum { W = 16, PLANE = W * W, COUNT = 20 };
  trt_image_shape shape = {.batch = 8, .channels = 1, .height = W, .width = W, .classes = 2};
  static const char *const specs[] = {"synthetic:500", "synthetic:200000"};
  static float out[2][COUNT * PLANE];
  int64_t index[COUNT];
  for (int i = 0; i < COUNT; i++) index[i] = i * 25;
  trt_error err;
  for (int k = 0; k < 2; k++) {
    trt_dataset data;
    assert_true(trt_data_open(&data, specs[k], &shape, &err));
    assert_int_equal(data.split[TRT_TRAIN].pixels != NULL, k == 0);
    trt_data_fill(&(trt_fill){.data = &data, .index = index, .n = COUNT, .out = out[k]});
    trt_data_close(&data);
  }
  assert_memory_equal(out[0], out[1], sizeof out[0]);
}

/* A program with soft labels gets one-hot rows. */
static void soft_labels_are_one_hot(void **state) {
  (void)state;
  float arena[6] = {9, 9, 9, 9, 9, 9};
  trt_tensor labels = {.name = "labels", .dtype = TRT_F32, .rank = 2, .dim = {2, 3}, .bytes = sizeof arena};
  trt_model model = {.arena = (uint8_t *)arena};
  trt_binding binding = {.labels = &labels, .batch = 2, .classes = 3, .soft_labels = true};
  trt_model_set_labels(&model, &binding, (int32_t[]){2, 0}, NULL);
  const float want[6] = {0, 0, 1, 1, 0, 0};
  assert_memory_equal(arena, want, sizeof want);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
static int start_threads(void **state) {
  (void)state;
  return trt_threads_init(0, 0) ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {CASE(reads_idx),     CASE(damaged_idx), CASE(reads_fashion_mnist),
                                     CASE(reads_cifar10), CASE(augments),    CASE(keeps_what_it_would_make),
                                     CASE(soft_labels_are_one_hot)};
  return cmocka_run_group_tests(tests, start_threads, NULL);
}
