/* Line charts and histograms as inline SVG. Colours are classes c0 .. c7 that the page's style sheet defines for light and
 * dark; a line carries its numbers in <title>, which browsers show on hovering. */
#ifndef TT_REPORT_CHART_H
#define TT_REPORT_CHART_H
#include "compiler/driver/report.h"

enum { TT_CHART_COLORS = 8 };
typedef enum { TT_LINE_STRONG, TT_LINE_FAINT, TT_LINE_DASHED, TT_LINE_STAIRS } tt_line_style;

typedef struct tt_line {
  const char *label; /* shown on hovering */
  int color;         /* taken modulo the palette */
  tt_line_style style;
  int n;
  const double *x, *y; /* NaN breaks nothing: the point is left out */
} tt_line;

typedef struct tt_chart {
  const char *title, *note; /* note: a line of text below the title, or NULL */
  const char *x_label;
  bool log_y;               /* where all values are positive */
  double scale;             /* of y, e.g. 100 for percent; 0 means 1 */
  bool has_low, has_high;   /* fixed ends of the y axis, after scaling */
  double low, high;
  bool small;
  int n;
  const tt_line *lines;
} tt_chart;
void tt_chart_put(tt_strbuf *out, const tt_chart *chart);
#endif
