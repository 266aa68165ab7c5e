"""Many calls: rows in, one result for each, within what each account allows; as iterators, or from file to file."""
