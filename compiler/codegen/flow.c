/* Loops and branches, as phis and blocks. Loops are tested at the bottom (with one guard before) so that what does not
 * change in the body can be hoisted without further passes. */
#include "compiler/codegen/cg.h"

static LLVMBasicBlockRef block(cg_ctx *c, const char *name) {
  cg_val fn = LLVMGetBasicBlockParent(LLVMGetInsertBlock(c->b));
  return LLVMAppendBasicBlockInContext(c->llvm, fn, name);
}

static void incoming(cg_val phi, cg_val v, LLVMBasicBlockRef from) { LLVMAddIncoming(phi, &v, &from, 1); }

/*   before: br begin < end ? body : exit     body: i, carry = phi ... ; br i + step < end ? body : exit */
void cg_loop_begin(cg_ctx *c, cg_loop *l, cg_val begin, cg_val end, int64_t step, int n_carry, const cg_val *init) {
  TT_ASSERT(n_carry <= (int)(sizeof l->carry / sizeof l->carry[0]));
  l->c = c;
  l->n_carry = n_carry;
  l->step = cg_i64(c, step);
  l->head = LLVMGetInsertBlock(c->b);
  l->end = end;
  l->body = block(c, "loop");
  l->exit = block(c, "done");
  LLVMBuildCondBr(c->b, LLVMBuildICmp(c->b, LLVMIntSLT, begin, end, ""), l->body, l->exit);
  LLVMPositionBuilderAtEnd(c->b, l->body);
  l->i = LLVMBuildPhi(c->b, c->i64, "i");
  incoming(l->i, begin, l->head);
  for (int k = 0; k < n_carry; k++) {
    l->init[k] = init[k];
    l->carry[k] = l->phi[k] = LLVMBuildPhi(c->b, LLVMTypeOf(init[k]), "");
    incoming(l->phi[k], init[k], l->head);
  }
}

void cg_loop_end(cg_loop *l, const cg_val *next) {
  cg_ctx *c = l->c;
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(c->b);
  cg_val i = LLVMBuildNSWAdd(c->b, l->i, l->step, "");
  incoming(l->i, i, latch);
  for (int k = 0; k < l->n_carry; k++) incoming(l->phi[k], next[k], latch);
  LLVMBuildCondBr(c->b, LLVMBuildICmp(c->b, LLVMIntSLT, i, l->end, ""), l->body, l->exit);
  LLVMMoveBasicBlockAfter(l->exit, latch);
  LLVMPositionBuilderAtEnd(c->b, l->exit);
  for (int k = 0; k < l->n_carry; k++) {
    l->carry[k] = LLVMBuildPhi(c->b, LLVMTypeOf(l->init[k]), "");
    incoming(l->carry[k], l->init[k], l->head);
    incoming(l->carry[k], next[k], latch);
  }
}

void cg_if_begin(cg_ctx *c, cg_if *f, cg_val cond) {
  f->c = c;
  f->then_bb = block(c, "then");
  f->else_bb = NULL;
  f->join = block(c, "join");
  f->branch = LLVMBuildCondBr(c->b, cond, f->then_bb, f->join);
  LLVMPositionBuilderAtEnd(c->b, f->then_bb);
}

void cg_if_else(cg_if *f) {
  LLVMBuildBr(f->c->b, f->join);
  f->else_bb = block(f->c, "else");
  LLVMSetSuccessor(f->branch, 1, f->else_bb);
  LLVMPositionBuilderAtEnd(f->c->b, f->else_bb);
}

void cg_if_end(cg_if *f) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(f->c->b);
  LLVMBuildBr(f->c->b, f->join);
  LLVMMoveBasicBlockAfter(f->join, here);
  LLVMPositionBuilderAtEnd(f->c->b, f->join);
}

static void each_tail(cg_ctx *c, cg_val at, cg_val rest, cg_body_fn *body, void *u) {
  int64_t n;
  if (cg_const_int(rest, &n)) {
    if (n > 0) body(u, at, rest);
    return;
  }
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGT, rest, cg_i64(c, 0)));
  body(u, at, rest);
  cg_if_end(&f);
}

void cg_each(cg_ctx *c, cg_val begin, cg_val end, cg_body_fn *body, void *u) {
  int64_t n;
  cg_val count = cg_sub(c, end, begin);
  cg_val rest = cg_and(c, count, cg_i64(c, c->W - 1));
  cg_val full = cg_sub(c, end, rest);
  if (!cg_const_int(count, &n) || n >= c->W) {
    cg_loop l;
    cg_loop_begin(c, &l, begin, full, c->W, 0, NULL);
    body(u, l.i, NULL);
    cg_loop_end(&l, NULL);
  }
  each_tail(c, full, rest, body, u);
}
