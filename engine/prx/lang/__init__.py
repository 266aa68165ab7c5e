"""The two languages of a provider file: expressions (JMESPath) and templates (YAML with formulas)."""
