/* Safetensors files: an 8-byte header length, a JSON header {name: {dtype, shape, data_offsets}}, then raw tensors.
 * Every file the runtime writes carries a CRC-32 of itself in the metadata, so a damaged byte anywhere is found on reading.
 */
#ifndef TRT_SAFETENSORS_H
#define TRT_SAFETENSORS_H
#include "support.h"
#include "runtime/include/trt_abi.h"

typedef struct trt_st_tensor {
  const char *name;
  const char *dtype; /* "F32", "I64", ...: the format's own names */
  uint32_t rank;
  int64_t dim[TRT_MAX_RANK];
  const uint8_t *data; /* no alignment promised when read */
  uint64_t bytes;
} trt_st_tensor;

typedef struct trt_st_meta {
  const char *key, *value;
} trt_st_meta;

/* A file in memory; names and data point into it. */
typedef struct trt_st_file {
  uint8_t *bytes;
  char *text; /* the header, strings decoded in place */
  trt_st_tensor *tensors;
  uint64_t n_tensors;
  trt_st_meta *metas;
  uint64_t n_metas;
  bool has_crc; /* and it was right */
} trt_st_file;

/* Reads and checks the whole file: JSON, types, shapes, that tensors cover the data without holes or overlaps, unique
 * names, and the CRC where there is one. After a failure there is nothing to close. */
bool trt_st_read(trt_st_file *file, const char *path, trt_error *err);
void trt_st_close(trt_st_file *file);
/* NULL when absent. */
const trt_st_tensor *trt_st_find(const trt_st_file *file, const char *name);
const char *trt_st_meta_find(const trt_st_file *file, const char *key);

/* Writes atomically (file.h), CRC included. */
bool trt_st_write(const char *path, const trt_st_tensor *tensors, uint64_t n_tensors, const trt_st_meta *metas,
                  uint64_t n_metas, trt_error *err);
/* Bytes of an element of `dtype`, 0 if unknown. */
uint64_t trt_st_element_size(const char *dtype);
/* Describes a tensor of the program for writing; its data lie at base + tensor->offset. */
trt_st_tensor trt_st_describe(const trt_tensor *tensor, const uint8_t *base);
#endif
