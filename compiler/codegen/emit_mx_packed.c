/* mx.requantize and mx.dequantize: what reads packed matrices block by block.
 *
 * Requantizing goes 32 rows at a time, as many as make a block of the result. Where both formats are E2M1, codes and scales
 * are bytes from end to end (mx_requantizer.h); where a tile's scales do not allow it, and in other formats, its values
 * become floats in scratch and are quantized like any others. Either way a block depends on its place and its values alone,
 * and the bits are the same. */
#include "compiler/codegen/int4.h"
#include "compiler/codegen/mx_requantizer.h"

/* Block `b` of row `row` of packed a [.., K] as 32 floats at `to`. */
static void expand_block(cg_ctx *c, const tt_type *type, cg_val a, cg_val row, cg_val b, cg_val to) {
  cg_val block = cg_add(c, cg_mul(c, row, cg_i64(c, tt_mx_blocks(type->dim[1]))), b);
  cg_val scale = cg_load(c, c->i8, cg_gep_bytes(c, cg_addr(c, c->i8, a, (int64_t)tt_mx_scale_offset(type)), block), 1);
  cg_val factor = cg_splat(c, cg_mx_factor(c, (tt_format)type->format, LLVMBuildZExt(c->b, scale, c->i32, "")), c->W);
  cg_val packed = cg_load(c, cg_vec(c, c->i8, 16), cg_gep_bytes(c, a, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))), 1);
  for (int i = 0; i < TT_MX_BLOCK; i += c->W)
    cg_store(c, cg_mx_values(c, (tt_format)type->format, cg_mx_unpack(c, packed, i), factor), cg_addr(c, c->f32, to, i), 4);
}

/* mx [R,K] -> mx [K,R], rows [32 b, 32 b + 32) */
typedef struct turn {
  cg_quantizer z;
  const tt_type *from;
  cg_val buffer, values, bytes; /* the last two in scratch */
  cg_val b, row, rows;          /* result block, its first row, how many of 32 exist */
} turn;

/* Block kb of the rows, by way of floats. */
static void turn_block(const turn *t, cg_val kb) {
  cg_ctx *c = t->z.c;
  int64_t R = t->from->dim[0], K = t->from->dim[1];
  cg_loop i;
  cg_loop_begin(c, &i, cg_i64(c, 0), t->rows, 1, 0, NULL);
  cg_val to = cg_gep(c, c->f32, t->values, cg_mul(c, i.i, cg_i64(c, TT_MX_BLOCK)));
  expand_block(c, t->from, t->z.x, cg_add(c, t->row, i.i), kb, to);
  cg_loop_end(&i, NULL);
  cg_val col = cg_mul(c, kb, cg_i64(c, TT_MX_BLOCK));
  cg_loop_begin(c, &i, cg_i64(c, 0), cg_min(c, cg_i64(c, TT_MX_BLOCK), cg_sub(c, cg_i64(c, K), col)), c->W, 0, NULL);
  cg_val first = cg_add(c, col, i.i);
  cg_tile tile = {.x = cg_gep(c, c->f32, t->values, i.i),
                  .stride = TT_MX_BLOCK,
                  .rows = R % TT_MX_BLOCK ? t->rows : NULL,
                  .cols = K % c->W ? cg_sub(c, cg_i64(c, K), first) : NULL,
                  .col = first,
                  .block = t->b};
  cg_quantize_tile(&t->z, &tile, t->buffer);
  cg_loop_end(&i, NULL);
}

static void turn_floats(const turn *t, cg_val kb, int blocks) {
  cg_loop i;
  cg_loop_begin(t->z.c, &i, kb, cg_add(t->z.c, kb, cg_i64(t->z.c, blocks)), 1, 0, NULL);
  turn_block(t, i.i);
  cg_loop_end(&i, NULL);
}

/* Who does what: tasks of `rows` result blocks x `cols` source blocks. Four result blocks make 64 bytes of an output row,
 * and four source blocks a cache line of a source row. Long columns, because a line that two tasks write, as where rows are
 * no whole lines, is fetched and written back twice. */
typedef struct split {
  int64_t rows, cols, n_rows, n_cols;
} split;

enum { LINE = 4 };

static split split_tasks(const tt_type *from) {
  int64_t nb = tt_mx_blocks(from->dim[0]), nk = tt_mx_blocks(from->dim[1]);
  split s = {.cols = nk % 2 ? nk : LINE}; /* of an odd number the last two pairs overlap, and must be one task's */
  s.rows = cg_grain(nb, s.cols * TT_MX_BLOCK * TT_MX_BLOCK / 8, LINE);
  s.n_rows = (nb + s.rows - 1) / s.rows, s.n_cols = (nk + s.cols - 1) / s.cols;
  return s;
}

/* A run of result blocks x the source blocks of a task. */
typedef struct area {
  cg_range b, k;
} area;

/* Blocks kb and kb + 1. */
static void turn_bytes(const turn *t, cg_val kb, const area *run) {
  cg_ctx *c = t->z.c;
  int64_t nk = tt_mx_blocks(t->from->dim[1]);
  cg_requantizer r = {.z = &t->z, .from = t->from, .block = t->b, .first = kb, .scratch = t->bytes};
  if (nk % 2) r.first = cg_min(c, kb, cg_i64(c, nk - 2));
  cg_val below = cg_add(c, t->b, cg_i64(c, 1)), beside = cg_add(c, kb, cg_i64(c, 2));
  cg_val row_ends = cg_icmp(c, LLVMIntSGE, beside, run->k.end), ends = cg_icmp(c, LLVMIntEQ, below, run->b.end);
  r.next_block = cg_select(c, ends, cg_select(c, row_ends, below, run->b.begin), below);
  r.next_first = cg_select(c, ends, cg_select(c, row_ends, run->k.begin, beside), kb);
  if (t->from->dim[0] % TT_MX_BLOCK) r.rows = t->rows;
  cg_if f;
  cg_if_begin(c, &f, cg_requantize_scan(&r));
  turn_floats(t, r.first, 2);
  cg_if_else(&f);
  cg_requantize_columns(&r);
  cg_if_end(&f);
}

static void turn_run(turn *t, const area *run, bool bytes) {
  cg_ctx *c = t->z.c;
  cg_loop b, kb;
  cg_loop_begin(c, &kb, run->k.begin, run->k.end, bytes ? 2 : 1, 0, NULL);
  cg_loop_begin(c, &b, run->b.begin, run->b.end, 1, 0, NULL);
  t->b = b.i;
  t->row = cg_mul(c, b.i, cg_i64(c, TT_MX_BLOCK));
  t->rows = cg_min(c, cg_sub(c, cg_i64(c, t->from->dim[0]), t->row), cg_i64(c, TT_MX_BLOCK));
  if (bytes)
    turn_bytes(t, kb.i, run);
  else
    turn_floats(t, kb.i, 1);
  cg_loop_end(&b, NULL);
  cg_loop_end(&kb, NULL);
}

/* Columns inside of runs of rows, so that lines of the source and of the result are done with one after the other. */
static void requantize(cg_kernel *k, const tt_type *from, split s) {
  cg_ctx *c = k->c;
  turn t = {.z = cg_quantizer_open(k, tt_node_qspec(k->x->g, k->x->n, TT_A_Q), 0, 1, TT_A_TENSOR), .from = from};
  bool bytes = cg_requantizer_fits(c, from, t.z.q);
  t.z.x = cg_in(k, 0);
  t.buffer = cg_alloca(c, c->vi, 5, 64);
  t.values = cg_scratch(k, 0, sizeof(float[TT_MX_BLOCK][TT_MX_BLOCK]));
  t.bytes = bytes ? cg_scratch(k, sizeof(float[TT_MX_BLOCK][TT_MX_BLOCK]), CG_REQUANTIZER_SCRATCH) : NULL;
  cg_val begin = cg_mul(c, cg_div(c, k->task, cg_i64(c, s.n_cols)), cg_i64(c, s.rows));
  cg_val end = cg_min(c, cg_add(c, begin, cg_i64(c, s.rows)), cg_i64(c, t.z.nb));
  area run = {.k.begin = cg_mul(c, cg_rem(c, k->task, cg_i64(c, s.n_cols)), cg_i64(c, s.cols))};
  run.k.end = cg_min(c, cg_add(c, run.k.begin, cg_i64(c, s.cols)), cg_i64(c, tt_mx_blocks(from->dim[1])));
  cg_loop l;
  cg_loop_begin(c, &l, begin, end, LINE, 0, NULL);
  run.b = (cg_range){l.i, cg_min(c, cg_add(c, l.i, cg_i64(c, LINE)), end)};
  turn_run(&t, &run, bytes);
  cg_loop_end(&l, NULL);
}

bool cg_emit_mx_requantize(cg_node *x) {
  if (cg_out_type(x, 0)->format == TT_INT4) return cg_int4_requantize(x);
  const tt_type *from = cg_in_type(x, 0);
  split s = split_tasks(from);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    requantize(k, from, s);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", s.n_rows * s.n_cols);
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
