"""From a configuration and the name of a model to the provider that is asked, with its keys."""
