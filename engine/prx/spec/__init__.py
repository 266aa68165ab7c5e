"""From a YAML file to a Spec: strict load, schema check, inheritance, compilation, catalogue."""
