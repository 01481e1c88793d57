/* Probes: kernels that do nothing but multiply-adds, or nothing but reads, so that a profile can say what share of the
 * machine's best a step reaches. They are generated like everything else: the same target, the same vector width and dot
 * product as the kernels that they are the measure of. */
#include "compiler/codegen/probe.h"
#include "compiler/codegen/state.h"

enum { MOST_SUMS = 12, ROUNDS = 1 << 16, A_VECTORS = 8, READ_SUMS = 8, READ_BYTES = 1 << 20 };

/* Accumulators enough to hide the latency (4 to 5 cycles at two a cycle), with as many operands beside them in registers. */
static int n_sums(const cg_ctx *c) { return c->target->vector_regs >= 32 ? MOST_SUMS : 6; }

typedef struct products {
  cg_type type; /* of a sum */
  int64_t a;    /* bits of each 32-bit lane of the left operand, which comes from memory */
  cg_val (*b)(cg_ctx *c, int i);
  cg_val (*add)(cg_ctx *c, cg_val sum, cg_val a, cg_val b);
} products;

static cg_val float_operand(cg_ctx *c, int i) { return cg_vf(c, 0.001 * (i + 1)); }
static cg_val byte_operand(cg_ctx *c, int i) { return cg_vi(c, 0x01010101 * (i + 1)); }
static cg_val fused(cg_ctx *c, cg_val sum, cg_val a, cg_val b) { return cg_fma(c, cg_bits(c, a, c->vf), b, sum); }

static cg_val dot(cg_ctx *c, cg_val sum, cg_val a, cg_val b) {
  cg_type bytes = cg_vec(c, c->i8, c->target->vector_bytes);
  return c->target->dot_u8s8(c, sum, cg_bits(c, a, bytes), cg_bits(c, b, bytes));
}

/* What was computed must be seen to be used. */
static void keep(cg_kernel *k, const cg_val *sums, int n, uint64_t at) {
  cg_ctx *c = k->c;
  uint64_t bytes = (uint64_t)c->target->vector_bytes;
  for (int i = 0; i < n; i++) cg_store(c, sums[i], cg_scratch(k, at + (uint64_t)i * bytes, bytes), (unsigned)bytes);
}

/* sum[i] += a[round % 8] * b[i], as in the inner loop of a matrix product. */
static cg_probe multiply(cg_ctx *c, const char *name, const char *symbol, const products *p, int macs_a_lane) {
  cg_kernel *k = cg_kernel_alone(c, symbol);
  uint64_t bytes = (uint64_t)c->target->vector_bytes;
  int n = n_sums(c);
  cg_val b[MOST_SUMS], next[MOST_SUMS], zero[MOST_SUMS];
  cg_val memory = cg_scratch(k, 0, A_VECTORS * bytes);
  for (int i = 0; i < A_VECTORS; i++) cg_store(c, cg_vi(c, p->a), cg_gep(c, c->vi, memory, cg_i64(c, i)), (unsigned)bytes);
  for (int i = 0; i < n; i++) {
    b[i] = p->b(c, i);
    zero[i] = LLVMConstNull(p->type);
  }
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, ROUNDS), 1, n, zero);
  cg_val a = cg_load(c, c->vi, cg_gep(c, c->vi, memory, cg_and(c, l.i, cg_i64(c, A_VECTORS - 1))), (unsigned)bytes);
  for (int i = 0; i < n; i++) next[i] = p->add(c, l.carry[i], a, b[i]);
  cg_loop_end(&l, next);
  keep(k, l.carry, n, A_VECTORS * bytes);
  cg_kernel_end(k);
  return (cg_probe){name, k->fn, (double)ROUNDS * n * c->W * macs_a_lane};
}

static cg_probe read_memory(cg_ctx *c) {
  cg_kernel *k = cg_kernel_alone(c, "probe.read");
  cg_val next[READ_SUMS], zero[READ_SUMS];
  cg_val from = cg_gep(c, c->i8, cg_operand(k, cg_i64(c, 0)), cg_mul(c, k->task, cg_i64(c, READ_BYTES)));
  for (int i = 0; i < READ_SUMS; i++) zero[i] = cg_vi(c, 0);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, READ_BYTES / c->target->vector_bytes), READ_SUMS, READ_SUMS, zero);
  for (int i = 0; i < READ_SUMS; i++) {
    cg_val at = cg_gep(c, c->vi, from, cg_add(c, l.i, cg_i64(c, i)));
    next[i] = cg_xor(c, l.carry[i], cg_load(c, c->vi, at, (unsigned)c->target->vector_bytes));
  }
  cg_loop_end(&l, next);
  keep(k, l.carry, READ_SUMS, 0);
  cg_kernel_end(k);
  return (cg_probe){"read", k->fn, READ_BYTES};
}

void cg_emit_probes(cg_ctx *c, cg_probe out[CG_PROBES]) {
  const products fma = {c->vf, 0x3f800000, float_operand, fused};
  const products dots = {c->vi, 0x01010101, byte_operand, dot};
  out[0] = multiply(c, "fma", "probe.fma", &fma, 1);
  out[1] = multiply(c, "dot", "probe.dot", &dots, 4);
  out[2] = read_memory(c);
}
