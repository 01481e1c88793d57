/* The text form of modules, .ttir: print and parse are exact inverses in full mode. See compiler/ir/README.md for the grammar.
 * Elided mode leaves the bytes of big vars and constants out (readable dumps); a dump so made parses to zeros there. */
#ifndef TT_TEXT_H
#define TT_TEXT_H
#include "compiler/ir/graph.h"
#include "compiler/support/strbuf.h"
typedef enum { TT_TEXT_FULL, TT_TEXT_ELIDED } tt_text_mode;
void tt_print_module(const tt_module *m, tt_text_mode mode, tt_strbuf *out);
void tt_print_graph(const tt_graph *g, tt_text_mode mode, tt_strbuf *out);
void tt_print_node(const tt_graph *g, tt_node n, tt_strbuf *out); /* one line, no newline */
/* NULL after diagnostics with file and line. `text` need not outlive the call. */
tt_module *tt_parse_module(const char *text, const char *file, tt_diag *diag);
#endif
