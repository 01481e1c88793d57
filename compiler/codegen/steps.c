/* What an entry does, as a table: launches of kernels and moves of bytes, in order, with the places of their operands; and the
 * function that walks it. A model's entries are thousands of launches, which as straight-line code would be more than all of
 * its kernels together.
 *
 *   steps:  { kernel (null: a move), tasks (or bytes), number of places, imms }
 *   places: of one step after the other, each (offset / TRT_ALIGN) * 4 + which base, in 32 bits where the largest fits */
#include <string.h>
#include "compiler/codegen/gemm.h"
#include "compiler/codegen/state.h"

enum { KERNEL, COUNT, PLACES, IMMS, FIELDS };
enum { BASE_BITS = 2 };
_Static_assert(CG_BASES <= 1 << BASE_BITS, "a base is so many bits of a place");

void cg_add_place(cg_ctx *c, cg_place p) {
  TT_ASSERT(p.offset % TRT_ALIGN == 0);
  tt_vec_push(&c->state->places, p);
}

void cg_add_step(cg_ctx *c, cg_val kernel, int64_t count, const int64_t *imms) {
  struct cg_state *s = c->state;
  cg_step step = {.kernel = kernel, .count = count, .n_places = s->places.count - s->stepped};
  if (imms) memcpy(step.imms, imms, sizeof step.imms);
  s->stepped = s->places.count;
  tt_vec_push(&s->steps, step);
}

void cg_add_move(cg_ctx *c, cg_place to, cg_place from, uint64_t bytes) {
  cg_add_place(c, to);
  cg_add_place(c, from);
  cg_add_step(c, NULL, (int64_t)bytes, NULL);
}

static uint64_t place_word(const cg_place *p) { return p->offset / TRT_ALIGN << BASE_BITS | p->base; }

static cg_val constant(cg_ctx *c, cg_type elem, cg_val *items, size_t n, const char *name) {
  cg_val init = LLVMConstArray2(elem, items, n), global = LLVMAddGlobal(c->module, LLVMTypeOf(init), name);
  LLVMSetInitializer(global, init);
  LLVMSetLinkage(global, LLVMInternalLinkage);
  LLVMSetGlobalConstant(global, true);
  return global;
}

static cg_val places_table(cg_ctx *c, cg_type *word) {
  struct cg_state *s = c->state;
  cg_val *items = TT_NEW_N(c->arena, cg_val, s->places.count);
  uint64_t most = 0;
  for (size_t i = 0; i < s->places.count; i++) most |= place_word(&s->places.data[i]);
  *word = most <= UINT32_MAX ? c->i32 : c->i64;
  for (size_t i = 0; i < s->places.count; i++) items[i] = LLVMConstInt(*word, place_word(&s->places.data[i]), false);
  return constant(c, *word, items, s->places.count, "places");
}

static cg_type step_type(cg_ctx *c) {
  cg_type fields[FIELDS] = {c->ptr, c->i64, c->i64, LLVMArrayType2(c->i64, (uint64_t)cg_imm_count())};
  return LLVMStructTypeInContext(c->llvm, fields, FIELDS, false);
}

static cg_val steps_table(cg_ctx *c) {
  struct cg_state *s = c->state;
  cg_val *items = TT_NEW_N(c->arena, cg_val, s->steps.count), imms[CG_MOST_IMMS];
  for (size_t i = 0; i < s->steps.count; i++) {
    const cg_step *step = &s->steps.data[i];
    for (int k = 0; k < cg_imm_count(); k++) imms[k] = cg_i64(c, step->imms[k]);
    cg_val fields[FIELDS] = {step->kernel ? step->kernel : LLVMConstNull(c->ptr), cg_i64(c, step->count),
                             cg_i64(c, (int64_t)step->n_places), LLVMConstArray2(c->i64, imms, (uint64_t)cg_imm_count())};
    items[i] = LLVMConstStructInContext(c->llvm, fields, FIELDS, false);
  }
  return constant(c, step_type(c), items, s->steps.count, "steps");
}

static cg_val consts_table(cg_ctx *c) {
  struct cg_state *s = c->state;
  if (!s->const_bytes.count) return LLVMConstNull(c->ptr);
  cg_val init = LLVMConstStringInContext2(c->llvm, (const char *)s->const_bytes.data, s->const_bytes.count, true);
  cg_val global = LLVMAddGlobal(c->module, LLVMTypeOf(init), "consts");
  LLVMSetInitializer(global, init);
  LLVMSetLinkage(global, LLVMInternalLinkage);
  LLVMSetGlobalConstant(global, true);
  LLVMSetAlignment(global, TRT_ALIGN);
  return global;
}

typedef struct walk {
  cg_ctx *c;
  cg_type word;
  cg_val bases, bufs, kargs;   /* on the stack */
  cg_val steps, places, place; /* tables, and the number of the step's first place */
} walk;

static cg_val step_field(const walk *w, cg_val step, unsigned field) {
  return LLVMBuildStructGEP2(w->c->b, step_type(w->c), step, field, "");
}

/* bufs[i] = the address of the step's i-th place. */
static void fill_bufs(const walk *w, cg_val n) {
  cg_ctx *c = w->c;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), n, 1, 0, NULL);
  cg_val word = cg_load(c, w->word, cg_gep(c, w->word, w->places, cg_add(c, w->place, l.i)), 4);
  word = LLVMBuildZExt(c->b, word, c->i64, "");
  cg_val base = cg_load(c, c->ptr, cg_gep(c, c->ptr, w->bases, cg_and(c, word, cg_i64(c, (1 << BASE_BITS) - 1))), 8);
  cg_val offset = cg_mul(c, cg_shr(c, word, cg_i64(c, BASE_BITS)), cg_i64(c, TRT_ALIGN));
  cg_store(c, cg_gep_bytes(c, base, offset), cg_gep(c, c->ptr, w->bufs, l.i), 8);
  cg_loop_end(&l, NULL);
}

static void run_step(const walk *w, cg_val step) {
  cg_ctx *c = w->c;
  cg_val kernel = cg_load(c, c->ptr, step_field(w, step, KERNEL), 8);
  cg_val count = cg_load(c, c->i64, step_field(w, step, COUNT), 8);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntEQ, kernel, LLVMConstNull(c->ptr)));
  cg_val to = cg_load(c, c->ptr, w->bufs, 8), from = cg_load(c, c->ptr, cg_addr(c, c->ptr, w->bufs, 1), 8);
  LLVMBuildMemMove(c->b, to, TRT_ALIGN, from, TRT_ALIGN, count);
  cg_if_else(&f);
  cg_store(c, step_field(w, step, IMMS), LLVMBuildStructGEP2(c->b, c->state->kargs_type, w->kargs, 1, ""), 8);
  cg_val args[3] = {w->kargs, kernel, count};
  LLVMBuildCall2(c->b, c->state->parallel_type, c->state->parallel, args, 3, "");
  cg_if_end(&f);
}

static cg_val stack(cg_ctx *c, cg_type type, size_t n) { return LLVMBuildAlloca(c->b, LLVMArrayType2(type, n), ""); }

/* The arrays that trt_kargs points to: operands are one block on the stack, refilled for each step, and imms the step's own. */
static void open_walk(walk *w, cg_val run) {
  cg_ctx *c = w->c;
  struct cg_state *s = c->state;
  size_t most = 0;
  for (size_t i = 0; i < s->steps.count; i++)
    if (s->steps.data[i].n_places > most) most = s->steps.data[i].n_places;
  w->bases = stack(c, c->ptr, CG_BASES);
  w->bufs = stack(c, c->ptr, most + 1);
  w->kargs = LLVMBuildAlloca(c->b, s->kargs_type, "");
  cg_store(c, w->bufs, w->kargs, 8);
  cg_store(c, cg_load(c, c->ptr, run, 8), w->bases, 8); /* trt_step is two pointers: vars, arena */
  cg_store(c, cg_load(c, c->ptr, cg_addr(c, c->ptr, run, 1), 8), cg_addr(c, c->ptr, w->bases, CG_ARENA), 8);
  cg_store(c, consts_table(c), cg_addr(c, c->ptr, w->bases, CG_CONSTS), 8);
  w->places = places_table(c, &w->word);
  w->steps = steps_table(c);
}

void cg_emit_steps(cg_ctx *c, cg_val fn) {
  walk w = {.c = c};
  LLVMPositionBuilderAtEnd(c->b, LLVMAppendBasicBlockInContext(c->llvm, fn, "entry"));
  open_walk(&w, LLVMGetParam(fn, 0));
  cg_loop l;
  cg_val zero = cg_i64(c, 0);
  cg_loop_begin(c, &l, zero, cg_i64(c, (int64_t)c->state->steps.count), 1, 1, &zero);
  cg_val step = cg_gep(c, step_type(c), w.steps, l.i), n = cg_load(c, c->i64, step_field(&w, step, PLACES), 8);
  w.place = l.carry[0];
  fill_bufs(&w, n);
  run_step(&w, step);
  cg_val next = cg_add(c, w.place, n);
  cg_loop_end(&l, &next);
  LLVMBuildRetVoid(c->b);
}
