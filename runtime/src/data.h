/* Data sets: images as bytes, labels as integers, and the batches made of them.
 *
 * Which image is where in an epoch, and how it is flipped or shifted, depends on (seed, epoch, position) alone.
 */
#ifndef TRT_DATA_H
#define TRT_DATA_H
#include "support.h"

typedef enum { TRT_TRAIN, TRT_TEST } trt_split;

typedef enum { TRT_FLIP = 1, TRT_CROP = 2 } trt_augment;

/* What the model wants of its data. */
typedef struct trt_image_shape {
  int64_t batch, channels, height, width, classes;
} trt_image_shape;

static inline int64_t trt_image_bytes(const trt_image_shape *s) { return s->channels * s->height * s->width; }

typedef struct trt_images {
  int64_t count;
  int32_t *labels; /* [count] */
  uint8_t *pixels; /* [count,C,H,W]; NULL where they are made when wanted (synthetic, unless few) */
} trt_images;

typedef struct trt_dataset {
  char name[64]; /* the SPEC's kind, for messages and checkpoints */
  trt_image_shape shape;
  trt_images split[2];      /* by trt_split */
  uint32_t checksum;        /* of labels and pixels: a resumed run must see the same data */
  uint8_t *made;            /* [batch,C,H,W]: where synthetic pixels are made when wanted; NULL of other data */
  float *table;             /* [C,256]: (byte/255 - mean) / std */
  double mean[16], std[16]; /* of the first 16 channels, for messages */
} trt_dataset;

/* One line for --help. */
#define TRT_DATA_SPECS "fashion-mnist, idx:DIR, cifar10:DIR, folder:DIR or synthetic[:N]"

/* Opens `spec`: both splits, checked against the shape. After a failure there is nothing to close. */
bool trt_data_open(trt_dataset *data, const char *spec, const trt_image_shape *want, trt_error *err);
void trt_data_close(trt_dataset *data);

/* Fills order[n] with a permutation of 0..n-1 drawn from (seed, epoch). */
void trt_data_shuffle(int64_t seed, int64_t epoch, int64_t n, int64_t *order);

/* Writes normalised float32 images [n,C,H,W] of the samples index[0..n) to `out`, in parallel. `augment` is a set of
 * trt_augment, drawn from (seed, epoch, sample). */
typedef struct trt_fill {
  const trt_dataset *data;
  trt_split split;
  const int64_t *index;
  int64_t n;
  unsigned augment;
  int64_t seed, epoch;
  float *out;
} trt_fill;
void trt_data_fill(const trt_fill *fill);

/* The sources behind trt_data_open; each fills data->split with what it read. They check files; trt_data_open checks
 * shapes, labels and counts for all of them. */
bool trt_data_read_idx(trt_dataset *data, const char *folder, trt_error *err);
bool trt_data_read_cifar10(trt_dataset *data, const char *folder, trt_error *err);
bool trt_data_read_folder(trt_dataset *data, const char *folder, trt_error *err);
bool trt_data_make_synthetic(trt_dataset *data, int64_t n_train, trt_error *err);
/* Pixels [C,H,W] of one synthetic image. */
void trt_data_synthetic_pixels(const trt_dataset *data, trt_split split, int64_t index, uint8_t *pixels);
/* Checks an image size against the model's; `where` names the file. */
bool trt_data_check_size(const trt_dataset *data, const char *where, int64_t channels, int64_t height, int64_t width,
                         trt_error *err);
#endif
