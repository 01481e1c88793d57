/* See sweep.h. Graphs are planned here without sharing: each value has storage of its own, filled with NaN before a run, so
 * that a kernel that reads what it should not, or leaves something unwritten, shows. */
#include "tests/ops/sweep.h"
#include "runtime/include/trt_runtime.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

void sweep_begin(sweep *s) {
  s->arena = tt_arena_create();
  tt_diag_init(&s->diag, stderr);
  s->module = tt_module_create("sweep");
  s->b = (tt_builder){.g = tt_graph_create(s->module, "sweep"), .diag = &s->diag, .at = TT_NONE};
  s->n_in = 0;
}

double sweep_random(sweep *s, double lo, double hi) {
  s->random = s->random * 6364136223846793005u + 1442695040888963407u;
  return lo + (hi - lo) * (double)(s->random >> 11) * 0x1p-53;
}

tt_type sweep_f32(int rank, ...) {
  int64_t dim[TT_MAX_RANK];
  va_list ap;
  va_start(ap, rank);
  for (int i = 0; i < rank; i++) dim[i] = va_arg(ap, int);
  va_end(ap);
  return tt_type_make(TT_F32, rank, dim);
}

tt_attr sweep_ints(sweep *s, tt_attr_id id, int n, ...) {
  int64_t v[TT_MAX_RANK];
  va_list ap;
  va_start(ap, n);
  for (int i = 0; i < n; i++) v[i] = va_arg(ap, int);
  va_end(ap);
  return tt_attr_ints(s->b.g, id, n, v);
}

static tt_value add_input(sweep *s, tt_tensor t) {
  tt_graph *g = s->b.g;
  size_t k = g->inputs.count;
  TT_ASSERT(s->n_in < 64 && k < 64);
  tt_value v = tt_graph_add_input(g, tt_arena_printf(s->arena, "in%zu", k), t.type);
  s->data[k] = t;
  return s->in[s->n_in++] = v;
}

/* Random codes, zero behind the end of a row; scale bytes in [lo, hi). */
static void fill_mx(sweep *s, tt_tensor *t, double lo, double hi) {
  int64_t rows = t->type.dim[0], K = t->type.dim[1], blocks = tt_mx_blocks(K);
  for (int64_t i = 0; i < rows * blocks * 16; i++) {
    int64_t k = i % (blocks * 16) * 2;
    unsigned low = (unsigned)sweep_random(s, 0, 16), high = (unsigned)sweep_random(s, 0, 16);
    t->mx[i] = (uint8_t)((k < K ? low : 0) | (k + 1 < K ? high << 4 : 0));
  }
  if (t->type.format == TT_INT4) { /* one scale, with an exponent in [lo, hi) */
    uint32_t bits = (uint32_t)sweep_random(s, lo, hi) << 23 | (uint32_t)sweep_random(s, 0, 0x800000);
    memcpy(t->mx + tt_mx_scale_offset(&t->type), &bits, sizeof bits);
    return;
  }
  for (int64_t i = 0; i < rows * blocks; i++)
    t->mx[tt_mx_scale_offset(&t->type) + (size_t)i] = (uint8_t)sweep_random(s, lo, hi);
}

tt_value sweep_in(sweep *s, tt_type type, double lo, double hi) {
  tt_tensor t = tt_tensor_new(s->arena, type);
  if (type.dtype == TT_MX) {
    fill_mx(s, &t, lo, hi);
    return add_input(s, t);
  }
  int64_t n = tt_type_count(&type);
  for (int64_t i = 0; i < n; i++) {
    double x = sweep_random(s, lo, hi);
    t.d[i] = type.dtype == TT_F32 ? (double)(float)x : floor(x);
  }
  return add_input(s, t);
}

tt_value sweep_data(sweep *s, tt_type type, const double *values) {
  tt_tensor t = tt_tensor_new(s->arena, type);
  memcpy(t.d, values, sizeof(double) * (size_t)tt_type_count(&type));
  return add_input(s, t);
}

void sweep_result(sweep *s, tt_value v) {
  tt_graph_set_result(s->b.g, tt_arena_printf(s->module->arena, "out%zu", s->b.g->results.count), v);
}

static void plan(tt_graph *g) {
  uint64_t at = 0;
  for (size_t v = 0; v < g->values.count; v++) {
    tt_value_data *d = &g->values.data[v];
    if (d->kind == TT_VALUE_CONST || d->kind == TT_VALUE_VAR) continue;
    d->space = TT_SPACE_ARENA;
    d->offset = at;
    at += (tt_type_bytes(&d->type) + 127) / 64 * 64;
  }
  g->arena_bytes = at;
}

/* Largest error in units of what is allowed, and where. */
static double worst(const tt_tensor *got, const tt_tensor *want, double tolerance, int64_t *where) {
  int64_t n = tt_type_count(&want->type);
  double sum = 0, max = 0;
  for (int64_t i = 0; i < n; i++) sum += isfinite(want->d[i]) ? want->d[i] * want->d[i] : 0;
  double rms = sqrt(sum / (double)(n ? n : 1));
  *where = -1;
  for (int64_t i = 0; i < n; i++) {
    double w = want->d[i], x = got->d[i];
    if (x == w || (isnan(x) && isnan(w)) || (float)w == (float)x) continue;
    double e = tolerance == 0 ? INFINITY : fabs(x - w) / (tolerance * (fabs(w) + rms));
    if (e <= max) continue;
    max = isnan(e) ? INFINITY : e;
    *where = i;
  }
  return max;
}

static void fail(sweep *s, const char *what) {
  tt_graph *g = s->b.g;
  char t[TT_TYPE_TEXT];
  s->failures++;
  fprintf(stderr, "FAIL %s:", what);
  TT_FOR_NODES(g, n) {
    fprintf(stderr, " %s(", tt_ops[tt_nod(g, n)->op].name);
    for (int i = 0; i < tt_nod(g, n)->n_in; i++)
      fprintf(stderr, "%s%s", i ? ", " : "", tt_type_print(tt_typ(g, tt_nod(g, n)->in[i]), t, sizeof t));
    fprintf(stderr, ")");
  }
  fprintf(stderr, "\n");
}

static void compare(sweep *s, const tt_tensor *got, const tt_tensor *want, double tolerance, int result, int threads) {
  char what[160];
  int64_t where = -1;
  if (want->type.dtype == TT_MX) {
    const size_t bytes = tt_type_bytes(&want->type);
    if (memcmp(got->mx, want->mx, bytes) == 0) return;
      do where++;
    while (got->mx[where] == want->mx[where]);
    snprintf(what, sizeof what, "result %d, %d threads, byte %lld of %zu is %02x, expected %02x", result, threads,
             (long long)where, bytes, got->mx[where], want->mx[where]);
    fail(s, what);
    return;
  }
  double e = worst(got, want, tolerance, &where);
  if (e <= 1) return;
  snprintf(what, sizeof what, "result %d, %d threads, element %lld is %.9g, expected %.9g (%.3g of tolerance)", result, threads,
           (long long)where, got->d[where], want->d[where], e);
  fail(s, what);
}

static bool same_bits(const tt_tensor *a, const tt_tensor *b) {
  if (a->type.dtype == TT_MX) return memcmp(a->mx, b->mx, tt_type_bytes(&a->type)) == 0;
  return memcmp(a->d, b->d, sizeof(double) * (size_t)tt_type_count(&a->type)) == 0;
}

/* Every byte of the plan that is no input becomes 0xff: NaN as a float, nothing sensible as anything else. */
static void poison(sweep *s, uint8_t *arena) {
  tt_graph *g = s->b.g;
  memset(arena, 0xff, g->arena_bytes);
  for (size_t i = 0; i < g->inputs.count; i++) {
    uint8_t *to = arena + tt_val(g, g->inputs.data[i])->offset;
    if (s->data[i].mx)
      memcpy(to, s->data[i].mx, tt_type_bytes(&s->data[i].type));
    else
      tt_tensor_to_bytes(&s->data[i], to);
  }
}

/* Nothing was written between the values, which lie in the order of their ids. */
static void check_gaps(sweep *s, const uint8_t *arena, int threads) {
  tt_graph *g = s->b.g;
  uint64_t at = 0;
  bool clean = true;
  for (size_t v = 0; v < g->values.count; v++) {
    const tt_value_data *d = &g->values.data[v];
    if (d->space != TT_SPACE_ARENA) continue;
    for (; at < d->offset; at++) clean &= arena[at] == 0xff;
    at = d->offset + tt_type_bytes(&d->type);
  }
  for (; at < g->arena_bytes; at++) clean &= arena[at] == 0xff;
  if (!clean) fail(s, threads == 1 ? "writes outside its results" : "writes outside its results with several threads");
}

/* NaNs, in a thread's scratch. */
static void poison_scratch(const trt_kargs *args, int64_t task, uint8_t *scratch) {
  (void)task;
  memset(scratch, 0xff, *(const size_t *)args->bufs[0]);
}

/* Memory after a run on memory that shows what is read or written where nothing should be. */
static const uint8_t *execute(sweep *s, cg_jit *jit, int threads) {
  if (s->foreign) return foreign_memory(s->foreign, s->index, threads);
  size_t bytes = cg_jit_scratch_bytes(jit);
  void *bufs[] = {&bytes};
  TT_ASSERT(trt_threads_init(threads, bytes));
  trt_parallel(&(trt_kargs){bufs, NULL}, poison_scratch, threads);
  trt_step step = cg_jit_prepare(jit, s->data, NULL, s->arena);
  poison(s, step.arena);
  cg_jit_work work = cg_jit_workspace(jit);
  memset(step.arena + work.offset, 0xff, work.bytes);
  cg_jit_enter(jit, &step);
  return step.arena;
}

static void run(sweep *s, cg_jit *jit) {
  tt_graph *g = s->b.g;
  size_t n = g->results.count;
  tt_tensor *got[FOREIGN_THREADS];
  for (int threads = 1; threads <= FOREIGN_THREADS; threads++) {
    tt_tensor *mine = got[threads - 1] = TT_NEW_N(s->arena, tt_tensor, n);
    const uint8_t *memory = execute(s, jit, threads);
    check_gaps(s, memory, threads);
    for (size_t r = 0; r < n; r++) {
      const tt_value_data *d = tt_val(g, g->results.data[r].value);
      mine[r] = tt_tensor_from_bytes(s->arena, d->type, memory + d->offset);
      if (threads == 1)
        compare(s, &mine[r], &s->want[r], s->tolerance, (int)r, threads);
      else if (!same_bits(&mine[r], &got[0][r]))
        fail(s, threads == 2 ? "2 threads differ from 1" : "3 threads differ from 1");
    }
  }
}

static void close_case(sweep *s) {
  tt_diag_free(&s->diag);
  tt_module_destroy(s->module);
  tt_arena_destroy(s->arena);
}

/* Compiles the case for the other machine and keeps it for sweep_finish. */
static void put_off(sweep *s) {
  tt_graph *g = s->b.g;
  uint8_t *memory = tt_arena_alloc(s->arena, g->arena_bytes + TRT_ALIGN);
  poison(s, memory);
  s->index = foreign_add(s->foreign, g, memory, &s->diag);
  if (s->index < 0) {
    fail(s, "not compiled");
    close_case(s);
    return;
  }
  sweep *copy = TT_NEW(s->target_arena, sweep);
  *copy = *s;
  tt_vec_push(&s->later, copy);
}

void sweep_check(sweep *s, double tolerance) {
  tt_graph *g = s->b.g;
  plan(g);
  s->cases++;
  TT_FOR_NODES(g, n) s->seen[tt_nod(g, n)->op] = true;
  if (s->like && s->diag.errors == 0 && cg_same_code(g, s->target, s->like, &s->diag)) {
    s->left++;
    close_case(s);
    return;
  }
  s->want = TT_NEW_N(s->arena, tt_tensor, g->results.count);
  s->tolerance = tolerance;
  if (s->diag.errors == 0) tt_eval_graph(g, s->data, NULL, s->want, tolerance == 0, s->arena);
  if (s->foreign && s->diag.errors == 0) {
    put_off(s);
    return;
  }
  cg_jit *jit = s->diag.errors ? NULL : cg_jit_compile(g, s->target, &s->diag);
  if (jit)
    run(s, jit);
  else
    fail(s, "not compiled");
  cg_jit_destroy(jit);
  close_case(s);
}

void sweep_finish(sweep *s) {
  bool ran = s->later.count == 0 || foreign_run(s->foreign);
  if (!ran) {
    fprintf(stderr, "FAIL: the foreign program was not linked, or did not run to its end\n");
    s->failures++;
  }
  for (size_t i = 0; i < s->later.count; i++) {
    sweep *put = s->later.data[i];
    put->failures = 0;
    if (ran) run(put, NULL);
    s->failures += put->failures;
    close_case(put);
  }
  tt_vec_free(&s->later);
  fprintf(stderr, "%s: %d cases, %d failures", cg_target_describe(s->target), s->cases, s->failures);
  if (s->like) fprintf(stderr, "; %d cases are the same code on %s", s->left, cg_target_describe(s->like));
  fprintf(stderr, "\n");
}

void sweep_all(sweep *s) {
  sweep_elementwise(s);
  sweep_move(s);
  sweep_reduce(s);
  sweep_rows(s);
  sweep_attention(s);
  sweep_optimizer(s);
  sweep_products(s);
  sweep_mx(s);
  sweep_int4(s);
  sweep_track(s);
}

void sweep_op(sweep *s, tt_op op, int n_attrs, const tt_attr *attrs, double tolerance) {
  tt_node n = tt_build(&s->b, op, s->n_in, s->in, n_attrs, attrs);
  for (int i = 0; n != TT_NONE && i < tt_nod(s->b.g, n)->n_out; i++) sweep_result(s, tt_nod(s->b.g, n)->out[i]);
  sweep_check(s, tolerance);
}
