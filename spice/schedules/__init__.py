"""When gradients are read and rows are chosen: at once, by windows, in rounds."""
