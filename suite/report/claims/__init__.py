"""Claims, and the tests that decide on them."""
