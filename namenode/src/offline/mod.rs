//! What is done to the data of a namenode that does not run: restoring, accepting a loss, and looking.

mod dump;
mod loss;
mod restore;

pub use dump::{dump_image, dump_journal, verify_journal};
pub use loss::accept_loss;
pub use restore::restore;

#[cfg(test)]
pub(crate) mod tests_support;
