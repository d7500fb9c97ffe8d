"""Many files: found, worked on in processes that can be killed, and told in one table."""
