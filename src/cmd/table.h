/* cmd/table.h - small tables for people: columns as wide as their widest cell.
 *
 * Rows are added cell by cell; memory that runs out leaves the table incomplete, which tables for
 * people may be.  Threads: one at a time.
 */
#ifndef CMD_TABLE_H
#define CMD_TABLE_H

#include "base/str.h"

#define SH_TABLE_COLUMNS_MAX 12

struct sh_table {
    int n_columns;
    const char *align;   /* one letter per column: l or r */
    struct sh_buf cells; /* NUL-terminated texts, one after the other */
    int n_cells;
};

struct sh_table sh_table_begin(const char *align);
void sh_table_add(struct sh_table *t, const char *fmt, ...) SHOAL_PRINTF(2, 3);
/* Append to `out`, `indent` blanks in front of each row, and release. */
SHOAL_NODISCARD enum shoal_status sh_table_append(struct sh_table *t, int indent,
                                                  struct sh_buf *out);
/* Print on stderr, `indent` blanks in front of each row, and release. */
void sh_table_end(struct sh_table *t, int indent);

#endif
