/* The last watched steps as trace events: complete events ("X") with begin and duration in microseconds, a row for the steps
 * and one for each thread. The format is Chrome's "Trace Event Format", which Perfetto and others read. */
#include "profile.h"
#include <inttypes.h>

enum { STEPS_ROW = 0, FIRST_THREAD = 1 };

static void name_row(trt_text *out, int64_t row, const char *name, int64_t number) {
  trt_text_add(out, "{\"ph\":\"M\",\"pid\":1,\"tid\":%" PRId64 ",\"name\":\"thread_name\",\"args\":{\"name\":\"%s", row, name);
  if (number >= 0) trt_text_add(out, " %" PRId64, number);
  trt_text_add(out,
               "\"}},\n{\"ph\":\"M\",\"pid\":1,\"tid\":%" PRId64
               ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%" PRId64 "}}",
               row, row);
}

static void open_event(trt_text *out, int64_t row, int64_t origin, int64_t begin, int64_t end) {
  trt_text_add(out, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%" PRId64 ",\"ts\":%.3f,\"dur\":%.3f,\"name\":", row,
               1e-3 * (double)(begin - origin), 1e-3 * (double)(end - begin));
}

static void add_launch(const trt_profile *p, trt_text *out, int64_t origin, int64_t i, const trt_span *spans) {
  const trt_launch *l = &p->entry->launches[i];
  for (int64_t t = 0; t < p->threads; t++) {
    const trt_span *s = &spans[1 + t];
    if (s->tasks == 0) continue;
    open_event(out, FIRST_THREAD + t, origin, s->begin, s->end);
    trt_text_add_json(out, l->op);
    trt_text_add(out, ",\"args\":{\"node\":");
    trt_text_add_json(out, l->node);
    trt_text_add(out, ",\"kernel\":");
    trt_text_add_json(out, l->kernel);
    trt_text_add(out, ",\"launch\":%" PRId64 ",\"tasks\":%" PRId64 "}}", i, s->tasks);
  }
}

void trt_profile_trace(const trt_profile *p, trt_text *out) {
  int64_t first = p->done > TRT_TRACE_STEPS ? p->done - TRT_TRACE_STEPS : 0, origin = p->frames[first].begin;
  trt_text_add(out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
  trt_text_add(out, "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":");
  trt_text_add_json(out, p->program->model);
  trt_text_add(out, "}},\n");
  name_row(out, STEPS_ROW, "steps", -1);
  for (int64_t t = 0; t < p->threads; t++) {
    trt_text_add(out, ",\n");
    name_row(out, FIRST_THREAD + t, "thread", t);
  }
  for (int64_t k = first; k < p->done; k++) {
    const trt_frame *f = &p->frames[k];
    const trt_span *spans = p->spans + k % TRT_TRACE_STEPS * p->launches * (1 + p->threads);
    open_event(out, STEPS_ROW, origin, f->begin, f->run);
    trt_text_add(out, "\"load batch\"}");
    open_event(out, STEPS_ROW, origin, f->run, f->end);
    trt_text_add(out, "\"step %" PRId64 "\"}", f->step + 1);
    for (int64_t i = 0; i < p->launches; i++) add_launch(p, out, origin, i, spans + i * (1 + p->threads));
  }
  trt_text_add(out, "\n]}\n");
}
