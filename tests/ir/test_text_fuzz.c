/* Damaged text never crashes the parser; and what it accepts, the verifier can look at and the printer prints back to the
 * same module. The damage is made up from fixed seeds, so a failure repeats. */
#include "tests/ir/text_test.h"

static const char *const seeds[] = {
    "module \"m\" vars=192\n"
    "var $w f32[4,3] @vars+0 param decay origin=W transposed scope=/a/b = {1, -0, 1e-45, nan, nan:0xffc00001, inf, -inf, "
    "3, 4, 5, 6, 7}\n"
    "var $\"b \\x0a\" f32[4] @vars+64 state = splat(0.1)\n"
    "graph g arena=128 tensors=3 {\n"
    "  input %x f32[2,3] @arena+0\n"
    "  input %rng i64[2]\n"
    "  %0 = linear(%x, $w) : f32[2,4] @arena+64 as out at /fc/MatMul MatMul\n"
    "  %1 = mx.quantize(%0, %rng) {q=e2m1:ceil:stochastic:double, tensor=1} : mx.e2m1[2,4]\n"
    "  result logits %0\n  result q %1\n  update $w $w\n}\n",
    "graph g {\n input %x f32[2,5,12]\n input %i i64[2]\n %c = const f32[12] splat(1)\n"
    " %a, %b, %d = layernorm(%x, %c, %c) {epsilon=1e-6}\n %h, %hl = attention(%a) {heads=2, scale=0.5}\n"
    " %o, %l = attention(%a, %a, %x) {heads=4, scale=0.5}\n %s = slice(%o) {starts=[0,1,2], ends=[2,3,8], steps=[1,1,2]}\n"
    " %r = reshape(%s) {shape=[3,4]}\n %t = transpose(%r) {perm=[1,0]}\n %e = expand(%t) {shape=[2,4,3]}\n"
    " %g = gather(%e, %i) {axis=2}\n %k = concat(%g, %g) {axis=0}\n %u = reduce_sum(%k) {axes=[0,1], keepdims=1}\n"
    " %v = cast(%u) {to=i64}\n result v %v\n}\n",
    "var $w f32[2,2] param\nvar $m f32[2,2] state\nvar $v f32[2,2] state\ngraph train {\n input %s f32[]\n input %img "
    "f32[1,2,4,4]\n"
    " %k = const f32[2,2,2,2] hex(0000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f "
    "0000803f0000803f0000803f0000803f0000803f"
    "0000803f0000803f0000803f)\n %c = conv(%img, %k) {strides=[2,2], pads=[0,0,0,0], dilations=[1,1], group=1}\n"
    " %p = const bool[2] {0, 1}\n %y = where(%p, %c, %s) : f32[1,2,2,2]\n %f = reshape(%y) {shape=[4,2]}\n"
    " %w2, %m2, %v2 = adamw($w, $m, $v, $w, %s, %s, %s, %s) {beta1=0.9, beta2=0.999, epsilon=1e-08}\n"
    " result f %f\n update $w %w2\n update $m %m2\n update $v %v2\n}\n",
};
static const char *const words[] = {"%x",
                                    "$w",
                                    "{",
                                    "}",
                                    "(",
                                    ")",
                                    "[",
                                    "]",
                                    ",",
                                    "=",
                                    ":",
                                    "@",
                                    "+",
                                    "\"",
                                    "\\",
                                    "\n",
                                    "#",
                                    "%0",
                                    "-1",
                                    "0",
                                    "9223372036854775807",
                                    "99999999999999999999",
                                    "1e999",
                                    "nan:0x7fc00001",
                                    "hex(",
                                    "splat(",
                                    "elided",
                                    "const",
                                    "input",
                                    "result",
                                    "update",
                                    "graph g {\n",
                                    "var $z f32[] param\n",
                                    "f32[0,9999999]",
                                    "mx.e3m0[7,33]",
                                    "axis=-1",
                                    "shape=[]",
                                    "perm=[]",
                                    "heads=0",
                                    "tensor=9223372036854775807",
                                    "as",
                                    "at",
                                    "mx.gemm",
                                    "concat",
                                    "f64",
                                    "i32",
                                    "bool",
                                    "\xff",
                                    "\x01",
                                    "e2m1:ceil:ema",
                                    "q=off",
                                    "[1,1,1,1,1,1,1,1,1]"};
enum { ROUNDS = 12000, ROOM = 8192 };

static uint64_t rng_state = 20250217;
static size_t below(size_t n) {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return n ? (size_t)(rng_state % n) : 0;
}

/* Replaces text[at .. at+cut) by n bytes. */
static void splice(char *text, size_t at, size_t cut, const char *bytes, size_t n) {
  size_t len = strlen(text);
  if (cut > len - at) cut = len - at;
  if (len - cut + n >= ROOM) return;
  char copy[ROOM];
  memcpy(copy, bytes, n);
  memmove(text + at + n, text + at + cut, len - at - cut + 1);
  memcpy(text + at, copy, n);
}

static void damage(char *text) {
  size_t len = strlen(text), at = below(len + 1), n = below(40);
  const char *word = words[below(sizeof words / sizeof *words)];
  const char *other = seeds[below(sizeof seeds / sizeof *seeds)];
  size_t from = below(strlen(other));
  switch (below(7)) {
  case 0: splice(text, at, 1, (char[]){(char)(1 + below(255))}, 1); return;
  case 1: splice(text, at, n, "", 0); return;
  case 2: splice(text, at, 0, word, strlen(word)); return;
  case 3: splice(text, at, 1 + below(6), word, strlen(word)); return;
  case 4: splice(text, at, 0, text + at, n < len - at ? n : len - at); return;
  case 5: splice(text, at, n, other + from, below(strlen(other) - from)); return;
  default: text[at + below(len - at + 1)] = below(4) ? text[at] : 0; return;
  }
}

/* True where the text is a module. */
static bool try_text(const char *text) {
  tt_diag diag;
  tt_strbuf once = {0}, twice = {0};
  tt_diag_init(&diag, NULL);
  tt_module *m = tt_parse_module(text, "fuzz", &diag);
  assert_int_equal(m == NULL, diag.errors > 0);
  if (m) {
    for (size_t i = 0; i < m->graphs.count; i++) tt_verify(m->graphs.data[i], &diag);
    tt_print_module(m, TT_TEXT_FULL, &once);
    tt_module *back = parse_ok(once.data);
    tt_print_module(back, TT_TEXT_FULL, &twice);
    assert_string_equal(once.data, twice.data);
    tt_module_destroy(back);
  }
  tt_module_destroy(m);
  tt_strbuf_free(&once);
  tt_strbuf_free(&twice);
  tt_diag_free(&diag);
  return m;
}

static void accepts_the_undamaged(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) tt_module_destroy(parse_ok(seeds[i]));
}

static void survives_damage(void **state) {
  (void)state;
  int accepted = 0;
  for (int round = 0; round < ROUNDS; round++) {
    char text[ROOM];
    snprintf(text, sizeof text, "%s", seeds[below(sizeof seeds / sizeof *seeds)]);
    for (size_t n = below(4); n > 0; n--) damage(text);
    accepted += try_text(text);
  }
  /* Both sides are reached: much is refused, and something is still a module. */
  assert_in_range(accepted, ROUNDS / 50, ROUNDS * 49 / 50);
}

static void survives_noise(void **state) {
  (void)state;
  for (int round = 0; round < ROUNDS / 4; round++) {
    char text[512];
    size_t n = 0;
    while (n < sizeof text - 64 && below(40)) {
      const char *word = words[below(sizeof words / sizeof *words)];
      n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", word, below(2) ? " " : "");
    }
    text[n] = 0;
    try_text(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(accepts_the_undamaged), cmocka_unit_test(survives_damage),
                                     cmocka_unit_test(survives_noise)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
