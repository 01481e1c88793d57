/* Every op's shape rule: what it accepts, with the types it infers, and what it refuses, with the reason it gives. The op
 * table is swept, so an op without a case here fails. */
#include "tests/ir/text_test.h"

typedef struct shape_case {
  const char *good; /* results typed, so that the parser compares them with what is inferred; NULL: a further refusal */
  const char *bad, *why;
} shape_case;

static const char inputs[] =
    "input %s f32[]\n input %d f32[3]\n input %a f32[2,3]\n input %a1 f32[2,1]\n input %w f32[4,3]\n"
    "input %f64 f64[2,3]\n input %int i64[2,3]\n input %p bool[2,3]\n input %rng i64[2]\n"
    "input %t f32[5,2,3]\n input %m mx.e2m1[2,64]\n input %n mx.e3m0[4,64]\n input %n4 f32[4]\n"
    "input %img f32[2,4,8,8]\n input %k f32[6,4,4,4]\n input %kb f32[6]\n input %rows f32[10]\n"
    "input %qkv f32[2,5,36]\n input %q f32[2,5,12]\n input %lse f32[2,3,5]\n input %g12 f32[12]\n"
    "input %none f32[2,0,12]\n input %lab i32[2]\n input %loss f32[2]\n input %x64 f32[2,64]\n";

static const shape_case cases[] = {
#define UNARY(op)                                                                                                          \
  { "%r = " op "(%a) : f32[2,3]", "%r = " op "(%p)", "input 0 is bool[2,3], expected numbers" }
    UNARY("neg"),
    UNARY("exp"),
    UNARY("log"),
    UNARY("sqrt"),
    UNARY("reciprocal"),
    UNARY("erf"),
    UNARY("tanh"),
    UNARY("sigmoid"),
    UNARY("abs"),
    UNARY("relu"),
    UNARY("floor"),
    UNARY("gelu"),
    UNARY("softmax"),
    {NULL, "%r = neg(%a, %a)", "neg has 2 inputs, expected 1"},
    {NULL, "%r = softmax(%s)", "input 0 is f32[], expected f32 with at least one dimension"},
    {"%r = not(%p) : bool[2,3]", "%r = not(%a)", "input 0 is f32[2,3], expected bool"},
    {"%r = isnan(%a) : bool[2,3]", "%r = isnan(%m)", "input 0 is mx.e2m1[2,64], expected numbers"},
    {"%r = cast(%p) {to=i64} : i64[2,3]", "%r = cast(%a)", "attribute 'to' is missing"},
    {NULL, "%r = cast(%m) {to=f32}", "expected unpacked elements"},
    {"%r = gelu_grad(%a, %a) {tanh=1} : f32[2,3]", "%r = gelu_grad(%a, %a1)",
     "input 1 is f32[2,1], expected f32[2,3] as input 0"},
#define BINARY(op)                                                                                                         \
  {                                                                                                                        \
    "%r = " op "(%t, %a1) : f32[5,2,3]", "%r = " op "(%a, %w)",                                                            \
        "inputs 0 and 1 are f32[2,3] and f32[4,3], whose shapes do not broadcast"                                          \
  }
    BINARY("add"),
    BINARY("sub"),
    BINARY("mul"),
    BINARY("div"),
    BINARY("pow"),
    BINARY("min"),
    BINARY("max"),
    BINARY("mod"),
    {NULL, "%r = add(%a, %f64)", "input 1 is f64[2,3], expected element type f32 as input 0"},
    {"%r = equal(%p, %p) : bool[2,3]", "%r = equal(%a, %int)", "expected element type f32"},
    {"%r = less(%a, %s) : bool[2,3]", "%r = less(%p, %p)", "input 0 is bool[2,3], expected numbers"},
    {"%r = greater(%int, %int) : bool[2,3]", "%r = greater(%p, %p)", "expected numbers"},
    {"%r = and(%p, %p) : bool[2,3]", "%r = and(%p, %a)", "input 1 is f32[2,3], expected bool"},
    {"%r = or(%p, %p) : bool[2,3]", "%r = or(%a, %p)", "input 0 is f32[2,3], expected bool"},
    {"%r = where(%p, %s, %t) : f32[5,2,3]", "%r = where(%a, %a, %a)", "input 0 is f32[2,3], expected bool"},
    {NULL, "%r = where(%p, %w, %s)", "input 0 is bool[2,3], which does not broadcast with f32[4,3] of inputs 1 and 2"},
    {"%r = shape(%t) : i64[3]", "%r = shape(%m)", "expected unpacked elements"},
    {"%r = reshape(%a) {shape=[3,1,2]} : f32[3,1,2]", "%r = reshape(%a) {shape=[3,3]}",
     "input 0 is f32[2,3], expected as many elements as f32[3,3]"},
    {NULL, "%r = reshape(%a) {shape=[-1,3]}", "attribute 'shape' has dimension -1 at 0, expected a known size"},
    {NULL, "%r = reshape(%a) {shape=[9999999999,9999999999]}", "attribute 'shape' asks for too many elements"},
    {NULL, "%r = reshape(%a)", "attribute 'shape' is missing"},
    {"%r = transpose(%t) {perm=[2,0,1]} : f32[3,5,2]", "%r = transpose(%t) {perm=[2,0,2]}",
     "not a permutation of 3 dimensions"},
    {NULL, "%r = transpose(%t) {perm=[1,0]}", "attribute 'perm' has 2 entries, expected 3"},
    {"%r = slice(%t) {starts=[0,1,0], ends=[5,2,0], steps=[2,1,1]} : f32[3,1,0]",
     "%r = slice(%a) {starts=[0,0], ends=[2,4], steps=[1,1]}", "slice 0 to 4 of dimension 1, which has 3 elements"},
    {NULL, "%r = slice(%a) {starts=[0,0], ends=[2,3], steps=[1,0]}", "attribute 'steps' is 0 at dimension 1"},
    {"%r = slice_grad(%a) {starts=[1,0], steps=[1,2], shape=[3,5]} : f32[3,5]",
     "%r = slice_grad(%a) {starts=[1,0], steps=[1,2], shape=[3,4]}",
     "dimension 1: 3 elements from 0 in steps of 2 do not fit into 4"},
    {"%r = concat(%a, %w) {axis=0} : f32[6,3]", "%r = concat(%a, %w) {axis=1}",
     "input 1 is f32[4,3], expected f32[2,3] but for dimension 1"},
    {NULL, "%r = concat(%a) {axis=2}", "attribute 'axis' is 2, expected 0 to 1 for input 0 of rank 2"},
    {NULL, "%r = concat()", "concat has 0 inputs, expected at least 1"},
    {"%r = expand(%a1) {shape=[7,2,3]} : f32[7,2,3]", "%r = expand(%a) {shape=[2,4]}",
     "input 0 is f32[2,3], expected a shape that broadcasts to f32[2,4]"},
    {NULL, "%r = expand(%a) {shape=[3]}", "expected a shape that broadcasts to f32[3]"},
    {"%r = gather(%t, %rng) {axis=1} : f32[5,2,3]", "%r = gather(%t, %a) {axis=1}",
     "input 1 is f32[2,3], expected i64 or i32 indices"},
    {"%c = const i64[] {-1}\n %r = gather(%t, %c) {axis=2} : f32[5,2]", "%c = const i64[] {3}\n %r = gather(%t, %c) {axis=2}",
     "index 3 is outside dimension 2, which has 3 elements"},
    {"%r = reduce_sum(%t) {axes=[0,2], keepdims=1} : f32[1,2,1]", "%r = reduce_sum(%t) {axes=[2,0]}",
     "attribute 'axes' has 0 at 1: expected ascending axes"},
    {"%r = reduce_mean(%t) {axes=[2]} : f32[5,2]", "%r = reduce_mean(%t) {axes=[3]}", "below the rank 3 of input 0"},
    {"%r = reduce_max(%t) {axes=[0,1,2]} : f32[]", "%r = reduce_max(%t) {axes=[0], keepdims=2}",
     "attribute 'keepdims' is 2, expected 0 or 1"},
    {"%r = matmul(%t, %w) {trans_b=1} : f32[5,2,4]", "%r = matmul(%a, %w)", "input 1 is f32[4,3], expected [..,3,*]"},
    {"%r = matmul(%a, %t) {trans_a=1} : f32[5,3,3]", "%r = matmul(%d, %a)",
     "input 0 is f32[3], expected at least 2 dimensions"},
    {NULL, "%r = matmul(%t, %k) {trans_b=1}", "input 1 is f32[6,4,4,4], expected [..,*,3]"},
    {"%r = linear(%t, %w, %n4) : f32[5,2,4]", "%r = linear(%t, %w, %d)", "input 2 is f32[3], expected f32[4]"},
    {NULL, "%r = linear(%q, %w)", "input 1 is f32[4,3], expected f32[*,12]"},
    {"%r = conv(%img, %k, %kb) {strides=[4,4], pads=[0,0,0,0], dilations=[1,1], group=1} : f32[2,6,2,2]",
     "%r = conv(%img, %k) {strides=[4,4], pads=[0,0,0,0], dilations=[3,3], group=1}",
     "a kernel of 4 with dilation 3 is larger than the padded input of 8"},
    {NULL, "%r = conv(%img, %k) {strides=[4,4], pads=[0,0,0,0], dilations=[1,1]}", "attribute 'group' is 0"},
    {NULL, "%r = softmax_grad(%a, %t)", "input 1 is f32[5,2,3], expected f32[2,3] as input 0"},
    {"%r = softmax_grad(%a, %a) : f32[2,3]", "%r = softmax_grad(%s, %s)", "at least one dimension"},
    {"%r, %mean, %rstd = layernorm(%q, %g12, %g12) {epsilon=1e-6} : f32[2,5,12], f32[10], f32[10]",
     "%r, %mean, %rstd = layernorm(%q, %g12, %d)", "input 2 is f32[3], expected f32[12]"},
    {"%r, %x, %y = layernorm_grad(%q, %q, %g12, %rows, %rows) : f32[2,5,12], f32[12], f32[12]",
     "%r, %x, %y = layernorm_grad(%q, %q, %g12, %rows, %s)", "input 4 is f32[], expected f32[10]"},
    {"%r, %l = attention(%qkv) {heads=3, scale=0.5} : f32[2,5,12], f32[2,3,5]", "%r, %l = attention(%qkv) {heads=5}",
     "input 0 is f32[2,5,36], expected f32[*,*,3*5*d] for 5 heads"},
    {"%r, %l = attention(%q, %q, %q) {heads=4} : f32[2,5,12], f32[2,4,5]", "%r, %l = attention(%q, %q) {heads=4}",
     "attention has 2 inputs"},
    {"%r, %l = attention(%q, %q, %q) {heads=4, queries=2} : f32[2,2,12], f32[2,4,2]",
     "%r, %l = attention(%q, %q, %q) {heads=4, queries=6}", "attribute 'queries' is 6, expected 1 to 5"},
    {NULL, "%r, %l = attention(%none, %none, %none) {heads=4}", "attention of 0 tokens, expected at least 1"},
    {NULL, "%r, %l = attention(%q, %q, %q) {heads=4, queries=0}", "attribute 'queries' is 0, expected 1 to 5"},
    {NULL, "%r, %l = attention(%q, %q, %q)", "attribute 'heads' is 0, expected at least 1"},
    {"%r = attention_grad(%q, %lse, %qkv) {heads=3} : f32[2,5,36]", "%r = attention_grad(%q, %a, %qkv) {heads=3}",
     "input 1 is f32[2,3], expected f32[2,3,5]"},
    {"%r, %x, %y = attention_grad(%q, %lse, %q, %q, %q) {heads=3} : f32[2,5,12], f32[2,5,12], f32[2,5,12]",
     "%r = attention_grad(%q, %lse, %q, %q) {heads=3}", "attention_grad has 4 inputs"},
    {"%r = xent(%a, %lab) {smoothing=0.1} : f32[2]", "%r = xent(%w, %lab)", "input 1 is i32[2], expected i32[4] or f32[4,3]"},
    {"%r = xent(%a, %a) : f32[2]", "%r = xent(%a, %lab) {smoothing=2}", "attribute 'smoothing' is 2, expected 0 to 1"},
    {"%r = xent_grad(%loss, %a, %lab) : f32[2,3]", "%r = xent_grad(%s, %a, %lab)", "input 0 is f32[], expected f32[2]"},
    {"%r = correct(%a, %lab) : i32[2]", "%r = correct(%t, %lab)", "input 0 is f32[5,2,3], expected 2 dimensions"},
    {"%r = sumsq(%a, %t, %s) : f32[3]", "%r = sumsq(%a, %int)", "input 1 is i64[2,3], expected f32"},
    {"%r, %x = clip_coef(%d) {max_norm=1} : f32[], f32[]", "%r, %x = clip_coef(%a)",
     "input 0 is f32[2,3], expected 1 dimension"},
    {"%r, %x, %y = adamw(%a, %a, %a, %a, %s, %s, %s, %s) : f32[2,3], f32[2,3], f32[2,3]",
     "%r, %x, %y = adamw(%a, %a, %w, %a, %s, %s, %s, %s)", "input 2 is f32[4,3], expected f32[2,3] as input 0"},
    {NULL, "%r, %x, %y = adamw(%a, %a, %a, %a, %s, %d, %s, %s)", "input 5 is f32[3], expected f32[]"},
    {"%r, %x, %y, %e = adamw_ema(%a, %a, %a, %a, %a, %s, %s, %s, %s) {ema_beta=0.9} : f32[2,3], f32[2,3], f32[2,3], f32[2,3]",
     "%r, %x, %y, %e = adamw_ema(%a, %a, %a, %w, %a, %s, %s, %s, %s)", "input 3 is f32[4,3], expected f32[2,3] as input 0"},
    {"%r, %x, %y, %e, %f = adamw_ramp(%a, %a, %a, %a, %a, %a, %a, %s, %s, %s, %s) : f32[2,3], f32[2,3], f32[2,3], f32[2,3], "
     "f32[2,3]",
     "%r, %x, %y, %e, %f = adamw_ramp(%a, %a, %a, %a, %a, %w, %a, %s, %s, %s, %s)",
     "input 5 is f32[4,3], expected f32[2,3] as input 0"},
    {"%r, %l, %e, %f, %g = freeze(%a, %a, %a, %a, %a, %a) {threshold=0.02, momentum=0.01} : f32[2,3], f32[2,3], f32[2,3], "
     "f32[2,3], f32[2,3]",
     "%r, %l, %e, %f, %g = freeze(%a, %a, %a, %a, %a, %w)", "input 5 is f32[4,3], expected f32[2,3] as input 0"},
    {"%r = mx.quantize(%t) {q=e2m1:ceil:nearest} : mx.e2m1[10,3]", "%r = mx.quantize(%t)", "attribute 'q' is missing or off"},
    {"%r = mx.quantize(%t, %rng) {q=e3m0:floor:stochastic, transpose=1, tensor=3} : mx.e3m0[3,10]",
     "%r = mx.quantize(%t, %rng) {q=e2m1:ceil:stochastic}", "needs attribute 'tensor'"},
    {"%r = mx.quantize(%t, %t) {q=e2m1:ceil:ema} : mx.e2m1[10,3]", "%r = mx.quantize(%t, %a) {q=e2m1:ceil:ema}",
     "input 1 is f32[2,3], expected f32[5,2,3] as input 0"},
    {"%r = mx.quantize(%t, %t, %rng) {q=e2m1:ceil:ema, from=10} : mx.e2m1[10,3]",
     "%r = mx.quantize(%t, %t) {q=e2m1:ceil:ema, from=10}", "2 inputs, expected 3"},
    {NULL, "%r = mx.quantize(%t, %t, %rng) {q=e2m1:ceil:ema}", "3 inputs, expected 2"},
    {NULL, "%r = mx.quantize(%t, %t, %d) {q=e2m1:ceil:ema, from=1}", "input 2 is f32[3], expected rng i64[2]"},
    {NULL, "%r = mx.quantize(%t, %rng) {q=e2m1:ceil:stochastic, tensor=1, from=3}", "'from' is 3"},
    {NULL, "%r = mx.quantize(%t, %rng) {q=e2m1:ceil:nearest}", "rounding to nearest has a second input, expected none"},
    {NULL, "%r = mx.quantize(%t) {q=e2m1:ceil:stochastic, tensor=1}", "stochastic rounding needs a second input"},
    {NULL, "%r = mx.quantize(%t, %d) {q=e2m1:ceil:stochastic, tensor=1}", "input 1 is f32[3], expected rng i64[2]"},
    {"%l, %r = mx.fused(%t, %rng) {q=e2m1:ceil:stochastic, tensor=3, q_t=e3m0:ceil:nearest} : mx.e2m1[10,3], mx.e3m0[3,10]",
     "%r = mx.fused(%t, %rng)", "neither 'q' nor 'q_t' says how to quantize"},
    {"%g, %l, %e, %r, %f = mx.fused(%t, %t, %d, %d) {of=[add,layernorm], keep=[1,0], q=e2m1:ceil:nearest, colsum=1}"
     " : f32[5,2,3], f32[10], f32[10], mx.e2m1[10,3], f32[3]",
     "%r = mx.fused(%t, %d) {of=[add], keep=[0], q=e2m1:ceil:nearest}", "input 1 is f32[3], expected f32[5,2,3] as input 0"},
    {NULL, "%r = mx.fused(%t, %t) {of=[gelu], keep=[0], q=e2m1:ceil:nearest}", "2 inputs, expected 1 for these ops"},
    {NULL, "%r = mx.fused(%t) {of=[softmax], keep=[0], q=e2m1:ceil:nearest}", "an op that is no step"},
    {NULL, "%r = mx.fused(%t) {of=[gelu], q=e2m1:ceil:nearest}", "'keep' needs one flag for each op"},
    {NULL, "%r = mx.fused(%t) {of=[gelu], keep=[2], q=e2m1:ceil:nearest}", "other numbers than 0 and 1"},
    {NULL, "%r = mx.fused(%t) {of=[neg,neg,neg,neg,neg], keep=[0,0,0,0,0], q=e2m1:ceil:nearest}", "more than 4 ops"},
    {NULL, "%r = mx.fused(%t, %t) {q=e2m1:ceil:ema}", "ema rounding is of weights"},
    {NULL, "%r = mx.fused(%t) {q=int4:tensor:nearest}", "a scale of the whole tensor is known too late"},
    {NULL, "%r = mx.fused(%t) {q_t=e2m1:ceil:nearest, colsum=1}", "'colsum' needs 'q'"},
    {NULL, "%r = mx.fused(%t, %rng) {q_t=e2m1:ceil:stochastic, tensor=1}", "needs 'tensor' or 'tensor_t'"},
    {NULL, "%r = mx.fused(%t, %d) {q=e2m1:ceil:stochastic, tensor=1}", "input 1 is f32[3], expected rng i64[2]"},
    {"%y, %l, %r = mx.fused(%m, %n, %n4, %rng) {of=[mx.gemm,gelu], keep=[1,0], q=e2m1:ceil:stochastic, tensor=3, "
     "q_t=e2m1:ceil:nearest} : f32[2,4], mx.e2m1[2,4], mx.e2m1[4,2]",
     "%r = mx.fused(%x64, %n) {of=[mx.gemm], keep=[0], q=e2m1:ceil:nearest}", "input 0 is f32[2,64], expected an mx matrix"},
    {NULL, "%r = mx.fused(%m, %n, %d) {of=[mx.gemm,neg], keep=[0,0], q=e2m1:ceil:nearest}",
     "input 2 is f32[3], expected f32[4]"},
    {NULL, "%r = mx.fused(%m, %n, %a) {of=[mx.gemm,add], keep=[0,0], q=e2m1:ceil:nearest}",
     "f32[2,4] and f32[2,3], whose shapes do not broadcast"},
    {NULL, "%r = mx.fused(%x64, %m, %n) {of=[neg,mx.gemm], keep=[0,0], q=e2m1:ceil:nearest}", "an op that is no step"},
    {"%y, %l, %r = mx.fused(%t, %w) {of=[linear,gelu], keep=[1,1], colsum=1} : f32[5,2,4], f32[5,2,4], f32[4]",
     "%r = mx.fused(%t, %w) {of=[linear,gelu], keep=[1,0]}", "what the last op makes is neither kept nor quantized"},
    {"%r = mx.fused(%a, %w) {of=[matmul,neg], keep=[0,1], trans_b=1} : f32[2,4]",
     "%r = mx.fused(%a, %a) {of=[matmul,neg], keep=[0,1], trans_a=1}", "attribute 'trans_a' leaves no rows to go by"},
    {NULL, "%r = mx.fused(%a, %t) {of=[matmul,neg], keep=[0,1], trans_b=1}", "input 1 is f32[5,2,3], expected 2 dimensions"},
    {"%r = mx.requantize(%m) {q=e3m0:ceil:nearest} : mx.e3m0[64,2]", "%r = mx.requantize(%a) {q=e2m1:ceil:nearest}",
     "input 0 is f32[2,3], expected an mx matrix"},
    {NULL, "%r = mx.requantize(%m, %m) {q=e2m1:ceil:ema}", "ema rounding needs latent weights"},
    {"%r = mx.dequantize(%m) : f32[2,64]", "%r = mx.dequantize(%a)", "expected an mx matrix"},
    {"%r = mx.gemm(%m, %n, %n4) : f32[2,4]", "%r = mx.gemm(%m, %n, %d)", "input 2 is f32[3], expected f32[4]"},
    {"%r = mx.gemm(%x64, %n) : f32[2,4]", "%r = mx.gemm(%m, %w)", "input 1 is f32[4,3], expected [*,64]"},
    {NULL, "%r = mx.gemm(%t, %n)", "input 0 is f32[5,2,3], expected an mx or f32 matrix"},
    {"%r = mx.colsum(%m) : f32[64]", "%r = mx.colsum(%x64)", "expected an mx matrix"},
    {"%r = histogram(%a, %t, %s) {low=-1, high=1, bins=20} : f32[3,20]", "%r = histogram(%a, %t) {low=-1, high=1}",
     "attribute 'bins' is 0, expected 1 to 4096"},
    {NULL, "%r = histogram(%a) {low=1, high=1, bins=2}", "expected low < high"},
    {NULL, "%r = histogram(%a, %int) {low=0, high=1, bins=2}", "input 1 is i64[2,3], expected f32"},
    {"%r = arg_max(%a, %t) : i32[2]", "%r = arg_max(%a, %int)", "input 1 is i64[2,3], expected f32 of 1 to"},
    {"%r = mx.confidence(%t) {q=e2m1:ceil:nearest} : f32[5,2,3]", "%r = mx.confidence(%t)", "attribute 'q' is missing or off"},
    {NULL, "%r = mx.confidence(%m) {q=e2m1:ceil:nearest}", "input 0 is mx.e2m1[2,64], expected f32"},
    {"%r, %x = mx.census(%m, %n) : f32[2,8], f32[2,256]", "%r, %x = mx.census(%m, %a)",
     "input 1 is f32[2,3], expected an mx matrix"},
};
enum { CASES = sizeof cases / sizeof *cases };

static tt_strbuf graph_text(const char *statements) {
  tt_strbuf text = {0};
  tt_strbuf_printf(&text, "graph g {\n%s\n%s\nresult r %%r\n}\n", inputs, statements);
  return text;
}

static void accepts_and_refuses(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    if (cases[i].good) {
      tt_strbuf text = graph_text(cases[i].good);
      tt_module_destroy(parse_ok(text.data));
      tt_strbuf_free(&text);
    }
    tt_diag diag;
    tt_strbuf text = graph_text(cases[i].bad);
    parse_bad(text.data, 1, &diag);
    assert_says(&diag, cases[i].why);
    tt_diag_free(&diag);
    tt_strbuf_free(&text);
  }
}

static bool mentions(const char *statements, const char *op) {
  char call[64];
  snprintf(call, sizeof call, " %s(", op);
  return statements && strstr(statements, call);
}

static void forgets_no_op(void **state) {
  (void)state;
  for (int op = 0; op < TT_OP_COUNT; op++) {
    int good = 0, bad = 0;
    for (int i = 0; i < CASES; i++) {
      good += mentions(cases[i].good, tt_ops[op].name);
      bad += mentions(cases[i].bad, tt_ops[op].name);
    }
    if (!good || !bad) fail_msg("op %s has %d good and %d bad shape cases", tt_ops[op].name, good, bad);
  }
}

static void names_the_models_node(void **state) {
  (void)state;
  tt_diag diag;
  parse_bad("graph g {\n input %x f32[2,3]\n %y = matmul(%x, %x) at \"blocks.0/attn/MatMul\" MatMul\n}\n", 1, &diag);
  assert_string_equal(diag.text,
                      "test.ttir:3: node 'blocks.0/attn/MatMul' (MatMul): error: input 1 is f32[2,3], expected [..,3,*]\n");
  tt_diag_free(&diag);
}

static void quantizers_print_and_parse(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    "on",
                                    "e2m1",
                                    "e2m1:ceil",
                                    "e2m1:ceil:nearest:",
                                    "e2m1:ceil:nearest:twice",
                                    "e2m1:ceil:nearest:double:x",
                                    "e4m3:ceil:nearest",
                                    "e2m1:round:nearest",
                                    "e2m1:ceil:up",
                                    "offf",
                                    "e2m1::nearest"};
  tt_qspec q, back;
  char text[64];
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(tt_qspec_parse(bad[i], &q));
  assert_true(tt_qspec_parse("off", &q) && !q.on);
  assert_true(tt_qspec_parse("e2m1:ceil:nearest:direct", &q) && q.source == TT_DIRECT);
  for (int i = 0; i < TT_FORMAT_COUNT * TT_SCALE_COUNT * TT_ROUNDING_COUNT * TT_SOURCE_COUNT; i++) {
    q = (tt_qspec){.on = true,
                   .format = (uint8_t)(i % 3),
                   .scale = (uint8_t)(i / 3 % 3),
                   .rounding = (uint8_t)(i / 9 % 3),
                   .source = (uint8_t)(i / 27)};
    assert_true(tt_qspec_parse(tt_qspec_print(q, text, sizeof text), &back));
    assert_true(tt_qspec_equal(q, back));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(accepts_and_refuses), cmocka_unit_test(forgets_no_op),
                                     cmocka_unit_test(names_the_models_node), cmocka_unit_test(quantizers_print_and_parse)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
