/* Kernels that measure the machine (trt_probe). */
#ifndef CG_PROBE_H
#define CG_PROBE_H
#include "compiler/codegen/cg.h"

enum { CG_PROBES = 3 };
typedef struct cg_probe {
  const char *name;
  cg_val fn;
  double work; /* of a task: multiply-adds or bytes */
} cg_probe;
void cg_emit_probes(cg_ctx *c, cg_probe out[CG_PROBES]);

/* What a cg_peak's kernel does, for one that is part of a program: `rounds` rounds on `data`, a vector's worth or less of sums
 * stored to `to`; and the work of a round, as cg_peak states it. */
void cg_peak_rounds(cg_ctx *c, cg_peak_kind kind, cg_val data, cg_val rounds, cg_val to);
int cg_peak_work(const cg_ctx *c, cg_peak_kind kind);
#endif
