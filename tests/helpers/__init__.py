"""What several tests share: networks, reference files, wire formats, a stand-in Hub, the command line."""
