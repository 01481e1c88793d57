/* Decoder of PNG files (W3C PNG, second edition) for image folders: every colour type and bit depth, not interlaced. */
#ifndef TRT_PNG_H
#define TRT_PNG_H
#include "support.h"

typedef struct trt_png {
  int64_t channels, height, width; /* 1 (grey) or 3; alpha is dropped, 16 bits are cut to 8 */
  uint8_t *pixels;                 /* [C,H,W]; the caller frees */
} trt_png;

/* What the header says, without pixels: a size to refuse before anything is allocated for it. */
bool trt_png_header(trt_png *png, const uint8_t *bytes, uint64_t size, const char *path, trt_error *err);
/* Decodes `size` bytes; `path` is for messages. After a failure there is nothing to free. */
bool trt_png_decode(trt_png *png, const uint8_t *bytes, uint64_t size, const char *path, trt_error *err);
#endif
