"""The two little languages of a spec: queries (JMESPath) and templates (YAML with formulas)."""
