"""From an address to a local file: paths, the web, the Hugging Face Hub, the zoo."""
