/* mx.fused: a few ops row by row and the quantizers of what comes out of them, in one sweep.
 *
 * A block of 32 rows is what a column quantizer needs at once, so tasks take blocks. Within one, a group of rows that L1
 * holds goes through the steps and is quantized along rows while it is there; with the block complete, its columns are
 * quantized from a chunk of scratch (or from the tensor itself where the last step's is kept, or there is no step). So what
 * only the quantizers read is never in memory. Each part is the code of the op that it stands for, in the same order of
 * addition; quantizers keep denormals, the other ops flush them, as they do apart.
 *
 * With a product in front a task makes its rows of that and sweeps over them: what only the steps read of it is never in
 * memory either, and they write over it in place. Where all steps are elementwise the product and the sweep take turns by
 * spans of columns, so that the rows of a wide product need not all be in L2. */
#include "compiler/codegen/gemm_f32.h"
#include "compiler/codegen/mx_product.h"
#include "compiler/codegen/mx_quantizer.h"
#include "compiler/codegen/rows.h"
#include "compiler/ir/fused.h"

enum { BLOCK = TT_MX_BLOCK, RUN_BLOCKS = CG_RUN / TT_MX_BLOCK, GROUP_BYTES = 4096, AHEAD_BYTES = 4096 };
enum { PRODUCT_ROWS = 2 * CG_RUN, SPAN = 8 * BLOCK };
/* Of float32 products: rows of a task, and columns, of which B's panels allow multiples of PANELS, or of BLOCK where none is 48
 * wide. */
enum { F32_ROWS = CG_RUN, F32_TILE_ROWS = 3 * CG_RUN /* which split B for each task */, TILE_TASKS = 14, PANELS = 96,
       F32_SPAN = 4 * PANELS };

typedef struct sweep {
  cg_kernel *k;
  cg_ctx *c;
  tt_fused f;
  int64_t rows, D, span;     /* span: columns that are swept over at a time */
  cg_val col;                /* the first of them */
  int64_t group;             /* rows */
  int64_t width;             /* floats of a run's sums, of all results that are sums together */
  cg_quantizer along, across;
  cg_val chunk;              /* scratch for the rows of a block or a group, NULL where none is needed */
  cg_val slots;              /* scratch for the tiles of a run of blocks */
  cg_val sums;               /* of the current run */
  cg_val first, count;       /* rows of the block */
  cg_product product;        /* in front, if there is one: of mx matrices */
  cg_gemm gemm;              /* or of float32 ones */
  uint64_t gemm_scratch;     /* where its scratch begins */
  cg_range blocks;           /* of the task */
  cg_val task_first;         /* its first row, which is the first of a product in scratch */
} sweep;

/* Rows in scratch are this far apart: a power of two would put a tile's rows into a few sets of the cache. */
static int64_t chunk_stride(const sweep *s) { return (s->span + 15) / 16 * 16 + 16; }
static const tt_fused_step *last_step(const tt_fused *f) { return f->n_steps ? &f->step[f->n_steps - 1] : NULL; }
static bool ends_in_scratch(const tt_fused *f) { return f->n_steps > 0 && !last_step(f)->keep; }
static bool any_unkept(const tt_fused *f) {
  bool any = false;
  for (int i = 0; i < f->n_steps; i++) any |= !f->step[i].keep;
  return any;
}
/* Results of a step behind its first that are sums over rows: those without a dimension for them. */
static bool sums_rows(tt_op op) { return op == TT_OP_LAYERNORM_GRAD; }

/* Floats of the column sums of a run: whole blocks where what is quantized is summed. */
static int64_t colsum_width(const tt_fused *f, int64_t D) {
  if (f->colsum < 0) return 0;
  return f->out_q >= 0 ? tt_mx_blocks(D) * BLOCK : D;
}

static int64_t sums_width(const tt_fused *f, int64_t D) {
  int64_t width = colsum_width(f, D);
  for (int i = 0; i < f->n_steps; i++)
    if (sums_rows(f->step[i].op)) width += (tt_ops[f->step[i].op].n_out - 1) * D;
  return width;
}

/* In the workspace a product's operands lie behind the sums of runs. */
static uint64_t work_of_product(const tt_fused *f, int64_t rows, int64_t D) {
  return (cg_run_bytes(rows, sums_width(f, D)) + 63) / 64 * 64;
}

/* The product in front, of mx matrices, in tasks of `grain` blocks. */
static cg_product mx_product(const cg_node *x, const tt_fused *f, int64_t rows, int64_t D, int64_t grain) {
  cg_product p = cg_product_of(x, grain * BLOCK, D, f->step[0].n_in > 2);
  p.work_at = work_of_product(f, rows, D);
  return p;
}

/* A product that only the steps read lies in scratch, all rows of the task. */
static bool keeps_task(const tt_fused *f) { return f->lead && !f->step[0].keep; }

static cg_val row_at(const sweep *s, cg_val base, cg_val row) {
  return cg_gep(s->c, s->c->f32, cg_row(s->c, base, row, s->D), s->col);
}

/* Where row r of the block's rows (i64) lies in scratch. */
static cg_val chunk_row(const sweep *s, cg_val r, cg_val group) {
  cg_ctx *c = s->c;
  if (keeps_task(&s->f)) {
    cg_val row = cg_sub(c, cg_add(c, s->first, r), s->task_first);
    return cg_row(c, s->chunk, row, chunk_stride(s));
  }
  bool whole_block = s->f.out_t >= 0 && ends_in_scratch(&s->f);
  return cg_row(c, s->chunk, whole_block ? r : cg_sub(c, r, group), chunk_stride(s));
}

/* One step on `rows` rows from row r of the block on; from[] becomes where it has put them. */
static void run_step(const sweep *s, const tt_fused_step *step, int rows, cg_val r, cg_val group, cg_val *from, cg_val sums) {
  cg_ctx *c = s->c;
  int extra = tt_ops[step->op].n_out - 1, operands = tt_ops[step->op].max_in;
  cg_val in[8] = {NULL}, out[8] = {NULL};
  for (int j = 1; j < operands; j++) in[j] = cg_in(s->k, step->in + step->n_in - operands + j);
  for (int j = 1; j <= extra; j++) out[j] = cg_out(s->k, step->out + step->n_out - extra - 1 + j);
  bool elementwise = tt_ops[step->op].flags & TT_EW;
  for (int j = 1; j < operands && elementwise; j++) in[j] = cg_gep(c, c->f32, in[j], s->col);
  cg_row_op o = {s->k, step->op, s->D, s->span, .rows = elementwise ? 1 : rows, .in = in, .out = out, .sums = sums};
  for (int i = 0; i < rows; i += o.rows) {
    o.row = cg_add(c, s->first, cg_add(c, r, cg_i64(c, i)));
    for (int j = 0; j < o.rows; j++) {
      cg_val at = cg_add(c, r, cg_i64(c, i + j)), row = cg_add(c, s->first, at);
      o.from[j] = from[i + j];
      o.to[j] = from[i + j] = step->keep ? row_at(s, cg_out(s->k, step->out), row) : chunk_row(s, at, group);
    }
    if (elementwise)
      cg_elementwise_row(&o);
    else if (sums_rows(step->op))
      cg_layernorm_grad_row(&o);
    else {
      TT_ASSERT(step->op == TT_OP_LAYERNORM); /* any other STEP needs a row function of its own */
      cg_layernorm_row(&o);
    }
  }
}

typedef struct addition {
  cg_ctx *c;
  cg_val from, sums;
} addition;

static void add_body(void *u, cg_val i, cg_val n) {
  addition *a = u;
  cg_ctx *c = a->c;
  cg_store_n(c, cg_add(c, cg_cols(c, a->sums, i, n), cg_cols(c, a->from, i, n)), cg_gep(c, c->f32, a->sums, i), n);
}

/* What a sweep reads row by row, from memory. */
static bool is_far(const sweep *s, int i) {
  const tt_type *t = cg_in_type(s->k->x, i);
  bool of_lead = s->f.lead && i < s->f.step[0].n_in;
  return !of_lead && t->dtype == TT_F32 && tt_type_count(t) == s->rows * s->D;
}

/* A row so many rows ahead is asked for. */
static int64_t rows_ahead(const sweep *s) { return 1 + AHEAD_BYTES / (s->span * (int64_t)sizeof(float)); }

static void ask_for(const sweep *s, cg_val row) {
  cg_ctx *c = s->c;
  for (int i = 0; i < s->f.n_in; i++) {
    if (!is_far(s, i)) continue;
    cg_val next = row_at(s, cg_in(s->k, i), cg_add(c, row, cg_i64(c, rows_ahead(s))));
    for (int64_t at = 0; at < s->span; at += 16) cg_prefetch(c, cg_addr(c, c->f32, next, at));
  }
}

/* Runs the steps on `rows` rows from row r of the block on, of the group that begins with row `group`, and adds what they make
 * to the run's sums where it is not quantized. */
static void run_steps(const sweep *s, int rows, cg_val r, cg_val group) {
  cg_ctx *c = s->c;
  cg_val from[CG_ROWS], sums = s->sums;
  for (int i = 0; i < rows; i++) {
    cg_val at = cg_add(c, r, cg_i64(c, i)), row = cg_add(c, s->first, at);
    if (s->f.lead && !s->f.mx) ask_for(s, row);
    if (!s->f.lead)
      from[i] = row_at(s, cg_in(s->k, 0), row);
    else
      from[i] = s->f.step[0].keep ? row_at(s, cg_out(s->k, s->f.step[0].out), row) : chunk_row(s, at, group);
  }
  if (s->f.colsum >= 0) sums = cg_gep(c, c->f32, sums, cg_i64(c, colsum_width(&s->f, s->D)));
  for (int i = s->f.lead; i < s->f.n_steps; i++) {
    const tt_fused_step *step = &s->f.step[i];
    run_step(s, step, rows, r, group, from, sums);
    if (sums_rows(step->op)) sums = cg_gep(c, c->f32, sums, cg_i64(c, (tt_ops[step->op].n_out - 1) * s->D));
  }
  if (s->f.colsum < 0 || s->f.out_q >= 0) return;
  for (int i = 0; i < rows; i++) {
    addition a = {c, from[i], cg_gep(c, c->f32, s->sums, s->col)};
    cg_each(c, cg_i64(c, 0), cg_i64(c, s->span), add_body, &a);
  }
}

/* Row r of what is quantized. */
static cg_val source_row(const sweep *s, cg_val r, cg_val group) {
  if (ends_in_scratch(&s->f)) return chunk_row(s, r, group);
  cg_val base = s->f.n_steps ? cg_out(s->k, last_step(&s->f)->out) : cg_in(s->k, 0);
  return row_at(s, base, cg_add(s->c, s->first, r));
}

static void quantize_row(sweep *s, cg_val r, cg_val group) {
  cg_ctx *c = s->c;
  int64_t ahead = rows_ahead(s);
  s->along.n_next = 0;
  for (int i = 0; i < s->f.n_in && s->along.n_next < CG_NEXT_ROWS; i++)
    if (is_far(s, i))
      s->along.next[s->along.n_next++] = row_at(s, cg_in(s->k, i), cg_add(c, cg_add(c, s->first, r), cg_i64(c, ahead)));
  s->along.x = source_row(s, r, group);
  if (s->f.colsum >= 0) s->along.sums = cg_gep(c, c->f32, s->sums, s->col);
  cg_val row = cg_add(c, s->first, r), block = cg_div(c, s->col, cg_i64(c, BLOCK));
  cg_quantize_row(&s->along, cg_i64(c, 0), cg_add(c, cg_mul(c, row, cg_i64(c, s->along.nb)), block), s->span);
}

/* How many rows the steps take at once: where one waits for its sums over a row, others have work meanwhile. */
static int rows_in_step(const sweep *s) {
  bool waits = false;
  for (int i = s->f.lead; i < s->f.n_steps; i++) {
    if (sums_rows(s->f.step[i].op)) return 1;
    waits |= !(tt_ops[s->f.step[i].op].flags & TT_EW);
  }
  return waits && s->group % CG_ROWS == 0 && s->rows % CG_ROWS == 0 ? CG_ROWS : 1;
}

static void emit_group(sweep *s, cg_val begin) {
  cg_ctx *c = s->c;
  cg_loop r;
  cg_val end = cg_add(c, begin, cg_i64(c, s->group));
  if (s->rows % s->group) end = cg_min(c, end, s->count);
  if (s->f.n_steps > s->f.lead || (s->f.colsum >= 0 && s->f.out_q < 0)) {
    int rows = rows_in_step(s);
    cg_loop_begin(c, &r, begin, end, rows, 0, NULL);
    run_steps(s, rows, r.i, begin);
    cg_loop_end(&r, NULL);
  }
  if (s->f.out_q < 0) return;
  cg_val saved = c->target->denormals_keep(c);
  cg_loop_begin(c, &r, begin, end, 1, 0, NULL);
  quantize_row(s, r.i, begin);
  cg_loop_end(&r, NULL);
  c->target->denormals_restore(c, saved);
}

static void emit_columns(sweep *s, cg_val block) {
  cg_ctx *c = s->c;
  cg_loop col;
  cg_val zero = cg_i64(c, 0), saved = c->target->denormals_keep(c), source = source_row(s, zero, zero);
  cg_loop_begin(c, &col, zero, cg_i64(c, s->span), c->W, 0, NULL);
  cg_tile t = {.x = cg_gep(c, c->f32, source, col.i),
               .stride = ends_in_scratch(&s->f) ? chunk_stride(s) : s->D,
               .prefetch = s->f.n_steps == 0 && s->f.out_q < 0,
               .rows = s->rows % BLOCK ? s->count : NULL,
               .cols = s->D % c->W ? cg_sub(c, cg_i64(c, s->D), col.i) : NULL,
               .col = cg_add(c, s->col, col.i),
               .block = block};
  cg_prefetch_columns(&s->across, &t);
  cg_tile_codes(&s->across, &t, cg_slot(&s->across, s->slots, s->span, block, col.i));
  cg_loop_end(&col, NULL);
  c->target->denormals_restore(c, saved);
}

static void emit_block(sweep *s, cg_val block) {
  cg_ctx *c = s->c;
  s->first = cg_mul(c, block, cg_i64(c, BLOCK));
  s->count = cg_i64(c, BLOCK);
  if (s->rows % BLOCK) s->count = cg_min(c, s->count, cg_sub(c, cg_i64(c, s->rows), s->first));
  if (s->width) {
    cg_val run = cg_div(c, block, cg_i64(c, RUN_BLOCKS));
    s->sums = cg_row(c, cg_work(s->k, 0, cg_run_bytes(s->rows, s->width)), run, s->width);
    cg_if fresh;
    cg_if_begin(c, &fresh, cg_icmp(c, LLVMIntEQ, cg_rem(c, block, cg_i64(c, RUN_BLOCKS)), cg_i64(c, 0)));
    cg_zero_row(c, cg_gep(c, c->f32, s->sums, s->col), s->span == s->D ? s->width : s->span);
    cg_if_end(&fresh);
  }
  cg_loop group;
  cg_loop_begin(c, &group, cg_i64(c, 0), s->count, s->group, 0, NULL);
  emit_group(s, group.i);
  cg_loop_end(&group, NULL);
  if (s->f.out_t >= 0) emit_columns(s, block);
}

/* Codes of the output rows of the columns that are swept over go to memory. */
static void store_run(const sweep *s, cg_val block) {
  cg_ctx *c = s->c;
  cg_quantizer part = s->across;
  cg_val row = cg_mul(c, s->col, cg_i64(c, part.nb));
  part.codes = cg_gep(c, c->i8, part.codes, cg_mul(c, row, cg_i64(c, TT_MX_BLOCK / 2)));
  part.scales = cg_gep(c, c->i8, part.scales, row);
  cg_store_run(&part, s->slots, s->span, block, s->blocks.end);
}

static void emit_blocks(sweep *s) {
  cg_loop b;
  cg_loop_begin(s->c, &b, s->blocks.begin, s->blocks.end, 1, 0, NULL);
  emit_block(s, b.i);
  if (s->f.out_t >= 0) store_run(s, b.i);
  cg_loop_end(&b, NULL);
}

static void sweep_columns(void *user, cg_val col, cg_val cols) {
  sweep *s = user;
  (void)cols; /* a span, which divides D */
  s->col = col;
  emit_blocks(s);
}

/* The rows of the product that belong to the task's blocks, and the sweep over them. */
static void emit_product(sweep *s) {
  cg_ctx *c = s->c;
  cg_val begin = s->blocks.begin, end = s->blocks.end;
  cg_product *p = &s->product;
  bool scratch = keeps_task(&s->f);
  p->i = s->task_first = cg_mul(c, begin, cg_i64(c, BLOCK));
  p->j = cg_i64(c, 0);
  p->rows = cg_sub(c, cg_min(c, cg_mul(c, end, cg_i64(c, BLOCK)), cg_i64(c, s->rows)), p->i);
  p->cols = cg_i64(c, s->D);
  p->stride = scratch ? chunk_stride(s) : s->D;
  p->out = scratch ? s->chunk : cg_row(c, cg_out(s->k, s->f.step[0].out), p->i, s->D);
  if (s->span < s->D) {
    p->span = s->span, p->again = scratch;
    p->ready = sweep_columns, p->user = s;
    cg_product_tile(p);
  } else {
    cg_product_tile(p);
    emit_blocks(s);
  }
}

/* The same of a float32 product, whose B was packed by a launch before, unless the tile unit multiplies it. */
static void emit_f32_product(sweep *s) {
  cg_kernel *k = s->k;
  cg_ctx *c = s->c;
  cg_gemm g = s->gemm;
  const int64_t rows = g.M;
  bool scratch = keeps_task(&s->f);
  s->task_first = cg_mul(c, s->blocks.begin, cg_i64(c, BLOCK));
  if (s->rows % rows) g.m_count = cg_min(c, cg_i64(c, rows), cg_sub(c, cg_i64(c, s->rows), s->task_first));
  cg_loop col;
  cg_loop_begin(c, &col, cg_i64(c, 0), cg_i64(c, s->D), s->span, 0, NULL);
  s->col = col.i;
  g.N = s->span;
  if (g.way == CG_F32_VECTORS) {
    g.packed_b = cg_work(k, work_of_product(&s->f, s->rows, s->D), cg_f32_packed_b_bytes(c, &g));
    g.packed_b = cg_f32_packed_panel(c, &g, col.i);
  }
  g.c_rs = scratch ? chunk_stride(s) : s->D;
  g.a = cg_row(c, cg_in(k, 0), s->task_first, g.a_rs);
  g.b = cg_gep(c, c->f32, cg_in(k, 1), cg_mul(c, col.i, cg_i64(c, g.b_cs)));
  g.out = scratch ? s->chunk : row_at(s, cg_out(k, s->f.step[0].out), s->task_first);
  if (s->f.step[0].n_in > 2) g.bias = cg_gep(c, c->f32, cg_in(k, 2), col.i);
  cg_gemm_f32(k, &g, s->gemm_scratch);
  emit_blocks(s);
  cg_loop_end(&col, NULL);
}

/* Columns to take at a time: whole blocks in whole panels, if all steps can be computed on a part of a row. */
static int64_t span_of(const sweep *s) {
  bool parts = true;
  for (int i = 1; i < s->f.n_steps; i++) parts &= (tt_ops[s->f.step[i].op].flags & TT_EW) != 0;
  if (!parts) return s->D;
  if (s->f.mx) return cg_product_spans(&s->product) && SPAN % s->product.s.nr == 0 && s->D % SPAN == 0 ? SPAN : s->D;
  int64_t span = F32_SPAN, by = s->D % 48 ? BLOCK : PANELS; /* panels are not 48 wide, then */
  while (span >= PANELS && s->D % span) span -= by;
  return span >= PANELS ? span : s->D;
}

/* Scratch: rows of the steps, then the product's, then the slots. */
static void open_scratch(sweep *s, int64_t grain) {
  const tt_fused *f = &s->f;
  int64_t rows = f->out_t >= 0 && ends_in_scratch(f) ? BLOCK : s->group;
  if (keeps_task(f)) rows = grain * BLOCK;
  uint64_t bytes = any_unkept(f) ? (uint64_t)(rows * chunk_stride(s)) * sizeof(float) : 0;
  if (bytes) s->chunk = cg_scratch(s->k, 0, bytes);
  if (f->lead && !f->mx) {
    cg_gemm span = s->gemm;
    span.N = s->span;
    s->gemm_scratch = (bytes + 63) / 64 * 64;
    bytes = s->gemm_scratch + cg_gemm_f32(NULL, &span, 0);
  }
  if (f->mx) {
    cg_product_open(&s->product, s->k, bytes);
    bytes += cg_product_scratch(&s->product);
  }
  if (f->out_t >= 0) s->slots = cg_scratch(s->k, (bytes + 63) / 64 * 64, cg_slots_bytes(s->c, s->span));
}

static void emit_sweep(cg_kernel *k, const tt_fused *f, const cg_gemm *product, int64_t rows, int64_t D, int64_t grain) {
  cg_ctx *c = k->c;
  sweep s = {.k = k, .c = c, .f = *f, .rows = rows, .D = D, .span = D, .group = BLOCK, .width = sums_width(f, D)};
  s.col = cg_i64(c, 0);
  if (f->mx) s.product = mx_product(k->x, f, rows, D, grain);
  s.gemm = *product;
  s.gemm.M = grain * BLOCK;
  if (f->lead) s.span = span_of(&s);
  while (s.group > 1 && s.group * s.span * (int64_t)sizeof(float) > GROUP_BYTES) s.group /= 2;
  open_scratch(&s, grain);
  if (f->out_q >= 0) s.along = cg_quantizer_open(k, f->q, f->out_q, f->rng, TT_A_TENSOR);
  if (f->out_t >= 0) s.across = cg_quantizer_open(k, f->q_t, f->out_t, f->rng, TT_A_TENSOR_T);
  s.blocks = cg_task_range(k, (rows + BLOCK - 1) / BLOCK, grain);
  if (f->mx)
    emit_product(&s);
  else if (f->lead)
    emit_f32_product(&s);
  else
    emit_blocks(&s);
  if (f->out_t >= 0) cg_stored_tiles(&s.across);
}

/* The runs' sums of results that are sums over rows, added up: first those of the last step's rows, or of what they are
 * quantized to, then the steps' own. */
static void emit_totals(cg_kernel *k, const tt_fused *f, int64_t rows, int64_t D) {
  cg_ctx *c = k->c;
  int64_t width = sums_width(f, D), at = 0;
  cg_val work = cg_work(k, 0, cg_run_bytes(rows, width));
  if (f->colsum >= 0 && f->out_q >= 0) cg_add_quantized_runs(k, rows, work, width, cg_out(k, f->colsum), D);
  if (f->colsum >= 0 && f->out_q < 0) cg_add_runs(k, rows, work, width, cg_out(k, f->colsum), D);
  at += colsum_width(f, D);
  for (int i = 0; i < f->n_steps; i++) {
    const tt_fused_step *s = &f->step[i];
    for (int j = s->keep; sums_rows(s->op) && j < s->n_out; j++, at += D)
      cg_add_runs(k, rows, cg_gep(c, c->f32, work, cg_i64(c, at)), width, cg_out(k, s->out + j), D);
  }
}

/* Blocks of a task. Runs of 4 blocks make 64 bytes of a transposed row, which tasks should not share, and the runs of sums,
 * which they must not. A task of a product may have to decode all of B, so it takes more rows than others do; that of a
 * float32 one finds it packed, or on tiles splits it, for which it takes more if there are enough tasks then. */
static int64_t grain_of(const tt_fused *f, const cg_gemm *product, int64_t rows, int64_t D) {
  int64_t blocks = (rows + BLOCK - 1) / BLOCK;
  if (!f->lead) return cg_grain(blocks, D * BLOCK / 2, f->out_t >= 0 || sums_width(f, D) ? RUN_BLOCKS : 1);
  bool split = product->way == CG_F32_TILES && rows / F32_TILE_ROWS >= TILE_TASKS;
  return (f->mx ? PRODUCT_ROWS : split ? F32_TILE_ROWS : F32_ROWS) / BLOCK;
}

bool cg_emit_mx_fused(cg_node *x) {
  tt_fused f = tt_fused_of(x->g, x->n);
  const tt_type type = tt_fused_type(x->g, &f, x->d->in);
  int64_t rows = tt_type_rows(&type), D = tt_type_last(&type);
  const cg_gemm product = f.lead && !f.mx ? cg_f32_rows_product(x, f.step[0].op) : (cg_gemm){0};
  int64_t blocks = (rows + BLOCK - 1) / BLOCK, width = sums_width(&f, D), grain = grain_of(&f, &product, rows, D);
  if (f.mx) {
    cg_product p = mx_product(x, &f, rows, D, grain);
    cg_product_launch(&p, x);
  }
  if (product.way == CG_F32_VECTORS) cg_f32_launch_pack(x, &product, work_of_product(&f, rows, D));
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    emit_sweep(k, &f, &product, rows, D, grain);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (blocks + grain - 1) / grain);
  if (width == 0) return true;
  k = cg_kernel_begin(x, "total");
  if (k) {
    emit_totals(k, &f, rows, D);
    cg_kernel_end(k);
  }
  cg_launch(x, "total", 1);
  return true;
}
