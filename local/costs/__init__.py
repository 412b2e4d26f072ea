"""`make cost`: measure what the functions take, and tell what that costs on AWS."""
