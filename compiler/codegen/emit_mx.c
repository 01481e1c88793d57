/* mx.gemm: C[M,N] = A[M,K] B[N,K]^T of packed MX operands. A task owns a tile of C and runs over all of K: by segments of
 * 4096 elements (NUMERICS 5), inside them by chunks that are decoded into scratch, inside those by panels of B.
 *
 * Between chunks a segment's sums rest in C itself, or, where there are several segments, beside it in scratch, from where
 * each finished segment is added to C. Denormals are kept throughout: results may be subnormal, operands of the fast path
 * are not, so that costs nothing. */
#include "compiler/codegen/gemm_mx.h"
#include "compiler/codegen/int4.h"

enum { SEGMENT_BLOCKS = CG_MX_SEGMENT, CHUNK_MAX = 24, CHUNK_LONG = 16 };

typedef struct product {
  cg_kernel *k;
  int64_t M, N, nb, n_segments;
  cg_tiling t;
  cg_mx_shape s;
  cg_mx_layout l;
  cg_val base, sums;           /* scratch: decoded operands; sums of a segment [t.rows][t.cols] where there are several */
  cg_val i, j, rows, cols;     /* this task's tile of C */
  cg_val segment, last, k0, n; /* blocks: end of the segment, start and length of the chunk */
} product;

static cg_val c_at(product *p, cg_val row, cg_val col) {
  cg_ctx *c = p->k->c;
  cg_val at = cg_add(c, cg_mul(c, cg_add(c, p->i, row), cg_i64(c, p->N)), cg_add(c, p->j, col));
  return cg_gep(c, c->f32, cg_out(p->k, 0), at);
}

/* The packed codes (16 bytes a block) and scale bytes of operand `index` from block k0 of a row on. */
static void operand_at(product *p, int index, cg_val row, cg_val *codes, cg_val *scales) {
  cg_ctx *c = p->k->c;
  cg_val block = cg_add(c, cg_mul(c, row, cg_i64(c, p->nb)), p->k0), base = cg_in(p->k, index);
  *codes = cg_gep_bytes(c, base, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  *scales = cg_gep_bytes(c, cg_addr(c, c->i8, base, (int64_t)tt_mx_scale_offset(cg_in_type(p->k->x, index))), block);
}

static void emit_panel(product *p, cg_val col) {
  cg_ctx *c = p->k->c;
  cg_val codes, scales, cols = cg_min(c, cg_sub(c, p->cols, col), cg_i64(c, p->s.nr));
  operand_at(p, 1, cg_add(c, p->j, col), &codes, &scales);
  cg_shared_call(c, cg_mx_decode_b(c, &p->s), 5, (cg_val[]){codes, scales, p->n, cols, p->base});
  cg_val fresh = cg_icmp(c, LLVMIntEQ, p->k0, p->segment), bias = cg_zeros(c);
  if (p->n_segments == 1 && p->k->x->d->n_in > 2) {
    cg_val final = cg_icmp(c, LLVMIntEQ, cg_add(c, p->k0, p->n), cg_i64(c, p->nb));
    bias = cg_select(c, final, cg_gep(c, c->f32, cg_in(p->k, 2), cg_add(c, p->j, col)), bias);
  }
  cg_val zero = cg_i64(c, 0), rs = cg_i64(c, p->n_segments == 1 ? p->N : p->t.cols);
  cg_val out = p->n_segments == 1 ? c_at(p, zero, col) : cg_gep(c, c->f32, p->sums, col);
  cg_val src = cg_select(c, fresh, cg_zeros(c), out), src_rs = cg_select(c, fresh, zero, rs);
  cg_shared_call(c, cg_mx_panel(c, &p->s), 9, (cg_val[]){p->n, p->base, out, rs, src, src_rs, bias, p->rows, cols});
}

static void emit_chunk(product *p) {
  cg_ctx *c = p->k->c;
  cg_val codes, scales;
  operand_at(p, 0, p->i, &codes, &scales);
  cg_shared_call(c, cg_mx_decode_a(c, &p->s), 5, (cg_val[]){codes, scales, p->n, p->rows, p->base});
  cg_loop col;
  cg_loop_begin(c, &col, cg_i64(c, 0), p->cols, p->s.nr, 0, NULL);
  emit_panel(p, col.i);
  cg_loop_end(&col, NULL);
}

/* C = (first ? 0 : C) + sums, then + bias behind the last segment. */
static void add_segment(product *p) {
  cg_ctx *c = p->k->c;
  cg_loop row, col;
  cg_val first = cg_icmp(c, LLVMIntEQ, p->segment, cg_i64(c, 0)), final = cg_icmp(c, LLVMIntEQ, p->last, cg_i64(c, p->nb));
  cg_loop_begin(c, &row, cg_i64(c, 0), p->rows, 1, 0, NULL);
  cg_loop_begin(c, &col, cg_i64(c, 0), p->cols, c->W, 0, NULL);
  cg_val left = cg_sub(c, p->cols, col.i), out = c_at(p, row.i, col.i);
  cg_val at = cg_gep(c, c->f32, p->sums, cg_add(c, cg_mul(c, row.i, cg_i64(c, p->t.cols)), col.i));
  cg_val old = cg_load_n(c, out, cg_select(c, first, cg_i64(c, 0), left), cg_vf(c, 0));
  cg_val sum = cg_add(c, old, cg_load_n(c, at, left, cg_vf(c, 0)));
  if (p->k->x->d->n_in > 2) {
    cg_val bias = cg_gep(c, c->f32, cg_in(p->k, 2), cg_add(c, p->j, col.i));
    sum = cg_add(c, sum, cg_load_n(c, bias, cg_select(c, final, left, cg_i64(c, 0)), cg_vf(c, 0)));
  }
  cg_store_n(c, sum, out, left);
  cg_loop_end(&col, NULL);
  cg_loop_end(&row, NULL);
}

static void emit_task(product *p) {
  cg_ctx *c = p->k->c;
  cg_val row = cg_div(c, p->k->task, cg_i64(c, p->t.n_cols)), col = cg_rem(c, p->k->task, cg_i64(c, p->t.n_cols));
  p->i = cg_mul(c, row, cg_i64(c, p->t.rows)), p->j = cg_mul(c, col, cg_i64(c, p->t.cols));
  p->rows = cg_min(c, cg_i64(c, p->t.rows), cg_sub(c, cg_i64(c, p->M), p->i));
  p->cols = cg_min(c, cg_i64(c, p->t.cols), cg_sub(c, cg_i64(c, p->N), p->j));
  cg_loop segment, chunk;
  cg_loop_begin(c, &segment, cg_i64(c, 0), cg_i64(c, p->nb), SEGMENT_BLOCKS, 0, NULL);
  p->segment = segment.i;
  p->last = cg_min(c, cg_add(c, segment.i, cg_i64(c, SEGMENT_BLOCKS)), cg_i64(c, p->nb));
  cg_loop_begin(c, &chunk, p->segment, p->last, p->s.chunk, 0, NULL);
  p->k0 = chunk.i;
  p->n = cg_min(c, cg_i64(c, p->s.chunk), cg_sub(c, p->last, p->k0));
  emit_chunk(p);
  cg_loop_end(&chunk, NULL);
  if (p->n_segments > 1) add_segment(p);
  cg_loop_end(&segment, NULL);
}

/* A C written once and far larger than L2 is not read into the caches to be written. On a tile unit this is worth a third
 * of the time at K = 192; the other kernels are slow enough to wait for their lines. */
static bool streams(const cg_ctx *c, const product *p) {
  if (!c->target->tiles || !c->target->past_caches_done || p->s.chunk < p->nb) return false;
  return p->N * 4 % c->target->vector_bytes == 0 && p->M * p->N * 4 > 4 * c->target->l2_bytes;
}

/* Blocks to decode at a time. A tile unit wants few chunks, as sums rest in memory between them, of equal length. */
static int64_t chunk_for(const cg_ctx *c, int64_t nb) {
  if (nb <= CHUNK_MAX) return (nb + 1) / 2 * 2;
  if (!c->target->tiles || nb > SEGMENT_BLOCKS) return CHUNK_LONG;
  int64_t n = (nb + CHUNK_MAX - 1) / CHUNK_MAX;
  return ((nb + n - 1) / n + 1) / 2 * 2;
}

bool cg_emit_mx_gemm(cg_node *x) {
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1);
  TT_ASSERT(a->dtype == TT_MX && b->dtype == TT_MX);
  if (a->format == TT_INT4) return cg_int4_gemm(x);
  product p = {.M = a->dim[0], .N = b->dim[0], .nb = tt_mx_blocks(a->dim[1])};
  p.n_segments = (p.nb + SEGMENT_BLOCKS - 1) / SEGMENT_BLOCKS;
  p.t = cg_tile_product(p.M, p.N, a->dim[1] / 3 + 1, 96, 96, x->c->target->tiles ? CG_MX_TALL : 2 * x->c->target->mx_rows);
  int64_t chunk = chunk_for(x->c, p.nb);
  p.s = cg_mx_shape_of(x->c, p.nb, chunk, p.t.rows, a->format, b->format);
  p.s.stream = streams(x->c, &p);
  p.l = cg_mx_layout_of(x->c, &p.s);
  p.k = cg_kernel_begin(x, "");
  if (p.k) {
    cg_ctx *c = p.k->c;
    p.base = cg_scratch(p.k, 0, (uint64_t)p.l.bytes);
    if (p.n_segments > 1) p.sums = cg_scratch(p.k, (uint64_t)p.l.bytes, (uint64_t)(p.t.rows * p.t.cols) * 4);
    cg_val saved = c->target->denormals_keep(c);
    if (c->target->tiles) c->target->tiles->configure(c);
    emit_task(&p);
    if (c->target->tiles) c->target->tiles->release(c);
    if (p.s.stream) c->target->past_caches_done(c);
    c->target->denormals_restore(c, saved);
    cg_kernel_end(p.k);
  }
  cg_launch(x, "", p.t.n_rows * p.t.n_cols);
  return true;
}
