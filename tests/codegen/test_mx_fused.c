/* mx.fused against the ops that it stands for, compiled apart: equal bits on every instruction set and for 1, 2 and 3
 * threads, with rows and columns that fill no block and sums over several runs of rows. */
#include <math.h>
#include <string.h>
#include "jit_case.h"

typedef struct both {
  tt_module *module;
  tt_arena *arena;
  tt_diag diag;
  tt_graph *g[2]; /* apart, fused */
  tt_builder b[2];
  uint32_t seed;
  int n_in;
  tt_tensor in[16];
} both;

static void open_both(both *t) {
  *t = (both){.module = tt_module_create("test"), .arena = tt_arena_create(), .seed = 11};
  tt_diag_init(&t->diag, stderr);
  for (int i = 0; i < 2; i++) {
    t->g[i] = tt_graph_create(t->module, i ? "fused" : "apart");
    t->b[i] = (tt_builder){.g = t->g[i], .diag = &t->diag, .at = TT_NONE};
  }
}

/* The same input of both graphs, in which it has the same id; blocks of very different sizes, some subnormal. */
static tt_value input(both *t, int rank, int64_t rows, int64_t cols) {
  tt_type type = tt_type_make(TT_F32, rank, (int64_t[]){rows, cols});
  const char *name = tt_arena_printf(t->arena, "in%d", t->n_in);
  tt_tensor x = tt_tensor_new(t->arena, type);
  double scale = 1;
  for (int64_t i = 0; i < tt_type_count(&type); i++) {
    if (rank == 2 && i % 32 == 0) scale = jit_random(&t->seed) % 37 == 0 ? 1e-40 : exp2((double)(jit_random(&t->seed) % 8));
    x.d[i] = (double)(float)(scale * ((double)(jit_random(&t->seed) % 4001) / 2000 - 1));
  }
  t->in[t->n_in++] = x;
  tt_value v = tt_graph_add_input(t->g[0], name, type);
  assert_int_equal(tt_graph_add_input(t->g[1], name, type), v);
  return v;
}

static tt_value rng(both *t) {
  tt_tensor x = tt_tensor_new(t->arena, tt_type_make(TT_I64, 1, (int64_t[]){2}));
  x.d[0] = 77;
  x.d[1] = 5;
  t->in[t->n_in++] = x;
  tt_value v = tt_graph_rng(t->g[0]);
  assert_int_equal(tt_graph_rng(t->g[1]), v);
  return v;
}

static void result(both *t, int g, tt_value v) {
  assert_int_not_equal(v, TT_NONE);
  tt_graph_set_result(t->g[g], tt_arena_printf(t->module->arena, "out%zu", t->g[g]->results.count), v);
}

static const tt_node_data *apart(both *t, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs) {
  tt_node n = tt_build(&t->b[0], op, n_in, in, n_attrs, attrs);
  assert_int_not_equal(n, TT_NONE);
  return tt_nod(t->g[0], n);
}

static const tt_qspec stochastic = {true, TT_E2M1, TT_SCALE_CEIL, TT_STOCHASTIC, TT_DIRECT};
static const tt_qspec nearest = {true, TT_E2M1, TT_SCALE_CEIL, TT_NEAREST, TT_DIRECT};

/* The quantizers of x and the column sums as results of the graph of ops apart. */
static void quantize_apart(both *t, tt_value x, tt_value random, bool along, bool across) {
  tt_value in[2] = {x, random};
  tt_attr row[2] = {tt_attr_qspec(TT_A_Q, stochastic), tt_attr_int(TT_A_TENSOR, 3)};
  tt_attr column[2] = {tt_attr_qspec(TT_A_Q, nearest), tt_attr_int(TT_A_TRANSPOSED, 1)};
  tt_value a = along ? apart(t, TT_OP_MX_QUANTIZE, 2, in, 2, row)->out[0] : TT_NONE;
  if (along) result(t, 0, a);
  if (across) result(t, 0, apart(t, TT_OP_MX_QUANTIZE, 1, in, 2, column)->out[0]);
  if (along) result(t, 0, apart(t, TT_OP_MX_COLSUM, 1, &a, 0, NULL)->out[0]);
}

static void fused(both *t, int n_in, const tt_value *in, int n_steps, const int64_t *of, const int64_t *keep, bool along,
                  bool across) {
  tt_attr a[9];
  int n = 0;
  if (n_steps) a[n++] = tt_attr_ints(t->g[1], TT_A_OF, n_steps, of);
  if (n_steps) a[n++] = tt_attr_ints(t->g[1], TT_A_KEEP, n_steps, keep);
  if (along) a[n++] = tt_attr_qspec(TT_A_Q, stochastic);
  if (along) a[n++] = tt_attr_int(TT_A_TENSOR, 3);
  if (along) a[n++] = tt_attr_int(TT_A_COLSUM, 1);
  if (across) a[n++] = tt_attr_qspec(TT_A_QT, nearest);
  a[n++] = tt_attr_float(TT_A_EPSILON, 1e-3);
  if (n_steps && of[0] == TT_OP_MATMUL) a[n++] = tt_attr_int(TT_A_TRANS_B, 1);
  tt_node made = tt_build(&t->b[1], TT_OP_MX_FUSED, along ? n_in : n_in - 1, in, n, a);
  assert_int_not_equal(made, TT_NONE);
  for (int i = 0; i < tt_nod(t->g[1], made)->n_out; i++) result(t, 1, tt_nod(t->g[1], made)->out[i]);
}

static void expect_equal(const tt_tensor *a, const tt_tensor *b, const char *target, int threads, size_t r) {
  assert_true(tt_type_equal(&a->type, &b->type));
  size_t bytes = a->mx ? tt_type_bytes(&a->type) : sizeof(double) * (size_t)tt_type_count(&a->type);
  const void *x = a->mx ? (const void *)a->mx : a->d, *y = b->mx ? (const void *)b->mx : b->d;
  if (memcmp(x, y, bytes) != 0) fail_msg("result %zu differs on %s with %d threads", r, target, threads);
}

static void run_both(both *t, const char *target) {
  tt_tensor results[2][16];
  cg_jit *jit[2];
  assert_int_equal(t->g[0]->results.count, t->g[1]->results.count);
  for (int i = 0; i < 2; i++) {
    jit[i] = cg_jit_compile(t->g[i], cg_target_find(target, t->arena, &t->diag), &t->diag);
    assert_non_null(jit[i]);
  }
  for (int threads = 1; threads <= 3; threads++) {
    for (int i = threads > 1; i < 2; i++) {
      assert_true(trt_threads_init(threads, cg_jit_scratch_bytes(jit[i])));
      cg_jit_run(jit[i], t->in, NULL, results[i], t->arena);
    }
    for (size_t r = 0; r < t->g[0]->results.count; r++) expect_equal(&results[0][r], &results[1][r], target, threads, r);
  }
  cg_jit_destroy(jit[0]);
  cg_jit_destroy(jit[1]);
}

static void close_both(both *t, const char *target) {
  for (int i = 0; i < 2; i++) place_values(t->g[i]);
  bool again = jit_repeats(t->g[0], target, t->arena, &t->diag) && jit_repeats(t->g[1], target, t->arena, &t->diag);
  if (!again) run_both(t, target);
  tt_arena_destroy(t->arena);
  tt_module_destroy(t->module);
}

typedef struct size {
  int64_t rows, cols;
} size;
static const size sizes[] = {{300, 64}, {120, 45}};

/* No step: any of the forms alone or together. */
static void quantizers(const char *target, size s) {
  for (int forms = 1; forms < 4; forms++) {
    both t;
    open_both(&t);
    tt_value x = input(&t, 2, s.rows, s.cols), random = rng(&t);
    quantize_apart(&t, x, random, forms & 1, forms & 2);
    fused(&t, 2, (tt_value[]){x, random}, 0, NULL, NULL, forms & 1, forms & 2);
    close_both(&t, target);
  }
}

/* add, kept or not, then layernorm, kept or not. */
static void forward(const char *target, size s) {
  for (int keeps = 0; keeps < 4; keeps += 1 + (s.rows > 100)) {
    both t;
    open_both(&t);
    tt_value x = input(&t, 2, s.rows, s.cols), r = input(&t, 2, s.rows, s.cols);
    tt_value gamma = input(&t, 1, s.cols, 0), beta = input(&t, 1, s.cols, 0), random = rng(&t);
    tt_attr epsilon = tt_attr_float(TT_A_EPSILON, 1e-3);
    tt_value sum = apart(&t, TT_OP_ADD, 2, (tt_value[]){x, r}, 0, NULL)->out[0];
    const tt_value *norm = apart(&t, TT_OP_LAYERNORM, 3, (tt_value[]){sum, gamma, beta}, 1, &epsilon)->out;
    if (keeps & 1) result(&t, 0, sum);
    for (int i = !(keeps & 2); i < 3; i++) result(&t, 0, norm[i]);
    quantize_apart(&t, norm[0], random, true, keeps == 2);
    fused(&t, 5, (tt_value[]){x, r, gamma, beta, random}, 2, (int64_t[]){TT_OP_ADD, TT_OP_LAYERNORM},
          (int64_t[]){keeps & 1, keeps >> 1}, true, keeps == 2);
    close_both(&t, target);
  }
}

/* layernorm_grad, add and both forms, as at the end of a residual branch. */
static void backward(const char *target, size s) {
  for (int keep = 0; keep < 2; keep++) {
    both t;
    open_both(&t);
    tt_value dy = input(&t, 2, s.rows, s.cols), x = input(&t, 2, s.rows, s.cols), r = input(&t, 2, s.rows, s.cols);
    tt_value gamma = input(&t, 1, s.cols, 0), mean = input(&t, 1, s.rows, 0), rstd = input(&t, 1, s.rows, 0);
    tt_value random = rng(&t);
    const tt_value *grad = apart(&t, TT_OP_LAYERNORM_GRAD, 5, (tt_value[]){dy, x, gamma, mean, rstd}, 0, NULL)->out;
    tt_value sum = apart(&t, TT_OP_ADD, 2, (tt_value[]){grad[0], r}, 0, NULL)->out[0];
    result(&t, 0, grad[1]);
    result(&t, 0, grad[2]);
    if (keep) result(&t, 0, sum);
    quantize_apart(&t, sum, random, true, true);
    fused(&t, 7, (tt_value[]){dy, x, gamma, mean, rstd, r, random}, 2, (int64_t[]){TT_OP_LAYERNORM_GRAD, TT_OP_ADD},
          (int64_t[]){0, keep}, true, true);
    close_both(&t, target);
  }
}

static void activations(const char *target, size s) {
  for (int grad = 0; grad < 2; grad++) {
    both t;
    open_both(&t);
    tt_value in[3] = {input(&t, 2, s.rows, s.cols), input(&t, 2, s.rows, s.cols), rng(&t)};
    int64_t op = grad ? TT_OP_GELU_GRAD : TT_OP_GELU, keep = 0;
    tt_value y = apart(&t, (tt_op)op, 1 + grad, in, 0, NULL)->out[0];
    quantize_apart(&t, y, in[2], true, true);
    fused(&t, 2 + grad, grad ? in : (tt_value[]){in[0], in[2]}, 1, &op, &keep, true, true);
    close_both(&t, target);
  }
}

/* mx.quantize of a matrix to nearest, in graph g. */
static tt_value packed(both *t, int g, tt_value x) {
  tt_attr q = tt_attr_qspec(TT_A_Q, nearest);
  tt_node n = tt_build(&t->b[g], TT_OP_MX_QUANTIZE, 1, &x, 1, &q);
  assert_int_not_equal(n, TT_NONE);
  return tt_nod(t->g[g], n)->out[0];
}

/* A product in front of one or two steps or of the quantizers alone, kept or not, with bias or without. */
static void products(const char *target, size of_case) {
  enum { ALONE, GELU, GELU_GRAD, NORM, NORM_GRAD, CASES };
  static const int64_t of[CASES][3] = {{TT_OP_MX_GEMM},
                                       {TT_OP_MX_GEMM, TT_OP_GELU},
                                       {TT_OP_MX_GEMM, TT_OP_GELU_GRAD},
                                       {TT_OP_MX_GEMM, TT_OP_ADD, TT_OP_LAYERNORM},
                                       {TT_OP_MX_GEMM, TT_OP_LAYERNORM_GRAD, TT_OP_ADD}};
  static const int steps[CASES] = {1, 2, 2, 3, 3};
  for (int i = 0; i < CASES; i++) {
    size s = of_case;
    bool many = s.rows > 100, wide = many && (i == GELU || i == GELU_GRAD);
    if (many ? i == ALONE || i == NORM : i == GELU || i == NORM_GRAD) continue;
    both t;
    open_both(&t);
    if (wide) s.cols = 512;                    /* two spans of columns */
    if (many && i == GELU_GRAD) s.rows = 2850; /* tasks enough to share B, behind the sums in the workspace */
    int64_t keep[3] = {many ? i == GELU : i == GELU_GRAD, i == NORM, i == NORM_GRAD};
    const int64_t K = many ? 96 : i == ALONE ? 4160 : 45;
    tt_value a = input(&t, 2, s.rows, K), b = input(&t, 2, s.cols, K), bias = input(&t, 1, s.cols, 0);
    tt_value x = input(&t, 2, s.rows, s.cols), gamma = input(&t, 1, s.cols, 0), r = input(&t, 2, s.rows, s.cols);
    tt_value mean = input(&t, 1, s.rows, 0), rstd = input(&t, 1, s.rows, 0), random = rng(&t);
    tt_attr epsilon = tt_attr_float(TT_A_EPSILON, 1e-3);
    bool biased = i == GELU || i == NORM;
    tt_value in[10] = {packed(&t, 0, a), packed(&t, 0, b), bias}, out, rest[6] = {0};
    tt_value y = out = apart(&t, TT_OP_MX_GEMM, 2 + biased, in, 0, NULL)->out[0];
    if (keep[0]) result(&t, 0, y);
    int n = 0;
    if (i == GELU) out = apart(&t, TT_OP_GELU, 1, &y, 0, NULL)->out[0];
    if (i == GELU_GRAD) out = apart(&t, TT_OP_GELU_GRAD, 2, (tt_value[]){y, rest[n++] = x}, 0, NULL)->out[0];
    if (i == NORM) {
      tt_value sum = apart(&t, TT_OP_ADD, 2, (tt_value[]){y, rest[n++] = r}, 0, NULL)->out[0];
      rest[n++] = gamma, rest[n++] = bias;
      const tt_value *norm = apart(&t, TT_OP_LAYERNORM, 3, (tt_value[]){sum, gamma, bias}, 1, &epsilon)->out;
      result(&t, 0, sum), result(&t, 0, norm[1]), result(&t, 0, norm[2]);
      out = norm[0];
    }
    if (i == NORM_GRAD) {
      tt_value others[5] = {y, rest[n++] = x, rest[n++] = gamma, rest[n++] = mean, rest[n++] = rstd};
      const tt_value *grad = apart(&t, TT_OP_LAYERNORM_GRAD, 5, others, 0, NULL)->out;
      result(&t, 0, grad[1]), result(&t, 0, grad[2]);
      out = apart(&t, TT_OP_ADD, 2, (tt_value[]){grad[0], rest[n++] = r}, 0, NULL)->out[0];
      result(&t, 0, out);
    }
    quantize_apart(&t, out, random, true, i != NORM);
    in[0] = packed(&t, 1, a), in[1] = packed(&t, 1, b);
    for (int k = 0; k < n; k++) in[2 + biased + k] = rest[k];
    in[2 + biased + n] = random;
    fused(&t, 3 + biased + n, in, steps[i], of[i], keep, true, i != NORM);
    close_both(&t, target);
  }
}

/* Results of a node of graph 1 with those steps, `colsum` over the rows of the last. */
static void fused_floats(both *t, int n_in, const tt_value *in, int n_steps, const int64_t *of, const int64_t *keep,
                         bool colsum) {
  tt_attr a[6] = {tt_attr_ints(t->g[1], TT_A_OF, n_steps, of), tt_attr_ints(t->g[1], TT_A_KEEP, n_steps, keep),
                  tt_attr_float(TT_A_EPSILON, 1e-3), tt_attr_int(TT_A_COLSUM, colsum), tt_attr_int(TT_A_TRANS_A, 0),
                  tt_attr_int(TT_A_TRANS_B, 0)};
  tt_node made = tt_build(&t->b[1], TT_OP_MX_FUSED, n_in, in, 6, a);
  assert_int_not_equal(made, TT_NONE);
  for (int i = 0; i < tt_nod(t->g[1], made)->n_out; i++) result(t, 1, tt_nod(t->g[1], made)->out[i]);
}

static void sum_rows(both *t, tt_value x) {
  tt_attr a[2] = {tt_attr_ints(t->g[0], TT_A_AXES, 1, (int64_t[]){0}), tt_attr_int(TT_A_KEEPDIMS, 0)};
  result(t, 0, apart(t, TT_OP_REDUCE_SUM, 1, &x, 2, a)->out[0]);
}

/* linear, kept, then gelu, or linear, add and layernorm. */
static void floats_forward(const char *target, bool norm, int64_t rows, int64_t cols, int64_t K) {
  both t;
  open_both(&t);
  tt_value in[6] = {input(&t, 2, rows, K), input(&t, 2, cols, K), input(&t, 1, cols, 0)};
  in[3] = input(&t, 2, rows, cols), in[4] = input(&t, 1, cols, 0), in[5] = input(&t, 1, cols, 0);
  tt_value y = apart(&t, TT_OP_LINEAR, 3, in, 0, NULL)->out[0];
  if (norm) {
    tt_attr epsilon = tt_attr_float(TT_A_EPSILON, 1e-3);
    y = apart(&t, TT_OP_ADD, 2, (tt_value[]){y, in[3]}, 0, NULL)->out[0];
    const tt_value *out = apart(&t, TT_OP_LAYERNORM, 3, (tt_value[]){y, in[4], in[5]}, 1, &epsilon)->out;
    for (int i = -1; i < 3; i++) result(&t, 0, i < 0 ? y : out[i]);
    fused_floats(&t, 6, in, 3, (int64_t[]){TT_OP_LINEAR, TT_OP_ADD, TT_OP_LAYERNORM}, (int64_t[]){0, 1, 1}, false);
  } else {
    result(&t, 0, y);
    result(&t, 0, apart(&t, TT_OP_GELU, 1, &y, 0, NULL)->out[0]);
    fused_floats(&t, 3, in, 2, (int64_t[]){TT_OP_LINEAR, TT_OP_GELU}, (int64_t[]){1, 1}, false);
  }
  close_both(&t, target);
}

/* matmul, then gelu_grad or layernorm_grad and add, with the column sums that make a bias's gradient. */
static void floats_backward(const char *target, bool norm, int64_t rows, int64_t cols, int64_t K) {
  both t;
  open_both(&t);
  tt_value in[7] = {input(&t, 2, rows, K), input(&t, 2, K, cols), input(&t, 2, rows, cols)};
  for (int i = 3; i < 6; i++) in[i] = input(&t, 1, i == 3 ? cols : rows, 0);
  in[6] = input(&t, 2, rows, cols);
  tt_attr trans[2] = {tt_attr_int(TT_A_TRANS_A, 0), tt_attr_int(TT_A_TRANS_B, 0)};
  tt_value y = apart(&t, TT_OP_MATMUL, 2, in, 2, trans)->out[0];
  if (norm) {
    const tt_value *grad = apart(&t, TT_OP_LAYERNORM_GRAD, 5, (tt_value[]){y, in[2], in[3], in[4], in[5]}, 0, NULL)->out;
    result(&t, 0, grad[1]);
    result(&t, 0, grad[2]);
    y = apart(&t, TT_OP_ADD, 2, (tt_value[]){grad[0], in[6]}, 0, NULL)->out[0];
    fused_floats(&t, 7, in, 3, (int64_t[]){TT_OP_MATMUL, TT_OP_LAYERNORM_GRAD, TT_OP_ADD}, (int64_t[]){0, 0, 1}, true);
  } else {
    y = apart(&t, TT_OP_GELU_GRAD, 2, (tt_value[]){y, in[2]}, 0, NULL)->out[0];
    fused_floats(&t, 3, in, 2, (int64_t[]){TT_OP_MATMUL, TT_OP_GELU_GRAD}, (int64_t[]){0, 1}, true);
  }
  result(&t, 0, y);
  sum_rows(&t, y);
  close_both(&t, target);
}

/* linear without a bias, of rows in two dimensions, or matmul by a transposed matrix; gelu; and its quantizers. */
static void floats_quantized(const char *target, int64_t rows, int64_t cols, int64_t K) {
  static const int64_t keep[2] = {0, 0};
  for (int matmul = 0; matmul < 2; matmul++) {
    both t;
    open_both(&t);
    tt_value in[3] = {input(&t, 2, rows, K), input(&t, 2, cols, K), rng(&t)};
    tt_attr trans[2] = {tt_attr_int(TT_A_TRANS_A, 0), tt_attr_int(TT_A_TRANS_B, 1)};
    tt_attr shape = tt_attr_ints(t.g[0], TT_A_SHAPE, 3, (int64_t[]){2, rows / 2, K});
    tt_value x = apart(&t, TT_OP_RESHAPE, 1, in, 1, &shape)->out[0];
    tt_value y = apart(&t, matmul ? TT_OP_MATMUL : TT_OP_LINEAR, 2, (tt_value[]){x, in[1]}, matmul ? 2 : 0, trans)->out[0];
    quantize_apart(&t, apart(&t, TT_OP_GELU, 1, &y, 0, NULL)->out[0], in[2], true, true);
    shape = tt_attr_ints(t.g[1], TT_A_SHAPE, 3, (int64_t[]){2, rows / 2, K});
    in[0] = tt_build1(&t.b[1], TT_OP_RESHAPE, in[0], 1, &shape);
    fused(&t, 3, in, 2, (int64_t[]){matmul ? TT_OP_MATMUL : TT_OP_LINEAR, TT_OP_GELU}, keep, true, true);
    close_both(&t, target);
  }
}

/* mx.gemm by spans of columns, gelu_grad, and the sums of its rows: no quantizer. */
static void gemm_floats(const char *target, int64_t rows, int64_t cols, int64_t K) {
  both t;
  open_both(&t);
  tt_value a = input(&t, 2, rows, K), b = input(&t, 2, cols, K), x = input(&t, 2, rows, cols);
  tt_value y = apart(&t, TT_OP_MX_GEMM, 2, (tt_value[]){packed(&t, 0, a), packed(&t, 0, b)}, 0, NULL)->out[0];
  y = apart(&t, TT_OP_GELU_GRAD, 2, (tt_value[]){y, x}, 0, NULL)->out[0];
  result(&t, 0, y);
  sum_rows(&t, y);
  fused_floats(&t, 3, (tt_value[]){packed(&t, 1, a), packed(&t, 1, b), x}, 2, (int64_t[]){TT_OP_MX_GEMM, TT_OP_GELU_GRAD},
               (int64_t[]){0, 1}, true);
  close_both(&t, target);
}

static void equal_bits(void **state) {
  (void)state;
  for (const char *const *target = jit_targets(); *target; target++)
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      quantizers(*target, sizes[i]);
      forward(*target, sizes[i]);
      backward(*target, sizes[i]);
      activations(*target, sizes[i]);
      products(*target, sizes[i]);
    }
  for (const char *const *target = jit_targets(); *target; target++) {
    floats_forward(*target, false, 300, 192, 70);
    floats_forward(*target, true, 120, 45, 400);
    floats_backward(*target, true, 2060, 45, 40);
    floats_backward(*target, false, 2048, 320, 20);
    floats_quantized(*target, 300, 256, 40);
    gemm_floats(*target, 2080, 512, 40);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(equal_bits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
