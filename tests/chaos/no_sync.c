/* Loaded into a server, nothing is synced any more, and all say that it was: what a test of power cuts must find. */
int fsync(int file) { (void)file; return 0; }
int fdatasync(int file) { (void)file; return 0; }
int syncfs(int file) { (void)file; return 0; }
int sync_file_range(int file, long offset, long bytes, unsigned flags) { (void)file; (void)offset; (void)bytes; (void)flags; return 0; }
