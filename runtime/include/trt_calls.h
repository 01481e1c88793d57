/* C prototypes of trt_calls.def. */
#ifndef TRT_CALLS_H
#define TRT_CALLS_H
#include "trt_abi.h"

#define VOID void
#define I64 int64_t
#define ARGS const trt_kargs *
#define KERNEL trt_kernel_fn
#define TRT_CALL(result, name, types) result name types;
#include "trt_calls.def"
#undef VOID
#undef I64
#undef ARGS
#undef KERNEL
#undef TRT_CALL
#endif
