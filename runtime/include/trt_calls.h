/* C prototypes of trt_calls.def. */
#ifndef TRT_CALLS_H
#define TRT_CALLS_H
#include "trt_abi.h"
void trt_parallel(const trt_kargs *args, trt_kernel_fn kernel, int64_t n_tasks);
#endif
