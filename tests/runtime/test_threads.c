/* trt_parallel: every task once, whoever is there; what a watch writes down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "runtime/src/threads.h"

enum { MOST = 300 };

typedef struct job {
  _Atomic int runs[MOST];
  int64_t pause_ns;
} job;

static void kernel(const trt_kargs *args, int64_t task, uint8_t *scratch) {
  job *j = args->bufs[0];
  memset(scratch, (int)task, 64);
  if (j->pause_ns) nanosleep(&(struct timespec){.tv_nsec = j->pause_ns}, NULL);
  if (scratch[63] == (uint8_t)task) atomic_fetch_add(&j->runs[task], 1);
}

static void launch(job *j, int64_t n) {
  void *bufs[] = {j};
  trt_kargs args = {bufs, NULL};
  memset(j->runs, 0, sizeof j->runs);
  trt_parallel(&args, kernel, n);
  for (int64_t i = 0; i < MOST; i++) assert_int_equal(j->runs[i], i < n);
}

/* Launches come back to back, then so far apart that everybody sleeps in between. */
static void test_every_task_once(void **state) {
  (void)state;
  job j = {0};
  for (int64_t threads = 1; threads <= 5; threads++) {
    assert_true(trt_threads_init(threads, 64));
    assert_int_equal(trt_threads_count(), threads);
    for (int64_t n = 0; n < MOST; n++) launch(&j, n);
    for (int i = 0; i < 3; i++) {
      nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
      launch(&j, 7);
    }
    j.pause_ns = 300000; /* the caller waits for the others long enough to sleep itself */
    launch(&j, 6);
    j.pause_ns = 0;
  }
}

static void test_watch(void **state) {
  (void)state;
  enum { THREADS = 3, ROWS = 2 };
  job j = {.pause_ns = 200000};
  trt_span spans[ROWS][1 + THREADS];
  trt_watch watch = {.spans = &spans[0][0], .capacity = ROWS};
  memset(spans, 0xff, sizeof spans);
  assert_true(trt_threads_init(THREADS, 64));
  trt_threads_watch(&watch);
  launch(&j, 1);
  launch(&j, 24);
  launch(&j, 5); /* one more than there is room for */
  trt_threads_watch(NULL);
  launch(&j, 5);
  assert_int_equal(watch.n, 3);
  static const int64_t want[ROWS] = {1, 24};
  for (int r = 0; r < ROWS; r++) {
    const trt_span *whole = &spans[r][0];
    int64_t sum = 0;
    assert_int_equal(whole->tasks, want[r]);
    for (int t = 1; t <= THREADS; t++) {
      const trt_span *s = &spans[r][t];
      sum += s->tasks;
      assert_true(s->tasks == 0 || (s->begin >= whole->begin && s->end <= whole->end && s->begin < s->end));
    }
    assert_int_equal(sum, want[r]);
  }
  assert_true(spans[1][0].begin >= spans[0][0].end);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_task_once), cmocka_unit_test(test_watch)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
