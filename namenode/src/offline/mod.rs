//! What is done to the data of a namenode that does not run: restoring, accepting a loss, and looking.

mod check;
mod dump;
mod loss;
mod plan;
mod restore;
mod synth;

pub use check::{Gravity, Sound, check};
pub use dump::{dump_image, dump_journal, verify_journal};
pub use loss::accept_loss;
pub use restore::restore;
pub use synth::{Synthesized, Synthetic, synthesize};

#[cfg(test)]
pub(crate) mod tests_support;
