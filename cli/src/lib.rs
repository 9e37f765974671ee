//! The steadfs fs and steadfs admin commands
