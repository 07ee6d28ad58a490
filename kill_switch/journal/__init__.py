"""Keep what survives a crash: the journal and its readers, the write-ahead note, the latch files, the kill reports."""
