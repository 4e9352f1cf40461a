/* tensor/print.h - a graph as text, for people.
 *
 * One line per node in execution order, columns aligned:
 *
 *     node  tensor  op             type    shape          place          sources
 *       12      40  MUL_MAT        f32     [576,T<=512]   scratch        #3 blk.0.attn_q, #39
 *
 * T<=, O<=, R<= mark a symbolic extent and its maximum.  A place is "scratch", a buffer and an
 * offset ("1+4096"), or for views the root and the offset in it ("in #3+64").
 * Threads: reads the graph only.
 */
#ifndef TENSOR_PRINT_H
#define TENSOR_PRINT_H

#include "tensor/graph.h"

/* Append the lines to `out`.  The graph's numbers must be in range: built here, or validated. */
SHOAL_NODISCARD enum shoal_status sh_graph_print(const struct sh_graph *g, struct sh_buf *out);

#endif
