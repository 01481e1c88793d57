/* trt_parallel on OpenMP; the only file that knows about threads.
 *
 * Tasks are split into contiguous ranges, one a thread: the rows a thread wrote in one kernel are then in its cache for the
 * next. A thread that is done helps with what is left of the others' ranges, so that a core taken by another program costs
 * its share and not the whole launch. Where a task runs decides nothing else: kernels must not look at the thread, so
 * results are the same for every thread count.
 *
 * Float environment: kernels run with subnormal operands read as zero and subnormal results flushed (FTZ/DAZ, FZ on
 * AArch64), since a subnormal operand costs 20 to 30 times a normal one and gradients are full of them. The mode is set on
 * entry to trt_parallel and restored on exit, inline tasks included: the caller's own arithmetic (and a host that runs
 * compiled code in memory) is not touched, and a task computes the same bits inline or on a worker. Code that must keep
 * subnormals, such as the slow path of an MX GEMM or an E8M0 scale of 2^-127, uses integer operations or clears the mode
 * for its own duration.
 */
#include "runtime/include/trt_runtime.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <omp.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* The tasks of one thread's range that nobody has taken yet; a cache line each. */
typedef struct task_range {
  _Alignas(TRT_ALIGN) _Atomic int64_t next;
  int64_t end;
} task_range;

static struct {
  int64_t n_threads;
  task_range *ranges; /* one a thread */
  uint64_t stride; /* bytes between two threads' scratch blocks */
  uint8_t *scratch;
} pool;

#if defined(__x86_64__)
typedef unsigned float_mode;
static float_mode flush_subnormals(void) {
  float_mode old = _mm_getcsr();
  _mm_setcsr(old | 0x8040u); /* FTZ is bit 15, DAZ bit 6 */
  return old;
}
static void restore_mode(float_mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static float_mode flush_subnormals(void) {
  float_mode old;
  __asm__ volatile("mrs %0, fpcr" : "=r"(old));
  __asm__ volatile("msr fpcr, %0" : : "r"(old | (UINT64_C(1) << 24))); /* FZ */
  return old;
}
static void restore_mode(float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
typedef int float_mode;
static float_mode flush_subnormals(void) { return 0; }
static void restore_mode(float_mode mode) { (void)mode; }
#endif

bool trt_threads_init(int64_t n_threads, uint64_t scratch_bytes) {
  assert(!omp_in_parallel() && "trt_threads_init called from a kernel");
  if (n_threads <= 0) n_threads = omp_get_num_procs();
  /* An odd number of cache lines between blocks: a power-of-two distance would alias in the caches. */
  uint64_t lines = (scratch_bytes + TRT_ALIGN - 1) / TRT_ALIGN;
  uint64_t stride = (lines | 1) * TRT_ALIGN;
  if (scratch_bytes > UINT64_MAX / 4 / (uint64_t)n_threads) return false;
  uint8_t *scratch = aligned_alloc(TRT_ALIGN, stride * (uint64_t)n_threads);
  task_range *ranges = aligned_alloc(TRT_ALIGN, sizeof *ranges * (uint64_t)n_threads);
  if (!scratch || !ranges) {
    free(scratch);
    free(ranges);
    return false;
  }
  free(pool.scratch);
  free(pool.ranges);
  pool.ranges = ranges;
  pool.n_threads = n_threads;
  pool.stride = stride;
  pool.scratch = scratch;
  return true;
}

int64_t trt_threads_count(void) { return pool.n_threads ? pool.n_threads : omp_get_num_procs(); }

static void run_inline(const trt_kargs *args, trt_kernel_fn kernel, int64_t n_tasks) {
  float_mode mode = flush_subnormals();
  for (int64_t i = 0; i < n_tasks; i++) kernel(args, i, pool.scratch);
  restore_mode(mode);
}

/* One thread's share: its own range in order, then what others have left. */
static void run_share(const trt_kargs *args, trt_kernel_fn kernel, int64_t self, int64_t n_ranges) {
  float_mode mode = flush_subnormals();
  uint8_t *scratch = pool.scratch + (uint64_t)self * pool.stride;
  for (int64_t r = 0; r < n_ranges; r++) {
    task_range *range = &pool.ranges[(self + r) % n_ranges];
    for (int64_t i; (i = atomic_fetch_add_explicit(&range->next, 1, memory_order_relaxed)) < range->end;)
      kernel(args, i, scratch);
  }
  restore_mode(mode);
}

void trt_parallel(const trt_kargs *args, trt_kernel_fn kernel, int64_t n_tasks) {
  if (!pool.n_threads) {
    bool ready = trt_threads_init(0, 0);
    assert(ready && "trt_parallel: out of memory");
    (void)ready;
  }
  assert(!omp_in_parallel() && "trt_parallel called from a kernel");
  int64_t n = n_tasks < pool.n_threads ? n_tasks : pool.n_threads;
  if (n <= 1) {
    run_inline(args, kernel, n_tasks);
    return;
  }
  for (int64_t t = 0; t < n; t++) {
    atomic_store_explicit(&pool.ranges[t].next, n_tasks * t / n, memory_order_relaxed);
    pool.ranges[t].end = n_tasks * (t + 1) / n;
  }
  /* Entering and leaving the region orders these stores before, and the kernels' after, everything the team does. A team
   * smaller than asked for takes all ranges as well. */
#pragma omp parallel num_threads((int)n)
  run_share(args, kernel, omp_get_thread_num(), n);
}
