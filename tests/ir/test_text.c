/* The text form: exact round trip of everything a module holds, and diagnostics for everything else. */
#include "tests/ir/text_test.h"

/* As the printer writes it, so that printing what was parsed must give the very same text. */
static const char full[] =
    "module \"dir/my model.onnx\" vars=1024\n"
    "var $blocks.0.w f32[4,3] @vars+0 param decay origin=onnx::MatMul_12 transposed scope=/blocks.0/attn = {1, -0, "
    "1.4013e-45, "
    "nan, nan:0xffc00001, inf, -inf, 3.1415927, 0.1, 3.4028235e+38, 16777216, -1e-10}\n"
    "var $\"a \\\"quoted\\\" \\\\ name\\x0a\" f32[4] @vars+64 param origin=\"b 1\" = splat(0.5)\n"
    "var $ema:blocks.0.w f32[4,3] @vars+128 state copy_of=$blocks.0.w\n"
    "var $step i64[] @vars+192 state = {-9223372036854775808}\n"
    "\n"
    "graph forward arena=4096 tensors=9 {\n"
    "  input %images f32[2,3] @arena+0\n"
    "  input %\"12\" i64[2]\n"
    "  %0 = linear(%images, $blocks.0.w, $\"a \\\"quoted\\\" \\\\ name\\x0a\") : f32[2,4]\n"
    "  %1 = const f32[] @const+0 as half {0.5}\n"
    "  %2 = mul(%1, %0) : f32[2,4] @arena+64 as scaled at /blocks.0/Mul Mul\n"
    "  %3 = const bool[4] {1, 0, 1, 1}\n"
    "  %4 = where(%3, %2, %0) : f32[2,4] at \"a node\"\n"
    "  %5 = const f32[4] splat(1)\n"
    "  %6, %7, %8 = layernorm(%4, %5, %5) {epsilon=1e-05f} : f32[2,4], f32[2], f32[2] @arena+128 as rstd\n"
    "  result logits %6\n"
    "  result \"\" %images\n"
    "  update $ema:blocks.0.w $blocks.0.w\n"
    "}\n"
    "\n"
    "graph train {\n"
    "  %0 = const mx.e3m0[1,40] hex(000102030405060708090a0b0c0d0e0fffeeddccbbaa998877665544332211007f80)\n"
    "  %1 = const i64[2] {7, -3}\n"
    "  %2 = mx.requantize(%0, %1) {q=e2m1:floor:stochastic:double, tensor=41} : mx.e2m1[40,1]\n"
    "  %3 = reshape(%1) {shape=[1,2,1]} : i64[1,2,1]\n"
    "  %4 = cast(%3) {to=bool} : bool[1,2,1]\n"
    "  result q %2\n"
    "  result b %4\n"
    "  %5 = const f64[2] {0.1, nan:0x7ff0000000000001}\n"
    "  result v %5\n"
    "}\n";

static void prints_what_it_parsed(void **state) {
  (void)state;
  tt_module *m = parse_ok(full);
  tt_strbuf out = {0};
  tt_print_module(m, TT_TEXT_FULL, &out);
  assert_string_equal(out.data, full);
  assert_int_equal(m->vars_bytes, 1024);
  assert_int_equal(m->var_offset.data[2], 128);
  const tt_graph *g = tt_module_find_graph(m, "forward");
  assert_int_equal(g->next_tensor, 9);
  assert_int_equal(tt_module_find_graph(m, "train")->next_tensor, 42);
  const tt_node_data *mul = tt_nod(g, tt_nod(g, g->first)->next);
  assert_string_equal(mul->loc.node, "/blocks.0/Mul");
  assert_string_equal(mul->loc.op, "Mul");
  assert_string_equal(mul->loc.file, "test.ttir");
  assert_int_equal(mul->loc.line, 12);
  assert_int_equal(tt_val(g, mul->out[0])->offset, 64);
  assert_string_equal(tt_val(g, mul->out[0])->name, "scaled");
  tt_strbuf_free(&out);
  tt_module_destroy(m);
}

static uint64_t random_bits(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

static const char *print_and_parse(const tt_module *m, tt_text_mode mode, tt_module **back) {
  static tt_strbuf text;
  tt_strbuf_free(&text);
  tt_print_module(m, mode, &text);
  *back = parse_ok(text.data);
  return text.data;
}

/* All bit patterns of every element type survive, whatever the size of the tensor. */
static void keeps_every_bit(void **state) {
  (void)state;
  uint64_t seed = 42;
  tt_module *m = tt_module_create("bits"), *back;
  for (int dtype = 0; dtype < TT_DTYPE_COUNT; dtype++) {
    for (int64_t n = 0; n < 40; n += n < 8 ? 1 : 13) {
      tt_type t = dtype == TT_MX ? tt_type_mx(TT_E3M0, n % 3, n) : tt_type_make((tt_dtype)dtype, 2, (int64_t[]){2, n});
      uint8_t *data = tt_arena_alloc(m->arena, tt_type_bytes(&t));
      for (size_t i = 0; i < tt_type_bytes(&t); i++) data[i] = (uint8_t)random_bits(&seed);
      if (dtype == TT_BOOL && n % 2) {
        for (size_t i = 0; i < tt_type_bytes(&t); i++) data[i] &= 1;
      }
      tt_module_add_var(
          m, (tt_var){
                 .name = tt_arena_printf(m->arena, "v%d.%d", dtype, (int)n), .type = t, .copy_of = TT_NONE, .init = data});
    }
  }
  print_and_parse(m, TT_TEXT_FULL, &back);
  assert_int_equal(back->vars.count, m->vars.count);
  for (size_t i = 0; i < m->vars.count; i++) {
    const tt_var *a = &m->vars.data[i], *b = &back->vars.data[i];
    assert_string_equal(a->name, b->name);
    assert_true(tt_type_equal(&a->type, &b->type));
    assert_memory_equal(a->init, b->init, tt_type_bytes(&a->type));
  }
  tt_module_destroy(back);
  tt_module_destroy(m);
}

static void floats_keep_their_bits(void **state) {
  (void)state;
  uint64_t seed = 7;
  for (int round = 0; round < 200; round++) {
    tt_module *m = tt_module_create("f"), *back;
    tt_graph *g = tt_graph_create(m, "g");
    for (int i = 0; i < 8; i++) {
      float f;
      double d;
      uint64_t bits = random_bits(&seed);
      uint32_t low = (uint32_t)bits;
      memcpy(&f, &low, sizeof f);
      memcpy(&d, &bits, sizeof d);
      tt_graph_set_result(g, i % 2 ? "a" : "b", tt_graph_const_f32(g, f));
      tt_graph_set_result(g, i % 2 ? "c" : "d", tt_graph_const(g, tt_type_scalar(TT_F64), &d));
    }
    print_and_parse(m, TT_TEXT_FULL, &back);
    const tt_graph *h = back->graphs.data[0];
    for (size_t i = 0; i < g->results.count; i++) {
      tt_value a = g->results.data[i].value, b = h->results.data[i].value;
      assert_memory_equal(tt_const_data(g, a), tt_const_data(h, b), tt_type_bytes(tt_typ(g, a)));
    }
    tt_module_destroy(back);
    tt_module_destroy(m);
  }
}

static void elided_data_parses_to_zeros(void **state) {
  (void)state;
  tt_module *m = tt_module_create("e"), *back;
  float data[64], zeros[64] = {0};
  for (int i = 0; i < 64; i++) data[i] = (float)i;
  tt_type big = tt_type_make(TT_F32, 1, (int64_t[]){64}), small = tt_type_make(TT_F32, 1, (int64_t[]){4});
  tt_module_add_var(m, (tt_var){.name = "big", .type = big, .copy_of = TT_NONE, .init = data});
  tt_module_add_var(m, (tt_var){.name = "small", .type = small, .copy_of = TT_NONE, .init = data});
  const char *text = print_and_parse(m, TT_TEXT_ELIDED, &back);
  assert_non_null(strstr(text, "var $big f32[64] param = elided\n"));
  assert_memory_equal(back->vars.data[0].init, zeros, sizeof zeros);
  assert_memory_equal(back->vars.data[1].init, data, 4 * sizeof *data);
  tt_module_destroy(back);
  tt_module_destroy(m);
}

/* Passes leave gaps and disorder in ids; the text does not show them, and a node alone prints as in its graph. */
static void numbers_by_order_of_text(void **state) {
  (void)state;
  tt_module *m = parse_ok("graph g {\n input %x f32[2]\n %dead = neg(%x)\n %b = exp(%x)\n %two = const f32[] {2}\n %c = "
                          "mul(%b, %two)\n result r %c\n}\n");
  tt_graph *g = m->graphs.data[0];
  assert_int_equal(tt_graph_sweep(g), 1);
  tt_builder b = {.g = g, .at = g->first};
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  b.diag = &diag;
  tt_value early = tt_build1(&b, TT_OP_ABS, g->inputs.data[0], 0, NULL);
  tt_graph_replace(g, g->inputs.data[0], early);
  tt_nod(g, g->first)->in[0] = g->inputs.data[0];
  tt_strbuf out = {0};
  tt_print_graph(g, TT_TEXT_FULL, &out);
  assert_string_equal(
      out.data, "graph g {\n  input %x f32[2]\n  %0 = abs(%x) : f32[2]\n  %1 = exp(%0) : f32[2]\n  %2 = const f32[] {2}\n"
                "  %3 = mul(%1, %2) : f32[2]\n  result r %3\n}\n");
  TT_FOR_NODES(g, n) {
    tt_strbuf line = {0};
    tt_print_node(g, n, &line);
    assert_non_null(strstr(out.data, line.data));
    tt_strbuf_free(&line);
  }
  tt_strbuf_free(&out);
  tt_module_destroy(m);
}

static void hand_written_text_may_be_loose(void **state) {
  (void)state;
  tt_module *m = parse_ok(
      "# no header, comments, CRLF, no types\r\nvar $w f32[2,2] state # zeros\r\ngraph \"g\" {\r\n\tinput %x f32[2,2]\r\n"
      " %y=matmul(%x,$w){trans_b=1}\r\n %1 = const f32[2,2] {1,\n 2, 3,\n 4}\n %z = add(%y, %1) {}\r\n result r %z\r\n}");
  const tt_graph *g = m->graphs.data[0];
  assert_string_equal(m->name, "test.ttir");
  assert_int_equal(m->vars.data[0].role, TT_VAR_STATE);
  assert_null(m->vars.data[0].init);
  assert_int_equal(tt_node_int(g, g->first, TT_A_TRANS_B), 1);
  tt_module_destroy(m);
}

static void reports_several_faults_with_lines(void **state) {
  (void)state;
  static const char text[] = "module \"m\"\n"
                             "var $w f32[2,3] param = {1, 2}\n"
                             "var $w2 f33[2] param\n"
                             "graph g {\n"
                             "  input %x f32[2,3]\n"
                             "  %a = frobnicate(%x)\n"
                             "  %b = add(%a, %w)\n"
                             "  %c = add(%a, %x)\n"
                             "  %d = neg(%x) : f32[3,2]\n"
                             "  %e = neg(%x) {axis=x}\n"
                             "  %f, %g = neg(%x)\n"
                             "  %x = neg(%x)\n"
                             "  %h = linear(%x, $w)\n"
                             "  what is this\n"
                             "  result r %c\n"
                             "  result r2 %d ,\n"
                             "}\n";
  static const char *const expected[] = {
      "test.ttir:2: error: 2 elements, expected 6\n",
      "test.ttir:3: error: expected an element type (f32, f64, i32, i64, bool, mx.e2m1, mx.e3m0, int4), found 'f33'\n",
      "test.ttir:6: error: no op is named 'frobnicate'\n",
      "test.ttir:7: error: value %w is not defined\n",
      "test.ttir:9: neg: error: result 0 is f32[2,3], written as f32[3,2]\n",
      "test.ttir:10: error: expected an integer, found 'x'\n",
      "test.ttir:11: neg: error: neg has 1 result, but 2 named and 0 typed\n",
      "test.ttir:12: error: value %x is defined twice\n",
      "test.ttir:14: error: expected input, result, update, '}' or a value, found 'what'\n",
      "test.ttir:16: error: expected the end of the line, found ','\n"};
  tt_diag diag;
  parse_bad(text, sizeof expected / sizeof *expected, &diag);
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) assert_says(&diag, expected[i]);
  tt_diag_free(&diag);
}

/* One statement in a graph, or one line before it, and what is said of it. */
static void refuses_by_reason(void **state) {
  (void)state;
  static const struct {
    const char *before, *inside, *why;
  } bad[] = {
      {"", "%y = neg(%x", "expected ')', found the end of the line"},
      {"", "%y = const f32[2] {1, 2, 3}", "3 elements, expected 2"},
      {"", "%y = const f32[2] {1, 1e39}", "expected a number that an f32 holds"},
      {"", "%y = softmax(%x) {scale=1e300f}", "expected a number that an f64 holds"},
      {"", "%y = const i32[1] {2147483648}", "2147483648 does not fit into i32"},
      {"", "%y = const bool[1] {2}", "2 does not fit into bool"},
      {"", "%y = const i64[1] {9223372036854775808}", "expected a 64-bit integer"},
      {"", "%y = const f32[1] {nan:0x3f800000}", "expected the bits of a NaN"},
      {"", "%y = const f32[1] hex(00 00 80)", "hex data is of another length than its type"},
      {"", "%y = const f32[1] hex(0000803g)", "hex data holds something else"},
      {"", "%y = const f32[1] hex(0000803f", "hex data without its closing parenthesis"},
      {"", "%y = const mx.e2m1[1,32] splat(0)", "the data forms of an mx matrix"},
      {"", "%y = const mx.e2m1[32] elided", "a matrix of 4-bit numbers has 1 dimensions, expected 2"},
      {"", "%y = const f32[70000,70000] splat(1)", "more than 1 GiB of data"},
      {"", "%y = const f32[99999999999,99999999999] elided", "a type of too many elements"},
      {"", "%y = const f32[-1] elided", "dimension -1 of a type is negative"},
      {"", "%y = const f32[1,1,1,1,1,1,1,1,1] {1}", "more than 8 numbers in a list"},
      {"", "%y = neg(%x) {axis=1, axis=2}", "attribute 'axis' is given twice"},
      {"", "%y = neg(%x) {color=1}", "expected an attribute, found 'color'"},
      {"", "%y = mx.quantize(%x) {q=e2m1:up:nearest}", "expected a quantizer"},
      {"", "%a, %b, %c, %d, %e, %f, %g, %h, %i = neg(%x)", "more than 8 results"},
      {"", "%y = mx.fused(%x) {of=[nag]}", "expected an op, found 'nag'"},
      {"", "result \"r %x", "a string without its closing quote"},
      {"", "result \"\\n\" %x", "bad escape in a string"},
      {"", "result r %x\n result r %x", "result 'r' is given twice"},
      {"", "update $v %x", "no var is named 'v'"},
      {"", "input %3 f32[]", "an input needs a name, not a number"},
      {"", "%y = neg(%x) : f32[2,3] @moon+1", "expected arena, vars or const, found 'moon'"},
      {"", "%y = neg(?)", "a character that means nothing here"},
      {"var $a f32[] @vars+0 param\nvar $b f32[] param\n", "", "either every var has a place or none has"},
      {"var $a f32[] param\nvar $a f32[] param\n", "", "var 'a' is defined twice"},
      {"var $a f32[] param\nvar $b f32[2] param copy_of=$a\n", "", "copy_of names a var of another type"},
      {"var $a f32[] param copy_of=$b\n", "", "no var is named 'b'"},
      {"var $a f32[] param\nmodule m\n", "", "the module's header belongs before its vars"},
      {"graph g {\n}\n", "", "graph 'g' is defined twice"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tt_strbuf text = {0};
    tt_diag diag;
    tt_strbuf_printf(&text, "%sgraph g {\n input %%x f32[2,3]\n %s\n}\n", bad[i].before, bad[i].inside);
    parse_bad(text.data, strstr(bad[i].inside, "hex(0000803f") ? -1 : 1, &diag);
    assert_says(&diag, bad[i].why);
    tt_diag_free(&diag);
    tt_strbuf_free(&text);
  }
}

static void refuses_what_is_no_module(void **state) {
  (void)state;
  static const struct {
    const char *text, *why;
  } bad[] = {{"", "this is no .ttir module"},
             {"\n# nothing\n", "this is no .ttir module"},
             {"graph g {\n", "graph 'g' ends without its '}'"},
             {"\x7f"
              "ELF\x02",
              "expected module, var or graph, found a character that means nothing here"}};
  tt_diag diag;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    parse_bad(bad[i].text, 1, &diag);
    assert_says(&diag, bad[i].why);
    tt_diag_free(&diag);
  }
  tt_strbuf many = {0};
  for (int i = 0; i < 1000; i++) tt_strbuf_printf(&many, "nonsense %d\n", i);
  parse_bad(many.data, TT_DIAG_MAX, &diag);
  tt_diag_free(&diag);
  tt_strbuf_free(&many);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(prints_what_it_parsed),
      cmocka_unit_test(keeps_every_bit),
      cmocka_unit_test(floats_keep_their_bits),
      cmocka_unit_test(elided_data_parses_to_zeros),
      cmocka_unit_test(numbers_by_order_of_text),
      cmocka_unit_test(hand_written_text_may_be_loose),
      cmocka_unit_test(reports_several_faults_with_lines),
      cmocka_unit_test(refuses_by_reason),
      cmocka_unit_test(refuses_what_is_no_module),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
