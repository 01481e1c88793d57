/* trt_parallel on one OpenMP team that lives as long as the pool; the only file that knows about threads.
 *
 * Tasks are split into contiguous ranges, one a thread: the rows a thread wrote in one kernel are then in its cache for the
 * next. A thread that is done helps with what is left of the others' ranges, so that a core taken by another program costs
 * its share and not the whole launch. Where a task runs decides nothing else: kernels must not look at the thread, so
 * results are the same for every thread count.
 *
 * A launch ends when its tasks are done, not when every thread has been there: a thread whose core is taken by another
 * program misses the launch, and the caller does its tasks. A parallel region a launch could not do that, since a region ends
 * with a barrier, and on a busy machine it is the difference between losing a core and waiting for the scheduler twice a
 * kernel. So there is one region, entered by a thread that stands in for the caller and does nothing more, and its team
 * (OpenMP's to create, place and end: OMP_PROC_BIND and OMP_PLACES leave the caller the first place) waits at the gate below:
 * threads that come while it is open are counted in and out, and the caller waits for those alone.
 *
 * Who waits spins for a moment, since the next launch of a step is microseconds away; then offers its core to others between
 * two looks; then sleeps.
 *
 * Float environment: kernels run with subnormal operands read as zero and subnormal results flushed (FTZ/DAZ, FZ on
 * AArch64), since a subnormal operand costs 20 to 30 times a normal one and gradients are full of them. The mode is set on
 * entry to trt_parallel and restored on exit, inline tasks included: the caller's own arithmetic (and a host that runs
 * compiled code in memory) is not touched, and a task computes the same bits inline or on a worker. Code that must keep
 * subnormals, such as the slow path of an MX GEMM or an E8M0 scale of 2^-127, uses integer operations or clears the mode
 * for its own duration.
 */
#include "threads.h"
#include <assert.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <sys/syscall.h>
#include <xmmintrin.h>
#endif

/* The tasks of one range that nobody has taken yet; a cache line each. */
typedef struct task_range {
  _Alignas(TRT_ALIGN) _Atomic int64_t next;
  int64_t end;
} task_range;

/* The gate of launches: threads inside in the low half, number of openings and closings in the high half, odd while open. */
#define INSIDE UINT64_C(0xffffffff)
#define STEP (INSIDE + 1)

typedef struct pool_state {
  /* What is launched; written by the caller while the gate is closed and nobody inside. */
  const trt_kargs *args;
  trt_kernel_fn kernel;
  trt_span *spans;  /* of the threads, or NULL */
  task_range *ranges; /* one a thread */
  int64_t n_ranges;
  _Alignas(TRT_ALIGN) _Atomic uint64_t gate;
  _Alignas(TRT_ALIGN) _Atomic int sleeping; /* workers */
  atomic_bool caller_sleeps, stop;
  pthread_mutex_t lock;
  pthread_cond_t opened, emptied;
  int64_t n_threads; /* with the caller */
  bool has_team;
  pthread_t team; /* enters the region */
  uint64_t stride;              /* bytes between two threads' scratch blocks */
  uint8_t *scratch;
} pool_state;

static pool_state *pool;
static trt_watch *watch;
static _Thread_local bool in_kernel;

#if defined(__x86_64__)
typedef unsigned float_mode;
static float_mode flush_subnormals(void) {
  float_mode old = _mm_getcsr();
  _mm_setcsr(old | 0x8040u); /* FTZ is bit 15, DAZ bit 6 */
  return old;
}
static void restore_mode(float_mode mode) { _mm_setcsr(mode); }
static void pause_core(void) { _mm_pause(); }
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static float_mode flush_subnormals(void) {
  float_mode old;
  __asm__ volatile("mrs %0, fpcr" : "=r"(old));
  __asm__ volatile("msr fpcr, %0" : : "r"(old | (UINT64_C(1) << 24))); /* FZ */
  return old;
}
static void restore_mode(float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
static void pause_core(void) { __asm__ volatile("yield"); }
#else
typedef int float_mode;
static float_mode flush_subnormals(void) { return 0; }
static void restore_mode(float_mode mode) { (void)mode; }
static void pause_core(void) {}
#endif

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- waiting ---- */

typedef bool ready_fn(const pool_state *p, uint64_t seen);

static bool has_opened(const pool_state *p, uint64_t seen) {
  uint64_t gate = atomic_load(&p->gate);
  return atomic_load(&p->stop) || ((gate / STEP) % 2 == 1 && gate / STEP != seen);
}

static bool is_empty(const pool_state *p, uint64_t seen) {
  (void)seen;
  return (atomic_load(&p->gate) & INSIDE) == 0;
}

/* False when it is time to sleep. */
static bool spin(const pool_state *p, ready_fn *ready, uint64_t seen) {
  enum { KEEP_NS = 20000, OFFER_NS = 200000, LOOKS = 32 };
  int64_t started = now_ns(), spent = 0;
  while (spent < OFFER_NS) {
    for (int i = 0; i < (spent < KEEP_NS ? LOOKS : 1); i++) {
      if (ready(p, seen)) return true;
      pause_core();
    }
    if (spent >= KEEP_NS) sched_yield();
    spent = now_ns() - started;
  }
  return false;
}

static void wait_opened(pool_state *p, uint64_t seen) {
  if (spin(p, has_opened, seen)) return;
  pthread_mutex_lock(&p->lock);
  atomic_fetch_add(&p->sleeping, 1); /* before the look: either it sees the opening, or the opener sees a sleeper */
  while (!has_opened(p, seen)) pthread_cond_wait(&p->opened, &p->lock);
  atomic_fetch_sub(&p->sleeping, 1);
  pthread_mutex_unlock(&p->lock);
}

static void wait_empty(pool_state *p) {
  if (spin(p, is_empty, 0)) return;
  pthread_mutex_lock(&p->lock);
  atomic_store(&p->caller_sleeps, true);
  while (!is_empty(p, 0)) pthread_cond_wait(&p->emptied, &p->lock);
  atomic_store(&p->caller_sleeps, false);
  pthread_mutex_unlock(&p->lock);
}

/* ---- working ---- */

/* One thread's share: its own range in order, then what others have left. Returns how many tasks that were. */
static int64_t take_tasks(const pool_state *p, int64_t self) {
  uint8_t *scratch = p->scratch + (uint64_t)self * p->stride;
  int64_t done = 0;
  for (int64_t r = 0; r < p->n_ranges; r++) {
    task_range *range = &p->ranges[(self + r) % p->n_ranges];
    for (int64_t i; (i = atomic_fetch_add_explicit(&range->next, 1, memory_order_relaxed)) < range->end; done++)
      p->kernel(p->args, i, scratch);
  }
  return done;
}

static void run_share(const pool_state *p, int64_t self) {
  float_mode mode = flush_subnormals();
  in_kernel = true;
  if (p->spans) {
    trt_span span = {.begin = now_ns()};
    span.tasks = take_tasks(p, self);
    span.end = now_ns();
    p->spans[self] = span;
  } else {
    take_tasks(p, self);
  }
  in_kernel = false;
  restore_mode(mode);
}

static void leave(pool_state *p) {
  if ((atomic_fetch_sub(&p->gate, 1) & INSIDE) != 1 || !atomic_load(&p->caller_sleeps)) return;
  pthread_mutex_lock(&p->lock);
  pthread_cond_signal(&p->emptied);
  pthread_mutex_unlock(&p->lock);
}

static void work(pool_state *p, int64_t self) {
  uint64_t seen = 0;
  while (wait_opened(p, seen), !atomic_load(&p->stop)) {
    uint64_t gate = atomic_load(&p->gate);
    while ((gate / STEP) % 2 == 1 && !atomic_compare_exchange_weak(&p->gate, &gate, gate + 1)) {}
    if ((gate / STEP) % 2 == 0) continue; /* closed again meanwhile */
    seen = gate / STEP;
    run_share(p, self);
    leave(p);
  }
}

static void *run_team(void *argument) {
  pool_state *p = argument;
  omp_set_dynamic(0);
#pragma omp parallel num_threads((int)p->n_threads)
  if (omp_get_thread_num() > 0) work(p, omp_get_thread_num());
  return NULL;
}

/* ---- the pool ---- */

static void destroy(pool_state *p) {
  if (!p) return;
  pthread_mutex_lock(&p->lock);
  atomic_store(&p->stop, true);
  pthread_cond_broadcast(&p->opened);
  pthread_mutex_unlock(&p->lock);
  if (p->has_team) pthread_join(p->team, NULL);
  pthread_mutex_destroy(&p->lock);
  pthread_cond_destroy(&p->opened);
  pthread_cond_destroy(&p->emptied);
  free(p->scratch);
  free(p->ranges);
  free(p);
}

/* Signals are the caller's. A team smaller than asked for (OMP_THREAD_LIMIT) is slower and nothing else; where the system
 * refuses a thread, OpenMP ends the program with its own message. */
static bool start_team(pool_state *p) {
  if (p->n_threads == 1) return true;
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  p->has_team = pthread_create(&p->team, NULL, run_team, p) == 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return p->has_team;
}

static pool_state *create(int64_t n_threads, uint64_t scratch_bytes) {
  /* An odd number of cache lines between blocks: a power-of-two distance would alias in the caches. */
  uint64_t lines = (scratch_bytes + TRT_ALIGN - 1) / TRT_ALIGN, n = (uint64_t)n_threads;
  if (scratch_bytes > UINT64_MAX / 4 / n) return NULL;
  pool_state *p = aligned_alloc(TRT_ALIGN, sizeof *p);
  if (!p) return NULL;
  *p = (pool_state){.n_threads = n_threads, .stride = (lines | 1) * TRT_ALIGN};
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->opened, NULL);
  pthread_cond_init(&p->emptied, NULL);
  p->scratch = aligned_alloc(TRT_ALIGN, p->stride * n);
  p->ranges = aligned_alloc(TRT_ALIGN, sizeof *p->ranges * n);
  if (p->scratch && p->ranges && start_team(p)) return p;
  destroy(p);
  return NULL;
}

/* Linux gives AMX's state to processes that ask for it. */
bool trt_tiles_permitted(void) {
#if defined(__x86_64__) && defined(__linux__)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return false;
#endif
}

bool trt_threads_init(int64_t n_threads, uint64_t scratch_bytes) {
  assert(!in_kernel && "trt_threads_init called from a kernel");
  pool_state *p = create(n_threads > 0 ? n_threads : omp_get_num_procs(), scratch_bytes);
  if (!p) return false;
  (void)trt_tiles_permitted();
  destroy(pool);
  pool = p;
  return true;
}

int64_t trt_threads_count(void) { return pool ? pool->n_threads : omp_get_num_procs(); }

void trt_threads_watch(trt_watch *w) {
  assert(!in_kernel && "trt_threads_watch called from a kernel");
  watch = w;
}

/* ---- launching ---- */

static void open_gate(pool_state *p, int64_t helpers) {
  atomic_fetch_add(&p->gate, STEP);
  int64_t asleep = atomic_load(&p->sleeping);
  if (asleep == 0) return;
  pthread_mutex_lock(&p->lock);
  for (int64_t i = 0; i < helpers && i < asleep; i++) pthread_cond_signal(&p->opened);
  pthread_mutex_unlock(&p->lock);
}

static void launch(pool_state *p, const trt_kargs *args, trt_kernel_fn kernel, int64_t n_tasks, trt_span *spans) {
  int64_t n = n_tasks < p->n_threads ? n_tasks : p->n_threads;
  p->args = args;
  p->kernel = kernel;
  p->spans = spans;
  p->n_ranges = n > 0 ? n : 1;
  for (int64_t t = 0; t < p->n_ranges; t++) {
    atomic_store_explicit(&p->ranges[t].next, n_tasks * t / p->n_ranges, memory_order_relaxed);
    p->ranges[t].end = n_tasks * (t + 1) / p->n_ranges;
  }
  if (n <= 1) {
    run_share(p, 0);
    return;
  }
  /* Opening orders these stores before, and the last one's leaving the kernels' after, everything the others do. */
  open_gate(p, n - 1);
  run_share(p, 0);
  atomic_fetch_add(&p->gate, STEP);
  wait_empty(p);
}

static void launch_watched(const trt_kargs *args, trt_kernel_fn kernel, int64_t n_tasks) {
  int64_t row = watch->n++;
  trt_span *spans = row < watch->capacity ? watch->spans + row * (1 + pool->n_threads) : NULL;
  for (int64_t t = 0; spans && t <= pool->n_threads; t++) spans[t] = (trt_span){0};
  trt_span whole = {.begin = now_ns(), .tasks = n_tasks};
  launch(pool, args, kernel, n_tasks, spans ? spans + 1 : NULL);
  whole.end = now_ns();
  if (spans) spans[0] = whole;
}

void trt_parallel(const trt_kargs *args, trt_kernel_fn kernel, int64_t n_tasks) {
  assert(pool && "trt_parallel before trt_threads_init");
  assert(!in_kernel && "trt_parallel called from a kernel");
  if (watch)
    launch_watched(args, kernel, n_tasks);
  else
    launch(pool, args, kernel, n_tasks, NULL);
}
