/* x86-64: levels v3 (AVX2, FMA) and v4 (AVX-512 F/BW/DQ/VL with VNNI), and whatever the host has. */
#include <llvm-c/Target.h>
#include "compiler/codegen/targets.h"

/* Counts in 32-bit lanes: acc[i] += sum over 4 bytes of u8 * s8, by one instruction a vector. */
static cg_val dot_vnni(cg_ctx *c, cg_val acc, cg_val a, cg_val b) {
  char name[48];
  snprintf(name, sizeof name, "llvm.x86.avx512.vpdpbusd.%d", c->target->vector_bytes * 8);
  cg_type vi = cg_vec(c, c->i32, c->target->vector_bytes / 4);
  cg_val args[3] = {acc, cg_bits(c, a, vi), cg_bits(c, b, vi)};
  return cg_call(c, name, vi, 3, args);
}

/* vpmaddubsw adds pairs in int16: exact here, because MX operands are doubled E2M1 codes shifted up by one bit, u8 <= 48 and
 * |s8| <= 24, or quadrupled E3M0 ones, u8 <= 128 and |s8| <= 64, and a pair is at most 2 * 128 * 64 < 2^15. vpmaddwd with ones
 * widens. */
static cg_val madd_narrow(cg_ctx *c, cg_val acc, cg_val a, cg_val b) {
  int n = c->target->vector_bytes;
  cg_type bytes = cg_vec(c, c->i8, n), halves = cg_vec(c, c->i16, n / 2);
  cg_val pair[2] = {cg_bits(c, a, bytes), cg_bits(c, b, bytes)};
  const char *name = n == 64 ? "llvm.x86.avx512.pmaddubs.w.512" : "llvm.x86.avx2.pmadd.ub.sw";
  cg_val sums = cg_call(c, name, halves, 2, pair);
  return acc ? cg_add(c, acc, sums) : sums;
}

static cg_val madd_widen(cg_ctx *c, cg_val acc, cg_val halves) {
  int n = c->target->vector_bytes;
  cg_val args[2] = {halves, cg_splat(c, LLVMConstInt(c->i16, 1, false), n / 2)};
  return cg_add(c, acc, cg_call(c, n == 64 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd", c->vi, 2, args));
}

static cg_val dot_madd(cg_ctx *c, cg_val acc, cg_val a, cg_val b) { return madd_widen(c, acc, madd_narrow(c, NULL, a, b)); }

/* vpshufb looks bytes up inside each 128-bit lane: the table stands in every one. */
static cg_val lookup(cg_ctx *c, const int8_t *table, cg_val index) {
  int n = c->target->vector_bytes;
  cg_val bytes[64];
  for (int i = 0; i < n; i++) bytes[i] = LLVMConstInt(c->i8, (uint8_t)table[i % 16], false);
  cg_val args[2] = {LLVMConstVector(bytes, (unsigned)n), index};
  return cg_call(c, n == 64 ? "llvm.x86.avx512.pshuf.b.512" : "llvm.x86.avx2.pshuf.b", LLVMTypeOf(index), 2, args);
}

/* vpermt2ps takes 5 bits of each index and nothing else of it. */
static cg_val pick(cg_ctx *c, const float *table, cg_val index) {
  cg_val lane[CG_TABLE_FLOATS];
  for (int i = 0; i < CG_TABLE_FLOATS; i++) lane[i] = cg_f32(c, (double)table[i]);
  cg_val args[3] = {LLVMConstVector(lane, 16), index, LLVMConstVector(lane + 16, 16)};
  return cg_call(c, "llvm.x86.avx512.vpermi2var.ps.512", c->vf, 3, args);
}

static cg_val permute(cg_ctx *c, cg_val x, cg_val index) {
  cg_val args[2] = {x, index};
  return cg_call(c, "llvm.x86.avx512.permvar.sf.512", c->vf, 2, args);
}

static cg_val logic(cg_ctx *c, int table, const cg_val *v) {
  cg_val args[4] = {v[0], v[1], v[2], cg_i32(c, table)};
  return cg_call(c, "llvm.x86.avx512.pternlog.d.512", c->vi, 4, args);
}

/* A set upper bit of the index makes 0 of the byte; only it and the lower four count. */
static cg_val lookup_or_zero(cg_ctx *c, const int8_t *table, cg_val index) {
  int n = c->target->vector_bytes;
  cg_val args[2] = {index, cg_splat(c, LLVMConstInt(c->i8, 112, false), n)};
  const char *add = n == 64 ? "llvm.uadd.sat.v64i8" : "llvm.uadd.sat.v32i8";
  return lookup(c, table, cg_call(c, add, LLVMTypeOf(index), 2, args));
}

static cg_val scalef(cg_ctx *c, cg_val x, cg_val n) {
  cg_val args[5] = {x, n, x, LLVMConstInt(c->i16, 0xffff, false), cg_i32(c, 4)}; /* all lanes; rounding as in MXCSR */
  return cg_call(c, "llvm.x86.avx512.mask.scalef.ps.512", c->vf, 5, args);
}

static cg_val fma_toward_zero(cg_ctx *c, cg_val a, cg_val b, cg_val d) {
  cg_val args[4] = {a, b, d, cg_i32(c, 3 | 8)}; /* toward zero, no exceptions */
  return cg_call(c, "llvm.x86.avx512.vfmadd.ps.512", c->vf, 4, args);
}

/* MXCSR bits 15 (flush to zero) and 6 (denormals are zero). Loads and stores do not move across these calls, arithmetic on
 * values already loaded may: an exact section loads its operands after `keep` and stores its results before `restore`. */
static cg_val keep_denormals(cg_ctx *c) {
  cg_type none = LLVMVoidTypeInContext(c->llvm);
  cg_val p = cg_alloca(c, c->i32, 2, 4);
  cg_val q = cg_gep(c, c->i32, p, cg_i64(c, 1));
  cg_call(c, "llvm.x86.sse.stmxcsr", none, 1, &p);
  cg_store(c, cg_and(c, cg_load(c, c->i32, p, 4), cg_i32(c, ~0x8040)), q, 4);
  cg_call(c, "llvm.x86.sse.ldmxcsr", none, 1, &q);
  return p;
}

static void restore_denormals(cg_ctx *c, cg_val saved) {
  cg_call(c, "llvm.x86.sse.ldmxcsr", LLVMVoidTypeInContext(c->llvm), 1, &saved);
}

static void past_caches_done(cg_ctx *c) { cg_call(c, "llvm.x86.sse.sfence", LLVMVoidTypeInContext(c->llvm), 0, NULL); }

static bool has_all(const char *features, const char *const *names) {
  for (; *names; names++)
    if (!cg_has_feature(features, *names)) return false;
  return true;
}

static bool fill(cg_target *t) {
  static const char *const v3[] = {"avx2", "fma", "bmi2", NULL};
  static const char *const v4[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl", NULL};
  static const char *const amx[] = {"amx-tile", "amx-int8", NULL};
  if (!has_all(t->features, v3)) return false;
  bool wide = has_all(t->features, v4), wide_vnni = wide && cg_has_feature(t->features, "avx512vnni");
  t->vector_bytes = wide ? 64 : 32;
  t->vector_regs = wide ? 32 : 16;
  t->dot = wide_vnni ? CG_DOT_VNNI512 : wide ? CG_DOT_MADD512 : CG_DOT_MADD256;
  if (!wide && cg_has_feature(t->features, "avxvnni")) t->dot = CG_DOT_VNNI256;
  bool madd = t->dot == CG_DOT_MADD512 || t->dot == CG_DOT_MADD256;
  t->dot_u8s8 = madd ? dot_madd : dot_vnni;
  if (madd) t->dot_narrow = madd_narrow, t->dot_widen = madd_widen;
  t->mx_rows = 6, t->mx_vectors = 2;
  if (wide)
    t->scale_by_power = scalef, t->pick = pick, t->permute = permute, t->logic = logic, t->fma_toward_zero = fma_toward_zero;
  if (t->dot == CG_DOT_VNNI512 && has_all(t->features, amx)) t->tiles = &cg_tiles_amx;
  t->f32_tiles = t->tiles && cg_has_feature(t->features, "amx-bf16");
  t->past_caches_done = past_caches_done;
  t->denormals_keep = keep_denormals;
  t->denormals_restore = restore_denormals;
  t->lookup = lookup;
  t->lookup_or_zero = lookup_or_zero;
  t->l1_bytes = 32 << 10;
  t->l2_bytes = 1 << 20;
  return true;
}

static const char *refused(void) {
  return cg_tiles_permitted() ? "" : "-amx-tile,-amx-int8,-amx-bf16,-amx-fp16,-amx-complex";
}

static void init(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
}

#define V3 "+sse4.2,+popcnt,+cx16,+sahf,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+xsave"
#define V4 V3 ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,+avx512vnni"
static const cg_level levels[] = {{"v3", "x86-64-v3", V3, "x86-64-v3: AVX2 and FMA, dot products by vpmaddubsw"},
                                  {"v4", "x86-64-v4", V4, "x86-64-v4 with VNNI: AVX-512, dot products by vpdpbusd"},
                                  {0}};

static const char *const known[] = {
#define TRT_X86_FEATURE(name, leaf, subleaf, word, bit, state) name,
#define TRT_AARCH64_FEATURE(name, caps, caps2)
#include "runtime/include/trt_features.def"
#undef TRT_X86_FEATURE
#undef TRT_AARCH64_FEATURE
    NULL};

const cg_family cg_family_x86 = {.arch = "x86_64",
                                 .triple = "x86_64-pc-linux-gnu",
                                 .gcc = "x86_64-linux-gnu",
                                 .needs = "AVX2, FMA and BMI2 (x86-64-v3)",
                                 .levels = levels,
                                 .unasked = "-amx-bf16",
                                 .fill = fill,
                                 .init = init,
                                 .refused = refused,
                                 .known = known,
#if defined(__x86_64__)
                                 .host = true
#endif
};
