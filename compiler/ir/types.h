/* Types of values: an element type and a static shape. The batch is bound at import, so every dimension is known. */
#ifndef TT_TYPES_H
#define TT_TYPES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TT_MAX_RANK = 8, TT_MX_BLOCK = 32 };
/* Far beyond any tensor of a model, far below where byte counts of eight-byte elements overflow. */
#define TT_MAX_ELEMENTS ((int64_t)1 << 44)

/* TT_MX is a matrix [rows, K] of packed 4-bit elements in blocks of 32 along K, each with an E8M0 scale (OCP MX v1.0); or,
 * in the format TT_INT4, with one float32 scale for all of it (NUMERICS 9).
 * Memory of a TT_MX value: rows * nb * 16 bytes of codes (two a byte, low nibble first, row-major), then rows * nb scale
 * bytes (row-major), with nb = ceil(K / 32). The tail of a row's last block is code 0. TT_INT4 has the same codes, then the
 * four bytes of its scale. */
typedef enum { TT_F32, TT_F64, TT_I32, TT_I64, TT_BOOL, TT_MX, TT_DTYPE_COUNT } tt_dtype;
/* Those below TT_MX_FORMATS are the formats of Microscaling: a scale a block. */
typedef enum { TT_E2M1, TT_E3M0, TT_MX_FORMATS, TT_INT4 = TT_MX_FORMATS, TT_FORMAT_COUNT } tt_format;

typedef struct tt_type {
  uint8_t dtype;  /* tt_dtype */
  uint8_t format; /* tt_format, TT_MX only, else 0 */
  uint8_t rank;
  int64_t dim[TT_MAX_RANK]; /* zero past rank */
} tt_type;

tt_type tt_type_make(tt_dtype dtype, int rank, const int64_t *dim);
tt_type tt_type_scalar(tt_dtype dtype);
tt_type tt_type_mx(tt_format format, int64_t rows, int64_t k);
bool tt_type_equal(const tt_type *a, const tt_type *b);
int64_t tt_type_count(const tt_type *t);     /* elements; 1 for rank 0 */
int64_t tt_type_rows(const tt_type *t);      /* product of all dimensions but the last; 1 for rank 0 and 1 */
int64_t tt_type_last(const tt_type *t);      /* last dimension; 1 for rank 0 */
size_t tt_dtype_bytes(tt_dtype dtype);       /* TT_BOOL: 1, TT_MX: 0 */
size_t tt_type_bytes(const tt_type *t);      /* storage, TT_MX as above */
int64_t tt_mx_blocks(int64_t k);             /* ceil(k / 32) */
size_t tt_mx_scale_offset(const tt_type *t); /* bytes from the codes to the scales, or TT_INT4's one scale */
const char *tt_dtype_name(tt_dtype dtype);   /* "f32", "f64", "i32", "i64", "bool", "mx" */
/* "f32[2,3]", "mx.e2m1[64,96]", "int4[64,96]"; writes at most n bytes, returns buf. TT_TYPE_TEXT bytes always suffice. */
enum { TT_TYPE_TEXT = 192 };
char *tt_type_print(const tt_type *t, char *buf, size_t n);
/* NumPy broadcasting of shapes (element type from a); false where they do not fit. */
bool tt_broadcast(const tt_type *a, const tt_type *b, tt_type *out);
#endif
