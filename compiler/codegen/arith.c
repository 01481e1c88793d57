/* Constants and arithmetic that reads the same for scalars and vectors, integers and floats. Nothing here carries fast-math
 * flags: results must not depend on what the optimiser thinks of them, so a fused multiply-add is written as one. */
#include <string.h>
#include "compiler/codegen/cg.h"

cg_val cg_i64(cg_ctx *c, int64_t x) { return LLVMConstInt(c->i64, (unsigned long long)x, true); }
cg_val cg_i32(cg_ctx *c, int64_t x) { return LLVMConstInt(c->i32, (unsigned long long)x, true); }
cg_val cg_f32(cg_ctx *c, double x) { return LLVMConstReal(c->f32, (double)(float)x); }
cg_type cg_vec(cg_ctx *c, cg_type elem, int n) {
  (void)c;
  return LLVMVectorType(elem, (unsigned)n);
}

static cg_val const_splat(cg_val x, int n) {
  cg_val lane[64];
  TT_ASSERT(n <= 64);
  for (int i = 0; i < n; i++) lane[i] = x;
  return LLVMConstVector(lane, (unsigned)n);
}

cg_val cg_splat(cg_ctx *c, cg_val x, int n) {
  if (LLVMIsConstant(x) && n <= 64) return const_splat(x, n);
  cg_type v = cg_vec(c, LLVMTypeOf(x), n);
  cg_val one = LLVMBuildInsertElement(c->b, LLVMGetPoison(v), x, cg_i64(c, 0), "");
  return LLVMBuildShuffleVector(c->b, one, LLVMGetPoison(v), LLVMConstNull(cg_vec(c, c->i32, n)), "");
}

cg_val cg_vf(cg_ctx *c, double x) { return const_splat(cg_f32(c, x), c->W); }
cg_val cg_vi(cg_ctx *c, int64_t x) { return const_splat(cg_i32(c, x), c->W); }

cg_val cg_iota(cg_ctx *c, cg_type elem, int n) {
  cg_val lane[64];
  TT_ASSERT(n <= 64);
  (void)c;
  for (int i = 0; i < n; i++) lane[i] = LLVMConstInt(elem, (unsigned long long)i, false);
  return LLVMConstVector(lane, (unsigned)n);
}

static cg_type element(cg_val x) {
  cg_type t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetElementType(t) : t;
}

static bool is_float(cg_val x) {
  LLVMTypeKind k = LLVMGetTypeKind(element(x));
  return k == LLVMFloatTypeKind || k == LLVMDoubleTypeKind;
}

cg_val cg_like(cg_ctx *c, cg_val x, double v) {
  cg_type t = LLVMTypeOf(x);
  bool vector = LLVMGetTypeKind(t) == LLVMVectorTypeKind;
  cg_type e = element(x);
  cg_val s = e == c->f32 ? cg_f32(c, v) : LLVMConstReal(e, v);
  return vector ? const_splat(s, (int)LLVMGetVectorSize(t)) : s;
}

bool cg_const_int(cg_val v, int64_t *out) {
  if (!LLVMIsAConstantInt(v)) return false;
  *out = LLVMConstIntGetSExtValue(v);
  return true;
}

cg_val cg_add(cg_ctx *c, cg_val a, cg_val b) {
  return is_float(a) ? LLVMBuildFAdd(c->b, a, b, "") : LLVMBuildAdd(c->b, a, b, "");
}
cg_val cg_sub(cg_ctx *c, cg_val a, cg_val b) {
  return is_float(a) ? LLVMBuildFSub(c->b, a, b, "") : LLVMBuildSub(c->b, a, b, "");
}
cg_val cg_mul(cg_ctx *c, cg_val a, cg_val b) {
  return is_float(a) ? LLVMBuildFMul(c->b, a, b, "") : LLVMBuildMul(c->b, a, b, "");
}
cg_val cg_div(cg_ctx *c, cg_val a, cg_val b) {
  return is_float(a) ? LLVMBuildFDiv(c->b, a, b, "") : LLVMBuildUDiv(c->b, a, b, "");
}
cg_val cg_rem(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildURem(c->b, a, b, ""); }

cg_val cg_min(cg_ctx *c, cg_val a, cg_val b) {
  cg_val less = is_float(a) ? LLVMBuildFCmp(c->b, LLVMRealOLT, a, b, "") : LLVMBuildICmp(c->b, LLVMIntSLT, a, b, "");
  return LLVMBuildSelect(c->b, less, a, b, "");
}
cg_val cg_max(cg_ctx *c, cg_val a, cg_val b) {
  cg_val more = is_float(a) ? LLVMBuildFCmp(c->b, LLVMRealOGT, a, b, "") : LLVMBuildICmp(c->b, LLVMIntSGT, a, b, "");
  return LLVMBuildSelect(c->b, more, a, b, "");
}

cg_val cg_neg(cg_ctx *c, cg_val a) { return is_float(a) ? LLVMBuildFNeg(c->b, a, "") : LLVMBuildNeg(c->b, a, ""); }
cg_val cg_and(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildAnd(c->b, a, b, ""); }
cg_val cg_or(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildOr(c->b, a, b, ""); }
cg_val cg_xor(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildXor(c->b, a, b, ""); }
/* In one instruction where there is one: LLVM would see two masks, and two operations. */
cg_val cg_choose_bits(cg_ctx *c, int64_t mask, cg_val a, cg_val b) {
  if (c->target->logic) return c->target->logic(c, 0xca, (cg_val[]){cg_vi(c, mask), a, b});
  return cg_or(c, cg_and(c, a, cg_vi(c, mask)), cg_and(c, b, cg_vi(c, ~mask)));
}
cg_val cg_masked_xor(cg_ctx *c, int64_t mask, cg_val a, cg_val b) {
  if (c->target->logic) return c->target->logic(c, 0x60, (cg_val[]){cg_vi(c, mask), a, b});
  return cg_and(c, cg_xor(c, a, b), cg_vi(c, mask));
}
cg_val cg_shl(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildShl(c->b, a, b, ""); }
cg_val cg_shr(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildLShr(c->b, a, b, ""); }
cg_val cg_sra(cg_ctx *c, cg_val a, cg_val b) { return LLVMBuildAShr(c->b, a, b, ""); }
cg_val cg_icmp(cg_ctx *c, LLVMIntPredicate p, cg_val a, cg_val b) { return LLVMBuildICmp(c->b, p, a, b, ""); }
cg_val cg_fcmp(cg_ctx *c, LLVMRealPredicate p, cg_val a, cg_val b) { return LLVMBuildFCmp(c->b, p, a, b, ""); }
cg_val cg_select(cg_ctx *c, cg_val cond, cg_val a, cg_val b) { return LLVMBuildSelect(c->b, cond, a, b, ""); }
cg_val cg_bits(cg_ctx *c, cg_val x, cg_type to) { return LLVMBuildBitCast(c->b, x, to, ""); }

cg_val cg_call(cg_ctx *c, const char *intrinsic, cg_type ret, int n, cg_val *args) {
  cg_type types[8];
  TT_ASSERT(n <= 8);
  for (int i = 0; i < n; i++) types[i] = LLVMTypeOf(args[i]);
  cg_type fn_type = LLVMFunctionType(ret, types, (unsigned)n, false);
  cg_val fn = LLVMGetNamedFunction(c->module, intrinsic);
  if (!fn) fn = LLVMAddFunction(c->module, intrinsic, fn_type);
  return LLVMBuildCall2(c->b, fn_type, fn, args, (unsigned)n, "");
}

/* Calls llvm.<name>.<suffix of x's type> on n operands of x's type. */
static cg_val typed_call(cg_ctx *c, const char *name, int n, cg_val *args) {
  char full[64];
  cg_type t = LLVMTypeOf(args[0]);
  const char *e = element(args[0]) == c->f64 ? "f64" : "f32";
  if (LLVMGetTypeKind(t) == LLVMVectorTypeKind)
    snprintf(full, sizeof full, "llvm.%s.v%u%s", name, LLVMGetVectorSize(t), e);
  else
    snprintf(full, sizeof full, "llvm.%s.%s", name, e);
  return cg_call(c, full, t, n, args);
}

cg_val cg_fma(cg_ctx *c, cg_val a, cg_val b, cg_val d) {
  cg_val args[3] = {a, b, d};
  return typed_call(c, "fma", 3, args);
}
cg_val cg_abs(cg_ctx *c, cg_val a) { return typed_call(c, "fabs", 1, &a); }
cg_val cg_sqrt(cg_ctx *c, cg_val x) { return typed_call(c, "sqrt", 1, &x); }
cg_val cg_rsqrt(cg_ctx *c, cg_val x) { return cg_div(c, cg_like(c, x, 1), cg_sqrt(c, x)); }
cg_val cg_floor(cg_ctx *c, cg_val x) { return typed_call(c, "floor", 1, &x); }

/* Tree order: halves are combined lane by lane until one lane is left; part of what a kernel computes, so fixed here. */
static cg_val horizontal(cg_ctx *c, cg_val v, cg_val (*op)(cg_ctx *, cg_val, cg_val)) {
  cg_val lane[64];
  for (int n = (int)LLVMGetVectorSize(LLVMTypeOf(v)); n > 1; n /= 2) {
    cg_val poison = LLVMGetPoison(LLVMTypeOf(v));
    for (int i = 0; i < n / 2; i++) lane[i] = cg_i32(c, i);
    cg_val lo = LLVMBuildShuffleVector(c->b, v, poison, LLVMConstVector(lane, (unsigned)(n / 2)), "");
    for (int i = 0; i < n / 2; i++) lane[i] = cg_i32(c, n / 2 + i);
    cg_val hi = LLVMBuildShuffleVector(c->b, v, poison, LLVMConstVector(lane, (unsigned)(n / 2)), "");
    v = op(c, lo, hi);
  }
  return LLVMBuildExtractElement(c->b, v, cg_i64(c, 0), "");
}
cg_val cg_hsum(cg_ctx *c, cg_val v) { return horizontal(c, v, cg_add); }
cg_val cg_hmax(cg_ctx *c, cg_val v) { return horizontal(c, v, cg_max); }
