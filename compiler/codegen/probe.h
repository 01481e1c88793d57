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
#endif
