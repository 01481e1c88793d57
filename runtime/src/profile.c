#include "profile.h"
#include "file.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what the machine can do ---- */

enum { ROUNDS = 12, READ_ROUNDS = 4, TASKS_A_THREAD = 4 };
#define MEMORY_LEAST (INT64_C(256) << 20)
#define MEMORY_MOST (INT64_C(1) << 30)

/* Work a second, the best of some rounds: what disturbs a round is not the machine. */
static double best_rate(const trt_probe *probe, int rounds, uint8_t *memory, int64_t n_tasks) {
  void *bufs[] = {memory};
  trt_kargs args = {bufs, NULL};
  double best = 0;
  for (int i = 0; i < rounds; i++) {
    double before = trt_now();
    trt_parallel(&args, probe->kernel, n_tasks);
    double rate = probe->work * (double)n_tasks / (trt_now() - before);
    if (rate > best) best = rate;
  }
  return best;
}

/* From memory that no cache holds. */
static double read_rate(const trt_probe *probe) {
  int64_t bytes = MEMORY_LEAST;
#ifdef _SC_LEVEL3_CACHE_SIZE
  int64_t cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (2 * cache > bytes) bytes = 2 * cache;
#endif
  if (bytes > MEMORY_MOST) bytes = MEMORY_MOST;
  int64_t n_tasks = bytes / (int64_t)probe->work;
  uint8_t *memory = trt_alloc_tensors((uint64_t)bytes);
  if (!memory) return 0;
  memset(memory, 1, (size_t)bytes); /* untouched pages would all be the same one */
  double rate = n_tasks ? best_rate(probe, READ_ROUNDS, memory, n_tasks) : 0;
  free(memory);
  return rate;
}

static trt_peaks measure(const trt_program *program) {
  trt_peaks peaks = {0};
  for (uint64_t i = 0; i < program->n_probes; i++) {
    const trt_probe *probe = &program->probes[i];
    double *peak = strcmp(probe->name, "fma") == 0 ? &peaks.fma : strcmp(probe->name, "dot") == 0 ? &peaks.dot : NULL;
    if (peak) *peak = best_rate(probe, ROUNDS, NULL, TASKS_A_THREAD * trt_threads_count());
    if (strcmp(probe->name, "read") == 0) peaks.read = read_rate(probe);
  }
  return peaks;
}

/* ---- watching ---- */

static int64_t spans_of_step(const trt_profile *p) { return p->launches * (1 + p->threads); }

bool trt_profile_open(trt_profile *p, const trt_program *program, const trt_entry *entry, trt_profile_by by, int64_t skip,
                      int64_t steps, trt_error *err) {
  *p = (trt_profile){.program = program, .entry = entry, .by = by, .skip = skip, .steps = steps};
  if (entry->n_launches == 0)
    return trt_fail(err, "--profile: this trainer does not say what its launches are; compile it again");
  p->threads = trt_threads_count();
  p->launches = (int64_t)entry->n_launches;
  p->peaks = measure(program);
  p->spans = trt_alloc((size_t)(TRT_TRACE_STEPS * spans_of_step(p)) * sizeof *p->spans);
  p->frames = trt_alloc((size_t)steps * sizeof *p->frames);
  p->seconds = trt_alloc((size_t)(p->launches * steps) * sizeof *p->seconds);
  p->busy = trt_alloc((size_t)(p->launches * steps) * sizeof *p->busy);
  return true;
}

void trt_profile_close(trt_profile *p) {
  free(p->spans);
  free(p->frames);
  free(p->seconds);
  free(p->busy);
  *p = (trt_profile){0};
}

static int64_t now_ns(void) { return (int64_t)(trt_now() * 1e9); }

static bool watching(const trt_profile *p) { return p->done < p->steps && p->skip == 0; }

void trt_profile_begin(trt_profile *p, int64_t step) {
  if (watching(p)) p->frames[p->done] = (trt_frame){.step = step, .begin = now_ns()};
}

void trt_profile_run(trt_profile *p) {
  if (!watching(p)) return;
  p->watch = (trt_watch){.spans = p->spans + p->done % TRT_TRACE_STEPS * spans_of_step(p), .capacity = p->launches};
  p->frames[p->done].run = now_ns();
  trt_threads_watch(&p->watch);
}

bool trt_profile_end(trt_profile *p, trt_error *err) {
  if (!watching(p)) {
    if (p->skip > 0) p->skip--;
    return true;
  }
  trt_threads_watch(NULL);
  p->frames[p->done].end = now_ns();
  if (p->watch.n != p->launches)
    return trt_fail(
        err, "this trainer is damaged: its entry '%s' launched %" PRId64 " kernels instead of %" PRId64 "; compile it again",
        p->entry->name, p->watch.n, p->launches);
  const trt_span *span = p->watch.spans;
  for (int64_t i = 0; i < p->launches; i++, span += 1 + p->threads) {
    int64_t busy = 0;
    for (int64_t t = 1; t <= p->threads; t++) busy += span[t].end - span[t].begin;
    p->seconds[i * p->steps + p->done] = (float)(1e-9 * (double)(span->end - span->begin));
    p->busy[i * p->steps + p->done] = (float)(1e-9 * (double)busy);
  }
  p->done++;
  return true;
}

bool trt_profile_complete(const trt_profile *p) { return p->steps > 0 && p->done == p->steps; }

/* ---- writing ---- */

static bool write_text(const char *folder, const char *name, const trt_text *text, trt_error *err) {
  char path[4096];
  trt_writer w;
  return trt_join(path, sizeof path, folder, name, err) && trt_writer_open(&w, path, err) &&
         trt_writer_put(&w, text->data, text->size, err) && trt_writer_commit(&w, err);
}

bool trt_profile_report(trt_profile *p, const char *folder, trt_progress *progress, trt_error *err) {
  trt_text all = {0}, head = {0}, trace = {0};
  trt_profile_table(p, &all, &head);
  trt_profile_trace(p, &trace);
  trt_progress_line(progress, "%sthe whole table: %s/profile.md, a trace for chrome://tracing: %s/trace.json", head.data,
                    folder, folder);
  bool ok = write_text(folder, "profile.md", &all, err) && write_text(folder, "trace.json", &trace, err);
  free(all.data);
  free(head.data);
  free(trace.data);
  trt_profile_close(p);
  return ok;
}
