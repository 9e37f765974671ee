//! Volumes, replica states, block and checksum files
