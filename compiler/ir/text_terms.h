/* Private to compiler/ir: the parser's state, and the parts of .ttir that statements are made of. Every function that
 * returns bool has reported where it returns false; the caller gives its statement up. */
#ifndef TT_TEXT_TERMS_H
#define TT_TEXT_TERMS_H
#include "compiler/ir/graph.h"
#include "compiler/ir/names.h"
#include "compiler/ir/text_lex.h"

typedef struct tt_parser {
  tt_lexer lx;
  tt_token tok; /* not yet taken */
  tt_arena *scratch;
  tt_diag *diag;
  const char *file;
  tt_module *m;
  tt_names vars;              /* name -> var, TT_NONE where its statement was faulty */
  bool placed;                /* some var has an offset */
  tt_graph *g;                /* NULL between graphs */
  tt_names values;            /* of g: "name" or "#number" -> value, TT_NONE likewise */
  TT_VEC(tt_value) var_value; /* of g, by var; TT_NONE where not used yet */
  int64_t next_tensor;        /* one above the ids seen in g */
  bool tensors_written;
} tt_parser;

void tt_parse_advance(tt_parser *p);
bool tt_parse_fail(tt_parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* at the current line */
bool tt_parse_expected(tt_parser *p, const char *what); /* "expected WHAT, found TOKEN" */
bool tt_parse_is_punct(const tt_parser *p, char c);
bool tt_parse_is_word(const tt_parser *p, const char *word);
bool tt_parse_take_punct(tt_parser *p, char c); /* silent: takes it if it is there */
bool tt_parse_take_word(tt_parser *p, const char *word);
bool tt_parse_punct(tt_parser *p, char c);
bool tt_parse_end_of_line(tt_parser *p);

bool tt_parse_name(tt_parser *p, const char **name); /* scratch memory */
bool tt_parse_int(tt_parser *p, int64_t *i);
bool tt_parse_size(tt_parser *p, uint64_t *n); /* 0 .. 2^62 */
bool tt_parse_type(tt_parser *p, tt_type *type);
bool tt_parse_attr(tt_parser *p, tt_attr *attr);
/* Elements of a type: {..}, splat(..), hex(..) or elided. Module memory. */
bool tt_parse_data(tt_parser *p, const tt_type *type, void **data);
/* "@arena+64" where there is one. */
bool tt_parse_place(tt_parser *p, tt_space *space, uint64_t *offset);
#endif
