/* Constants of the ABI's structs, apart so that tests can lay them beside the C ones. */
#ifndef CG_PROGRAM_H
#define CG_PROGRAM_H
#include "compiler/codegen/cg.h"
cg_val cg_const_tensor(cg_ctx *c, const trt_tensor *t);
cg_val cg_const_defaults(cg_ctx *c, const trt_defaults *d);
cg_val cg_const_launch(cg_ctx *c, const trt_launch *l);
cg_val cg_const_probe(cg_ctx *c, const char *name, cg_val kernel, double work);
#endif
