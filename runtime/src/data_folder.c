/* folder:DIR: DIR/train/CLASS/x.png and DIR/test/CLASS/x.png (or DIR/val). A class is a subfolder; its label is its place
 * in the alphabet of train's subfolders. Images are taken in the order of their names, so nothing depends on the file
 * system. */
#include "data.h"
#include "file.h"
#include "png.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef struct names {
  char **list;
  size_t n, capacity;
} names;

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void free_names(names *of) {
  for (size_t i = 0; i < of->n; i++) free(of->list[i]);
  free(of->list);
}

/* The folder's entries, sorted, without hidden ones. */
static bool list_folder(const char *path, names *out, trt_error *err) {
  *out = (names){0};
  DIR *dir = opendir(path);
  if (!dir) return trt_fail(err, "%s: cannot open this folder; it must hold a subfolder for each class", path);
  for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    if (out->n == out->capacity) {
      size_t capacity = out->capacity ? out->capacity * 2 : 64;
      char **list = trt_alloc(capacity * sizeof *list);
      if (out->n) memcpy(list, out->list, out->n * sizeof *list);
      free(out->list);
      out->list = list;
      out->capacity = capacity;
    }
    char *copy = trt_alloc(strlen(entry->d_name) + 1);
    strcpy(copy, entry->d_name);
    out->list[out->n++] = copy;
  }
  closedir(dir);
  if (out->n) qsort(out->list, out->n, sizeof *out->list, by_name);
  return true;
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool ends_in(const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n > m && strcasecmp(name + n - m, end) == 0;
}

/* Makes room for one more image, twice as much as before when full. */
static bool grow(trt_images *images, int64_t bytes, int64_t *capacity) {
  if (images->count < *capacity) return true;
  *capacity = *capacity ? *capacity * 2 : 1024;
  uint8_t *pixels = realloc(images->pixels, (size_t)(*capacity * bytes));
  if (pixels) images->pixels = pixels;
  int32_t *labels = realloc(images->labels, (size_t)*capacity * sizeof *labels);
  if (labels) images->labels = labels;
  return pixels && labels;
}

static bool add_image(trt_dataset *data, trt_split split, const char *path, int32_t label, int64_t *capacity,
                      trt_error *err) {
  const trt_image_shape *s = &data->shape;
  trt_images *images = &data->split[split];
  int64_t plane = s->height * s->width, bytes = s->channels * plane;
  uint8_t *file;
  uint64_t size;
  trt_png png;
  if (!trt_read_file(path, &file, &size, err)) return false;
  bool ok = trt_png_decode(&png, file, size, path, err);
  free(file);
  if (!ok) return false;
  bool spread = png.channels == 1 && s->channels == 3; /* a grey image for a colour model */
  ok = trt_data_check_size(data, path, spread ? 3 : png.channels, png.height, png.width, err);
  if (ok && !grow(images, bytes, capacity)) ok = trt_fail(err, "%s: no memory for more images", path);
  if (ok) {
    uint8_t *to = images->pixels + images->count * bytes;
    for (int64_t c = 0; c < s->channels; c++) memcpy(to + c * plane, png.pixels + (spread ? 0 : c * plane), (size_t)plane);
    images->labels[images->count++] = label;
  }
  free(png.pixels);
  return ok;
}

static bool read_class(trt_dataset *data, trt_split split, const char *folder, int32_t label, int64_t *capacity,
                       trt_error *err) {
  names files;
  char path[4096];
  if (!list_folder(folder, &files, err)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < files.n; i++) {
    const char *name = files.list[i];
    ok = trt_join(path, sizeof path, folder, name, err);
    if (ok && (ends_in(name, ".jpg") || ends_in(name, ".jpeg"))) {
      ok = trt_fail(err, "%s: JPEG is not supported in this version; convert the images to PNG", path);
    } else if (ok && ends_in(name, ".png")) {
      ok = add_image(data, split, path, label, capacity, err);
    }
  }
  free_names(&files);
  return ok;
}

static bool read_split(trt_dataset *data, trt_split split, const char *folder, const names *classes, trt_error *err) {
  names found;
  char path[4096];
  int64_t capacity = 0;
  if (!list_folder(folder, &found, err)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < found.n; i++) {
    ok = trt_join(path, sizeof path, folder, found.list[i], err);
    if (!ok || !is_folder(path)) continue;
    char **at = classes->n ? bsearch(&found.list[i], classes->list, classes->n, sizeof *classes->list, by_name) : NULL;
    if (!at)
      ok = trt_fail(err, "%s: there is no such class among the training images; remove or rename it", path);
    else
      ok = read_class(data, split, path, (int32_t)(at - classes->list), &capacity, err);
  }
  free_names(&found);
  return ok;
}

/* Drops what is not a folder from a sorted list, so that places are labels. */
static bool keep_folders(const char *folder, names *of, trt_error *err) {
  char path[4096];
  size_t kept = 0;
  bool ok = true;
  for (size_t i = 0; i < of->n; i++) {
    ok = ok && trt_join(path, sizeof path, folder, of->list[i], err);
    if (ok && is_folder(path))
      of->list[kept++] = of->list[i];
    else
      free(of->list[i]);
  }
  of->n = kept;
  return ok;
}

bool trt_data_read_folder(trt_dataset *data, const char *folder, trt_error *err) {
  char train[4096], test[4096];
  names classes;
  if (!trt_join(train, sizeof train, folder, "train", err) || !trt_join(test, sizeof test, folder, "test", err))
    return false;
  if (!is_folder(test) && !trt_join(test, sizeof test, folder, "val", err)) return false;
  if (!list_folder(train, &classes, err)) return false;
  bool ok = keep_folders(train, &classes, err);
  if (ok && (int64_t)classes.n > data->shape.classes) {
    ok = trt_fail(err,
                  "%s: has %zu class folders, the model %" PRId64 " classes; use other data or a model with more classes",
                  train, classes.n, data->shape.classes);
  }
  ok = ok && read_split(data, TRT_TRAIN, train, &classes, err) && read_split(data, TRT_TEST, test, &classes, err);
  free_names(&classes);
  return ok;
}
