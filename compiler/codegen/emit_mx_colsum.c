/* mx.colsum: column sums of a packed matrix, mx[R,K] -> f32[K]. Runs of CG_RUN rows are summed by themselves into the
 * workspace, then the runs in ascending order: an order fixed by the shape. */
#include "compiler/codegen/int4.h"
#include "compiler/codegen/mx_lanes.h"
#include "compiler/codegen/rows.h"

/* Sums of rows [r.begin, r.end) of block `b` into sums[32]. */
static void sum_block(cg_kernel *k, const tt_type *type, cg_range r, cg_val b, cg_val sums) {
  cg_ctx *c = k->c;
  int count = TT_MX_BLOCK / c->W;
  cg_val acc[16], nb = cg_i64(c, tt_mx_blocks(type->dim[1])), a = cg_in(k, 0);
  for (int v = 0; v < count; v++) acc[v] = cg_vf(c, 0);
  cg_loop row;
  cg_loop_begin(c, &row, r.begin, r.end, 1, count, acc);
  cg_val block = cg_add(c, cg_mul(c, row.i, nb), b);
  cg_val scale = cg_load(c, c->i8, cg_gep_bytes(c, cg_addr(c, c->i8, a, (int64_t)tt_mx_scale_offset(type)), block), 1);
  cg_val factor = cg_splat(c, cg_mx_factor(c, (tt_format)type->format, LLVMBuildZExt(c->b, scale, c->i32, "")), c->W);
  cg_val packed = cg_load(c, cg_vec(c, c->i8, 16), cg_gep_bytes(c, a, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))), 1);
  for (int v = 0; v < count; v++) {
    cg_val value = cg_mx_values(c, (tt_format)type->format, cg_mx_unpack(c, packed, v * c->W), factor);
    acc[v] = cg_add(c, row.carry[v], value);
  }
  cg_loop_end(&row, acc);
  for (int v = 0; v < count; v++) cg_store(c, row.carry[v], cg_addr(c, c->f32, sums, v * c->W), 4);
}

/* Partial sums are [runs][nb * 32] in the workspace. */
static void sum_runs(cg_kernel *k, const tt_type *type) {
  cg_ctx *c = k->c;
  int64_t nb = tt_mx_blocks(type->dim[1]);
  cg_val saved = c->target->denormals_keep(c);
  cg_val work = cg_work(k, 0, cg_run_bytes(type->dim[0], nb * TT_MX_BLOCK));
  cg_range r = cg_task_range(k, type->dim[0], CG_RUN);
  cg_loop b;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, nb), 1, 0, NULL);
  cg_val at = cg_add(c, cg_mul(c, k->task, cg_i64(c, nb)), b.i);
  sum_block(k, type, r, b.i, cg_gep(c, c->f32, work, cg_mul(c, at, cg_i64(c, TT_MX_BLOCK))));
  cg_loop_end(&b, NULL);
  c->target->denormals_restore(c, saved);
}

bool cg_emit_mx_colsum(cg_node *x) {
  const tt_type *type = cg_in_type(x, 0);
  if (type->format == TT_INT4) return cg_int4_colsum(x);
  cg_kernel *k = cg_kernel_begin(x, "runs");
  if (k) {
    sum_runs(k, type);
    cg_kernel_end(k);
  }
  cg_launch(x, "runs", cg_run_count(type->dim[0]));
  k = cg_kernel_begin(x, "sum");
  if (k) {
    int64_t width = tt_mx_blocks(type->dim[1]) * TT_MX_BLOCK;
    cg_add_runs(k, type->dim[0], cg_work(k, 0, cg_run_bytes(type->dim[0], width)), width, cg_out(k, 0), type->dim[1]);
    cg_kernel_end(k);
  }
  cg_launch(x, "sum", 1);
  return true;
}
