/* Small things every file of the runtime uses: errors, memory, text, randomness, time. */
#ifndef TRT_SUPPORT_H
#define TRT_SUPPORT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One error: what is wrong, where, what to do; a single line without a newline. */
typedef struct trt_error {
  char text[1024];
} trt_error;

/* Writes the error and returns false, so that a failing function can `return trt_fail(...)`. Control characters (a name
 * read from a hostile file, say) become '?', which keeps the error on one line. */
bool trt_fail(trt_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints "trainer: error: ..." to stderr; returns 1, the exit code. */
int trt_report(const trt_error *err);
/* Prints "trainer: note: ..." to stderr. */
void trt_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory for small things; running out of it is an assert. The caller frees. */
void *trt_alloc(size_t bytes);
/* Memory for tensors, contents undefined: 64-byte aligned, on huge pages where the system has them. What nobody touches takes
 * no memory, so a block may be as large as the largest entry needs. NULL when there is none. */
uint8_t *trt_alloc_tensors(uint64_t bytes);
/* Gives pages back to the system: constant data of the executable, which it reads from the file again when wanted, or other
 * memory that nobody reads any more. */
void trt_forget(const void *data, uint64_t bytes);

/* Growing text; free `data` when done. */
typedef struct trt_text {
  char *data;
  size_t size, capacity;
} trt_text;
void trt_text_add(trt_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends `string` as a JSON string, quotes included. */
void trt_text_add_json(trt_text *text, const char *string);

/* Counter-based randomness: a 64-bit hash of its arguments, equal on every machine and for every thread count. */
uint64_t trt_random(uint64_t seed, uint64_t stream, uint64_t counter);
/* Its two halves, for who draws often: trt_random(seed, stream, i) is trt_random_of(trt_random_key(seed, stream), i). */
uint64_t trt_random_key(uint64_t seed, uint64_t stream);
#define TRT_GOLDEN UINT64_C(0x9e3779b97f4a7c15)
/* The finalizer of splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t trt_mix(uint64_t x) {
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}
static inline uint64_t trt_random_of(uint64_t key, uint64_t counter) { return trt_mix(key + TRT_GOLDEN * (counter + 1)); }
/* The hash `bits` as an integer in [0, n). */
uint64_t trt_random_below(uint64_t bits, uint64_t n);
/* Streams: who draws. */
enum { TRT_STREAM_SHUFFLE = 1, TRT_STREAM_AUGMENT = 2, TRT_STREAM_SYNTHETIC = 3, TRT_STREAM_CALIBRATE = 4 };

/* Seconds on a clock that only goes forward. */
double trt_now(void);
#endif
