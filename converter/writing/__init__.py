"""From a model to a file in any layout."""
