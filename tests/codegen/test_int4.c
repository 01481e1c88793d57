/* Per-tensor INT4: generated code equals the scalar reference bit for bit, whatever the shape, the values and the threads.
 */
#include <math.h>
#include <string.h>
#include "compiler/ir/int4.h"
#include "compiler/ir/mx.h"
#include "jit_case.h"

enum { SEED = 5, STEP = 11, TENSOR = 77 };

static float latent_value(uint32_t *r, float step) {
  float x = (float)((int)(jit_random(r) & 0xffffff) - 0x800000) / 0x800000 * 7 * step;
  if (jit_random(r) % 4 == 0) x = (float)((int)(jit_random(r) % 29) - 14) / 2 * step; /* the grid and its ties */
  return jit_random(r) % 16 ? x : copysignf(x / 1024, x);
}

static void check_quantize(tt_rounding rounding, bool across, int64_t rows, int64_t cols, float step, const char *target) {
  tt_arena *arena = tt_arena_create();
  uint32_t r = 3;
  float *x = TT_NEW_N(arena, float, rows *cols);
  for (int64_t i = 0; i < rows * cols; i++) x[i] = latent_value(&r, step);
  tt_type types[2] = {tt_type_make(TT_F32, 2, (int64_t[]){rows, cols}), tt_type_make(TT_I64, 1, (int64_t[]){2})};
  tt_tensor in[2] = {tt_tensor_from_bytes(arena, types[0], x),
                     tt_tensor_from_bytes(arena, types[1], (int64_t[]){SEED, STEP})};
  tt_qspec q = {true, TT_INT4, TT_SCALE_TENSOR, (uint8_t)rounding, TT_DIRECT};
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TRANSPOSED, across), tt_attr_int(TT_A_TENSOR, TENSOR)};
  jit_case t = jit_case_next(TT_OP_MX_QUANTIZE, rounding == TT_NEAREST ? 1 : 2, types, 3, attrs, target);
  uint8_t *want = tt_arena_alloc(arena, tt_type_bytes(&t.type));
  tt_mx_quantize(q, across ? cols : rows, across ? rows : cols, x, across ? 1 : cols, across ? cols : 1, NULL,
                 tt_rng_key(SEED, STEP, TENSOR), want);
  for (int threads = 1; t.jit && threads <= 3; threads += 2) {
    tt_tensor got = jit_case_run(&t, in, threads);
    if (memcmp(got.mx, want, tt_type_bytes(&t.type)) != 0)
      fail_msg("[%lld,%lld]%s rounding %d step %a on %s: not the reference's bytes", (long long)rows, (long long)cols,
               across ? " across" : "", rounding, (double)step, target);
  }
  jit_case_close(&t);
  tt_arena_destroy(arena);
}

static void quantizers(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{1, 1}, {1, 32}, {33, 1}, {31, 31}, {200, 96}, {1000, 17}, {260, 300}};
  static const float steps[] = {1, 0.3f, 0x1p-130f, 0x1p-126f, 4e37f};
  for (const char *const *target = jit_targets(); *target; target++)
    for (unsigned i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++)
      check_quantize(i & 1 ? TT_STOCHASTIC : TT_NEAREST, i & 2, shapes[i / 4][0], shapes[i / 4][1], steps[i % 5], *target);
}

/* Five million values in each way of rounding. */
static void many_values(void **state) {
  (void)state;
  for (const char *const *target = jit_targets(); *target; target++)
    for (int i = 0; i < 2; i++) check_quantize(i ? TT_STOCHASTIC : TT_NEAREST, i, 5000, 1000, 0.07f, *target);
}

typedef struct gemm_case {
  int M, N, K, bias;
  bool saturated; /* all codes of A are -7, all of B 7: the largest sums */
} gemm_case;

static uint8_t *random_codes(tt_arena *arena, const tt_type *type, int fixed, uint32_t *r) {
  uint8_t *q = tt_arena_alloc(arena, tt_type_bytes(type));
  int64_t K = type->dim[1], row = tt_mx_blocks(K) * 32;
  for (int64_t i = 0; i < type->dim[0] * K; i++) {
    int64_t e = i / K * row + i % K;
    unsigned code = (unsigned)(fixed ? fixed : (int)(jit_random(r) % 15) - 7) & 15;
    q[e / 2] |= (uint8_t)(code << 4 * (e & 1));
  }
  float scale = 0.001f + (float)(jit_random(r) % 1000) / 999;
  memcpy(q + tt_mx_scale_offset(type), &scale, sizeof scale);
  return q;
}

static void check_gemm(const gemm_case *s, const char *target) {
  uint32_t r = 7;
  tt_type types[3] = {tt_type_mx(TT_INT4, s->M, s->K), tt_type_mx(TT_INT4, s->N, s->K),
                      tt_type_make(TT_F32, 1, (int64_t[]){s->N})};
  jit_case t = jit_case_next(TT_OP_MX_GEMM, 2 + s->bias, types, 0, NULL, target);
  float *bias = TT_NEW_N(t.arena, float, s->N), *want = TT_NEW_N(t.arena, float, s->M * s->N);
  tt_tensor in[3];
  for (int i = 0; i < s->N; i++) bias[i] = (float)(jit_random(&r) % 1000) / 7;
  for (int i = 0; i < 2; i++)
    in[i] = (tt_tensor){.type = types[i], .mx = random_codes(t.arena, &types[i], s->saturated ? (i ? 7 : -7) : 0, &r)};
  in[2] = tt_tensor_from_bytes(t.arena, types[2], bias);
  tt_mx_gemm(&types[0], in[0].mx, &types[1], in[1].mx, s->bias ? bias : NULL, want);
  for (int threads = 1; t.jit && threads <= 3; threads++) {
    tt_tensor got = jit_case_run(&t, in, threads);
    for (int i = 0; i < s->M * s->N; i++)
      if ((float)got.d[i] != want[i])
        fail_msg("%dx%dx%d on %s: [%d,%d] is %a, expected %a", s->M, s->N, s->K, target, i / s->N, i % s->N, got.d[i],
                 (double)want[i]);
  }
  jit_case_close(&t);
}

static void products(void **state) {
  (void)state;
  static const gemm_case cases[] = {
      {.M = 1, .N = 1, .K = 1},
      {.M = 1, .N = 1, .K = 32},
      {.M = 7, .N = 40, .K = 65, .bias = 1},
      {.M = 64, .N = 33, .K = 768},
      {.M = 13, .N = 33, .K = 4096},
      {.M = 13, .N = 35, .K = 770, .bias = 1},
      {.M = 300, .N = 100, .K = 130},
      {.M = 100, .N = 70, .K = 1600, .bias = 1},
      {.M = 25, .N = 40, .K = 3000, .saturated = true},
  };
  for (const char *const *target = jit_targets(); *target; target++)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_gemm(&cases[i], *target);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(quantizers), cmocka_unit_test(many_values),
                                     cmocka_unit_test(products)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
