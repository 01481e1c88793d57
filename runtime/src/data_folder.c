/* folder:DIR: DIR/train/CLASS/x.png and DIR/test/CLASS/x.png (or DIR/val). A class is a subfolder; its label is its place
 * in the alphabet of train's subfolders. Images are taken in the order of their names, so nothing depends on the file
 * system. Names are listed first; then all threads decode, each image to its place. */
#include "data.h"
#include "file.h"
#include "png.h"
#include "runtime/include/trt_runtime.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdatomic.h>
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

static void add_name(names *to, const char *name) {
  if (to->n == to->capacity) {
    size_t capacity = to->capacity ? to->capacity * 2 : 64;
    char **list = trt_alloc(capacity * sizeof *list);
    if (to->n) memcpy(list, to->list, to->n * sizeof *list);
    free(to->list);
    to->list = list;
    to->capacity = capacity;
  }
  char *copy = trt_alloc(strlen(name) + 1);
  to->list[to->n++] = strcpy(copy, name);
}

/* The folder's entries, sorted, without hidden ones. */
static bool list_folder(const char *path, names *out, trt_error *err) {
  *out = (names){0};
  DIR *dir = opendir(path);
  if (!dir) return trt_fail(err, "%s: cannot open this folder; it must hold a subfolder for each class", path);
  for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
    if (entry->d_name[0] != '.') add_name(out, entry->d_name);
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

/* ---- images ---- */

typedef struct decoding {
  trt_dataset *data;
  trt_split split;
  const names *files;   /* paths, a place each */
  atomic_size_t failed; /* the first place whose image is unusable; n: none */
} decoding;

static bool decode(const decoding *d, size_t place, trt_error *err) {
  const trt_image_shape *s = &d->data->shape;
  const char *path = d->files->list[place];
  int64_t plane = s->height * s->width;
  uint8_t *file, *to = d->data->split[d->split].pixels + (int64_t)place * s->channels * plane;
  uint64_t size;
  trt_png png;
  if (!trt_read_file(path, &file, &size, err)) return false;
  bool ok = trt_png_header(&png, file, size, path, err);
  bool spread = png.channels == 1 && s->channels == 3; /* a grey image for a colour model */
  ok = ok && trt_data_check_size(d->data, path, spread ? 3 : png.channels, png.height, png.width, err) &&
       trt_png_decode(&png, file, size, path, err);
  free(file);
  for (int64_t c = 0; ok && c < s->channels; c++)
    memcpy(to + c * plane, png.pixels + (spread ? 0 : c * plane), (size_t)plane);
  free(png.pixels);
  return ok;
}

static void decode_one(const trt_kargs *args, int64_t place, uint8_t *scratch) {
  (void)scratch;
  decoding *d = args->bufs[0];
  trt_error err;
  size_t mine = (size_t)place, first = atomic_load(&d->failed);
  if (mine > first || decode(d, mine, &err)) return;
  while (mine < first && !atomic_compare_exchange_weak(&d->failed, &first, mine)) continue;
}

/* Whichever thread meets it first, the error is that of the first unusable file. It is found by decoding again from there on,
 * one after the other, which also makes what was skipped when the cause has passed (too many files open at once, say). */
static bool decode_all(trt_dataset *data, trt_split split, const char *folder, const names *files, trt_error *err) {
  trt_images *images = &data->split[split];
  decoding d = {.data = data, .split = split, .files = files};
  images->count = (int64_t)files->n;
  images->pixels = malloc(files->n * (size_t)trt_image_bytes(&data->shape) + 1);
  if (!images->pixels) return trt_fail(err, "%s: no memory for its %zu images; use fewer", folder, files->n);
  atomic_init(&d.failed, files->n);
  void *bufs[] = {&d};
  trt_kargs args = {bufs, NULL};
  trt_parallel(&args, decode_one, images->count);
  for (size_t i = atomic_load(&d.failed); i < files->n; i++)
    if (!decode(&d, i, err)) return false;
  return true;
}

/* ---- splits ---- */

/* Appends the paths of a class's images. */
static bool list_class(const char *folder, names *files, trt_error *err) {
  names found;
  char path[4096];
  if (!list_folder(folder, &found, err)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < found.n; i++) {
    const char *name = found.list[i];
    ok = trt_join(path, sizeof path, folder, name, err);
    if (ok && (ends_in(name, ".jpg") || ends_in(name, ".jpeg")))
      ok = trt_fail(err, "%s: JPEG is not supported in this version; convert the images to PNG", path);
    else if (ok && ends_in(name, ".png"))
      add_name(files, path);
  }
  free_names(&found);
  return ok;
}

/* Appends what is in each class folder; ends[] of a class is then the number of files up to its last. */
static bool list_split(const char *folder, const names *classes, names *files, size_t *ends, trt_error *err) {
  names found;
  char path[4096];
  if (!list_folder(folder, &found, err)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < found.n; i++) {
    ok = trt_join(path, sizeof path, folder, found.list[i], err);
    if (!ok || !is_folder(path)) continue;
    char **at = classes->n ? bsearch(&found.list[i], classes->list, classes->n, sizeof *classes->list, by_name) : NULL;
    if (!at)
      ok = trt_fail(err, "%s: there is no such class among the training images; remove or rename it", path);
    else if ((ok = list_class(path, files, err)))
      ends[at - classes->list] = files->n;
  }
  free_names(&found);
  return ok;
}

static bool read_split(trt_dataset *data, trt_split split, const char *folder, const names *classes, trt_error *err) {
  names files = {0};
  size_t *ends = trt_alloc(classes->n * sizeof *ends), at = 0;
  bool ok = list_split(folder, classes, &files, ends, err) && decode_all(data, split, folder, &files, err);
  int32_t *labels = data->split[split].labels = trt_alloc(files.n * sizeof *labels);
  for (size_t k = 0; k < classes->n; k++)
    while (at < ends[k]) labels[at++] = (int32_t)k;
  free(ends);
  free_names(&files);
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
