/* See rows.h. */
#include "compiler/codegen/rows.h"

cg_val cg_load_f32(cg_ctx *c, cg_val p, cg_val i) { return cg_load(c, c->f32, cg_gep(c, c->f32, p, i), 4); }
void cg_store_f32(cg_ctx *c, cg_val v, cg_val p, cg_val i) { cg_store(c, v, cg_gep(c, c->f32, p, i), 4); }
cg_val cg_row(cg_ctx *c, cg_val p, cg_val r, int64_t D) { return cg_gep(c, c->f32, p, cg_mul(c, r, cg_i64(c, D))); }
cg_val cg_cols(cg_ctx *c, cg_val row, cg_val i, cg_val n) {
  return cg_load_n(c, cg_gep(c, c->f32, row, i), n, cg_vf(c, 0));
}

void cg_emit_rows(cg_node *x, int64_t rows, int64_t D, int64_t cost, cg_row_fn *row, void *u) {
  int64_t grain = cg_grain(rows, D * cost, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_range r = cg_task_range(k, rows, grain);
    cg_loop l;
    cg_loop_begin(k->c, &l, r.begin, r.end, 1, 0, NULL);
    row(k, u, l.i);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (rows + grain - 1) / grain);
}
