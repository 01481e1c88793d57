/* What a machine can do at best: small kernels in the vocabulary of the real ones, so that a product's speed can be
 * stated as a share of what this target's instructions reach when nothing else is in their way.
 *
 * Operands of the arithmetic kernels are reloaded in every round from an address that the optimizer cannot follow, as a
 * micro kernel loads its panels: constant ones would let it drop part of a dot product made of several instructions. */
#include "compiler/codegen/gemm.h"
#include "compiler/codegen/probe.h"
#include "compiler/codegen/state.h"

enum { MOST_SUMS = 12, VARIED = 4, STREAMS = 8, BF16_PRODUCTS = 6 /* of bfloat16 pieces, to one of float32 */ };

/* Enough to hide the latency (4 to 5 cycles at two a cycle), and no more than registers hold beside the operands. */
static int n_sums(const cg_ctx *c) { return c->target->vector_regs >= 32 ? MOST_SUMS : 8; }

/* The cheapest step of a dot product: in 16 bits where there is one. */
static cg_val dot(cg_ctx *c, cg_val sum, cg_val a, cg_val b) {
  if (c->target->dot_square) return c->target->dot_square(c, sum, a, b);
  return c->target->dot_narrow ? c->target->dot_narrow(c, sum, a, b) : c->target->dot_u8s8(c, sum, a, b);
}

static cg_val no_sum(cg_ctx *c, cg_peak_kind kind) {
  if (kind == CG_PEAK_FMA) return cg_vf(c, 0);
  return LLVMConstNull(kind == CG_PEAK_DOT && c->target->dot_narrow ? cg_vec(c, c->i16, 2 * c->W) : c->vi);
}

/* sums[i] op= data[i / VARIED] * data[VARIED + i % VARIED], vectors from the same few cache lines. */
static void arithmetic_round(cg_ctx *c, cg_peak_kind kind, cg_val data, const cg_val *sums, cg_val *next) {
  cg_val x[MOST_SUMS / VARIED], y[VARIED], p = cg_opaque(c, data);
  cg_type type = kind == CG_PEAK_FMA ? c->vf : c->vi;
  for (int i = 0; i < n_sums(c) / VARIED; i++) x[i] = cg_load(c, type, cg_addr(c, type, p, i), 64);
  for (int i = 0; i < VARIED; i++) y[i] = cg_load(c, type, cg_addr(c, type, p, VARIED + i), 64);
  for (int i = 0; i < n_sums(c); i++) {
    cg_val a = x[i / VARIED], b = y[i % VARIED];
    next[i] = kind == CG_PEAK_FMA ? cg_fma(c, a, b, sums[i]) : dot(c, sums[i], a, b);
  }
}

static void read_round(cg_ctx *c, cg_val data, cg_val at, const cg_val *sums, cg_val *next) {
  for (int i = 0; i < STREAMS; i++)
    next[i] = cg_xor(c, sums[i], cg_load(c, c->vi, cg_addr(c, c->vi, cg_gep(c, c->vi, data, at), i), 64));
}

/* `rounds` rounds of vector instructions on `data`; the sums are stored behind. */
static void vector_rounds(cg_ctx *c, cg_peak_kind kind, cg_val data, cg_val rounds, cg_val to) {
  cg_val sums[MOST_SUMS], next[MOST_SUMS];
  int n = kind == CG_PEAK_READ ? STREAMS : n_sums(c);
  for (int i = 0; i < n; i++) sums[i] = no_sum(c, kind);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), rounds, 1, n, sums);
  if (kind == CG_PEAK_READ)
    read_round(c, data, cg_mul(c, l.i, cg_i64(c, STREAMS)), l.carry, next);
  else
    arithmetic_round(c, kind, data, l.carry, next);
  cg_loop_end(&l, next);
  for (int i = 1; i < n; i++) l.carry[0] = cg_add(c, l.carry[0], l.carry[i]);
  cg_store(c, l.carry[0], to, 4);
}

/* A round is one product into each accumulator from each A tile. */
static void tile_rounds(cg_ctx *c, cg_peak_kind kind, cg_val rounds) {
  const cg_tile_unit *u = c->target->tiles;
  void (*multiply)(cg_ctx *, int, int, int) = kind == CG_PEAK_TILES ? u->dot_u8s8 : u->dot_bf16;
  if (kind == CG_PEAK_TILES) u->configure(c);
  else u->configure_whole(c);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), rounds, 1, 0, NULL);
  for (int i = 0; i < CG_TILE_ACCS * CG_TILE_AS; i++)
    multiply(c, CG_TILE_ACC + i % CG_TILE_ACCS, CG_TILE_A + i % CG_TILE_AS, CG_TILE_B);
  cg_loop_end(&l, NULL);
  u->release(c);
}

int cg_peak_work(const cg_ctx *c, cg_peak_kind kind) {
  int tiles = CG_TILE_ACCS * CG_TILE_AS * 2 * 16 * 16;
  if (kind == CG_PEAK_TILES) return tiles * 64;
  if (kind == CG_PEAK_F32_TILES) return tiles * 32 / BF16_PRODUCTS;
  int of_a_dot = c->target->dot_square ? 16 : 8;
  return (kind == CG_PEAK_FMA ? 2 * n_sums(c) : kind == CG_PEAK_DOT ? of_a_dot * n_sums(c) : 4 * STREAMS) * c->W;
}

void cg_peak_rounds(cg_ctx *c, cg_peak_kind kind, cg_val data, cg_val rounds, cg_val to) {
  if (kind == CG_PEAK_TILES || kind == CG_PEAK_F32_TILES)
    tile_rounds(c, kind, rounds);
  else
    vector_rounds(c, kind, data, rounds, to);
}

/* imms[0] rounds on bufs[0]; a task of the reading kernel has a part of its own. */
static void emit_kernel(cg_ctx *c, cg_peak_kind kind) {
  cg_val fn = LLVMAddFunction(c->module, "tetrac_peak", c->state->kernel_type);
  cg_function_attributes(c, fn);
  LLVMPositionBuilderAtEnd(c->b, LLVMAppendBasicBlockInContext(c->llvm, fn, "entry"));
  cg_val args = LLVMGetParam(fn, 0), task = LLVMGetParam(fn, 1);
  cg_val bufs = cg_load(c, c->ptr, args, 8), imms = cg_load(c, c->ptr, cg_addr(c, c->ptr, args, 1), 8);
  cg_val data = cg_load(c, c->ptr, bufs, 8), rounds = cg_load(c, c->i64, imms, 8);
  if (kind == CG_PEAK_READ) data = cg_gep(c, c->vi, data, cg_mul(c, cg_mul(c, task, rounds), cg_i64(c, STREAMS)));
  cg_peak_rounds(c, kind, data, rounds, LLVMGetParam(fn, 2));
  LLVMBuildRetVoid(c->b);
}

bool cg_has_tiles(const cg_target *t) { return t->tiles != NULL; }
bool cg_has_f32_tiles(const cg_target *t) { return t->f32_tiles; }

bool cg_peak_open(cg_peak *p, cg_peak_kind kind, const cg_target *t, tt_arena *arena, tt_diag *diag) {
  *p = (cg_peak){0};
  cg_ctx *c = cg_open(t, arena, diag);
  if (!c) return false;
  cg_output object = {0};
  emit_kernel(c, kind);
  bool ok = cg_write(c, CG_OBJ, &object);
  p->work = cg_peak_work(c, kind);
  cg_close(c);
  if (ok)
    p->fn =
        (trt_kernel_fn)(uintptr_t)cg_load_symbol(object.files[0].data, object.files[0].bytes, "tetrac_peak", &p->handle, diag);
  return p->fn != NULL;
}

void cg_peak_close(cg_peak *p) { cg_unload(p->handle); }
