/* `train --profile`: where a step's time goes. Watches the launches of some steps, then writes a table (profile.md, and its
 * head to stderr) and a trace (trace.json, for chrome://tracing or Perfetto) of the last of them. What a launch is and
 * costs, the compiler has written down (trt_launch); how fast the machine can be, its probes measure first. No bit of
 * the training depends on being watched. */
#ifndef TRT_PROFILE_H
#define TRT_PROFILE_H
#include "model.h"
#include "progress.h"
#include "threads.h"

enum { TRT_PROFILE_DEFAULT = 20, TRT_PROFILE_MOST = 10000 };

/* Rows of the table: one an op of the IR, a node (of the source model, and op), or a kernel. */
typedef enum { TRT_BY_OP, TRT_BY_NODE, TRT_BY_KERNEL } trt_profile_by;

/* The machine's best with the threads of the run; 0: not measured. Multiply-adds and bytes a second. */
typedef struct trt_peaks {
  double fma, dot, read;
} trt_peaks;

/* One step's frame, on trt_now's clock in ns: the batch is loaded from `begin` on, the entry runs from `run` to `end`. */
typedef struct trt_frame {
  int64_t step, begin, run, end;
} trt_frame;

typedef struct trt_profile {
  const trt_program *program;
  const trt_entry *entry;
  trt_profile_by by;
  trt_peaks peaks;
  trt_watch watch;
  int64_t threads, launches;
  int64_t skip, steps, done; /* still to skip; to watch; watched */
  trt_span *spans;           /* [TRT_TRACE_STEPS][launches][1 + threads], step k in row k % TRT_TRACE_STEPS */
  trt_frame *frames;         /* [steps] */
  float *seconds, *busy;     /* [launches][steps]: of the launch, and summed over the threads in it */
} trt_profile;

enum { TRT_TRACE_STEPS = 3 };

/* Watches `steps` steps of `entry` after `skip` others. Measures the peaks now. */
bool trt_profile_open(trt_profile *p, const trt_program *program, const trt_entry *entry, trt_profile_by by, int64_t skip,
                      int64_t steps, trt_error *err);
void trt_profile_close(trt_profile *p);

/* Around a step: before its batch is loaded, before the entry runs, after it. Nothing where `p` is not open or has seen
 * enough. */
void trt_profile_begin(trt_profile *p, int64_t step);
void trt_profile_run(trt_profile *p);
bool trt_profile_end(trt_profile *p, trt_error *err);
/* True once, as long as nothing is written: after the last step to watch. */
bool trt_profile_complete(const trt_profile *p);
/* Writes what was seen, into `folder`, and closes. */
bool trt_profile_report(trt_profile *p, const char *folder, trt_progress *progress, trt_error *err);

/* profile_table.c, profile_trace.c */
void trt_profile_table(const trt_profile *p, trt_text *all, trt_text *head);
void trt_profile_trace(const trt_profile *p, trt_text *text);
#endif
