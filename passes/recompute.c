/* Makes large values of the forward a second time in the backward instead of keeping them, where that lowers the peak.
 *
 *   before:  h = mx.gemm(a, w); y = gelu(h); q = mx.quantize(y); ... the rest of the forward ... dh = gelu_grad(dy, h)
 *   after:   h = mx.gemm(a, w); y = gelu(h); q = mx.quantize(y); ... the same, without h ... h' = mx.gemm(a, w);
 * dh = gelu_grad(dy, h')
 *
 * The same node on the same operands gives the same bits, so no setting of memory.recompute changes a result:
 *   none   every value is kept
 *   cheap  those made without a product: outputs of norms, activations, sums
 *   most   also products that only elementwise nodes read in the forward, and what those make of them: the hidden layer in
 *          front of its activation, every other sum of the residual stream
 *   all    also any other product: queries, keys and values
 *
 * The level says what may be remade, memory.goal how far to go: as soon as a step (state and peak) takes at most that share of
 * what it would without any, nothing more is. A product made twice costs the same time for each byte whatever its layer is, so
 * there is no cheap end to reach: what is not needed for the goal is time given away.
 *
 * A value is made again from what is kept anyway for the backward, with one product at most, and never by a node that draws
 * random numbers. One is taken at a time, as long as the peak falls by half of its size: of those that lie idle at the peak the
 * one that costs least for its size. So what is read soon after it was made (the last block) stays.
 *
 * Needs the result "loss", whose node is where the forward ends. Runs behind opt_cse, which would merge the copies again, and
 * before fusion, which then sees a forward that keeps less. Checkpointing: Chen et al., "Training Deep Nets with Sublinear
 * Memory Cost" (arXiv 1604.06174). */
#include "compiler/ir/work.h"
#include "passes/liveness.h"
#include "passes/pass.h"
#include <math.h>
#include <string.h>

/* The memory traffic that a remade value may cost for each of its bytes: enough for a norm, an activation or a sum, too little
 * for what shrinks its operand, as a quantizer does. In the order of taking, a multiply-add stands for so much of a byte. */
static const double WORTH = 8, BYTES_A_MX_MAC = 1.0 / 40, BYTES_A_F32_MAC = 1.0 / 10;
enum { MOST_PRODUCTS = 1 };

/* A buffer's uses on both sides of the turn from forward to backward. */
typedef struct span {
  int64_t last, first_back, end; /* last position of the forward; first and last one of the backward, INT64_MAX and -1: none */
  bool elementwise; /* no other nodes read it in the forward */
  bool remade, refused;
} span;

typedef struct recompute {
  tt_graph *g;
  tt_liveness l;
  tt_recompute_level level;
  uint64_t enough; /* bytes at the peak */
  int64_t turn;
  span *spans;      /* per buffer */
  uint64_t *live;   /* as tt_live_bytes, kept up to date */
  tt_value *remade; /* per value of the graph before: its second copy; TT_NONE */
} recompute;

static span *span_of(const recompute *r, tt_value v) { return r->l.index[v] == TT_NONE ? NULL : &r->spans[r->l.index[v]]; }

static void note_use(recompute *r, tt_value v, int64_t at, bool elementwise) {
  span *s = span_of(r, v);
  if (!s) return;
  if (at <= r->turn) {
    s->last = at;
    s->elementwise &= elementwise;
    return;
  }
  if (at < s->first_back) s->first_back = at;
  if (at > s->end) s->end = at;
}

static void find_spans(recompute *r, tt_arena *scratch) {
  r->spans = TT_NEW_N(scratch, span, r->l.count);
  for (size_t i = 0; i < r->l.count; i++)
    r->spans[i] = (span){.last = r->l.buffers[i].begin, .first_back = INT64_MAX, .end = -1, .elementwise = true};
  int64_t at = 0;
  TT_FOR_NODES(r->g, n) {
    const tt_node_data *d = tt_nod(r->g, n);
    for (int i = 0; i < d->n_in; i++) note_use(r, d->in[i], at, (tt_ops[d->op].flags & (TT_EW | TT_ALIAS)) != 0);
    at++;
  }
  for (size_t i = 0; i < r->l.count; i++) /* what lives to the end is the runtime's to read: inputs, results, updates */
    r->spans[i].refused = r->l.buffers[i].end == r->l.n_nodes || r->l.buffers[i].begin < 0 || r->l.buffers[i].begin > r->turn;
}

static double traffic(const recompute *r, tt_node n) {
  const tt_node_data *d = tt_nod(r->g, n);
  double bytes = 0;
  for (int i = 0; i < d->n_in; i++) bytes += (double)tt_type_bytes(tt_typ(r->g, d->in[i]));
  for (int i = 0; i < d->n_out; i++) bytes += (double)tt_type_bytes(tt_typ(r->g, d->out[i]));
  return bytes;
}

typedef struct price {
  double traffic, macs; /* both in bytes */
  double most; /* that the traffic may be: ends the search, which takes a shared operand anew for each of its readers */
  int products;
} price;

static bool can_remake(const recompute *r, tt_value v, int64_t at, price *p);

/* v can be read at position `at` of the backward: it is there anyway, or can be remade for it. */
static bool at_hand(const recompute *r, tt_value v, int64_t at, price *p) {
  const span *s = span_of(r, v);
  if (!s || r->l.buffers[r->l.index[v]].end == r->l.n_nodes || (!s->remade && s->end >= at)) return true;
  return can_remake(r, r->l.root[v], at, p);
}

/* May v, the root of its buffer, be made again at `at`? Adds what that costs. */
static bool can_remake(const recompute *r, tt_value v, int64_t at, price *p) {
  tt_node n = tt_val(r->g, v)->def;
  const tt_node_data *d = tt_nod(r->g, n);
  tt_work w = tt_node_work(r->g, n);
  bool product = w.mx + w.f32 > 0;
  if (tt_node_attr(r->g, n, TT_A_TENSOR)) return false;
  if (product && r->level == TT_RECOMPUTE_CHEAP) return false;
  if (product && r->level == TT_RECOMPUTE_MOST && !span_of(r, v)->elementwise) return false;
  p->products += product;
  p->traffic += traffic(r, n);
  p->macs += w.mx * BYTES_A_MX_MAC + w.f32 * BYTES_A_F32_MAC;
  if (p->products > MOST_PRODUCTS || p->traffic > p->most) return false;
  for (int i = 0; i < d->n_in; i++)
    if (!at_hand(r, d->in[i], at, p)) return false;
  return true;
}

static void add_live(recompute *r, int64_t from, int64_t to, uint64_t bytes) {
  for (int64_t i = from; i <= to; i++) r->live[i + 1] += bytes;
}

/* v is read at `at`: a kept one is, a remade one is made by then, and one that is gone is remade for it. */
static void demand(recompute *r, tt_value v, int64_t at) {
  span *s = span_of(r, v);
  if (!s || r->l.buffers[r->l.index[v]].end == r->l.n_nodes) return;
  uint64_t bytes = r->l.buffers[r->l.index[v]].bytes;
  bool kept = !s->remade && s->end >= at, none = s->end < 0;
  if (!kept && at < s->first_back) add_live(r, at, none ? at : s->first_back - 1, bytes);
  if (!kept && !none && at > s->end) add_live(r, s->end + 1, at, bytes);
  bool earlier = at < s->first_back;
  if (earlier) s->first_back = at;
  if (at > s->end) s->end = at;
  if (kept || !earlier) return;
  s->remade = true;
  const tt_node_data *d = tt_nod(r->g, tt_val(r->g, r->l.root[v])->def);
  for (int i = 0; i < d->n_in; i++) demand(r, d->in[i], at);
}

static void remake(recompute *r, uint32_t i) {
  span *s = &r->spans[i];
  int64_t at = s->first_back;
  const tt_node_data *d = tt_nod(r->g, tt_val(r->g, r->l.buffers[i].root)->def);
  s->remade = true;
  add_live(r, s->last + 1, at - 1, 0 - r->l.buffers[i].bytes);
  for (int k = 0; k < d->n_in; k++) demand(r, d->in[k], at);
}

/* The buffer that is idle at `at` and costs least for its size; TT_NONE. */
static uint32_t cheapest(const recompute *r, int64_t at) {
  double best = INFINITY;
  uint32_t found = TT_NONE;
  for (uint32_t i = 0; i < r->l.count; i++) {
    const span *s = &r->spans[i];
    double bytes = (double)r->l.buffers[i].bytes;
    price p = {.most = WORTH * bytes};
    if (s->refused || s->remade || s->first_back == INT64_MAX || at <= s->last || at >= s->first_back) continue;
    if (!can_remake(r, r->l.buffers[i].root, s->first_back, &p)) continue;
    double cost = (p.traffic + p.macs) / bytes;
    if (cost >= best) continue;
    best = cost;
    found = i;
  }
  return found;
}

/* Decides which values are remade; true where any is. */
static bool choose(recompute *r, tt_arena *scratch) {
  size_t n_live = (size_t)r->l.n_nodes + 3;
  span *spans = TT_NEW_N(scratch, span, r->l.count);
  uint64_t *live = TT_NEW_N(scratch, uint64_t, n_live);
  bool any = false;
  for (;;) {
    int64_t at = tt_live_peak(r->live, r->l.n_nodes);
    uint64_t peak = r->live[at + 1];
    uint32_t i = peak > r->enough ? cheapest(r, at) : TT_NONE;
    if (i == TT_NONE) return any;
    memcpy(spans, r->spans, sizeof *spans * r->l.count);
    memcpy(live, r->live, sizeof *live * n_live);
    remake(r, i);
    if (r->live[tt_live_peak(r->live, r->l.n_nodes) + 1] + r->l.buffers[i].bytes / 2 <= peak) {
      any = true;
      continue;
    }
    memcpy(r->spans, spans, sizeof *spans * r->l.count);
    memcpy(r->live, live, sizeof *live * n_live);
    r->spans[i].refused = true;
  }
}

/* The value to read instead of v before node `at`: v itself where it is kept. */
static tt_value copy_of(recompute *r, tt_value v, tt_node at, tt_diag *diag) {
  const span *s = span_of(r, v);
  if (!s || !s->remade) return v;
  if (r->remade[v] != TT_NONE) return r->remade[v];
  tt_node n = tt_val(r->g, v)->def;
  tt_value *in = TT_NEW_N(r->g->arena, tt_value, tt_nod(r->g, n)->n_in);
  for (int i = 0; i < tt_nod(r->g, n)->n_in; i++) in[i] = copy_of(r, tt_nod(r->g, n)->in[i], at, diag);
  const tt_node_data *d = tt_nod(r->g, n);
  tt_builder b = {.g = r->g, .diag = diag, .at = at, .loc = d->loc};
  tt_node copy = tt_build(&b, d->op, d->n_in, in, d->n_attrs, d->attrs);
  TT_ASSERT(copy != TT_NONE);
  return r->remade[v] = tt_nod(r->g, copy)->out[tt_val(r->g, v)->index];
}

/* Walks the backward and lets it read copies. */
static void rewrite(recompute *r, tt_arena *scratch, tt_diag *diag) {
  size_t n_values = r->g->values.count;
  r->remade = TT_NEW_N(scratch, tt_value, n_values);
  memset(r->remade, 0xff, sizeof *r->remade * n_values);
  int64_t at = 0;
  for (tt_node n = r->g->first, next; n != TT_NONE; n = next) {
    next = tt_nod(r->g, n)->next;
    if (at++ <= r->turn) continue;
    for (int i = 0; i < tt_nod(r->g, n)->n_in; i++) {
      tt_value v = copy_of(r, tt_nod(r->g, n)->in[i], n, diag);
      tt_nod(r->g, n)->in[i] = v;
    }
    const tt_node_data *d = tt_nod(r->g, n); /* a reshape of a copy is one, too */
    for (int k = 0; k < d->n_out; k++) r->remade[d->out[k]] = d->out[k];
  }
  tt_graph_sweep(r->g);
}

/* The peak at which a step's memory reaches the goal: its state stays whatever is remade. */
static uint64_t enough(const recompute *r, double goal) {
  double state = 0, peak = (double)r->live[tt_live_peak(r->live, r->l.n_nodes) + 1];
  const tt_module *m = r->g->module;
  for (size_t i = 0; i < m->vars.count; i++)
    if (m->vars.data[i].role != TT_VAR_TRACK) state += (double)tt_type_bytes(&m->vars.data[i].type);
  return (uint64_t)fmax(0, goal * (state + peak) - state);
}

tt_pass_result tt_recompute(tt_graph *g, tt_pass_ctx *ctx) {
  tt_value loss = tt_graph_result(g, "loss");
  if (ctx->recipe->recompute == TT_RECOMPUTE_NONE || loss == TT_NONE) return TT_PASS_UNCHANGED;
  recompute r = {.g = g, .l = tt_liveness_of(g, ctx->scratch), .level = ctx->recipe->recompute, .turn = -1};
  if (r.l.index[loss] == TT_NONE) return TT_PASS_UNCHANGED;
  r.turn = r.l.buffers[r.l.index[loss]].begin;
  find_spans(&r, ctx->scratch);
  tt_liveness shared = tt_liveness_of(g, ctx->scratch); /* as the planner will see it */
  tt_liveness_share(g, &shared);
  r.live = tt_live_bytes(&shared, ctx->scratch);
  r.enough = enough(&r, ctx->recipe->memory_goal);
  if (!choose(&r, ctx->scratch)) return TT_PASS_UNCHANGED;
  rewrite(&r, ctx->scratch, ctx->diag);
  return TT_PASS_CHANGED;
}
