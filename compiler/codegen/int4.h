/* Per-tensor INT4 (NUMERICS 9): the emitters behind the mx.* ops where the packed operand is of format TT_INT4. Every
 * function equals compiler/ir/int4.h bit for bit. */
#ifndef CG_INT4_H
#define CG_INT4_H
#include "compiler/codegen/gemm.h"

bool cg_int4_quantize(cg_node *x);
bool cg_int4_requantize(cg_node *x);
bool cg_int4_dequantize(cg_node *x);
bool cg_int4_colsum(cg_node *x);
bool cg_int4_gemm(cg_node *x);

/* Launches kernel "max": the largest |x| of operand 0's parts into the workspace, from where cg_int4_scale reads them in a
 * kernel launched later. The scale is an f32; denormals must be kept. */
void cg_int4_launch_max(cg_node *x);
cg_val cg_int4_scale(cg_kernel *k);
/* The scale, f32, that packed operand `index` has. */
cg_val cg_int4_scale_of(cg_kernel *k, int index);
#endif
