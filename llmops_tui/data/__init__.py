"""At rest: run directories, DuckDB, the catalog."""
