"""Lakes: tables in files, merged and read with the library of their format."""
