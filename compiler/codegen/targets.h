/* What target.c asks of the target_*.c files. */
#ifndef CG_TARGETS_H
#define CG_TARGETS_H
#include "compiler/codegen/cg.h"
/* Fills everything but name, triple, cpu and features from the features; false where they are below x86-64-v3. */
bool cg_target_x86(cg_target *t);
#endif
