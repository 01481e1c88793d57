/* The contract between generated code and the runtime. Written once: both sides include this header. The compiler emits the
 * structs field by field in their order here (codegen/program.c, checked against offsetof and sizeof in tests/codegen), and
 * the runtime refuses a program of another TRT_ABI_VERSION.
 *
 * A trainer holds one `trt_program` (symbol `tetrac_program`, emitted by the compiler). The program owns no memory: the
 * runtime allocates
 *   vars   program->vars_bytes   parameters and optimizer state, the only thing that outlives a step
 *   arena  program->arena_bytes  one block for every entry's inputs, outputs and temporaries; entries never run at once
 *   scratch program->scratch_bytes for each thread
 * all 64-byte aligned, and calls entry->fn. Generated code never allocates.
 */
#ifndef TRT_ABI_H
#define TRT_ABI_H
#include <stddef.h>
#include <stdint.h>

#define TRT_ABI_VERSION 3u
#define TRT_MAX_RANK 8
#define TRT_ALIGN 64

/* Element types of descriptors. TRT_MX is packed 4-bit numbers and never crosses this border as an input. */
typedef enum { TRT_F32 = 0, TRT_F64 = 1, TRT_I32 = 2, TRT_I64 = 3, TRT_BOOL = 4, TRT_MX = 5 } trt_dtype;

typedef enum {
  TRT_PARAM = 0, /* trained; initial value from the export image */
  TRT_STATE = 1, /* optimizer moments, EMA copies ...; initial value says `init` */
  TRT_TRACK = 2, /* an instrument's, no part of the training state; behind all others, starts as zeros */
} trt_var_role;

/* How a var starts. */
typedef enum {
  TRT_INIT_IMAGE = 0, /* bytes at `init_offset` of program->image (see trt_patch for layout) */
  TRT_INIT_ZERO = 1,
  TRT_INIT_COPY = 2, /* copy of var number `init_offset` (an EMA starts as its weight) */
} trt_init;

/* One named tensor at a byte offset of vars (for program->vars) or of the arena (for entry inputs and outputs). */
typedef struct trt_tensor {
  const char *name;
  uint32_t dtype; /* trt_dtype */
  uint32_t rank;
  int64_t dim[TRT_MAX_RANK];
  uint64_t offset;      /* bytes from the base of vars or arena */
  uint64_t bytes;
  uint32_t role;        /* trt_var_role, vars only */
  uint32_t init;        /* trt_init, vars only */
  uint64_t init_offset; /* see trt_init, vars only */
  uint32_t transposed;  /* vars with TRT_INIT_IMAGE, rank 2: the image holds [dim1][dim0]; transpose when reading/writing */
  uint32_t reserved;
} trt_tensor;

/* What an entry is called with: the bases that the offsets of its tensors count from. */
typedef struct trt_step {
  uint8_t *vars;
  uint8_t *arena;
} trt_step;

/* Arguments of one kernel launch: operand pointers (inputs, then outputs) and per-node integers. Lives on the entry's stack. */
typedef struct trt_kargs {
  void *const *bufs;
  const int64_t *imms;
} trt_kargs;

/* One task of a kernel. `scratch`: this thread's block of program->scratch_bytes, contents undefined. Tasks of one launch
 * write to different places, so that they run in any order, at the same time. */
typedef void (*trt_kernel_fn)(const trt_kargs *args, int64_t task, uint8_t *scratch);
/* One whole step of an entry. Returns nothing: what goes wrong in it shows as NaN or Inf in its outputs. */
typedef void (*trt_entry_fn)(const trt_step *step);

/* Entries by name:
 *   "train"   one optimizer step.    "grad"  loss, logits and gradients, updates nothing.   "eval"  logits, loss, correct.
 *   "calibrate" and "ramp", if there: calibrations. Every so many steps (trt_defaults) all vars are set aside, "calibrate" runs
 *             its steps (a training step that also measures; state starts as 0), "ramp" draws the conclusions from them
 *             (input period_max f32 []: steps of an epoch), all vars are put back, and then each output of "ramp" is copied
 *             to the var of its name.
 *   "track"   after an optimizer step, while tracking: adds its moves to the TRT_TRACK vars track-*. Input keep f32 []: 0 in
 *             the first step of a window, else 1.
 *   "track_report"  what they say at a window's end. Input window f32 []: moves added. Outputs "track:NAME" f32 [n+1] or
 *             [n+1,k]: a row for each tracked weight, in the order of the vars "track-w:WEIGHT", and one for all;
 *             track_peak f32 [n], track_peak_index i32 [n]: each weight's most oscillating element.
 *   "track_output"  on a batch that is the same each time: how a block's output moves. Input weight f32 []: 0 looks only, 1/k
 *             makes the move since the run before the k-th of a mean. Output rate_y f32 [1], the mean; none in a model without
 *             blocks.
 *   "quantizer_errors", if there: what quantizers lose on a batch. Outputs "quantizer_error:qK", one f32 each.
 * Inputs the runtime fills, found by name (absent ones are not used by the program):
 *   images f32 [B,C,H,W];  labels i32 [B] (hard) or f32 [B,classes] (soft);
 *   rng i64 [2] = {seed, step};  lr, bc1, bc2 f32 [] : learning rate, 1-beta1^t, 1-beta2^t with t = step+1
 * Outputs, by name: loss f32 [] (mean over the batch), logits f32 [B,classes], correct i32 [B] (1 where the arg max is the
 *   label), losses f32 [B] (per sample), grad_sumsq f32 [n]: sum of squares of each gradient, in the order of the TRT_PARAM vars,
 *   grad_norm f32 []; in "grad" one output `grad:<param name>` per parameter. */
typedef struct trt_entry {
  const char *name;
  trt_entry_fn fn;
  const trt_tensor *inputs;
  uint64_t n_inputs;
  const trt_tensor *outputs;
  uint64_t n_outputs;
  const struct trt_launch *launches; /* what its calls of trt_parallel are, in order */
  uint64_t n_launches;
  uint64_t plan_bytes, saved_bytes; /* of the arena that it uses; of them, kept from the forward pass for the backward one */
} trt_entry;

/* One launch of an entry, for `train --profile`. What a node computes and moves stands at its first launch, with zeros at its
 * others: sums over launches are sums over nodes. */
typedef struct trt_launch {
  const char *node;   /* of the source model where it comes from one, else empty */
  const char *op;     /* of the IR, with what is fused into it */
  const char *kernel; /* which of the op's kernels: its part, where it has several, and types */
  double mx_macs, f32_macs;         /* multiply-adds of its products */
  double bytes_read, bytes_written; /* each operand and each result once */
} trt_launch;

/* A kernel that measures what the machine can do at most, in the units of trt_launch: "fma" and "dot" (f32 and 8-bit
 * multiply-adds a task), "read" (bytes a task: task i reads bufs[0] from i * work on, a multiple of TRT_ALIGN). */
typedef struct trt_probe {
  const char *name;
  trt_kernel_fn kernel;
  double work; /* a task */
} trt_probe;

/* Where the bytes of one ONNX initializer lie in `image`; values are little-endian float32. */
typedef struct trt_patch {
  uint64_t var;    /* index into program->vars */
  uint64_t offset; /* bytes into program->image */
  uint64_t bytes;
} trt_patch;

/* Training defaults from the recipe; TRAINER train's options override them. */
typedef struct trt_defaults {
  double lr, min_lr, beta1, beta2, eps, weight_decay, clip_norm, label_smoothing;
  double warmup_epochs;
  int64_t epochs;
  int64_t seed;
  int64_t cosine; /* 1: cosine decay to min_lr after warm-up; 0: constant */
  int64_t calibration_steps, calibration_every; /* of entry "calibrate"; every: steps, 0: an epoch */
} trt_defaults;

typedef struct trt_program {
  uint32_t abi_version;
  uint32_t reserved;
  const char *needs;  /* the CPU's features that kernels may use: LLVM's names, separated by commas */
  const char *model;  /* name of the source model, for messages and `info` */
  const char *recipe; /* the effective recipe, as text (ini) */
  const char *target; /* triple, CPU and features */
  const char *info;   /* JSON object: memory plan, FLOPs by kind, 4-bit share */
  uint64_t fingerprint; /* of var names, shapes and the recipe's state layout: a checkpoint of another program is refused */
  uint64_t batch;
  uint64_t vars_bytes, arena_bytes, scratch_bytes;
  uint64_t work_bytes; /* the end of the arena that all entries share: partial results, decoded operands */
  const trt_tensor *vars;
  uint64_t n_vars;
  const trt_entry *entries;
  uint64_t n_entries;
  /* A complete ONNX model whose parameter initializers are raw float32 at the places in `patches`: the source of initial
   * values and, with trained values written over them, what `TRAINER export` writes. */
  const uint8_t *image;
  uint64_t image_bytes;
  const trt_patch *patches;
  uint64_t n_patches;
  const trt_probe *probes;
  uint64_t n_probes;
  trt_defaults defaults;
} trt_program;

extern const trt_program tetrac_program;
#endif
