/* Probes: kernels that do nothing but multiply-adds, or nothing but reads, so that a profile can say what share of the
 * machine's best a step reaches. Their rounds are those of peak.c. Both products are the fastest that the target has, whatever
 * a kernel makes of it: on the tile unit, or else with vectors, of bytes summed in 16 bits where the target has that. */
#include "compiler/codegen/probe.h"
#include "compiler/codegen/state.h"

enum { ROUNDS = 1 << 16, TILE_ROUNDS = 1 << 12, OPERANDS = 8, READ_BYTES = 1 << 20 };

/* One task: `rounds` rounds on operands in scratch whose 32-bit lanes are `lane`; work in multiply-adds. */
static cg_probe multiply(cg_ctx *c, const char *name, const char *symbol, cg_peak_kind kind, int32_t lane) {
  cg_kernel *k = cg_kernel_alone(c, symbol);
  uint64_t bytes = (uint64_t)c->target->vector_bytes;
  int64_t rounds = kind == CG_PEAK_TILES || kind == CG_PEAK_F32_TILES ? TILE_ROUNDS : ROUNDS;
  cg_val data = cg_scratch(k, 0, OPERANDS * bytes);
  for (int i = 0; i < OPERANDS; i++) cg_store(c, cg_vi(c, lane), cg_gep(c, c->vi, data, cg_i64(c, i)), (unsigned)bytes);
  cg_peak_rounds(c, kind, data, cg_i64(c, rounds), cg_scratch(k, OPERANDS * bytes, bytes));
  cg_kernel_end(k);
  return (cg_probe){name, k->fn, (double)rounds * cg_peak_work(c, kind) / 2};
}

static cg_probe read_memory(cg_ctx *c) {
  cg_kernel *k = cg_kernel_alone(c, "probe.read");
  cg_val from = cg_gep(c, c->i8, cg_operand(k, cg_i64(c, 0)), cg_mul(c, k->task, cg_i64(c, READ_BYTES)));
  cg_val to = cg_scratch(k, 0, (uint64_t)c->target->vector_bytes);
  cg_peak_rounds(c, CG_PEAK_READ, from, cg_i64(c, READ_BYTES / cg_peak_work(c, CG_PEAK_READ)), to);
  cg_kernel_end(k);
  return (cg_probe){"read", k->fn, READ_BYTES};
}

void cg_emit_probes(cg_ctx *c, cg_probe out[CG_PROBES]) {
  out[0] = multiply(c, "fma", "probe.fma", c->target->f32_tiles ? CG_PEAK_F32_TILES : CG_PEAK_FMA, 0x3f800000);
  out[1] = multiply(c, "dot", "probe.dot", c->target->tiles ? CG_PEAK_TILES : CG_PEAK_DOT, 0x01010101);
  out[2] = read_memory(c);
}
