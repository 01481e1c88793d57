/* Image folders: the PNG decoder against an encoder written here, damaged files, classes and labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>
#include "runtime/include/trt_runtime.h"
#include "runtime/src/data.h"
#include "runtime/src/png.h"

/* ---- an encoder ---- */

typedef struct image {
  uint8_t bytes[8192];
  size_t n;
} image;

static void put32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void add_chunk(image *out, const char *type, const uint8_t *data, size_t n) {
  uint8_t *p = out->bytes + out->n;
  put32(p, (uint32_t)n);
  memcpy(p + 4, type, 4);
  if (n) memcpy(p + 8, data, n);
  put32(p + 8 + n, (uint32_t)crc32_z(0, p + 4, n + 4));
  out->n += n + 12;
}

static int predict(int kind, int a, int b, int c) {
  int p = a + b - c, pa = abs(p - a), pb = abs(p - b), pc = abs(p - c);
  int nearest = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
  return (int[]){0, a, b, (a + b) / 2, nearest}[kind];
}

/* Rows of `row` bytes; row y uses filter (y + first) % 5. IDAT is cut in two. */
static void encode(image *out, uint32_t width, uint32_t height, int depth, int colour, const uint8_t *raw, size_t row,
                   size_t step, int first) {
  static uint8_t filtered[4096], packed[4096];
  uint8_t head[13] = {[8] = (uint8_t)depth, [9] = (uint8_t)colour}, palette[48];
  size_t at = 0;
  for (uint32_t y = 0; y < height; y++) {
    int kind = (int)(y + (uint32_t)first) % 5;
    filtered[at++] = (uint8_t)kind;
    for (size_t i = 0; i < row; i++) {
      const uint8_t *p = raw + y * row + i;
      int a = i >= step ? p[-(ptrdiff_t)step] : 0, b = y ? p[-(ptrdiff_t)row] : 0,
          c = y && i >= step ? p[-(ptrdiff_t)(row + step)] : 0;
      filtered[at++] = (uint8_t)(*p - predict(kind, a, b, c));
    }
  }
  uLongf n = sizeof packed;
  assert_int_equal(compress2(packed, &n, filtered, at, 9), Z_OK);
  memcpy(out->bytes, "\x89PNG\r\n\x1a\n", 8);
  out->n = 8;
  put32(head, width);
  put32(head + 4, height);
  add_chunk(out, "IHDR", head, 13);
  for (int i = 0; i < 48; i++) palette[i] = (uint8_t)(i * 5);
  if (colour == 3) add_chunk(out, "PLTE", palette, 48);
  add_chunk(out, "tEXt", (const uint8_t *)"x", 1);
  add_chunk(out, "IDAT", packed, n / 2);
  add_chunk(out, "IDAT", packed + n / 2, n - n / 2);
  add_chunk(out, "IEND", NULL, 0);
}

enum { W = 7, H = 11 };

/* Sample k (of all samples of row y) in the file, at its depth. */
static unsigned raw_sample(int y, int k, int depth) { return (unsigned)(y * 37 + k * 11 + y * k) & ((1u << depth) - 1); }

static size_t make_rows(uint8_t *raw, int samples, int depth) {
  size_t row = (size_t)(W * samples * depth + 7) / 8;
  memset(raw, 0, row * H);
  for (int y = 0; y < H; y++) {
    for (int k = 0; k < W * samples; k++) {
      unsigned v = raw_sample(y, k, depth);
      uint8_t *p = raw + (size_t)y * row;
      if (depth == 16)
        p[2 * k] = (uint8_t)(v >> 8), p[2 * k + 1] = (uint8_t)v;
      else
        p[k * depth / 8] |= (uint8_t)(v << (8 - depth - k * depth % 8));
    }
  }
  return row;
}

static uint8_t wanted(int y, int k, int depth) {
  unsigned v = raw_sample(y, k, depth);
  return (uint8_t)(depth == 16 ? v >> 8 : v * 255 / ((1u << depth) - 1));
}

static const struct {
  int colour, depth, samples;
} kinds[] = {{0, 1, 1}, {0, 2, 1}, {0, 4, 1}, {0, 8, 1}, {0, 16, 1}, {2, 8, 3}, {2, 16, 3},
             {3, 1, 1}, {3, 2, 1}, {3, 4, 1}, {4, 8, 2}, {4, 16, 2}, {6, 8, 4}, {6, 16, 4}};

static void decodes_every_kind(void **state) {
  (void)state;
  static uint8_t raw[4096];
  image file;
  trt_png png;
  trt_error err;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    int colour = kinds[i].colour, depth = kinds[i].depth, samples = kinds[i].samples;
    size_t row = make_rows(raw, samples, depth);
    for (int first = 0; first < 5; first++) {
      encode(&file, W, H, depth, colour, raw, row, (size_t)(samples * depth + 7) / 8, first);
      if (!trt_png_decode(&png, file.bytes, file.n, "x", &err)) fail_msg("%s", err.text);
      assert_int_equal(png.channels, colour == 0 || colour == 4 ? 1 : 3);
      assert_true(png.width == W && png.height == H);
      for (int p = 0; p < W * H; p++) {
        for (int c = 0; c < png.channels; c++) {
          int y = p / W, x = p % W;
          uint8_t want =
              colour == 3 ? (uint8_t)((raw_sample(y, x, depth) * 3 + (unsigned)c) * 5) : wanted(y, x * samples + c, depth);
          assert_int_equal(png.pixels[c * W * H + p], want);
        }
      }
      free(png.pixels);
    }
  }
}

/* CRCs make nearly every change visible, so a second sweep repairs the CRC of the damaged chunk and goes deeper. */
static void repair(image *file) {
  for (size_t at = 8; at + 12 <= file->n;) {
    size_t n = (size_t)file->bytes[at] << 24 | (size_t)file->bytes[at + 1] << 16 | (size_t)file->bytes[at + 2] << 8 |
               file->bytes[at + 3];
    if (n > file->n - at - 12) return;
    put32(file->bytes + at + 8 + n, (uint32_t)crc32_z(0, file->bytes + at + 4, n + 4));
    at += n + 12;
  }
}

static void survives_damage(void **state) {
  (void)state;
  static uint8_t raw[4096];
  image good, bad;
  trt_png png;
  trt_error err;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    size_t row = make_rows(raw, kinds[i].samples, kinds[i].depth);
    encode(&good, W, H, kinds[i].depth, kinds[i].colour, raw, row, (size_t)(kinds[i].samples * kinds[i].depth + 7) / 8, 0);
    for (size_t k = 0; k < good.n; k++) {
      bad = good;
      bad.n = k;
      assert_false(trt_png_decode(&png, bad.bytes, bad.n, "x", &err));
      for (int v = 0; v < 4; v++) {
        bad = good;
        bad.bytes[k] ^= (uint8_t[]){0x01, 0x80, 0xff, 0x06}[v];
        assert_false(trt_png_decode(&png, bad.bytes, bad.n, "x", &err));
        repair(&bad);
        if (trt_png_decode(&png, bad.bytes, bad.n, "x", &err)) free(png.pixels);
      }
    }
  }
}

/* ---- folders ---- */

static char folder[64];

static int make_folder(void **state) {
  (void)state;
  strcpy(folder, "/tmp/tetrac-folder-XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static void in_folder(const char *command) {
  char text[512];
  snprintf(text, sizeof text, "cd %s && %s", folder, command);
  assert_int_equal(system(text), 0);
}

static int remove_folder(void **state) {
  (void)state;
  char text[128];
  snprintf(text, sizeof text, "rm -rf %s", folder);
  return system(text);
}

static void put_png(const char *name, int samples, int colour, uint32_t side, uint8_t value) {
  static uint8_t raw[1024];
  image file;
  char path[160];
  memset(raw, value, sizeof raw);
  encode(&file, side, side, 8, colour, raw, side * (size_t)samples, (size_t)samples, 1);
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(file.bytes, 1, file.n, f), file.n);
  fclose(f);
}

static void refuse(const char *says, const trt_image_shape *shape) {
  char spec[128];
  trt_dataset data;
  trt_error err;
  snprintf(spec, sizeof spec, "folder:%s", folder);
  if (trt_data_open(&data, spec, shape, &err)) fail_msg("accepted, wanted '%s'", says);
  if (!strstr(err.text, says)) fail_msg("%s; wanted '%s'", err.text, says);
}

static void reads_folders(void **state) {
  (void)state;
  char spec[128];
  trt_dataset data;
  trt_error err;
  trt_image_shape grey = {.batch = 2, .channels = 1, .height = 4, .width = 4, .classes = 3}, colour = grey;
  colour.channels = 3;
  refuse("cannot open this folder", &grey);
  in_folder("mkdir -p train/cat train/ant train/bee val/bee val/ant .hidden && echo >train/readme.txt && echo "
            ">train/ant/note.txt");
  put_png("train/bee/2.png", 1, 0, 4, 20);
  put_png("train/bee/1.PNG", 1, 0, 4, 10);
  put_png("train/ant/x.png", 1, 0, 4, 30);
  put_png("train/cat/y.png", 1, 0, 4, 40);
  put_png("val/bee/z.png", 1, 0, 4, 50);
  snprintf(spec, sizeof spec, "folder:%s", folder);
  for (int c = 0; c < 2; c++) { /* grey images serve a colour model as well */
    if (!trt_data_open(&data, spec, c ? &colour : &grey, &err)) fail_msg("%s", err.text);
    const trt_images *train = &data.split[TRT_TRAIN];
    int64_t bytes = c ? 48 : 16;
    const int32_t labels[] = {0, 1, 1, 2};
    const uint8_t values[] = {30, 10, 20, 40};
    assert_int_equal(train->count, 4);
    assert_memory_equal(train->labels, labels, sizeof labels);
    for (int i = 0; i < 4; i++)
      assert_true(train->pixels[i * bytes] == values[i] && train->pixels[(i + 1) * bytes - 1] == values[i]);
    assert_int_equal(data.split[TRT_TEST].labels[0], 1);
    trt_data_close(&data);
  }
  grey.classes = 2;
  refuse("has 3 class folders", &grey);
  grey.classes = 3;
  put_png("val/bee/q.png", 3, 2, 4, 1);
  refuse("q.png: images are 3x4x4", &grey);
  put_png("val/bee/q.png", 1, 0, 5, 1);
  refuse("q.png: images are 1x5x5", &grey);
  in_folder("echo x >val/bee/q.png; for i in 1 2 3 4 5 6 7 8 9; do echo x >val/bee/r$i.png; done");
  for (int i = 0; i < 20; i++) refuse("q.png: is not a usable PNG file", &grey); /* the first, whoever comes upon it */
  in_folder("rm val/bee/r*");
  in_folder("mv val/bee/q.png val/bee/q.jpg");
  refuse("JPEG is not supported", &grey);
  in_folder("rm val/bee/q.jpg; mkdir val/dog");
  refuse("no such class", &grey);
  in_folder("rm -r val");
  refuse("val: cannot open this folder", &grey);
}

/* Files that cannot be opened `fails_left` times more: a name's end, counted under all threads. */
static const char *fails_on[2];
static atomic_int fails_left[2];

int open(const char *path, int flags, ...) {
  for (int i = 0; i < 2; i++) {
    if (!fails_on[i] || !strstr(path, fails_on[i]) || atomic_fetch_sub(&fails_left[i], 1) <= 0) continue;
    errno = EMFILE;
    return -1;
  }
  va_list rest;
  va_start(rest, flags);
  long mode = flags & O_CREAT ? va_arg(rest, int) : 0;
  va_end(rest);
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* A file that cannot be read for a moment is read again, and so is what was left out behind it; one that cannot be read at all
 * is an error, by its name. */
static void reads_again(void **state) {
  (void)state;
  enum { IMAGES = 40 };
  char spec[128], name[64];
  trt_dataset data;
  trt_error err;
  trt_image_shape shape = {.batch = 2, .channels = 1, .height = 4, .width = 4, .classes = 1};
  in_folder("mkdir -p train/cat val/cat");
  for (int i = 0; i < IMAGES; i++) {
    snprintf(name, sizeof name, "train/cat/%02d.png", i);
    put_png(name, 1, 0, 4, (uint8_t)(10 + i));
  }
  put_png("val/cat/z.png", 1, 0, 4, 50);
  snprintf(spec, sizeof spec, "folder:%s", folder);
  static const char *const moments[] = {"/00.png", "/07.png", "/39.png"};
  for (int k = 0; k < 3; k++) {
    fails_on[0] = moments[k], fails_left[0] = 1;
    if (!trt_data_open(&data, spec, &shape, &err)) fail_msg("%s", err.text);
    assert_true(fails_left[0] < 0); /* it was tried again */
    for (int i = 0; i < IMAGES; i++)
      for (int p = 0; p < 16; p++) assert_int_equal(data.split[TRT_TRAIN].pixels[i * 16 + p], 10 + i);
    trt_data_close(&data);
  }
  fails_on[0] = "/07.png", fails_left[0] = 1;
  fails_on[1] = "/09.png", fails_left[1] = 1000;
  refuse("cat/09.png: cannot open: Too many open files", &shape);
  fails_on[0] = fails_on[1] = NULL;
}

static int start_threads(void **state) {
  (void)state;
  return trt_threads_init(3, 0) ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(decodes_every_kind),
      cmocka_unit_test(survives_damage),
      cmocka_unit_test_setup_teardown(reads_folders, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(reads_again, make_folder, remove_folder),
  };
  return cmocka_run_group_tests(tests, start_threads, NULL);
}
