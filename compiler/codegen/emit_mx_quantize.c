/* mx.quantize and mx.requantize: float32 or packed codes in, packed codes and scales out.
 *
 * Blocks along rows are contiguous: 32 elements are read, their largest magnitude found across lanes, their codes made and
 * packed. Blocks along columns (transpose, and every requantization) lie 32 rows deep: a tile of 32 rows x W columns is
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
  cg_ctx *c = k->c;
  cg_quantizer z = open_quantizer(k, q);
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
  cg_val buffer = cg_alloca(c, c->vi, 5, 64);
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
  cg_quantize_tile(&z, &t, buffer);
  cg_loop_end(&col, NULL);
  cg_loop_end(&b, NULL);
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

/* Block `b` of row `row` of packed a [.., K] as 32 floats at `to`. */
static void expand_block(cg_ctx *c, const tt_type *type, cg_val a, cg_val row, cg_val b, cg_val to) {
  cg_val block = cg_add(c, cg_mul(c, row, cg_i64(c, tt_mx_blocks(type->dim[1]))), b);
  cg_val scale = cg_load(c, c->i8, cg_gep_bytes(c, cg_addr(c, c->i8, a, (int64_t)tt_mx_scale_offset(type)), block), 1);
  cg_val factor = cg_splat(c, cg_mx_factor(c, (tt_format)type->format, LLVMBuildZExt(c->b, scale, c->i32, "")), c->W);
  cg_val packed = cg_load(c, cg_vec(c, c->i8, 16), cg_gep_bytes(c, a, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))), 1);
  for (int i = 0; i < TT_MX_BLOCK; i += c->W)
    cg_store(c, cg_mx_values(c, (tt_format)type->format, cg_mx_unpack(c, packed, i), factor), cg_addr(c, c->f32, to, i), 4);
}

/* mx [R,K] -> mx [K,R], a 32 x 32 tile at a time through scratch. */
static void requantize(cg_kernel *k, const tt_type *from, int64_t grain) {
  cg_ctx *c = k->c;
  int64_t R = from->dim[0], K = from->dim[1];
  cg_quantizer z = open_quantizer(k, tt_node_qspec(k->x->g, k->x->n, TT_A_Q));
  cg_val buffer = cg_alloca(c, c->vi, 5, 64), values = cg_scratch(k, 0, sizeof(float[TT_MX_BLOCK][TT_MX_BLOCK]));
  cg_range r = cg_task_range(k, z.nb, grain);
  cg_loop b, kb, i;
  cg_loop_begin(c, &b, r.begin, r.end, 1, 0, NULL);
  cg_val row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  cg_val rows = cg_min(c, cg_sub(c, cg_i64(c, R), row), cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &kb, cg_i64(c, 0), cg_i64(c, tt_mx_blocks(K)), 1, 0, NULL);
  cg_loop_begin(c, &i, cg_i64(c, 0), rows, 1, 0, NULL);
  expand_block(c, from, z.x, cg_add(c, row, i.i), kb.i, cg_gep(c, c->f32, values, cg_mul(c, i.i, cg_i64(c, TT_MX_BLOCK))));
  cg_loop_end(&i, NULL);
  cg_val col = cg_mul(c, kb.i, cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &i, cg_i64(c, 0), cg_min(c, cg_i64(c, TT_MX_BLOCK), cg_sub(c, cg_i64(c, K), col)), c->W, 0, NULL);
  cg_val first = cg_add(c, col, i.i);
  cg_tile t = {.x = cg_gep(c, c->f32, values, i.i),
               .stride = TT_MX_BLOCK,
               .rows = R % TT_MX_BLOCK ? rows : NULL,
               .cols = K % c->W ? cg_sub(c, cg_i64(c, K), first) : NULL,
               .col = first,
               .block = b.i};
  cg_quantize_tile(&z, &t, buffer);
  cg_loop_end(&i, NULL);
  cg_loop_end(&kb, NULL);
  cg_loop_end(&b, NULL);
}

bool cg_emit_mx_requantize(cg_node *x) {
  if (cg_out_type(x, 0)->format == TT_INT4) return cg_int4_requantize(x);
  const tt_type *from = cg_in_type(x, 0);
  int64_t nb = tt_mx_blocks(from->dim[0]), grain = block_grain(nb, from->dim[1]);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    requantize(k, from, grain);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (nb + grain - 1) / grain);
  return true;
}

bool cg_emit_mx_dequantize(cg_node *x) {
  const tt_type *from = cg_in_type(x, 0);
  if (from->format == TT_INT4) return cg_int4_dequantize(x);
  int64_t R = from->dim[0], K = from->dim[1], grain = cg_grain(R, K / 3 + 1, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val saved = c->target->denormals_keep(c), out = cg_out(k, 0);
    cg_range r = cg_task_range(k, R, grain);
    cg_loop row, b;
    cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
    cg_val to = cg_gep(c, c->f32, out, cg_mul(c, row.i, cg_i64(c, K)));
    cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, K / TT_MX_BLOCK), 1, 0, NULL);
    expand_block(c, from, cg_in(k, 0), row.i, b.i, cg_gep(c, c->f32, to, cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK))));
    cg_loop_end(&b, NULL);
    if (K % TT_MX_BLOCK) {
      cg_val values = cg_alloca(c, c->f32, TT_MX_BLOCK, 64);
      expand_block(c, from, cg_in(k, 0), row.i, cg_i64(c, K / TT_MX_BLOCK), values);
      for (int i = 0; i < K % TT_MX_BLOCK; i += c->W)
        cg_store_n(c, cg_load(c, c->vf, cg_addr(c, c->f32, values, i), 4),
                   cg_addr(c, c->f32, to, K / TT_MX_BLOCK * TT_MX_BLOCK + i), cg_i64(c, K % TT_MX_BLOCK - i));
    }
    cg_loop_end(&row, NULL);
    c->target->denormals_restore(c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (R + grain - 1) / grain);
  return true;
}
