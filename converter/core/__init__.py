"""Values that every room shares; knows numpy and densenet, and nothing of files' contents."""
