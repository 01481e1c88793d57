/* mx.gemm: C[M,N] = A[M,K] B[N,K]^T of packed MX operands. A task owns a tile of C and runs over all of K: by segments of
 * 4096 elements (NUMERICS 5), inside them by chunks that are decoded into scratch (or were, by a launch before, into the
 * workspace), inside those by panels of B.
 *
 * Between chunks a segment's sums rest in C itself, or, where there are several segments, beside it in scratch, from where
 * each finished segment is added to C. Denormals are kept throughout: results may be subnormal, operands of the fast path
 * are not, so that costs nothing. */
#include "compiler/codegen/mx_product.h"
#include "compiler/codegen/int4.h"

enum { SEGMENT_BLOCKS = CG_MX_SEGMENT, CHUNK_MAX = 24, CHUNK_LONG = 16 };
enum { SHARED_COLUMNS = 128 }; /* of B, decoded by one task for all others */

static cg_val c_at(cg_product *p, cg_val row, cg_val col) {
  cg_ctx *c = p->k->c;
  return cg_gep(c, c->f32, p->out, cg_add(c, cg_mul(c, row, cg_i64(c, p->stride)), col));
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t chunks_of_segment(const cg_product *p) {
  return ceil_div(p->nb < SEGMENT_BLOCKS ? p->nb : SEGMENT_BLOCKS, p->s.chunk);
}
static int64_t chunks_of(const cg_product *p) {
  int64_t last = p->nb - (p->n_segments - 1) * SEGMENT_BLOCKS;
  return (p->n_segments - 1) * chunks_of_segment(p) + ceil_div(last, p->s.chunk);
}
static int64_t panels_of(const cg_product *p) { return ceil_div(p->N, p->s.nr); }

/* Shared operands in the workspace: [chunk] all rows of A, [chunk][panel] of B. */
static uint64_t all_of_a(const cg_product *p) { return (uint64_t)(chunks_of(p) * p->l.a_bytes); }
static uint64_t all_of_b(const cg_product *p) { return (uint64_t)(chunks_of(p) * panels_of(p) * p->l.b_bytes); }
static cg_val shared_a(cg_product *p, cg_val chunk) {
  cg_ctx *c = p->k->c;
  return cg_gep_bytes(c, cg_work(p->k, p->work_at, all_of_a(p)), cg_mul(c, chunk, cg_i64(c, p->l.a_bytes)));
}
static cg_val shared_b(cg_product *p, cg_val chunk, cg_val col) {
  cg_ctx *c = p->k->c;
  cg_val i = cg_add(c, cg_mul(c, chunk, cg_i64(c, panels_of(p))), cg_div(c, col, cg_i64(c, p->s.nr)));
  return cg_gep_bytes(c, cg_work(p->k, p->work_at, all_of_b(p)), cg_mul(c, i, cg_i64(c, p->l.b_bytes)));
}

/* Number of the chunk under way. */
static cg_val this_chunk(const cg_product *p) {
  cg_ctx *c = p->k->c;
  if (p->s.once) return cg_i64(c, 0);
  cg_val before = cg_mul(c, cg_div(c, p->segment, cg_i64(c, SEGMENT_BLOCKS)), cg_i64(c, chunks_of_segment(p)));
  return cg_add(c, before, cg_div(c, cg_sub(c, p->k0, p->segment), cg_i64(c, p->s.chunk)));
}

/* The packed codes (16 bytes a block) and scale bytes of operand `index` from block k0 of a row on. */
static void operand_at(cg_product *p, int index, cg_val row, cg_val *codes, cg_val *scales) {
  cg_ctx *c = p->k->c;
  cg_val block = cg_add(c, cg_mul(c, row, cg_i64(c, p->nb)), p->k0), base = cg_in(p->k, index);
  *codes = cg_gep_bytes(c, base, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  *scales = cg_gep_bytes(c, cg_addr(c, c->i8, base, (int64_t)tt_mx_scale_offset(cg_in_type(p->k->x, index))), block);
}

/* The chunk of `rows` rows of A from `row` on into p->a; of `cols` of B, at most a panel, into p->b. */
static void decode_a(cg_product *p, cg_val row, cg_val rows) {
  cg_val codes, scales;
  operand_at(p, 0, row, &codes, &scales);
  cg_shared_call(p->k->c, cg_mx_decode_a(p->k->c, &p->s), 5, (cg_val[]){codes, scales, p->n, rows, p->a});
}
static void decode_b(cg_product *p, cg_val col, cg_val cols) {
  cg_val codes, scales;
  operand_at(p, 1, col, &codes, &scales);
  cg_shared_call(p->k->c, cg_mx_decode_b(p->k->c, &p->s), 5, (cg_val[]){codes, scales, p->n, cols, p->b});
}

/* The panel of B at column `col` of the tile, which goes to column `to`. */
static void emit_panel(cg_product *p, cg_val col, cg_val to) {
  cg_ctx *c = p->k->c;
  cg_val cols = cg_min(c, cg_sub(c, p->cols, col), cg_i64(c, p->s.nr)), at = cg_add(c, p->j, col);
  if (p->share_b)
    p->b = shared_b(p, this_chunk(p), at);
  else
    decode_b(p, at, cols);
  cg_val fresh = cg_icmp(c, LLVMIntEQ, p->k0, p->segment), bias = cg_zeros(c);
  if (p->n_segments == 1 && p->bias) {
    cg_val final = cg_icmp(c, LLVMIntEQ, cg_add(c, p->k0, p->n), cg_i64(c, p->nb));
    bias = cg_select(c, final, cg_gep(c, c->f32, cg_in(p->k, 2), cg_add(c, p->j, col)), bias);
  }
  cg_val zero = cg_i64(c, 0), rs = cg_i64(c, p->n_segments == 1 ? p->stride : p->tile_cols);
  cg_val out = p->n_segments == 1 ? c_at(p, zero, to) : cg_gep(c, c->f32, p->sums, to);
  cg_val src = cg_select(c, fresh, cg_zeros(c), out), src_rs = cg_select(c, fresh, zero, rs);
  cg_val args[] = {p->n, p->a, p->b, p->work, out, rs, src, src_rs, bias, p->rows, cols};
  cg_shared_call(c, cg_mx_panel(c, &p->s), sizeof args / sizeof args[0], args);
}

static void emit_chunk(cg_product *p) {
  cg_ctx *c = p->k->c;
  if (p->share_a)
    p->a = shared_a(p, this_chunk(p));
  else
    decode_a(p, p->i, p->rows);
  cg_loop col, span;
  if (!p->span) {
    cg_loop_begin(c, &col, cg_i64(c, 0), p->cols, p->s.nr, 0, NULL);
    emit_panel(p, col.i, col.i);
    cg_loop_end(&col, NULL);
    return;
  }
  cg_loop_begin(c, &span, cg_i64(c, 0), p->cols, p->span, 0, NULL);
  cg_val end = cg_min(c, p->cols, cg_add(c, span.i, cg_i64(c, p->span)));
  cg_loop_begin(c, &col, span.i, end, p->s.nr, 0, NULL);
  emit_panel(p, col.i, p->again ? cg_sub(c, col.i, span.i) : col.i);
  cg_loop_end(&col, NULL);
  c->target->denormals_restore(c, p->saved);
  p->ready(p->user, span.i, cg_sub(c, end, span.i));
  c->target->denormals_keep(c);
  cg_loop_end(&span, NULL);
}

/* C = (first ? 0 : C) + sums, then + bias behind the last segment. */
static void add_segment(cg_product *p) {
  cg_ctx *c = p->k->c;
  cg_loop row, col;
  cg_val first = cg_icmp(c, LLVMIntEQ, p->segment, cg_i64(c, 0)), final = cg_icmp(c, LLVMIntEQ, p->last, cg_i64(c, p->nb));
  cg_loop_begin(c, &row, cg_i64(c, 0), p->rows, 1, 0, NULL);
  cg_loop_begin(c, &col, cg_i64(c, 0), p->cols, c->W, 0, NULL);
  cg_val left = cg_sub(c, p->cols, col.i), out = c_at(p, row.i, col.i);
  cg_val at = cg_gep(c, c->f32, p->sums, cg_add(c, cg_mul(c, row.i, cg_i64(c, p->tile_cols)), col.i));
  cg_val old = cg_load_n(c, out, cg_select(c, first, cg_i64(c, 0), left), cg_vf(c, 0));
  cg_val sum = cg_add(c, old, cg_load_n(c, at, left, cg_vf(c, 0)));
  if (p->bias) {
    cg_val bias = cg_gep(c, c->f32, cg_in(p->k, 2), cg_add(c, p->j, col.i));
    sum = cg_add(c, sum, cg_load_n(c, bias, cg_select(c, final, left, cg_i64(c, 0)), cg_vf(c, 0)));
  }
  cg_store_n(c, sum, out, left);
  cg_loop_end(&col, NULL);
  cg_loop_end(&row, NULL);
}

/* Blocks to decode at a time. A tile unit wants few chunks, as sums rest in memory between them, of equal length. */
static int64_t chunk_for(const cg_ctx *c, int64_t nb) {
  if (nb <= CHUNK_MAX) return (nb + 1) / 2 * 2;
  if (!c->target->tiles || nb > SEGMENT_BLOCKS) return CHUNK_LONG;
  int64_t n = (nb + CHUNK_MAX - 1) / CHUNK_MAX;
  return ((nb + n - 1) / n + 1) / 2 * 2;
}

/* An operand is shared if that pays: decoded, B is 1.4 and A 1.6 times as many bytes as it has elements, which must be read
 * from L2 or near it as fast as they are multiplied. From farther away, or for few tasks, decoding again is cheaper. */
enum { SHARERS = 12 };

/* Room for more rows of A than a short product has, so that its functions are those of the others: pages never touched cost
 * nothing. 256 are those of most products' tasks: cg_tile_product, emit_mx_fused.c. */
enum { MOST_ROWS = 256 };

/* The decoded form of `rows` rows of A and of all of B. */
static void decode_as(cg_product *p, const cg_node *x, int64_t rows) {
  p->s = cg_mx_shape_of(x->c, p->nb, chunk_for(x->c, p->nb), rows, cg_in_type(x, 0)->format, cg_in_type(x, 1)->format);
  p->l = cg_mx_layout_of(x->c, &p->s);
}

cg_product cg_product_of(const cg_node *x, int64_t rows, int64_t cols, bool bias) {
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1);
  const uint64_t most = 2 * (uint64_t)x->c->target->l2_bytes;
  cg_product p = {.M = a->dim[0], .N = b->dim[0], .nb = tt_mx_blocks(a->dim[1]), .bias = bias, .stride = b->dim[0]};
  p.tile_rows = rows, p.tile_cols = cols;
  p.n_segments = (p.nb + SEGMENT_BLOCKS - 1) / SEGMENT_BLOCKS;
  if (rows == p.M && ceil_div(p.N, cols) >= SHARERS) {
    decode_as(&p, x, rows); /* no more room than that: between chunks it would count as bytes that have to come from L2 */
    p.share_a = all_of_a(&p) <= most;
    if (p.share_a) return p;
  }
  decode_as(&p, x, rows < MOST_ROWS ? MOST_ROWS : rows);
  p.share_b = cols == p.N && ceil_div(p.M, rows) >= SHARERS && all_of_b(&p) <= most;
  return p;
}

static uint64_t sums_bytes(const cg_product *p) {
  return p->n_segments > 1 ? (uint64_t)(p->tile_rows * p->tile_cols) * sizeof(float) : 0;
}

static uint64_t own_a_bytes(const cg_product *p) { return p->share_a ? 0 : (uint64_t)p->l.a_bytes; }
static uint64_t own_b_bytes(const cg_product *p) { return p->share_b ? 0 : (uint64_t)p->l.b_bytes; }

uint64_t cg_product_scratch(const cg_product *p) {
  return (uint64_t)p->l.bytes + own_a_bytes(p) + own_b_bytes(p) + sums_bytes(p);
}

void cg_product_open(cg_product *p, cg_kernel *k, uint64_t scratch_at) {
  p->k = k;
  p->work = cg_scratch(k, scratch_at, (uint64_t)p->l.bytes), scratch_at += (uint64_t)p->l.bytes;
  if (!p->share_b) p->b = cg_scratch(k, scratch_at, own_b_bytes(p)), scratch_at += own_b_bytes(p);
  if (!p->share_a) p->a = cg_scratch(k, scratch_at, own_a_bytes(p)), scratch_at += own_a_bytes(p);
  if (p->n_segments > 1) p->sums = cg_scratch(k, scratch_at, sums_bytes(p));
}

/* Chunk number `chunk` becomes the one under way. */
static void set_chunk(cg_product *p, cg_val chunk) {
  cg_ctx *c = p->k->c;
  cg_val per_segment = cg_i64(c, chunks_of_segment(p));
  p->segment = cg_mul(c, cg_div(c, chunk, per_segment), cg_i64(c, SEGMENT_BLOCKS));
  p->last = cg_min(c, cg_add(c, p->segment, cg_i64(c, SEGMENT_BLOCKS)), cg_i64(c, p->nb));
  p->k0 = cg_add(c, p->segment, cg_mul(c, cg_rem(c, chunk, per_segment), cg_i64(c, p->s.chunk)));
  p->n = cg_min(c, cg_i64(c, p->s.chunk), cg_sub(c, p->last, p->k0));
}

/* A task is a chunk of all rows of A, or of some panels of B. */
static void decode_shared(cg_product *p) {
  cg_ctx *c = p->k->c;
  if (p->share_a) {
    set_chunk(p, p->k->task);
    p->a = shared_a(p, p->k->task);
    decode_a(p, cg_i64(c, 0), cg_i64(c, p->M));
    return;
  }
  cg_val groups = cg_i64(c, ceil_div(p->N, SHARED_COLUMNS)), chunk = cg_div(c, p->k->task, groups);
  cg_val begin = cg_mul(c, cg_rem(c, p->k->task, groups), cg_i64(c, SHARED_COLUMNS)), N = cg_i64(c, p->N);
  cg_loop col;
  set_chunk(p, chunk);
  cg_loop_begin(c, &col, begin, cg_min(c, N, cg_add(c, begin, cg_i64(c, SHARED_COLUMNS))), p->s.nr, 0, NULL);
  p->b = shared_b(p, chunk, col.i);
  decode_b(p, col.i, cg_min(c, cg_sub(c, N, col.i), cg_i64(c, p->s.nr)));
  cg_loop_end(&col, NULL);
}

void cg_product_launch(const cg_product *p, cg_node *x) {
  if (!p->share_a && !p->share_b) return;
  cg_kernel *k = cg_kernel_begin(x, "decode");
  if (k) {
    cg_product d = *p;
    d.k = k;
    decode_shared(&d);
    cg_kernel_end(k);
  }
  cg_launch(x, "decode", chunks_of(p) * (p->share_a ? 1 : ceil_div(p->N, SHARED_COLUMNS)));
}

bool cg_product_spans(const cg_product *p) { return p->s.chunk >= p->nb; }

void cg_product_tile(cg_product *p) {
  cg_ctx *c = p->k->c;
  TT_ASSERT(!p->span || cg_product_spans(p));
  p->saved = c->target->denormals_keep(c);
  if (c->target->tiles) c->target->tiles->configure(c);
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
  if (c->target->tiles) c->target->tiles->release(c);
  if (p->s.stream) c->target->past_caches_done(c);
  c->target->denormals_restore(c, p->saved);
}

static void emit_task(cg_product *p, const cg_tiling *t) {
  cg_ctx *c = p->k->c;
  cg_val row = cg_div(c, p->k->task, cg_i64(c, t->n_cols)), col = cg_rem(c, p->k->task, cg_i64(c, t->n_cols));
  p->i = cg_mul(c, row, cg_i64(c, t->rows)), p->j = cg_mul(c, col, cg_i64(c, t->cols));
  p->rows = cg_min(c, cg_i64(c, t->rows), cg_sub(c, cg_i64(c, p->M), p->i));
  p->cols = cg_min(c, cg_i64(c, t->cols), cg_sub(c, cg_i64(c, p->N), p->j));
  p->out = cg_gep(c, c->f32, cg_out(p->k, 0), cg_add(c, cg_mul(c, p->i, cg_i64(c, p->N)), p->j));
  cg_product_tile(p);
}

/* A C written once and far larger than L2 is not read into the caches to be written. On a tile unit this is worth a third of
 * the time at K = 192 (there a C of 4.9 MB is still worth it); the other kernels are slow enough to wait for their lines. */
static bool streams(const cg_ctx *c, const cg_product *p) {
  if (!c->target->tiles || !c->target->past_caches_done || p->s.chunk < p->nb) return false;
  return p->N * 4 % c->target->vector_bytes == 0 && p->M * p->N * 4 > 4 * c->target->l2_bytes;
}

/* Tasks are strips of all columns of a shared B, or else of all rows of a shared A; higher ones where there are many, and each
 * worth some 20 us. Where nothing is shared they are as square as can be, since each decodes what it multiplies. */
static cg_product product_in_tiles(const cg_node *x, cg_tiling *t) {
  enum { HIGH = 96, LOW = 48, WIDE = 64, MANY = 24, LEAST = 3000000 };
  const cg_target *target = x->c->target;
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1);
  bool bias = x->d->n_in > 2;
  int64_t M = a->dim[0], N = b->dim[0], K = a->dim[1], rows = ceil_div(M, HIGH) >= MANY ? HIGH : LOW;
  cg_product p = cg_product_of(x, rows, N, bias);
  *t = (cg_tiling){.rows = rows, .cols = N, .n_rows = ceil_div(M, rows), .n_cols = 1};
  if (rows * N * K >= LEAST && p.share_b) return p;
  p = cg_product_of(x, M, WIDE, bias);
  *t = (cg_tiling){.rows = M, .cols = WIDE, .n_rows = 1, .n_cols = ceil_div(N, WIDE)};
  if (M * WIDE * K >= LEAST && p.share_a) return p;
  *t = cg_tile_product(M, N, K / 3 + 1, 96, 96, target->tiles ? CG_MX_TALL : 2 * target->mx_rows);
  p = cg_product_of(x, t->rows, t->cols, bias);
  p.share_a = p.share_b = false; /* not worth a launch, also where these tiles happen to be strips */
  return p;
}

bool cg_emit_mx_gemm(cg_node *x) {
  const tt_type *a = cg_in_type(x, 0), *b = cg_in_type(x, 1);
  TT_ASSERT(a->dtype == TT_MX && b->dtype == TT_MX);
  if (a->format == TT_INT4) return cg_int4_gemm(x);
  cg_tiling t;
  cg_product p = product_in_tiles(x, &t);
  p.s.stream = streams(x->c, &p);
  cg_product_launch(&p, x);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_product_open(&p, k, 0);
    emit_task(&p, &t);
    cg_kernel_end(k);
  }
  cg_launch(x, "", t.n_rows * t.n_cols);
  return true;
}
