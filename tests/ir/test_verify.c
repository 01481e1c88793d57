/* The verifier finds every fault that a pass can leave behind, names it and shows the node. */
#include "tests/ir/text_test.h"

static const char sound[] = "var $w f32[4,3] param\nvar $m f32[4,3] state\nvar $v f32[4,3] state\n"
                            "graph g {\n input %x f32[2,3]\n input %g f32[4,3]\n input %s f32[]\n input %rng i64[2]\n"
                            " %y = linear(%x, $w) at fc/MatMul MatMul\n"
                            " %r = reshape(%y) {shape=[4,2]}\n"
                            " %half = const f32[] {0.5}\n"
                            " %z = mul(%r, %half)\n"
                            " %q = mx.quantize(%z, %rng) {q=e2m1:ceil:stochastic, tensor=0}\n"
                            " %q2 = mx.quantize(%z, %rng) {q=e2m1:ceil:stochastic, tensor=1}\n"
                            " %w2, %m2, %v2 = adamw($w, $m, $v, %g, %s, %s, %s, %s)\n"
                            " result z %z\n result q %q\n result q2 %q2\n"
                            " update $w %w2\n update $m %m2\n update $v %v2\n}\n";
enum { LINEAR, RESHAPE, MUL, QUANTIZE, QUANTIZE2, ADAMW };

typedef void breaker(tt_graph *g);
static tt_node_data *node(tt_graph *g, int i) { return &g->nodes.data[i]; }
static tt_value_data *out(tt_graph *g, int n) { return tt_val(g, node(g, n)->out[0]); }

static void changes_nothing(tt_graph *g) { (void)g; }
static void circle(tt_graph *g) { node(g, ADAMW)->next = LINEAR; }
static void wild_link(tt_graph *g) { node(g, ADAMW)->next = 77; }
static void one_way_link(tt_graph *g) { node(g, MUL)->prev = LINEAR; }
static void dead_in_list(tt_graph *g) { node(g, MUL)->dead = true; }
static void wrong_last(tt_graph *g) { g->last = MUL; }
static void wild_operand(tt_graph *g) { node(g, MUL)->in[1] = 1000; }
static void wild_result_id(tt_graph *g) { node(g, MUL)->out[0] = 1000; }
static void unknown_op(tt_graph *g) { node(g, MUL)->op = (tt_op)999; }
static void used_before(tt_graph *g) { node(g, RESHAPE)->in[0] = node(g, MUL)->out[0]; }
static void removed_too_early(tt_graph *g) { tt_node_remove(g, MUL); }
static void unlisted_input(tt_graph *g) { g->inputs.count--; }
static void repeated_input(tt_graph *g) { g->inputs.data[1] = g->inputs.data[0]; }
static void wrong_type(tt_graph *g) { out(g, MUL)->type.dim[0] = 5; }
static void rule_refuses(tt_graph *g) { node(g, LINEAR)->in[0] = tt_graph_find_input(g, "rng"); }
static void malformed_type(tt_graph *g) { out(g, MUL)->type.dim[5] = 1; }
static void bad_dtype(tt_graph *g) { out(g, MUL)->type.dtype = 17; }
static void foreign_result(tt_graph *g) { node(g, MUL)->out[0] = node(g, LINEAR)->out[0]; }
static void same_attr_twice(tt_graph *g) {
  node(g, RESHAPE)->attrs = TT_NEW_N(g->arena, tt_attr, 2);
  node(g, RESHAPE)->attrs[0] = node(g, RESHAPE)->attrs[1] = tt_attr_ints(g, TT_A_SHAPE, 2, (int64_t[]){4, 2});
  node(g, RESHAPE)->n_attrs = 2;
}
static void same_draw(tt_graph *g) { tt_node_set_attr(g, QUANTIZE2, tt_attr_int(TT_A_TENSOR, 0)); }
static void read_after_overwrite(tt_graph *g) {
  tt_node_remove(g, ADAMW);
  tt_node_data *a = node(g, ADAMW), *l = node(g, LINEAR);
  *a = (tt_node_data){
      .op = a->op, .n_in = a->n_in, .n_out = a->n_out, .in = a->in, .out = a->out, .prev = TT_NONE, .next = LINEAR};
  g->first = ADAMW;
  l->prev = ADAMW;
}
static void result_of_overwritten(tt_graph *g) { tt_graph_set_result(g, "w", node(g, ADAMW)->in[0]); }
static void overwrite_of_constant(tt_graph *g) {
  float zeros[12] = {0};
  node(g, ADAMW)->in[0] = tt_graph_const(g, *tt_typ(g, node(g, ADAMW)->in[1]), zeros);
}
static void overwrite_twice(tt_graph *g) { node(g, ADAMW)->in[2] = node(g, ADAMW)->in[1]; }
static void forgotten_update(tt_graph *g) { g->updates.count--; }
static void double_update(tt_graph *g) { g->updates.data[2].var = 1; }
static void update_of_other_type(tt_graph *g) { g->updates.data[0].value = node(g, MUL)->out[0]; }
static void wild_update(tt_graph *g) { g->updates.data[0].var = 9; }
static void wild_result(tt_graph *g) { g->results.data[0].value = 9999; }
static void var_of_other_type(tt_graph *g) { g->module->vars.data[1].type.dim[0] = 8; }
static void no_data(tt_graph *g) { tt_val(g, node(g, MUL)->in[1])->data = NULL; }

static const struct {
  breaker *break_it;
  const char *why;
} faults[] = {
    {changes_nothing, NULL},
    {circle, "goes in a circle"},
    {wild_link, "leads to node 77, of 6"},
    {one_way_link, "does not link back"},
    {dead_in_list, "removed node 2 is still in the list"},
    {wrong_last, "does not end at its last node"},
    {wild_operand, "operand 1 is value 1000"},
    {wild_result_id, "result 0 is value 1000"},
    {unknown_op, "node 2 has an unknown op"},
    {used_before, "operand 0 is defined only later"},
    {removed_too_early, "operand 0 is a result of a removed node"},
    {unlisted_input, "operand 1 is an input that the graph does not list"},
    {repeated_input, "two inputs are named 'x'"},
    {wrong_type, "result 0 is f32[5,2], its rule says f32[4,2]"},
    {rule_refuses,
     "test.ttir:9: node 'fc/MatMul' (MatMul): error: graph g: operands do not fit: input 0 is i64[2], expected f32"},
    {malformed_type, "has a malformed dimension"},
    {bad_dtype, "has an unknown element type"},
    {foreign_result, "result 0 is a value of something else"},
    {same_attr_twice, "attribute 'shape' is there twice"},
    {same_draw, "both would draw the same random bits"},
    {read_after_overwrite, "operand 1 was overwritten in place before, by adamw"},
    {result_of_overwritten, "result 'w' was overwritten in place before, by adamw"},
    {overwrite_of_constant, "operand 0 is overwritten in place, but is a constant"},
    {overwrite_twice, "operands 1 and 2 are overwritten in place, but are the same memory"},
    {forgotten_update, "overwrites var 'v', which the graph does not update"},
    {double_update, "var 'm' is updated twice"},
    {update_of_other_type, "the update of var 'w' has another type than the var"},
    {wild_update, "update 0 has no var or no value"},
    {wild_result, "result 0 has no name or no value"},
    {var_of_other_type, "the value of var 'm' has another type than the var"},
    {no_data, "has no data"},
};

static void finds_each_fault(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    tt_module *m = parse_ok(sound);
    tt_diag diag;
    tt_diag_init(&diag, NULL);
    faults[i].break_it(m->graphs.data[0]);
    bool ok = tt_verify(m->graphs.data[0], &diag);
    if (ok != (faults[i].why == NULL))
      fail_msg("fault %zu: expected %s\n%s", i, faults[i].why ? faults[i].why : "none", diag.text ? diag.text : "");
    if (faults[i].why) assert_says(&diag, faults[i].why);
    assert_int_equal(ok, diag.errors == 0);
    tt_diag_free(&diag);
    tt_module_destroy(m);
  }
}

static void shows_the_node(void **state) {
  (void)state;
  tt_module *m = parse_ok(sound);
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  wrong_type(m->graphs.data[0]);
  assert_false(tt_verify(m->graphs.data[0], &diag));
  assert_says(&diag, "note: %3 = mul(%1, %2) : f32[5,2]\n");
  tt_diag_free(&diag);
  tt_module_destroy(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(finds_each_fault), cmocka_unit_test(shows_the_node)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
