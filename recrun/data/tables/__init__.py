"""Tables: rows of ids and numbers with labels, read in chunks, numbered and kept as columns."""
