"""The Lambda functions, one folder each: parse, call the core, answer."""
