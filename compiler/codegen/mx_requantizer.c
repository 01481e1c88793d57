/* See mx_requantizer.h. E2M1's magnitudes are 1 or 1.5 times a power of two, so the logarithm of a value is a small
 * integer, its order: 2 for every binade, 1 for the half above, and adding to it scales. With `order` counted from a
 * column's scale, 0 is 0.5 and from 2 (which is 1) to 7 (6) it is the code itself; 1 would be 0.75. Everything is a
 * function of it:
 *
 *   largest of a column   largest order; the scale puts it at 6 or 7, by either rule
 *   to nearest            1 -> 2 (a tie, to the even code), 0 and -1 -> 1, below -> 0 (-2 is the tie)
 *   stochastic            1: half a step above code 1; -1, -2, -3 ..: 3/4, 1/2, 3/8 .. of a step above 0; the others lie on
 *                         the grid. Of the 16 random bits the upper byte decides down to order -13, below which a fraction
 *                         needs more than a byte.
 *
 * Orders are bytes relative to the largest scale of the 32 x 32 block: 248 + order - 2 * (largest - scale), saturated at 0,
 * which is what a zero has. Blocks of scales so far apart that this could matter, NaN among them, are refused.
 *
 * Vectors are 64 bytes whatever the target has. First rows lie across lanes: 16 bytes (32 columns) a lane, so that a
 * column's maximum takes no exchange. Lanes are then transposed, 16 x 16 bytes, which gives for every byte of the source,
 * two columns, its 32 rows side by side: the order in which they share random words and leave as packed codes. */
#include "compiler/codegen/mx_requantizer.h"

enum {
  TURNED = 0,             /* u8 [2][16][32]: block, byte of the row, row */
  SCALES = TURNED + 1024, /* u8 [32][2], as they are read */
  STEPS = SCALES + 64,    /* u8 [2][64]: what is taken off a code's order: block, row, twice */
  ORIGINS = STEPS + 128,  /* u8 [64]: order that is column j's -1 (stochastic) or -2 (nearest) */
  RESULTS = ORIGINS + 64, /* u8 [64]: column j's scale */
  TOP = 248,
  N = 64,
  LEAST_SCALE = 64,
  LAST_SCALE = 250 /* largest scales of a block between which results are far from clamping and infinity */
};

bool cg_requantizer_fits(cg_ctx *c, const tt_type *from, tt_qspec q) {
  bool formats = from->format == TT_E2M1 && q.format == TT_E2M1 && q.rounding != TT_EMA;
  return formats && c->target->lookup && tt_mx_blocks(from->dim[1]) >= 2 && from->dim[1] % 2 == 0;
}

static cg_val shuffle(cg_ctx *c, cg_val a, cg_val b, const int *index, int n) {
  cg_val lanes[N];
  for (int i = 0; i < n; i++) lanes[i] = cg_i32(c, index[i]);
  return LLVMBuildShuffleVector(c->b, a, b, LLVMConstVector(lanes, (unsigned)n), "");
}

static cg_val part(cg_ctx *c, cg_val v, int first, int n) {
  int index[N];
  for (int i = 0; i < N; i++) index[i] = first + i;
  return shuffle(c, v, v, index, n);
}

static cg_val join(cg_ctx *c, cg_val a, cg_val b) {
  int index[N];
  for (int i = 0; i < N; i++) index[i] = i;
  return shuffle(c, a, b, index, 2 * (int)LLVMGetVectorSize(LLVMTypeOf(a)));
}

/* 16-byte lanes 1 and 2 exchanged. */
static cg_val swap_middle(cg_ctx *c, cg_val v) {
  int index[N];
  for (int i = 0; i < N; i++) index[i] = i % 16 + 16 * (i / 16 == 1 ? 2 : i / 16 == 2 ? 1 : i / 16);
  return shuffle(c, v, v, index, N);
}

static cg_val bytes(cg_ctx *c, int x, int n) { return cg_splat(c, LLVMConstInt(c->i8, (unsigned)x & 255, false), n); }

/* llvm.<name> of two vectors of bytes: usub.sat, uadd.sat, umax. */
static cg_val of_two(cg_ctx *c, const char *name, cg_val a, cg_val b) {
  char full[48];
  snprintf(full, sizeof full, "llvm.%s.v%ui8", name, LLVMGetVectorSize(LLVMTypeOf(a)));
  cg_val args[2] = {a, b};
  return cg_call(c, full, LLVMTypeOf(a), 2, args);
}
static cg_val less(cg_ctx *c, cg_val a, cg_val b) { return of_two(c, "usub.sat", a, b); }

typedef cg_val lookup_fn(cg_ctx *c, const int8_t *table, cg_val index);
/* One of the target's lookups, as often as 64 bytes take. */
static cg_val lookup(cg_ctx *c, lookup_fn *by, const int8_t *table, cg_val index) {
  int n = (int)LLVMGetVectorSize(LLVMTypeOf(index));
  if (n == c->target->vector_bytes) return by(c, table, index);
  return join(c, lookup(c, by, table, part(c, index, 0, n / 2)), lookup(c, by, table, part(c, index, n / 2, n / 2)));
}

static cg_val any(cg_ctx *c, cg_val mask) {
  cg_val word = cg_bits(c, mask, c->i64);
  return cg_icmp(c, LLVMIntNE, word, cg_i64(c, 0));
}

/* Row i's blocks, or scales, from `base` on. What the next tile will read is asked for: rows are too far apart for the
 * hardware to see what comes. */
static cg_val source_row(const cg_requantizer *r, cg_val base, int i, int64_t bytes_a_block) {
  cg_ctx *c = r->z->c;
  int64_t nk = tt_mx_blocks(r->from->dim[1]);
  cg_val p = NULL;
  for (int next = 1; next >= 0; next--) {
    cg_val at =
        cg_add(c, cg_mul(c, next ? r->next_block : r->block, cg_i64(c, TT_MX_BLOCK * nk)), next ? r->next_first : r->first);
    p = cg_gep_bytes(c, base, cg_mul(c, at, cg_i64(c, bytes_a_block)));
    p = cg_addr(c, c->i8, p, i * nk * bytes_a_block);
    if (next) cg_prefetch(c, p);
  }
  return r->rows ? cg_select(c, cg_icmp(c, LLVMIntSLT, cg_i64(c, i), r->rows), p, cg_zeros(c)) : p;
}

/* Scales of both blocks: [2][32] bytes. */
static cg_val gather_scales(const cg_requantizer *r) {
  cg_ctx *c = r->z->c;
  cg_val base = cg_addr(c, c->i8, r->z->x, (int64_t)tt_mx_scale_offset(r->from));
  cg_val to = cg_addr(c, c->i8, r->scratch, SCALES);
  int index[N];
  for (int i = 0; i < TT_MX_BLOCK; i++)
    cg_store(c, cg_load(c, c->i16, source_row(r, base, i, 1), 1), cg_addr(c, c->i16, to, i), 2);
  cg_val pairs = cg_load(c, cg_vec(c, c->i8, N), to, 64);
  for (int i = 0; i < N; i++) index[i] = i % 32 * 2 + i / 32;
  return shuffle(c, pairs, pairs, index, N);
}

/* The largest scale of each block in all of its bytes. */
static cg_val largest_scales(cg_ctx *c, cg_val scales) {
  cg_val max[2];
  for (int b = 0; b < 2; b++) {
    cg_val half = part(c, scales, 32 * b, 32);
    max[b] = cg_splat(c, cg_call(c, "llvm.vector.reduce.umax.v32i8", c->i8, 1, &half), 32);
  }
  return join(c, max[0], max[1]);
}

/* What is taken off orders: 2 * (largest - scale); all of them where results would clamp. */
static cg_val row_steps(cg_ctx *c, cg_val scales, cg_val largest) {
  cg_val below = cg_sub(c, largest, scales), twice = of_two(c, "uadd.sat", below, below);
  cg_val from = cg_sub(c, largest, bytes(c, LEAST_SCALE, N));
  cg_val good = cg_icmp(c, LLVMIntULE, from, bytes(c, LAST_SCALE - LEAST_SCALE, N));
  return cg_select(c, good, twice, bytes(c, 255, N));
}

typedef struct columns {
  cg_val max,
      any; /* of 32 bytes of a row (2 blocks): even columns' and odd columns' orders one after the other; codes or-ed */
} columns;

static cg_val order_of(cg_ctx *c, cg_val codes, cg_val step) {
  static const int8_t orders[16] = {0, -8, -6, -5, -4, -3, -2, -1, 0, -8, -6, -5, -4, -3, -2, -1}; /* TOP + order, as u8 */
  return less(c, lookup(c, c->target->lookup, orders, codes), step);
}

/* Loads the rows, i and 16 + i together: lanes [row i, blocks 0, 1; row 16 + i, blocks 0, 1]. */
static void load_rows(const cg_requantizer *r, cg_val *x) {
  cg_ctx *c = r->z->c;
  for (int i = 0; i < 16; i++) {
    cg_val half[2];
    for (int h = 0; h < 2; h++)
      half[h] = cg_load(c, cg_vec(c, c->i8, 32), source_row(r, r->z->x, 16 * h + i, TT_MX_BLOCK / 2), 1);
    x[i] = join(c, half[0], half[1]);
  }
}

static cg_val combine(cg_ctx *c, cg_val v, cg_val (*op)(cg_ctx *, cg_val, cg_val)) {
  return op(c, part(c, v, 0, 32), part(c, v, 32, 32));
}
static cg_val larger(cg_ctx *c, cg_val a, cg_val b) { return of_two(c, "umax", a, b); }

/* Even and odd columns' bytes in the order of columns. */
static cg_val by_column(cg_ctx *c, cg_val even, cg_val odd) {
  int index[N];
  for (int i = 0; i < N; i++) index[i] = i / 2 + i % 2 * 32;
  return shuffle(c, even, odd, index, N);
}

/* Column by column: the largest order, and whether any code but 0 is there (not 0). */
static columns scan_rows(cg_ctx *c, const cg_val *x, cg_val steps) {
  cg_val max[2] = {bytes(c, 0, N), bytes(c, 0, N)}, all = bytes(c, 0, N), low = bytes(c, 15, N);
  steps = swap_middle(c, steps);
  for (int i = 0; i < 16; i++) {
    int index[N];
    for (int j = 0; j < N; j++) index[j] = j / 16 * 16 + i;
    cg_val step = shuffle(c, steps, steps, index, N), high = cg_shr(c, x[i], bytes(c, 4, N));
    max[0] = larger(c, max[0], order_of(c, cg_and(c, x[i], low), step));
    max[1] = larger(c, max[1], order_of(c, high, step));
    all = cg_or(c, all, x[i]);
  }
  all = combine(c, all, cg_or);
  return (columns){.max = by_column(c, combine(c, max[0], larger), combine(c, max[1], larger)),
                   .any = by_column(c, cg_and(c, all, bytes(c, 7, 32)), cg_and(c, all, bytes(c, 0x70, 32)))};
}

/* 16 x 16 bytes in every lane: rotating the 8 bits of an element's place by one, four times. */
static void transpose(cg_ctx *c, cg_val *x) {
  for (int stage = 0; stage < 4; stage++) {
    cg_val y[16];
    for (int i = 0; i < 16; i++) {
      int index[N];
      for (int j = 0; j < N; j++) index[j] = j / 16 * 16 + i % 2 * 8 + j % 16 / 2 + j % 2 * N;
      y[i] = shuffle(c, x[i / 2], x[i / 2 + 8], index, N);
    }
    for (int i = 0; i < 16; i++) x[i] = y[i];
  }
}

static void store_turned(const cg_requantizer *r, cg_val *x) {
  cg_ctx *c = r->z->c;
  cg_val to = cg_addr(c, c->i8, r->scratch, TURNED);
  transpose(c, x);
  for (int i = 0; i < 16; i++) {
    cg_val v = swap_middle(c, x[i]);
    for (int b = 0; b < 2; b++) cg_store(c, part(c, v, 32 * b, 32), cg_addr(c, c->i8, to, 512 * b + 32 * i), 32);
  }
}

cg_val cg_requantize_scan(cg_requantizer *r) {
  cg_ctx *c = r->z->c;
  bool stochastic = r->z->q.rounding == TT_STOCHASTIC;
  cg_val scales = gather_scales(r), largest = largest_scales(c, scales), steps = row_steps(c, scales, largest), x[16];
  cg_val far = cg_and(c, cg_icmp(c, LLVMIntUGT, steps, bytes(c, stochastic ? 12 : 64, N)),
                      cg_icmp(c, LLVMIntNE, scales, bytes(c, 0, N)));
  load_rows(r, x);
  columns all = scan_rows(c, x, steps);
  store_turned(r, x);
  /* A zero block's scale is 0, so that it is not counted as far; should it hold anything, that must not be the largest. */
  cg_val none = cg_icmp(c, LLVMIntULT, all.max, bytes(c, 128, N));
  cg_val lost = cg_and(c, none, cg_icmp(c, LLVMIntNE, all.any, bytes(c, 0, N)));
  cg_val half = cg_shr(c, all.max, bytes(c, 1, N));
  cg_val scale = cg_sub(c, cg_add(c, largest, half), bytes(c, TOP / 2 + 3, N));
  cg_val origin = cg_sub(c, cg_and(c, all.max, bytes(c, 254, N)), bytes(c, stochastic ? 7 : 8, N));
  cg_store(c, origin, cg_addr(c, c->i8, r->scratch, ORIGINS), 64);
  cg_store(c, cg_select(c, none, bytes(c, 0, N), scale), cg_addr(c, c->i8, r->scratch, RESULTS), 64);
  for (int b = 0; b < 2; b++) {
    int index[N];
    for (int i = 0; i < N; i++) index[i] = 32 * b + i / 2;
    cg_store(c, shuffle(c, steps, steps, index, N), cg_addr(c, c->i8, r->scratch, STEPS + N * b), 64);
  }
  return any(c, cg_or(c, far, lost));
}

/* 16 words from counter `first` on, a multiple of 16, as 16-bit numbers of 32 elements. */
static cg_val random_words(const cg_quantizer *z, cg_val first) {
  cg_ctx *c = z->c;
  cg_val v[4];
  int n = 16 / c->W;
  for (int i = 0; i < n; i++) v[i] = cg_rng_end(c, cg_rng_begin(c, z->key, first, i * c->W));
  for (; n > 1; n /= 2)
    for (int i = 0; i < n / 2; i++) v[i] = join(c, v[2 * i], v[2 * i + 1]);
  return cg_bits(c, v[0], cg_vec(c, c->i16, 32));
}

/* Magnitudes, stochastic.. */
static cg_val stochastic_codes(const cg_requantizer *r, cg_val orders, cg_val origin, cg_val block) {
  static const int8_t codes[16] = {0, 1, 1, 2, 3, 4, 5, 6, 7};
  /* Upper byte of the fraction of a step, by 2 - order. */
  static const int8_t fractions[16] = {0, -128, 0, -64, -128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3};
  const cg_quantizer *z = r->z;
  cg_ctx *c = z->c;
  cg_val first = LLVMBuildTrunc(c->b, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)), c->i32, "");
  cg_val even = random_words(z, first), odd = random_words(z, cg_add(c, first, cg_i32(c, z->nb * (TT_MX_BLOCK / 2))));
  cg_val upper = cg_splat(c, LLVMConstInt(c->i16, 0xff00, false), 32),
         eight = cg_splat(c, LLVMConstInt(c->i16, 8, false), 32);
  cg_val random = cg_bits(c, cg_or(c, cg_shr(c, even, eight), cg_and(c, odd, upper)), cg_vec(c, c->i8, N));
  cg_val down = less(c, cg_add(c, origin, bytes(c, 3, N)), orders);
  cg_val fraction = lookup(c, c->target->lookup_or_zero, fractions, down);
  cg_val up = cg_icmp(c, LLVMIntUGT, fraction, LLVMBuildNot(c->b, random, ""));
  cg_val code = lookup(c, c->target->lookup, codes, less(c, orders, origin));
  return cg_add(c, code, LLVMBuildZExt(c->b, up, LLVMTypeOf(code), ""));
}

static cg_val nearest_codes(cg_ctx *c, cg_val orders, cg_val origin) {
  static const int8_t codes[16] = {0, 1, 1, 2, 2, 3, 4, 5, 6, 7};
  return lookup(c, c->target->lookup, codes, less(c, orders, origin));
}

/* Bytes [row][even column, odd column] of codes, packed: 16 bytes of each column. */
static cg_val pack(cg_ctx *c, cg_val codes) {
  int index[32];
  cg_val pairs = cg_bits(c, codes, cg_vec(c, c->i32, 16));
  pairs = cg_bits(c, cg_or(c, pairs, cg_shr(c, pairs, cg_splat(c, cg_i32(c, 12), 16))), LLVMTypeOf(codes));
  for (int i = 0; i < 32; i++) index[i] = i % 16 * 4 + i / 16;
  return shuffle(c, pairs, pairs, index, 32);
}

/* The lines that the next run of four blocks will write are asked for meanwhile: a fourth of the columns in each of these four,
 * since a core waits for no more than a dozen lines at a time. A column's 64 bytes may lie in two lines: where the first
 * column's begin and end, of source block b. Two pairs of columns later it is the next column's turn. */
static void first_results(const cg_requantizer *r, cg_val b, cg_val *line) {
  const cg_quantizer *z = r->z;
  cg_ctx *c = z->c;
  cg_val three = cg_i64(c, 3), quarter = cg_mul(c, cg_and(c, r->block, three), cg_i64(c, 16));
  cg_val col = cg_add(c, cg_mul(c, r->first, cg_i64(c, TT_MX_BLOCK)), cg_add(c, quarter, cg_mul(c, b, cg_i64(c, 8))));
  cg_val block = cg_add(c, cg_mul(c, col, cg_i64(c, z->nb)), cg_add(c, cg_or(c, r->block, three), cg_i64(c, 1)));
  line[0] = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2)));
  line[1] = cg_addr(c, c->i8, line[0], N - 1);
}

/* Columns 2 i and 2 i + 1 of source block b of the two. */
static void two_columns(const cg_requantizer *r, cg_val b, cg_val i, cg_val steps, cg_val line) {
  const cg_quantizer *z = r->z;
  cg_ctx *c = z->c;
  cg_type half = cg_vec(c, c->i8, 32), words = cg_vec(c, c->i16, 32), all = cg_vec(c, c->i8, N);
  cg_val pair = cg_add(c, cg_mul(c, b, cg_i64(c, 16)), i), four = cg_splat(c, LLVMConstInt(c->i16, 4, false), 32);
  cg_val from = cg_gep_bytes(c, cg_addr(c, c->i8, r->scratch, TURNED), cg_mul(c, pair, cg_i64(c, 32)));
  cg_val packed = LLVMBuildZExt(c->b, cg_load(c, half, from, 32), words, "");
  cg_val spread = cg_bits(c, cg_or(c, packed, cg_shl(c, packed, four)), all), x = cg_and(c, spread, bytes(c, 15, N));
  cg_val origin = cg_load(c, c->i16, cg_gep(c, c->i16, cg_addr(c, c->i8, r->scratch, ORIGINS), pair), 2);
  cg_val results = cg_gep(c, c->i16, cg_addr(c, c->i8, r->scratch, RESULTS), pair);
  origin = cg_bits(c, cg_splat(c, origin, 32), all);

  cg_val col = cg_add(c, cg_mul(c, cg_add(c, r->first, b), cg_i64(c, TT_MX_BLOCK)), cg_mul(c, i, cg_i64(c, 2)));
  cg_val block = cg_add(c, cg_mul(c, col, cg_i64(c, z->nb)), r->block), orders = order_of(c, x, steps);
  cg_val codes = z->key ? stochastic_codes(r, orders, origin, block) : nearest_codes(c, orders, origin);
  cg_prefetch_write(c, line);
  codes = pack(c, cg_or(c, codes, cg_and(c, spread, bytes(c, 8, N))));
  cg_val to = cg_gep_bytes(c, z->codes, cg_mul(c, block, cg_i64(c, TT_MX_BLOCK / 2))),
         scales = cg_gep_bytes(c, z->scales, block);
  for (int h = 0; h < 2; h++) {
    cg_store(c, part(c, codes, 16 * h, 16), cg_addr(c, c->i8, to, h * z->nb * (TT_MX_BLOCK / 2)), 16);
    cg_store(c, cg_load(c, c->i8, cg_addr(c, c->i8, results, h), 1), cg_addr(c, c->i8, scales, h * z->nb), 1);
  }
}

void cg_requantize_columns(const cg_requantizer *r) {
  cg_ctx *c = r->z->c;
  cg_loop b, i;
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, 2), 1, 0, NULL);
  cg_val at = cg_gep_bytes(c, cg_addr(c, c->i8, r->scratch, STEPS), cg_mul(c, b.i, cg_i64(c, N)));
  cg_val steps = cg_load(c, cg_vec(c, c->i8, N), at, 64), pairs = cg_i64(c, 16);
  if (r->from->dim[1] % TT_MX_BLOCK) {
    cg_val left = cg_sub(c, cg_i64(c, r->from->dim[1] / 2), cg_mul(c, cg_add(c, r->first, b.i), cg_i64(c, 16)));
    pairs = cg_min(c, pairs, left);
  }
  cg_val line[2];
  first_results(r, b.i, line);
  cg_loop_begin(c, &i, cg_i64(c, 0), pairs, 1, 2, line);
  two_columns(r, b.i, i.i, steps, i.carry[0]);
  cg_val next[2] = {i.carry[1], cg_addr(c, c->i8, i.carry[0], r->z->nb * (TT_MX_BLOCK / 2))};
  cg_loop_end(&i, next);
  cg_loop_end(&b, NULL);
}
