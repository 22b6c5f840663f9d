"""Storage: the database, its tables, mask files, and what is kept in them."""
