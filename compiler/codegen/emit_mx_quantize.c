/* mx.quantize: float32 in, packed codes and scales out.
 *
 * Blocks along rows are contiguous: 32 elements are read, their largest magnitude found across lanes, their codes made and
 * packed. Blocks along columns (transpose) lie 32 rows deep: a tile of 32 rows x W columns is
 * read twice from L1, with one lane a column, so that maxima and scales need no lane exchange; only the finished codes, 4
 * dwords a column, go through a small buffer to the transposed output. Tasks take rows, which share no output byte. What a
 * block becomes depends on its place and its values alone. */
#include "compiler/codegen/int4.h"
#include "compiler/codegen/mx_quantizer.h"

static cg_quantizer open_quantizer(cg_kernel *k, tt_qspec q) {
  cg_quantizer z = cg_quantizer_open(k, q, 0, 1, TT_A_TENSOR);
  z.x = cg_in(k, 0);
  if (q.rounding == TT_EMA) z.ema = cg_in(k, 1);
  return z;
}

static void quantize_rows(cg_kernel *k, int64_t rows, int64_t K, int64_t grain, tt_qspec q) {
  enum { AHEAD = 1024 }; /* floats: maxima of a row are all taken before its codes, so that reading comes in bursts */
  cg_ctx *c = k->c;
  cg_quantizer z = open_quantizer(k, q);
  z.next[z.n_next++] = cg_addr(c, c->f32, z.x, AHEAD);
  cg_range r = cg_task_range(k, rows, grain);
  cg_loop row;
  cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
  cg_quantize_row(&z, cg_mul(c, row.i, cg_i64(c, K)), cg_mul(c, row.i, cg_i64(c, z.nb)), K);
  cg_loop_end(&row, NULL);
}

/* Runs of 4 blocks of rows make 64 bytes of an output row, so that tasks do not share cache lines. */
static int64_t block_grain(int64_t nb, int64_t cols) { return cg_grain(nb, cols * TT_MX_BLOCK / 2, 4); }

/* x [rows, cols] -> mx [cols, rows] */
static void quantize_columns(cg_kernel *k, int64_t rows, int64_t cols, int64_t grain, tt_qspec q) {
  cg_ctx *c = k->c;
  cg_quantizer z = open_quantizer(k, q);
  cg_val slots = cg_scratch(k, 0, cg_slots_bytes(c, cols));
  cg_range r = cg_task_range(k, z.nb, grain);
  cg_loop b, col;
  cg_loop_begin(c, &b, r.begin, r.end, 1, 0, NULL);
  cg_val row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, cols), c->W, 0, NULL);
  cg_val at = cg_add(c, cg_mul(c, row, cg_i64(c, cols)), col.i);
  cg_tile t = {.x = cg_gep(c, c->f32, z.x, at),
               .ema = z.ema ? cg_gep(c, c->f32, z.ema, at) : NULL,
               .stride = cols,
               .prefetch = cols > 64,
               .rows = rows % TT_MX_BLOCK ? cg_sub(c, cg_i64(c, rows), row) : NULL,
               .cols = cols % c->W ? cg_sub(c, cg_i64(c, cols), col.i) : NULL,
               .col = col.i,
               .block = b.i};
  cg_prefetch_columns(&z, &t);
  cg_tile_codes(&z, &t, cg_slot(&z, slots, cols, b.i, col.i));
  cg_loop_end(&col, NULL);
  cg_store_run(&z, slots, cols, b.i, r.end);
  cg_loop_end(&b, NULL);
  cg_stored_tiles(&z);
}

static void quantize_by(cg_kernel *k, bool across, int64_t grain, tt_qspec q) {
  const tt_type *t = cg_in_type(k->x, 0);
  int64_t rows = tt_type_rows(t), cols = tt_type_last(t);
  if (across)
    quantize_columns(k, rows, cols, grain, q);
  else
    quantize_rows(k, rows, cols, grain, q);
}

/* Ema rounding that begins at a step: both ways of rounding are there, the step in rng picks one. */
static void quantize_from(cg_kernel *k, bool across, int64_t grain, tt_qspec q, int64_t from) {
  cg_ctx *c = k->c;
  cg_val step = cg_load(c, c->i64, cg_addr(c, c->i64, cg_in(k, 2), 1), 8);
  tt_qspec before = q;
  before.rounding = TT_NEAREST;
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGE, step, cg_i64(c, from)));
  quantize_by(k, across, grain, q);
  cg_if_else(&f);
  quantize_by(k, across, grain, before);
  cg_if_end(&f);
}

bool cg_emit_mx_quantize(cg_node *x) {
  if (cg_out_type(x, 0)->format == TT_INT4) return cg_int4_quantize(x);
  const tt_type *t = cg_in_type(x, 0);
  bool across = tt_node_int(x->g, x->n, TT_A_TRANSPOSED) != 0;
  int64_t rows = tt_type_rows(t), cols = tt_type_last(t), nb = tt_mx_blocks(rows);
  int64_t from = tt_node_int(x->g, x->n, TT_A_FROM);
  int64_t grain = across ? block_grain(nb, cols) : cg_grain(rows, cols / 3 + 1, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    tt_qspec q = tt_node_qspec(x->g, x->n, TT_A_Q);
    if (from > 0)
      quantize_from(k, across, grain, q, from);
    else
      quantize_by(k, across, grain, q);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  int64_t n = across ? nb : rows;
  cg_launch(x, "", (n + grain - 1) / grain);
  return true;
}
