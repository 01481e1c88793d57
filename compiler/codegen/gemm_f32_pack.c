/* Packing of float32 products' operands into panels; see gemm_f32.h. */
#include "compiler/codegen/gemm_f32.h"
#include <stdio.h>

static bool pack_begin(cg_ctx *c, cg_shared *s, const char *kind, int width) {
  char name[64];
  snprintf(name, sizeof name, "cg.pack.%s%d", kind, width);
  cg_type types[CG_PACK_COUNT] = {c->ptr, c->i64, c->i64, c->i64, c->ptr, c->i64};
  return cg_shared_begin(c, s, name, CG_PACK_COUNT, types);
}

/* `count` (NULL: width) floats from src to dst, zeros behind them up to width. */
static void copy_panel_row(cg_ctx *c, int width, cg_val src, cg_val dst, cg_val count) {
  for (int j = 0; j < width; j += c->W) {
    cg_val room = cg_i64(c, width - j), left = count ? cg_min(c, cg_sub(c, count, cg_i64(c, j)), room) : room;
    cg_val x = cg_load_n(c, cg_addr(c, c->f32, src, j), left, cg_vf(c, 0));
    cg_store_n(c, x, cg_addr(c, c->f32, dst, j), room);
  }
}

/* src(k, j) at src + k*stride + j: whole rows are read one after the other, as far as they go, so that the hardware's
 * prefetch and the TLB see one stream; the next rows are asked for by hand, since a stride may leave the page. */
cg_val cg_f32_pack_rows(cg_ctx *c, int width) {
  enum { AHEAD = 8 };
  cg_shared s;
  if (!pack_begin(c, &s, "rows", width)) return s.fn;
  cg_val used = cg_shared_arg(&s, CG_PACK_COUNT_USED), apart = cg_shared_arg(&s, CG_PACK_APART);
  cg_val rest = cg_rem(c, used, cg_i64(c, width)), whole = cg_sub(c, used, rest);
  cg_loop l, panel;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_shared_arg(&s, CG_PACK_KC), 1, 0, NULL);
  cg_val row = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_SRC), cg_mul(c, l.i, cg_shared_arg(&s, CG_PACK_STRIDE)));
  cg_val to = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_DST), cg_mul(c, l.i, cg_i64(c, width)));
  cg_val next = cg_gep(c, c->f32, row, cg_mul(c, cg_shared_arg(&s, CG_PACK_STRIDE), cg_i64(c, AHEAD)));
  cg_loop_begin(c, &panel, cg_i64(c, 0), whole, width, 1, &to);
  for (int j = 0; j < width; j += 16) cg_prefetch(c, cg_addr(c, c->f32, cg_gep(c, c->f32, next, panel.i), j));
  copy_panel_row(c, width, cg_gep(c, c->f32, row, panel.i), panel.carry[0], NULL);
  to = cg_gep(c, c->f32, panel.carry[0], apart);
  cg_loop_end(&panel, &to);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGT, rest, cg_i64(c, 0)));
  copy_panel_row(c, width, cg_gep(c, c->f32, row, whole), panel.carry[0], rest);
  cg_if_end(&f);
  cg_loop_end(&l, NULL);
  cg_shared_end(&s);
  return s.fn;
}

/* Exactly `width` floats, in vectors of 2, 4, .. W: a masked store that reaches into the next line is slow. */
static void copy_strip_row(cg_ctx *c, int width, cg_val src, cg_val dst) {
  for (int j = 0, n = c->W; j < width; j += n) {
    while (n > width - j) n /= 2;
    cg_val x = cg_load(c, LLVMVectorType(c->f32, (unsigned)n), cg_addr(c, c->f32, src, j), 4);
    cg_store(c, x, cg_addr(c, c->f32, dst, j), 4);
  }
}

/* The same rows, exactly `strips` of width, with no loop over them: a group of strips is few lines wide, and asked for by the
 * product before. */
cg_val cg_f32_pack_group(cg_ctx *c, int width, int strips) {
  char kind[32];
  snprintf(kind, sizeof kind, "group%d.", strips);
  cg_shared s;
  if (!pack_begin(c, &s, kind, width)) return s.fn;
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_shared_arg(&s, CG_PACK_KC), 1, 0, NULL);
  cg_val row = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_SRC), cg_mul(c, l.i, cg_shared_arg(&s, CG_PACK_STRIDE)));
  cg_val to = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_DST), cg_mul(c, l.i, cg_i64(c, width)));
  for (int i = 0; i < strips; i++) {
    copy_strip_row(c, width, cg_addr(c, c->f32, row, (int64_t)i * width), to);
    to = cg_gep(c, c->f32, to, cg_shared_arg(&s, CG_PACK_APART));
  }
  cg_loop_end(&l, NULL);
  cg_shared_end(&s);
  return s.fn;
}

/* src(k, j) at src + j*stride + k: blocks of W x W are transposed in registers. dst has room for kc rounded up to W. */
cg_val cg_f32_pack_cols(cg_ctx *c, int width) {
  cg_shared s;
  if (!pack_begin(c, &s, "cols", width)) return s.fn;
  cg_val used = cg_shared_arg(&s, CG_PACK_COUNT_USED);
  cg_loop k, j;
  cg_loop_begin(c, &k, cg_i64(c, 0), cg_shared_arg(&s, CG_PACK_KC), c->W, 0, NULL);
  cg_val k_left = cg_sub(c, cg_shared_arg(&s, CG_PACK_KC), k.i);
  cg_loop_begin(c, &j, cg_i64(c, 0), cg_i64(c, width), c->W, 0, NULL);
  cg_val rows[64];
  for (int i = 0; i < c->W; i++) {
    cg_val col = cg_add(c, j.i, cg_i64(c, i));
    cg_val live = cg_icmp(c, LLVMIntSLT, col, used);
    cg_val at = cg_add(c, cg_mul(c, col, cg_shared_arg(&s, CG_PACK_STRIDE)), k.i);
    cg_val src = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_SRC), at);
    rows[i] = cg_load_n(c, src, cg_select(c, live, k_left, cg_i64(c, 0)), cg_vf(c, 0));
  }
  cg_transpose(c, rows, c->W);
  cg_val dst = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_DST), cg_add(c, cg_mul(c, k.i, cg_i64(c, width)), j.i));
  for (int i = 0; i < c->W; i++) cg_store(c, rows[i], cg_addr(c, c->f32, dst, (int64_t)i * width), 4);
  cg_loop_end(&j, NULL);
  cg_loop_end(&k, NULL);
  cg_shared_end(&s);
  return s.fn;
}

/* The same for an incomplete tile of A, whose width is no multiple of W: element by element, it is one tile of many. */
cg_val cg_f32_pack_tail(cg_ctx *c, int width) {
  cg_shared s;
  if (!pack_begin(c, &s, "tail", width)) return s.fn;
  cg_val used = cg_shared_arg(&s, CG_PACK_COUNT_USED);
  cg_loop k;
  cg_loop_begin(c, &k, cg_i64(c, 0), cg_shared_arg(&s, CG_PACK_KC), 1, 0, NULL);
  for (int j = 0; j < width; j++) {
    cg_val live = cg_icmp(c, LLVMIntSLT, cg_i64(c, j), used);
    cg_val row = cg_select(c, live, cg_mul(c, cg_i64(c, j), cg_shared_arg(&s, CG_PACK_STRIDE)), cg_i64(c, 0));
    cg_val x = cg_load(c, c->f32, cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_SRC), cg_add(c, row, k.i)), 4);
    cg_val dst = cg_gep(c, c->f32, cg_shared_arg(&s, CG_PACK_DST), cg_add(c, cg_mul(c, k.i, cg_i64(c, width)), cg_i64(c, j)));
    cg_store(c, cg_select(c, live, x, cg_f32(c, 0)), dst, 4);
  }
  cg_loop_end(&k, NULL);
  cg_shared_end(&s);
  return s.fn;
}
