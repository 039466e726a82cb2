"""Pages in HTML: each a single file that opens offline."""
