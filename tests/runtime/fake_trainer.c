/* A whole trainer around the hand-written program: defines tetrac_program and no main, as the compiler's objects do, so
 * that linking it shows that the library's main is taken where it is wanted (and the tests beside it, that it is left where
 * not). */
#include "fake_program.h"

const trt_program tetrac_program = FAKE_PROGRAM;
