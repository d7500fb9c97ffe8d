"""All of it on a small trained model that ships with the package."""
