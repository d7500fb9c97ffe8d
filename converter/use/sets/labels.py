"""What columns and keys of classes are called."""

CLASS_KEYS = ("label", "cls", "class", "class_name", "target", "category", "labels", "diagnosis")
"""Keys of a sample's JSON that hold its class, the first that is there."""
