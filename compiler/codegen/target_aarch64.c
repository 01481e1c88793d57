/* AArch64: NEON, 128 bits. Dot products by sdot, or by widening multiplications on cores older than it, and those of MX
 * operands by smmla where there is that. All multiply signed by signed, so that an MX product needs no offset (gemm_mx.c). */
#include <string.h>
#include <llvm-c/Target.h>
#include "compiler/codegen/targets.h"

static cg_type bytes16(cg_ctx *c) { return cg_vec(c, c->i8, 16); }

static cg_val dot_sdot(cg_ctx *c, cg_val acc, cg_val a, cg_val b) {
  cg_val args[3] = {acc, cg_bits(c, a, bytes16(c)), cg_bits(c, b, bytes16(c))};
  return cg_call(c, "llvm.aarch64.neon.sdot.v4i32.v16i8", c->vi, 3, args);
}

static cg_val square_smmla(cg_ctx *c, cg_val acc, cg_val a, cg_val b) {
  cg_val args[3] = {acc, cg_bits(c, a, bytes16(c)), cg_bits(c, b, bytes16(c))};
  return cg_call(c, "llvm.aarch64.neon.smmla.v4i32.v16i8", c->vi, 3, args);
}

static cg_val half(cg_ctx *c, cg_val v, int which) {
  cg_val lanes[8];
  for (int i = 0; i < 8; i++) lanes[i] = cg_i32(c, which * 8 + i);
  return LLVMBuildShuffleVector(c->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(lanes, 8), "");
}

/* Products of 8 bytes fit 16 bits, and so does a pair of them: integers are at most 96, E2M1's 12 shifted up by 3 (E3M0's reach
 * 64), and 2 * 96 * 96 < 2^15. INT4's are u8 codes of at most 15. */
static cg_val dot_smull(cg_ctx *c, cg_val acc, cg_val a, cg_val b) {
  cg_type h = cg_vec(c, c->i16, 8);
  cg_val x = cg_bits(c, a, bytes16(c)), y = cg_bits(c, b, bytes16(c)), product[2];
  for (int i = 0; i < 2; i++) {
    cg_val args[2] = {half(c, x, i), half(c, y, i)};
    product[i] = cg_call(c, "llvm.aarch64.neon.smull.v8i16", h, 2, args);
  }
  cg_val pairs = cg_call(c, "llvm.aarch64.neon.addp.v8i16", h, 2, product);
  return cg_add(c, acc, cg_call(c, "llvm.aarch64.neon.saddlp.v4i32.v8i16", c->vi, 1, &pairs));
}

/* tbl makes 0 of an index past the table. */
static cg_val lookup(cg_ctx *c, const int8_t *table, cg_val index) {
  cg_val bytes[16];
  for (int i = 0; i < 16; i++) bytes[i] = LLVMConstInt(c->i8, (uint8_t)table[i], false);
  cg_val args[2] = {LLVMConstVector(bytes, 16), index};
  return cg_call(c, "llvm.aarch64.neon.tbl1.v16i8", LLVMTypeOf(index), 2, args);
}

/* FPCR bit 24 (FZ) flushes subnormal operands as well as results. What may move across the calls: as on x86. */
static cg_val keep_denormals(cg_ctx *c) {
  cg_val saved = cg_call(c, "llvm.aarch64.get.fpcr", c->i64, 0, NULL);
  cg_val kept = cg_and(c, saved, cg_i64(c, ~(INT64_C(1) << 24)));
  cg_call(c, "llvm.aarch64.set.fpcr", LLVMVoidTypeInContext(c->llvm), 1, &kept);
  return saved;
}

static void restore_denormals(cg_ctx *c, cg_val saved) {
  cg_call(c, "llvm.aarch64.set.fpcr", LLVMVoidTypeInContext(c->llvm), 1, &saved);
}

static bool fill(cg_target *t) {
  if (!cg_has_feature(t->features, "neon")) return false;
  bool sdot = cg_has_feature(t->features, "dotprod");
  t->vector_bytes = 16;
  t->vector_regs = 32;
  t->dot = sdot ? CG_DOT_SDOT : CG_DOT_SMULL;
  t->dot_u8s8 = sdot ? dot_sdot : dot_smull;
  t->dot_signed = true;
  if (sdot && cg_has_feature(t->features, "i8mm")) t->dot = CG_DOT_SMMLA, t->dot_square = square_smmla;
  t->mx_rows = 6, t->mx_vectors = 4;
  t->branch_tails = true;
  t->denormals_keep = keep_denormals;
  t->denormals_restore = restore_denormals;
  t->lookup = t->lookup_or_zero = lookup;
  t->l1_bytes = 64 << 10;
  t->l2_bytes = 1 << 20;
  return true;
}

static void init(void) {
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeAArch64AsmPrinter();
}

static const cg_level levels[] = {
    {"dotprod", "generic", "+v8.2a,+fp-armv8,+neon,+dotprod", "Armv8.2 with dot products by sdot (the floor of 'aarch64')"},
    {"i8mm", "generic", "+v8.2a,+fp-armv8,+neon,+dotprod,+i8mm",
     "Armv8.2 with i8mm: products of 2 x 8 by 8 x 2 bytes by smmla"},
    {"v8", "generic", "+v8a,+fp-armv8,+neon", "any 64-bit Arm: dot products by smull"},
    {0}};

static const char *const known[] = {
#define TRT_X86_FEATURE(name, leaf, subleaf, word, bit, state)
#define TRT_AARCH64_FEATURE(name, caps, caps2) name,
#include "runtime/include/trt_features.def"
#undef TRT_X86_FEATURE
#undef TRT_AARCH64_FEATURE
    NULL};

const cg_family cg_family_aarch64 = {.arch = "aarch64",
                                     .triple = "aarch64-unknown-linux-gnu",
                                     .gcc = "aarch64-linux-gnu",
                                     .needs = "NEON",
                                     .levels = levels,
                                     .known = known,
                                     .fill = fill,
                                     .init = init,
#if defined(__aarch64__)
                                     .host = true
#endif
};
