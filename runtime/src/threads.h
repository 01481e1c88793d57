/* Looking at trt_parallel from inside the runtime: who worked when. */
#ifndef TRT_THREADS_H
#define TRT_THREADS_H
#include <stdbool.h>
#include <stdint.h>
#include "runtime/include/trt_runtime.h"

typedef struct trt_span {
  int64_t begin, end; /* ns on trt_now's clock */
  int64_t tasks;      /* run in between; of a thread 0: it came too late or was not needed */
} trt_span;

/* What to write down. Row k of spans is the k-th launch since `n` was 0: first the launch as its caller saw it, then the
 * part of each thread. Launches beyond the capacity are counted, not recorded. */
typedef struct trt_watch {
  trt_span *spans; /* [capacity][1 + threads] */
  int64_t capacity, n;
} trt_watch;

/* Whether the system lets this process use the CPU's tile unit; asking is what permits it, to all threads. */
bool trt_tiles_permitted(void);

/* Records the launches from here on in w; NULL: no more. Never from inside a kernel. */
void trt_threads_watch(trt_watch *w);
#endif
