/* A program brought to life: its memory, its initial values, and its entries bound by name. */
#ifndef TRT_MODEL_H
#define TRT_MODEL_H
#include "support.h"
#include "runtime/include/trt_abi.h"

typedef struct trt_model {
  const trt_program *program;
  uint8_t *vars, *arena;
  uint64_t vars_bytes; /* of vars, up to the first TRT_TRACK var unless there is room for tracking */
} trt_model;

/* An entry's inputs and outputs by their names in trt_abi.h; NULL where the program has none. Types and sizes are checked.
 */
typedef struct trt_binding {
  const trt_entry *entry;
  const trt_tensor *images, *labels, *rng, *lr, *bc1, *bc2;
  const trt_tensor *loss, *logits, *correct, *losses, *grad_sumsq, *grad_norm;
  int64_t batch, channels, height, width, classes;
  bool soft_labels;
} trt_binding;

/* What the entries take besides a batch. */
typedef struct trt_scalars {
  int64_t seed, step;
  double lr, bc1, bc2;
} trt_scalars;

/* Checks the program (ABI version, the CPU, tensors inside their memory) and allocates. What the vars hold is undefined until
 * trt_model_reset or a checkpoint sets them: until then they take no memory either. */
bool trt_model_open(trt_model *model, const trt_program *program, trt_error *err);
void trt_model_close(trt_model *model);
/* Makes room for the TRT_TRACK vars, as zeros. They are no part of the state: nothing but the entries that track needs them. */
bool trt_model_add_tracking(trt_model *model, trt_error *err);
/* Sets every var to its initial value. */
void trt_model_reset(const trt_model *model);

/* NULL after an error where the program has none of that name. */
const trt_entry *trt_model_entry(const trt_model *model, const char *name, trt_error *err);
bool trt_model_bind(const trt_model *model, const char *entry, trt_binding *binding, trt_error *err);
/* Writes the scalar inputs that the entry has. Every input must be written before each run: the arena is shared. */
void trt_model_set_scalars(const trt_model *model, const trt_binding *binding, const trt_scalars *scalars);
void trt_model_run(const trt_model *model, const trt_binding *binding);
/* Labels as the entry wants them: int32, or a one-hot row for each of the batch's samples. Sample i has labels[index[i]], or
 * labels[i] where index is NULL. */
void trt_model_set_labels(const trt_model *model, const trt_binding *binding, const int32_t *labels, const int64_t *index);
/* First element of a float32 output; NaN when `tensor` is NULL. */
float trt_model_scalar(const trt_model *model, const trt_tensor *tensor);

/* Vars that are parameters or state: the first so many. */
uint64_t trt_model_state_vars(const trt_program *program);
const trt_tensor *trt_tensor_find(const trt_tensor *list, uint64_t n, const char *name);
int64_t trt_tensor_elements(const trt_tensor *tensor);
/* Copies float32 of a rank-2 tensor [rows][cols] at `from` to [cols][rows] at `to`; neither need be aligned. */
void trt_transpose(uint8_t *to, const uint8_t *from, int64_t rows, int64_t cols);
#endif
