"""The data set folder: rows, card and evidence (`dataset.write_dataset`)."""
