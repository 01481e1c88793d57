/* The vocabulary emitters are written in; private to codegen. An emitter turns one node into one or more kernels
 * (functions `void kernel(trt_kargs *args, i64 task, ptr scratch)`) and launches them in the entry being built:
 *
 *   bool cg_emit_gelu(cg_node *x) {
 *     cg_kernel *k = cg_kernel_begin(x, "");            // NULL: an equal kernel exists already and is reused
 *     if (k) {
 *       ... emit the body of one task with k->task, cg_in(k, 0), cg_out(k, 0) ...
 *       cg_kernel_end(k);
 *     }
 *     cg_launch(x, "", n_tasks);                        // tasks run in parallel; n_tasks depends on shapes alone
 *     return true;
 *   }
 *
 * A kernel's identity is op + operand/result types + attributes but IMM ones + suffix: layers of equal shape share code. */
#ifndef CG_H
#define CG_H
#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>
#include "compiler/codegen/codegen.h"
#include "compiler/support/strbuf.h"

typedef LLVMValueRef cg_val;
typedef LLVMTypeRef cg_type;

/* Everything that differs between machines. Only target_*.c names a triple or a CPU feature. */
typedef enum { CG_DOT_VNNI512, CG_DOT_VNNI256, CG_DOT_MADD512, CG_DOT_MADD256, CG_DOT_SDOT, CG_DOT_SMULL, CG_DOT_SMMLA } cg_dot;
typedef struct cg_ctx cg_ctx;

/* A unit that multiplies tiles of bytes: acc[16][16] += a[16][4k] b[k][16][4], u8 x s8 into i32, in tiles it names by number.
 * Full ones have k = 16, rows of 64 bytes; the half ones k = 8. Moves take byte strides between rows. */
enum { CG_TILE_ACC, CG_TILE_ACCS = 2, CG_TILE_A = 2, CG_TILE_AS = 3, CG_TILE_B = 5, CG_TILE_HALF_B, CG_TILE_HALF_A };
typedef struct cg_tile_unit {
  const char *name;             /* of its product */
  void (*configure)(cg_ctx *c); /* before a task's first use */
  void (*release)(cg_ctx *c);   /* after its last */
  void (*zero)(cg_ctx *c, int tile);
  void (*load)(cg_ctx *c, int tile, cg_val p, int64_t stride);
  void (*store)(cg_ctx *c, int tile, cg_val p, int64_t stride);
  void (*dot_u8s8)(cg_ctx *c, int acc, int a, int b);
  /* For floats all eight tiles are full: acc[16][16] += a[16][2k] b[k][16][2], bfloat16 into float32, each run of 16 products
   * of an even k and of an odd one rounded by itself; subnormals count as zeros. */
  const char *float_name;
  void (*configure_whole)(cg_ctx *c);
  void (*dot_bf16)(cg_ctx *c, int acc, int a, int b);
} cg_tile_unit;

enum { CG_TABLE_FLOATS = 32 };
struct cg_target {
  const struct cg_family *family;
  const char *name, *triple, *cpu, *features;
  int vector_bytes;  /* 64 AVX-512, 32 AVX2, 16 NEON */
  int vector_regs;   /* 32 or 16 */
  cg_dot dot;        /* 4-way dot product of bytes */
  bool dot_signed;   /* it is s8 x s8 instead of u8 x s8 */
  bool branch_tails; /* no masked loads and stores: whole vectors take a branch of their own */
  int mx_rows, mx_vectors; /* register tile of an MX product: rows of A, vectors of columns */
  /* Caches of a core as blocking takes them to be: constants of the target, on purpose never asked of the machine. l1_bytes
   * cuts sums (attention_kernels.c), so that targets which promise one another's bits, as x86's with byte tiles and without,
   * have the same; l2_bytes may steer only what leaves every bit as it is, and is what its users were measured with. */
  int64_t l1_bytes, l2_bytes;
  /* acc[i] += sum over j<4 of a[4i+j] * b_s8[4i+j], a u8 or (dot_signed) s8; vectors of vector_bytes, acc as i32 lanes. */
  cg_val (*dot_u8s8)(cg_ctx *c, cg_val acc, cg_val a, cg_val b);
  /* Where that takes a step in 16 bits, its parts: sums of pairs of products in <2 W x i16> (acc NULL: none yet), and acc[i]
   * += two of them. A caller that knows how large its integers are may widen once for many. NULL where there is no such step. */
  cg_val (*dot_narrow)(cg_ctx *c, cg_val acc, cg_val a, cg_val b);
  cg_val (*dot_widen)(cg_ctx *c, cg_val acc, cg_val halves);
  /* acc[2][2] += a[2][8] * b[2][8]^T, signed bytes: twice the products of a vector of 16 bytes. NULL: none. */
  cg_val (*dot_square)(cg_ctx *c, cg_val acc, cg_val a, cg_val b);
  /* x * 2^n for a vf x and integers n held as floats, rounded once; NULL: done in the exponent field. */
  cg_val (*scale_by_power)(cg_ctx *c, cg_val x, cg_val n);
  /* a b + d of vf, rounded once and toward zero. NULL: emitters do without. */
  cg_val (*fma_toward_zero)(cg_ctx *c, cg_val a, cg_val b, cg_val d);
  const cg_tile_unit *tiles; /* NULL: none */
  bool f32_tiles;            /* it multiplies bfloat16 as well, of which float32 products are made (gemm_f32_tiles.c) */
  void (*past_caches_done)(cg_ctx *c); /* orders cg_store_past_caches before what follows; NULL: such stores are no use */
  /* Switches flush-to-zero/denormals-are-zero off for an exact section; returns what cg_denormals_restore takes. */
  cg_val (*denormals_keep)(cg_ctx *c);
  void (*denormals_restore)(cg_ctx *c, cg_val saved);
  /* out[i] = table[index[i]] for the bytes of a vector of vector_bytes, index < 16. NULL: emitters use compares. */
  cg_val (*lookup)(cg_ctx *c, const int8_t *table, cg_val index);
  cg_val (*lookup_or_zero)(cg_ctx *c, const int8_t *table, cg_val index); /* likewise, any index: 0 from 16 on */
  /* Bits of v[0..3) (vi) through a truth table, bit 4 a + 2 b + c of which is what bits a, b, c of the three make. NULL: none. */
  cg_val (*logic)(cg_ctx *c, int table, const cg_val *v);
  /* out[i] = table[index[i] mod CG_TABLE_FLOATS], a vf by a vi, from registers. NULL: emitters do without tables. */
  cg_val (*pick)(cg_ctx *c, const float *table, cg_val index);
  cg_val (*permute)(cg_ctx *c, cg_val x, cg_val index); /* out[i] = x[index[i] mod W], a vf by a vi. NULL likewise */
};

struct cg_ctx {
  LLVMContextRef llvm;
  LLVMModuleRef module;
  LLVMBuilderRef b;      /* positioned in the body of the open kernel */
  const cg_target *target;
  tt_diag *diag;
  tt_arena *arena;       /* compile scratch */
  int W;                 /* f32 lanes of a vector: vector_bytes / 4 */
  cg_type f32, f64, i1, i8, i16, i32, i64, ptr, vf, vi; /* vf <W x float>, vi <W x i32> */
  uint64_t scratch_bytes; /* largest cg_scratch so far */
  uint64_t work_bytes;    /* largest cg_work so far */
  struct cg_state *state; /* kernel cache, entry under construction */
};

/* One node being emitted. */
typedef struct cg_node {
  cg_ctx *c;
  const tt_graph *g;
  tt_node n;
  const tt_node_data *d;
} cg_node;
static inline const tt_type *cg_in_type(const cg_node *x, int i) { return tt_typ(x->g, x->d->in[i]); }
static inline const tt_type *cg_out_type(const cg_node *x, int i) { return tt_typ(x->g, x->d->out[i]); }

typedef struct cg_kernel {
  cg_ctx *c;
  cg_node *x;
  cg_val fn, args, task /* i64 */, scratch /* ptr, 64-byte aligned */;
  LLVMBasicBlockRef entry; /* for allocas */
  cg_val *bufs;            /* operand addresses loaded so far, NULL where not yet */
  cg_val work;             /* likewise the workspace */
  bool whole_tiles;        /* cg_whole_tiles was called */
} cg_kernel;
cg_kernel *cg_kernel_begin(cg_node *x, const char *suffix);
void cg_kernel_end(cg_kernel *k); /* adds ret void */
void cg_launch(cg_node *x, const char *suffix, int64_t n_tasks);
cg_val cg_in(cg_kernel *k, int i);  /* pointer to operand i (64-byte aligned base); loaded once, at kernel entry */
cg_val cg_out(cg_kernel *k, int i);
/* True where all operands and results are f32; else a diagnostic. */
bool cg_float_operands(cg_node *x);
cg_val cg_imm(cg_kernel *k, tt_attr_id id); /* i64: an IMM attribute of the node */
/* Reserves [offset, offset+bytes) of the thread's scratch for this kernel; returns its address. */
cg_val cg_scratch(cg_kernel *k, uint64_t offset, uint64_t bytes);
/* Reserves [offset, offset+bytes) of the workspace: memory that all tasks and all launches of one node share (partial sums,
 * packed operands). Its contents do not outlive the node. Returns its address; offsets in multiples of 64. */
cg_val cg_work(cg_kernel *k, uint64_t offset, uint64_t bytes);
/* The tile unit is set up for floats from the kernel's start to its end. */
void cg_whole_tiles(cg_kernel *k);
/* A pointer picked at run time: operand number `index` (i64; inputs, then outputs). */
cg_val cg_operand(cg_kernel *k, cg_val index);
/* A constant table of i64 in the module, e.g. what each task works on. */
cg_val cg_table(cg_ctx *c, const int64_t *v, int64_t n);
/* n items of `type` on the kernel's stack, in its entry block. */
cg_val cg_alloca(cg_ctx *c, cg_type type, int n, unsigned align);

typedef bool cg_emit_fn(cg_node *x);
extern cg_emit_fn *const cg_emit_table[TT_OP_COUNT];

/* Splits n items into tasks of `grain` (last shorter): n_tasks = ceil(n/grain). In the body: */
typedef struct cg_range { cg_val begin, end; } cg_range; /* i64 */
cg_range cg_task_range(cg_kernel *k, int64_t n, int64_t grain);
int64_t cg_grain(int64_t n, int64_t cost_per_item, int64_t align); /* by shapes alone: at most 64 tasks, each worth ~20 us */

/* Constants and simple values. */
cg_val cg_i64(cg_ctx *c, int64_t x);
cg_val cg_i32(cg_ctx *c, int64_t x);
cg_val cg_f32(cg_ctx *c, double x);
cg_val cg_splat(cg_ctx *c, cg_val x, int n);   /* scalar to <n x T> */
cg_val cg_vf(cg_ctx *c, double x);             /* splat constant of vf */
cg_val cg_vi(cg_ctx *c, int64_t x);            /* splat constant of vi */
cg_type cg_vec(cg_ctx *c, cg_type elem, int n);

/* Control flow: for (i = begin; i < end; i += step) with nothing carried, or with `carry` values (phi) carried. */
typedef struct cg_loop {
  cg_ctx *c;
  cg_val i; /* i64 */
  int n_carry;
  cg_val carry[40]; /* inside: values at the top of the iteration; after cg_loop_end: final values */
  LLVMBasicBlockRef head, body, exit;
  cg_val step, end, phi[40], init[40];
} cg_loop;
void cg_loop_begin(cg_ctx *c, cg_loop *l, cg_val begin, cg_val end, int64_t step, int n_carry, const cg_val *init);
void cg_loop_end(cg_loop *l, const cg_val *next); /* next: n_carry values for the next iteration */
typedef struct cg_if {
  cg_ctx *c;
  LLVMBasicBlockRef then_bb, else_bb, join;
  cg_val branch;
} cg_if;
/* f->else_bb is NULL until cg_if_else. */
void cg_if_begin(cg_ctx *c, cg_if *f, cg_val cond);
void cg_if_else(cg_if *f);
void cg_if_end(cg_if *f);

/* Calls body(u, i, n) for i = begin, begin + W, ... below end (i64): n is NULL where a whole vector is left, else the number of
 * lanes, 0 < n < W. Full vectors run in a loop; the tail, if any, is straight-line code behind it. Constant bounds give
 * constant masks. */
typedef void cg_body_fn(void *u, cg_val i, cg_val n);
void cg_each(cg_ctx *c, cg_val begin, cg_val end, cg_body_fn *body, void *u);
/* Reduces [begin, end) by n operations at once: body gives n vectors of terms at i (vf; lanes past `count` are ignored, count
 * NULL: all), which are combined in four interleaved accumulators, then lanes, in an order fixed by begin and end. out[k]: f32. */
typedef enum { CG_SUM, CG_MAX } cg_reduce_op;
typedef void cg_terms_fn(void *u, cg_val i, cg_val count, cg_val *terms);
enum { CG_FOLD_MAX = 4 };
void cg_fold(cg_ctx *c, cg_val begin, cg_val end, int n, const cg_reduce_op *op, cg_terms_fn *body, void *u, cg_val *out);

/* Arithmetic on scalars or vectors alike. */
cg_val cg_add(cg_ctx *c, cg_val a, cg_val b); /* integer or float by type, as all below */
cg_val cg_sub(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_mul(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_div(cg_ctx *c, cg_val a, cg_val b); /* unsigned for integers */
cg_val cg_rem(cg_ctx *c, cg_val a, cg_val b); /* unsigned */
cg_val cg_min(cg_ctx *c, cg_val a, cg_val b); /* signed for integers; floats: a < b ? a : b */
cg_val cg_max(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_fma(cg_ctx *c, cg_val a, cg_val b, cg_val d); /* llvm.fma: one rounding */
cg_val cg_bits(cg_ctx *c, cg_val x, cg_type to);        /* bitcast */
cg_val cg_neg(cg_ctx *c, cg_val a);
cg_val cg_and(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_or(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_xor(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_choose_bits(cg_ctx *c, int64_t mask, cg_val a, cg_val b); /* vi: bits of a where mask has ones, else of b */
cg_val cg_masked_xor(cg_ctx *c, int64_t mask, cg_val a, cg_val b);  /* vi: a ^ b where mask has ones, else 0 */
cg_val cg_shl(cg_ctx *c, cg_val a, cg_val b);
cg_val cg_shr(cg_ctx *c, cg_val a, cg_val b);  /* logical */
cg_val cg_sra(cg_ctx *c, cg_val a, cg_val b);  /* arithmetic */
cg_val cg_icmp(cg_ctx *c, LLVMIntPredicate p, cg_val a, cg_val b);
cg_val cg_fcmp(cg_ctx *c, LLVMRealPredicate p, cg_val a, cg_val b);
cg_val cg_select(cg_ctx *c, cg_val cond, cg_val a, cg_val b);
cg_val cg_abs(cg_ctx *c, cg_val a); /* floats */
cg_val cg_floor(cg_ctx *c, cg_val x);
cg_val cg_like(cg_ctx *c, cg_val x, double v); /* float constant of x's type, scalar or vector */
cg_val cg_iota(cg_ctx *c, cg_type elem, int n); /* <n x elem> 0, 1, 2 ... */
bool cg_const_int(cg_val v, int64_t *out); /* true for constant integers */
cg_val cg_call(cg_ctx *c, const char *intrinsic, cg_type ret, int n, cg_val *args); /* full intrinsic name */

/* Memory. Offsets count elements of the given type. Alignment is the element's unless aligned variants are used. */
cg_val cg_gep(cg_ctx *c, cg_type elem, cg_val base, cg_val index);
cg_val cg_load(cg_ctx *c, cg_type t, cg_val p, unsigned align);
void cg_store(cg_ctx *c, cg_val v, cg_val p, unsigned align);
/* A whole vf or vi to an address aligned to it, which will not be read soon. */
void cg_store_past_caches(cg_ctx *c, cg_val v, cg_val p);
/* First n lanes (i64 value, clamped to [0, W]; NULL: all) of a vf at p; other lanes read as `other` and are not written. */
cg_val cg_lane_mask(cg_ctx *c, cg_val n); /* <W x i1>: lanes below n (i64) */
cg_val cg_load_n(cg_ctx *c, cg_val p, cg_val n, cg_val other);
void cg_store_n(cg_ctx *c, cg_val v, cg_val p, cg_val n);

/* Horizontal reductions of a vf in a fixed tree order. */
cg_val cg_hsum(cg_ctx *c, cg_val v);
cg_val cg_hmax(cg_ctx *c, cg_val v);

/* Vector math on vf (also f32 scalars); accuracy in ulp stated in math.c. */
cg_val cg_exp(cg_ctx *c, cg_val x);
cg_val cg_exp2(cg_ctx *c, cg_val x); /* of finite x <= 127; below 2^-126 perhaps just that */
cg_val cg_log(cg_ctx *c, cg_val x);
cg_val cg_erf(cg_ctx *c, cg_val x);
cg_val cg_tanh(cg_ctx *c, cg_val x);
cg_val cg_normal_cdf(cg_ctx *c, cg_val x); /* Phi(x) = P(N(0,1) < x); piecewise.c */
cg_val cg_gelu_slope(cg_ctx *c, cg_val x); /* of x Phi(x) */
cg_val cg_rsqrt(cg_ctx *c, cg_val x); /* 1/sqrt by division: correctly rounded pieces */
cg_val cg_sqrt(cg_ctx *c, cg_val x);

/* Matrix products for other emitters (gemm_f32.c). Emits, inside the open kernel, code for
 *   C[M,N] (=, or += where `accumulate`) alpha * op(A)[M,K] op(B)[K,N]
 * Element (m,k) of op(A) is at a + m*a_rs + k*a_cs floats, likewise B (k,n): b + k*b_rs + n*b_cs, C (m,n): c + m*c_rs + n.
 * One of the two strides of A and of B must be 1. M, N, K are compile-time; m_count (i64, <= M) may cut the rows at run time
 * (NULL: M). Packs into scratch from `scratch_at`; returns the bytes it uses there (also callable with k NULL to ask). */
typedef enum { CG_F32_BY_SHAPE, CG_F32_VECTORS, CG_F32_TILES } cg_f32_way;
typedef struct cg_gemm {
  int64_t M, N, K;
  cg_val a, b, out;        /* pointers */
  int64_t a_rs, a_cs, b_rs, b_cs, c_rs;
  cg_val m_count;
  cg_val n_count, k_count; /* likewise columns and the reduction (i64, <= N, <= K), or NULL */
  cg_val bias;             /* pointer to N floats added to every row, or NULL */
  cg_val packed_b;         /* where cg_f32_pack_b put op(B), from this product's first column on, or NULL */
  int64_t packed_cols;     /* of which so many columns were packed in all */
  double alpha;
  bool accumulate;
  cg_f32_way way;          /* settled where this is a piece of a product that must have the bits of another cut */
} cg_gemm;
uint64_t cg_gemm_f32(cg_kernel *k, const cg_gemm *d, uint64_t scratch_at);
#endif
