/* Recipes: the shipped ones, overriding, printing back, and every refusal by name. */
#include "passes/recipe.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char dir[] = TETRAC_SOURCE_DIR "/passes/recipes";

typedef struct fixture {
  tt_arena *arena;
  tt_diag diag;
} fixture;

static int setup(void **state) {
  fixture *f = calloc(1, sizeof *f);
  f->arena = tt_arena_create();
  tt_diag_init(&f->diag, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  tt_diag_free(&f->diag);
  tt_arena_destroy(f->arena);
  free(f);
  return 0;
}

static tt_recipe *load(fixture *f, const char *name, int n, const char *const *sets) {
  return tt_recipe_load(name, dir, n, sets, f->arena, &f->diag);
}

static const char *print(fixture *f, const tt_recipe *r) {
  tt_strbuf sb = {0};
  tt_recipe_print(r, &sb);
  char *text = tt_arena_str(f->arena, sb.data);
  tt_strbuf_free(&sb);
  return text;
}

static tt_recipe *load_text(fixture *f, const char *text) {
  char path[] = "/tmp/tetrac_recipe_XXXXXX.ini";
  int fd = mkstemps(path, 4);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
  close(fd);
  tt_recipe *r = load(f, path, 0, NULL);
  unlink(path);
  return r;
}

static void write_text(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void refuses(fixture *f, const char *set, const char *message) {
  size_t from = f->diag.text_len;
  assert_null(load(f, "tetrajet", 1, &set));
  f->diag.errors = 0;
  if (!strstr(f->diag.text + from, message)) fail_msg("%s: %s", set, f->diag.text + from);
}

static void refuses_two(fixture *f, const char *set1, const char *set2, const char *message) {
  size_t from = f->diag.text_len;
  assert_null(load(f, "tetrajet", 2, (const char *[]){set1, set2}));
  f->diag.errors = 0;
  if (!strstr(f->diag.text + from, message)) fail_msg("%s %s: %s", set1, set2, f->diag.text + from);
}

static void shipped_recipes(void **state) {
  fixture *f = *state;
  int n;
  const char *const *names = tt_recipe_list(dir, f->arena, &n);
  assert_true(n >= 3);
  for (int i = 0; i < n; i++) {
    tt_recipe *r = load(f, names[i], 0, NULL);
    if (!r) fail_msg("%s", f->diag.text);
    assert_string_equal(r->name, names[i]);
    assert_true(r->summary[0]);
  }
  tt_recipe *t = load(f, "tetrajet", 0, NULL);
  char text[64];
  assert_string_equal(tt_qspec_print(t->q[0], text, sizeof text), "e2m1:ceil:nearest");
  assert_string_equal(tt_qspec_print(t->q[4], text, sizeof text), "e2m1:ceil:stochastic");
  assert_string_equal(tt_qspec_print(t->q[5], text, sizeof text), "e2m1:ceil:stochastic:double");
  assert_string_equal(tt_qspec_print(load(f, "microscaling", 0, NULL)->q[3], text, sizeof text), "e2m1:floor:nearest");
  for (int i = 0; i < 6; i++) assert_false(load(f, "fp32", 0, NULL)->q[i].on);
}

/* The corners of the ablation are the two methods; the others are what their names say. */
static void ablations(void **state) {
  fixture *f = *state;
  const char *const pairs[][2] = {{"backward-stochastic-double-ceil", "tetrajet"},
                                  {"backward-nearest-direct-floor", "microscaling"}};
  for (int p = 0; p < 2; p++)
    for (int i = 0; i < 6; i++)
      assert_true(tt_qspec_equal(load(f, pairs[p][0], 0, NULL)->q[i], load(f, pairs[p][1], 0, NULL)->q[i]));
  tt_recipe *jet = load(f, "tetrajet", 0, NULL);
  for (int only = 0; only < 6; only++) {
    tt_recipe *r = load(f, tt_arena_printf(f->arena, "q%d-only", only + 1), 0, NULL);
    for (int i = 0; i < 6; i++) assert_int_equal(r->q[i].on, i == only);
    assert_true(r->q[only].rounding == jet->q[only].rounding && r->q[only].scale == jet->q[only].scale);
  }
  tt_recipe *wide = load(f, "e3m0-backward", 0, NULL), *plain = load(f, "forward-float-weights", 0, NULL);
  for (int i = 0; i < 6; i++) assert_int_equal(wide->q[i].format, i < 2 ? TT_E2M1 : TT_E3M0);
  for (int i = 0; i < 6; i++) assert_int_equal(plain->q[i].on, i != 1);
  tt_recipe *ema = load(f, "tetrajet-qema", 0, NULL);
  assert_true(ema->control == TT_CONTROL_EMA && ema->q[1].rounding == TT_EMA && ema->ema_beta == 0.998 && ema->ema_from == 10);
  tt_recipe *ramp = load(f, "tetrajet-qramping", 1, (const char *[]){"oscillation.ramp-every=9"}), *epoch;
  assert_true(ramp->control == TT_CONTROL_RAMP && ramp->ramp_k1 == 16 && ramp->ramp_k2 == 5 && ramp->ramp_t0 == 30);
  assert_true(ramp->ramp_every == 9 && strstr(print(f, ramp), "ramp-every = 9\n"));
  epoch = load(f, "tetrajet-qramping", 2, (const char *[]){"oscillation.ramp-every=9", "oscillation.ramp-every=epoch"});
  assert_true(epoch->ramp_every == 0 && strstr(print(f, epoch), "ramp-every = epoch\n"));
}

static void bases(void **state) {
  fixture *f = *state;
  char folder[] = "/tmp/tetrac_bases_XXXXXX";
  assert_non_null(mkdtemp(folder));
  const char *a = tt_arena_printf(f->arena, "%s/a.ini", folder), *b = tt_arena_printf(f->arena, "%s/b.ini", folder);
  write_text(a, "[recipe]\nbase = b.ini\n[train]\nepochs = 7\n");
  write_text(b, "[recipe]\nbase = tetrajet\nname = other\nsummary = from b\n[train]\nepochs = 3\nseed = 2\n");
  tt_recipe *r = load(f, a, 0, NULL);
  if (!r) fail_msg("%s", f->diag.text);
  assert_true(r->epochs == 7 && r->seed == 2 && r->q[0].on);
  assert_string_equal(r->name, "a");
  assert_string_equal(r->summary, "from b");
  write_text(b, "[recipe]\nbase = a.ini\n");
  assert_null(load(f, a, 0, NULL));
  assert_non_null(strstr(f->diag.text, "b.ini:2: error: recipe.base = a.ini: this recipe is based on itself"));
  write_text(b, "[train]\nseed = 2\n[recipe]\nbase = tetrajet\n");
  assert_null(load(f, b, 0, NULL));
  assert_non_null(strstr(f->diag.text, "b.ini:4: error: recipe.base must be the first key"));
  write_text(b, "[recipe]\nbase = tetrajt\n");
  assert_null(load(f, b, 0, NULL));
  assert_non_null(strstr(f->diag.text, "b.ini:2: note: named here as recipe.base"));
  write_text(b, "[recipe]\nbase = tetrajet\nbase = fp32\n");
  assert_null(load(f, b, 0, NULL));
  assert_non_null(strstr(f->diag.text, "recipe.base is set twice"));
  unlink(a);
  unlink(b);
  rmdir(folder);
}

/* fp32.ini spells the defaults out; nothing may differ but the words. */
static void fp32_is_the_default(void **state) {
  fixture *f = *state;
  tt_recipe d, *r = load(f, "fp32", 0, NULL);
  tt_recipe_defaults(&d);
  d.summary = r->summary;
  assert_string_equal(print(f, &d), print(f, r));
}

static void prints_back(void **state) {
  fixture *f = *state;
  const char *sets[] = {"q4=e3m0:floor:stochastic:double",
                        "q3.format=e3m0",
                        "q6=off",
                        "layers.select=all-linears",
                        "layers.skip=head*, *.fc2",
                        "layers.first-blocks=1",
                        "layers.last-blocks=2",
                        "q2.rounding=ema",
                        "oscillation.control=ema",
                        "oscillation.ema-beta=0.99",
                        "oscillation.ema-from=0",
                        "oscillation.dampen-lambda=0.5",
                        "oscillation.freeze-threshold=0.1",
                        "oscillation.freeze-momentum=1",
                        "oscillation.ramp-k1=8.5",
                        "oscillation.ramp-k2=3",
                        "oscillation.ramp-t0=7",
                        "oscillation.ramp-every=500",
                        "optimizer.lr=0.1",
                        "optimizer.min-lr=0.0123456789012345",
                        "optimizer.decay-all=yes",
                        "optimizer.schedule=constant",
                        "loss.labels=soft",
                        "train.epochs=90",
                        "train.seed=9000000000000000"};
  tt_recipe *a = load(f, "tetrajet", sizeof sets / sizeof *sets, sets);
  if (!a) fail_msg("%s", f->diag.text);
  tt_recipe *b = load_text(f, print(f, a));
  if (!b) fail_msg("%s", f->diag.text);
  assert_string_equal(print(f, a), print(f, b));
  for (int i = 0; i < 6; i++) assert_true(tt_qspec_equal(a->q[i], b->q[i]));
  assert_true(a->lr == b->lr && a->min_lr == b->min_lr && a->seed == b->seed && a->cosine == b->cosine);
  assert_true(b->layers == TT_LAYERS_ALL && b->soft_labels && b->decay_1d && !b->q[5].on && b->q[3].source == TT_DOUBLE);
  assert_string_equal(b->layers_skip, "head*, *.fc2");
  assert_true(b->first_blocks == 1 && b->last_blocks == 2 && b->control == TT_CONTROL_EMA && b->ema_beta == 0.99);
  assert_true(b->ema_from == 0 && b->dampen_lambda == 0.5 && b->freeze_threshold == 0.1 && b->freeze_momentum == 1);
  assert_true(b->ramp_k1 == 8.5 && b->ramp_k2 == 3 && b->ramp_t0 == 7 && b->ramp_every == 500);
}

static void refusals(void **state) {
  fixture *f = *state;
  refuses(f, "q1.rounding=up", "q1.rounding is 'up', expected one of nearest, stochastic, ema");
  refuses(f, "q1.rounding=ema", "only q2 can follow a moving average, q1 quantizes activations");
  refuses(f, "q3.rounding=ema", "quantizes gradients");
  refuses(f, "q2.rounding=ema", "q2.rounding = ema needs oscillation.control = ema, which keeps the moving average");
  refuses(f, "oscillation.control=ema", "oscillation.control = ema needs q2.rounding = ema, but that is nearest");
  refuses(f, "oscillation.control=ramp", "oscillation.control is 'ramp', expected one of none, ema");
  refuses(f, "oscillation.ramp-every=0", "oscillation.ramp-every is '0', expected epoch or a whole number of at least 1");
  refuses(f, "oscillation.ramp-k1=0", "oscillation.ramp-k1 is '0', expected a number above 0");
  refuses_two(f, "oscillation.control=qramping", "q2.rounding=ema", "(Q-EMA) and oscillation.control = qramping");
  refuses_two(f, "oscillation.control=qramping", "q2=off", "oscillation.control = qramping, but q2 is disabled");
  refuses_two(f, "oscillation.control=qramping", "q2.rounding=stochastic", "needs q2.rounding = nearest, but that is stoch");
  refuses(f, "oscillation.ema-beta=1", "of at least 0 and below 1");
  refuses(f, "oscillation.beta=0.9", "unknown key 'beta' in [oscillation]; it has control, ema-beta");
  refuses(f, "mx.block=16", "mx.block is 16: blocks of MXFP4 have 32 elements");
  refuses(f, "layers.select=pattern", "layers.select = pattern needs layers.pattern");
  refuses(f, "layers.pattern=*.fc1", "layers.pattern is set, but layers.select is block-linears");
  refuses(f, "recipe.base=fp32", "recipe.base must be the first key of a recipe's file");
  refuses_two(f, "oscillation.control=dampen", "q2=off", "oscillation.control = dampen, but q2 is disabled");
  refuses_two(f, "oscillation.control=freeze", "q2.rounding=stochastic", "needs q2.rounding = nearest, but that is stoch");
  refuses_two(f, "oscillation.control=freeze", "q2.rounding=ema", "needs oscillation.control = ema");
  refuses(f, "q1.source=double", "only q4 and q6");
  refuses(f, "q1=e2m1:ceil:nearest:double", "no quantizer");
  refuses(f, "q1.format=e3m0", "q1.format is e3m0 and q2.format is e2m1");
  refuses_two(f, "q1.format=int4", "q2.format=int4", "q1 is int4:ceil:nearest: INT4 has one scale for the whole tensor");
  refuses(f, "q3.scale=tensor", "q3 is e2m1:tensor:stochastic: only INT4 has one scale for the whole tensor");
  refuses(f, "q1=int4:tensor:nearest", "q1.format is int4 and q2.format is e2m1: the two operands of a product");
  refuses_two(f, "q2=int4:tensor:ema", "q1=int4:tensor:nearest",
              "INT4 is rounded to nearest or stochastically: Q-EMA belongs to MXFP4");
  refuses_two(f, "q1=int4:tensor:nearest", "q2=int4:tensor:nearest",
              "q4.source = double with q2.format = int4 and q4.format = e2m1");
  refuses_two(f, "mx.block=16", "q1=int4:tensor:nearest",
              "mx.block is 16, but q1.format is int4, which has one scale for the whole tensor");
  refuses(f, "q1=int4:tensor", "no quantizer");
  refuses(f, "q7.format=e2m1", "unknown section [q7]");
  refuses(f, "q.format=e2m1", "unknown section [q]");
  refuses(f, "optimizer.learning-rate=1", "unknown key 'learning-rate' in [optimizer]; it has lr, min-lr");
  refuses(f, "optimizer.lr=fast", "optimizer.lr is 'fast', expected a number of at least 0");
  refuses(f, "optimizer.lr=nan", "expected a number");
  refuses(f, "optimizer.lr=1e-9", "optimizer.min-lr (1e-05) is above");
  refuses(f, "optimizer.beta1=1", "of at least 0 and below 1");
  refuses(f, "optimizer.eps=0", "above 0");
  refuses(f, "train.epochs=0", "a whole number of at least 1");
  refuses(f, "train.epochs=2.5", "a whole number");
  refuses(f, "layers.select=none", "a quantizer is enabled");
  refuses(f, "epochs=3", "expected section.key=value");
  refuses(f, "layers.skip=a;b", "without ';'");
}

static void file_faults(void **state) {
  fixture *f = *state;
  assert_null(load(f, "tetrajt", 0, NULL));
  assert_non_null(strstr(f->diag.text, "fp32, int4-per-tensor, microscaling, q1-only"));
  assert_null(load(f, "/nonexistent/x.ini", 0, NULL));
  assert_non_null(strstr(f->diag.text, "/nonexistent/x.ini: error: cannot read the recipe"));
  assert_null(load_text(f, "[train]\nepochs = 3\nepoch = 4\n\n[trian]\nseed = 1\n"));
  assert_non_null(strstr(f->diag.text, ".ini:3: error: unknown key 'epoch' in [train]; it has epochs, seed"));
  assert_non_null(strstr(f->diag.text, ".ini:6: error: unknown section [trian]"));
  assert_null(load_text(f, "[train]\nepochs = 3\nepochs = 4\n"));
  assert_non_null(strstr(f->diag.text, ".ini:3: error: train.epochs is set twice"));
  assert_null(load_text(f, "[train]\nepochs\n"));
  assert_non_null(strstr(f->diag.text, ".ini:2: error: expected [section] or key = value"));
  assert_null(load_text(f, tt_arena_printf(f->arena, "[layers]\nskip = %0300d\n", 1)));
  assert_non_null(strstr(f->diag.text, ".ini:2: error: this line has 307 characters"));
}

int main(void) {
#define CASE(x) cmocka_unit_test_setup_teardown(x, setup, teardown)
  const struct CMUnitTest tests[] = {CASE(shipped_recipes), CASE(ablations), CASE(bases),      CASE(fp32_is_the_default),
                                     CASE(prints_back),     CASE(refusals),  CASE(file_faults)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
