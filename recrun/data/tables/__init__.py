"""Tables: rows of ids and numbers with labels, read in parts, numbered and kept as columns."""
