/* The trainer's main. It is alone in its archive member, so the linker takes it only where nothing else defines `main`:
 * a trainer (an object that defines tetrac_program) gets it, tetrac and the tests keep their own. */
#include "runtime/include/trt_runtime.h"

int main(int argc, char **argv) { return trt_main(&tetrac_program, argc, argv); }
