"""Images as people keep many of them: folders, lists, tables, WebDataset's tars, Parquet; read block by block."""
